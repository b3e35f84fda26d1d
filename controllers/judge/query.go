package judge

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// storeIDName is the name that a query has for the store's ID.
const storeIDName = "storeID"

// query is PromQL with names of values in its strings. It is read as PromQL's lexer reads it, as far as strings and comments
// go, so that it may be in any dialect.
type query struct {
	// texts are what stands before, between and after the values.
	texts []string
	// values are what stands between them.
	values []placeholder
}

// placeholder is where a value goes.
type placeholder struct {
	name string
	// quote is the quote of the string that it stands in.
	quote byte
	// pattern: the string is a regular expression.
	pattern bool
}

// parseQuery reads a query and checks that it names only what there is.
func parseQuery(source string, names []string) (*query, error) {
	q := &query{}
	var text strings.Builder
	for rest := source; rest != ""; {
		switch c := rest[0]; c {
		case '"', '\'', '`':
			end, err := endOfString(rest)
			if err != nil {
				return nil, err
			}
			pattern := isPattern(source[:len(source)-len(rest)])
			if err := q.literal(&text, rest[:end], pattern, names); err != nil {
				return nil, err
			}
			rest = rest[end:]
		case '#':
			end := strings.IndexByte(rest, '\n')
			if end < 0 {
				end = len(rest)
			}
			text.WriteString(rest[:end])
			rest = rest[end:]
		case '$':
			return nil, errors.New("a $ stands outside of quotes, where no value can be put in safely: put it into a string, such as {instance=\"$instance\"}")
		default:
			text.WriteByte(c)
			rest = rest[1:]
		}
	}
	q.texts = append(q.texts, text.String())
	return q, nil
}

// endOfString is where the string ends that begins the text.
func endOfString(text string) (int, error) {
	quote := text[0]
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == quote:
			return i + 1, nil
		case text[i] == '\\' && quote != '`':
			i++
		}
	}
	return 0, fmt.Errorf("a string that begins with %c has no end", quote)
}

var matchOperator = regexp.MustCompile(`[=!]~\s*$`)

// isPattern tells whether what follows the text is a regular expression.
func isPattern(before string) bool { return matchOperator.MatchString(before) }

var nameInString = regexp.MustCompile(`\$(\$|[A-Za-z_][A-Za-z0-9_]*)`)

// literal takes a string literal apart.
func (q *query) literal(text *strings.Builder, literal string, pattern bool, names []string) error {
	found := nameInString.FindAllStringSubmatchIndex(literal, -1)
	quote := literal[0]
	requote := quote == '`' && len(found) > 0
	part := func(s string) string { return s }
	if requote {
		// Nothing can be quoted inside backquotes.
		quote = '"'
		part = func(s string) string { return inQuotes(s, '"') }
		literal = `"` + literal[1:len(literal)-1] + `"`
	}
	text.WriteByte(quote)
	at := 1
	for _, f := range found {
		name := literal[f[2]:f[3]]
		text.WriteString(part(literal[at:f[0]]))
		at = f[1]
		if name == "$" {
			text.WriteByte('$')
			continue
		}
		if name != storeIDName && !slices.Contains(names, name) {
			return fmt.Errorf("$%s is not in with: add it there, or write $$%s for a $", name, name)
		}
		q.texts = append(q.texts, text.String())
		q.values = append(q.values, placeholder{name: name, quote: quote, pattern: pattern})
		text.Reset()
	}
	text.WriteString(part(literal[at : len(literal)-1]))
	text.WriteByte(quote)
	return nil
}

// fill puts values in the place of names. Whatever a value holds, it stays within its string; in a regular expression it
// matches itself.
func (q *query) fill(values map[string]string) string {
	var b strings.Builder
	for i, p := range q.values {
		b.WriteString(q.texts[i])
		value := values[p.name]
		if p.pattern {
			value = regexp.QuoteMeta(value)
		}
		b.WriteString(inQuotes(value, p.quote))
	}
	b.WriteString(q.texts[len(q.values)])
	return b.String()
}

// inQuotes writes a text as it stands between quotes in PromQL, which knows Go's escapes, and of the quotes only the one that
// the string began with.
func inQuotes(text string, quote byte) string {
	var b strings.Builder
	for len(text) > 0 {
		r, width := utf8.DecodeRuneInString(text)
		switch {
		case r == rune(quote) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == utf8.RuneError && width == 1:
			_, _ = fmt.Fprintf(&b, `\x%02x`, text[0])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[width:]
	}
	return b.String()
}
