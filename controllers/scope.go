package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/ledger"
	"invariant.dev/operator/controllers/observe"
	"invariant.dev/operator/controllers/verdict"
)

// maxCheckTime is how long judging one invariant may take, and maxJudgeTime all of a system: a worker is busy meanwhile.
const (
	maxCheckTime = 2 * time.Second
	maxJudgeTime = 5 * time.Second
)

// system is what is kept of a system between its cycles. Only its own reconcile touches it.
type system struct {
	checks map[string]*check
	memory map[string]ledger.Memory
	// uncounted and lastWrite are of the tickets whose counters are written more seldom than every cycle.
	uncounted map[string]ledger.Uncounted
	lastWrite map[string]time.Time
	// recorded: a whole cycle was written since this process began. Until then every open ticket is.
	recorded bool
	// unwritten are the statuses of Invariants that are still to be written.
	unwritten map[string]unwritten
	// known is the latest look that this monitor knows of: its own, and those that the system's tickets tell of.
	known time.Time
	// unfinished is the batch key of a batch of which not all tickets could be opened: the rest of it opens under the same.
	unfinished string
	// open are the tickets that were open at the last cycle, as it left them.
	open map[string]*v1alpha1.Ticket
}

// check is what is kept of an Invariant.
type check struct {
	uid        types.UID
	generation int64
	// judgedAt is the tick at which it was judged last in this generation; zero if it was not.
	judgedAt time.Time
	program  *judge.Program
	fault    *verdict.Fault
	// past is what its checks leave for the next, and retained the memory that it may take for that.
	past     judge.Past
	retained *observe.Lease
	// before is the past with which the cycle that is under way was judged.
	before judge.Past
	// mute is the annotation operator/mute-until as it was when it was last looked at, and muted whether it muted then.
	mute  string
	muted bool
}

// scope is one reconcile of a system: what is kept of it, and what the cache says now.
type scope struct {
	*system
	key        types.NamespacedName
	interval   time.Duration
	phase      time.Duration
	invariants map[string]*v1alpha1.Invariant
	// confirmed are the invariants that tickets name and the cache does not have: whether the API server has them.
	confirmed map[string]bool
	// tickets are those that a cycle can change: the open ones, and resolved ones that are not settled.
	tickets []*v1alpha1.Ticket
}

