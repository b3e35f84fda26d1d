package ledger

import (
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// newLifeWithGrace is a life whose Invariant has an hour's grace period.
func newLifeWithGrace(t *testing.T) *life {
	l := newLife(t)
	l.policy.GracePeriod, l.policy.UnobservableAfter = time.Hour, 15*time.Minute
	return l
}

// wantNew wants so many tickets, the newest of which says that its violation was first seen so long after the start.
func (l *life) wantNew(tickets int, firstSeen time.Duration) {
	l.t.Helper()
	if len(l.tickets) != tickets {
		l.t.Fatalf("%v after the start there are %d tickets, want %d", l.now.Sub(epoch), len(l.tickets), tickets)
	}
	if first := l.last().Spec.Violations[0].FirstSeenTime.Go().Sub(epoch); first != firstSeen {
		l.t.Errorf("first seen %v after the start, want %v", first, firstSeen)
	}
}

func TestWhatAResolveByHandLeftViolatedKeepsItsAgeThoughNothingIsKnownOfItForALook(t *testing.T) {
	for name, blind := range map[string]*verdict.Judgement{
		"of the store": {Verdicts: []verdict.Verdict{{StoreID: "1", Fault: noAnswer}}},
		"at all":       {Fault: noAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLifeWithGrace(t)
			l.after(0, true)
			l.after(time.Hour, true)
			l.wantNew(1, 0)
			l.last().Status.State = v1alpha1.Resolved
			l.look(30*time.Second, blind)
			l.look(30*time.Second, blind)
			l.after(30*time.Second, true)
			l.wantNew(2, 0)
		})
	}
}

func TestUnobservableCountsFromBeforeTheResolveByHand(t *testing.T) {
	l := newLifeWithGrace(t)
	blind := &verdict.Judgement{Verdicts: []verdict.Verdict{{StoreID: "1", Fault: noAnswer}}}
	l.after(0, true)
	l.after(time.Hour, true)
	l.look(time.Minute, blind)
	l.last().Status.State = v1alpha1.Resolved
	l.look(14*time.Minute, blind)
	l.wantNew(1, 0)
	l.look(time.Minute, blind)
	l.wantNew(2, 61*time.Minute)
}

func TestAGracePeriodThatACrashLeftInATicketAloneGoesOnThoughMemoryKnowsOfATimeBefore(t *testing.T) {
	l := newLifeWithGrace(t)
	l.look(0, stores(verdict.Violated, "1"))
	l.look(time.Hour, stores(verdict.Violated, "1", "2"))
	l.wantNew(1, 0)
	// What was written last is that nothing was known of store 2.
	l.memory = map[string]Memory{l.policy.Name: {Stores: map[string]Timer{"2": {UnknownSince: epoch}}}}
	l.look(30*time.Second, stores(verdict.Violated, "1", "2"))
	l.look(59*time.Minute+30*time.Second, stores(verdict.Violated, "1", "2"))
	if l.last().Status.Violations[1].Pending {
		t.Errorf("it does not count after its grace period: %+v", l.last().Status.Violations[1])
	}
}

func TestAGracePeriodThatACrashLeftInATicketAloneGoesOnAfterLooksThatKnewNothingAtAll(t *testing.T) {
	l := newLifeWithGrace(t)
	l.look(0, stores(verdict.Violated, "1"))
	l.look(time.Hour, stores(verdict.Violated, "1", "2"))
	l.wantNew(1, 0)
	l.memory, l.policy.UnobservableAfter = nil, 24*time.Hour
	for range 60 {
		l.look(time.Minute, &verdict.Judgement{Fault: noAnswer})
	}
	l.look(time.Minute, stores(verdict.Violated, "1", "2"))
	if v := l.last().Status.Violations[1]; !v.Pending {
		t.Errorf("it counts, although it was seen at two looks only: %+v", v)
	}
}

func TestAGracePeriodThatACrashLeftInATicketAloneGoesOnAfterALookThatKnewNothing(t *testing.T) {
	l := newLifeWithGrace(t)
	both := func(one, two verdict.Truth) *verdict.Judgement {
		return &verdict.Judgement{Verdicts: []verdict.Verdict{{StoreID: "1", Truth: one, Message: "down"}, {StoreID: "2", Truth: two, Message: "down"}}}
	}
	l.look(0, both(verdict.Violated, verdict.Satisfied))
	l.look(time.Hour, both(verdict.Violated, verdict.Violated))
	l.wantNew(1, 0)
	// The ticket took store 2 along, and nothing else was written.
	l.memory = nil
	l.look(30*time.Second, both(verdict.Violated, verdict.Unknown))
	l.look(30*time.Second, both(verdict.Violated, verdict.Violated))
	pending := func() bool { return l.last().Status.Violations[1].Pending }
	l.look(59*time.Minute, both(verdict.Violated, verdict.Violated))
	if !pending() {
		t.Error("it counts, although half a minute of the hour was Unknown")
	}
	l.look(30*time.Second, both(verdict.Violated, verdict.Violated))
	if pending() {
		t.Error("it does not count after an hour in which it was known to be violated")
	}
}

