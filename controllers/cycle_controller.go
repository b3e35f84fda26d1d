// Package controllers runs the cycles: observe, judge, record, report, requeue.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/ledger"
	"invariant.dev/operator/controllers/observe"
)

// DefaultInterval is how often an Invariant is checked where neither it nor the monitor says.
const DefaultInterval = 30 * time.Second

// DefaultWorkers is how many systems are judged and recorded at the same time. Reading sources needs no worker.
const DefaultWorkers = 4

const (
	// skippedRetry is when a cycle is tried again that found too many looks under way.
	skippedRetry = 500 * time.Millisecond
	// turnRetry is when a cycle is tried again whose namespace has its share of the workers.
	turnRetry = 50 * time.Millisecond
	// reportRetry is when statuses are written on that one turn was too short for: as soon as others have had theirs.
	reportRetry = time.Millisecond
	// lookWatchdog is when a cycle whose look is under way looks again, should its end ever go unnoticed.
	lookWatchdog = 90 * time.Second
)

// CycleReconciler runs the cycles of systems. The request is the system: its namespace and its name. No system is ever
// reconciled twice at a time, so each has a single writer.
type CycleReconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads from the API server.
	Live client.Reader
	// Observer reads sources.
	Observer *observe.Observer
	// Objects is where Observer reads Kubernetes objects, which is told what is still needed; nil: nowhere.
	Objects *observe.Objects
	// Recorder writes Events.
	Recorder events.EventRecorder
	// Clock tells the time.
	Clock clock.WithTicker
	// Interval is how often an Invariant is checked that does not say; at least 1s.
	Interval time.Duration
	// Workers is how many systems are judged and recorded at the same time.
	Workers int
	// Monitor names this process in the tickets that it writes.
	Monitor string
	// Log takes a line for each thing that happens to a ticket, and the heartbeat.
	Log logr.Logger

	looks *observations
	tally tally

	// retained is what checks keep for oldSelf.
	retained *observe.Budget
	turns    turns

	mu      sync.Mutex
	systems map[types.NamespacedName]*system
	queue   workqueue.TypedRateLimitingInterface[reconcile.Request]
}

// SetupWithManager adds the controller, its indexes and its heartbeat to the manager.
func (r *CycleReconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.init()
	if err := addIndexes(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return fmt.Errorf("index Invariants and tickets by system: %w", err)
	}
	if err := mgr.Add(&heartbeat{tally: &r.tally, interval: r.Interval, clock: r.Clock, log: r.Log}); err != nil {
		return fmt.Errorf("add the heartbeat: %w", err)
	}
	// Which systems have open tickets is learnt once, from the first list; later the cycles themselves open them.
	created := predicate.Funcs{
		UpdateFunc:  func(event.UpdateEvent) bool { return false },
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("cycle").
		Watches(&v1alpha1.Invariant{}, handler.EnqueueRequestsFromMapFunc(systemOf), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.Ticket{}, handler.EnqueueRequestsFromMapFunc(systemOf), builder.WithPredicates(created)).
		WatchesRawSource(source.Func(r.keepQueue)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Workers,
			// The priority queue starves half of the systems once its workers are busy.
			UsePriorityQueue: ptr.To(false),
			EnableWarmup:     ptr.To(true),
		}).
		Complete(r)
}

func (r *CycleReconciler) init() {
	r.systems = map[types.NamespacedName]*system{}
	r.retained = observe.NewBudget(maxRetained, maxRetainedPerNamespace)
	r.looks = newObservations(r.Observer, r.Clock, r.wake)
}

// keepQueue keeps the queue, so that a look that is over can wake its system.
func (r *CycleReconciler) keepQueue(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = queue
	return nil
}

func (r *CycleReconciler) wake(system types.NamespacedName) {
	r.mu.Lock()
	queue := r.queue
	r.mu.Unlock()
	if queue != nil {
		queue.Add(reconcile.Request{NamespacedName: system})
	}
}

// systemOf is the system that an Invariant or a Ticket is about.
func systemOf(_ context.Context, object client.Object) []reconcile.Request {
	name := ""
	switch o := object.(type) {
	case *v1alpha1.Invariant:
		name = o.SystemName()
	case *v1alpha1.Ticket:
		name = o.Spec.System
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: name}}}
}

