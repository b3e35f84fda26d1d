package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition types of a Ticket.
const (
	// ConditionHeld is True while somebody holds it.
	ConditionHeld = "Held"
	// ConditionFlapping is True while one of its violations keeps coming back.
	ConditionFlapping = "Flapping"
)

// TicketState is where a ticket is in its life: Open, Acknowledged, Diagnosed, Resolved, in this order. States
// may be skipped; none is gone back to.
// +kubebuilder:validation:Enum=Open;Acknowledged;Diagnosed;Resolved
type TicketState string

// The states, in order.
const (
	Open         TicketState = "Open"
	Acknowledged TicketState = "Acknowledged"
	Diagnosed    TicketState = "Diagnosed"
	Resolved     TicketState = "Resolved"
)

// ViolationReason says how an invariant is violated.
// +kubebuilder:validation:Enum=Violated;Unobservable
type ViolationReason string

// The reasons of a violation.
const (
	// Violated: the store was seen, and the expression was false.
	Violated ViolationReason = "Violated"
	// Unobservable: the invariant could not be judged for unobservableAfter.
	Unobservable ViolationReason = "Unobservable"
)

// ResolutionReason says why a ticket was resolved.
// +kubebuilder:validation:Enum=Cleared;Manual;InvariantDeleted;Duplicate
type ResolutionReason string

// The reasons of a resolution.
const (
	// Cleared: all of its violations cleared.
	Cleared ResolutionReason = "Cleared"
	// Manual: a person resolved it.
	Manual ResolutionReason = "Manual"
	// InvariantDeleted: what had not cleared was about Invariants that no longer exist.
	InvariantDeleted ResolutionReason = "InvariantDeleted"
	// Duplicate: older tickets held all of its violations.
	Duplicate ResolutionReason = "Duplicate"
)

// TicketSpec is the record of what opened the ticket. It never changes.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a ticket's spec is the record of what opened it and cannot change: write acknowledgement, diagnosis and resolution into its status"
type TicketSpec struct {
	// The system that broke.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	System string `json:"system"`
	// The name of the first ticket of the same batch: this one's own name, except where what broke in one
	// cycle was too much for one ticket.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	BatchKey string `json:"batchKey"`
	// When the ticket was opened.
	OpenedTime Time `json:"openedTime"`
	// The ticket before this one, where a violation comes back or was resolved by hand unmended.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Previous string `json:"previous,omitempty"`
	// What broke, with the evidence of that moment, worst first.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1000
	Violations []Violation `json:"violations"`
}

// Violation is an invariant that a store broke.
type Violation struct {
	// The Invariant that is violated.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Invariant string `json:"invariant"`
	// The store that violates it. Empty for a statement about the system as a whole.
	// +optional
	// +kubebuilder:validation:MaxLength=320
	StoreID string `json:"storeID,omitempty"`
	// Violated: the store was seen, and it broke the invariant. Unobservable: nothing could be said of it for too long.
	Reason ViolationReason `json:"reason"`
	// How bad it is.
	Severity Severity `json:"severity"`
	// What was found, in the words of the Invariant's message.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// When it was first seen; before the ticket was opened, if there was a grace period.
	FirstSeenTime Time `json:"firstSeenTime"`
	// It was still in its grace period when the ticket was opened, and was taken along. It counts when that
	// ends, unless it clears first.
	// +optional
	Pending bool `json:"pending,omitempty"`
	// When it last came back in tickets before this one, oldest first: at most ten times, the last of which opened this
	// ticket. Left out where it did not come back within its Invariant's flapping.window.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	RecurredTimes []Time `json:"recurredTimes,omitempty"`
	// What to do about it.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	RunbookURL string `json:"runbookURL,omitempty"`
	// The evidence, taken when the ticket was opened.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Snapshot []SnapshotValue `json:"snapshot,omitempty"`
}

// SnapshotValue is one piece of evidence: a value, or the error that stood in its way.
type SnapshotValue struct {
	// The name that the Invariant gives it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// The value: a string as it is, anything else as JSON.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Value string `json:"value,omitempty"`
	// Why there is no value.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Error string `json:"error,omitempty"`
	// The value was longer than 1024 bytes and is cut.
	// +optional
	Truncated bool `json:"truncated,omitempty"`
}

