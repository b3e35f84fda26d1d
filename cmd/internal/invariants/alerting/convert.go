package alerting

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"invariant.dev/operator/api/v1alpha1"
)

// What the API server takes of an Invariant.
const (
	maxQuery       = 16384
	maxDescription = 1024
	maxMessage     = 4096
	maxRunbookURL  = 2048
	maxLabels      = 16
	maxDuration    = 720 * time.Hour
	minInterval    = time.Second
	maxInterval    = 24 * time.Hour
)

// maxShown is how much a note shows of a template.
const maxShown = 80

// The annotations that are carried over.
const (
	summaryAnnotation     = "summary"
	descriptionAnnotation = "description"
	runbookAnnotation     = "runbook_url"
)

// usualSeverities are what the values of a severity label mean, in lower case: those of the Prometheus community's rules, and
// those of TiKV's and PD's.
var usualSeverities = map[string]v1alpha1.Severity{
	"critical": v1alpha1.Critical, "emergency": v1alpha1.Critical, "page": v1alpha1.Critical, "error": v1alpha1.Critical,
	"warning": v1alpha1.Warning, "warn": v1alpha1.Warning, "ticket": v1alpha1.Warning,
	"info": v1alpha1.Info, "none": v1alpha1.Info, "notice": v1alpha1.Info,
}

// promQL takes all that any Prometheus may take: which of it the user's takes, nobody knows here.
var promQL = parser.NewParser(parser.Options{
	EnableExperimentalFunctions:  true,
	ExperimentalDurationExpr:     true,
	EnableExtendedRangeSelectors: true,
	EnableBinopFillModifiers:     true,
})

// converter makes Invariants of the rules of one file.
type converter struct {
	*Importer
	invariants []Imported
	notes      []Note
	// subject is what is being converted.
	subject string
}

func (c *converter) note(line int, format string, args ...any) {
	c.notes = append(c.notes, Note{Line: line, Subject: c.subject, Text: fmt.Sprintf(format, args...)})
}

func (c *converter) refuse(line int, format string, args ...any) {
	c.notes = append(c.notes, Note{Line: line, Subject: c.subject, Text: "not imported: " + fmt.Sprintf(format, args...), Refused: true})
}

func (c *converter) group(g group) {
	c.subject = g.subject()
	interval := c.interval(g.interval)
	for _, r := range g.rules {
		c.subject = r.alert
		c.rule(g, r, interval)
	}
}

// interval is how often the group is checked; nil for the default.
func (c *converter) interval(f field) *v1alpha1.Duration {
	d, err := durationOf(f)
	switch {
	case err != nil:
		c.note(f.line, "interval is left out: %v; set spec.interval of its Invariants, or they are checked at the monitor's --interval", err)
		return nil
	case d == 0:
		return nil
	case d < minInterval || d > maxInterval:
		near := min(max(d, minInterval), maxInterval)
		c.note(f.line, "interval is %s: spec.interval is %s, the nearest there is", f.value, lengthOf(near))
		d = near
	}
	return lengthOf(d)
}

// rule makes an Invariant of a rule, if it can.
func (c *converter) rule(g group, r rule, interval *v1alpha1.Duration) {
	query := strings.TrimSpace(r.expr.value)
	if n := utf8.RuneCountInString(query); n > maxQuery {
		c.refuse(r.expr.line, "expr has %d characters, and a query at most %d: have Prometheus record a part of it", n, maxQuery)
		return
	}
	gracePeriod, err := c.lasting(r.hold, "for", "gracePeriod")
	if err != nil {
		c.refuse(r.hold.line, "%v", err)
		return
	}
	resolveAfter, err := c.lasting(r.keepFiring, "keep_firing_for", "resolveAfter")
	if err != nil {
		c.refuse(r.keepFiring.line, "%v", err)
		return
	}
	c.checkQuery(r.expr.line, query)
	labels := merge(g.labels, r.labels)
	spec := v1alpha1.InvariantSpec{
		Severity:     c.severity(r.line, labels),
		Labels:       c.labels(labels),
		System:       c.options.System,
		Interval:     interval,
		GracePeriod:  gracePeriod,
		ResolveAfter: resolveAfter,
		Source:       v1alpha1.Source{Prometheus: &v1alpha1.PrometheusSource{URL: c.options.PrometheusURL, Query: query}},
	}
	c.annotations(r.annotations, &spec)
	c.invariants = append(c.invariants, Imported{
		Alert: r.alert, Line: r.line, Name: c.name(r), Namespace: c.options.Namespace, Spec: spec,
	})
}