// gather reads all that a cycle needs from the cache.
func (r *CycleReconciler) gather(ctx context.Context, key types.NamespacedName) (*scope, error) {
	s := &scope{key: key, interval: r.Interval, phase: phase(key.Namespace, key.Name), invariants: map[string]*v1alpha1.Invariant{}, confirmed: map[string]bool{}}
	var invariants v1alpha1.InvariantList
	if err := r.Client.List(ctx, &invariants, client.InNamespace(key.Namespace), client.MatchingFields{systemIndex: key.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list the Invariants of system %s: %w", key, err)
	}
	for i := range invariants.Items {
		s.invariants[invariants.Items[i].Name] = &invariants.Items[i]
	}
	tickets, err := r.ticketsOf(ctx, key, liveSystemIndex)
	if err != nil {
		return nil, err
	}
	s.tickets = tickets
	s.system = r.systemOf(key)
	s.recall()
	if s.known.IsZero() {
		// Of resolved tickets too, which others may have written to.
		if tickets, err = r.ticketsOf(ctx, key, systemIndex); err != nil {
			return nil, err
		}
	}
	s.known = later(s.known, ledger.LatestLook(tickets))
	return s, nil
}

// ticketsOf are the tickets that the cache has of a system: all of them, or those that a cycle can change.
func (r *CycleReconciler) ticketsOf(ctx context.Context, key types.NamespacedName, index string) ([]*v1alpha1.Ticket, error) {
	var list v1alpha1.TicketList
	if err := r.Client.List(ctx, &list, client.InNamespace(key.Namespace), client.MatchingFields{index: key.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list the tickets of system %s: %w", key, err)
	}
	tickets := make([]*v1alpha1.Ticket, 0, len(list.Items))
	for i := range list.Items {
		tickets = append(tickets, &list.Items[i])
	}
	return tickets, nil
}

func (r *CycleReconciler) systemOf(key types.NamespacedName) *system {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.systems[key] == nil {
		r.systems[key] = &system{checks: map[string]*check{}, memory: map[string]ledger.Memory{},
			uncounted: map[string]ledger.Uncounted{}, lastWrite: map[string]time.Time{}, open: map[string]*v1alpha1.Ticket{}, unwritten: map[string]unwritten{}}
	}
	return r.systems[key]
}

// recall compiles what is new or changed, takes up its timers where an earlier monitor left them, and drops what is gone.
func (s *scope) recall() {
	for name, invariant := range s.invariants {
		before := s.checks[name]
		if before != nil && before.uid == invariant.UID && before.generation == invariant.Generation {
			continue
		}
		if before == nil || before.uid != invariant.UID {
			s.memory[name] = ledger.Recall(&invariant.Status)
		}
		next := &check{uid: invariant.UID, generation: invariant.Generation}
		if before != nil {
			before.retained.Release()
			next.mute, next.muted = before.mute, before.muted
		}
		program, err := judge.Compile(&invariant.Spec)
		if err != nil {
			next.fault = asFault(err)
		}
		next.program = program
		s.checks[name] = next
	}
	for name := range s.checks {
		if s.invariants[name] == nil {
			s.checks[name].retained.Release()
			delete(s.checks, name)
			delete(s.memory, name)
		}
	}
}

func asFault(err error) *verdict.Fault {
	var fault *verdict.Fault
	if errors.As(err, &fault) {
		return fault
	}
	return &verdict.Fault{Reason: verdict.InvalidExpression, Message: err.Error()}
}

// gone tells whether the system no longer exists: no Invariant names it, and no ticket that matters.
func (s *scope) gone() bool { return len(s.invariants) == 0 && len(s.tickets) == 0 }

// idle tells whether nothing of the system is ever due: all of its invariants are suspended, or there are none.
func (s *scope) idle() bool {
	for _, invariant := range s.invariants {
		if !invariant.Spec.Suspend {
			return false
		}
	}
	return true
}

func (s *scope) intervalOf(invariant *v1alpha1.Invariant) time.Duration {
	return max(invariant.Spec.Interval.Or(s.interval), time.Second)
}

// due are the invariants to judge now, and the cycle's time. What is new or changed is due at once, in a cycle of its own
// if no tick has come; a tick that was missed is made up for once.
func (s *scope) due(now time.Time) (due []*v1alpha1.Invariant, at time.Time) {
	// By the wall clock: two times with a reading of the monotonic one compare as if the clock had not been set.
	now = now.Round(0)
	for name, invariant := range s.invariants {
		if invariant.Spec.Suspend {
			continue
		}
		tick := lastTick(now, s.intervalOf(invariant), s.phase)
		switch judgedAt := s.checks[name].judgedAt; {
		case judgedAt.IsZero():
			at = later(at, now)
		case judgedAt.Before(tick), judgedAt.After(now):
			at = later(at, tick)
		default:
			continue
		}
		due = append(due, invariant)
	}
	return due, at
}

// readable are the specs of the invariants whose sources are worth reading.
func (s *scope) readable(due []*v1alpha1.Invariant) []*v1alpha1.InvariantSpec {
	var specs []*v1alpha1.InvariantSpec
	for _, invariant := range due {
		if s.checks[invariant.Name].fault == nil {
			specs = append(specs, &invariant.Spec)
		}
	}
	return specs
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// untilNextTick is how long there is nothing to do.
func (s *scope) untilNextTick(now time.Time) time.Duration {
	next := nextTick(now, s.interval, s.phase)
	for _, invariant := range s.invariants {
		if tick := nextTick(now, s.intervalOf(invariant), s.phase); !invariant.Spec.Suspend && tick.Before(next) {
			next = tick
		}
	}
	return max(next.Sub(now), time.Millisecond)
}

// confirmDeleted asks the API server about the invariants that open tickets name and the cache does not have: a cache
// that lags must not resolve anything. Where it does not answer, they count as there.
func (s *scope) confirmDeleted(ctx context.Context, live client.Reader, tickets []*v1alpha1.Ticket) error {
	asked := map[string]bool{}
	for _, ticket := range tickets {
		for _, name := range ledger.Awaited(ticket) {
			if _, known := s.confirmed[name]; !known && s.invariants[name] == nil {
				asked[name] = true
			}
		}
	}
	if len(asked) == 0 {
		return nil
	}
	there, err := s.listInvariants(ctx, live)
	for name := range asked {
		s.confirmed[name] = err != nil || there[name]
	}
	return err
}

// listInvariants are the names of the system's Invariants as the API server has them. They are listed, because asking for one after the
// other can take longer than what was observed may be written.
func (s *scope) listInvariants(ctx context.Context, live client.Reader) (map[string]bool, error) {
	systems := []string{s.key.Name}
	if unnamed := (v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Namespace: s.key.Namespace}}); unnamed.SystemName() == s.key.Name {
		systems = append(systems, "")
	}
	there := map[string]bool{}
	for _, system := range systems {
		list := metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("InvariantList"))
		ofSystem := client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("spec.system", system)}
		if err := live.List(ctx, &list, client.InNamespace(s.key.Namespace), ofSystem); err != nil {
			return nil, fmt.Errorf("find out which Invariants of system %s were deleted: %w", s.key, err)
		}
		for _, invariant := range list.Items {
			there[invariant.Name] = true
		}
	}
	return there, nil
}

