package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"invariant.dev/operator/api/v1alpha1"
)

var errCut = errors.New("the process was killed here")

// watching makes a client that reads from a cache one that interceptor takes; nothing here watches through it.
type watching struct{ client.Client }

func (watching) Watch(context.Context, client.ObjectList, ...client.ListOption) (watch.Interface, error) {
	return nil, errors.ErrUnsupported
}

// cutAfter lets so many of the monitor's writes through and fails all after them, as a kill between two writes does.
// A write whose answer is lost does reach the API server.
func cutAfter(writes int, answerLost bool) func(client.Client) client.Client {
	return func(c client.Client) client.Client {
		var mu sync.Mutex
		done := 0
		cut := func(write func() error) error {
			mu.Lock()
			defer mu.Unlock()
			if done++; done <= writes {
				return write()
			}
			if done == writes+1 && answerLost {
				_ = write()
			}
			return errCut
		}
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				return cut(func() error { return c.Create(ctx, o, opts...) })
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				return cut(func() error { return c.SubResource(sub).Patch(ctx, o, p, opts...) })
			},
		})
	}
}

func TestRule8AKillBetweenAnyTwoWritesCostsNothing(t *testing.T) {
	for _, answerLost := range []bool{false, true} {
		for writes := range 6 {
			t.Run(fmt.Sprintf("killed after %d writes, the last answer lost: %v", writes, answerLost), func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				b.invariant("store-up")
				b.invariant("slow", func(s *v1alpha1.InvariantSpec) { s.GracePeriod = seconds(90) })
				b.cycle()
				b.source.set("1", "Down")
				b.writer = cutAfter(writes, answerLost)
				b.restart()
				b.cycle()
				written := len(b.tickets()) > 0
				b.writer = nil
				b.restart()
				b.cycle()
				b.wantTickets(v1alpha1.Open)
				b.cycle()
				b.cycle()
				if !written {
					// The kill came before anything was written: what it had seen begins an interval later.
					b.cycle()
				}
				ticket := b.wantTickets(v1alpha1.Open)[0]
				if len(ticket.Status.Violations) != 2 || ticket.Status.Violations[0].Pending || ticket.Status.Violations[1].Pending {
					t.Errorf("a grace period of 90 s is over, but not both violations count: %s", b.dump())
				}
				b.source.set("1", "Up")
				b.cycle()
				b.wantTickets(v1alpha1.Resolved)
			})
		}
	}
}

// meanwhile runs something once, right before the monitor's next write of a ticket's status.
func meanwhile(do func(ticket client.Object)) func(client.Client) client.Client {
	return func(c client.Client) client.Client {
		var once sync.Once
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				if _, isTicket := o.(*v1alpha1.Ticket); isTicket {
					once.Do(func() { do(o) })
				}
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		})
	}
}

func TestRule5AHoldPlacedUnderTheResolvingWriteWins(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	b.source.set("1", "Up")
	b.writer = meanwhile(func(ticket client.Object) { b.annotate(ticket.GetName(), v1alpha1.HoldAnnotation, "true") })
	b.restart()
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Open)[0]
	if ticket.Status.Violations[0].Active {
		t.Errorf("the check was lost: %s", b.dump())
	}
}

func TestRule6APersonsWordWrittenUnderACyclesWriteIsKeptAndSoIsTheCount(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	b.writer = meanwhile(func(ticket client.Object) {
		must(t, b.patchStatus(ticket.GetName(), `{"state":"Acknowledged","acknowledgement":{"by":"ana"}}`))
	})
	b.restart()
	b.cycle()
	status := b.wantTickets(v1alpha1.Acknowledged)[0].Status
	if status.Acknowledgement.By != "ana" || status.Occurrences != 2 {
		t.Errorf("want ana's word and two occurrences, got %+v", status)
	}
}

// raced runs something once, right before the monitor creates a ticket.
func raced(do func()) func(client.Client) client.Client {
	return func(c client.Client) client.Client {
		var once sync.Once
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				once.Do(do)
				return c.Create(ctx, o, opts...)
			},
		})
	}
}

func TestRule3TwoMonitorsOpenOneTicketForAViolation(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.cycle()
	b.source.set("1", "Down")
	b.source.set("2", "Down")
	other := b.monitor
	// Right before this monitor opens a ticket for stores 1 and 2, another opens one for store 1 under the same name.
	b.writer = raced(func() {
		mine := b.monitor
		b.monitor = other
		b.source.set("2", "Up")
		b.reconcile()
		b.monitor = mine
	})
	b.restart()
	b.cycle()
	for i, ticket := range b.wantTickets(v1alpha1.Open, v1alpha1.Open) {
		if v := ticket.Spec.Violations; len(v) != 1 || v[0].StoreID != fmt.Sprint(i+1) {
			t.Errorf("want %s to hold store %d alone, got %+v", ticket.Name, i+1, v)
		}
	}
}

