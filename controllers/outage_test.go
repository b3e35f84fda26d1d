package controllers

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"invariant.dev/operator/api/v1alpha1"
)

// refuseReads makes the API server answer no read, while the caches go on.
func (b *bench) refuseReads() {
	b.monitor.Live = interceptor.NewClient(watching{b.live}, interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return errCut
		},
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return errCut },
	})
}

// firstSeenBefore is how many intervals before its opening a ticket's first violation was first seen.
func firstSeenBefore(ticket v1alpha1.Ticket) int {
	return int(ticket.Spec.OpenedTime.Go().Sub(ticket.Spec.Violations[0].FirstSeenTime.Go()) / DefaultInterval)
}

func TestWhatIsSeenWhileNothingCanBeReadKeepsItsTrueAge(t *testing.T) {
	t.Parallel()
	for name, vanish := range map[string]func(*bench, *v1alpha1.Ticket){
		"a ticket resolved":         func(b *bench, _ *v1alpha1.Ticket) {},
		"somebody deleted a ticket": func(b *bench, ticket *v1alpha1.Ticket) { must(b.t, b.api.Delete(b.ctx, ticket)) },
		"its Invariant was deleted": func(b *bench, _ *v1alpha1.Ticket) { must(b.t, b.api.Delete(b.ctx, b.getInvariant("other"))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.invariant("store-up")
			b.invariant("other", func(s *v1alpha1.InvariantSpec) { s.Expression = "self.id != '1' || self.state == 'Up'" })
			b.source.set("1", "Down")
			b.cycle()
			first := b.wantTickets(v1alpha1.Open)[0]
			if name == "a ticket resolved" {
				b.source.set("1", "Up")
				b.cycle()
			}
			b.settle()
			vanish(b, &first)
			b.refuseReads()
			b.source.set("2", "Down")
			for range 3 {
				b.cycle()
			}
			b.monitor.Live = b.live
			b.cycle()
			newest := b.list()[len(b.list())-1]
			for _, v := range newest.Spec.Violations {
				if v.StoreID != "2" {
					continue
				}
				if age := int(newest.Spec.OpenedTime.Go().Sub(v.FirstSeenTime.Go()) / DefaultInterval); age != 3 {
					t.Errorf("it is said to be first seen %d intervals before its ticket, want 3", age)
				}
				return
			}
			t.Errorf("the newest ticket holds %+v", newest.Spec.Violations)
		})
	}
}

func TestATicketThatIsDeletedWhileNothingCanBeReadIsReplacedWithItsTrueAge(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Open)[0]
	must(t, b.api.Delete(b.ctx, &ticket))
	b.refuseReads()
	b.cycle()
	b.wantTickets()
	b.monitor.Live = b.live
	b.cycle()
	if age := firstSeenBefore(b.wantTickets(v1alpha1.Open)[0]); age != 2 {
		t.Errorf("it is said to be first seen %d intervals before its ticket, want 2", age)
	}
}

func TestWhileNothingCanBeReadWhatClearedResolves(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	b.settle()
	b.refuseReads()
	b.source.set("1", "Up")
	b.source.set("2", "Down")
	b.cycle()
	b.wantTickets(v1alpha1.Resolved)
}

// backUnwritten lets store 1 break, and break again under a hold while no status can be written for four cycles. It returns the ticket
// that opens when somebody has resolved the first.
func (b *bench) backUnwritten() v1alpha1.Ticket {
	b.t.Helper()
	b.source.set("1", "Down")
	b.cycle()
	name := b.wantTickets(v1alpha1.Open)[0].Name
	b.annotate(name, v1alpha1.HoldAnnotation, "true")
	b.source.set("1", "Up")
	b.cycle()
	b.settle()
	b.source.set("1", "Down")
	b.monitor.Client = interceptor.NewClient(watching{b.cache}, interceptor.Funcs{
		SubResourcePatch: func(context.Context, client.Client, string, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
			return errCut
		},
	})
	for range 4 {
		b.cycle()
	}
	must(b.t, b.patchStatus(name, `{"state":"Resolved","resolution":{"by":"ana"}}`))
	b.monitor.Client = b.cache
	b.cycle()
	return b.wantTickets(v1alpha1.Resolved, v1alpha1.Open)[1]
}

func TestWhatBeginsToCountWhileNothingCanBeWrittenKeepsItsTrueAge(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.invariant("store-up-for-long", func(s *v1alpha1.InvariantSpec) { s.GracePeriod = seconds(60) })
	ticket := b.backUnwritten()
	for _, v := range ticket.Spec.Violations {
		if age := ticket.Spec.OpenedTime.Go().Sub(v.FirstSeenTime.Go()); age != 4*DefaultInterval {
			t.Errorf("%s is said to be first seen %s before its ticket, want %s", v.Invariant, age, 4*DefaultInterval)
		}
	}
	if len(ticket.Spec.Violations) != 2 {
		t.Errorf("the ticket is about %+v, want both", ticket.Spec.Violations)
	}
}

func TestWhatCameBackWhileNothingCouldBeWrittenKeepsItsTrueAge(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	if age := firstSeenBefore(b.backUnwritten()); age != 4 {
		t.Errorf("it is said to be first seen %d intervals before its ticket, want 4", age)
	}
}

func TestWhatIsRefusedIsTriedOnceInACycle(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	tries := 0
	b.writer = func(c client.Client) client.Client {
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			SubResourcePatch: func(_ context.Context, _ client.Client, _ string, object client.Object, _ client.Patch, _ ...client.SubResourcePatchOption) error {
				if _, isTicket := object.(*v1alpha1.Ticket); isTicket {
					tries++
				}
				return errCut
			},
		})
	}
	b.restart()
	for range 3 {
		b.cycle()
	}
	if tries != 3 {
		t.Errorf("3 cycles tried %d times to write the ticket", tries)
	}
}

func TestAWriteThatIsNotAnsweredHoldsUpTheNextLookForAnIntervalAtMost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up", func(s *v1alpha1.InvariantSpec) {
		s.Interval = &v1alpha1.Duration{Duration: metav1.Duration{Duration: time.Second}}
		s.Source.HTTP.Timeout = &v1alpha1.Duration{Duration: metav1.Duration{Duration: 100 * time.Millisecond}}
	})
	b.source.set("1", "Down")
	b.writer = func(c client.Client) client.Client {
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			Create: func(ctx context.Context, _ client.WithWatch, _ client.Object, _ ...client.CreateOption) error {
				<-ctx.Done()
				return ctx.Err()
			},
		})
	}
	b.restart()
	began := time.Now()
	b.reconcile()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the cycle took %s", took)
	}
}

func TestAHoldThatCouldNotBeMadeVisibleIsTriedAgainSoon(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Open)[0]
	b.writer = func(c client.Client) client.Client {
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			SubResourcePatch: func(context.Context, client.Client, string, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
				return errCut
			},
		})
	}
	b.restart()
	must(t, b.api.Patch(b.ctx, &ticket, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"operator/hold":"true"}}}`))))
	b.settle()
	result, err := b.tender.Reconcile(b.ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&ticket)})
	if err != nil || result.RequeueAfter <= 0 || result.RequeueAfter > refusedRetry {
		t.Errorf("it is tried again after %s, with the error %v", result.RequeueAfter, err)
	}
}
