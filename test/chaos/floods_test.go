package chaos

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"

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

// floodOfFlaps lets one store flap for as long as there is time, in tickets of its own and within one that stays open.
func floodOfFlaps(s *stage) {
	t := s.tolled()
	across := s.systemOf(&system{namespace: s.space("across"), name: "across", interval: interval, aspects: aspects[:1]}, 1)
	within := s.systemOf(&system{namespace: s.space("within"), name: "within", interval: interval, aspects: []aspect{{name: "slow", resolveAfter: shortOr(5*time.Second, 20*time.Second)}}}, 1)
	across.monitored()
	within.monitored()
	t.start()
	if *long {
		s.flapAtRandom(across, within, 12*time.Minute)
	} else {
		s.flapInTurn(across, within, v1alpha1.DefaultFlappingThreshold+1)
	}
	across.heal()
	s.eventually("what flapped in tickets of its own is resolved", 10*time.Second, func() bool { return len(across.open()) == 0 })
	flaps := s.everyFlapHasItsTicket(across) + s.everyFlapIsCounted(within)
	if n := t.vitals().sum("operator_violations_flapping"); n < 1 {
		s.Errorf("the metric of violations that flap is %v while one does", n)
	}
	if !strings.Contains(t.monitor.log.String(), "Ticket flapping") {
		s.Error("the log says nothing of flapping")
	}
	facts := []string{fmt.Sprintf("%d flaps", flaps), s.eventsOf(flaps, across, within)}
	within.heal()
	s.settled(busy, append(facts, t.paid()...)...)
}

// flapAtRandom turns the stores of two systems again and again.
func (s *stage) flapAtRandom(across, within *system, lasts time.Duration) {
	rng := s.fork()
	for end := time.Now().Add(lasts); time.Now().Before(end) && wait(s.ctx, between(rng, 1100*time.Millisecond, 4*time.Second)); {
		across.turn(across.aspects[0], "1")
		within.turn(within.aspects[0], "1")
	}
}

// flapInTurn turns the stores of two systems as soon as their tickets say how they are, so many times.
func (s *stage) flapInTurn(across, within *system, times int) {
	for flap := range times {
		across.turn(across.aspects[0], "1")
		within.turn(within.aspects[0], "1")
		s.eventually("both tickets say that the store is ill", time.Minute, func() bool {
			return len(across.open()) == 1 && slices.ContainsFunc(within.entries(), func(e v1alpha1.ViolationStatus) bool { return e.Active && int(e.Recurrences) == flap })
		})
		across.turn(across.aspects[0], "1")
		within.turn(within.aspects[0], "1")
		s.eventually("both tickets say that the store is well", time.Minute, func() bool {
			return len(across.open()) == 0 && slices.ContainsFunc(within.entries(), func(e v1alpha1.ViolationStatus) bool { return e.SatisfiedSinceTime != nil })
		})
	}
}

// entries are what open tickets say of their violations.
func (y *system) entries() (entries []v1alpha1.ViolationStatus) {
	for _, ticket := range y.open() {
		entries = append(entries, ticket.Status.Violations...)
	}
	return entries
}

// everyFlapHasItsTicket wants a ticket for each time that a look saw the store broken anew, and that each says what it has to say of
// flapping and no more.
func (s *stage) everyFlapHasItsTicket(y *system) int {
	tickets, sights := y.tickets(), y.sightsOf()
	if len(tickets) != sights {
		s.Errorf("%d tickets opened for %d flaps that looks saw", len(tickets), sights)
	}
	for i, ticket := range tickets {
		s.flappingIsNoted(ticket, i)
	}
	return sights
}

// everyFlapIsCounted wants that one ticket counts each time that a look saw the store broken anew.
func (s *stage) everyFlapIsCounted(y *system) int {
	tickets, sights := y.tickets(), y.sightsOf()
	if len(tickets) != 1 {
		s.Errorf("%d tickets opened for what never cleared, want one", len(tickets))
		return sights
	}
	s.eventually("every flap is counted", 5*time.Second, func() bool {
		return int(y.tickets()[0].Status.Violations[0].Recurrences) == sights-1
	})
	s.flappingIsNoted(y.tickets()[0], sights-1)
	return sights
}

func (y *system) sightsOf() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.sights[y.place(y.aspects[0], "1")]
}

