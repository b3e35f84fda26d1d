// Package alerting turns Prometheus alerting rules into Invariants. What an Invariant cannot say becomes a note, never
// silence. It reads no file and asks no server.
package alerting

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"invariant.dev/operator/api/v1alpha1"
)

// DefaultSeverityLabel is the label that has the severity in most rules.
const DefaultSeverityLabel = "severity"

// Options are what the rules do not say.
type Options struct {
	// PrometheusURL is the address that the queries are asked of. Empty: the monitor's --prometheus-url.
	PrometheusURL string
	// System is the system of the Invariants. Empty: the namespace's name.
	System string
	// Namespace is written into the Invariants. Empty: kubectl's.
	Namespace string
	// SeverityLabel is the label that has the severity.
	SeverityLabel string
	// Severities are what its values mean, in lower case, besides the usual ones and before them.
	Severities map[string]v1alpha1.Severity
}

// Note is something about a rule that an Invariant cannot say, or that should be looked at.
type Note struct {
	Line int
	// Subject is the alert, or else what the note is about.
	Subject string
	// Text says what is lost and what to do about it.
	Text string
	// Refused: nothing was made of the subject.
	Refused bool
}

// Imported is an Invariant, and the rule that it was made of.
type Imported struct {
	Alert     string
	Line      int
	Name      string
	Namespace string
	Spec      v1alpha1.InvariantSpec
}

// Manifest is the Invariant in YAML, ready for kubectl apply.
func (i Imported) Manifest() ([]byte, error) {
	// Not a v1alpha1.Invariant: that has a status, which is for the monitor to write.
	manifest := struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        any                    `json:"metadata"`
		Spec            v1alpha1.InvariantSpec `json:"spec"`
	}{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Invariant"},
		Metadata: struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace,omitempty"`
		}{i.Name, i.Namespace},
		Spec: i.Spec,
	}
	text, err := json.Marshal(manifest)
	if err == nil {
		text, err = yaml.JSONToYAML(escapeControls(text))
	}
	if err != nil {
		return nil, fmt.Errorf("write the Invariant %s: %w", i.Name, err)
	}
	return text, nil
}

// escapeControls escapes what may stand in JSON as it is, and in YAML may not.
func escapeControls(text []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(text) {
		if r >= 0x7f && r <= 0x9f || r == 0xfffe || r == 0xffff {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

// Result is what became of a file.
type Result struct {
	Invariants []Imported
	// Notes are in the order of their lines.
	Notes []Note
}

// Refused is how much of the file nothing was made of.
func (r Result) Refused() int {
	refused := 0
	for _, n := range r.Notes {
		if n.Refused {
			refused++
		}
	}
	return refused
}

// Importer imports files, one after another. The names of all its Invariants are different.
type Importer struct {
	options Options
	// taken are the names of Invariants, and last the last number that made two of one name different.
	taken map[string]bool
	last  map[string]int
}

// NewImporter returns an Importer that has imported nothing yet.
func NewImporter(o Options) *Importer {
	o.SeverityLabel = cmp.Or(o.SeverityLabel, DefaultSeverityLabel)
	return &Importer{options: o, taken: map[string]bool{}, last: map[string]int{}}
}

// Import makes an Invariant of each alerting rule of a file: a rule file, or manifests with PrometheusRules in them. The
// error is one of the file as a whole, such as YAML that does not parse; the result is what was read before it.
func (i *Importer) Import(content []byte) (Result, error) {
	r := &reader{left: maxFields, placed: i.options.Namespace != ""}
	err := r.read(content)
	c := &converter{Importer: i, notes: r.notes}
	for _, g := range r.groups {
		c.group(g)
	}
	slices.SortStableFunc(c.notes, func(a, b Note) int { return cmp.Compare(a.Line, b.Line) })
	return Result{Invariants: c.invariants, Notes: c.notes}, err
}
