package controllers

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/ledger"
)

// conflictRetry is when a ticket is looked at again that somebody wrote to in between. Their write also wakes it.
const conflictRetry = time.Second

// refusedRetry is when a ticket is looked at again that could not be read or written, and refusedTime how long that is tried: an API server
// that asks for patience must not keep the other tickets waiting.
const (
	refusedRetry = 10 * time.Second
	refusedTime  = 10 * time.Second
)

// TicketReconciler gives tickets what they need between cycles: it makes holds visible, completes and announces what people
// write, ends what a resolved ticket says of flapping, and removes tickets that were resolved long ago. It opens and
// resolves nothing.
type TicketReconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads from the API server.
	Live client.Reader
	// Recorder writes Events.
	Recorder events.EventRecorder
	// Clock tells the time.
	Clock clock.PassiveClock
	// Retention is how long a resolved ticket is kept; 0 is for ever. See ledger.Expiry for what is kept longer.
	Retention time.Duration
	// Log takes a line for each thing that happens to a ticket.
	Log logr.Logger

	started time.Time
	mu      sync.Mutex
	// announced are the words of each ticket that were announced, or were there before this process.
	announced map[types.NamespacedName]announced
}

// announced are words and whose they are: another ticket may get the name of one that was deleted.
type announced struct {
	ticket types.UID
	words  words
}

// words are what people have written on a ticket: each changes when one is written anew.
type words struct{ acknowledged, diagnosed, resolved string }

// SetupWithManager adds the controller to the manager. Its index is that of CycleReconciler.
func (r *TicketReconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.init()
	return ctrl.NewControllerManagedBy(mgr).
		Named("ticket").
		For(&v1alpha1.Ticket{}).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 2,
			UsePriorityQueue:        ptr.To(false),
			EnableWarmup:            ptr.To(true),
		}).
		Complete(r)
}

func (r *TicketReconciler) init() {
	r.started, r.announced = r.Clock.Now(), map[types.NamespacedName]announced{}
}

// Reconcile tends one ticket. It never returns an error, which would put the next try off for ever longer delays, of up to a quarter of an
// hour after the API server is back.
func (r *TicketReconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	limited, cancel := context.WithTimeout(ctx, refusedTime)
	defer cancel()
	result, err := r.tend(limited, request)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "ticket not tended", "again", refusedRetry.String())
		return reconcile.Result{RequeueAfter: refusedRetry}, nil
	}
	return result, nil
}

func (r *TicketReconciler) tend(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var ticket v1alpha1.Ticket
	if err := r.Client.Get(ctx, request.NamespacedName, &ticket); err != nil {
		r.forget(request.NamespacedName)
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	invariants, err := r.invariantsOf(ctx, &ticket)
	if err != nil {
		return reconcile.Result{}, err
	}
	now := r.Clock.Now()
	status, again := ledger.Tend(&ticket, invariants, now)
	switch err := r.write(ctx, &ticket, status); {
	case isConflict(err):
		return reconcile.Result{RequeueAfter: conflictRetry}, nil
	case err != nil:
		return reconcile.Result{}, err
	}
	r.announce(&ticket, status)
	if again.IsZero() {
		expiry, err := r.retain(ctx, &ticket, now)
		if err != nil {
			return reconcile.Result{}, err
		}
		again = expiry
	}
	if again.IsZero() {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: max(again.Sub(now), time.Second)}, nil
}

// invariantsOf are the policies of the Invariants of whose violations a resolved ticket says that they are flapping. One
// that no longer exists has the default.
func (r *TicketReconciler) invariantsOf(ctx context.Context, ticket *v1alpha1.Ticket) (map[string]ledger.Invariant, error) {
	invariants := map[string]ledger.Invariant{}
	for _, v := range ticket.Status.Violations {
		if _, known := invariants[v.Invariant]; known || !v.Flapping || ticket.IsOpen() {
			continue
		}
		var invariant v1alpha1.Invariant
		err := r.Client.Get(ctx, types.NamespacedName{Namespace: ticket.Namespace, Name: v.Invariant}, &invariant)
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("read Invariant %s/%s: %w", ticket.Namespace, v.Invariant, err)
		}
		invariants[v.Invariant] = ledger.PolicyOf(&invariant, r.Clock.Now())
	}
	return invariants, nil
}

// write writes a status that changed, provided that nobody has written to the ticket in between.
func (r *TicketReconciler) write(ctx context.Context, ticket *v1alpha1.Ticket, status v1alpha1.TicketStatus) error {
	if equality.Semantic.DeepEqual(status, ticket.Status) {
		return nil
	}
	return patchTicketStatus(ctx, r.Client, ticket, status)
}

// announce announces what people did to a ticket.
func (r *TicketReconciler) announce(ticket *v1alpha1.Ticket, status v1alpha1.TicketStatus) {
	a := announcer{events: r.Recorder, log: r.Log}
	a.condition(ticket, ticket.Status, status, v1alpha1.ConditionHeld,
		func(c *v1alpha1.Condition) announcement { return heldAnnouncement(ticket, c) },
		func(*v1alpha1.Condition) announcement { return releasedAnnouncement() })
	a.condition(ticket, ticket.Status, status, v1alpha1.ConditionFlapping, flappingAnnouncement, settledAnnouncement)
	before, now := r.remember(ticket, wordsOf(status))
	if now.acknowledged != before.acknowledged {
		a.ticket(ticket, acknowledgedAnnouncement(status.Acknowledgement))
	}
	if now.diagnosed != before.diagnosed {
		a.ticket(ticket, diagnosedAnnouncement(status.Diagnosis))
	}
	if now.resolved != before.resolved {
		a.ticket(ticket, resolvedAnnouncement(status))
	}
}

// or are the words, and those before where there are none: nobody can take back a word, but a cache can go back in time.
func (w words) or(before words) words {
	return words{cmp.Or(w.acknowledged, before.acknowledged), cmp.Or(w.diagnosed, before.diagnosed), cmp.Or(w.resolved, before.resolved)}
}

// wordsOf are the words of a status. What the monitor resolved, the cycle announces.
func wordsOf(s v1alpha1.TicketStatus) words {
	var w words
	if a := s.Acknowledgement; a != nil {
		w.acknowledged = fmt.Sprint(a.By, a.Time, a.Note)
	}
	if d := s.Diagnosis; d != nil {
		w.diagnosed = fmt.Sprint(d.By, d.Time, len(d.Text))
	}
	if r := s.Resolution; r != nil && r.By != ledger.MonitorName {
		w.resolved = r.By
	}
	return w
}

// remember takes note of a ticket's words and returns those that were noted before. Of a ticket that is older than this
// process, the first ones count as announced.
func (r *TicketReconciler) remember(ticket *v1alpha1.Ticket, now words) (before, after words) {
	key := client.ObjectKeyFromObject(ticket)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch last := r.announced[key]; {
	case last.ticket == ticket.UID:
		before = last.words
		now = now.or(before)
	case ticket.CreationTimestamp.Time.Before(r.started.Truncate(time.Second)):
		before = now
	}
	r.announced[key] = announced{ticket.UID, now}
	return before, now
}

func (r *TicketReconciler) forget(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.announced, key)
}