// TicketStatus is the living state. The monitor counts; people acknowledge, diagnose and resolve.
// +kubebuilder:validation:XValidation:rule="self.state == oldSelf.state || {'Open': 0, 'Acknowledged': 1, 'Diagnosed': 2, 'Resolved': 3}[self.state] > {'Open': 0, 'Acknowledged': 1, 'Diagnosed': 2, 'Resolved': 3}[oldSelf.state]",message="a ticket's state only goes forward: Open, Acknowledged, Diagnosed, Resolved. If the fault is back, the monitor opens a new ticket by itself"
// +kubebuilder:validation:XValidation:rule="self.state == oldSelf.state || self.state != 'Acknowledged' || has(self.acknowledgement)",message="say who acknowledges the ticket: write acknowledgement.by with the state"
// +kubebuilder:validation:XValidation:rule="self.state == oldSelf.state || self.state != 'Diagnosed' || has(self.diagnosis)",message="say what the matter is: write diagnosis.by and diagnosis.text with the state"
// +kubebuilder:validation:XValidation:rule="self.state == oldSelf.state || self.state != 'Resolved' || has(self.resolution)",message="say who resolves the ticket: write resolution.by with the state"
// +kubebuilder:validation:XValidation:rule="!has(self.resolution) || has(oldSelf.resolution) || self.state == 'Resolved'",message="a resolution goes with the state Resolved: write both"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.acknowledgement) || has(self.acknowledgement)",message="an acknowledgement stays on its ticket"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.acknowledgement) || !has(oldSelf.acknowledgement.by) || !has(self.acknowledgement) || self.acknowledgement.by == oldSelf.acknowledgement.by || (has(self.acknowledgement.takenFrom) && self.acknowledgement.takenFrom == oldSelf.acknowledgement.by)",message="somebody else has acknowledged the ticket: to take it over, write who has it into acknowledgement.takenFrom"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.diagnosis) || has(self.diagnosis)",message="a diagnosis stays on its ticket: write a better one in its place"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.diagnosis) || !has(oldSelf.diagnosis.by) || !has(self.diagnosis) || (self.diagnosis.text == oldSelf.diagnosis.text && self.diagnosis.by == oldSelf.diagnosis.by) || (has(self.diagnosis.previous) && self.diagnosis.previous.size() > 0 && self.diagnosis.previous[0].by == oldSelf.diagnosis.by && oldSelf.diagnosis.text.startsWith(self.diagnosis.previous[0].text))",message="there is a diagnosis already: to replace it, keep it as the first of diagnosis.previous (by, time, and at least the beginning of its text)"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.resolution) || (has(self.resolution) && self.resolution.by == oldSelf.resolution.by && self.resolution.reason == oldSelf.resolution.reason && has(self.resolution.note) == has(oldSelf.resolution.note) && (!has(self.resolution.note) || self.resolution.note == oldSelf.resolution.note) && (!has(oldSelf.resolution.time) || (has(self.resolution.time) && self.resolution.time == oldSelf.resolution.time)))",message="a resolution is written once"
type TicketStatus struct {
	// Open, Acknowledged, Diagnosed or Resolved; it only goes forward.
	// +kubebuilder:default=Open
	State TicketState `json:"state,omitempty"`
	// The worst of its violations that count; it only rises.
	// +optional
	Severity Severity `json:"severity,omitempty"`
	// Its violations in short, worst first: store-down(3), high-latency(3).
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Summary string `json:"summary,omitempty"`
	// In how many cycles any of its violations was seen.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	Occurrences int32 `json:"occurrences,omitempty"`
	// When the first of its violations was first seen.
	// +optional
	FirstSeenTime *Time `json:"firstSeenTime,omitempty"`
	// When any of its violations was last seen.
	// +optional
	LastSeenTime *Time `json:"lastSeenTime,omitempty"`
	// What has become of each violation.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Violations []ViolationStatus `json:"violations,omitempty"`
	// Who is at it.
	// +optional
	Acknowledgement *Acknowledgement `json:"acknowledgement,omitempty"`
	// What was the matter, in the words of whoever looked into it.
	// +optional
	Diagnosis *Diagnosis `json:"diagnosis,omitempty"`
	// How it ended.
	// +optional
	Resolution *Resolution `json:"resolution,omitempty"`
	// Held: somebody keeps the ticket open, with the annotation operator/hold. Flapping: one of its violations keeps
	// coming back.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []Condition `json:"conditions,omitempty"`
	// The monitor process that keeps this ticket up to date. It changes when another one takes over; what the
	// former one still had under way is refused from then on.
	// +optional
	// +kubebuilder:validation:MaxLength=320
	Monitor string `json:"monitor,omitempty"`
}

// ViolationStatus is what has become of one violation.
type ViolationStatus struct {
	// The Invariant that is violated.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Invariant string `json:"invariant"`
	// The store that violates it.
	// +optional
	// +kubebuilder:validation:MaxLength=320
	StoreID string `json:"storeID,omitempty"`
	// Violated or Unobservable.
	Reason ViolationReason `json:"reason"`
	// It has not cleared.
	// +optional
	Active bool `json:"active"`
	// It is still in its grace period and does not count yet.
	// +optional
	Pending bool `json:"pending,omitempty"`
	// In how many cycles it was seen.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	Occurrences int32 `json:"occurrences,omitempty"`
	// How often it came back after a check had found it satisfied.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	Recurrences int32 `json:"recurrences,omitempty"`
	// When it last came back in this ticket, oldest first: at most ten times.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	RecurredTimes []Time `json:"recurredTimes,omitempty"`
	// It keeps coming back, as its Invariant's flapping says.
	// +optional
	Flapping bool `json:"flapping,omitempty"`
	// When it was last seen.
	// +optional
	LastSeenTime *Time `json:"lastSeenTime,omitempty"`
	// Since when it has been satisfied; it clears after the Invariant's resolveAfter.
	// +optional
	SatisfiedSinceTime *Time `json:"satisfiedSinceTime,omitempty"`
	// Since when nothing is known of it. That time counts neither for nor against it.
	// +optional
	UnknownSinceTime *Time `json:"unknownSinceTime,omitempty"`
	// When it cleared.
	// +optional
	ClearedTime *Time `json:"clearedTime,omitempty"`
	// Why it cleared without being satisfied: InvariantDeleted, or Duplicate where an older open ticket holds it.
	// +optional
	ClearedReason ResolutionReason `json:"clearedReason,omitempty"`
}

