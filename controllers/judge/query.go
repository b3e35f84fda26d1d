package judge

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
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
	// code is what was read, without comments and what strings hold.
	var text, code strings.Builder
	for rest := source; rest != ""; {
		switch c := rest[0]; c {
		case '"', '\'', '`':
			end, err := endOfString(rest)
			if err != nil {
				return nil, err
			}
			if err := q.literal(&text, rest[:end], isPattern(code.String()), names); err != nil {
				return nil, err
			}
			code.WriteByte(c)
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
			code.WriteByte(c)
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

// isPattern tells whether what follows the code is a regular expression.
func isPattern(code string) bool {
	code = strings.TrimRight(code, " \t\r\n")
	return strings.HasSuffix(code, "=~") || strings.HasSuffix(code, "!~")
}

var nameInString = regexp.MustCompile(`\$(\$|[A-Za-z_][A-Za-z0-9_]*)`)

// literal takes a string literal apart.
func (q *query) literal(text *strings.Builder, literal string, pattern bool, names []string) error {
	found := nameInString.FindAllStringSubmatchIndex(literal, -1)
	if len(found) == 0 {
		text.WriteString(literal)
		return nil
	}
	quote := literal[0]
	// Nothing can be quoted inside backquotes.
	requoted := quote
	if quote == '`' {
		requoted = '"'
	}
	// probed is what the string means, with something in the place of each value.
	var probed strings.Builder
	part := func(written string) error {
		meant, err := meaning(written, quote)
		probed.WriteString(meant)
		if quote == '`' {
			written = inQuotes(written, requoted)
		}
		text.WriteString(written)
		return err
	}
	text.WriteByte(requoted)
	at, probes := 1, []string(nil)
	for _, f := range found {
		name := literal[f[2]:f[3]]
		if err := part(literal[at:f[0]]); err != nil {
			return fmt.Errorf("what stands before $%s in %s is not whole: write \\\\ for a \\, and $$ for a $", name, literal)
		}
		at = f[1]
		if name == "$" {
			text.WriteByte('$')
			probed.WriteByte('$')
			continue
		}
		if name != storeIDName && !slices.Contains(names, name) {
			return fmt.Errorf("$%s is not in with: add it there, or write $$%s for a $", name, name)
		}
		if pattern && countBegins.MatchString(probed.String()) {
			return notItself(literal)
		}
		q.texts = append(q.texts, text.String())
		q.values = append(q.values, placeholder{name: name, quote: requoted, pattern: pattern})
		text.Reset()
		probes = append(probes, probe(len(probes)))
		probed.WriteString(regexp.QuoteMeta(probes[len(probes)-1]))
	}
	if err := part(literal[at : len(literal)-1]); err != nil {
		return fmt.Errorf("the end of %s is not whole: write \\\\ for a \\", literal)
	}
	text.WriteByte(requoted)
	if pattern && !matchThemselves(probed.String(), probes) {
		return notItself(literal)
	}
	return nil
}

// meaning is what part of a string literal means. An escape that it does not end would take part of a value with it.
func meaning(written string, quote byte) (string, error) {
	if quote == '`' {
		return written, nil
	}
	var b strings.Builder
	for written != "" {
		r, multibyte, rest, err := strconv.UnquoteChar(written, quote)
		if err != nil {
			return "", err
		}
		if r < utf8.RuneSelf || multibyte {
			b.WriteRune(r)
		} else {
			b.WriteByte(byte(r))
		}
		written = rest
	}
	return b.String(), nil
}

// countBegins: in a regular expression, what follows says how often something comes.
var countBegins = regexp.MustCompile(`\{[0-9,]*$`)

// probe is a text that stands in no query.
func probe(i int) string {
	first := rune(0xF0000 + 2*i)
	return string([]rune{first, '.', first + 1})
}

// matchThemselves tells whether probes match themselves where they stand in a regular expression, as a whole.
func matchThemselves(pattern string, probes []string) bool {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return false
	}
	var literals strings.Builder
	collectLiterals(&literals, parsed)
	return !slices.ContainsFunc(probes, func(probe string) bool { return !strings.Contains(literals.String(), probe) })
}

func collectLiterals(literals *strings.Builder, pattern *syntax.Regexp) {
	if pattern.Op == syntax.OpLiteral {
		literals.WriteString(string(pattern.Rune))
	}
	for _, sub := range pattern.Sub {
		literals.WriteByte(0)
		collectLiterals(literals, sub)
	}
}

func notItself(literal string) error {
	return fmt.Errorf("in the regular expression %s a value would not match itself: put no []{}\\Q around its $name, no \\ before it, and parentheses around it before a *, + or ?", literal)
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
		case r == utf8.RuneError && width > 1:
			// PromQL takes it for a byte that is none of UTF-8.
			b.WriteString(`\ufffd`)
		case r == utf8.RuneError:
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
