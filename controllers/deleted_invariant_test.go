package controllers

import (
	"context"
	"fmt"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/ledger"
)

// withoutInvariants is a cache that does not have the Invariants that the API server has.
func withoutInvariants(c client.Client) client.Client {
	return interceptor.NewClient(watching{c}, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, invariants := list.(*v1alpha1.InvariantList); invariants {
				return nil
			}
			return c.List(ctx, list, opts...)
		},
	})
}

func TestADeletedInvariantResolvesItsTicketAndALaggingCacheDoesNot(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	kept := b.invariant("kept")
	b.source.set("1", "Down")
	b.cycle()
	b.settle()
	b.writer = withoutInvariants
	b.restart()
	b.cycle()
	b.wantTickets(v1alpha1.Open)
	b.writer = nil
	must(t, b.api.Delete(b.ctx, kept))
	b.restart()
	b.cycle()
	if got := b.wantTickets(v1alpha1.Resolved)[0].Status.Resolution.Reason; got != v1alpha1.InvariantDeleted {
		t.Errorf("resolved as %s, want InvariantDeleted", got)
	}
}

func TestHoweverManyInvariantsAreDeletedTogetherTheirTicketIsResolved(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.source.set("1", "Down")
	var all []*v1alpha1.Invariant
	for i := range 5 {
		all = append(all, b.invariant(fmt.Sprint("store-up-", i)))
	}
	b.cycle()
	b.wantTickets(v1alpha1.Open)
	for _, invariant := range all {
		must(t, b.api.Delete(b.ctx, invariant))
	}
	// For each to be asked for takes longer than what was observed may be written.
	slow := func() { b.clock.Step(DefaultInterval / 3) }
	b.monitor.Live = interceptor.NewClient(watching{b.live}, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			slow()
			return c.Get(ctx, key, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			slow()
			return c.List(ctx, list, opts...)
		},
	})
	b.cycle()
	if got := b.wantTickets(v1alpha1.Resolved)[0].Status.Resolution.Reason; got != v1alpha1.InvariantDeleted {
		t.Errorf("resolved as %s, want InvariantDeleted", got)
	}
}

func TestALaggingCacheResolvesNothingWhetherItsInvariantsNameTheirSystemOrNot(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.system = b.namespace
	b.invariant("unnamed", func(s *v1alpha1.InvariantSpec) { s.System = "" })
	b.invariant("named", func(s *v1alpha1.InvariantSpec) { s.System = b.namespace })
	b.source.set("1", "Down")
	b.cycle()
	b.writer = withoutInvariants
	b.restart()
	b.cycle()
	if ticket := b.wantTickets(v1alpha1.Open)[0]; len(ledger.Active(&ticket)) != 2 {
		t.Errorf("want both violations to last: %s", b.dump())
	}
}