func TestRule3ATicketOpenedTwiceIsResolvedAsADuplicate(t *testing.T) {
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	first := b.wantTickets(v1alpha1.Open)[0]
	for _, name := range []string{"sys-2", "sys-3"} {
		twin := &v1alpha1.Ticket{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name}, Spec: *first.Spec.DeepCopy()}
		must(t, b.api.Create(b.ctx, twin))
	}
	must(t, b.patchStatus("sys-3", `{"state":"Acknowledged","acknowledgement":{"by":"ana"}}`))
	b.cycle()
	tickets := b.wantTickets(v1alpha1.Open, v1alpha1.Resolved, v1alpha1.Acknowledged)
	if got := tickets[1].Status.Resolution.Reason; got != v1alpha1.Duplicate {
		t.Errorf("the twin is resolved as %s, want Duplicate", got)
	}
	b.source.set("1", "Up")
	b.cycle()
	b.cycle()
	b.wantTickets(v1alpha1.Resolved, v1alpha1.Resolved, v1alpha1.Resolved)
}

func TestASuspendedInvariantLeavesItsTicketAsItIs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	invariant := b.getInvariant("store-up")
	invariant.Spec.Suspend = true
	must(t, b.api.Update(b.ctx, invariant))
	b.source.set("1", "Up")
	b.cycle()
	b.cycle()
	b.wantTickets(v1alpha1.Open)
	invariant = b.getInvariant("store-up")
	invariant.Spec.Suspend = false
	must(t, b.api.Update(b.ctx, invariant))
	b.cycle()
	b.wantTickets(v1alpha1.Resolved)
}

func TestOnAbsentSaysWhatBecomesOfAStoreThatIsGone(t *testing.T) {
	for onAbsent, want := range map[v1alpha1.OnAbsent]v1alpha1.TicketState{v1alpha1.OnAbsentClear: v1alpha1.Resolved, v1alpha1.OnAbsentKeep: v1alpha1.Open} {
		t.Run(string(onAbsent), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.invariant("store-up", func(s *v1alpha1.InvariantSpec) { s.OnAbsent = onAbsent })
			b.source.set("1", "Down")
			b.cycle()
			b.source.remove("1")
			b.cycle()
			b.wantTickets(want)
		})
	}
}

func TestABatchTooLargeForOneObjectIsSplitAndNothingIsDropped(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const many = 2500
	for i := range many {
		b.source.set(fmt.Sprintf("store-%04d", i), "Down")
	}
	b.invariant("store-up")
	b.cycle()
	seen := map[string]bool{}
	tickets := b.tickets()
	for _, ticket := range tickets {
		if ticket.Spec.BatchKey != "sys-1" {
			t.Errorf("%s has the batch key %s, want sys-1", ticket.Name, ticket.Spec.BatchKey)
		}
		for _, v := range ticket.Spec.Violations {
			seen[v.StoreID] = true
		}
	}
	if len(tickets) != 3 || len(seen) != many {
		t.Errorf("%d tickets hold %d violations, want 3 and %d", len(tickets), len(seen), many)
	}
	b.restart()
	b.cycle()
	if again := b.tickets(); len(again) != len(tickets) {
		t.Errorf("the next cycle has %d tickets, want %d", len(again), len(tickets))
	}
}

func TestATicketDeletedUnderACyclesWriteComesBackWithItsTrueAge(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up", func(s *v1alpha1.InvariantSpec) { s.GracePeriod = seconds(60) })
	b.source.set("1", "Down")
	for range 3 {
		b.cycle()
	}
	first := b.wantTickets(v1alpha1.Open)[0].Spec.Violations[0].FirstSeenTime
	deleted := false
	b.monitor.Client = meanwhile(func(ticket client.Object) {
		deleted = true
		must(t, b.api.Delete(b.ctx, &v1alpha1.Ticket{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: ticket.GetName()}}))
	})(b.monitor.Client)
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Open)[0]
	if got := ticket.Spec.Violations[0].FirstSeenTime; !deleted || ticket.Name != "sys-1" || !got.Go().Equal(first.Go()) {
		t.Errorf("%s is first seen %v, want sys-1 and %v", ticket.Name, got, first)
	}
}

func TestALeaderThatWakesUpWritesNothingOverItsSuccessor(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	b.source.set("1", "Up")
	// The leader is paused right before the write that resolves the ticket. Meanwhile the Invariant is suspended, and
	// another monitor has taken over, which finds nothing to do.
	b.writer = meanwhile(func(client.Object) {
		old := b.monitor
		b.clock.Step(2 * DefaultInterval)
		invariant := b.getInvariant("store-up")
		invariant.Spec.Suspend = true
		must(t, b.api.Update(b.ctx, invariant))
		b.writer = nil
		b.restart()
		b.cycle()
		b.monitor = old
	})
	b.restart()
	b.cycle()
	b.wantTickets(v1alpha1.Open)
}

