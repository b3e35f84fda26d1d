package chaos

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/test/chaos/gate"
	"invariant.dev/operator/test/chaos/history"
)

var failovers = flag.Int("failovers", 100, "how often the long form ends a leader by kill -9, and how often by SIGTERM; it pauses and cuts off a quarter as many")

const leaseName = "operator-monitor.operator.invariant.dev"

// ending is how a leader comes to its end.
type ending string

const (
	killed ending = "kill -9"
	ended  ending = "SIGTERM"
	// paused is stopped for longer than its lease, and goes on afterwards.
	paused ending = "pause"
	// pausedAtWrite is paused between two of its instructions: a write of it is under way and arrives when another leads.
	pausedAtWrite ending = "pause at a write"
	// pausedAtRenewal is paused while it renews its lease.
	pausedAtRenewal ending = "pause at a renewal"
	// cutOff hears nothing of the API server for longer than its lease, and then all of it; so does the API server of it.
	cutOff        ending = "cut"
	cutOffAtWrite ending = "cut at a write"
)

// takeovers are how long it took from the end of a leader to the first write of the next.
type takeovers struct {
	mu   sync.Mutex
	took map[ending][]time.Duration
}

func (t *takeovers) add(how ending, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.took[how] = append(t.took[how], took)
}

// facts are the figures, beside what they should be.
func (t *takeovers) facts() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var facts []string
	for _, how := range []struct {
		ending
		target string
	}{{killed, "; p99 should be below 13s"}, {ended, "; p99 should be below 2s"}, {paused, ""}, {pausedAtWrite, ""}, {pausedAtRenewal, ""}, {cutOff, ""}, {cutOffAtWrite, ""}} {
		took := slices.Sorted(slices.Values(t.took[how.ending]))
		if len(took) == 0 {
			continue
		}
		quantile := func(q int) time.Duration { return took[(len(took)*q+99)/100-1].Round(10 * time.Millisecond) }
		facts = append(facts, fmt.Sprintf("%d x %s: the next leader wrote within p50 %s, p99 %s, max %s%s",
			len(took), how.ending, quantile(50), quantile(99), quantile(100), how.target))
	}
	return facts
}

// TestFailover ends leaders in all ways, and wants that the next one goes on where they were, even where both write.
func TestFailover(t *testing.T) {
	beside(t)
	began, measured := time.Now(), &takeovers{took: map[ending][]time.Duration{}}
	lanes := shortOr([][]ending{{killed}, {ended, pausedAtRenewal}}, long4(*failovers))
	t.Run("lanes", func(t *testing.T) {
		for lane, endings := range lanes {
			t.Run(fmt.Sprint(lane), func(t *testing.T) {
				t.Parallel()
				failover(t, endings, measured)
			})
		}
	})
	for _, fact := range measured.facts() {
		t.Log(fact)
	}
	table.add("Failover", time.Since(began), measured.facts()...)
}

// long4 shares the endings of the long form between four trios.
func long4(failovers int) [][]ending {
	const trios = 4
	lanes := make([][]ending, trios)
	for lane := range lanes {
		for n := range failovers / trios {
			lanes[lane] = append(lanes[lane], killed, ended)
			if n%4 == 0 {
				lanes[lane] = append(lanes[lane], []ending{pausedAtWrite, pausedAtRenewal, paused}[n/4%3], []ending{cutOffAtWrite, cutOff}[n/4%2])
			}
		}
	}
	return lanes
}

// failover lets a system live and people work while leaders come to their ends.
func failover(t *testing.T, endings []ending, measured *takeovers) {
	s := newStage(t, plane)
	y := s.system("0", 3)
	mend := y.lasting()
	o := s.trio(y)
	living, end := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	ana := y.people()
	wg.Go(func() { y.live(living) })
	wg.Go(func() { ana.work(living, time.Second) })
	rng := s.fork()
	rng.Shuffle(len(endings), func(i, j int) { endings[i], endings[j] = endings[j], endings[i] })
	o.begin()
	for _, how := range endings {
		wait(living, between(rng, time.Second, shortOr(time.Second, 9*time.Second)))
		o.round(how, measured)
	}
	end()
	wg.Wait()
	mend()
	y.heal()
	ana.leave(s.ctx)
	s.settled(busy, fmt.Sprintf("%d leaders came to their end", len(endings)))
}

