package controllers

import (
	"context"
	"fmt"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"invariant.dev/operator/api/v1alpha1"
)

// Each round of a race has many tickets, and a person who writes to each while the monitor does.
const (
	raceRounds  = 10
	raceTickets = 50
)

// racing runs a person's write against each write of a ticket's status: by turns right before it, and at the same moment.
func racing(person func(ticket string)) func(client.Client) client.Client {
	return func(c client.Client) client.Client {
		var mu sync.Mutex
		raced := map[string]bool{}
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				patch := func() error { return c.SubResource(sub).Patch(ctx, o, p, opts...) }
				if _, isTicket := o.(*v1alpha1.Ticket); !isTicket {
					return patch()
				}
				name := o.GetName()
				mu.Lock()
				turn, again := len(raced), raced[name]
				raced[name] = true
				mu.Unlock()
				if again {
					return patch()
				}
				if turn%3 == 0 {
					person(name)
					return patch()
				}
				var both sync.WaitGroup
				var err error
				first, second := func() { person(name) }, func() { err = patch() }
				if turn%3 == 1 {
					first, second = second, first
				}
				both.Go(first)
				both.Go(second)
				both.Wait()
				return err
			},
		})
	}
}

// ticketsOfStores makes a ticket for each of so many stores, all of which are down.
func (b *bench) ticketsOfStores(round int) {
	b.t.Helper()
	now := v1alpha1.NewTime(b.clock.Now())
	for i := range raceTickets {
		store, name := fmt.Sprintf("store-%02d", i), v1alpha1.TicketName(b.system, round*raceTickets+i+1)
		b.source.set(store, "Down")
		ticket := b.leftViolated(name)
		ticket.Spec.Violations = []v1alpha1.Violation{{Invariant: "store-up", StoreID: store, Reason: v1alpha1.Violated, Severity: v1alpha1.Critical, FirstSeenTime: *now}}
		must(b.t, b.api.Create(b.ctx, ticket))
	}
	b.cycle()
}

// write merges a patch into a ticket as kubectl does, and returns the ticket as it is then. It is never refused.
func (b *bench) write(ticket, patch string, subresource ...string) *v1alpha1.Ticket {
	object := &v1alpha1.Ticket{}
	object.Namespace, object.Name = b.namespace, ticket
	merge := client.RawPatch(types.MergePatchType, []byte(patch))
	var err error
	if len(subresource) > 0 {
		err = b.api.SubResource(subresource[0]).Patch(b.ctx, object, merge)
	} else {
		err = b.api.Patch(b.ctx, object, merge)
	}
	if err != nil {
		b.t.Errorf("the person's write to %s is refused: %v", ticket, err)
	}
	return object
}

func TestRule5OfFiveHundredHoldsPlacedWhileTheirTicketIsResolvedNoneIsLost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	first, late := 0, 0
	for round := range raceRounds {
		b.writer = nil
		b.restart()
		b.ticketsOfStores(round)
		var mu sync.Mutex
		held := map[string]bool{}
		b.writer = racing(func(name string) {
			after := b.write(name, `{"metadata":{"annotations":{"operator/hold":"true"}}}`)
			mu.Lock()
			defer mu.Unlock()
			// What the API server answered tells which of the two writes came first.
			held[name] = after.IsOpen()
		})
		b.restart()
		for i := range raceTickets {
			b.source.set(fmt.Sprintf("store-%02d", i), "Up")
		}
		b.cycle()
		b.writer = nil
		b.restart()
		b.cycle()
		if len(held) != raceTickets {
			t.Fatalf("%d of %d tickets were raced for", len(held), raceTickets)
		}
		for _, ticket := range b.list() {
			wasOpen, raced := held[ticket.Name]
			switch {
			case !raced:
			case wasOpen && !ticket.IsOpen():
				t.Fatalf("%s was resolved under a hold: %+v", ticket.Name, ticket.Status)
			case wasOpen:
				first++
				b.annotate(ticket.Name, v1alpha1.HoldAnnotation, "")
			default:
				late++
			}
		}
		b.cycle()
		for _, ticket := range b.list() {
			if ticket.IsOpen() {
				t.Fatalf("%s stays open after all cleared and nobody holds it", ticket.Name)
			}
		}
	}
	t.Logf("of %d holds, %d came before the resolving write and won, %d came after it", first+late, first, late)
	if first+late < 500 || first < 100 || late == 0 {
		t.Errorf("too few collisions: %d and %d", first, late)
	}
}

