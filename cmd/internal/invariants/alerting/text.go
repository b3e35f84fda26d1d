package alerting

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"
)

// text is the text of an annotation, with its template translated to CEL.
type text struct {
	line  int
	parts []part
	// kept are the pieces of template that were not translated. They stand in parts as they are.
	kept []string
	// err is why the template does not parse. Then the whole text stands in parts as it is.
	err error
}

// part is a piece of a text.
type part struct {
	// plain is the piece itself or, where it is an expression, what shows that something stands there, such as <instance>.
	plain string
	// cel is an expression that gives a string; empty for what is literally there.
	cel string
}

// prelude is what Prometheus puts before each template, and preludeNodes how many nodes that is.
const (
	prelude      = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}"
	preludeNodes = 4
	mainTemplate = "annotation"
)

// isTemplate tells a template from text.
func isTemplate(s string) bool { return strings.Contains(s, "{{") }

// parseText reads the text of an annotation. White space around it is dropped.
func parseText(s string) text {
	s = strings.TrimSpace(s)
	if !isTemplate(s) {
		return literal(s)
	}
	trees := map[string]*parse.Tree{}
	// Which functions there are is for Prometheus to say.
	tree := parse.New(mainTemplate)
	tree.Mode = parse.SkipFuncCheck
	tree, err := tree.Parse(prelude+s, "", "", trees)
	if err != nil {
		t := literal(s)
		t.err = err
		return t
	}
	if len(trees) > 1 || trees[mainTemplate] != tree {
		t := literal(s)
		t.kept = []string{"the whole of it, which defines templates,"}
		return t
	}
	t := translator{}
	for _, n := range tree.Root.Nodes[preludeNodes:] {
		t.node(n)
	}
	return text{parts: join(t.parts), kept: t.kept}
}

func literal(s string) text { return text{parts: join([]part{{plain: s}})} }

// join makes one of literal parts that follow each other, and drops empty ones.
func join(parts []part) []part {
	var joined []part
	for _, p := range parts {
		last := len(joined) - 1
		switch {
		case p.cel == "" && p.plain == "":
		case p.cel == "" && last >= 0 && joined[last].cel == "":
			joined[last].plain += p.plain
		default:
			joined = append(joined, p)
		}
	}
	return joined
}

func (t text) empty() bool { return len(t.parts) == 0 }

// isPlain tells whether there are no expressions in it.
func (t text) isPlain() bool {
	return !slices.ContainsFunc(t.parts, func(p part) bool { return p.cel != "" })
}

// plain is the text with placeholders for its expressions.
func (t text) plain() string {
	var b strings.Builder
	for _, p := range t.parts {
		b.WriteString(p.plain)
	}
	// A string in a template may hold any bytes.
	return strings.ToValidUTF8(b.String(), "�")
}

// expression is the text as a CEL expression of at most limit bytes, and whether that is all of it.
func (t text) expression(limit int) (cel string, whole bool) {
	for i, p := range t.parts {
		operator := " + "
		if i == 0 {
			operator = ""
		}
		room := limit - len(cel) - len(operator)
		operand, rest := p.cel, ""
		if p.cel == "" {
			operand, rest = quote(p.plain, room)
		}
		if operand == "" || len(operand) > room {
			return cel, false
		}
		cel += operator + operand
		if rest != "" {
			return cel, false
		}
	}
	return cel, true
}

// quote is as much of s as a CEL string literal of at most limit bytes holds, and the rest. It is empty where there is no room
// for anything.
func quote(s string, limit int) (quoted, rest string) {
	s = strings.ToValidUTF8(s, "�")
	b := strings.Builder{}
	b.WriteByte('"')
	for i, r := range s {
		escaped := escape(r)
		if b.Len()+len(escaped)+1 > limit {
			rest = s[i:]
			break
		}
		b.WriteString(escaped)
	}
	b.WriteByte('"')
	if b.Len() <= len(`""`) {
		return "", rest
	}
	return b.String(), rest
}

// escape is a character as it stands in a CEL string literal.
func escape(r rune) string {
	switch {
	case r == '"' || r == '\\':
		return `\` + string(r)
	case r == '\n':
		return `\n`
	case r == '\t':
		return `\t`
	case strconv.IsPrint(r):
		return string(r)
	case r > 0xffff:
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}