// judge judges what a look saw, for the invariants that have not changed since it began.
func (s *scope) judge(ctx context.Context, l *look, retained *observe.Budget) map[string]judge.Result {
	ctx, cancel := context.WithTimeout(ctx, maxJudgeTime)
	defer cancel()
	results := make(map[string]judge.Result, len(l.due))
	for _, asked := range l.due {
		invariant, c := s.invariants[asked.Name], s.checks[asked.Name]
		if invariant == nil || invariant.UID != asked.UID || invariant.Generation != asked.Generation || invariant.Spec.Suspend {
			continue
		}
		c.judgedAt = l.tick
		if c.fault != nil {
			results[asked.Name] = judge.Result{Judgement: verdict.Judgement{Fault: c.fault}}
			continue
		}
		c.before = c.past
		results[asked.Name] = c.judge(ctx, l, &asked.Spec)
		if !c.retain(s.key.Namespace, retained) {
			results[asked.Name] = unjudged(verdict.TooLarge, "oldSelf: the Invariants of this namespace keep more for their next checks than the monitor holds; "+
				"look at fewer stores, or at less of each")
		}
	}
	return results
}

// judge judges what a look saw, while there is time and room for what that makes of it.
func (c *check) judge(ctx context.Context, l *look, spec *v1alpha1.InvariantSpec) judge.Result {
	// What was seen of objects takes no decoding, and may have been judged before.
	if ctx.Err() != nil && spec.Source.Kubernetes == nil {
		return unjudged(verdict.CostExceeded, fmt.Sprintf("the check ran out of time: those of all Invariants of a system have %v together; "+
			"look at less, or let several systems share the work", maxJudgeTime))
	}
	ctx, cancel := context.WithTimeout(ctx, maxCheckTime)
	defer cancel()
	result := c.program.JudgeAfter(ctx, &c.past, l.seen.Observation(spec), l.tick)
	if !l.seen.Hold(int64(result.Built)) {
		c.past = c.before
		return unjudged(verdict.TooLarge, "source.http.items makes more of the answer than the monitor holds together with what else it reads; let it pick out less")
	}
	return result
}

// unjudged is the result of a check that came to nothing.
func unjudged(reason verdict.Reason, message string) judge.Result {
	return judge.Result{Judgement: verdict.Judgement{Fault: &verdict.Fault{Reason: reason, Message: message}}}
}

// settle ends what judge began. What counts and stands in no ticket, because it could not be written, is compared with the same past once
// more by the next check: a step that lasts for one check would be in no ticket ever. Where nothing was decided, that is all that was found
// violated.
func (s *scope) settle(results map[string]judge.Result, c ledger.Cycle, decided bool) {
	for name, result := range results {
		check, missing := s.checks[name], result.Stores(verdict.Violated)
		if decided {
			missing = s.memory[name].Due(c.Invariants[name], c.Now)
		}
		check.past.KeepBefore(check.before, missing)
		check.before = judge.Past{}
	}
}

// What checks keep, for oldSelf and so as not to judge again what has not changed, takes no more memory than this, in bytes, about.
const (
	maxRetained             = 64 << 20
	maxRetainedPerNamespace = 24 << 20
	retainedValue           = 96
)

// retain takes the memory for what a check keeps, or makes it forget that. It tells whether the next check has what it needs.
func (c *check) retain(namespace string, budget *observe.Budget) bool {
	c.retained.Release()
	c.retained = budget.Lease(namespace, maxRetainedPerNamespace)
	if c.retained.Take(retainedValue * int64(c.past.Values())) {
		return true
	}
	return !c.past.Forget()
}

// watched are the Kubernetes objects that the invariants look at.
func (s *scope) watched() []*v1alpha1.KubernetesSource {
	var sources []*v1alpha1.KubernetesSource
	for _, invariant := range s.invariants {
		if source := invariant.Spec.Source.Kubernetes; source != nil && !invariant.Spec.Suspend {
			sources = append(sources, source)
		}
	}
	return sources
}

// policies are what the ledger has to know of all invariants of the system.
func (s *scope) policies(now time.Time, results map[string]judge.Result) map[string]ledger.Invariant {
	policies := make(map[string]ledger.Invariant, len(s.invariants))
	for name, invariant := range s.invariants {
		policy := ledger.PolicyOf(invariant, now)
		if result, judged := results[name]; judged {
			policy.Judgement = &result.Judgement
		}
		policies[name] = policy
	}
	return policies
}

const (
	// systemIndex finds the Invariants and all tickets of a system in the cache.
	systemIndex = "system"
	// liveSystemIndex finds the tickets that a cycle can change, so that its work does not grow with history.
	liveSystemIndex = "liveSystem"
)

func addIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	bySystem := func(o client.Object) []string { return []string{systemOf(ctx, o)[0].Name} }
	live := func(o client.Object) []string {
		if ticket, ok := o.(*v1alpha1.Ticket); ok && (ticket.IsOpen() || ledger.Unsettled(ticket)) {
			return bySystem(o)
		}
		return nil
	}
	return errors.Join(
		indexer.IndexField(ctx, &v1alpha1.Invariant{}, systemIndex, bySystem),
		indexer.IndexField(ctx, &v1alpha1.Ticket{}, systemIndex, bySystem),
		indexer.IndexField(ctx, &v1alpha1.Ticket{}, liveSystemIndex, live),
	)
}

// isConflict tells whether a write was refused because the object is no longer what was read.
func isConflict(err error) bool { return apierrors.IsConflict(err) || apierrors.IsNotFound(err) }