// trio is three replicas of which one leads.
type trio struct {
	stage    *stage
	system   *system
	replicas []*monitor

	mu sync.Mutex
	// identities are under which name each stands for the Lease, and decide what becomes of what they send.
	identities map[*monitor]string
	decide     map[*monitor]func(*http.Request) *gate.Disturbance
	// written are the processes that have led.
	written map[string]bool
}

// trio makes the replicas, at home in the system's namespace, where they may stand for a Lease as config/rbac lets them in the
// monitor's own.
func (s *stage) trio(y *system) *trio {
	s.Helper()
	role, err := os.ReadFile(filepath.Join("..", "..", "config", "rbac", "leader_election_role.yaml"))
	must(s, err)
	here := strings.Replace(string(role), "namespace: "+monitorNamespace, "namespace: "+y.namespace, 1)
	_, _, err = controlplane.Kubectl(s.ctx, s.plane.Kubeconfig, here, "apply", "-f", "-")
	must(s, err)
	_, _, err = controlplane.Kubectl(s.ctx, s.plane.Kubeconfig, "", "create", "rolebinding", "operator-leader-election", "-n", y.namespace,
		"--role=operator-leader-election", "--serviceaccount="+monitorNamespace+":operator-monitor")
	must(s, err)
	o := &trio{stage: s, system: y, identities: map[*monitor]string{}, decide: map[*monitor]func(*http.Request) *gate.Disturbance{}, written: map[string]bool{}}
	for i := range 3 {
		m := s.monitorIn(y.namespace, fmt.Sprint("replica-", i), "--namespace", y.namespace, "--leader-elect")
		m.gate.Disturb(func(r *http.Request) *gate.Disturbance { return o.arrive(m, r) })
		o.replicas = append(o.replicas, m)
	}
	return o
}

// arrive notes what a replica asks of the Lease, and decides what becomes of all else that it sends.
func (o *trio) arrive(m *monitor, r *http.Request) *gate.Disturbance {
	if isRenewal(r) {
		if d := o.renewal(m, r); d != nil {
			return d
		}
	}
	o.mu.Lock()
	decide := o.decide[m]
	o.mu.Unlock()
	if decide == nil {
		return nil
	}
	return decide(r)
}

// isRenewal tells whether a request writes a Lease.
func isRenewal(r *http.Request) bool {
	return r.Method != http.MethodGet && strings.HasPrefix(r.URL.Path, "/apis/coordination.k8s.io/")
}

// renewal notes who stands for the Lease. Nobody may end the lease of another.
func (o *trio) renewal(m *monitor, r *http.Request) *gate.Disturbance {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var lease coordinationv1.Lease
	if _, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, &lease); err != nil {
		o.stage.Errorf("what %s writes to the Lease: %v", m.name, err)
		return nil
	}
	if holder := ptr.Deref(lease.Spec.HolderIdentity, ""); holder != "" {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.identities[m] = holder
		return nil
	}
	return &gate.Disturbance{Before: func() {
		o.mu.Lock()
		own := o.identities[m]
		o.mu.Unlock()
		if holder, version := o.holder(); holder != own && version == lease.ResourceVersion {
			o.stage.Errorf("%s, which is %s, ends the lease of %s", m.name, own, holder)
		}
	}}
}

// holder is who has the Lease.
func (o *trio) holder() (identity, version string) {
	var lease coordinationv1.Lease
	if err := o.stage.api.Get(o.stage.ctx, client.ObjectKey{Namespace: o.system.namespace, Name: leaseName}, &lease); err != nil {
		return "", ""
	}
	return ptr.Deref(lease.Spec.HolderIdentity, ""), lease.ResourceVersion
}

// leader is the replica that has the Lease, or nil.
func (o *trio) leader() *monitor {
	holder, _ := o.holder()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.replicas {
		if holder != "" && o.identities[m] == holder && m.running() != nil {
			return m
		}
	}
	return nil
}

