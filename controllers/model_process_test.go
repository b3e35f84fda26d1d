package controllers

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/ledger"
	"invariant.dev/operator/controllers/observe"
	"invariant.dev/operator/controllers/verdict"
)

// effect is what kind of call it is.
type effect int

const (
	begin effect = iota // it begins the next cycle
	cachedRead
	liveRead
	write
)

// call is one thing that a process asks of the world. It happens when the scheduler says so, and as it says.
type call struct {
	name string
	does effect
	// kind is what it reads or writes.
	kind string

	// lost is whether its request or its answer gets lost, and catchUp whether the cache catches up first.
	lost    loss
	catchUp bool
}

type loss int

const (
	noLoss loss = iota
	requestLost
	answerLost
)

var errLost = errors.New("the connection was lost")

// process is one monitor from its start to its end: the real CycleReconciler, run as a coroutine that stops at each call.
type process struct {
	world *world
	name  string
	// monitor knows what a process knows; a new process begins with nothing.
	monitor *CycleReconciler
	cache   map[string]objects
	// history is a hash of all that the process has been told, from which all follows that it does and remembers.
	history uint64
	// waits is the call that it stands before, and ran whether it has begun a cycle at this tick.
	waits *call
	ran   bool
	// sees is what its present look says of each store, and looked when that look was.
	sees   string
	looked time.Time
	// missed: it was told in this cycle that there is no Invariant.
	missed bool
	// resumed is when the call before this one was answered.
	resumed time.Time
	// first: it is in its first cycle. cycles counts those that it began.
	first  bool
	cycles int
	// newest is the last ticket of those whose numbers it listed. freed: a person has deleted it since, or a later one; gone: it was told that
	// the newest is gone.
	newest      string
	freed, gone bool
	// over holds the histories of the processes that stood before a write when its first cycle began. They are superseded
	// once that cycle is over.
	over       map[*process]uint64
	superseded bool

	resume func() (*call, bool)
	stop   func()
	yield  func(*call) bool
	dead   bool
	look   chan string
	woken  chan struct{}
}

func newProcess(w *world, name string) *process {
	p := &process{world: w, name: name, history: mix(0, name), first: true, look: make(chan string), woken: make(chan struct{}, 1)}
	observer := observe.NewObserver(observe.AddressPolicy{})
	observer.Objects = p
	p.monitor = &CycleReconciler{Client: modelClient{p: p}, Live: modelReader{p}, Observer: observer, Recorder: &eventLog{},
		Clock: w.clock, Interval: DefaultInterval, Workers: 1, Monitor: name, Log: logr.Discard()}
	p.monitor.init()
	p.monitor.looks.wake = func(types.NamespacedName) { p.woken <- struct{}{} }
	p.resume, p.stop = iter.Pull(p.main)
	p.waits, _ = p.resume()
	return p
}

// start fills the cache, and does what scope.recall does for an Invariant that it meets first, but that it is compiled once
// for all executions.
func (p *process) start() {
	p.cache = map[string]objects{ticketKind: p.world.server.objects.of(ticketKind), invariantKind: p.world.server.objects.of(invariantKind)}
	p.history = mix(p.history, p.world.server.objects.hash())
	s := p.monitor.systemOf(modelSystem)
	p.cache[invariantKind].each(invariantKind, func(o client.Object, _ uint64) {
		invariant := o.(*v1alpha1.Invariant)
		s.memory[invariant.Name] = ledger.Recall(&invariant.Status)
		s.checks[invariant.Name] = &check{uid: invariant.UID, generation: invariant.Generation, program: modelProgram()}
	})
}

var modelSystem = types.NamespacedName{Namespace: modelNamespace, Name: testSystem}

// main runs one cycle after the other.
func (p *process) main(yield func(*call) bool) {
	p.yield = yield
	ctx := ctrl.LoggerInto(context.Background(), funcr.New(func(_, line string) { p.world.logged(p, line) }, funcr.Options{}))
	for p.ask(call{name: "begins a cycle", does: begin}, func() error { return nil }) == nil {
		p.history = mix(p.history, p.sees)
		if p.cycles++; p.cycles == 1 {
			p.start()
		}
		if !p.looking() {
			p.looks()
			p.reconcile(ctx)
		}
		if p.looking() {
			p.look <- p.sees
			<-p.woken
			p.reconcile(ctx)
		}
		p.world.cycled(p)
		// Where the next tick has come meanwhile, the look of the next cycle is under way.
		if p.ran = !p.looking(); !p.ran {
			p.looks()
		}
	}
}

// looks notes when its present look began, or begins now.
func (p *process) looks() {
	p.looked = p.world.clock.Now()
	p.monitor.looks.mu.Lock()
	defer p.monitor.looks.mu.Unlock()
	if l := p.monitor.looks.looks[modelSystem]; l != nil {
		p.looked = l.began
	}
}

func (p *process) reconcile(ctx context.Context) {
	_, _ = p.monitor.Reconcile(ctx, reconcile.Request{NamespacedName: modelSystem})
}

func (p *process) looking() bool {
	p.monitor.looks.mu.Lock()
	defer p.monitor.looks.mu.Unlock()
	return len(p.monitor.looks.looks) > 0
}

// busy tells whether it is in the middle of a cycle.
func (p *process) busy() bool { return p.waits.does != begin }

// ask stands before a call until the scheduler lets it happen.
func (p *process) ask(c call, do func() error) error {
	beginning := c.does == cachedRead && !p.looking()
	if !p.world.closing && !beginning || c.does == begin {
		p.dead = p.dead || !p.yield(&c)
	}
	if p.dead {
		return errCut
	}
	if c.catchUp || (p.world.closing && c.does == cachedRead) {
		p.cache[c.kind] = p.world.server.objects.of(c.kind)
	}
	p.history = mix(p.history, c.lost)
	p.history = mix(p.history, p.world.clock.Now().Unix())
	if c.lost == requestLost {
		return errLost
	}
	err := do()
	p.superseded = false
	p.resumed = p.world.clock.Now()
	if c.lost == answerLost {
		err = errLost
	}
	p.history = mix(p.history, fmt.Sprint(err))
	return err
}

// step lets the call happen that the process stands before, and runs it to the next one.
func (p *process) step() {
	p.waits, _ = p.resume()
}

// kill ends the process where it stands: nothing that it does any more reaches anything.
func (p *process) kill() {
	p.stop()
	close(p.look)
}

// Observe implements observe.ObjectReader: it sees what the scheduler chose.
func (p *process) Observe(context.Context, types.NamespacedName, *v1alpha1.KubernetesSource) verdict.Observation {
	var o verdict.Observation
	for i, said := range <-p.look {
		reading := verdict.Reading{Value: map[string]any{"id": fmt.Sprint(i + 1), "ok": said == 's'}}
		if said == 'u' {
			reading.Fault = &verdict.Fault{Reason: verdict.Timeout, Message: "no answer"}
		}
		o.Readings = append(o.Readings, reading)
	}
	return o
}

var modelSpec = v1alpha1.InvariantSpec{
	System:     testSystem,
	Severity:   v1alpha1.Critical,
	Source:     v1alpha1.Source{Kubernetes: &v1alpha1.KubernetesSource{APIVersion: "v1", Kind: "Store"}},
	StoreID:    "self.id",
	Expression: "self.ok",
}

var modelProgram = sync.OnceValue(func() *judge.Program {
	program, err := judge.Compile(&modelSpec)
	if err != nil {
		panic(err)
	}
	return program
})
