package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/ledger"
	"invariant.dev/operator/controllers/observe"
)

const (
	// maxAttempts is how often a cycle decides anew after a conflict, before it leaves the rest to the next cycle.
	maxAttempts = 5
	// maxEvidence is for how many violations of a batch snapshots are taken, and evidenceTime how long that may take.
	maxEvidence  = 20
	evidenceTime = 5 * time.Second
	// counterCost is what writing the counters of one violation costs the API server: a ticket that only counts is
	// written at most every max(interval, counterCost x violations).
	counterCost = 30 * time.Millisecond
)

var (
	errConflict = errors.New("the tickets changed under the cycle's hands")
	errStale    = errors.New("what was observed is older than an interval, so it is not written")
)

// recorder writes one cycle into the tickets of a system.
type recorder struct {
	reconciler *CycleReconciler
	scope      *scope
	cycle      ledger.Cycle
	results    map[string]judge.Result
	// began is when the look at the sources began.
	began time.Time

	// highest is the highest number of the system's tickets, and batchKey the name of the first that this cycle opened.
	highest  int
	batchKey string
}

// record opens, updates and resolves tickets, and returns what to remember of the invariants. On a conflict it decides
// anew on what the API server says now. What it could not write, the next cycle finds again.
func (r *recorder) record(ctx context.Context) (map[string]ledger.Memory, error) {
	before, tickets := r.scope.memory, r.scope.tickets
	plan, err := r.decide(ctx, before, tickets)
	if err != nil {
		return before, err
	}
	// A cache that lags must open nothing: what opens is decided on live tickets.
	live := len(plan.Open) == 0
	for attempt := 1; ; attempt++ {
		err := errConflict
		if live {
			err = r.write(ctx, &plan)
		}
		if !errors.Is(err, errConflict) || attempt == maxAttempts {
			return plan.Memory, err
		}
		if tickets, err = r.refresh(ctx, tickets); err != nil {
			return plan.Memory, err
		}
		next, err := r.decide(ctx, before, tickets)
		if err != nil {
			return plan.Memory, err
		}
		plan, live = next, true
	}
}

// decide decides on tickets, once it is sure which of the invariants that they name exist.
func (r *recorder) decide(ctx context.Context, before map[string]ledger.Memory, tickets []*v1alpha1.Ticket) (ledger.Plan, error) {
	if err := r.scope.confirmDeleted(ctx, r.reconciler.Live, tickets); err != nil {
		return ledger.Plan{}, err
	}
	for name, exists := range r.scope.confirmed {
		if _, known := r.cycle.Invariants[name]; exists && !known {
			r.cycle.Invariants[name] = ledger.Invariant{Name: name}
		}
	}
	return ledger.Decide(r.cycle, before, tickets), nil
}

// refresh reads the system's highest number, and after that its open tickets, from the API server. In this order a
// ticket that another monitor opens in between either stands among the open ones or has taken the next number.
func (r *recorder) refresh(ctx context.Context, known []*v1alpha1.Ticket) ([]*v1alpha1.Ticket, error) {
	key, reader := r.scope.key, r.reconciler.Live
	names := metav1.PartialObjectMetadataList{}
	names.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("TicketList"))
	ofSystem := fields.OneTermEqualSelector("spec.system", key.Name)
	if err := reader.List(ctx, &names, client.InNamespace(key.Namespace), client.MatchingFieldsSelector{Selector: ofSystem}); err != nil {
		return nil, fmt.Errorf("list the numbers of the tickets of system %s: %w", key, err)
	}
	for _, ticket := range names.Items {
		r.highest = max(r.highest, v1alpha1.TicketNumber(key.Name, ticket.Name))
	}
	open := fields.AndSelectors(ofSystem, fields.OneTermNotEqualSelector("status.state", string(v1alpha1.Resolved)))
	var list v1alpha1.TicketList
	if err := reader.List(ctx, &list, client.InNamespace(key.Namespace), client.MatchingFieldsSelector{Selector: open}); err != nil {
		return nil, fmt.Errorf("list the open tickets of system %s: %w", key, err)
	}
	tickets := make([]*v1alpha1.Ticket, 0, len(list.Items))
	for i := range list.Items {
		tickets = append(tickets, &list.Items[i])
	}
	return r.addUnsettled(ctx, tickets, known)
}

// addUnsettled adds those known tickets that are resolved by now and still matter.
func (r *recorder) addUnsettled(ctx context.Context, tickets, known []*v1alpha1.Ticket) ([]*v1alpha1.Ticket, error) {
	for _, k := range known {
		if slices.ContainsFunc(tickets, func(t *v1alpha1.Ticket) bool { return t.Name == k.Name }) {
			continue
		}
		var ticket v1alpha1.Ticket
		err := r.reconciler.Live.Get(ctx, client.ObjectKeyFromObject(k), &ticket)
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("read ticket %s/%s: %w", k.Namespace, k.Name, err)
		}
		if err == nil && ledger.Unsettled(&ticket) {
			tickets = append(tickets, &ticket)
		}
	}
	return tickets, nil
}

