package controllers

import (
	"flag"
	"strings"
	"testing"
	"time"
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
		wants:  []string{"delete ticket"},
	},
	{
		name: "two monitors whose resolved ticket somebody deletes", monitors: 2, sees: [][]string{{"v"}},
		people: []string{"resolve", "delete ticket"},
		bounds: bounds{switches: 1, acts: 2},
		wants:  []string{"delete ticket", "two open tickets hold one violation"},
	},
	{
		name: "a leader that wakes up", monitors: 2, standby: true, sees: [][]string{{"v"}, {"s"}, {"v"}},
		people: []string{"suspend Invariant"},
		bounds: bounds{ticks: 3, switches: 1, acts: 1},
		wants:  []string{"a process is superseded"},
	},
	{
		name: "a leader that wakes up after all is well", monitors: 2, standby: true, sees: [][]string{{"v"}, {"v"}, {"s"}},
		bounds: bounds{ticks: 3, switches: 2},
		wants:  []string{"a process is superseded", "resolved as Cleared"},
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
// It shows that two open tickets hold one violation only where somebody deletes a system's newest ticket while two monitors open the
// next, or one that was opened meanwhile: the one that listed the numbers before takes the next one, and the one that does so after, the
// deleted one's, or the other way round. The next cycle resolves the younger as a Duplicate.
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