// Reconcile goes on with the cycle of one system: it begins a look when something is due, and judges and records it when
// the look is over. It never returns an error, which would put the next tick off for ever longer delays.
func (r *CycleReconciler) Reconcile(ctx context.Context, request reconcile.Request) (result reconcile.Result, _ error) {
	log := ctrl.LoggerFrom(ctx)
	defer func() {
		if crash := recover(); crash != nil {
			log.Error(fmt.Errorf("panic: %v", crash), "cycle failed", "stack", string(debug.Stack()))
			cyclesSkipped.WithLabelValues("panic").Inc()
			result = reconcile.Result{RequeueAfter: r.Interval}
		}
	}()
	if !r.turns.begin(request.Namespace, r.Workers) {
		return reconcile.Result{RequeueAfter: turnRetry}, nil
	}
	defer r.turns.end(request.Namespace)
	s, err := r.gather(ctx, request.NamespacedName)
	if err != nil {
		log.Error(err, "cycle skipped")
		return reconcile.Result{RequeueAfter: r.Interval}, nil
	}
	r.keepWatches(s)
	if s.gone() {
		if over, _ := r.looks.take(request.NamespacedName); over != nil {
			over.seen.Release()
		}
		r.forget(request.NamespacedName)
		return reconcile.Result{}, nil
	}
	again := r.advance(ctx, log, s)
	if r.writeReports(ctx, log, s) {
		again = min(again, reportRetry)
	}
	return reconcile.Result{RequeueAfter: again}, nil
}

// advance takes the cycle one step on and says when to look again.
func (r *CycleReconciler) advance(ctx context.Context, log logr.Logger, s *scope) time.Duration {
	over, exists := r.looks.take(s.key)
	if exists && over == nil {
		return lookWatchdog
	}
	if over != nil {
		defer over.seen.Release()
		r.finish(ctx, log, s, over)
	}
	now := r.Clock.Now()
	due, tick := s.due(now)
	if len(due) == 0 {
		// Without a check there is still something to do: to take over, to release, to report a suspension. What was refused a moment
		// ago waits for the next tick.
		if over == nil && len(s.unwritten) == 0 && (!s.recorded || s.idle()) {
			r.finish(ctx, log, s, &look{tick: now, began: now, finished: now})
		}
		return s.untilNextTick(now)
	}
	if !r.looks.begin(ctx, s.key, &look{tick: tick, due: due, known: s.known}, s.readable(due)) {
		cyclesSkipped.WithLabelValues("busy").Inc()
		return skippedRetry
	}
	cycleLateness.Observe(now.Sub(tick).Seconds())
	return lookWatchdog
}

// finish judges what a look saw, records it in the tickets, and reports it in the Invariants.
func (r *CycleReconciler) finish(ctx context.Context, log logr.Logger, s *scope, l *look) {
	began := r.Clock.Now()
	if ctx.Err() != nil {
		return
	}
	results, decided := s.judge(ctx, l, r.retained), false
	fresh := s.freshness(r.Clock, l.began, results)
	c := ledger.Cycle{Now: l.tick.UTC().Truncate(time.Second), Monitor: r.Monitor, Invariants: s.policies(l.tick, results), Uncounted: s.uncounted, Known: l.known,
		// Twice, because the tick may lie an interval before its look.
		Overlap: 2 * fresh.lasts}
	defer func() { s.settle(results, c, decided) }()
	s.known = later(s.known, c.Now)
	recorder := &recorder{reconciler: r, scope: s, cycle: c, results: results, fresh: fresh, written: map[string]bool{}}
	if err := fresh.check(); err != nil {
		log.Error(err, "cycle skipped")
		cyclesSkipped.WithLabelValues("stale").Inc()
		// Since when something is violated is true however late it can be written.
		s.memory, decided = recorder.remember(), true
		return
	}
	// The next look waits for this cycle: an API server that asks for patience, or answers nobody, gets no more than may still be written.
	ctx, cancel := context.WithTimeout(ctx, fresh.left())
	defer cancel()
	if err := recorder.noteOpen(ctx); err != nil {
		log.Error(err, "nothing is opened in this cycle; the next one catches up")
		cyclesSkipped.WithLabelValues("read").Inc()
	}
	memory, err := recorder.record(ctx)
	s.memory, decided = memory, true
	if err != nil {
		log.Error(err, "not all of the cycle was written; the next one catches up")
		cyclesSkipped.WithLabelValues("write").Inc()
	}
	s.recorded = err == nil
	if errors.Is(err, errStale) {
		return
	}
	r.report(s, c, results, fresh)
	cycleDuration.Observe(r.Clock.Since(began).Seconds() + began.Sub(l.finished).Seconds())
}

// keepWatches ends the watches that no Invariant of the system needs any more.
func (r *CycleReconciler) keepWatches(s *scope) {
	if r.Objects != nil {
		r.Objects.Keep(s.key, s.watched())
	}
}

// forget drops all that is kept of a system that no longer exists.
func (r *CycleReconciler) forget(key types.NamespacedName) {
	r.mu.Lock()
	if s := r.systems[key]; s != nil {
		for _, c := range s.checks {
			c.retained.Release()
		}
	}
	delete(r.systems, key)
	r.mu.Unlock()
	r.tally.forget(key)
	forgetMetrics(key)
}
