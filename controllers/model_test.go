package controllers

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
)

var modelDepth = flag.Int("model.depth", 0, "how much more than by default may happen in an execution of the model: so many more ticks, crashes, losses and so on")

const modelInvariant = "store-up"

// bounds are how often things may happen in one execution.
type bounds struct {
	// ticks are of the clock, each an interval.
	ticks int
	// crashes end a process at any moment; another begins with nothing but what is stored.
	crashes int
	// switches are how often a process is left in the middle of a cycle, for others or for the clock to go on.
	switches int
	// losses are of a request or of an answer: the process sees an error and goes on.
	losses int
	// lags are how often a cache does not catch up before it is read.
	lags int
	// acts are how often a person does something.
	acts int
}

func (b bounds) more(depth int) bounds {
	deeper := func(n *int) {
		if *n > 0 {
			*n += depth
		}
	}
	for _, n := range []*int{&b.ticks, &b.crashes, &b.switches, &b.losses, &b.lags, &b.acts} {
		deeper(n)
	}
	return b
}

// allUsed: an execution came to its end, and all that the bounds allow had happened in it. Nobody does the same to an object
// twice, so that there may be no more for people to do in a deeper one.
const allUsed = "all bounds used up"

// scenario is what can happen, and how often.
type scenario struct {
	name   string
	bounds bounds
	// monitors are how many processes check, each of which believes that it alone does.
	monitors int
	// standby: only one monitor checks until it is left before a write to a ticket that there is.
	standby bool
	// sees is what a look may see at each tick: v, s or u for each store. The last is also for all ticks after it.
	sees [][]string
	// people is what a person may do.
	people []string
	grace  time.Duration
	// wants is what must have happened in some execution, or else the exploration proves nothing.
	wants []string
}

// world is one execution of a scenario.
type world struct {
	*scenario
	left    bounds
	width   int
	began   time.Time
	clock   *testingclock.FakeClock
	server  *apiServer
	indexes modelIndexes
	slots   []*process
	// running is the process that is in the middle of a cycle and was not left.
	running *process
	// did is what people have done already.
	did     map[string]bool
	record  record
	reached map[string]int
	failure string
	// closing: the execution is over, and undisturbed cycles follow.
	closing bool
	over    bool
	started int
}

func newWorld(s *scenario, reached map[string]int, known map[uint64]merged) *world {
	began := lastTick(start, DefaultInterval, phase(modelNamespace, testSystem))
	w := &world{scenario: s, left: s.bounds.more(*modelDepth), width: len(s.sees[0][0]), began: began, clock: testingclock.NewFakeClock(began),
		server: &apiServer{objects: objects{}, versions: map[objectKey]int{}, merged: known}, indexes: modelIndexes{}, did: map[string]bool{}, record: newRecord(), reached: reached}
	w.server.written = w.written
	w.try(addIndexes(nil, w.indexes)) //nolint:staticcheck // nothing uses the context
	w.try(w.server.create(nil, w.invariant()))
	for i := range s.monitors {
		w.slots = append(w.slots, nil)
		w.restart(i)
	}
	return w
}

func (w *world) fail(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf(format, args...)
	}
}

func (w *world) try(err error) {
	if err != nil {
		w.fail("%v", err)
	}
}

// logged takes the lines that a monitor logs: it must not panic, nor write what the API server refuses as wrong.
func (w *world) logged(p *process, line string) {
	if !p.dead && (strings.Contains(line, "panic") || strings.Contains(line, "invalid")) {
		w.fail("%s logs %s", p.name, line)
	}
}

func (w *world) tick() int { return int(w.clock.Now().Sub(w.began) / DefaultInterval) }

func (w *world) stores() (stores []string) {
	for i := range w.width {
		stores = append(stores, fmt.Sprint(i+1))
	}
	return stores
}

// run implements execution.
func (w *world) run(choose func(uint64, []option) (option, bool)) string {
	for !w.over && w.failure == "" {
		next, more := choose(w.hash(), w.options())
		if !more {
			break
		}
		next.do()
		w.everywhere()
		if w.over && w.left == (bounds{acts: min(w.left.acts, *modelDepth)}) {
			w.reached[allUsed]++
		}
	}
	for _, p := range w.slots {
		p.kill()
	}
	return w.failure
}

// hash is the same in the same states.
func (w *world) hash() uint64 {
	sum := mix(w.server.objects.hash(), w.left)
	sum = mix(sum, w.clock.Now().Unix())
	sum = mix(sum, w.record.hash())
	for _, p := range w.slots {
		sum = mix(sum, p.history)
		sum = mix(sum, [4]bool{p.ran, p.superseded, p == w.running, p.first})
		for other, history := range p.over {
			sum += mix(history, other.name)
		}
	}
	for _, done := range slices.Sorted(maps.Keys(w.did)) {
		sum = mix(sum, done)
	}
	return sum
}

