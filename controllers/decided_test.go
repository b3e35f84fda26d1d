package controllers

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"invariant.dev/operator/api/v1alpha1"
)

// What docs/tickets.md says of unusual ends, one test for each row that has none elsewhere.

func TestATicketThatAPersonDeletesIsReplacedAtTheNextCycleWithItsTrueAge(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up", func(s *v1alpha1.InvariantSpec) { s.GracePeriod = seconds(60) })
	b.source.set("1", "Down")
	for range 3 {
		b.cycle()
	}
	deleted := b.wantTickets(v1alpha1.Open)[0]
	must(t, b.api.Delete(b.ctx, &deleted))
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Open)[0]
	if ticket.Name != deleted.Name || ticket.UID == deleted.UID {
		t.Errorf("the new ticket is %s, want another %s", ticket.Name, deleted.Name)
	}
	if got, want := ticket.Spec.Violations[0].FirstSeenTime, deleted.Spec.Violations[0].FirstSeenTime; !got.Go().Equal(want.Go()) {
		t.Errorf("first seen %v, want the true %v", got, want)
	}
}

func TestATicketThatAPersonDeletesAfterAllIsWellStaysAway(t *testing.T) {
	t.Parallel()
	b := broken(t)
	b.annotate("sys-1", v1alpha1.HoldAnnotation, "true")
	b.source.set("1", "Up")
	b.cycle()
	must(t, b.api.Delete(b.ctx, &b.wantTickets(v1alpha1.Open)[0]))
	b.cycle()
	b.cycle()
	b.wantTickets()
}

func TestAChangedExpressionJudgesWhatTheOpenTicketHolds(t *testing.T) {
	t.Parallel()
	b := broken(t)
	change := func(expression string) {
		invariant := b.getInvariant("store-up")
		invariant.Spec.Expression = expression
		must(t, b.api.Update(b.ctx, invariant))
		b.cycle()
	}
	change("self.state in ['Up', 'Down', 'Sideways']")
	b.wantTickets(v1alpha1.Resolved)
	change("self.state == 'Up'")
	b.wantTickets(v1alpha1.Resolved, v1alpha1.Open)
	// While it does not compile, nothing is known.
	change("self.state ==")
	b.wantTickets(v1alpha1.Resolved, v1alpha1.Open)
	change("self.state != 'Up'")
	tickets := b.wantTickets(v1alpha1.Resolved, v1alpha1.Resolved, v1alpha1.Open)
	if got := tickets[2].Status.Summary; got != "store-up(2,3)" {
		t.Errorf("the last ticket is about %s, want store-up(2,3)", got)
	}
}

func TestAChangedStoreIDLeavesTheOldStoresAbsent(t *testing.T) {
	t.Parallel()
	b := broken(t)
	invariant := b.getInvariant("store-up")
	invariant.Spec.StoreID = "'store-' + self.id"
	must(t, b.api.Update(b.ctx, invariant))
	b.cycle()
	b.wantTickets(v1alpha1.Resolved, v1alpha1.Open)
}

func TestASystemIsRenamedByMakingTheInvariantAnew(t *testing.T) {
	t.Parallel()
	b := broken(t)
	old := b.getInvariant("store-up")
	must(t, b.api.Delete(b.ctx, old))
	renamed := &v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: old.Name}, Spec: old.Spec}
	renamed.Spec.System = "renamed"
	must(t, b.api.Create(b.ctx, renamed))
	b.cycle()
	if got := b.wantTickets(v1alpha1.Resolved)[0].Status.Resolution.Reason; got != v1alpha1.InvariantDeleted {
		t.Errorf("the old system's ticket is resolved as %s, want InvariantDeleted", got)
	}
	b.system = "renamed"
	b.reconcile()
	for _, ticket := range b.list() {
		if ticket.Spec.System == "renamed" && ticket.Name == "renamed-1" && ticket.IsOpen() {
			return
		}
	}
	t.Errorf("the new system has no ticket of its own: %s", b.dump())
}

