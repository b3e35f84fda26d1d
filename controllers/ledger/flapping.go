package ledger

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
)

// maxRecurredTimes is how many recurrences of a violation are remembered: the highest threshold that the API server
// takes.
const maxRecurredTimes = 10

// Flapping says when a violation that keeps coming back is flapping: when its last Threshold recurrences lie within one
// Window, until it has not come back for a Window. The zero value says nothing.
type Flapping struct {
	Threshold int
	Window    time.Duration
}

func flappingOf(spec *v1alpha1.Flapping) Flapping {
	f := Flapping{Threshold: v1alpha1.DefaultFlappingThreshold, Window: v1alpha1.DefaultFlappingWindow}
	if spec == nil {
		return f
	}
	if spec.Threshold != nil {
		f.Threshold = int(*spec.Threshold)
	}
	f.Window = spec.Window.Or(f.Window)
	return f
}

// until is when the flapping of a violation with these recurrences, oldest first, ends; zero where it never flapped.
func (f Flapping) until(recurrences []v1alpha1.Time) time.Time {
	if f.Threshold == 0 || len(recurrences) < f.Threshold {
		return time.Time{}
	}
	first, last := recurrences[len(recurrences)-f.Threshold].Go(), recurrences[len(recurrences)-1].Go()
	if last.Sub(first) > f.Window {
		return time.Time{}
	}
	return last.Add(f.Window)
}

// remember adds a recurrence to those remembered.
func remember(recurrences []v1alpha1.Time, at time.Time) []v1alpha1.Time {
	recurrences = append(slices.Clone(recurrences), *v1alpha1.NewTime(at))
	return recurrences[max(0, len(recurrences)-maxRecurredTimes):]
}

// recurrences are those remembered of a violation, in this ticket and before it, oldest first.
func recurrences(v *v1alpha1.Violation, e *v1alpha1.ViolationStatus) []v1alpha1.Time {
	return slices.Concat(v.RecurredTimes, e.RecurredTimes)
}

// setFlapping keeps what a status says of flapping true at a moment, and returns when that ends; zero if nothing flaps. What
// is about an Invariant without a policy stays as it is.
func setFlapping(violations []v1alpha1.Violation, s *v1alpha1.TicketStatus, invariants map[string]Invariant, now time.Time) (end time.Time) {
	var flapping []string
	for i := range s.Violations {
		v, e := &violations[i], &s.Violations[i]
		policy := invariants[v.Invariant].Flapping
		if policy.Threshold > 0 {
			until := policy.until(recurrences(v, e))
			e.Flapping = !e.Pending && now.Before(until)
			if e.Flapping && until.After(end) {
				end = until
			}
		}
		if e.Flapping {
			flapping = append(flapping, keyOf(*v).String())
		}
	}
	c := metav1.Condition{Type: v1alpha1.ConditionFlapping, LastTransitionTime: metav1.NewTime(now)}
	switch {
	case len(flapping) > 0:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, "Recurring", "keeps coming back: "+someOf(flapping)
	case v1alpha1.FindCondition(s.Conditions, v1alpha1.ConditionFlapping) != nil:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, "Settled", "has not come back within flapping.window"
	default:
		return end
	}
	v1alpha1.SetCondition(&s.Conditions, c)
	return end
}

// String names the violation as a summary does: store-down(3).
func (k Key) String() string {
	name := k.Invariant
	if k.Reason == v1alpha1.Unobservable {
		name += " unobservable"
	}
	if k.StoreID != "" {
		name += "(" + k.StoreID + ")"
	}
	return name
}

// someOf is the first five of names, and how many more there are.
func someOf(names []string) string {
	list := strings.Join(names[:min(len(names), shownStores)], ", ")
	if more := len(names) - shownStores; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// NoteRecurrences notes in a batch that is about to be opened which of its violations come back, and when they came back
// before. history are the tickets of the system. What a person resolved by hand while it was violated never went away,
// and does not come back.
func NoteRecurrences(batch []v1alpha1.Violation, history []*v1alpha1.Ticket, invariants map[string]Invariant) {
	last := lastOf(batch, history)
	for i := range batch {
		v := &batch[i]
		before := last[keyOf(*v)]
		if before == nil {
			continue
		}
		known := recurrences(before.spec, &before.entry)
		if !before.entry.Active {
			known = remember(known, v.FirstSeenTime.Go())
		}
		oldest := v.FirstSeenTime.Go().Add(-invariants[v.Invariant].Flapping.Window)
		known = slices.DeleteFunc(known, func(t v1alpha1.Time) bool { return t.Go().Before(oldest) })
		v.RecurredTimes = known[max(0, len(known)-maxRecurredTimes):]
	}
}

// lastOf is what the newest resolved ticket says of each violation of a batch that counted in it, unless its Invariant
// was deleted since.
func lastOf(batch []v1alpha1.Violation, history []*v1alpha1.Ticket) map[Key]*line {
	wanted := make(map[Key]*line, len(batch))
	for _, v := range batch {
		wanted[keyOf(v)] = nil
	}
	for _, t := range slices.SortedFunc(slices.Values(history), compareAge) {
		if t.IsOpen() {
			continue
		}
		for i, entry := range entriesOf(t) {
			key := keyOf(t.Spec.Violations[i])
			if _, found := wanted[key]; !found || entry.Pending || entry.ClearedReason == v1alpha1.Duplicate {
				continue
			}
			wanted[key] = &line{spec: &t.Spec.Violations[i], entry: entry}
			if entry.ClearedReason != "" {
				wanted[key] = nil
			}
		}
	}
	return wanted
}
