package v1alpha1

import (
	"encoding/json"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Annotations that people put on objects.
const (
	// HoldAnnotation on a Ticket keeps it open: see Ticket.Held.
	HoldAnnotation = "operator/hold"
	// HoldNoteAnnotation on a Ticket says why it is held.
	HoldNoteAnnotation = "operator/hold-note"
	// HoldByAnnotation on a Ticket says who holds it. The plugin writes it, and so does config/admission.
	HoldByAnnotation = "operator/hold-by"
	// MuteUntilAnnotation on an Invariant is an RFC 3339 time: see Invariant.MutedUntil.
	MuteUntilAnnotation = "operator/mute-until"
	// MuteByAnnotation on an Invariant says who muted it. The plugin writes it, and so does config/admission.
	MuteByAnnotation = "operator/mute-by"
)

// Severity ranks violations and tickets.
// +kubebuilder:validation:Enum=Critical;Warning;Info
type Severity string

// The severities, worst first.
const (
	Critical Severity = "Critical"
	Warning  Severity = "Warning"
	Info     Severity = "Info"
)

// Rank orders severities: 0 is the worst, an unknown word comes last.
func (s Severity) Rank() int {
	switch s {
	case Critical:
		return 0
	case Warning:
		return 1
	case Info:
		return 2
	default:
		return 3
	}
}

// Duration is a length of time that both the API server and a Go client can read: up to four numbers of at
// most five digits, each with h, m, s or ms.
// +kubebuilder:validation:Type=string
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
type Duration struct {
	metav1.Duration `json:"-"`
}

// String writes the duration as the API server admits it: without fractions.
func (d Duration) String() string {
	whole, rest := d.Truncate(time.Second), d.Duration.Duration%time.Second
	switch {
	case rest == 0:
		return whole.String()
	case whole == 0:
		return fmt.Sprintf("%dms", rest.Milliseconds())
	}
	return fmt.Sprintf("%s%dms", whole, rest.Milliseconds())
}

// MarshalJSON writes the duration as the API server admits it.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// ToUnstructured is the value that MarshalJSON writes.
func (d Duration) ToUnstructured() any { return d.String() }

// Time is a moment that both the API server and a Go client can read. The format date-time alone admits times
// (a lower-case t, for one) that Go refuses, and even lists; one such object would hide all others of its kind.
// The rule refuses lists, and years that another time zone would make longer or shorter than four digits.
// +kubebuilder:validation:Type=string
// +kubebuilder:validation:Format=date-time
// +kubebuilder:validation:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
// +kubebuilder:validation:XValidation:rule="self.getFullYear() >= 1970 && self.getFullYear() < 9999",message="must be a time such as 2026-11-24T03:00:00Z"
type Time struct {
	metav1.Time `json:"-"`
}

// Condition has the fields of metav1.Condition. Its time has a pattern besides its format: the API server
// takes more times than a Go client can read, and one of those would hide every object of the kind from it.
type Condition struct {
	// What the condition is about.
	// +kubebuilder:validation:MaxLength=316
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$`
	Type string `json:"type"`
	// True, False or Unknown.
	// +kubebuilder:validation:Enum=True;False;Unknown
	Status metav1.ConditionStatus `json:"status"`
	// The generation of the object that the condition was computed for.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// When the status last changed.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Format=date-time
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
	// +kubebuilder:validation:XValidation:rule="self.getFullYear() >= 1970 && self.getFullYear() < 9999",message="must be a time such as 2026-11-24T03:00:00Z"
	LastTransitionTime metav1.Time `json:"lastTransitionTime"`
	// Why, in one word.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`
	Reason string `json:"reason"`
	// The details, for a person.
	// +kubebuilder:validation:MaxLength=32768
	Message string `json:"message"`
}

// maxConditions is how many the API server takes.
const maxConditions = 16

// SetCondition sets c among conditions as meta.SetStatusCondition does, and tells whether anything changed. Where others have
// filled the list, the first goes: a status that holds one too many could not be written any more.
func SetCondition(conditions *[]Condition, c metav1.Condition) bool {
	all := make([]metav1.Condition, 0, len(*conditions)+1)
	for _, have := range *conditions {
		all = append(all, metav1.Condition(have))
	}
	changed := meta.SetStatusCondition(&all, c)
	all = all[max(0, len(all)-maxConditions):]
	*conditions = (*conditions)[:0:0]
	for _, have := range all {
		*conditions = append(*conditions, Condition(have))
	}
	return changed
}

// FindCondition returns the condition of that type, or nil.
func FindCondition(conditions []Condition, conditionType string) *Condition {
	for i := range conditions {
		if conditions[i].Type == conditionType {
			return &conditions[i]
		}
	}
	return nil
}
