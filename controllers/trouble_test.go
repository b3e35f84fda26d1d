package controllers

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"invariant.dev/operator/api/v1alpha1"
)

func TestANameThatIsTakenByAnotherSystemsTicketIsSkippedHoweverManyThereAre(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	for i := range 2 * maxAttempts {
		ticket := b.leftViolated(v1alpha1.TicketName(testSystem, i+1))
		ticket.Spec.System = "other"
		must(t, b.api.Create(b.ctx, ticket))
	}
	b.cycle()
	var ticket v1alpha1.Ticket
	must(t, b.api.Get(b.ctx, client.ObjectKey{Namespace: b.namespace, Name: v1alpha1.TicketName(testSystem, 2*maxAttempts+1)}, &ticket))
	if v := ticket.Spec.Violations; len(v) != 1 || v[0].Invariant != "store-up" {
		t.Errorf("%s holds %+v", ticket.Name, v)
	}
}

func TestATicketMadeByHandWithTheHighestNumberThatCountsKeepsNoOtherFromOpening(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sys-1000000000000000", "sys-1000000000000001", "sys-9223372036854775807"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.invariant("store-up")
			must(t, b.api.Create(b.ctx, b.leftViolated(name)))
			for i := range 2 * maxAttempts {
				b.source.set(fmt.Sprint(i), "Down")
				b.cycle()
			}
			if opened := len(b.list()) - 1; opened != 2*maxAttempts {
				t.Errorf("%d tickets are open, want one for each of %d stores: %s", opened, 2*maxAttempts, b.dump())
			}
		})
	}
}

func TestACycleThatPanicsIsRunAgainAndLosesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.writer = func(c client.Client) client.Client {
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { panic("a bug") },
		})
	}
	b.restart()
	result, err := b.monitor.Reconcile(b.ctx, b.look())
	if err != nil || result.RequeueAfter <= 0 {
		t.Errorf("after a panic the cycle is run again after %v, with the error %v", result.RequeueAfter, err)
	}
	b.monitor.Client = b.cache
	b.cycle()
	b.wantTickets(v1alpha1.Open)
}

func TestReportsOfOneSystemLeaveOthersTheirTurn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, name := range []string{"one", "two", "three"} {
		b.invariant(name)
	}
	b.writer = func(c client.Client) client.Client {
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				b.clock.Step(reportTime)
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		})
	}
	b.restart()
	b.reconcile()
	for want := 1; want <= 3; want++ {
		written := 0
		for _, name := range []string{"one", "two", "three"} {
			if b.getInvariant(name).Status.LastCheckTime != nil {
				written++
			}
		}
		if written != want {
			t.Errorf("after %d turns %d reports are written", want, written)
		}
		result, err := b.monitor.Reconcile(b.ctx, reconcile.Request{NamespacedName: b.key()})
		must(t, err)
		if soon := result.RequeueAfter <= reportRetry; soon != (want == 1) {
			t.Errorf("after %d turns and one more, the next comes in %v", want, result.RequeueAfter)
		}
	}
}

func TestWhatOneTicketIsRefusedHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	b.source.set("1", "Up")
	b.source.set("2", "Down")
	b.writer = func(c client.Client) client.Client {
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return errCut },
		})
	}
	b.restart()
	b.cycle()
	b.wantTickets(v1alpha1.Resolved)
	satisfied := v1alpha1.FindCondition(b.getInvariant("store-up").Status.Conditions, v1alpha1.ConditionSatisfied)
	if !strings.Contains(satisfied.Message, "violated by 2") {
		t.Errorf("the Invariant says %q while no ticket can be opened", satisfied.Message)
	}
	b.writer = nil
	b.restart()
	b.cycle()
	second := b.wantTickets(v1alpha1.Resolved, v1alpha1.Open)[1]
	if age := second.Spec.OpenedTime.Go().Sub(second.Spec.Violations[0].FirstSeenTime.Go()); age != DefaultInterval {
		t.Errorf("it was first seen %v before the ticket, want %v", age, DefaultInterval)
	}
}

func TestALaggingCacheResolvesNothingOnTheWayToOpening(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("hidden")
	b.source.set("1", "Down")
	b.cycle()
	b.invariant("seen", func(s *v1alpha1.InvariantSpec) { s.Expression = "self.id != '2' || self.state == 'Up'" })
	b.source.set("2", "Down")
	b.settle()
	// The new leader's cache has neither the first Invariant nor its ticket.
	b.writer = func(c client.Client) client.Client {
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if err := c.List(ctx, list, opts...); err != nil {
					return err
				}
				switch l := list.(type) {
				case *v1alpha1.InvariantList:
					l.Items = slices.DeleteFunc(slices.Clone(l.Items), func(i v1alpha1.Invariant) bool { return i.Name == "hidden" })
				case *v1alpha1.TicketList:
					l.Items = nil
				}
				return nil
			},
		})
	}
	b.restart()
	b.cycle()
	b.wantTickets(v1alpha1.Open, v1alpha1.Open)
}

func TestACycleThatCannotBeSureWhatExistsWaitsForTheNextTick(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	gone := b.invariant("gone")
	b.source.set("1", "Down")
	b.cycle()
	must(t, b.api.Delete(b.ctx, gone))
	b.refuseReads()
	b.cycle()
	if b.looking() {
		t.Error("another look began at once")
	}
	b.wantTickets(v1alpha1.Open)
}

func TestALookThatOutlivesItsSystemIsDropped(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	invariant := b.invariant("store-up")
	b.settle()
	answer := make(chan struct{})
	b.source.fail(func(http.ResponseWriter, *http.Request) { <-answer })
	request := reconcile.Request{NamespacedName: b.key()}
	b.once(request)
	must(t, b.api.Delete(b.ctx, invariant))
	b.settle()
	b.once(request)
	close(answer)
	b.once(b.woken())
	if b.looking() {
		t.Error("the look is kept")
	}
}
