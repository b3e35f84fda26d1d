package alerting

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFields is how many fields of a file are looked at: far more than ten thousand rules have. An alias costs a file a
// few bytes, and may stand for all of it.
const maxFields = 200_000

// The API of the Prometheus operator.
const (
	prometheusRuleVersion = "monitoring.coreos.com/v1"
	prometheusRuleKind    = "PrometheusRule"
)

// group is a group of rules as it is written.
type group struct {
	line     int
	name     string
	interval field
	labels   []pair
	rules    []rule
}

// subject is what notes call the group.
func (g group) subject() string { return strings.TrimSpace("group " + g.name) }

// rule is an alerting rule as it is written.
type rule struct {
	line                   int
	alert                  string
	expr, hold, keepFiring field
	labels, annotations    []pair
}

// field is the value of a field, and the line that the field is on: 0 if it is not there.
type field struct {
	line  int
	value string
}

// pair is a label or an annotation.
type pair struct {
	line        int
	name, value string
}

// reader reads YAML as Prometheus does, but goes on after what it cannot use.
type reader struct {
	groups []group
	notes  []Note
	// left is how many more fields are looked at.
	left int
	// placed: the Invariants get a namespace, whatever that of the rules is.
	placed bool
}

// fault is why something in a file cannot be used.
type fault struct {
	line int
	text string
}

func (f *fault) Error() string { return fmt.Sprintf("line %d: %s", f.line, f.text) }

var errTooMuch = fmt.Errorf("there are more than %d fields in it, aliases counted as what they stand for: split it", maxFields)

// note adds a note.
func (r *reader) note(line int, subject, format string, args ...any) {
	r.notes = append(r.notes, Note{Line: line, Subject: subject, Text: fmt.Sprintf(format, args...)})
}

// refuse notes that nothing is made of subject, unless err ends it all.
func (r *reader) refuse(subject string, err error) error {
	var f *fault
	if !errors.As(err, &f) {
		return err
	}
	r.notes = append(r.notes, Note{Line: f.line, Subject: subject, Text: "not imported: " + f.text, Refused: true})
	return nil
}

// read reads all documents of a file. The error is one of the file as a whole.
func (r *reader) read(content []byte) error {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := r.document(&document); err != nil {
			return err
		}
	}
	if len(r.groups) == 0 && (Result{Notes: r.notes}).Refused() == 0 {
		return errors.New("there is no alerting rule in it: a rule file has groups with rules, a PrometheusRule has them in its spec")
	}
	return nil
}

// document reads one document: rules, a PrometheusRule or a List.
func (r *reader) document(document *yaml.Node) error {
	for _, root := range document.Content {
		if isNull(root) {
			continue
		}
		if err := r.refuse("document", r.root(root)); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) root(n *yaml.Node) error {
	o, err := r.object(n)
	if err != nil || !o.isKubernetes() {
		if err == nil {
			err = r.groupsOf(o.fields, "rule file")
		}
		return err
	}
	items, isList := find(o.fields, "items")
	if !isList || !strings.HasSuffix(o.kind, "List") {
		return r.prometheusRule(o)
	}
	nodes, err := r.items(items)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		item, err := r.object(node)
		if err == nil {
			err = r.prometheusRule(item)
		}
		if err := r.refuse(o.kind, err); err != nil {
			return err
		}
	}
	return nil
}

// object is a document, or an item of a List.
type object struct {
	line             int
	apiVersion, kind string
	fields           []entry
}

// isKubernetes tells an object of Kubernetes from a rule file.
func (o object) isKubernetes() bool { return o.apiVersion != "" || o.kind != "" }

func (r *reader) object(n *yaml.Node) (object, error) {
	o := object{line: n.Line}
	var err error
	if o.fields, err = r.fields(n, "a document"); err != nil {
		return o, err
	}
	if e, ok := find(o.fields, "apiVersion"); ok {
		o.apiVersion, err = e.text()
	}
	if e, ok := find(o.fields, "kind"); ok && err == nil {
		o.kind, err = e.text()
	}
	return o, err
}

