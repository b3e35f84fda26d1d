package chaos

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"invariant.dev/operator/test/chaos/gate"
	"invariant.dev/operator/test/chaos/history"
)

var kills = flag.Int("kills", 1000, "how often the long form kills the monitor")

// busy is what the checks leave to a machine with all of this on two cores.
var busy = history.Tolerance{Early: 2 * time.Second, Late: 4 * time.Second}

// TestKills kills the monitor at random moments, and at each write of a cycle in turn: before it, after it, and with its answer lost.
func TestKills(t *testing.T) {
	beside(t)
	s := newStage(t, plane)
	kills := shortOr(6, *kills)
	lanes := shortOr(3, 8)
	var wg sync.WaitGroup
	for lane := range lanes {
		y := s.system(fmt.Sprint(lane), 4)
		wg.Go(func() { y.killed(kills / lanes) })
	}
	wg.Wait()
	s.settled(busy, fmt.Sprintf("%d kills", kills/lanes*lanes))
}

// killed lets a system live, and people work on its tickets, while its monitor is killed so many times.
func (y *system) killed(kills int) {
	m := y.stage.monitor(y.namespace, "--namespace", y.namespace)
	living, end := context.WithCancel(y.stage.ctx)
	var wg sync.WaitGroup
	ana, mend := y.people(), y.lasting()
	wg.Go(func() { y.live(living) })
	wg.Go(func() { ana.work(living, 700*time.Millisecond) })
	rng := y.stage.fork()
	for kill := range kills {
		y.monitored()
		m.start()
		y.firstLook(living, m)
		if kill%2 == 0 {
			wait(living, between(rng, 0, 9*time.Second))
			m.kill()
		} else {
			m.killAtWrite(living, kill/2)
		}
		y.unmonitored()
	}
	end()
	wg.Wait()
	m.gate.Disturb(nil)
	y.monitored()
	m.start()
	y.firstLook(y.stage.ctx, m)
	mend()
	y.heal()
	ana.leave(y.stage.ctx)
}

// killAtWrite kills the monitor at one of its next writes, each time at another.
func (m *monitor) killAtWrite(ctx context.Context, n int) {
	write, how := n/3%7, n%3
	dead := make(chan struct{})
	var once sync.Once
	die := func() { once.Do(func() { m.kill(); close(dead) }) }
	written := 0
	m.gate.Disturb(func(r *http.Request) *gate.Disturbance {
		if !gate.IsWrite(r) {
			return nil
		}
		if written++; written <= write {
			return nil
		}
		switch how {
		case 0:
			return &gate.Disturbance{Before: die, LoseRequest: true}
		case 1:
			return &gate.Disturbance{After: die, LoseAnswer: true}
		default:
			// The monitor learns that its write failed, or nothing, and dies a moment later.
			return &gate.Disturbance{LoseAnswer: true, After: func() { time.AfterFunc(200*time.Millisecond, die) }}
		}
	})
	select {
	case <-dead:
	case <-ctx.Done():
	case <-time.After(15 * time.Second):
		// All was quiet for so long.
		die()
	}
	m.gate.Disturb(nil)
}
