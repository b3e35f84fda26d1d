package controllers

import (
	"context"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/observe"
	"invariant.dev/operator/controllers/verdict"
)

// neverBack is an Invariant about what must not go back: with a store each, or of the whole.
func neverBack(s *v1alpha1.InvariantSpec) {
	s.Expression, s.Message = "self.term >= oldSelf.term", "'term went from ' + string(oldSelf.term) + ' to ' + string(self.term)"
	s.Snapshot = nil
}

func neverFewer(s *v1alpha1.InvariantSpec) {
	neverBack(s)
	s.StoreID, s.Expression, s.Message = "", "self.size() * 2 >= oldSelf.size()", ""
}

func TestWhatMustNotGoBackIsComparedWithTheLastGoodObservation(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.source.setTerm("1", 7)
	b.invariant("term", neverBack)
	b.reconcile()
	if ready, satisfied := b.conditions("term"); ready.Reason != reasonAnswering || satisfied != "Unknown" {
		t.Errorf("at the first reading, Ready is %+v and Satisfied %s", ready, satisfied)
	}
	b.source.setTerm("1", 8)
	b.cycle()
	if _, satisfied := b.conditions("term"); satisfied != "True" {
		t.Errorf("a term that grew: Satisfied is %s", satisfied)
	}
	// What nobody saw in between is passed over.
	b.source.fail(closeHalfWay)
	b.source.setTerm("1", 3)
	b.cycle()
	b.wantTickets()
	b.source.fail(nil)
	b.cycle()
	if v := b.wantTickets(v1alpha1.Open)[0].Spec.Violations; len(v) != 1 || v[0].StoreID != "1" || v[0].Message != "term went from 8 to 3" {
		t.Errorf("the violations are %+v", v)
	}
	// The step back is in the past, and the next check has 3 to compare with.
	b.cycle()
	b.wantTickets(v1alpha1.Resolved)
}

func TestAStepThatCouldNotBeWrittenDownIsFoundOnceMore(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.source.setTerm("1", 7)
	b.invariant("term", neverBack, func(s *v1alpha1.InvariantSpec) { s.ResolveAfter = seconds(3600) })
	b.reconcile()
	well := b.monitor.Client
	b.monitor.Client = interceptor.NewClient(watching{well}, interceptor.Funcs{
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return errCut },
	})
	b.source.setTerm("1", 3)
	b.cycle()
	found := b.clock.Now().Truncate(time.Second)
	b.wantTickets()
	b.monitor.Client = well
	b.source.setTerm("1", 4)
	b.cycle()
	v := b.wantTickets(v1alpha1.Open)[0].Spec.Violations
	if len(v) != 1 || v[0].Message != "term went from 7 to 4" || !v[0].FirstSeenTime.Go().Equal(found) {
		t.Errorf("the violations are %+v, want one that was first seen at %v", v, found)
	}
	// It is in a ticket now, and the next check has 4 to compare with.
	b.cycle()
	if e := b.wantTickets(v1alpha1.Open)[0].Status.Violations[0]; e.SatisfiedSinceTime == nil {
		t.Errorf("the entry is %+v, want it to be satisfied", e)
	}
}

func TestAStepThatIsWrittenLastsOneCheckThoughAnotherTicketIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.source.set("2", "Down")
	b.source.setTerm("1", 7)
	b.invariant("up")
	b.invariant("term", neverBack)
	b.reconcile()
	b.wantTickets(v1alpha1.Open)
	b.monitor.Client = interceptor.NewClient(watching{b.monitor.Client}, interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if _, isTicket := o.(*v1alpha1.Ticket); isTicket && o.GetName() == "sys-1" {
				return errCut
			}
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
	b.source.set("2", "Up")
	b.source.setTerm("1", 3)
	b.cycle()
	b.wantTickets(v1alpha1.Open, v1alpha1.Open)
	b.cycle()
	b.wantTickets(v1alpha1.Open, v1alpha1.Resolved)
}

func TestARestartForgetsWhatWasBeforeAndResolvesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.source.setTerm("1", 7)
	b.invariant("term", neverBack, func(s *v1alpha1.InvariantSpec) { s.ResolveAfter = seconds(60) })
	b.reconcile()
	b.source.setTerm("1", 2)
	b.cycle()
	b.wantTickets(v1alpha1.Open)
	b.restart()
	b.source.setTerm("2", -1)
	b.cycle()
	b.wantTickets(v1alpha1.Open)
	if satisfied := v1alpha1.FindCondition(b.getInvariant("term").Status.Conditions, v1alpha1.ConditionSatisfied); satisfied.Reason != string(verdict.FirstReading) {
		t.Errorf("after a restart, Satisfied is %+v", satisfied)
	}
	for range 3 {
		b.cycle()
	}
	b.wantTickets(v1alpha1.Resolved)
}

func TestATransitionOfTheWholeIsComparedToo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.source.set("4", "Up")
	b.invariant("stores", neverFewer)
	b.reconcile()
	b.wantTickets()
	b.source.remove("1")
	b.source.remove("2")
	b.cycle()
	b.wantTickets()
	b.source.remove("3")
	b.source.remove("4")
	b.source.set("5", "Up")
	b.cycle()
	b.wantTickets()
	b.source.set("1", "Up")
	b.source.set("2", "Up")
	b.cycle()
	b.source.remove("1")
	b.source.remove("2")
	b.cycle()
	b.wantTickets(v1alpha1.Open)
}

func TestWithoutRoomForWhatWasBeforeNothingIsComparedAndTheInvariantSaysSo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.monitor.retained = observe.NewBudget(100, 100)
	b.source.setTerm("1", 7)
	b.invariant("term", neverBack)
	b.invariant("up")
	b.reconcile()
	b.source.setTerm("1", 2)
	b.cycle()
	b.wantTickets()
	if ready, satisfied := b.conditions("term"); ready.Reason != string(verdict.TooLarge) || satisfied != "Unknown" {
		t.Errorf("Ready is %+v, and Satisfied %s", ready, satisfied)
	}
	if ready, satisfied := b.conditions("up"); ready.Reason != reasonAnswering || satisfied != "True" {
		t.Errorf("of an Invariant that compares nothing, Ready is %+v, and Satisfied %s", ready, satisfied)
	}
}
