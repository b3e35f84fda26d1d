package controllers

import (
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
)

func TestRule1UnknownResolvesAndOpensNothing(t *testing.T) {
	failures := map[string]http.HandlerFunc{
		"a source that answers 500":            answers(http.StatusInternalServerError),
		"a source that answers HTML":           func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello</html>")) },
		"a source that lists no stores":        func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"stores":[]}`)) },
		"a source that closes half way":        closeHalfWay,
		"a source whose stores have no state":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"stores":[{"id":"1"}]}`)) },
		"a source whose stores cannot be told": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"stores":[{"state":"Up"}]}`)) },
		"a source with one store listed half": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"stores":[{"state":"Up"},{"id":"2","state":"Up"}]}`))
		},
		"a source that answers another document": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`[]`)) },
	}
	for name, failure := range failures {
		t.Run(name+" leaves the ticket open and opens no other", func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.invariant("store-up", func(s *v1alpha1.InvariantSpec) { s.UnobservableAfter = seconds(600) })
			b.source.set("1", "Down")
			b.cycle()
			b.wantTickets(v1alpha1.Open)
			b.source.fail(failure)
			for range 3 {
				b.cycle()
			}
			b.wantTickets(v1alpha1.Open)
			satisfied := v1alpha1.FindCondition(b.getInvariant("store-up").Status.Conditions, v1alpha1.ConditionSatisfied)
			if satisfied.Status != metav1.ConditionUnknown {
				t.Errorf("Satisfied is %s, want Unknown", satisfied.Status)
			}
			b.source.fail(nil)
			b.source.set("1", "Up")
			b.cycle()
			b.wantTickets(v1alpha1.Resolved)
		})
	}
}

func closeHalfWay(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = w.Write([]byte(`{"stores":[`))
	panic(http.ErrAbortHandler)
}

func TestRule1NotSeeingForTooLongIsAViolationOfItsOwn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up", func(s *v1alpha1.InvariantSpec) { s.UnobservableAfter = seconds(60) })
	b.source.fail(answers(http.StatusServiceUnavailable))
	b.cycle()
	b.cycle()
	b.wantTickets()
	b.cycle()
	tickets := b.wantTickets(v1alpha1.Open)
	v := tickets[0].Spec.Violations
	if len(v) != 1 || v[0].Reason != v1alpha1.Unobservable || v[0].StoreID != "" || !strings.Contains(v[0].Message, "503") {
		t.Errorf("want one violation Unobservable with its cause, got %+v", v)
	}
	b.restart()
	b.cycle()
	b.wantTickets(v1alpha1.Open)
	b.source.fail(nil)
	b.cycle()
	b.wantTickets(v1alpha1.Resolved)
}

func TestRule1UnknownHoldsAGracePeriodWhereItIs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up", func(s *v1alpha1.InvariantSpec) { s.GracePeriod, s.UnobservableAfter = seconds(90), seconds(3600) })
	b.source.set("1", "Down")
	b.cycle()
	b.cycle()
	b.source.fail(answers(http.StatusBadGateway))
	for range 10 {
		b.cycle()
	}
	b.wantTickets()
	b.source.fail(nil)
	b.cycle()
	b.wantTickets()
	b.cycle()
	b.wantTickets(v1alpha1.Open)
}

func TestRule2InvariantsOfASystemShareOneLookAndOneMoment(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, name := range []string{"a", "b", "c"} {
		b.invariant(name)
	}
	b.reconcile()
	before := b.source.gets.Load()
	b.source.set("1", "Down")
	b.cycle()
	if gets := b.source.gets.Load() - before; gets != 1 {
		t.Errorf("the source was read %d times in a cycle, want once", gets)
	}
	if tickets := b.wantTickets(v1alpha1.Open); len(tickets[0].Spec.Violations) != 3 {
		t.Errorf("want one ticket with three violations, got %+v", tickets[0].Spec.Violations)
	}
}

func TestRule2ANewInvariantIsJudgedAtOnceAndNothingElseIs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("old")
	b.cycle()
	b.source.set("1", "Down")
	b.clock.Step(time.Second)
	b.invariant("new")
	b.reconcile()
	tickets := b.wantTickets(v1alpha1.Open)
	if v := tickets[0].Spec.Violations; len(v) != 1 || v[0].Invariant != "new" {
		t.Errorf("want a ticket for the new invariant alone, got %+v", v)
	}
}

