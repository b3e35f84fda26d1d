package alerting

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/template/parse"
)

// translator translates the nodes of a template to CEL, where it can.
type translator struct {
	parts []part
	kept  []string
	// shadowed are the variables that the template gives values of its own.
	shadowed []string
}

// term is the value of a piece of template.
type term struct {
	kind  kind
	parts []part
}

// kind is what a term is.
type kind int

const (
	// ofText is text, in parts.
	ofText kind = iota
	// ofValue is the value of the series.
	ofValue
	// ofLabels is the map of its labels.
	ofLabels
)

const valueCEL = "self.value"

// valueText is the value of the series as text, as Go and CEL both print it.
var valueText = part{"<value>", "string(" + valueCEL + ")"}

func labelText(name string) part {
	quoted, _ := quote(name, maxMessage)
	return part{"<" + name + ">", "self.labels[?" + quoted + `].orValue("")`}
}

func (t *translator) node(n parse.Node) {
	switch n := n.(type) {
	case *parse.TextNode:
		t.parts = append(t.parts, part{plain: string(n.Text)})
		return
	case *parse.ActionNode:
		if value, ok := t.pipeline(n.Pipe); ok && value.kind != ofLabels {
			t.parts = append(t.parts, value.text()...)
			return
		}
	}
	t.keep(n)
}

// keep leaves a piece of template as it is.
func (t *translator) keep(n parse.Node) {
	source := n.String()
	for _, variable := range []string{"$labels", "$value"} {
		if strings.Contains(source, variable+" := ") || strings.Contains(source, variable+" = ") {
			t.shadowed = append(t.shadowed, variable)
		}
	}
	t.kept = append(t.kept, source)
	t.parts = append(t.parts, part{plain: source})
}

// text is the term as it is printed.
func (t term) text() []part {
	if t.kind == ofValue {
		return []part{valueText}
	}
	return t.parts
}

// constant is the text of a term that is always the same.
func (t term) constant() (string, bool) {
	joined := text{parts: join(t.parts)}
	return joined.plain(), t.kind == ofText && joined.isPlain()
}

// pipeline is the value of a | b | c. It reports whether that can be said in CEL.
func (t *translator) pipeline(p *parse.PipeNode) (term, bool) {
	if len(p.Decl) > 0 {
		return term{}, false
	}
	var piped []term
	for _, c := range p.Cmds {
		value, ok := t.command(c, piped)
		if !ok {
			return term{}, false
		}
		piped = []term{value}
	}
	return piped[0], true
}

// command is the value of an operand, or of a function with its arguments; what is piped into it is the last one.
func (t *translator) command(c *parse.CommandNode, piped []term) (term, bool) {
	function, isCall := c.Args[0].(*parse.IdentifierNode)
	if !isCall {
		if len(c.Args) > 1 || len(piped) > 0 {
			return term{}, false
		}
		return t.operand(c.Args[0])
	}
	var args []term
	for _, a := range c.Args[1:] {
		value, ok := t.operand(a)
		if !ok {
			return term{}, false
		}
		args = append(args, value)
	}
	return call(function.Ident, append(args, piped...))
}

func (t *translator) operand(n parse.Node) (term, bool) {
	switch n := n.(type) {
	case *parse.StringNode:
		return term{parts: []part{{plain: n.Text}}}, true
	case *parse.PipeNode:
		return t.pipeline(n)
	case *parse.FieldNode:
		return dataField(n.Ident)
	case *parse.VariableNode:
		return t.variable(n.Ident)
	}
	return term{}, false
}

// variable is $value, $labels or one of the labels.
func (t *translator) variable(path []string) (term, bool) {
	switch {
	case slices.Contains(t.shadowed, path[0]):
	case path[0] == "$":
		return dataField(path[1:])
	case path[0] == "$labels":
		return dataField(append([]string{"Labels"}, path[1:]...))
	case path[0] == "$value":
		return dataField(append([]string{"Value"}, path[1:]...))
	}
	return term{}, false
}

