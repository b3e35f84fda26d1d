package tickets

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/terminal"
)

// moment is what happened to a ticket at one time.
type moment struct {
	at   time.Time
	what string
}

// timeline is what happened to a ticket, oldest first.
func timeline(t *v1alpha1.Ticket) []moment {
	var moments []moment
	add := func(at *v1alpha1.Time, what string) {
		if at != nil && !at.IsZero() {
			moments = append(moments, moment{at.Go(), what})
		}
	}
	add(t.Status.FirstSeenTime, "first seen")
	add(&t.Spec.OpenedTime, "opened for "+counted(len(t.Spec.Violations), "violation"))
	moments = append(moments, violationMoments(t)...)
	if c := v1alpha1.FindCondition(t.Status.Conditions, v1alpha1.ConditionFlapping); c != nil {
		add(&v1alpha1.Time{Time: c.LastTransitionTime}, map[bool]string{true: "flapping: ", false: "no longer flapping: "}[c.Status == metav1.ConditionTrue]+c.Message)
	}
	if c := v1alpha1.FindCondition(t.Status.Conditions, v1alpha1.ConditionHeld); c != nil {
		add(&v1alpha1.Time{Time: c.LastTransitionTime}, map[bool]string{true: "held" + heldBy(t), false: "no longer held"}[c.Status == metav1.ConditionTrue])
	}
	if a := t.Status.Acknowledgement; a != nil {
		what := "acknowledged by " + a.By
		if a.TakenFrom != "" {
			what += ", taken over from " + a.TakenFrom
		}
		add(a.Time, what)
	}
	if d := t.Status.Diagnosis; d != nil {
		for _, previous := range d.Previous {
			add(previous.Time, "diagnosed by "+previous.By)
		}
		add(d.Time, "diagnosed by "+d.By)
	}
	if since := clearSince(t); since != nil && t.IsOpen() {
		add(since, "all clear")
	}
	if r := t.Status.Resolution; r != nil {
		add(r.Time, "resolved by "+r.By+", "+string(r.Reason))
	}
	slices.SortStableFunc(moments, func(a, b moment) int { return a.at.Compare(b.at) })
	return moments
}

// violationMoments are when violations came back and when they cleared; what happened to several at once is one moment.
func violationMoments(t *v1alpha1.Ticket) []moment {
	back, cleared := map[time.Time][]string{}, map[time.Time][]string{}
	for _, v := range t.Spec.Violations {
		status := statusOf(t, v)
		for _, at := range status.RecurredTimes {
			back[at.Go()] = append(back[at.Go()], nameOf(v))
		}
		if !status.Active && status.ClearedTime != nil {
			cleared[status.ClearedTime.Go()] = append(cleared[status.ClearedTime.Go()], nameOf(v))
		}
	}
	var moments []moment
	for at, names := range back {
		moments = append(moments, moment{at, "came back: " + first(names, 5)})
	}
	for at, names := range cleared {
		moments = append(moments, moment{at, "cleared: " + first(names, 5)})
	}
	return moments
}

func nameOf(v v1alpha1.Violation) string {
	if v.StoreID == "" {
		return v.Invariant
	}
	return v.Invariant + "(" + v.StoreID + ")"
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// clearSince is since when none of a ticket's violations is active; nil while one is.
func clearSince(t *v1alpha1.Ticket) *v1alpha1.Time {
	var since *v1alpha1.Time
	for _, v := range t.Spec.Violations {
		status := statusOf(t, v)
		if status.Active && !status.Pending {
			return nil
		}
		if since == nil || status.ClearedTime.Go().After(since.Go()) {
			since = status.ClearedTime
		}
	}
	return since
}

// timeLine writes what happened to the ticket.
func (p *page) timeLine(t *v1alpha1.Ticket) {
	p.section("Time line", "")
	if p.err != nil {
		return
	}
	table := printers.GetNewTabWriter(p.w)
	for _, m := range timeline(t) {
		_, _ = fmt.Fprintf(table, "  %s\t%s\n", p.at(v1alpha1.NewTime(m.at)), terminal.Line(m.what))
	}
	p.err = table.Flush()
}