func TestRule3OneOpenTicketForAViolation(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	for range 4 {
		b.cycle()
	}
	ticket := b.wantTickets(v1alpha1.Open)[0]
	if ticket.Status.Occurrences != 4 || ticket.Status.Violations[0].Occurrences != 4 {
		t.Errorf("four cycles saw it, but the ticket counts %d and the violation %d", ticket.Status.Occurrences, ticket.Status.Violations[0].Occurrences)
	}
	if !ticket.Status.LastSeenTime.Go().Equal(b.clock.Now().Truncate(time.Second)) {
		t.Errorf("last seen %v, want this cycle's time", ticket.Status.LastSeenTime)
	}
	if got := ticket.Spec.Violations[0]; got.Message != "store 1 is Down" || len(got.Snapshot) != 1 || got.Snapshot[0].Value != "Down" {
		t.Errorf("want the message and the evidence of the moment, got %+v", got)
	}
	b.source.set("2", "Down")
	b.cycle()
	second := b.wantTickets(v1alpha1.Open, v1alpha1.Open)[1]
	if len(second.Spec.Violations) != 1 || second.Spec.Violations[0].StoreID != "2" {
		t.Errorf("want a second ticket for what is new alone, got %+v", second.Spec.Violations)
	}
}

func TestRule3ATicketTakesAlongWhatIsInItsGracePeriod(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("slow", func(s *v1alpha1.InvariantSpec) { s.GracePeriod, s.Severity = seconds(60), v1alpha1.Warning })
	b.invariant("sudden", func(s *v1alpha1.InvariantSpec) { s.Severity = v1alpha1.Info })
	b.source.set("1", "Down")
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Open)[0]
	if v := ticket.Spec.Violations; len(v) != 2 || !v[0].Pending || v[1].Pending {
		t.Fatalf("want slow taken along as pending, and sudden, got %+v", v)
	}
	if ticket.Status.Severity != v1alpha1.Info || ticket.Status.Summary != "sudden(1)" {
		t.Errorf("what is pending does not count, but the ticket is %s: %s", ticket.Status.Severity, ticket.Status.Summary)
	}
	b.restart()
	b.cycle()
	b.cycle()
	ticket = b.wantTickets(v1alpha1.Open)[0]
	if ticket.Status.Severity != v1alpha1.Warning || ticket.Status.Summary != "slow(1), sudden(1)" {
		t.Errorf("after its grace period it counts, but the ticket is %s: %s", ticket.Status.Severity, ticket.Status.Summary)
	}
	b.source.set("1", "Up")
	b.cycle()
	b.wantTickets(v1alpha1.Resolved)
}

func TestRule3WhatClearsInsideItsGracePeriodLeavesNoMark(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("slow", func(s *v1alpha1.InvariantSpec) {
		s.GracePeriod, s.Expression, s.Severity = seconds(90), "self.id != '2' || self.state == 'Up'", v1alpha1.Critical
	})
	b.invariant("sudden", func(s *v1alpha1.InvariantSpec) {
		s.Expression, s.Severity = "self.id != '1' || self.state == 'Up'", v1alpha1.Info
	})
	b.source.set("1", "Down")
	b.source.set("2", "Down")
	b.cycle()
	b.source.set("2", "Up")
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Open)[0]
	if ticket.Status.Severity != v1alpha1.Info || ticket.Status.Summary != "sudden(1)" {
		t.Errorf("what cleared in its grace period counts: %s %s", ticket.Status.Severity, ticket.Status.Summary)
	}
	b.source.set("1", "Up")
	b.cycle()
	b.wantTickets(v1alpha1.Resolved)
}

func TestRule4ANewViolationOpensANewTicketAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	b.source.set("1", "Up")
	b.cycle()
	b.source.set("1", "Down")
	b.cycle()
	tickets := b.wantTickets(v1alpha1.Resolved, v1alpha1.Open)
	if tickets[1].Spec.Previous != tickets[0].Name {
		t.Errorf("the new ticket names %q as the one before it, want %s", tickets[1].Spec.Previous, tickets[0].Name)
	}
}

func TestRule4WhatAManualResolveLeftViolatedOpensAgainWithItsTrueAge(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up", func(s *v1alpha1.InvariantSpec) { s.GracePeriod = seconds(60) })
	b.source.set("1", "Down")
	for range 3 {
		b.cycle()
	}
	first := b.wantTickets(v1alpha1.Open)[0]
	must(t, b.patchStatus(first.Name, `{"state":"Resolved","resolution":{"by":"ana","reason":"Manual"}}`))
	b.restart()
	b.cycle()
	tickets := b.wantTickets(v1alpha1.Resolved, v1alpha1.Open)
	if got, want := tickets[1].Spec.Violations[0].FirstSeenTime, first.Spec.Violations[0].FirstSeenTime; !got.Go().Equal(want.Go()) {
		t.Errorf("first seen %v, want the true %v", got, want)
	}
	if tickets[1].Spec.Previous != first.Name {
		t.Errorf("the new ticket names %q as the one before it, want %s", tickets[1].Spec.Previous, first.Name)
	}
}

func TestRule4WhatIsMendedAfterAManualResolveStartsAnew(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up", func(s *v1alpha1.InvariantSpec) { s.GracePeriod = seconds(60) })
	b.source.set("1", "Down")
	for range 3 {
		b.cycle()
	}
	must(t, b.patchStatus(b.wantTickets(v1alpha1.Open)[0].Name, `{"state":"Resolved","resolution":{"by":"ana"}}`))
	b.source.set("1", "Up")
	b.cycle()
	b.source.set("1", "Down")
	b.cycle()
	b.wantTickets(v1alpha1.Resolved)
}