// dataField is a field of what Prometheus expands a template with.
func dataField(path []string) (term, bool) {
	switch {
	case len(path) == 1 && path[0] == "Value":
		return term{kind: ofValue}, true
	case len(path) == 1 && path[0] == "Labels":
		return term{kind: ofLabels}, true
	case len(path) == 2 && path[0] == "Labels":
		return term{parts: []part{labelText(path[1])}}, true
	}
	return term{}, false
}

// call is the value of a function.
func call(name string, args []term) (term, bool) {
	format := valueFormats[name]
	switch {
	case format != "" && len(args) == 1 && args[0].kind == ofValue:
		return term{parts: []part{{valueText.plain, strings.ReplaceAll(format, "VALUE", valueCEL)}}}, true
	case name == "printf" && len(args) > 0:
		return printf(args[0], args[1:])
	case name == "index" && len(args) == 2 && args[0].kind == ofLabels:
		label, ok := args[1].constant()
		return term{parts: []part{labelText(label)}}, ok && label != ""
	}
	return term{}, false
}

// valueFormats are Prometheus' functions that make text of a value, with VALUE for it. They print two decimals where
// Prometheus prints four digits, because CEL has no format for that.
var valueFormats = map[string]string{
	"humanize":           steps(step{1e12, "T"}, step{1e9, "G"}, step{1e6, "M"}, step{1e3, "k"}),
	"humanize1024":       steps(step{1 << 40, "Ti"}, step{1 << 30, "Gi"}, step{1 << 20, "Mi"}, step{1 << 10, "ki"}),
	"humanizePercentage": `"%.2f%%".format([VALUE * 100.0])`,
	"humanizeDuration": `(VALUE >= 86400.0 ? "%dd %dh %dm %ds".format([int(VALUE) / 86400, int(VALUE) / 3600 % 24, int(VALUE) / 60 % 60, int(VALUE) % 60])` +
		` : VALUE >= 3600.0 ? "%dh %dm %ds".format([int(VALUE) / 3600, int(VALUE) / 60 % 60, int(VALUE) % 60])` +
		` : VALUE >= 60.0 ? "%dm %ds".format([int(VALUE) / 60, int(VALUE) % 60]) : "%.2fs".format([VALUE]))`,
	"humanizeTimestamp": "string(timestamp(int(VALUE)))",
}

// step is a number that larger values are divided by, and the prefix that says so.
type step struct {
	size   int64
	prefix string
}

// steps is a CEL expression that divides by the first of the steps that the value reaches.
func steps(steps ...step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, `VALUE >= %d.0 ? "%%.2f%s".format([VALUE / %d.0]) : `, s.size, s.prefix, s.size)
	}
	return "(" + b.String() + `"%.2f".format([VALUE]))`
}

// verb is a verb of printf, or text without any.
var verb = regexp.MustCompile(`%%|%(?:\.([0-9]{1,2}))?([a-zA-Z])|[^%]+|%`)

// printf is what Go's printf makes of its arguments, for the verbs that CEL has too.
func printf(format term, args []term) (term, bool) {
	pattern, ok := format.constant()
	if !ok {
		return term{}, false
	}
	var printed []part
	for _, m := range verb.FindAllStringSubmatch(pattern, -1) {
		switch {
		case m[0] == "%%":
			printed = append(printed, part{plain: "%"})
		case m[0] == "%":
			return term{}, false
		case m[2] == "":
			printed = append(printed, part{plain: m[0]})
		case len(args) == 0:
			return term{}, false
		default:
			parts, ok := printVerb(m[2], m[1], args[0])
			if !ok {
				return term{}, false
			}
			printed = append(printed, parts...)
			args = args[1:]
		}
	}
	return term{parts: printed}, len(args) == 0
}

func printVerb(verb, precision string, arg term) ([]part, bool) {
	switch {
	case arg.kind == ofText && precision == "" && (verb == "s" || verb == "v"):
		return arg.parts, true
	case arg.kind == ofValue && precision == "" && (verb == "g" || verb == "v"):
		return arg.text(), true
	case arg.kind == ofValue && verb == "f":
		if precision == "" {
			precision = "6"
		}
		return []part{{valueText.plain, fmt.Sprintf(`"%%.%sf".format([%s])`, precision, valueCEL)}}, true
	}
	return nil, false
}
