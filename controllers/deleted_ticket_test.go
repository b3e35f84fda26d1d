package controllers

import (
	"context"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"invariant.dev/operator/api/v1alpha1"
)

// graceful is a bench whose Invariant has a grace period of two intervals.
func graceful(t *testing.T) *bench {
	b := newBench(t)
	b.invariant("store-up", func(s *v1alpha1.InvariantSpec) { s.GracePeriod = seconds(60) })
	return b
}

// beforeList does something right before the monitor's first list, past the cache, of whole tickets or of their names.
func (b *bench) beforeList(whole bool, do func()) {
	done := false
	b.monitor.Live = interceptor.NewClient(watching{b.live}, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			_, tickets := list.(*v1alpha1.TicketList)
			_, names := list.(*metav1.PartialObjectMetadataList)
			if !done && (whole && tickets || !whole && names) {
				done = true
				do()
			}
			return c.List(ctx, list, opts...)
		},
	})
}

// freezeTickets lets the monitor's cache have the tickets as they are now.
func (b *bench) freezeTickets() {
	b.t.Helper()
	var now v1alpha1.TicketList
	must(b.t, b.cache.List(b.ctx, &now, client.InNamespace(b.namespace)))
	b.monitor.Client = interceptor.NewClient(watching{b.monitor.Client}, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if tickets, is := list.(*v1alpha1.TicketList); is {
				now.DeepCopyInto(tickets)
				return nil
			}
			return c.List(ctx, list, opts...)
		},
	})
}

func TestADeletedTicketThatTheLastCycleResolvedLeavesNoAge(t *testing.T) {
	t.Parallel()
	b := graceful(t)
	b.source.set("1", "Down")
	for range 3 {
		b.cycle()
	}
	b.source.set("1", "Up")
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Resolved)[0]
	must(t, b.api.Delete(b.ctx, &ticket))
	b.source.set("1", "Down")
	b.cycle()
	b.wantTickets()
}

func TestADeletedTicketKnewWhatBeganToCountInTheLastCycle(t *testing.T) {
	t.Parallel()
	b := graceful(t)
	b.source.set("1", "Down")
	b.cycle()
	b.cycle()
	b.source.set("2", "Down")
	b.cycle()
	first := b.wantTickets(v1alpha1.Open)[0].Spec.Violations[1].FirstSeenTime
	b.cycle()
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Open)[0]
	if ticket.Status.Violations[1].Pending {
		t.Fatal("store 2 does not count after its grace period")
	}
	must(t, b.api.Delete(b.ctx, &ticket))
	b.cycle()
	for _, v := range b.wantTickets(v1alpha1.Open)[0].Spec.Violations {
		if v.StoreID == "2" && (v.Pending || !v.FirstSeenTime.Go().Equal(first.Go())) {
			t.Errorf("store 2 is pending %t and first seen %v, want false and %v", v.Pending, v.FirstSeenTime, first)
		}
	}
}

func TestAResolvedTicketThatIsDeletedUnderACyclesHandsLeavesItsTrueAge(t *testing.T) {
	t.Parallel()
	b := graceful(t)
	b.source.set("1", "Down")
	for range 3 {
		b.cycle()
	}
	ticket := b.wantTickets(v1alpha1.Open)[0]
	must(t, b.patchStatus(ticket.Name, `{"state":"Resolved","resolution":{"by":"ana"}}`))
	b.beforeList(false, func() {
		must(t, b.api.Delete(b.ctx, &v1alpha1.Ticket{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: ticket.Name}}))
	})
	b.cycle()
	first := ticket.Spec.Violations[0].FirstSeenTime
	if got := b.wantTickets(v1alpha1.Open)[0].Spec.Violations[0].FirstSeenTime; !got.Go().Equal(first.Go()) {
		t.Errorf("first seen %v, want the true %v", got, first)
	}
}

func TestATicketThatIsResolvedWhileACycleReadsIsTheOneBeforeTheNext(t *testing.T) {
	t.Parallel()
	b := broken(t)
	b.source.set("2", "Down")
	b.beforeList(true, func() {
		b.freezeTickets()
		must(t, b.patchStatus("sys-1", `{"state":"Resolved","resolution":{"by":"ana"}}`))
	})
	b.cycle()
	if ticket := b.wantTickets(v1alpha1.Resolved, v1alpha1.Open)[1]; ticket.Spec.Previous != "sys-1" || len(ticket.Spec.Violations) != 2 {
		t.Errorf("the ticket before it is %q, and it holds %+v; want sys-1 and both stores", ticket.Spec.Previous, ticket.Spec.Violations)
	}
}
