package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/ledger"
	"invariant.dev/operator/controllers/verdict"
)

const (
	// maxAttempts is how often a cycle decides anew after a conflict, before it leaves the rest to the next cycle.
	maxAttempts = 5
	// maxEvidence is for how many violations of a batch snapshots are taken, and evidenceTime how long that may take.
	maxEvidence  = 20
	evidenceTime = 5 * time.Second
	// maxQueries is how many queries for evidence are asked at the same time.
	maxQueries = 8
	// counterCost is what writing the counters of one violation costs the API server: a ticket that only counts is
	// written at most every max(interval, counterCost x violations).
	counterCost = 30 * time.Millisecond
)

var errConflict = errors.New("the tickets changed under the cycle's hands")

// recorder writes one cycle into the tickets of a system.
type recorder struct {
	reconciler *CycleReconciler
	scope      *scope
	cycle      ledger.Cycle
	results    map[string]judge.Result
	// fresh is whether what was seen may still be written.
	fresh freshness

	// unsure: it could not be found out which tickets somebody has deleted. What those knew of the violations that they held is not in
	// memory yet, so that nothing may open.
	unsure bool
	// written are the tickets that this cycle has written.
	written map[string]bool
	// batchKey is the name of the first ticket of the batch that this cycle opens.
	batchKey string
	// history is all tickets of the system, resolved ones included, as the API server last had them.
	history []*v1alpha1.Ticket
	// number is the system's highest number, of those that the API server listed last and those that this cycle opened. It is not
	// remembered longer: whoever opens a ticket must come to the same next number, also after somebody has deleted the newest, or else
	// the name would not be a compare-and-set between two monitors.
	number int
}

// record opens, updates and resolves tickets, and returns what to remember of the invariants. On a conflict it decides
// anew on what the API server says now. What it could not write, the next cycle finds again.
func (r *recorder) record(ctx context.Context) (map[string]ledger.Memory, error) {
	before := r.scope.memory
	plan, err := r.carryOut(ctx, before)
	for _, update := range plan.Updates {
		if err != nil && !r.written[update.Ticket.Name] {
			plan.Unwritten(update, before, r.cycle.Now)
		}
	}
	return plan.Memory, err
}

// remember is what to remember of the invariants where nothing is written.
func (r *recorder) remember() map[string]ledger.Memory {
	plan := ledger.Decide(r.cycle, r.scope.memory, r.scope.tickets)
	for _, update := range plan.Updates {
		plan.Unwritten(update, r.scope.memory, r.cycle.Now)
	}
	return plan.Memory
}

// carryOut decides and writes until all is written or nothing more can be, and returns the last plan.
func (r *recorder) carryOut(ctx context.Context, before map[string]ledger.Memory) (ledger.Plan, error) {
	tickets := r.scope.tickets
	plan := r.decide(ctx, before, tickets)
	// A cache that lags must open nothing: what opens is decided on live tickets.
	live := len(plan.Open) == 0
	for attempt := 1; ; attempt++ {
		err := errConflict
		if live {
			err = r.write(ctx, &plan)
		}
		if !errors.Is(err, errConflict) || attempt == maxAttempts {
			return plan, err
		}
		next, err := r.refresh(ctx, tickets)
		if err != nil && !live {
			// What has changed can be written all the same.
			plan.Open = nil
			err = errors.Join(err, r.write(ctx, &plan))
		}
		if err != nil {
			return plan, err
		}
		tickets = next
		plan, live = r.decide(ctx, before, tickets), true
	}
}

// noteOpen takes note of the open tickets, and remembers what those knew that somebody has deleted since the last cycle. What it could
// not find out, the next cycle asks again.
func (r *recorder) noteOpen(ctx context.Context) error {
	before := r.scope.open
	open := make(map[string]*v1alpha1.Ticket, len(r.scope.tickets))
	for _, ticket := range r.scope.tickets {
		if ticket.IsOpen() {
			open[ticket.Name] = ticket
		}
	}
	defer maps.Copy(before, open)
	for _, name := range slices.Sorted(maps.Keys(before)) {
		ticket := before[name]
		if open[name] != nil {
			continue
		}
		found := metav1.PartialObjectMetadata{}
		found.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Ticket"))
		err := r.reconciler.Live.Get(ctx, client.ObjectKeyFromObject(ticket), &found)
		if client.IgnoreNotFound(err) != nil {
			r.unsure = true
			return fmt.Errorf("find out whether ticket %s/%s was deleted: %w", ticket.Namespace, name, err)
		}
		r.closed(name)
		if err != nil {
			r.deleted(ticket)
		}
	}
	return nil
}

