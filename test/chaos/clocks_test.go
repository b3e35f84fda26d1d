package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/test/chaos/history"
	"invariant.dev/operator/test/installed"
)

// An hour is what the clocks of a day lose or gain where somebody takes local time for UTC, and two minutes what a machine without time
// synchronisation is off after some weeks.
const (
	clockStep = time.Hour
	clockSkew = 2 * time.Minute
)

// offsetMonitor is a monitor with a clock that can be set.
type offsetMonitor struct {
	*monitor
	system *system
	file   string
	offset time.Duration
	// counting is a store that is broken and counts; empty: none yet.
	counting string
}

// buildOffsetOperator builds the operator with a clock that can be set, which no release has.
var buildOffsetOperator = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(bin, "clockoffset")
	return filepath.Join(dir, "operator"), installed.Build(context.Background(), filepath.Join("..", ".."), dir, []string{"-tags=clockoffset"}, "cmd/operator")
})

// offsetMonitor makes a monitor of a system whose clock is right until it is set. What is resolved stays for two steps of it.
func (y *system) offsetMonitor(name string) *offsetMonitor {
	y.stage.Helper()
	m := &offsetMonitor{system: y, file: filepath.Join(y.stage.TempDir(), "offset")}
	program, err := buildOffsetOperator()
	must(y.stage, err)
	m.monitor = y.stage.monitor(name, "--namespace", y.namespace, "--ticket-retention", (2 * clockStep).String())
	m.command = []string{"/usr/bin/env", "OPERATOR_CLOCK_OFFSET_FILE=" + m.file, program}
	m.write(0)
	return m
}

// write sets the clock, at once: the file is never half written.
func (m *offsetMonitor) write(offset time.Duration) {
	must(m.stage, os.WriteFile(m.file+".next", []byte(offset.String()), 0o600))
	must(m.stage, os.Rename(m.file+".next", m.file))
	m.offset = offset
}

// set sets the clock of the monitor that checks the system.
func (m *offsetMonitor) set(offset time.Duration) {
	m.stage.history.Clock(m.system.namespace, offset, time.Now())
	m.write(offset)
}

// goesOn waits until all Invariants say by the monitor's clock that they were checked.
func (m *offsetMonitor) goesOn() {
	m.stage.eventually(fmt.Sprintf("checks go on with a clock that is off by %s", m.offset), 30*time.Second, func() bool {
		for _, a := range aspects {
			var invariant v1alpha1.Invariant
			err := m.stage.api.Get(m.stage.ctx, types.NamespacedName{Namespace: m.system.namespace, Name: a.name}, &invariant)
			if age := time.Since(invariant.Status.LastCheckTime.Go().Add(-m.offset)).Abs(); err != nil || age > 6*time.Minute {
				return false
			}
		}
		return true
	})
}

// TestClocks steps the monitor's clock by an hour between and within its cycles, and hands over to monitors whose clocks are off. What
// is timed while a clock is set may end earlier or later by as much; nothing is lost, doubled, resolved unseen, or stuck for an hour.
func TestClocks(t *testing.T) {
	beside(t)
	t.Run("stepped", func(t *testing.T) {
		t.Parallel()
		clocks(t, shortOr(2, 60), stepped)
	})
	t.Run("skewed", func(t *testing.T) {
		t.Parallel()
		clocks(t, shortOr(2, 60), skewed)
	})
}

// clocks lets a system live and people work while something is done so many times to the clocks of their monitors.
func clocks(t *testing.T, times int, play func(ctx context.Context, y *system, rng *rand.Rand, times int)) {
	s := newStage(t, plane)
	y := s.system("0", 4)
	living, end := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	ana, mend := y.people(), y.lasting()
	wg.Go(func() { y.live(living) })
	wg.Go(func() { ana.work(living, time.Second) })
	play(living, y, s.fork(), times)
	end()
	wg.Wait()
	// What lasts is there until its ticket is due by each clock that was in force.
	wait(s.ctx, 2*(2*interval+busy.Late))
	mend()
	y.heal()
	ana.leave(s.ctx)
	s.settled(busy, fmt.Sprintf("the clock was set %d times", times))
}

// stepped sets the clock of a monitor that goes on: right, an hour ahead or an hour behind.
func stepped(ctx context.Context, y *system, rng *rand.Rand, times int) {
	m := y.offsetMonitor("monitor")
	y.monitored()
	m.start()
	y.firstLook(ctx, m.monitor)
	offsets := []time.Duration{clockStep, 0, -clockStep}
	for n := range times {
		wait(ctx, between(rng, 0, shortOr(0, 8*time.Second)))
		next := offsets[n%len(offsets)]
		for *long && next == m.offset {
			next = offsets[rng.IntN(len(offsets))]
		}
		m.through(ctx, func() { m.set(next) })
		m.goesOn()
	}
}

// through sets a clock while one store is in its grace period, and another counts since the last time: the first must count in the end,
// and the other be seen on. It leaves the first broken for the next time.
func (m *offsetMonitor) through(ctx context.Context, set func()) {
	fast, inGrace := aspects[1], m.system.add()
	m.system.turn(fast, inGrace)
	m.system.nextLook(ctx, startsWithin)
	m.system.nextLook(ctx, startsWithin)
	set()
	m.stage.eventually(fmt.Sprintf("what was broken when the clock was set by %s is counted on", m.offset), 30*time.Second, func() bool {
		return m.seen(fast, inGrace) && (m.counting == "" || m.seen(fast, m.counting))
	})
	if m.counting != "" {
		m.system.turn(fast, m.counting)
	}
	m.counting = inGrace
}

// seen tells whether an open ticket says that a store is broken, and was seen so just now, by the monitor's clock.
func (m *offsetMonitor) seen(a aspect, store string) bool {
	return slices.ContainsFunc(m.stage.history.Latest(m.system.namespace), func(v history.Version) bool {
		return v.Ticket.IsOpen() && slices.ContainsFunc(v.Ticket.Status.Violations, func(e v1alpha1.ViolationStatus) bool {
			return e.Invariant == a.name && e.StoreID == store && e.Active && !e.Pending &&
				time.Since(e.LastSeenTime.Go().Add(-m.offset)).Abs() < 10*time.Second
		})
	})
}

// skewed kills the monitor each time and starts another, whose clock is off by minutes, or by less than a grace period.
func skewed(ctx context.Context, y *system, rng *rand.Rand, times int) {
	m := y.offsetMonitor("monitor")
	y.monitored()
	m.start()
	y.firstLook(ctx, m.monitor)
	offsets := []time.Duration{clockSkew, -clockSkew, 3 * time.Second, -3 * time.Second, 0}
	for n := range times {
		wait(ctx, between(rng, 0, shortOr(0, 8*time.Second)))
		next := offsets[n%2]
		if *long {
			next = offsets[rng.IntN(len(offsets))]
		}
		m.through(ctx, func() {
			m.kill()
			y.unmonitored()
			m.set(next)
			y.monitored()
			m.start()
			y.firstLook(ctx, m.monitor)
		})
	}
}