// options is all that can happen next. What a process does next comes first.
func (w *world) options() []option {
	var all []option
	if w.running != nil {
		all = w.steps(w.running)
	}
	for _, p := range w.slots {
		if p != w.running && (p.busy() || (!p.ran && w.mayBegin(p))) && w.mayLeave() {
			all = append(all, w.steps(p)...)
		}
	}
	if w.left.ticks > 0 && w.mayLeave() && (w.running == nil || w.running.waits.does > cachedRead) && slices.ContainsFunc(w.slots, func(p *process) bool { return p.ran || p.busy() }) {
		all = append(all, option{"an interval passes", w.pass})
	}
	for i, p := range w.slots {
		// A crash before a read leaves the same behind as one before the write that comes next, or at the cycle's end.
		if w.left.crashes > 0 && p.cycles > 0 && (p.waits.does == begin || p.waits.does == write) {
			all = append(all, option{p.name + " crashes", func() { w.crash(i) }})
		}
	}
	all = append(all, w.acts()...)
	if !slices.ContainsFunc(w.slots, (*process).busy) && w.slots[0].cycles > 0 {
		all = append(all, option{"the end", func() { w.over = true; w.atTheEnd() }})
	}
	return all
}

// mayLeave tells whether something else than the running process may come next.
func (w *world) mayLeave() bool { return w.running == nil || w.left.switches > 0 }

// mayBegin tells whether a process may begin a cycle.
func (w *world) mayBegin(p *process) bool {
	leader := w.slots[0]
	return !w.standby || p == leader || p.cycles > 0 || (leader.cycles > 1 && leader.waits.does == write && leader.waits.kind == ticketKind)
}

func (w *world) leave() {
	if w.running != nil {
		w.left.switches--
		w.running = nil
	}
}

// steps are the ways in which the call that a process stands before may go.
func (w *world) steps(p *process) []option {
	c := p.waits
	step := func(name string, prepare func()) option {
		return option{p.name + " " + c.name + name, func() {
			if w.running != p {
				w.leave()
			}
			prepare()
			p.step()
			w.running = nil
			if p.busy() {
				w.running = p
			}
		}}
	}
	lost := func(name string, what loss) option {
		return step(name, func() { w.left.losses--; w.reached[strings.TrimPrefix(name, ", ")]++; c.lost = what })
	}
	switch c.does {
	case begin:
		var all []option
		for _, sees := range w.sees[min(w.tick(), len(w.sees)-1)] {
			all = append(all, step(" and sees "+sees, func() { w.begin(p, sees) }))
		}
		return all
	case cachedRead:
		all := []option{step("", func() { c.catchUp = true })}
		if w.left.lags > 0 && p.cache[c.kind].hash() != w.server.objects.of(c.kind).hash() {
			all = append(all, step(", which lags", func() { w.left.lags--; w.reached["a cache lags"]++ }))
		}
		return all
	}
	all := []option{step("", func() {})}
	if w.left.losses > 0 {
		all = append(all, lost(", but the request is lost", requestLost))
	}
	if w.left.losses > 0 && c.does == write {
		all = append(all, lost(", but the answer is lost", answerLost))
	}
	return all
}

// begin begins a process's cycle.
func (w *world) begin(p *process, sees string) {
	p.sees, p.missed = sees, false
	w.look(p)
	if p.first {
		p.over = map[*process]uint64{}
		for _, other := range w.slots {
			if other != p && other.waits.does == write {
				p.over[other] = other.history
			}
		}
	}
}

// cycled takes note of the end of a process's cycle. After a whole first one, what others still had under way must not count.
func (w *world) cycled(p *process) {
	s := p.monitor.systems[modelSystem]
	if p.dead || w.closing || !p.first || s == nil || !s.recorded {
		return
	}
	p.first = false
	for other, history := range p.over {
		if other.history == history {
			other.superseded = true
			w.reached["a process is superseded"]++
		}
	}
	p.over = nil
}

func (w *world) pass() {
	w.leave()
	w.left.ticks--
	w.clock.Step(DefaultInterval)
	for _, p := range w.slots {
		p.ran = p.busy()
	}
}

func (w *world) crash(i int) {
	w.left.crashes--
	w.reached["a process crashes"]++
	if w.record.deleted {
		clear(w.record.since)
	}
	if w.running == w.slots[i] {
		w.running = nil
	}
	w.slots[i].kill()
	w.restart(i)
}

func (w *world) restart(i int) {
	w.started++
	w.slots[i] = newProcess(w, fmt.Sprintf("%c%d", 'A'+i, w.started))
}

