package chaos

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/test/installed"
)

var (
	outageTime = flag.Duration("outages", 15*time.Minute, "how long the long form goes on with outages of the API server")
	outageKind = flag.String("outage", "", "only the outages whose names contain this")
)

// TestOutages takes the API server away in all the ways in which it can be away, while systems live and people work.
func TestOutages(t *testing.T) {
	beside(t)
	if !*long {
		newOutages(newStage(t, plane)).play()
		return
	}
	// One of its own: this takes it away from everybody.
	plane, err := controlplane.Start(t.Context(), controlplane.Options{})
	must(t, err)
	t.Cleanup(func() {
		if err := plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	must(t, installed.Apply(t.Context(), plane, "../.."))
	newOutages(newStage(t, plane)).play()
}

// outages is the scenario: three systems that one monitor watches; in the short form, one.
type outages struct {
	*stage
	rng     *rand.Rand
	monitor *monitor
	// hit is the system that outages of one namespace are for, and spared is not.
	hit, spared *system
	// beacon is hit too. Its only fault lasts for ever, so that every cycle that can write does.
	beacon *system
	// elected: the monitor runs with leader election, and is started again whenever it ends.
	elected bool
	// exits counts how often it ended, and supervisor starts it again.
	exits      atomic.Int64
	supervisor context.CancelFunc
	// all are the systems, and lively those in which much happens.
	all, lively []*system
	// figures are what was measured of each kind of outage, and calm is how often the monitor asks the API server in peace.
	figures map[string]*figures
	calm    float64
}

// figures are what was measured of a kind of outage.
type figures struct {
	kind       outage
	recoveries []time.Duration
	// rate is the highest number of requests a second, over a whole outage.
	rate  float64
	exits int64
}

func newOutages(s *stage) *outages {
	o := &outages{stage: s, rng: s.fork(), figures: map[string]*figures{}, supervisor: func() {}}
	o.hit = s.system("hit", 4)
	if !*long {
		o.all, o.lively, o.beacon = []*system{o.hit}, []*system{o.hit}, o.hit
		o.monitor = s.monitor("outages", "--namespace", o.hit.namespace)
		return o
	}
	o.spared, o.beacon = s.system("spared", 4), s.system("beacon", 1)
	o.all, o.lively = []*system{o.hit, o.spared, o.beacon}, []*system{o.hit, o.spared}
	o.monitor = s.monitor("outages")
	return o
}

func (o *outages) play() {
	living, end := context.WithCancel(o.ctx)
	var wg sync.WaitGroup
	o.begin()
	ana := map[*system]*people{}
	for _, y := range o.lively {
		people := y.people()
		ana[y] = people
		wg.Go(func() { y.live(living) })
		wg.Go(func() { people.work(living, time.Second) })
	}
	o.beacon.turn(aspects[0], "1")
	mend := o.hit.lasting()
	o.measureCalm()
	for _, round := range o.rounds() {
		if round.elected != o.elected {
			// All that was found in the outage before is written by then: this ends the monitor.
			wait(o.ctx, 3*interval+busy.Late)
			o.elect(round.elected)
		}
		o.round(round)
		if o.Failed() && !*long {
			break
		}
	}
	end()
	wg.Wait()
	mend()
	for y, people := range ana {
		y.heal()
		people.leave(o.ctx)
	}
	o.beacon.heal()
	o.report()
	defer o.supervisor()
	o.settled(busy, fmt.Sprintf("%d outages", o.count()))
}

// round is one outage.
type round struct {
	outage
	// only: of one namespace.
	only, elected bool
}

// rounds are the outages to play, at random.
func (o *outages) rounds() func(func(int, round) bool) {
	return func(yield func(int, round) bool) {
		if !*long {
			for n, name := range []string{"writes get 429", "reads get 503"} {
				i := slices.IndexFunc(kinds, func(k outage) bool { return k.name == name })
				if !yield(n, round{outage: kinds[i]}) {
					return
				}
			}
			return
		}
		deadline := time.Now().Add(*outageTime)
		for n := 0; time.Now().Before(deadline); {
			for _, elected := range []bool{false, true} {
				for _, i := range o.rng.Perm(len(kinds)) {
					if elected && !kinds[i].lease || !strings.Contains(kinds[i].name, *outageKind) {
						continue
					}
					if time.Now().After(deadline) || !yield(n, round{kinds[i], kinds[i].one && o.rng.IntN(2) == 0, elected}) {
						return
					}
					n++
				}
			}
		}
	}
}

// begin starts the monitor.
func (o *outages) begin() {
	for _, y := range o.all {
		y.monitored()
	}
	o.monitor.start()
	for _, y := range o.all {
		if !y.nextLook(o.ctx, startsWithin) {
			o.Fatalf("%s did not look within %s of its start", o.monitor.name, startsWithin)
		}
	}
}

// elect starts the monitor anew, with leader election or without.
func (o *outages) elect(elected bool) {
	o.supervisor()
	for _, y := range o.all {
		y.unmonitored()
	}
	o.monitor.kill()
	o.elected = elected
	o.monitor.flags = slices.DeleteFunc(o.monitor.flags, func(f string) bool { return f == "--leader-elect" })
	if elected {
		o.monitor.flags = append(o.monitor.flags, "--leader-elect")
	}
	o.begin()
	if elected {
		o.supervise()
	}
}

// supervise starts the monitor again whenever it ends, as its Deployment does. With leader election it ends when it loses its lease, which it
// may notice some seconds after the outage.
func (o *outages) supervise() {
	ctx, cancel := context.WithCancel(o.ctx)
	ended := make(chan struct{})
	o.supervisor = func() { cancel(); <-ended }
	go func() {
		defer close(ended)
		for {
			process := o.monitor.running()
			if process != nil {
				select {
				case <-process.Ended():
				case <-ctx.Done():
					return
				}
			}
			o.exits.Add(1)
			for _, y := range o.all {
				y.unmonitored()
			}
			if !wait(ctx, time.Second) {
				return
			}
			o.monitor.start()
			for _, y := range o.all {
				y.monitored()
			}
		}
	}()
}

// measureCalm measures how often the monitor asks the API server in peace.
func (o *outages) measureCalm() {
	before, span := o.requests(), shortOr(2*time.Second, 20*time.Second)
	wait(o.ctx, span)
	o.calm = float64(o.requests()-before) / span.Seconds()
}

func (o *outages) requests() int {
	sum := 0
	for _, n := range o.monitor.gate.Requests() {
		sum += n
	}
	return sum
}

// round plays an outage, and waits until it is over for the monitor.
func (o *outages) round(r round) {
	if *long {
		wait(o.ctx, between(o.rng, 8*time.Second, 14*time.Second))
	}
	name := r.name
	if r.only {
		name += ", in one namespace"
	}
	if r.elected {
		name += ", with leader election"
	}
	f := o.figures[name]
	if f == nil {
		f = &figures{kind: r.outage}
		o.figures[name] = f
	}
	hit := o.all
	within := func(*http.Request) bool { return true }
	if r.only {
		hit = []*system{o.hit, o.beacon}
		within = func(r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/namespaces/"+o.hit.namespace+"/") || strings.Contains(r.URL.Path, "/namespaces/"+o.beacon.namespace+"/")
		}
	}
	lasts := 2500 * time.Millisecond
	if *long {
		lasts = between(o.rng, 6*time.Second, 20*time.Second)
	}
	o.Logf("%s: %s, for %s", time.Now().UTC().Format("15:04:05.000"), name, lasts.Round(100*time.Millisecond))
	process := o.monitor.running()
	exits := o.exits.Load()
	over := o.note(hit, r)
	requests, began := o.requests(), time.Now()
	end := r.begin(o, within)
	wait(o.ctx, lasts)
	f.rate = max(f.rate, float64(o.requests()-requests)/time.Since(began).Seconds())
	if r.counts && !o.written(began, 0) {
		o.Errorf("%s: no open ticket was written meanwhile", name)
	}
	end()
	ended := time.Now()
	recovered := o.eventuallyWritten(ended, time.Minute)
	over()
	f.recoveries = append(f.recoveries, recovered)
	if !r.elected && o.monitor.running() != process {
		o.Errorf("%s: the monitor has ended", name)
		o.elect(false)
	}
	if r.elected {
		// By then it has noticed whether its lease is lost.
		wait(o.ctx, 8*time.Second)
	}
	f.exits += o.exits.Load() - exits
}

// note notes in the history what an outage does to the monitor.
func (o *outages) note(hit []*system, r round) (over func()) {
	var ends []func(time.Time)
	for _, y := range hit {
		if !r.free {
			ends = append(ends, o.history.Hindered(y.namespace, time.Now()))
		}
		if r.hangs {
			ends = append(ends, o.history.Hanging(y.namespace, time.Now()))
		}
		if r.elected {
			// It may lose its lease, and find that out late.
			y.unmonitored()
		}
	}
	return func() {
		for _, end := range ends {
			end(time.Now())
		}
		for _, y := range hit {
			if r.elected {
				y.monitored()
			}
		}
	}
}

// written tells whether the beacon's ticket was written after that moment.
func (o *outages) written(after time.Time, within time.Duration) bool {
	return o.writtenAt(after, within) > 0
}

// eventuallyWritten is how long after that moment the beacon's ticket was first written.
func (o *outages) eventuallyWritten(after time.Time, within time.Duration) time.Duration {
	took := o.writtenAt(after, within)
	if took == 0 {
		o.Errorf("no cycle was written within %s of the outage's end", within)
		return within
	}
	return took
}

func (o *outages) writtenAt(after time.Time, within time.Duration) time.Duration {
	for deadline := time.Now().Add(within); ; {
		if v, found := o.history.FirstAfter(o.beacon.namespace, after); found {
			return v.At.Sub(after)
		}
		if time.Now().After(deadline) || !wait(o.ctx, 20*time.Millisecond) {
			return 0
		}
	}
}

func (o *outages) count() int {
	n := 0
	for _, f := range o.figures {
		n += len(f.recoveries)
	}
	return n
}

// report logs what was measured of each kind of outage.
func (o *outages) report() {
	o.Logf("in peace, the monitor asks the API server %.1f times a second", o.calm)
	for _, name := range slices.Sorted(maps.Keys(o.figures)) {
		f := o.figures[name]
		slices.Sort(f.recoveries)
		at := func(p int) time.Duration { return f.recoveries[(len(f.recoveries)-1)*p/100].Round(time.Millisecond) }
		o.Logf("%-60s %2d times, first cycle after %7s (p50) %7s (p99), %5.1f requests/s, %d exits", name, len(f.recoveries), at(50), at(99), f.rate, f.exits)
		most := 3*o.calm + 10
		if f.kind.conflicts {
			most = 15*o.calm + 10
		}
		if f.rate > most {
			o.Errorf("%s: the monitor asked %.1f times a second, more than %.1f", name, f.rate, most)
		}
	}
}
