package controllers

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/observe"
)

// Sources are read beside the controller's workers, one look of a system at a time, so that a source that hangs
// holds up its own system only. How many looks there are at once is bounded: each may hold answers of several MiB.
const (
	maxLooks             = 128
	maxLooksPerNamespace = 48
)

// look is one look at a system's sources, under way or over.
type look struct {
	// tick is the cycle's time.
	tick time.Time
	// due are the invariants to judge by it, as they were when it began.
	due []*v1alpha1.Invariant
	// known is the latest look that this monitor knew of when this one began.
	known time.Time

	done            bool
	began, finished time.Time
	seen            observe.Look
}

// observations are the looks of all systems.
type observations struct {
	observer *observe.Observer
	clock    clock.PassiveClock
	// wake is called when a look is over.
	wake func(types.NamespacedName)

	mu           sync.Mutex
	looks        map[types.NamespacedName]*look
	running      int
	perNamespace map[string]int
}

func newObservations(observer *observe.Observer, clock clock.PassiveClock, wake func(types.NamespacedName)) *observations {
	return &observations{observer: observer, clock: clock, wake: wake,
		looks: map[types.NamespacedName]*look{}, perNamespace: map[string]int{}}
}

// take returns a system's look if it is over, and tells whether there is one at all. A look that is over is taken once.
func (o *observations) take(system types.NamespacedName) (over *look, exists bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l, exists := o.looks[system]
	if !exists || !l.done {
		return nil, exists
	}
	delete(o.looks, system)
	return l, true
}

// begin begins a look at what the specs name, unless too many are under way: then it returns false.
func (o *observations) begin(ctx context.Context, system types.NamespacedName, l *look, specs []*v1alpha1.InvariantSpec) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.running >= maxLooks || o.perNamespace[system.Namespace] >= maxLooksPerNamespace {
		return false
	}
	l.began = o.clock.Now()
	o.looks[system] = l
	o.running++
	o.perNamespace[system.Namespace]++
	go func() {
		o.end(system, l, o.observer.Look(ctx, system, specs))
		o.wake(system)
	}()
	return true
}

func (o *observations) end(system types.NamespacedName, l *look, seen observe.Look) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l.seen, l.finished, l.done = seen, o.clock.Now(), true
	o.running--
	if o.perNamespace[system.Namespace]--; o.perNamespace[system.Namespace] == 0 {
		delete(o.perNamespace, system.Namespace)
	}
}
