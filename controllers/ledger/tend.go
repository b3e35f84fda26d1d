package ledger

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// Tend says what a ticket needs between cycles: its status with whole records of what people wrote, with its hold made
// visible, and, once it is resolved, with the flapping that is over. It also returns when to look again; zero where
// nothing will change by itself. It opens, counts and resolves nothing. Invariants are those that the ticket names.
func Tend(t *v1alpha1.Ticket, invariants map[string]Invariant, now time.Time) (status v1alpha1.TicketStatus, again time.Time) {
	now = now.UTC().Truncate(time.Second)
	status = *t.Status.DeepCopy()
	status.Stamp(now)
	setHeld(t, &status, now)
	if status.State == v1alpha1.Resolved && v1alpha1.FindCondition(status.Conditions, v1alpha1.ConditionFlapping) != nil {
		status.Violations = entriesOf(t)
		again = setFlapping(t.Spec.Violations, &status, invariants, now)
	}
	return status, again
}

// setHeld keeps the condition Held true to the annotation.
func setHeld(t *v1alpha1.Ticket, s *v1alpha1.TicketStatus, now time.Time) {
	c := metav1.Condition{Type: v1alpha1.ConditionHeld, LastTransitionTime: metav1.NewTime(now)}
	switch {
	case t.Held():
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, "Annotated", "kept open by the annotation "+v1alpha1.HoldAnnotation
		if by := t.Annotations[v1alpha1.HoldByAnnotation]; by != "" {
			c.Message = verdict.Truncate("kept open by "+by, MaxMessage)
		}
	case v1alpha1.FindCondition(s.Conditions, v1alpha1.ConditionHeld) != nil:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, "NotAnnotated", "resolves when all has cleared"
	default:
		return
	}
	v1alpha1.SetCondition(&s.Conditions, c)
}

// Expiry is when a ticket may be removed: keep after it was resolved. It is zero where it must stay for now: it is open or
// held, or it remembers the true age of something that it left violated.
func Expiry(t *v1alpha1.Ticket, keep time.Duration) time.Time {
	if t.IsOpen() || t.Held() || Unsettled(t) {
		return time.Time{}
	}
	resolved := t.CreationTimestamp.Time
	for _, at := range []*v1alpha1.Time{t.Status.LastSeenTime, resolutionTime(t)} {
		if at.Go().After(resolved) {
			resolved = at.Go()
		}
	}
	return resolved.Add(keep)
}

func resolutionTime(t *v1alpha1.Ticket) *v1alpha1.Time {
	if t.Status.Resolution == nil {
		return nil
	}
	return t.Status.Resolution.Time
}