// begin starts all replicas and waits until one leads.
func (o *trio) begin() {
	first := o.nextWriter()
	for _, m := range o.replicas {
		m.start()
	}
	o.led(first)
}

// nextWriter is the first version that a process writes that has not led before.
func (o *trio) nextWriter() <-chan history.Version {
	return o.stage.history.Await(func(v history.Version) bool {
		if v.Ticket == nil || v.Namespace != o.system.namespace || v.Ticket.Status.Monitor == "" {
			return false
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		isNew := !o.written[v.Ticket.Status.Monitor]
		o.written[v.Ticket.Status.Monitor] = true
		return isNew
	})
}

// led waits until the next leader has written, and notes that it is able from its next look on. Zero: there is none.
func (o *trio) led(first <-chan history.Version) time.Time {
	select {
	case v := <-first:
		o.system.monitored()
		return v.At
	case <-time.After(time.Minute):
		o.stage.Errorf("nobody leads within a minute")
		return time.Time{}
	}
}

// round ends the leader, waits for the next one, and lets the old one find out.
func (o *trio) round(how ending, measured *takeovers) {
	var leader *monitor
	o.stage.eventually("one of the replicas leads", time.Minute, func() bool {
		leader = o.leader()
		return leader != nil
	})
	if leader == nil {
		return
	}
	next, gone := o.nextWriter(), leader.running().Ended()
	over, mend := o.end(leader, how)
	at := o.led(next)
	if at.IsZero() {
		mend()
		return
	}
	measured.add(how, at.Sub(over))
	wait(o.stage.ctx, between(o.stage.fork(), 0, shortOr(time.Second/2, 3*time.Second)))
	mend()
	select {
	case <-gone:
	case <-time.After(time.Minute):
		o.stage.Errorf("%s goes on for a minute after %s, although another leads", leader.name, how)
		leader.kill()
	}
	leader.start()
}

// end ends a leader in that way, and says when. What mend mends is mended when another leads.
func (o *trio) end(m *monitor, how ending) (over time.Time, mend func()) {
	process := m.running()
	switch how {
	case killed:
		return o.unable(func() { m.kill() }), func() {}
	case ended:
		return o.unable(func() { _ = process.Signal(syscall.SIGTERM) }), func() {}
	case paused:
		return o.unable(func() { _ = process.Pause() }), func() { _ = process.Resume() }
	case cutOff:
		return o.unable(m.gate.Cut), m.gate.Mend
	case pausedAtWrite:
		over, arrive := o.at(m, gate.IsWrite, func() { _ = process.Pause() })
		return over, func() { arrive(); _ = process.Resume() }
	case pausedAtRenewal:
		over, arrive := o.at(m, isRenewal, func() { _ = process.Pause() })
		return over, func() { arrive(); _ = process.Resume() }
	default:
		over, arrive := o.at(m, gate.IsWrite, m.gate.Cut)
		return over, func() { arrive(); m.gate.Mend() }
	}
}

// unable does what ends the leader, and says when.
func (o *trio) unable(end func()) time.Time {
	o.system.unmonitored()
	at := time.Now()
	end()
	return at
}

// at ends the leader at one of its next requests of that kind, which arrives late.
func (o *trio) at(m *monitor, is func(*http.Request) bool, end func()) (over time.Time, arrive func()) {
	skip, late, done := o.stage.fork().IntN(5), make(chan struct{}), make(chan time.Time, 1)
	atThis := func(r *http.Request) *gate.Disturbance {
		if !is(r) {
			return nil
		}
		if skip--; skip >= 0 {
			return nil
		}
		o.disturb(m, nil)
		return &gate.Disturbance{Before: func() { done <- o.unable(end) }, Until: late}
	}
	o.disturb(m, atThis)
	select {
	case over = <-done:
	case <-time.After(time.Minute):
		o.stage.Errorf("%s, which leads, writes nothing for a minute", m.name)
		o.disturb(m, nil)
		over = o.unable(end)
	}
	return over, func() {
		o.stage.history.Delayed(o.system.namespace, over, time.Now())
		close(late)
	}
}

func (o *trio) disturb(m *monitor, decide func(*http.Request) *gate.Disturbance) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.decide[m] = decide
}