func TestWhatAResolveByHandLeftViolatedOpensAtOnceThoughItsTicketIsOfAClockThatRanAhead(t *testing.T) {
	l := newLifeWithGrace(t)
	l.policy.GracePeriod = 0
	l.after(time.Hour, true)
	l.wantNew(1, time.Hour)
	l.last().Status.State = v1alpha1.Resolved
	l.after(-2*time.Minute, true)
	l.wantNew(2, 58*time.Minute)
}

func TestAGracePeriodThatACrashLeftInATicketAloneBeginsAtOnceThoughTheTicketIsOfAClockThatRanAhead(t *testing.T) {
	l := newLifeWithGrace(t)
	l.look(0, stores(verdict.Violated, "1"))
	l.look(time.Hour, stores(verdict.Violated, "1", "2"))
	l.wantNew(1, 0)
	l.memory = nil
	l.look(-2*time.Minute, stores(verdict.Violated, "1", "2"))
	l.look(time.Hour, stores(verdict.Violated, "1", "2"))
	if v := l.last().Status.Violations[1]; v.Pending {
		t.Errorf("it does not count a grace period after the look that found it by the right clock: %+v", v)
	}
}

func TestAStoreOfATicketThatStaysUnknownIsUnobservableInTimeAlsoWhereNothingIsKnownAfterIt(t *testing.T) {
	l := newLife(t)
	l.policy.UnobservableAfter = 2 * time.Minute
	l.after(0, true)
	blind := &verdict.Judgement{Verdicts: []verdict.Verdict{{StoreID: "1", Fault: noAnswer}}}
	l.look(time.Minute, blind)
	l.look(time.Minute, blind)
	l.wantNew(1, 0)
	l.look(time.Minute, &verdict.Judgement{Fault: noAnswer})
	l.wantNew(2, time.Minute)
}

// unwritten runs a look so much later of which nothing is written.
func (l *life) unwritten(d time.Duration, judgement *verdict.Judgement) {
	l.now = l.now.Add(d)
	policy := l.policy
	policy.Judgement = judgement
	plan := Decide(Cycle{Now: l.now, Monitor: "m", Invariants: map[string]Invariant{policy.Name: policy}}, l.memory, l.tickets)
	for _, u := range plan.Updates {
		plan.Unwritten(u, l.memory, l.now)
	}
	l.memory = plan.Memory
}

func TestAGracePeriodThatOnlyItsTicketKnowsIsNotStartedOverWhereItsEndCannotBeWritten(t *testing.T) {
	l := newLifeWithGrace(t)
	l.look(0, stores(verdict.Violated, "1"))
	l.look(time.Hour, stores(verdict.Violated, "1", "2"))
	l.memory = map[string]Memory{}
	l.unwritten(time.Hour, stores(verdict.Violated, "1", "2"))
	l.look(30*time.Second, stores(verdict.Violated, "1", "2"))
	if v := l.last().Status.Violations[1]; v.Pending {
		t.Errorf("it does not count: %+v", v)
	}
}

func TestWhatBeganToCountAndCouldNotBeWrittenHasNotBeenWellSinceBefore(t *testing.T) {
	l := newLifeWithGrace(t)
	l.policy.ResolveAfter = 5 * time.Minute
	second := func(truth verdict.Truth) *verdict.Judgement {
		return &verdict.Judgement{Verdicts: append(stores(verdict.Violated, "1").Verdicts, stores(truth, "2").Verdicts...)}
	}
	l.look(0, stores(verdict.Violated, "1"))
	l.look(time.Hour, second(verdict.Violated))
	l.look(58*time.Minute, second(verdict.Satisfied))
	l.unwritten(2*time.Minute, second(verdict.Violated))
	l.look(3*time.Minute, second(verdict.Satisfied))
	l.look(30*time.Second, second(verdict.Violated))
	if v := l.last().Status.Violations[1]; v.Pending || !v.Active {
		t.Errorf("it does not count: %+v", v)
	}
}