// name is a name for the rule's Invariant that none before it has.
func (c *converter) name(r rule) string {
	wanted := dnsName(r.alert)
	if wanted == "" {
		wanted = "alert"
		c.note(r.line, "its name has nothing in it that the name of an object may have")
	}
	name := wanted
	// Beginning at 2 for each of a thousand alerts of one name would take a million steps.
	for c.taken[name] {
		c.last[wanted] = max(c.last[wanted], 1) + 1
		suffix := fmt.Sprintf("-%d", c.last[wanted])
		name = strings.TrimRight(wanted[:min(len(wanted), maxName-len(suffix))], "-") + suffix
	}
	c.taken[name] = true
	if name != wanted {
		c.note(r.line, "the Invariant is named %s: there is a %s before it", name, wanted)
	}
	return name
}

// checkQuery notes a query that Prometheus would not take. Other servers may.
func (c *converter) checkQuery(line int, query string) {
	parsed, err := promQL.ParseExpr(query)
	switch {
	case err != nil:
		c.note(line, "expr is not PromQL as it is known here (%v): it is carried over as it is, and whether the server takes it, operator invariants check tells", err)
	case parsed.Type() != parser.ValueTypeVector && parsed.Type() != parser.ValueTypeScalar:
		c.note(line, "expr gives a %s, which is nothing to alert on: it is carried over as it is", parser.DocumentedType(parsed.Type()))
	case isConstant(parsed):
		c.note(line, "expr fires at all times, and so would its ticket stay open: where it is there to show that alerting works, leave it out; "+
			"that the monitor works, its metrics and operator tickets list tell")
	}
}

// isConstant tells whether a query is vector of a number, as in the rule Watchdog that many have.
func isConstant(query parser.Expr) bool {
	call, ok := query.(*parser.Call)
	if !ok || call.Func.Name != "vector" {
		return false
	}
	_, number := call.Args[0].(*parser.NumberLiteral)
	return number
}

// lasting is the length of time that a violation must last, or be over, to count; nil for none.
func (c *converter) lasting(f field, from, to string) (*v1alpha1.Duration, error) {
	d, err := durationOf(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	if d == 0 {
		return nil, nil
	}
	if d > maxDuration {
		c.note(f.line, "%s is %s: spec.%s is %dh, the longest there is", from, f.value, to, maxDuration/time.Hour)
		d = maxDuration
	}
	return lengthOf(d), nil
}

func lengthOf(d time.Duration) *v1alpha1.Duration {
	return &v1alpha1.Duration{Duration: metav1.Duration{Duration: d}}
}

// durationOf reads a duration as Prometheus writes it, such as 5m or 1d. What is not there is 0.
func durationOf(f field) (time.Duration, error) {
	if f.value == "" {
		return 0, nil
	}
	d, err := model.ParseDuration(f.value)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 5m or 1d", f.value)
	}
	return time.Duration(d), nil
}

// merge puts the labels of a rule over those of its group, in the order of their names. A label without a value is none.
func merge(group, rule []pair) []pair {
	all := map[string]pair{}
	for _, p := range slices.Concat(group, rule) {
		all[p.name] = p
	}
	maps.DeleteFunc(all, func(_ string, p pair) bool { return p.value == "" })
	return slices.SortedFunc(maps.Values(all), func(a, b pair) int { return strings.Compare(a.name, b.name) })
}

// severity is what the severity label says. line is the rule's.
func (c *converter) severity(line int, labels []pair) v1alpha1.Severity {
	for _, l := range labels {
		if l.name != c.options.SeverityLabel {
			continue
		}
		value := strings.ToLower(strings.TrimSpace(l.value))
		if severity := cmp.Or(c.options.Severities[value], usualSeverities[value]); severity != "" {
			return severity
		}
		if isTemplate(l.value) {
			c.note(l.line, "severity is Warning: the label %s has a template; set spec.severity", l.name)
			return v1alpha1.Warning
		}
		c.note(l.line, "severity is Warning: what %s %s means is not known; say so with --map-severity '%s=Critical'", l.name, l.value, l.value)
		return v1alpha1.Warning
	}
	c.note(line, "severity is Warning: there is no label %s; name the one that has it with --severity-label, or set spec.severity", c.options.SeverityLabel)
	return v1alpha1.Warning
}

