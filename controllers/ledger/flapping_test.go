package ledger

import (
	"slices"
	"strings"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

var flappingPolicy = Invariant{Name: "store-up", Severity: v1alpha1.Critical, Flapping: Flapping{Threshold: 3, Window: 30 * time.Minute}}

// life is one system with one store and one Invariant, whose tickets live from cycle to cycle.
type life struct {
	t       *testing.T
	now     time.Time
	policy  Invariant
	memory  map[string]Memory
	tickets []*v1alpha1.Ticket
}

func newLife(t *testing.T) *life { return &life{t: t, now: epoch, policy: flappingPolicy} }

// after runs a cycle so much later, that finds the store violated or not.
func (l *life) after(d time.Duration, violated bool) {
	truth := verdict.Satisfied
	if violated {
		truth = verdict.Violated
	}
	l.look(d, stores(truth, "1"))
}

// look runs a cycle so much later, whose look says that.
func (l *life) look(d time.Duration, judgement *verdict.Judgement) {
	l.now = l.now.Add(d)
	policy := l.policy
	policy.Judgement = judgement
	c := Cycle{Now: l.now, Monitor: "m", Invariants: map[string]Invariant{"store-up": policy}}
	plan := Decide(c, l.memory, l.tickets)
	for _, u := range plan.Updates {
		u.Ticket.Status = u.Status
	}
	if len(plan.Open) > 0 {
		NoteRecurrences(plan.Open, l.tickets, c.Invariants)
		ticket := NewTicket("ns", "sys", len(l.tickets)+1, "", "", plan.Open, c.Invariants, l.now)
		ticket.Status = FirstStatus(ticket, c)
		l.tickets = append(l.tickets, ticket)
		plan.Opened(plan.Open)
	}
	l.memory = plan.Memory
}

func (l *life) last() *v1alpha1.Ticket { return l.tickets[len(l.tickets)-1] }

// wantFlapping wants the newest of so many tickets to say that its violation is flapping, or that it is not.
func (l *life) wantFlapping(tickets int, flapping bool) {
	l.t.Helper()
	status := l.last().Status
	c := v1alpha1.FindCondition(status.Conditions, v1alpha1.ConditionFlapping)
	if len(l.tickets) != tickets || status.Violations[0].Flapping != flapping || flapping != (c != nil && c.Status == "True") {
		l.t.Fatalf("%v after the start: want %d tickets, flapping %v; got %d, entry %+v, condition %+v", l.now.Sub(epoch), tickets, flapping, len(l.tickets), status.Violations[0], c)
	}
}

func TestRule9AViolationFlapsAfterThreeRecurrencesAcrossTickets(t *testing.T) {
	l := newLife(t)
	l.after(0, true)
	for i := range 3 {
		l.after(time.Minute, false)
		l.wantFlapping(i+1, false)
		l.after(time.Minute, true)
	}
	l.wantFlapping(4, true)
	if c := v1alpha1.FindCondition(l.last().Status.Conditions, v1alpha1.ConditionFlapping); !strings.Contains(c.Message, "store-up(1)") {
		t.Errorf("the condition does not name the violation: %+v", c)
	}
	l.after(29*time.Minute, true)
	l.wantFlapping(4, true)
	l.after(time.Minute, true)
	l.wantFlapping(4, false)
}

func TestRule9AViolationFlapsAfterThreeRecurrencesInOneTicket(t *testing.T) {
	l := newLife(t)
	l.policy.ResolveAfter = 5 * time.Minute
	l.after(0, true)
	for range 3 {
		l.wantFlapping(1, false)
		l.after(time.Minute, false)
		l.after(time.Minute, true)
	}
	l.wantFlapping(1, true)
	if got := l.last().Status.Violations[0].Recurrences; got != 3 {
		t.Errorf("%d recurrences are counted, want 3", got)
	}
	l.after(30*time.Minute, true)
	l.wantFlapping(1, false)
}

func TestRule9RecurrencesFurtherApartThanTheWindowAreNotFlapping(t *testing.T) {
	l := newLife(t)
	l.after(0, true)
	for range 6 {
		l.after(8*time.Minute, false)
		l.after(8*time.Minute, true)
	}
	l.wantFlapping(7, false)
}

func TestRule9FlappingGoesOnWhileItKeepsComingBackWithinAWindow(t *testing.T) {
	l := newLife(t)
	l.after(0, true)
	for range 3 {
		l.after(7*time.Minute, false)
		l.after(7*time.Minute, true)
	}
	// At any moment no more than three recurrences lie within the last half an hour, and often only two do.
	for i := range 4 {
		l.wantFlapping(4+i, true)
		l.after(7*time.Minute, false)
		l.after(7*time.Minute, true)
	}
}

func TestRule9AManualResolveIsNoRecurrence(t *testing.T) {
	l := newLife(t)
	l.after(0, true)
	for i := range 5 {
		l.last().Status.State = v1alpha1.Resolved
		l.last().Status.Resolution = &v1alpha1.Resolution{By: "ana", Reason: v1alpha1.Manual}
		l.after(time.Minute, true)
		l.wantFlapping(i+2, false)
	}
	if times := l.last().Spec.Violations[0].RecurredTimes; len(times) != 0 {
		t.Errorf("what never went away is said to have come back at %v", times)
	}
}

func TestRule9RecurrencesBeforeAManualResolveStillCount(t *testing.T) {
	l := newLife(t)
	l.after(0, true)
	for range 2 {
		l.after(time.Minute, false)
		l.after(time.Minute, true)
	}
	l.last().Status.State = v1alpha1.Resolved
	l.last().Status.Resolution = &v1alpha1.Resolution{By: "ana", Reason: v1alpha1.Manual}
	l.after(time.Minute, true)
	l.wantFlapping(4, false)
	l.after(time.Minute, false)
	l.after(time.Minute, true)
	l.wantFlapping(5, true)
}

func TestRule9WhatFlapsIsDecidedByTheTicketsAloneAfterACrashBetweenTheTwoWritesThatOpenOne(t *testing.T) {
	l := newLife(t)
	l.after(0, true)
	for range 3 {
		l.after(time.Minute, false)
		l.after(time.Minute, true)
	}
	l.last().Status = v1alpha1.TicketStatus{State: v1alpha1.Open}
	l.memory = nil
	l.after(time.Minute, true)
	l.wantFlapping(4, true)
}

func TestAnInvariantThatWasDeletedAndMadeAgainDoesNotFlap(t *testing.T) {
	l := newLife(t)
	l.after(0, true)
	for range 4 {
		l.now = l.now.Add(time.Minute)
		for _, u := range Decide(Cycle{Now: l.now}, nil, l.tickets).Updates {
			u.Ticket.Status = u.Status
		}
		l.memory = nil
		l.after(time.Minute, true)
	}
	l.wantFlapping(5, false)
}

func TestNoMoreThanTenRecurrencesAreRemembered(t *testing.T) {
	l := newLife(t)
	l.after(0, true)
	for range 40 {
		l.after(30*time.Second, false)
		l.after(30*time.Second, true)
	}
	times := l.last().Spec.Violations[0].RecurredTimes
	if len(times) != 10 || !times[9].Go().Equal(l.now) || !slices.IsSortedFunc(times, func(a, b v1alpha1.Time) int { return a.Go().Compare(b.Go()) }) {
		t.Errorf("want the last ten, the newest last, got %v", times)
	}
}

func TestWhatATicketKnewOutlivesItsDeletion(t *testing.T) {
	l := newLife(t)
	l.policy.GracePeriod = 10 * time.Minute
	l.after(0, true)
	l.after(10*time.Minute, true)
	if len(l.tickets) != 1 {
		t.Fatalf("%d tickets after the grace period, want 1", len(l.tickets))
	}
	Restore(l.memory, l.last())
	l.tickets = nil
	l.after(30*time.Second, true)
	if len(l.tickets) != 1 || !l.last().Spec.Violations[0].FirstSeenTime.Go().Equal(epoch) {
		t.Fatalf("want a new ticket at the next cycle, first seen at the start; got %d", len(l.tickets))
	}
}
