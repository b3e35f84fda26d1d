package controllers

import (
	"context"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/observe"
)

// nextLook is look at the next tick.
func (b *bench) nextLook() reconcile.Request {
	b.t.Helper()
	b.clock.SetTime(nextTick(b.clock.Now(), DefaultInterval, phase(b.namespace, b.system)))
	return b.look()
}

func TestAnObservationOlderThanAnIntervalWritesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	// The monitor is paused between its look and its first write.
	b.writer = func(c client.Client) client.Client {
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if b.looking() {
					b.clock.Step(DefaultInterval + observe.DefaultTimeout + 1)
				}
				return c.List(ctx, list, opts...)
			},
		})
	}
	b.restart()
	b.cycle()
	b.wantTickets()
	if checked := b.getInvariant("store-up").Status.LastCheckTime; checked != nil {
		t.Errorf("the Invariant is said to be checked at %v", checked)
	}
}

func TestWhatIsSeenTooLateToBeWrittenKeepsItsTrueAge(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.reconcileNext()
	b.source.set("2", "Down")
	woken := b.nextLook()
	b.clock.Step(DefaultInterval + observe.DefaultTimeout + 1)
	b.once(woken)
	b.wantTickets(v1alpha1.Open)
	b.cycle()
	if age := firstSeenBefore(b.wantTickets(v1alpha1.Open, v1alpha1.Open)[1]); age != 1 {
		t.Errorf("it is said to be first seen %d intervals before its ticket, want 1", age)
	}
}

func TestAMonitorPausedAfterItOpenedATicketReportsNothingOfWhatItSaw(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	paused, reports := meanwhile(func(client.Object) { b.clock.Step(2 * DefaultInterval) }), 0
	b.writer = func(c client.Client) client.Client {
		return interceptor.NewClient(watching{paused(c)}, interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				if _, isReport := o.(*v1alpha1.Invariant); isReport {
					reports++
				}
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		})
	}
	b.restart()
	b.once(b.look())
	b.wantTickets(v1alpha1.Open)
	if reports > 0 {
		t.Errorf("%d reports were tried", reports)
	}
}