// labels are those that a ticket can have.
func (c *converter) labels(labels []pair) map[string]v1alpha1.LabelValue {
	var kept map[string]v1alpha1.LabelValue
	for _, l := range labels {
		switch {
		case l.name == c.options.SeverityLabel:
		case isTemplate(l.value):
			c.note(l.line, "label %s is left out: it has a template, and a ticket's labels are fixed", l.name)
		case len(validation.IsQualifiedName(l.name)) > 0:
			c.note(l.line, "label %s is left out: the names of a ticket's labels have at most 63 characters, and begin and end with a letter or digit", l.name)
		case len(validation.IsValidLabelValue(l.value)) > 0:
			c.note(l.line, "label %s is left out: the values of a ticket's labels have at most 63 letters, digits, '-', '_' and '.', and begin and end with a letter or digit", l.name)
		case len(kept) == maxLabels:
			c.note(l.line, "label %s is left out: there are %d already", l.name, maxLabels)
		case kept == nil:
			kept = map[string]v1alpha1.LabelValue{l.name: v1alpha1.LabelValue(l.value)}
		default:
			kept[l.name] = v1alpha1.LabelValue(l.value)
		}
	}
	return kept
}

// annotations puts the annotations into the spec.
func (c *converter) annotations(annotations []pair, spec *v1alpha1.InvariantSpec) {
	texts := map[string]text{}
	for _, a := range annotations {
		switch a.name {
		case summaryAnnotation, descriptionAnnotation, runbookAnnotation:
			t := parseText(a.value)
			t.line = a.line
			texts[a.name] = t
		default:
			c.note(a.line, "annotation %s is left out: what a ticket should say of it goes into spec.message", a.name)
		}
	}
	spec.RunbookURL = c.runbook(texts[runbookAnnotation])
	c.say(texts[summaryAnnotation], texts[descriptionAnnotation], spec)
}

func (c *converter) runbook(t text) string {
	switch plain := t.plain(); {
	case t.err != nil || len(t.kept) > 0 || !t.isPlain():
		c.note(t.line, "annotation %s is left out: it has a template, and spec.runbookURL is fixed", runbookAnnotation)
	case utf8.RuneCountInString(plain) > maxRunbookURL:
		c.note(t.line, "annotation %s is left out: it has more than %d characters", runbookAnnotation, maxRunbookURL)
	default:
		return plain
	}
	return ""
}

// say puts the summary, else the description, into spec.description, and the description, else the summary, into
// spec.message where spec.description does not say the same.
func (c *converter) say(summary, description text, spec *v1alpha1.InvariantSpec) {
	title, titled := summary, summaryAnnotation
	if title.empty() {
		title, titled = description, descriptionAnnotation
	}
	message, told := description, descriptionAnnotation
	if message.empty() {
		message, told = summary, summaryAnnotation
	}
	c.checkText(told, message)
	if titled != told {
		c.checkText(titled, title)
		if !title.isPlain() {
			c.note(title.line, "annotation %s has a template, which spec.description cannot have: it says %s", titled, title.plain())
		}
	}
	plain, whole := cut(title.plain(), maxDescription)
	if !whole {
		c.note(title.line, "annotation %s is cut: spec.description has at most %d characters", titled, maxDescription)
	}
	spec.Description = plain
	if message.isPlain() && message.plain() == plain {
		return
	}
	if spec.Message, whole = message.expression(maxMessage); !whole {
		c.note(message.line, "annotation %s is cut: spec.message has at most %d bytes", told, maxMessage)
	}
}

// checkText notes templates that CEL cannot do.
func (c *converter) checkText(name string, t text) {
	if t.err != nil {
		c.note(t.line, "annotation %s is shown as it is: its template does not parse (%v)", name, t.err)
	}
	for _, k := range t.kept {
		if short, whole := cut(k, maxShown); !whole {
			k = short + "…"
		}
		c.note(t.line, "annotation %s: %s is shown as it is, because it is not translated to CEL; write spec.message anew", name, k)
	}
}

// cut is at most n characters of s, and whether that is all of it.
func cut(s string, n int) (string, bool) {
	if utf8.RuneCountInString(s) <= n {
		return s, true
	}
	return string([]rune(s)[:n]), false
}