func TestANamespaceThatIsBeingDeletedIsLeftInPeace(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	// A finalizer keeps the Invariant, and so the namespace, in its deletion.
	invariant := b.invariant("store-up")
	invariant.Finalizers = []string{"example.com/keep"}
	must(t, b.api.Update(b.ctx, invariant))
	b.cycle()
	must(t, b.api.Delete(b.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.namespace}}))
	defer func() {
		invariant := b.getInvariant("store-up")
		invariant.Finalizers = nil
		must(t, b.api.Update(b.ctx, invariant))
	}()
	b.source.set("1", "Down")
	var said strings.Builder
	b.ctx = ctrl.LoggerInto(b.ctx, funcr.New(func(_, line string) { said.WriteString(line) }, funcr.Options{}))
	b.cycle()
	if strings.Contains(said.String(), "error") {
		t.Errorf("the cycle complains of a namespace that is being deleted: %s", said.String())
	}
	if tickets := b.list(); len(tickets) != 0 {
		t.Errorf("a ticket opened in a namespace that is being deleted: %v", tickets)
	}
}

func TestRule13ARollingRestartUnderAMuteOpensNothingAndWhatStaysDownOpensOneTicket(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const members = 30
	for i := range members {
		b.source.set(fmt.Sprint(i+1), "Up")
	}
	b.invariant("store-up", func(s *v1alpha1.InvariantSpec) { s.GracePeriod = seconds(60) })
	// The companion that is not muted: at most one store is not up.
	b.invariant("at-most-one-down", func(s *v1alpha1.InvariantSpec) {
		s.StoreID, s.Expression, s.Message, s.Snapshot = "", "self.filter(s, s.state != 'Up').size() <= 1", "", nil
	})
	b.cycle()
	end := b.clock.Now().Add((members + 2) * DefaultInterval)
	invariant := b.getInvariant("store-up")
	invariant.Annotations = map[string]string{v1alpha1.MuteUntilAnnotation: end.UTC().Format(time.RFC3339)}
	must(t, b.api.Update(b.ctx, invariant))
	for i := range members {
		b.source.set(fmt.Sprint(i), "Up")
		b.source.set(fmt.Sprint(i+1), "Down")
		b.cycle()
	}
	b.wantTickets()
	for b.clock.Now().Before(end) {
		b.cycle()
	}
	b.cycle()
	if got := b.wantTickets(v1alpha1.Open)[0].Status.Summary; got != "store-up(30)" {
		t.Errorf("the ticket is about %s, want the store that stayed down", got)
	}
	// Two at a time is too many, muted or not.
	invariant = b.getInvariant("store-up")
	invariant.Annotations[v1alpha1.MuteUntilAnnotation] = b.clock.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	must(t, b.api.Update(b.ctx, invariant))
	b.source.set("7", "Down")
	b.cycle()
	if got := b.wantTickets(v1alpha1.Open, v1alpha1.Open)[1].Status.Summary; got != "at-most-one-down" {
		t.Errorf("the ticket is about %s, want the companion", got)
	}
}

func TestAViolationThatComesBackAtOnceNamesTheTicketBeforeItAlsoWhereTheCacheLags(t *testing.T) {
	t.Parallel()
	b := broken(t)
	b.source.set("1", "Up")
	b.cycle()
	b.source.set("1", "Down")
	// The cache has not seen the ticket yet.
	b.writer = func(c client.Client) client.Client {
		return interceptor.NewClient(watching{c}, interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if _, tickets := list.(*v1alpha1.TicketList); tickets {
					return nil
				}
				return c.List(ctx, list, opts...)
			},
		})
	}
	b.restart()
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Resolved, v1alpha1.Open)[1]
	if ticket.Spec.Previous != "sys-1" || len(ticket.Spec.Violations[0].RecurredTimes) != 1 {
		t.Errorf("want the ticket before it and one recurrence, got %+v", ticket.Spec)
	}
}

func TestWhatBreaksAfterTheClockWasSetBackIsOpenedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	b.source.set("1", "Up")
	b.cycle()
	b.wantTickets(v1alpha1.Resolved)
	b.clock.SetTime(b.clock.Now().Add(-20 * time.Second))
	b.source.set("1", "Down")
	b.reconcile()
	b.wantTickets(v1alpha1.Resolved, v1alpha1.Open)
}