func TestRule5AHeldTicketStaysOpenUntilItIsReleased(t *testing.T) {
	for _, value := range []string{"true", "ana", "yes", "TRUE"} {
		t.Run("held by "+value, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.invariant("store-up")
			b.source.set("1", "Down")
			b.cycle()
			name := b.wantTickets(v1alpha1.Open)[0].Name
			b.annotate(name, v1alpha1.HoldAnnotation, value)
			b.source.set("1", "Up")
			b.cycle()
			b.cycle()
			ticket := b.wantTickets(v1alpha1.Open)[0]
			if held := v1alpha1.FindCondition(ticket.Status.Conditions, v1alpha1.ConditionHeld); held == nil || held.Status != metav1.ConditionTrue {
				t.Errorf("the ticket does not say that it is held: %+v", ticket.Status.Conditions)
			}
			b.annotate(name, v1alpha1.HoldAnnotation, "")
			b.cycle()
			b.wantTickets(v1alpha1.Resolved)
		})
	}
}

func TestRule5WhatHoldsNothing(t *testing.T) {
	for _, value := range []string{"false", "no", "0", "False", " "} {
		t.Run("the value "+value, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.invariant("store-up")
			b.source.set("1", "Down")
			b.cycle()
			b.annotate(b.wantTickets(v1alpha1.Open)[0].Name, v1alpha1.HoldAnnotation, value)
			b.source.set("1", "Up")
			b.cycle()
			b.wantTickets(v1alpha1.Resolved)
		})
	}
}

func TestRule5APersonsResolveWinsOverAHold(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	name := b.wantTickets(v1alpha1.Open)[0].Name
	b.annotate(name, v1alpha1.HoldAnnotation, "true")
	must(t, b.patchStatus(name, `{"state":"Resolved","resolution":{"by":"ana"}}`))
	b.wantTickets(v1alpha1.Resolved)
}

func TestRule6NoCheckTouchesAPersonsWords(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	name := b.wantTickets(v1alpha1.Open)[0].Name
	must(t, b.patchStatus(name, `{"state":"Diagnosed","acknowledgement":{"by":"ana"},"diagnosis":{"by":"ben","text":"the disk is full"}}`))
	b.cycle()
	b.source.set("1", "Up")
	b.cycle()
	status := b.wantTickets(v1alpha1.Resolved)[0].Status
	if status.Acknowledgement.By != "ana" || status.Diagnosis.Text != "the disk is full" || status.Occurrences != 2 {
		t.Errorf("want ana's and ben's words and two occurrences, got %+v", status)
	}
}

func TestRule8ARestartStartsNoTimerOver(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up", func(s *v1alpha1.InvariantSpec) { s.GracePeriod, s.ResolveAfter = seconds(90), seconds(90) })
	b.source.set("1", "Down")
	for range 3 {
		b.cycle()
		b.restart()
	}
	b.wantTickets()
	b.cycle()
	first := b.wantTickets(v1alpha1.Open)[0]
	if age := first.Spec.OpenedTime.Go().Sub(first.Spec.Violations[0].FirstSeenTime.Go()); age != 90*time.Second {
		t.Errorf("first seen %v before the ticket opened, want 1m30s", age)
	}
	b.source.set("1", "Up")
	for range 3 {
		b.cycle()
		b.restart()
	}
	b.wantTickets(v1alpha1.Open)
	b.cycle()
	b.wantTickets(v1alpha1.Resolved)
}

func TestRule12ACycleInWhichAllIsWellWritesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.cycle()
	before := b.getInvariant("store-up").ResourceVersion
	for range 5 {
		b.cycle()
	}
	if after := b.getInvariant("store-up").ResourceVersion; after != before {
		t.Errorf("five quiet cycles wrote to the Invariant")
	}
	for range 6 {
		b.cycle()
	}
	if after := b.getInvariant("store-up").ResourceVersion; after == before {
		t.Errorf("after five minutes lastCheckTime is not written")
	}
}

func TestRule13WhileItIsMutedAnInvariantOpensNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	invariant := b.invariant("store-up", func(s *v1alpha1.InvariantSpec) { s.GracePeriod = seconds(30) })
	invariant.Annotations = map[string]string{v1alpha1.MuteUntilAnnotation: start.Add(5 * time.Minute).Format(time.RFC3339)}
	must(t, b.api.Update(b.ctx, invariant))
	b.source.set("1", "Down")
	for b.clock.Now().Before(start.Add(270 * time.Second)) {
		b.cycle()
	}
	b.wantTickets()
	b.cycle()
	b.cycle()
	if v := b.wantTickets(v1alpha1.Open)[0].Spec.Violations[0]; v.FirstSeenTime.Go().After(start.Add(time.Minute)) {
		t.Errorf("first seen %v, want the time under the mute", v.FirstSeenTime)
	}
}