// write writes a plan: first what opens, then what changes. What one ticket is refused holds up no other.
func (r *recorder) write(ctx context.Context, plan *ledger.Plan) error {
	var errs []error
	if len(plan.Open) > 0 {
		err := r.open(ctx, plan)
		if errors.Is(err, errConflict) {
			return err
		}
		errs = append(errs, err)
	}
	for _, update := range plan.Updates {
		errs = append(errs, r.update(ctx, update))
	}
	return errors.Join(errs...)
}

// open opens one ticket for all that is new, or several where it is too large for one. The name is the compare-and-set.
func (r *recorder) open(ctx context.Context, plan *ledger.Plan) error {
	r.takeEvidence(ctx, plan.Open)
	history, err := r.reconciler.ticketsOf(ctx, r.scope.key, systemIndex)
	if err != nil {
		return err
	}
	for _, part := range ledger.Split(plan.Open) {
		if err := r.fresh(); err != nil {
			return err
		}
		if !slices.ContainsFunc(part, func(v v1alpha1.Violation) bool { return !v.Pending }) {
			// Nothing in it counts yet: its grace periods go on in memory.
			continue
		}
		key, number := r.scope.key, r.highest+1
		previous := ledger.Previous(part, history, number)
		ticket := ledger.NewTicket(key.Namespace, key.Name, number, r.batchKey, previous, part, r.cycle.Invariants, r.cycle.Now)
		err := r.reconciler.Client.Create(ctx, ticket)
		if apierrors.IsAlreadyExists(err) {
			// Also where the list does not show it, because it is another system's.
			r.highest = number
			return errConflict
		}
		if err != nil {
			return fmt.Errorf("open ticket %s/%s: %w", key.Namespace, ticket.Name, err)
		}
		r.highest, r.batchKey = number, ticket.Spec.BatchKey
		plan.Opened(part)
		status := ledger.FirstStatus(ticket, r.cycle)
		r.opened(ticket, status)
		if err := r.patch(ctx, ticket, status); err != nil {
			return err
		}
	}
	return nil
}

// takeEvidence takes the snapshots of the worst violations of a batch.
func (r *recorder) takeEvidence(ctx context.Context, batch []v1alpha1.Violation) {
	ctx, cancel := context.WithTimeout(ctx, evidenceTime)
	defer cancel()
	for i := range batch[:min(len(batch), maxEvidence)] {
		v := &batch[i]
		reading, violating := r.results[v.Invariant].Violating[v.StoreID]
		if violating && v.Reason == v1alpha1.Violated {
			v.Snapshot = r.scope.checks[v.Invariant].program.Snapshot(ctx, reading, r.cycle.Now)
		}
	}
}

// update writes a ticket's next status, unless only counters changed and their time has not come.
func (r *recorder) update(ctx context.Context, u ledger.Update) error {
	name := u.Ticket.Name
	if u.CountersOnly && r.tooSoon(name, len(u.Status.Violations)) {
		if uncounted := r.scope.uncounted[name]; !uncounted.LastSeen.Equal(r.cycle.Now) {
			r.scope.uncounted[name] = ledger.Uncounted{Cycles: uncounted.Cycles + 1, LastSeen: r.cycle.Now}
		}
		return nil
	}
	if err := r.fresh(); err != nil {
		return err
	}
	if err := r.patch(ctx, u.Ticket, u.Status); err != nil {
		return err
	}
	delete(r.scope.uncounted, name)
	r.scope.lastWrite[name] = r.cycle.Now
	r.updated(u)
	return nil
}

// tooSoon tells whether a ticket's counters were written so recently that they can wait.
func (r *recorder) tooSoon(ticket string, violations int) bool {
	since := r.cycle.Now.Sub(r.scope.lastWrite[ticket])
	return since >= 0 && since < counterCost*time.Duration(violations)
}

// patch writes what differs between two statuses, provided that nobody has written to the ticket in between.
func (r *recorder) patch(ctx context.Context, ticket *v1alpha1.Ticket, status v1alpha1.TicketStatus) error {
	// Without the spec, which is the same on both sides and may be large.
	meta := metav1.ObjectMeta{Namespace: ticket.Namespace, Name: ticket.Name, ResourceVersion: ticket.ResourceVersion}
	before := &v1alpha1.Ticket{ObjectMeta: meta, Status: ticket.Status}
	after := &v1alpha1.Ticket{ObjectMeta: meta, Status: status}
	err := r.reconciler.Client.Status().Patch(ctx, after, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	switch {
	case isConflict(err):
		return errConflict
	case err != nil:
		return fmt.Errorf("write the status of ticket %s/%s: %w", ticket.Namespace, ticket.Name, err)
	}
	return nil
}

// fresh refuses to write what was observed too long ago: a leader that was paused must not write when it wakes up.
func (r *recorder) fresh() error {
	interval, timeout := r.scope.interval, time.Duration(0)
	for name := range r.results {
		invariant := r.scope.invariants[name]
		interval = min(interval, r.scope.intervalOf(invariant))
		timeout = max(timeout, observe.TimeoutOf(&invariant.Spec))
	}
	// The wall clock goes on while a virtual machine is suspended, the monotonic one does not.
	now := r.reconciler.Clock.Now()
	age := max(now.Sub(r.began), now.Round(0).Sub(r.began.Round(0)))
	if age > interval+timeout {
		return errStale
	}
	return nil
}