// flappingIsNoted wants that a ticket says that it is flapping where its violation came back as often as the default threshold, and
// that it remembers no more than it may.
func (s *stage) flappingIsNoted(t *v1alpha1.Ticket, recurrences int) {
	e := t.Status.Violations[0]
	condition := v1alpha1.FindCondition(t.Status.Conditions, v1alpha1.ConditionFlapping)
	if flapping := recurrences >= v1alpha1.DefaultFlappingThreshold; e.Flapping != flapping || (condition != nil && condition.Status == "True") != flapping {
		s.Errorf("%s came back %d times, and says flapping: %v, %+v", t.Name, recurrences, e.Flapping, condition)
	}
	if remembered := max(len(t.Spec.Violations[0].RecurredTimes), len(e.RecurredTimes)); remembered > 10 || remembered < min(recurrences, 10) {
		s.Errorf("%s remembers %d of %d times that it came back, want at most ten", t.Name, remembered, recurrences)
	}
}

// eventsOf tells how many Events the flaps of systems left, and wants that one says flapping and that they are no flood: opened,
// flapping and resolved of each ticket, and two of the Invariant.
func (s *stage) eventsOf(flaps int, systems ...*system) string {
	api, err := kubernetes.NewForConfig(s.plane.Config)
	must(s, err)
	total := 0
	for _, y := range systems {
		list, err := api.EventsV1().Events(y.namespace).List(s.ctx, metav1.ListOptions{})
		must(s, err)
		events := slices.DeleteFunc(list.Items, func(e eventsv1.Event) bool {
			return e.Regarding.Name != y.aspects[0].name && v1alpha1.TicketNumber(y.name, e.Regarding.Name) == 0
		})
		if !slices.ContainsFunc(events, func(e eventsv1.Event) bool { return e.Reason == "Flapping" }) {
			s.Errorf("no Event of %s says flapping", y.name)
		}
		total += len(events)
	}
	if most := 5*flaps + 10; total > most {
		s.Errorf("%d flaps left %d Events, want at most %d", flaps, total, most)
	}
	return fmt.Sprintf("%d Events", total)
}

// retention is the least that the monitor takes.
const retention = time.Hour

// floodOfHistory starts a monitor where there are many tickets of the past, and the time of many has come.
func floodOfHistory(s *stage) {
	t := s.tolled("--ticket-retention=" + retention.String())
	p := &past{system: s.systemOf(&system{namespace: s.space("past"), name: "alpha", interval: interval, aspects: aspects[:1]}, 1), stays: map[string]bool{}}
	must(s, s.api.Create(s.ctx, p.asleep()))
	due, fresh := shortOr(300, 5000), shortOr(100, 15_000)
	p.write(due, fresh)
	p.system.monitored()
	began := time.Now()
	t.start()
	started, startCost := time.Since(began), t.vitals()
	people := p.system.people()
	for _, name := range p.names[due/2 : due/2+5] { // while others are removed
		people.do(s.ctx, name, history.Hold)
	}
	s.eventually("what is due is removed", 20*time.Second+time.Duration(due)*time.Second/25, func() bool { return len(p.overdue()) == 0 })
	took := time.Since(began)
	if overdue := p.overdue(); len(overdue) > 0 {
		s.Errorf("%d tickets are still there, such as %v", len(overdue), overdue[:min(len(overdue), 5)])
	}
	left := map[string]bool{}
	for _, v := range s.history.Latest(p.system.namespace) {
		left[v.Name] = true
	}
	removed := 0
	for _, name := range p.names {
		switch {
		case left[name]:
		case p.stays[name]:
			s.Errorf("%s was removed", name)
		default:
			removed++
		}
	}
	tolerance := busy
	tolerance.Retention = retention
	s.settled(tolerance, slices.Concat([]string{
		fmt.Sprintf("%d tickets: first look after %s, %.1f s of CPU and %s", due+fresh, started.Round(100*time.Millisecond), startCost.CPU, mebibytes(int64(startCost.Memory))),
		fmt.Sprintf("%d removed in %s", removed, took.Round(100*time.Millisecond)),
	}, t.paid())...)
}

// past is tickets that were resolved before the monitor started, of several systems of a namespace. One of these is observed; the others
// have nothing but tickets.
type past struct {
	system *system
	names  []string
	// stays are those that no retention removes: the newest of a system, those held, those that left something violated of which
	// nothing is known since, and those that were resolved lately.
	stays map[string]bool
}

func (p *past) systems() []string { return []string{p.system.name, "beta", "gamma", "delta"} }

