package chaos

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/ledger"
	"invariant.dev/operator/test/chaos/gate"
	"invariant.dev/operator/test/chaos/history"
)

// TestFloods brings more at once than a monitor ever sees on a good day, and wants all of it in tickets, in bounded memory, and nobody
// else delayed.
func TestFloods(t *testing.T) {
	beside(t)
	for _, flood := range []struct {
		name  string
		comes func(*stage)
	}{
		{"Flapping", floodOfFlaps},
		{"Stores", floodOfStores},
		{"OfOneSystem", floodOfOneSystem},
		{"OfManySystems", floodOfManySystems},
		{"Retention", floodOfHistory},
		{"SlowEvidence", floodOfSlowEvidence},
	} {
		t.Run(flood.name, func(t *testing.T) {
			if !*long {
				// Most of the time is waiting for cycles.
				t.Parallel()
			}
			flood.comes(newStage(t, plane))
		})
	}
}

// flooded is what the checks leave to a busy machine that writes many large tickets: a cycle that is late has the time of its tick,
// which may lie an interval before its look. What is left to the witness is less.
var flooded = history.Tolerance{Early: 10*time.Second + busy.Early, Late: 20 * time.Second}

// patience is how long a flood may take to stand in tickets, or to be resolved, on a busy machine.
const patience = 2 * time.Minute

// wave is a flood that comes and goes.
type wave struct {
	name string
	// mixed: the second half of the stores is inside a grace period.
	mixed bool
	// killAfter is after how many tickets the monitor is killed; 0: never.
	killAfter int
}

// floodOfStores breaks all stores of a system at once, again and again.
func floodOfStores(s *stage) {
	waves := shortOr([]wave{
		{name: "all at once"},
		{name: "half in a grace period, killed", mixed: true, killAfter: 1},
	}, []wave{
		{name: "all at once"},
		{name: "again"},
		{name: "killed after the first ticket", killAfter: 1},
		{name: "killed after four", killAfter: 4},
		{name: "killed after the last", killAfter: 10},
		{name: "half in a grace period", mixed: true},
		{name: "half in a grace period, killed after three", mixed: true, killAfter: 3},
		{name: "half in a grace period, killed after five", mixed: true, killAfter: 5},
	})
	t := s.tolled()
	y := s.systemOf(&system{namespace: s.space("many"), name: "many", interval: shortOr(interval, 10*time.Second), aspects: aspects[:2]}, shortOr(1500, 10_000))
	y.monitored()
	t.start()
	var facts []string
	for _, w := range waves {
		opened, resolved := y.flood(t, w)
		facts = append(facts, fmt.Sprintf("%s: all in tickets after %s, resolved after %s", w.name, opened.Round(100*time.Millisecond), resolved.Round(100*time.Millisecond)))
	}
	s.settled(flooded, append(facts, t.paid()...)...)
}

// flood lets one wave come and go, and tells how long it took until all stood in tickets, and until all of these were resolved.
func (y *system) flood(t *toll, w wave) (opened, resolved time.Duration) {
	s, up, fast := y.stage, y.aspects[0], y.aspects[1]
	at := len(y.stores)
	if w.mixed {
		at /= 2
	}
	dead := t.killAtTicket(y, w.killAfter)
	came := time.Now()
	y.together(up, y.stores[:at], true)
	y.together(fast, y.stores[at:], true)
	if w.killAfter > 0 {
		select {
		case <-dead:
		case <-time.After(patience):
			s.Errorf("%s: the monitor did not open %d tickets within %s", w.name, w.killAfter, patience)
			t.monitor.kill()
		}
		y.unmonitored()
		t.witness.unmonitored()
		y.monitored()
		t.restart()
	}
	s.eventually(w.name+": every store stands in a ticket", patience, func() bool { return y.standing() == len(y.stores) })
	opened = time.Since(came)
	tickets := y.open()
	if needed := (len(y.stores) + ledger.MaxViolations - 1) / ledger.MaxViolations; len(tickets) != needed {
		s.Errorf("%s: %d stores stand in %d tickets, want %d", w.name, len(y.stores), len(tickets), needed)
	}
	// A cycle that takes longer than it may leaves the rest to the next, which is another batch.
	if batches := batchesOf(tickets); len(batches) > 1+t.skipped() && !w.mixed && w.killAfter == 0 {
		s.Errorf("%s: the tickets are of the batches %v, want one", w.name, batches)
	}
	went := time.Now()
	y.together(up, y.stores[:at], false)
	y.together(fast, y.stores[at:], false)
	s.eventually(w.name+": all tickets are resolved", patience, func() bool { return len(y.open()) == 0 })
	resolved = time.Since(went)
	s.Logf("%s: all in tickets after %s, resolved after %s", w.name, opened, resolved)
	return opened, resolved
}

