package ledger

import (
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

func TestAnOlderLookChangesNothingThatALaterOneOfAnotherMonitorFound(t *testing.T) {
	judgements := map[string]*verdict.Judgement{"violated": stores(verdict.Violated, "1"), "satisfied": stores(verdict.Satisfied, "1"), "unknown": {Fault: noAnswer}}
	policy := flappingPolicy
	policy.UnobservableAfter = time.Hour
	for was, later := range judgements {
		for is, older := range judgements {
			t.Run(is+" after "+was, func(t *testing.T) {
				l := newLife(t)
				l.policy = policy
				l.after(0, true)
				l.look(time.Minute, later)
				status := *l.last().Status.DeepCopy()
				c := Cycle{Now: epoch.Add(30 * time.Second), Monitor: "m", Overlap: time.Minute, Invariants: map[string]Invariant{policy.Name: policy}}
				i := c.Invariants[policy.Name]
				i.Judgement = older
				c.Invariants[policy.Name] = i
				plan := Decide(c, nil, l.tickets)
				for _, u := range plan.Updates {
					t.Errorf("the older look changes %+v into %+v", status, u.Status)
				}
				if open := c.WithoutOvertaken(plan.Open, l.tickets); len(open) > 0 {
					t.Errorf("the older look opens %+v", open)
				}
			})
		}
	}
}

func TestAMonitorWhoseClockIsBehindIsNotTakenForAnOlderLook(t *testing.T) {
	l := newLife(t)
	l.after(0, true)
	l.after(time.Minute, true)
	// It knew of the time ahead when it looked.
	c := Cycle{Now: epoch.Add(30 * time.Second), Monitor: "m", Overlap: time.Minute, Known: LatestLook(l.tickets), Invariants: map[string]Invariant{}}
	policy := flappingPolicy
	policy.Judgement = stores(verdict.Satisfied, "1")
	c.Invariants[policy.Name] = policy
	for _, u := range Decide(c, nil, l.tickets).Updates {
		u.Ticket.Status = u.Status
	}
	if l.last().IsOpen() {
		t.Fatalf("the ticket stays open: %+v", l.last().Status)
	}
	policy.Judgement = stores(verdict.Violated, "1")
	c.Invariants[policy.Name] = policy
	c.Now = c.Now.Add(time.Second)
	if open := c.WithoutOvertaken(Decide(c, nil, l.tickets).Open, l.tickets); len(open) != 1 {
		t.Errorf("opens %+v, want one violation", open)
	}
}

func TestAnOlderLookMakesNothingCountThatALaterOneFoundWell(t *testing.T) {
	l := newLifeWithGrace(t)
	l.look(0, stores(verdict.Violated, "1"))
	l.look(time.Hour, stores(verdict.Violated, "1", "2"))
	before, known := l.memory, LatestLook(l.tickets)
	// The grace period of store 2 is over at the older look, which comes after one that found it well.
	l.look(time.Hour+10*time.Second, &verdict.Judgement{Verdicts: append(stores(verdict.Violated, "1").Verdicts, stores(verdict.Satisfied, "2").Verdicts...)})
	policy := l.policy
	policy.Judgement = stores(verdict.Violated, "1", "2")
	older := Cycle{Now: l.now.Add(-10 * time.Second), Monitor: "m", Known: known, Overlap: time.Minute, Invariants: map[string]Invariant{policy.Name: policy}}
	for _, u := range Decide(older, before, l.tickets).Updates {
		t.Errorf("the older look changes the ticket into %+v", u.Status)
	}
}

func TestATicketWhoseFirstStatusIsMissingTellsOfTheLookThatOpenedIt(t *testing.T) {
	l := newLife(t)
	l.after(0, true)
	// The monitor that opened it, whose clock is ahead, died before it wrote more.
	l.last().Status = v1alpha1.TicketStatus{}
	policy := flappingPolicy
	policy.Judgement = stores(verdict.Satisfied, "1")
	c := Cycle{Now: epoch.Add(-5 * time.Second), Monitor: "m", Overlap: time.Minute, Known: LatestLook(l.tickets), Invariants: map[string]Invariant{policy.Name: policy}}
	for _, u := range Decide(c, nil, l.tickets).Updates {
		u.Ticket.Status = u.Status
	}
	if l.last().IsOpen() {
		t.Errorf("the ticket stays open: %+v", l.last().Status)
	}
}