// asleep is an Invariant that nobody checks: what a ticket says of it stays unsettled.
func (p *past) asleep() *v1alpha1.Invariant {
	return &v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Namespace: p.system.namespace, Name: "asleep"}, Spec: v1alpha1.InvariantSpec{
		System: p.system.name, Suspend: true, Expression: "self.up",
		Source: v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: p.system.server.URL, Items: "self"}}, StoreID: "self.id",
	}}
}

// write writes so many tickets whose time has come, and so many whose time has not, into etcd: the API server would say that all of them
// were made just now.
func (p *past) write(due, fresh int) {
	s := p.system.stage
	systems := p.systems()
	var group errgroup.Group
	group.SetLimit(16)
	numbers, newest := map[string]int{}, map[string]string{}
	for i := range due + fresh {
		system, age := systems[i%len(systems)], 2*retention
		if i >= due {
			// The newest tickets of gamma and delta are due, and stay.
			system, age = systems[i%2], retention/4
		}
		numbers[system]++
		ticket := p.ticket(system, numbers[system], time.Now().Add(-age))
		newest[system] = ticket.Name
		switch {
		case i >= due:
			p.stays[ticket.Name] = true
		case i%50 == 7:
			ticket.Annotations = map[string]string{v1alpha1.HoldAnnotation: "post-mortem"}
			p.stays[ticket.Name] = true
		case i%40 == 8:
			p.leaveUnsettled(ticket)
			p.stays[ticket.Name] = true
		}
		p.names = append(p.names, ticket.Name)
		s.history.Given(ticket.Namespace, ticket.Name)
		group.Go(func() error {
			raw, err := json.Marshal(ticket)
			if err != nil {
				return err
			}
			_, err = s.recorder.Etcd.Put(s.ctx, history.TicketsPrefix+ticket.Namespace+"/"+ticket.Name, string(raw))
			return err
		})
	}
	must(s, group.Wait())
	for _, name := range newest {
		p.stays[name] = true
	}
}

// ticket is a ticket of one violation, resolved at a time.
func (p *past) ticket(system string, number int, at time.Time) *v1alpha1.Ticket {
	name, then := v1alpha1.TicketName(system, number), v1alpha1.NewTime(at)
	return &v1alpha1.Ticket{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Ticket"},
		ObjectMeta: metav1.ObjectMeta{Namespace: p.system.namespace, Name: name, UID: uuid.NewUUID(), Generation: 1, CreationTimestamp: metav1.NewTime(at.Truncate(time.Second))},
		Spec: v1alpha1.TicketSpec{System: system, BatchKey: name, OpenedTime: *then, Violations: []v1alpha1.Violation{{
			Invariant: "up", StoreID: "1", Reason: v1alpha1.Violated, Severity: v1alpha1.Critical, FirstSeenTime: *then,
			Message: "store 1 at tikv-1.tikv-peer.tikv-prod.svc:20160 is Down since it was last heard from",
		}}},
		Status: v1alpha1.TicketStatus{State: v1alpha1.Resolved, Severity: v1alpha1.Critical, Summary: "up(1)", Occurrences: 1, FirstSeenTime: then, LastSeenTime: then, Monitor: "monitor",
			Violations: []v1alpha1.ViolationStatus{{Invariant: "up", StoreID: "1", Reason: v1alpha1.Violated, Occurrences: 1, LastSeenTime: then, SatisfiedSinceTime: then, ClearedTime: then}},
			Resolution: &v1alpha1.Resolution{By: "monitor", Time: then, Reason: v1alpha1.Cleared}},
	}
}

// leaveUnsettled makes a ticket one that somebody resolved while it was violated, where nobody has looked since.
func (p *past) leaveUnsettled(t *v1alpha1.Ticket) {
	t.Spec.Violations[0].Invariant = "asleep"
	// Each a store of its own: of the same, only the newest would be unsettled.
	t.Spec.Violations[0].StoreID = t.Name
	e := &t.Status.Violations[0]
	e.Invariant, e.StoreID, e.Active, e.ClearedTime, e.SatisfiedSinceTime = "asleep", t.Name, true, nil, nil
	t.Status.Resolution.By, t.Status.Resolution.Reason = "ana", v1alpha1.Manual
}

// overdue are those that are still there and should not be.
func (p *past) overdue() []string {
	var names []string
	for _, v := range p.system.stage.history.Latest(p.system.namespace) {
		if slices.Contains(p.systems(), v.Ticket.Spec.System) && !p.stays[v.Name] && !v.Ticket.Held() {
			names = append(names, v.Name)
		}
	}
	return names
}