// Acknowledgement says that somebody is at it. Writing it acknowledges the ticket, unless its state is further already.
// +kubebuilder:validation:XValidation:rule="!has(self.takenFrom) || self.takenFrom != self.by",message="takenFrom names somebody else: the one who had acknowledged the ticket before"
type Acknowledgement struct {
	// Who is at it. The plugin writes the user's name as the API server knows it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=320
	By string `json:"by"`
	// When. Left out, the monitor writes when it saw the acknowledgement.
	// +optional
	Time *Time `json:"time,omitempty"`
	// Who had acknowledged the ticket before, where somebody took it over. Whoever takes it over must name them, so that
	// two never believe that both have it.
	// +optional
	// +kubebuilder:validation:MaxLength=320
	TakenFrom string `json:"takenFrom,omitempty"`
	// Their words.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Note string `json:"note,omitempty"`
}

// Diagnosis says what was the matter. Writing it makes the ticket Diagnosed, unless it is Resolved: a resolved ticket
// takes a diagnosis and stays resolved.
type Diagnosis struct {
	// Who found it out: a person or an agent. The plugin writes the user's name as the API server knows it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=320
	By string `json:"by"`
	// When. Left out, the monitor writes when it saw the diagnosis.
	// +optional
	Time *Time `json:"time,omitempty"`
	// What they found. At most 65536 characters.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=65536
	Text string `json:"text"`
	// The last three that were replaced, newest first: whoever replaces a diagnosis must keep it here.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=3
	Previous []PreviousDiagnosis `json:"previous,omitempty"`
}

// PreviousDiagnosis is one that was replaced.
type PreviousDiagnosis struct {
	// Who had found it out.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=320
	By string `json:"by"`
	// When.
	// +optional
	Time *Time `json:"time,omitempty"`
	// What they had found: the first 8 KiB.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	Text string `json:"text"`
	// The text was longer and is cut.
	// +optional
	Truncated bool `json:"truncated,omitempty"`
}

// Resolution says how a ticket ended.
type Resolution struct {
	// Who resolved it: a person, or monitor.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=320
	By string `json:"by"`
	// When. Left out, the monitor writes when it saw the resolution. It can be added once, and then stays.
	// +optional
	Time *Time `json:"time,omitempty"`
	// Cleared: all violations cleared. Manual: a person said so. InvariantDeleted: what it was about is no
	// longer an Invariant. Duplicate: an older open ticket holds the same.
	// +optional
	// +kubebuilder:default=Manual
	Reason ResolutionReason `json:"reason,omitempty"`
	// Their words.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Note string `json:"note,omitempty"`
}

// Ticket is what broke in one system in one cycle. The monitor opens it, keeps it up to date, and resolves it
// when all has cleared; people and agents hold, acknowledge, diagnose and resolve it.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=tkt,categories=operator
// +kubebuilder:selectablefield:JSONPath=`.spec.system`
// +kubebuilder:selectablefield:JSONPath=`.status.state`
// +kubebuilder:selectablefield:JSONPath=`.status.severity`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Severity",type=string,JSONPath=`.status.severity`
// +kubebuilder:printcolumn:name="Held",type=string,JSONPath=`.metadata.annotations.operator/hold`
// +kubebuilder:printcolumn:name="Count",type=integer,JSONPath=`.status.occurrences`
// +kubebuilder:printcolumn:name="Last-Seen",type=date,JSONPath=`.status.lastSeenTime`
// +kubebuilder:printcolumn:name="Summary",type=string,JSONPath=`.status.summary`
// +kubebuilder:printcolumn:name="System",type=string,priority=1,JSONPath=`.spec.system`
// +kubebuilder:printcolumn:name="Flapping",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Flapping")].status`
// +kubebuilder:printcolumn:name="Acknowledged-By",type=string,priority=1,JSONPath=`.status.acknowledgement.by`
// +kubebuilder:printcolumn:name="Resolution",type=string,priority=1,JSONPath=`.status.resolution.reason`
// +kubebuilder:printcolumn:name="Previous",type=string,priority=1,JSONPath=`.spec.previous`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Ticket struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// The record of what opened it; it never changes.
	Spec TicketSpec `json:"spec"`
	// The living state.
	// +optional
	// +kubebuilder:default={state: Open}
	Status TicketStatus `json:"status,omitempty"`
}

// TicketList is a list of Tickets.
// +kubebuilder:object:root=true
type TicketList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Ticket `json:"items"`
}