// prometheusRule reads a PrometheusRule. Other objects are skipped.
func (r *reader) prometheusRule(o object) error {
	name, namespace, err := r.metadata(o)
	if err != nil {
		return err
	}
	if o.apiVersion != prometheusRuleVersion || o.kind != prometheusRuleKind {
		r.note(o.line, strings.TrimSpace(o.kind+" "+name), "skipped: it is not a %s of %s", prometheusRuleKind, prometheusRuleVersion)
		return nil
	}
	subject := strings.TrimSpace(prometheusRuleKind + " " + name)
	if namespace != "" && !r.placed {
		r.note(o.line, subject, "its namespace %s is not carried over: say where the Invariants go with --namespace, here or to kubectl apply", namespace)
	}
	spec, ok := find(o.fields, "spec")
	if !ok {
		return nil
	}
	fields, err := r.fields(spec.value, "spec")
	if err != nil {
		return err
	}
	return r.groupsOf(fields, subject)
}

func (r *reader) metadata(o object) (name, namespace string, err error) {
	metadata, ok := find(o.fields, "metadata")
	if !ok {
		return "", "", nil
	}
	fields, err := r.fields(metadata.value, "metadata")
	if err != nil {
		return "", "", err
	}
	if e, ok := find(fields, "name"); ok {
		name, err = e.text()
	}
	if e, ok := find(fields, "namespace"); ok && err == nil {
		namespace, err = e.text()
	}
	return name, namespace, err
}

// groupsOf reads the groups of a rule file or of a spec.
func (r *reader) groupsOf(fields []entry, subject string) error {
	for _, e := range fields {
		if e.key != "groups" {
			r.unknown(e, subject)
			continue
		}
		nodes, err := r.items(e)
		if err != nil {
			return err
		}
		for _, node := range nodes {
			if err := r.group(node); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reader) unknown(e entry, subject string) {
	r.note(e.line, subject, "field %s is left out: it is unknown here", e.key)
}

// group reads a group of rules. The error is one that ends it all.
func (r *reader) group(n *yaml.Node) error {
	g := group{line: n.Line}
	fields, err := r.fields(n, "a group")
	if err != nil {
		return r.refuse("group", err)
	}
	if e, ok := find(fields, "name"); ok {
		if g.name, err = e.text(); err != nil {
			return r.refuse("group", err)
		}
	}
	subject := g.subject()
	for _, e := range fields {
		if err := r.refuse(subject, r.groupField(&g, e, subject)); err != nil {
			return err
		}
	}
	if len(g.rules) > 0 {
		r.groups = append(r.groups, g)
	}
	return nil
}

func (r *reader) groupField(g *group, e entry, subject string) (err error) {
	switch e.key {
	case "name":
	case "interval":
		g.interval, err = e.field()
	case "labels":
		g.labels, err = r.pairs(e)
	case "rules":
		err = r.rulesOf(g, e)
	case "limit":
		if limit, _ := e.text(); limit != "0" && limit != "" {
			r.note(e.line, subject, "limit is left out: however many series a query returns, all of them are violations")
		}
	case "query_offset":
		r.note(e.line, subject, "query_offset is left out: queries are evaluated at the moment of the check; where data comes late, write offset into them")
	case "partial_response_strategy":
		r.note(e.line, subject, "partial_response_strategy is left out: where the answer comes with a warning that it is partial, the verdict is Unknown")
	default:
		r.unknown(e, subject)
	}
	return err
}

func (r *reader) rulesOf(g *group, e entry) error {
	nodes, err := r.items(e)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		if err := r.rule(g, node); err != nil {
			return err
		}
	}
	return nil
}

// rule reads a rule into its group, if it is one that alerts. The error is one that ends it all.
func (r *reader) rule(g *group, n *yaml.Node) error {
	fields, err := r.fields(n, "a rule")
	if err != nil {
		return r.refuse(g.subject(), err)
	}
	alert, err := textOf(fields, "alert")
	if err != nil {
		return r.refuse(g.subject(), err)
	}
	record, err := textOf(fields, "record")
	switch {
	case err != nil:
		return r.refuse("alert "+alert.value, err)
	case alert.value == "" && record.value != "":
		r.note(record.line, record.value, "not imported: a recording rule stays with Prometheus, and queries go on using what it records")
		return nil
	case alert.value == "":
		return r.refuse(g.subject(), &fault{n.Line, "a rule has neither alert nor record: give it a name with alert"})
	case record.value != "":
		return r.refuse(alert.value, &fault{record.line, "it has both alert and record: make two rules of it"})
	}
	parsed := rule{line: alert.line, alert: alert.value}
	for _, e := range fields {
		if err := r.ruleField(&parsed, e); err != nil {
			return r.refuse(parsed.alert, err)
		}
	}
	if strings.TrimSpace(parsed.expr.value) == "" {
		return r.refuse(parsed.alert, &fault{parsed.line, "it has no expr: write the query"})
	}
	g.rules = append(g.rules, parsed)
	return nil
}

func (r *reader) ruleField(parsed *rule, e entry) (err error) {
	switch e.key {
	case "alert", "record":
	case "expr":
		parsed.expr, err = e.field()
	case "for":
		parsed.hold, err = e.field()
	case "keep_firing_for":
		parsed.keepFiring, err = e.field()
	case "labels":
		parsed.labels, err = r.pairs(e)
	case "annotations":
		parsed.annotations, err = r.pairs(e)
	default:
		r.unknown(e, parsed.alert)
	}
	return err
}

// entry is a key of a mapping and its value. Aliases are resolved.
type entry struct {
	line  int
	key   string
	value *yaml.Node
}

func find(fields []entry, key string) (entry, bool) {
	for _, e := range fields {
		if e.key == key {
			return e, true
		}
	}
	return entry{}, false
}

// textOf is the field of that name; the zero field if there is none.
func textOf(fields []entry, key string) (field, error) {
	e, ok := find(fields, key)
	if !ok {
		return field{}, nil
	}
	return e.field()
}

func (e entry) field() (field, error) {
	text, err := e.text()
	return field{e.line, text}, err
}

// text is a value that is one word, number or text. What is left empty is the empty text.
func (e entry) text() (string, error) {
	switch {
	case isNull(e.value):
		return "", nil
	case e.value.Kind != yaml.ScalarNode:
		return "", &fault{e.line, e.key + " must be text"}
	}
	return e.value.Value, nil
}

// pairs are labels or annotations.
func (r *reader) pairs(e entry) ([]pair, error) {
	fields, err := r.fields(e.value, e.key)
	if err != nil {
		return nil, err
	}
	pairs := make([]pair, 0, len(fields))
	for _, f := range fields {
		value, err := f.text()
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, pair{f.line, f.key, value})
	}
	return pairs, nil
}

