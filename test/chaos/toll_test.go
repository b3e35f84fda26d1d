package chaos

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/test/chaos/history"
)

const (
	// mostMemory is the limit of config/manager, in bytes.
	mostMemory = 1 << 30
	// mostRequests is what a monitor may ask of the API server in a second: the burst and the rate of the client that reads and writes
	// tickets, and as much of the one that writes Events.
	mostRequests = 2 * (200 + 100)
)

// toll is what a flood costs: the machine, the API server, and the other systems. A system of one store that breaks and mends all the
// time is the witness of the last.
type toll struct {
	monitor *monitor
	witness *system
	scraper *http.Client
	address string
	end     func()

	// memory is the most that was resident at any time, in bytes; requests the most in a second, of all of them.
	memory          int64
	requests, total int
}

// tolled makes a monitor with flags, and a witness.
func (s *stage) tolled(flags ...string) *toll {
	s.Helper()
	flag, address := s.metricsFlag()
	flags = append(flags, flag)
	if !*long {
		// Others run beside it.
		flags = append(flags, "--namespace", s.space(""))
	}
	return &toll{monitor: s.monitor("monitor", flags...), address: address, scraper: s.scraper(),
		witness: s.systemOf(&system{namespace: s.space("witness"), name: "witness", interval: interval, aspects: []aspect{{name: "witness"}}}, 1)}
}

// space is the namespace of a system: one of its own, and in the short form one of the scenario's own.
func (s *stage) space(name string) string { return s.name + "-" + shortOr("all", name) }

// start starts the monitor and the measuring, and waits for its first look at the witness.
func (t *toll) start() {
	s := t.witness.stage
	t.restart()
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan struct{}, 2)
	t.end = func() { cancel(); <-done; <-done }
	go func() { t.measure(ctx); done <- struct{}{} }()
	go func() { t.testify(ctx); done <- struct{}{} }()
}

// restart starts the monitor, again after a kill, and waits for its first look at the witness.
func (t *toll) restart() {
	t.witness.monitored()
	t.monitor.start()
	if !t.witness.nextLook(t.witness.stage.ctx, startsWithin) {
		t.witness.stage.Errorf("the witness was not looked at within %s of a start", startsWithin)
	}
}

// measure samples what the monitor takes, until the context ends.
func (t *toll) measure(ctx context.Context) {
	before := t.asked()
	second := time.Now()
	for wait(ctx, 100*time.Millisecond) {
		if p := t.monitor.running(); p != nil {
			t.memory = max(t.memory, peakMemory(p.Pid()))
		}
		if time.Since(second) < time.Second {
			continue
		}
		now := t.asked()
		t.requests = max(t.requests, int(float64(now-before)/time.Since(second).Seconds()))
		before, second = now, time.Now()
	}
	t.total = t.asked()
}

func (t *toll) asked() int {
	sum := 0
	for _, n := range t.monitor.gate.Requests() {
		sum += n
	}
	return sum
}

// peakMemory is the most that was ever resident of a process, in bytes; 0 where it has ended.
func peakMemory(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	peak, _, _ = strings.Cut(peak, "kB")
	kib, _ := strconv.ParseInt(strings.TrimSpace(peak), 10, 64)
	return kib << 10
}

// testify breaks and mends the witness until the context ends.
func (t *toll) testify(ctx context.Context) {
	rng := t.witness.stage.fork()
	up, store := t.witness.aspects[0], t.witness.stores[0]
	for wait(ctx, between(rng, 1500*time.Millisecond, 4*time.Second)) {
		t.witness.turn(up, store)
	}
	t.witness.heal()
}

