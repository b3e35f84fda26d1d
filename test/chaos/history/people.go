package history

import (
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"invariant.dev/operator/api/v1alpha1"
)

// holds wants that the monitor resolves nothing that is held.
func holds(a *account) {
	a.steps(func(before, after Version) {
		if before.Ticket == nil || after.Ticket == nil || !before.Ticket.IsOpen() || after.Ticket.IsOpen() || byHand(after.Ticket) {
			return
		}
		if before.Ticket.Held() {
			a.breach(after, "resolves as %v under the hold %q", after.Ticket.Status.Resolution, before.Ticket.Annotations[v1alpha1.HoldAnnotation])
		}
	})
}

// words wants that what a person wrote stays until a person writes something else there.
func words(a *account) {
	a.steps(func(before, after Version) {
		if before.Ticket == nil || after.Ticket == nil {
			return
		}
		for _, kind := range []ActKind{Hold, Acknowledge, Diagnose, Resolve} {
			was, is := word(before.Ticket, kind), word(after.Ticket, kind)
			if was == "" || was == is || a.allows(after, kind) {
				continue
			}
			a.breach(after, "%s %q became %q, and nobody did that", kind, was, is)
		}
	})
}

// word is what stands on a ticket where an act of that kind writes.
func word(t *v1alpha1.Ticket, kind ActKind) string {
	switch s := t.Status; {
	case kind == Hold:
		return t.Annotations[v1alpha1.HoldAnnotation]
	case kind == Acknowledge && s.Acknowledgement != nil:
		return s.Acknowledgement.By + ": " + s.Acknowledgement.Note
	case kind == Diagnose && s.Diagnosis != nil:
		return s.Diagnosis.By + ": " + s.Diagnosis.Text
	case kind == Resolve && s.Resolution != nil:
		return s.Resolution.By + ": " + s.Resolution.Note
	default:
		return ""
	}
}

// allows tells whether somebody asked for an act that changes a word, and what now stands there is what they asked for.
func (a *account) allows(v Version, kind ActKind) bool {
	return slices.ContainsFunc(a.acts, func(act *Act) bool {
		if act.Namespace != v.Namespace || act.Ticket != v.Name || act.Asked.After(v.At) {
			return false
		}
		if kind == Hold && act.Kind == Unhold {
			return word(v.Ticket, Hold) == ""
		}
		return act.Kind == kind && act.done(v.Ticket)
	})
}

// done tells whether a ticket shows the act.
func (act *Act) done(t *v1alpha1.Ticket) bool {
	switch s := t.Status; act.Kind {
	case Hold:
		return t.Annotations[v1alpha1.HoldAnnotation] == act.Word
	case Unhold:
		return t.Annotations[v1alpha1.HoldAnnotation] == ""
	case Acknowledge:
		return s.Acknowledgement != nil && s.Acknowledgement.Note == act.Word
	case Diagnose:
		return s.Diagnosis != nil && s.Diagnosis.Text == act.Word
	case Resolve:
		return s.Resolution != nil && s.Resolution.Note == act.Word && s.State == v1alpha1.Resolved
	default:
		return false
	}
}

// confirmed wants that each act that the API server confirmed is in a version written meanwhile.
func confirmed(a *account) {
	for _, act := range a.acts {
		if act.Confirmed.IsZero() {
			continue
		}
		versions := a.tickets[act.Namespace+"/"+act.Ticket]
		done := slices.ContainsFunc(versions, func(v Version) bool {
			if v.Ticket == nil {
				return act.Kind == Delete
			}
			return act.done(v.Ticket)
		})
		if !done {
			a.breach(Version{Namespace: act.Namespace, Name: act.Ticket}, "%s %q of %s was confirmed, and no version shows it", act.Kind, act.Word, clock(act.Asked))
		}
	}
}

// unhindered wants that no act of a person met a conflict: people's writes are not conditional.
func unhindered(a *account) {
	for _, act := range a.acts {
		if apierrors.IsConflict(act.Err) {
			a.breach(Version{Namespace: act.Namespace, Name: act.Ticket}, "%s %q was refused: %v", act.Kind, act.Word, act.Err)
		}
	}
}