// acts is what a person may do now. Where all that is under way is about what the act does not touch, it can as well come later.
func (w *world) acts() []option {
	if w.left.acts == 0 {
		return nil
	}
	var all []option
	for _, act := range w.people {
		kind := ticketKind
		if strings.HasSuffix(act, "Invariant") {
			kind = invariantKind
		}
		busy := func(p *process) bool { return p.busy() }
		touches := func(p *process) bool { return p.busy() && p.waits.kind == kind }
		if slices.ContainsFunc(w.slots, busy) && !slices.ContainsFunc(w.slots, touches) {
			continue
		}
		of := w.server.objects
		if act == "create Invariant" {
			of = w.absent()
		}
		of.each(kind, func(o client.Object, _ uint64) {
			if name := act + " " + o.GetName(); !w.did[name] {
				if do := w.act(act, o); do != nil {
					all = append(all, option{"a person does " + name, func() {
						w.left.acts--
						w.did[name] = true
						w.reached[act]++
						do()
					}})
				}
			}
		})
	}
	return all
}

// absent is the Invariant where it was deleted.
func (w *world) absent() objects {
	if exists, _ := w.checked(); exists {
		return nil
	}
	return objects{{invariantKind, modelInvariant}: stored{object: w.invariant()}}
}

func (w *world) invariant() *v1alpha1.Invariant {
	spec := modelSpec
	if w.grace > 0 {
		spec.GracePeriod = &v1alpha1.Duration{Duration: metav1.Duration{Duration: w.grace}}
	}
	return &v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Namespace: modelNamespace, Name: modelInvariant, Generation: 1}, Spec: spec}
}

// act is what an act does to an object; nil where it makes no sense. No act may be refused, whatever the monitor writes.
func (w *world) act(act string, o client.Object) func() {
	ticket, _ := o.(*v1alpha1.Ticket)
	status := func(patch string) func() {
		return func() {
			object := &v1alpha1.Ticket{ObjectMeta: metav1.ObjectMeta{Name: o.GetName()}}
			w.try(w.server.patchStatus(nil, object, client.RawPatch(types.MergePatchType, []byte(patch))))
		}
	}
	switch act {
	case "delete ticket", "delete Invariant":
		return func() { w.server.remove(keyOf(o)) }
	case "create Invariant":
		return func() { w.try(w.server.create(nil, o)) }
	case "suspend Invariant":
		return func() {
			next := o.(*v1alpha1.Invariant).DeepCopy()
			// Its generation stays, or else each execution compiles it anew.
			next.Spec.Suspend = true
			w.server.put(nil, w.server.version(next))
		}
	case "hold", "unhold":
		if !ticket.IsOpen() || ticket.Held() == (act == "hold") {
			return nil
		}
		return func() {
			next := ticket.DeepCopy()
			next.Annotations = map[string]string{v1alpha1.HoldAnnotation: fmt.Sprint(act == "hold")}
			w.server.put(nil, w.server.version(next))
		}
	case "acknowledge":
		return status(`{"status":{"acknowledgement":{"by":"ana"}}}`)
	case "diagnose":
		if !ticket.IsOpen() {
			return status(`{"status":{"diagnosis":{"by":"bo","text":"the disk is full"}}}`)
		}
		return status(`{"status":{"state":"Diagnosed","diagnosis":{"by":"bo","text":"the disk is full"}}}`)
	case "resolve":
		if !ticket.IsOpen() {
			return nil
		}
		return status(`{"status":{"state":"Resolved","resolution":{"by":"ana"}}}`)
	}
	panic("nobody can " + act)
}

var scenarios = []scenario{
	{
		name: "a monitor that crashes", monitors: 1, sees: [][]string{{"v", "s"}},
		bounds: bounds{ticks: 2, crashes: 1, losses: 1},
		wants:  []string{"a process crashes", "but the answer is lost", "but the request is lost", "resolved as Cleared"},
	},
	{
		name: "a monitor that crashes twice", monitors: 1, sees: [][]string{{"v", "s"}},
		bounds: bounds{ticks: 2, crashes: 2},
		wants:  []string{"a process crashes", "resolved as Cleared"},
	},
	{
		name: "two stores and a cache that lags", monitors: 1, sees: [][]string{{"vs", "vv", "ss", "us"}},
		bounds: bounds{ticks: 2, lags: 2},
		wants:  []string{"a cache lags", "resolved as Cleared"},
	},
	{
		name: "a grace period", monitors: 1, sees: [][]string{{"v", "s"}}, grace: 2 * DefaultInterval,
		bounds: bounds{ticks: 3, crashes: 1},
		wants:  []string{"a process crashes", "opened after a grace period"},
	},
	{
		name: "a person beside a monitor", monitors: 1, sees: [][]string{{"v", "s"}},
		people: []string{"hold", "unhold", "acknowledge", "diagnose", "resolve"},
		bounds: bounds{ticks: 2, acts: 2},
		wants:  []string{"hold", "unhold", "acknowledge", "diagnose", "resolve", "resolved as Cleared"},
	},
	{
		name: "somebody deletes a ticket", monitors: 1, sees: [][]string{{"v", "s"}},
		people: []string{"delete ticket"},
		bounds: bounds{ticks: 2, acts: 2, lags: 1},
		wants:  []string{"delete ticket", "resolved as Cleared"},
	},
	{
		name: "somebody deletes a ticket of a monitor that crashes", monitors: 1, sees: [][]string{{"v"}},
		people: []string{"delete ticket"},
		bounds: bounds{ticks: 2, acts: 1, crashes: 1, lags: 1},
		wants:  []string{"delete ticket", "a process crashes"},
	},
	{
		name: "somebody deletes the Invariant", monitors: 1, sees: [][]string{{"v"}},
		people: []string{"hold", "delete Invariant"},
		bounds: bounds{ticks: 2, acts: 2, lags: 1},
		wants:  []string{"hold", "delete Invariant", "resolved as InvariantDeleted"},
	},
	{
		name: "somebody deletes the Invariant and thinks better of it", monitors: 1, sees: [][]string{{"v"}},
		people: []string{"delete Invariant", "create Invariant"},
		bounds: bounds{ticks: 2, acts: 2, lags: 1},
		wants:  []string{"create Invariant", "a cache lags", "resolved as InvariantDeleted"},
	},
	{
		name: "two monitors", monitors: 2, sees: [][]string{{"v", "s"}},
		bounds: bounds{ticks: 1, switches: 1},
		wants:  []string{"resolved as Cleared"},
	},
	{
		name: "two monitors that see different stores", monitors: 2, sees: [][]string{{"vs", "vv", "ss"}},
		bounds: bounds{switches: 3},
		wants:  []string{"resolved as Cleared"},
	},
	{
		name: "two monitors whose ticket somebody deletes", monitors: 2, sees: [][]string{{"v"}},
		people: []string{"delete ticket"},
		bounds: bounds{switches: 1, acts: 1},
		wants:  []string{"delete ticket", "two open tickets hold one violation"},
	},
	{
		name: "a leader that wakes up", monitors: 2, standby: true, sees: [][]string{{"v"}, {"s"}, {"v"}},
		people: []string{"suspend Invariant"},
		bounds: bounds{ticks: 3, switches: 1, acts: 1},
		wants:  []string{"a process is superseded"},
	},
}

// TestModel runs the real CycleReconciler, from the look on, in every order in which its reads and writes can fall among
// those of another monitor, a person's acts, the ticks of the clock, crashes and lost connections, as often as a scenario's
// bounds say. A choice is: which process makes its next call, whether that is lost or its answer is, whether a cache catches
// up first, what a look sees, which process ends, what a person does, and whether an interval passes. States that are the
// same are gone on from once. -model.depth=N lets everything that a scenario has happen N times more often:
//
//	go test ./controllers -run TestModel -v -timeout 2h -args -model.depth=1
//
// Where a choice can make no difference, it is left out: a crash right before a read, and an act while all that is under way
// is about objects of the other kind. It does not cover: the first reads of a cycle, which only say what is due and come from
// the cache as it is; parts of a cache that catch up at different moments within a kind; the order in which the monitor goes
// through a map; more than two processes at once; clocks that differ; TicketReconciler; compiling, and so a spec that changes
// in anything but suspend; batches of several tickets, evidence, mutes and unobservable Invariants; and what the API server
// enforces beside the rules of lifecycle.
//
// It shows that two open tickets hold one violation only where a ticket was deleted under the hands of two monitors: its
// number is free again for the one that had listed the tickets before, and taken no more for the other, which knows a higher
// one. The next cycle resolves the younger as a Duplicate.
func TestModel(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			e := newExplorer()
			known := map[uint64]merged{}
			start := func(e *explorer) execution { return newWorld(&s, e.reached, known) }
			trace, failure := e.explore(func() execution { return start(e) })
			if failure != "" {
				trace, failure = shortest(start, trace, failure)
				t.Fatalf("%s:\n%s", failure, strings.Join(trace, "\n"))
			}
			t.Logf("%d executions, %d states, %s: %v", e.executions, len(e.seen), time.Since(began).Round(time.Millisecond), e.reached)
			for _, want := range append(s.wants, allUsed) {
				if e.reached[want] == 0 {
					t.Errorf("in no execution %q", want)
				}
			}
		})
	}
}