// killAtTicket kills the monitor once the API server has made so many tickets of a system, before the monitor knows of the last.
func (t *toll) killAtTicket(y *system, n int) (dead chan struct{}) {
	dead = make(chan struct{})
	if n == 0 {
		return dead
	}
	made := 0
	t.monitor.gate.Disturb(func(r *http.Request) *gate.Disturbance {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/namespaces/"+y.namespace+"/tickets") {
			return nil
		}
		if made++; made != n {
			return nil
		}
		return &gate.Disturbance{LoseAnswer: true, After: func() {
			t.monitor.kill()
			t.monitor.gate.Disturb(nil)
			close(dead)
		}}
	})
	return dead
}

func batchesOf(tickets []*v1alpha1.Ticket) map[string]int {
	batches := map[string]int{}
	for _, ticket := range tickets {
		batches[ticket.Spec.BatchKey]++
	}
	return batches
}

// floodOfSlowEvidence breaks stores of which the evidence takes longer to come than what was observed may be written.
func floodOfSlowEvidence(s *stage) {
	const takes = interval + sourceTimeout + 500*time.Millisecond
	prometheus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wait(r.Context(), takes)
		_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}`))
	}))
	s.Cleanup(prometheus.Close)
	t := s.tolled("--prometheus-url", prometheus.URL)
	y := s.systemOf(&system{namespace: s.space("slow"), name: "slow", interval: interval, aspects: []aspect{{name: "up", query: "vector(1)"}}}, 4)
	y.monitored()
	t.start()
	y.together(y.aspects[0], y.stores, true)
	s.eventually("every store stands in a ticket", 10*time.Second, func() bool { return y.standing() == len(y.stores) })
	y.heal()
	s.settled(busy, t.paid()...)
}

// floodOfOneSystem breaks all of the many Invariants of one system at once.
func floodOfOneSystem(s *stage) {
	t := s.tolled()
	y := s.systemOf(&system{namespace: s.space("one"), name: "one", interval: shortOr(interval, 5*time.Second), aspects: manyAspects("is", shortOr(100, 1000))}, 1)
	s.floodOfInvariants(t, []*system{y})
}

// floodOfManySystems breaks all Invariants of many systems at once.
func floodOfManySystems(s *stage) {
	namespaces, perNamespace, perSystem := shortOr(5, 10), shortOr(2, 5), shortOr(10, 20)
	t := s.tolled()
	var systems []*system
	for i := range namespaces * perNamespace {
		name := fmt.Sprintf("sys%d", i)
		systems = append(systems, s.systemOf(&system{namespace: s.space(fmt.Sprint(i % namespaces)), name: name,
			interval: shortOr(interval, 5*time.Second), aspects: manyAspects(name, perSystem)}, 1))
	}
	s.floodOfInvariants(t, systems)
}

func manyAspects(prefix string, n int) []aspect {
	var many []aspect
	for i := range n {
		many = append(many, aspect{name: fmt.Sprintf("%sx%d", prefix, i)})
	}
	return many
}

// floodOfInvariants breaks all that there is of some systems, twice.
func (s *stage) floodOfInvariants(t *toll, systems []*system) {
	for _, y := range systems {
		y.monitored()
	}
	t.start()
	for _, y := range systems {
		s.eventually(y.name+" is looked at", startsWithin, func() bool { return y.looks.Load() > 0 })
	}
	var facts []string
	for wave := range 2 {
		came := time.Now()
		s.turnAll(systems, true)
		for _, y := range systems {
			s.eventually("every Invariant of "+y.name+" stands in a ticket", patience, func() bool { return y.standing() == len(y.aspects) })
		}
		facts = append(facts, fmt.Sprintf("wave %d: all in tickets after %s", wave+1, time.Since(came).Round(100*time.Millisecond)))
		for _, y := range systems {
			// A cycle sees all that broke since the last: no system was broken between two of its Invariants.
			if n := len(y.open()); n != 1 {
				s.Errorf("the Invariants of %s stand in %d tickets, want one", y.name, n)
			}
		}
		went := time.Now()
		s.turnAll(systems, false)
		for _, y := range systems {
			s.eventually("the tickets of "+y.name+" are resolved", patience, func() bool { return len(y.open()) == 0 })
		}
		facts = append(facts, fmt.Sprintf("resolved after %s", time.Since(went).Round(100*time.Millisecond)))
	}
	s.settled(flooded, append(facts, t.paid()...)...)
}

func (s *stage) turnAll(systems []*system, broken bool) {
	var wg sync.WaitGroup
	for _, y := range systems {
		wg.Go(func() { y.allTogether(broken) })
	}
	wg.Wait()
}

// allTogether breaks or mends all of a system at the same moment.
func (y *system) allTogether(broken bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, a := range y.aspects {
		for _, store := range y.stores {
			y.set(y.place(a, store), broken, v1alpha1.Violated)
		}
	}
}