// left takes note of a ticket as a write left it: if somebody deletes it before the next cycle, it knew that.
func (r *recorder) left(ticket *v1alpha1.Ticket, status v1alpha1.TicketStatus) {
	if status.State == v1alpha1.Resolved {
		r.closed(ticket.Name)
		return
	}
	written := *ticket
	written.Status = status
	r.scope.open[ticket.Name] = &written
}

// closed forgets what is kept of an open ticket.
func (r *recorder) closed(name string) {
	delete(r.scope.open, name)
	delete(r.scope.lastWrite, name)
	delete(r.scope.uncounted, name)
}

// deleted remembers what an open ticket knew that somebody has deleted. The next one may have its name.
func (r *recorder) deleted(ticket *v1alpha1.Ticket) {
	r.closed(ticket.Name)
	ledger.Restore(r.scope.memory, ticket)
	r.reconciler.Log.Info("Ticket deleted", "ticket", ticket.Namespace+"/"+ticket.Name, "note", "what is still violated opens a new one")
}

// decide decides on tickets. An invariant that they name counts as deleted only if the API server says so.
func (r *recorder) decide(ctx context.Context, before map[string]ledger.Memory, tickets []*v1alpha1.Ticket) ledger.Plan {
	if err := r.scope.confirmDeleted(ctx, r.reconciler.Live, tickets); err != nil {
		r.reconciler.Log.Error(err, "they count as there")
	}
	for name, exists := range r.scope.confirmed {
		if _, known := r.cycle.Invariants[name]; exists && !known {
			r.cycle.Invariants[name] = ledger.Invariant{Name: name}
		}
	}
	plan := ledger.Decide(r.cycle, before, tickets)
	if len(plan.Open) == 0 {
		r.scope.unfinished = ""
	}
	if r.unsure {
		plan.Open = nil
	}
	return plan
}

// refresh reads the system's highest number, and after that its open tickets, from the API server. In this order a
// ticket that another monitor opens in between either stands among the open ones or has taken the next number. What was resolved
// meanwhile may still matter. Where the newest was deleted meanwhile, its number is free again, or another ticket's by now: then it begins anew.
func (r *recorder) refresh(ctx context.Context, known []*v1alpha1.Ticket) ([]*v1alpha1.Ticket, error) {
	key, reader := r.scope.key, r.reconciler.Live
	names := metav1.PartialObjectMetadataList{}
	names.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("TicketList"))
	ofSystem := fields.OneTermEqualSelector("spec.system", key.Name)
	if err := reader.List(ctx, &names, client.InNamespace(key.Namespace), client.MatchingFieldsSelector{Selector: ofSystem}); err != nil {
		return nil, fmt.Errorf("list the numbers of the tickets of system %s: %w", key, err)
	}
	versions := make(map[string]string, len(names.Items))
	r.number = 0
	for _, ticket := range names.Items {
		versions[ticket.Name] = ticket.ResourceVersion
		r.number = max(r.number, v1alpha1.TicketNumber(key.Name, ticket.Name))
	}
	// After the highest number that counts come those that do not.
	for versions[v1alpha1.TicketName(key.Name, r.number+1)] != "" {
		r.number++
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
	others, gone, err := r.readOthers(ctx, versions, tickets)
	if err != nil {
		return nil, err
	}
	others, changed, err := r.readAgain(ctx, others)
	if err != nil {
		return nil, err
	}
	r.history = slices.Concat(tickets, others)
	r.noteDeleted(known)
	tickets = append(tickets, slices.DeleteFunc(others, func(t *v1alpha1.Ticket) bool { return !ledger.Unsettled(t) })...)
	if gone || changed {
		return r.refresh(ctx, tickets)
	}
	return tickets, nil
}