// paid ends the measuring, checks it, and tells it.
func (t *toll) paid() []string {
	s := t.witness.stage
	s.Helper()
	t.end()
	if t.memory > mostMemory {
		s.Errorf("the monitor took %s, and its Deployment gives it %s", mebibytes(t.memory), mebibytes(mostMemory))
	}
	if t.requests > mostRequests {
		s.Errorf("the monitor asked the API server %d times in a second, want at most %d", t.requests, mostRequests)
	}
	slowest := s.slowest(t.witness)
	if *long {
		// Only a machine that does nothing else says anything of time.
		t.inTime(slowest)
	}
	v := t.vitals()
	return []string{
		"peak memory " + mebibytes(t.memory),
		fmt.Sprintf("at most %d requests a second, %d in all", t.requests, t.total),
		fmt.Sprintf("witness: longest gap %s, a fault has its ticket within %s", t.witness.longestGap.Round(time.Millisecond), slowest.Round(time.Millisecond)),
		fmt.Sprintf("%.1f s of CPU since its start", v.CPU),
		fmt.Sprintf("cycles late by at most %gs, %g skipped", v.highest("operator_cycle_lateness_seconds"), v.sum("operator_cycles_skipped_total")),
	}
}

// inTime wants that the flood delayed no look at the witness, and no ticket of it.
func (t *toll) inTime(slowest time.Duration) {
	s := t.witness.stage
	s.Helper()
	if most := t.witness.interval + busy.Late; t.witness.longestGap > most {
		s.Errorf("the witness was not looked at for %s, want at most %s", t.witness.longestGap, most)
	}
	if most := 2*t.witness.interval + busy.Late; slowest > most {
		s.Errorf("a fault of the witness stood for %s before a ticket said so, want at most %s", slowest, most)
	}
}

// vitals are what the monitor says of itself, once it does.
func (t *toll) vitals() (v vitals) {
	s := t.witness.stage
	s.Helper()
	s.eventually("the monitor serves its metrics", startsWithin, func() (served bool) {
		var err error
		v, err = readVitals(t.scraper, t.address)
		return err == nil
	})
	return v
}

// skipped is how many cycles were not run to their end since the monitor started.
func (t *toll) skipped() int { return int(t.vitals().sum("operator_cycles_skipped_total")) }

func mebibytes(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }

// slowest is the longest time from the beginning of a fault of a system's first place to an open ticket that says so.
func (s *stage) slowest(y *system) time.Duration {
	longest := time.Duration(0)
	for _, lag := range s.history.Lags(y.place(y.aspects[0], y.stores[0])) {
		longest = max(longest, lag)
	}
	return longest
}

// highest is the upper bound of the highest bucket of a histogram that has something in it.
func (v vitals) highest(name string) float64 {
	highest := 0.0
	for _, m := range v.families[name].GetMetric() {
		below := uint64(0)
		for _, bucket := range m.GetHistogram().GetBucket() {
			if bucket.GetCumulativeCount() > below {
				highest = max(highest, bucket.GetUpperBound())
			}
			below = bucket.GetCumulativeCount()
		}
		if m.GetHistogram().GetSampleCount() > below {
			highest = math.Inf(1)
		}
	}
	return highest
}

// tickets are the tickets of a system that were not deleted, and open those that are open.
func (y *system) tickets() []*v1alpha1.Ticket {
	var tickets []*v1alpha1.Ticket
	for _, v := range y.stage.history.Latest(y.namespace) {
		if v.Ticket.Spec.System == y.name {
			tickets = append(tickets, v.Ticket)
		}
	}
	return tickets
}

func (y *system) open() []*v1alpha1.Ticket {
	return slices.DeleteFunc(y.tickets(), func(t *v1alpha1.Ticket) bool { return !t.IsOpen() })
}

// standing is how many of its places open tickets count as broken.
func (y *system) standing() int {
	places := map[history.Place]bool{}
	for _, ticket := range y.open() {
		for _, e := range ticket.Status.Violations {
			if e.Active && !e.Pending {
				places[history.Place{Namespace: y.namespace, Invariant: e.Invariant, StoreID: e.StoreID}] = true
			}
		}
	}
	return len(places)
}