// items are the elements of a list. What is left empty is the empty list.
func (r *reader) items(e entry) ([]*yaml.Node, error) {
	n := e.value
	switch {
	case isNull(n):
		return nil, nil
	case n.Kind != yaml.SequenceNode:
		return nil, &fault{e.line, e.key + " must be a list"}
	}
	if err := r.spend(len(n.Content)); err != nil {
		return nil, err
	}
	return n.Content, nil
}

// fields are the entries of a mapping, with those that it merges. What is left empty is the empty mapping.
func (r *reader) fields(n *yaml.Node, what string) ([]entry, error) {
	c := collector{reader: r, what: what, merged: map[*yaml.Node]bool{}, seen: map[string]bool{}}
	err := c.add(resolve(n), n.Line)
	return c.entries, err
}

// spend counts what is looked at.
func (r *reader) spend(n int) error {
	if r.left -= n; r.left < 0 {
		return errTooMuch
	}
	return nil
}

// collector collects the entries of a mapping.
type collector struct {
	*reader
	what    string
	entries []entry
	seen    map[string]bool
	// merged are the mappings that were looked at: one may merge itself.
	merged map[*yaml.Node]bool
}

func (c *collector) add(n *yaml.Node, line int) error {
	switch {
	case isNull(n) || c.merged[n]:
		return nil
	case n.Kind != yaml.MappingNode:
		return &fault{line, c.what + " must be a mapping"}
	}
	if err := c.spend(len(n.Content) / 2); err != nil {
		return err
	}
	c.merged[n] = true
	own := map[string]bool{}
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), resolve(n.Content[i+1])
		switch {
		case key.Kind != yaml.ScalarNode:
			return &fault{n.Content[i].Line, "a key of " + c.what + " must be text"}
		case key.Tag == "!!merge":
			merges = append(merges, value)
			continue
		case own[key.Value]:
			return &fault{n.Content[i].Line, key.Value + " is there twice"}
		}
		own[key.Value] = true
		if !c.seen[key.Value] {
			c.seen[key.Value] = true
			c.entries = append(c.entries, entry{n.Content[i].Line, key.Value, value})
		}
	}
	for _, m := range merges {
		if err := c.merge(m); err != nil {
			return err
		}
	}
	return nil
}

// merge adds what << names: a mapping, or a list of them.
func (c *collector) merge(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return c.add(n, n.Line)
	}
	if err := c.spend(len(n.Content)); err != nil {
		return err
	}
	for _, m := range n.Content {
		if err := c.add(resolve(m), m.Line); err != nil {
			return err
		}
	}
	return nil
}

// resolve is the node that an alias stands for.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }
