package controllers

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	testingclock "k8s.io/utils/clock/testing"
)

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
		sum = mix(sum, [5]bool{p.ran, p.superseded, p == w.running, p.first, p.freed})
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