func TestRule6OfAThousandWordsWrittenUnderACyclesWritesNoneIsLostOrRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	for round := range raceRounds {
		b.writer = nil
		b.restart()
		b.ticketsOfStores(round)
		counted := map[string]int32{}
		for _, ticket := range b.list() {
			counted[ticket.Name] = ticket.Status.Occurrences
		}
		for _, words := range []string{
			`{"status":{"acknowledgement":{"by":"ana","note":"on it"}}}`,
			`{"status":{"state":"Diagnosed","diagnosis":{"by":"bo","text":"the disk is full"}}}`,
		} {
			b.writer = racing(func(name string) { b.write(name, words, "status") })
			b.restart()
			b.cycle()
		}
		for _, ticket := range b.list() {
			if !ticket.IsOpen() {
				continue
			}
			s := ticket.Status
			if s.State != v1alpha1.Diagnosed || s.Acknowledgement == nil || s.Acknowledgement.By != "ana" || s.Acknowledgement.Time == nil ||
				s.Diagnosis == nil || s.Diagnosis.Text != "the disk is full" || s.Diagnosis.Time == nil {
				t.Fatalf("a word on %s was lost: %+v", ticket.Name, s)
			}
			if want := counted[ticket.Name] + 2; s.Occurrences != want || s.Violations[0].Occurrences != want {
				t.Fatalf("%s counts %d and %d after two more cycles, want %d: %+v", ticket.Name, s.Occurrences, s.Violations[0].Occurrences, want, s)
			}
		}
		for i := range raceTickets {
			b.source.set(fmt.Sprintf("store-%02d", i), "Up")
		}
		b.cycle()
	}
}

func TestATicketOfAnotherMonitorThatIsResolvedAtOnceLeavesItsTrueAge(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	resolve := func(name string) {
		must(t, b.patchStatus(name, `{"state":"Resolved","resolution":{"by":"ana"}}`))
		b.settle()
	}
	first := b.wantTickets(v1alpha1.Open)[0].Spec.Violations[0].FirstSeenTime
	resolve("sys-1")
	other := b.monitor
	// Right before this monitor opens sys-2, another does, sees that sys-1 has nothing left to say, and a person resolves sys-2.
	b.writer = raced(func() {
		mine := b.monitor
		b.monitor = other
		b.reconcile()
		b.settle()
		b.cycle()
		resolve("sys-2")
		b.monitor = mine
	})
	b.restart()
	b.cycle()
	if got := b.wantTickets(v1alpha1.Resolved, v1alpha1.Resolved, v1alpha1.Open)[2].Spec.Violations[0].FirstSeenTime; !got.Go().Equal(first.Go()) {
		t.Errorf("sys-3 is first seen %v, want %v", got, first)
	}
}

func TestOldTicketsThatAreRemovedMeanwhileKeepNoOtherFromOpening(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	for range 5 {
		b.source.set("1", "Down")
		b.cycle()
		b.source.set("1", "Up")
		b.cycle()
	}
	b.source.set("1", "Down")
	// Each time that the numbers were listed, the oldest ticket goes.
	listed := 0
	b.monitor.Live = interceptor.NewClient(watching{b.live}, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			err := c.List(ctx, list, opts...)
			if _, numbers := list.(*metav1.PartialObjectMetadataList); numbers {
				if listed++; listed < 5 {
					must(t, b.api.Delete(b.ctx, &b.tickets()[0]))
					b.settle()
				}
			}
			return err
		},
	})
	b.cycle()
	if listed != 1 {
		t.Errorf("the numbers were listed %d times", listed)
	}
	b.wantTickets(v1alpha1.Resolved, v1alpha1.Resolved, v1alpha1.Resolved, v1alpha1.Resolved, v1alpha1.Open)
}