// readOthers reads the tickets of the system that are not among the open ones, of which the API server has these versions: from the
// cache, but for those that it has not caught up with. A ticket that was resolved a moment ago may be the one that a violation comes back
// from. It tells whether the newest is gone since they were listed.
func (r *recorder) readOthers(ctx context.Context, versions map[string]string, open []*v1alpha1.Ticket) (others []*v1alpha1.Ticket, gone bool, err error) {
	cached, err := r.reconciler.ticketsOf(ctx, r.scope.key, systemIndex)
	if err != nil {
		return nil, false, err
	}
	missing := maps.Clone(versions)
	for _, ticket := range open {
		delete(missing, ticket.Name)
	}
	for _, ticket := range cached {
		if missing[ticket.Name] == ticket.ResourceVersion {
			others = append(others, ticket)
			delete(missing, ticket.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		ticket, err := r.readTicket(ctx, name)
		if err != nil {
			return nil, false, err
		}
		if ticket == nil {
			gone = gone || r.isNewest(name)
			continue
		}
		others = append(others, ticket)
	}
	return others, gone, nil
}

// isNewest tells whether a ticket has the highest number of those that were listed.
func (r *recorder) isNewest(name string) bool {
	return name == v1alpha1.TicketName(r.scope.key.Name, r.number)
}

// readTicket reads a ticket as the API server has it: nil where there is none.
func (r *recorder) readTicket(ctx context.Context, name string) (*v1alpha1.Ticket, error) {
	var ticket v1alpha1.Ticket
	err := r.reconciler.Live.Get(ctx, types.NamespacedName{Namespace: r.scope.key.Namespace, Name: name}, &ticket)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read ticket %s/%s: %w", r.scope.key.Namespace, name, err)
	}
	return &ticket, nil
}

// readAgain reads those of the tickets once more that are open: so the cache says, but they were resolved or deleted since their version was
// listed. It tells whether the newest was deleted after the tickets were listed, or another has its name by now.
func (r *recorder) readAgain(ctx context.Context, others []*v1alpha1.Ticket) (read []*v1alpha1.Ticket, changed bool, err error) {
	for _, ticket := range others {
		name := ticket.Name
		if ticket.IsOpen() {
			if ticket, err = r.readTicket(ctx, name); err != nil {
				return nil, false, err
			}
		}
		if ticket == nil {
			changed = changed || r.isNewest(name)
			continue
		}
		changed = changed || ticket.IsOpen()
		read = append(read, ticket)
	}
	return read, changed, nil
}

// noteDeleted remembers what those tickets knew that were deleted under the cycle's hands, as the cycle itself wrote them last.
func (r *recorder) noteDeleted(known []*v1alpha1.Ticket) {
	there := make(map[string]bool, len(r.history))
	for _, ticket := range r.history {
		there[ticket.Name] = true
	}
	for _, ticket := range known {
		if r.written[ticket.Name] {
			ticket = r.scope.open[ticket.Name]
		}
		if ticket != nil && !there[ticket.Name] {
			r.deleted(ticket)
		}
	}
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
	plan.Open = r.cycle.WithoutOvertaken(plan.Open, r.history)
	r.batchKey = cmp.Or(r.batchKey, r.scope.unfinished)
	r.takeEvidence(ctx, plan.Open)
	ledger.NoteRecurrences(plan.Open, r.history, r.cycle.Invariants)
	var errs []error
	for _, part := range ledger.Split(plan.Open) {
		if !slices.ContainsFunc(part, func(v v1alpha1.Violation) bool { return !v.Pending }) {
			// Nothing in it counts yet: its grace periods go on in memory.
			continue
		}
		ticket, err := r.create(ctx, part)
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			// The namespace is being deleted, and all Invariants and tickets with it.
			return nil
		}
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		r.batchKey, r.scope.unfinished = ticket.Spec.BatchKey, ticket.Spec.BatchKey
		plan.Opened(part)
		status := ledger.FirstStatus(ticket, r.cycle)
		r.opened(ticket, status)
		r.scope.open[ticket.Name] = ticket
		err = r.patch(ctx, ticket, status)
		if errors.Is(err, errConflict) {
			return err
		}
		// The next cycle would open the other parts as another batch.
		errs = append(errs, err)
	}
	r.scope.unfinished = ""
	return errors.Join(errs...)
}