func TestACycleThatIsDecidedAnewCountsEachTicketOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	b.source.set("2", "Down")
	b.cycle()
	b.cycle()
	before := b.wantTickets(v1alpha1.Open, v1alpha1.Open)
	// The first ticket is written; then somebody writes on the second, right before the cycle does.
	writes := 0
	b.writer = func(c client.Client) client.Client {
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				if writes++; writes == 2 {
					b.annotate(o.GetName(), v1alpha1.HoldAnnotation, "true")
				}
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		})
	}
	b.restart()
	b.cycle()
	b.cycle()
	for i, ticket := range b.wantTickets(v1alpha1.Open, v1alpha1.Open) {
		if got, want := ticket.Status.Occurrences, before[i].Status.Occurrences+2; got != want {
			t.Errorf("%s counts %d after two more cycles, want %d", ticket.Name, got, want)
		}
	}
}

func TestAnInvariantThatChangesUnderALookIsNotJudgedByIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.cycle()
	other := newStores(t)
	var once sync.Once
	b.source.fail(func(w http.ResponseWriter, _ *http.Request) {
		once.Do(func() {
			invariant := b.getInvariant("store-up")
			invariant.Spec.Source.HTTP.URL = other.url()
			must(t, b.api.Update(b.ctx, invariant))
			b.settle()
		})
		_, _ = w.Write([]byte(`{"stores":[{"id":"1","state":"Down"}]}`))
	})
	b.cycle()
	b.wantTickets()
	b.reconcile()
	b.wantTickets()
	if other.gets.Load() == 0 {
		t.Error("the changed Invariant was not checked at once")
	}
}

func TestWhatABatchCouldNotOpenKeepsItsTrueAge(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for i := range 1500 {
		b.source.set(fmt.Sprintf("store-%04d", i), "Down")
	}
	b.invariant("store-up")
	creates := 0
	b.writer = func(c client.Client) client.Client {
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				if creates++; creates == 2 {
					return errCut
				}
				return c.Create(ctx, o, opts...)
			},
		})
	}
	b.restart()
	b.cycle()
	b.wantTickets(v1alpha1.Open)
	b.cycle()
	tickets := b.wantTickets(v1alpha1.Open, v1alpha1.Open)
	if tickets[1].Spec.BatchKey != tickets[0].Name {
		t.Errorf("the rest has the batch key %s, want %s", tickets[1].Spec.BatchKey, tickets[0].Name)
	}
	first := tickets[0].Spec.Violations[0].FirstSeenTime
	for _, v := range tickets[1].Spec.Violations {
		if !v.FirstSeenTime.Go().Equal(first.Go()) {
			t.Fatalf("store %s is first seen %v, want %v", v.StoreID, v.FirstSeenTime, first)
		}
	}
	if len(tickets[0].Spec.Violations)+len(tickets[1].Spec.Violations) != 1500 {
		t.Errorf("the tickets hold %d and %d of 1500 violations", len(tickets[0].Spec.Violations), len(tickets[1].Spec.Violations))
	}
}

func TestABatchWhoseFirstStatusIsRefusedIsOpenedAsOneAllTheSame(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for i := range 1500 {
		b.source.set(fmt.Sprintf("store-%04d", i), "Down")
	}
	b.invariant("store-up")
	writes := 0
	b.writer = func(c client.Client) client.Client {
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				if writes++; writes == 1 {
					return errCut
				}
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		})
	}
	b.restart()
	b.cycle()
	b.cycle()
	tickets := b.wantTickets(v1alpha1.Open, v1alpha1.Open)
	for _, ticket := range tickets {
		if ticket.Spec.BatchKey != tickets[0].Name || ticket.Status.Occurrences != 2 {
			t.Errorf("%s has the batch key %s and counts %d, want %s and 2", ticket.Name, ticket.Spec.BatchKey, ticket.Status.Occurrences, tickets[0].Name)
		}
	}
}

func TestASystemHasOneLookAtATime(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.settle()
	answer := make(chan struct{})
	b.source.fail(func(http.ResponseWriter, *http.Request) { <-answer })
	for range 3 {
		b.once(reconcile.Request{NamespacedName: b.key()})
		b.clock.Step(DefaultInterval)
	}
	close(answer)
	b.woken()
	if got := b.source.gets.Load(); got != 1 {
		t.Errorf("the source was read %d times before it answered once", got)
	}
}