// create creates the next ticket. It passes over names that tickets of other systems have: no list of this system's shows them.
func (r *recorder) create(ctx context.Context, part []v1alpha1.Violation) (*v1alpha1.Ticket, error) {
	for key, number := r.scope.key, r.number+1; ; number++ {
		if err := r.fresh.check(); err != nil {
			return nil, err
		}
		previous := ledger.Previous(part, r.history, number)
		ticket := ledger.NewTicket(key.Namespace, key.Name, number, r.batchKey, previous, part, r.cycle.Invariants, r.cycle.Now)
		err := r.reconciler.Client.Create(ctx, ticket)
		if err == nil {
			r.number = number
			return ticket, nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("open ticket %s/%s: %w", key.Namespace, ticket.Name, err)
		}
		taken, err := r.readTicket(ctx, ticket.Name)
		if err != nil {
			return nil, err
		}
		if taken == nil || taken.Spec.System == key.Name {
			return nil, errConflict
		}
	}
}

// takeEvidence takes the snapshots of the worst violations of a batch. It leaves half of the time in which the batch can be written to
// the writing: evidence that is slow must keep no ticket from opening.
func (r *recorder) takeEvidence(ctx context.Context, batch []v1alpha1.Violation) {
	ctx, cancel := context.WithTimeout(ctx, min(evidenceTime, r.fresh.left()/2))
	defer cancel()
	var group errgroup.Group
	places := make(chan struct{}, maxQueries)
	for i := range batch[:min(len(batch), maxEvidence)] {
		v := &batch[i]
		reading, violating := r.results[v.Invariant].Violating[v.StoreID]
		if !violating || v.Reason != v1alpha1.Violated {
			continue
		}
		program, spec := r.scope.checks[v.Invariant].program, &r.scope.invariants[v.Invariant].Spec
		ask := func(ctx context.Context, query string) (string, *verdict.Fault) {
			select {
			case places <- struct{}{}:
				defer func() { <-places }()
			case <-ctx.Done():
				return "", &verdict.Fault{Reason: verdict.Timeout, Message: "the time was up before it could be asked"}
			}
			return r.reconciler.Observer.Ask(ctx, r.scope.key, spec, query)
		}
		group.Go(func() error {
			v.Snapshot = program.Snapshot(ctx, v.StoreID, reading, r.cycle.Now, ask)
			return nil
		})
	}
	_ = group.Wait()
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
	if err := r.fresh.check(); err != nil {
		return err
	}
	if err := r.patch(ctx, u.Ticket, u.Status); err != nil {
		return err
	}
	delete(r.scope.uncounted, name)
	r.scope.lastWrite[name], r.written[name] = r.cycle.Now, true
	r.left(u.Ticket, u.Status)
	r.updated(u)
	return nil
}

// tooSoon tells whether a ticket's counters were written so recently that they can wait.
func (r *recorder) tooSoon(ticket string, violations int) bool {
	since := r.cycle.Now.Sub(r.scope.lastWrite[ticket])
	return since >= 0 && since < counterCost*time.Duration(violations)
}

// patch writes a ticket's status, provided that nobody has written to the ticket in between.
func (r *recorder) patch(ctx context.Context, ticket *v1alpha1.Ticket, status v1alpha1.TicketStatus) error {
	err := patchTicketStatus(ctx, r.reconciler.Client, ticket, status)
	if isConflict(err) {
		return errConflict
	}
	return err
}

// patchTicketStatus writes what differs between two statuses. It is a conflict if anybody has written to the ticket since it
// was read.
func patchTicketStatus(ctx context.Context, c client.Client, ticket *v1alpha1.Ticket, status v1alpha1.TicketStatus) error {
	// Without the spec, which is the same on both sides and may be large.
	meta := metav1.ObjectMeta{Namespace: ticket.Namespace, Name: ticket.Name, ResourceVersion: ticket.ResourceVersion}
	before := &v1alpha1.Ticket{ObjectMeta: meta, Status: ticket.Status}
	after := &v1alpha1.Ticket{ObjectMeta: meta, Status: status}
	err := c.Status().Patch(ctx, after, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if err != nil {
		return fmt.Errorf("write the status of ticket %s/%s: %w", ticket.Namespace, ticket.Name, err)
	}
	return nil
}
