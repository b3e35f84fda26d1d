package chaos

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/hack/programs"
	"invariant.dev/operator/test/chaos/gate"
	"invariant.dev/operator/test/chaos/history"
)

// etcdTimeout is how long a member of the observed cluster may take to answer.
const etcdTimeout = time.Second

// TestEtcdCluster watches a real etcd cluster of three members as config/samples/etcd does, while its members are killed, paused, cut
// off from each other and from the monitor, and the monitor is killed too. What was true, each member is asked ten times a second.
func TestEtcdCluster(t *testing.T) {
	beside(t)
	s := newStage(t, plane)
	y := s.system("watched", 1)
	c := s.etcd()
	c.watch(y.namespace)
	m := s.monitor("etcd", "--namespace", y.namespace)
	c.start()
	living, end := context.WithCancel(s.ctx)
	probing, endProbing := context.WithCancel(s.ctx)
	var wg, probers sync.WaitGroup
	ana, p := y.people(), &prober{cluster: c}
	probers.Go(func() { p.probe(probing) })
	y.monitored()
	m.start()
	y.firstLook(living, m)
	c.identify()
	wg.Go(func() { y.live(living) })
	wg.Go(func() { ana.work(living, 700*time.Millisecond) })
	if *long {
		wg.Go(func() { y.killedNowAndThen(living, m) })
		c.suffer(living, cmp.Or(*lasts, 30*time.Minute))
	} else {
		c.sufferOnce(living)
	}
	end()
	wg.Wait()
	c.heal()
	y.heal()
	ana.leave(s.ctx)
	s.eventually("every member is well again", time.Minute, p.allWell)
	s.eventually(history.WhatClearedResolves, time.Minute, func() bool { return len(s.history.Check(time.Now(), busy, history.WhatClearedResolves)) == 0 })
	endProbing()
	probers.Wait()
	p.note(s.history, y.namespace)
	s.settled(busy, fmt.Sprintf("%d faults of members", c.suffered), fmt.Sprintf("%d starts of the monitor", m.starts))
}

// killedNowAndThen kills the monitor and starts it again, until the context ends.
func (y *system) killedNowAndThen(ctx context.Context, m *monitor) {
	rng := y.stage.fork()
	for wait(ctx, between(rng, 20*time.Second, time.Minute)) {
		m.kill()
		y.unmonitored()
		y.monitored()
		m.start()
	}
}

// etcdCluster is an etcd cluster whose members are processes here, that reach each other and are reached through links.
type etcdCluster struct {
	stage   *stage
	members []*member
	// suffered counts the faults that were done to them.
	suffered int
}

// member is a member of an etcd cluster. It listens on sockets, to which the links lead, so that nobody else takes its ports while it
// is down.
type member struct {
	stage        *stage
	name         string
	args         []string
	client, peer *gate.Link
	// id is what it calls itself when it speaks to others.
	id      string
	process *controlplane.Program
	log     *programs.Tail
}

// etcd makes an etcd cluster of three members, and does not start them.
func (s *stage) etcd() *etcdCluster {
	s.Helper()
	c := &etcdCluster{stage: s}
	var initial []string
	for i := range 3 {
		m := &member{stage: s, log: programs.NewTail(io.Discard, logBytes), name: fmt.Sprintf("%s-etcd-%d", s.name, i+1)}
		// etcd takes these as relative to where programs are started.
		client, peer := m.name+"-client", m.name+"-peer"
		m.client, m.peer = s.link(client, nil), s.link(peer, func(r *http.Request) string { return r.Header.Get("X-Server-From") })
		m.args = []string{"--name", m.name, "--data-dir", m.name + "-data", "--unsafe-no-fsync", "--log-level", "warn",
			"--listen-client-urls", "unix://" + client, "--advertise-client-urls", "http://" + m.client.Address,
			"--listen-peer-urls", "unix://" + peer, "--initial-advertise-peer-urls", "http://" + m.peer.Address}
		initial = append(initial, m.name+"=http://"+m.peer.Address)
		c.members = append(c.members, m)
	}
	for _, m := range c.members {
		m.args = append(m.args, "--initial-cluster", strings.Join(initial, ","))
		s.Cleanup(m.kill)
	}
	return c
}

// start starts all members.
func (c *etcdCluster) start() {
	for _, m := range c.members {
		m.start()
	}
}

// identify waits until all members are healthy, and learns who they are.
func (c *etcdCluster) identify() {
	for _, m := range c.members {
		c.stage.eventually(m.name+" is healthy", startsWithin, func() bool { return m.identify(c.stage.ctx) })
	}
}

// link makes a link to a socket in the directory in which programs are started.
func (s *stage) link(socket string, from func(*http.Request) string) *gate.Link {
	s.Helper()
	l, err := gate.NewLink("unix", filepath.Join(filepath.Dir(s.plane.EtcdSocket()), socket), from)
	must(s, err)
	s.Cleanup(l.Close)
	return l
}

func (m *member) start() {
	path, err := controlplane.Binary("etcd")
	if err == nil {
		m.process, err = m.stage.plane.StartProgram(m.name, path, m.log, m.args...)
	}
	if err != nil {
		m.stage.Errorf("start %s: %v", m.name, err)
	}
}

func (m *member) kill() {
	if m.process != nil {
		_ = m.process.Kill()
	}
}

// identify learns the member's ID, and tells whether it is healthy.
func (m *member) identify(ctx context.Context) bool {
	_, metrics, err := get(ctx, m.client.Address, "/metrics")
	if id := regexp.MustCompile(`etcd_server_id\{server_id="([0-9a-f]+)"\} 1`).FindStringSubmatch(metrics); err == nil && id != nil {
		m.id = id[1]
	}
	_, health, err := get(ctx, m.client.Address, "/health")
	return err == nil && m.id != "" && strings.Contains(health, `"health":"true"`)
}

// get asks an address, and returns the status and the body of its answer.
func get(ctx context.Context, address, path string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// watch makes the Invariants of the pack for etcd in a namespace, with times that suit a test.
func (c *etcdCluster) watch(namespace string) {
	c.stage.Helper()
	duration := func(d time.Duration) *v1alpha1.Duration {
		return &v1alpha1.Duration{Duration: metav1.Duration{Duration: d}}
	}
	for _, invariant := range c.pack() {
		spec := &invariant.Spec
		invariant.Namespace = namespace
		spec.Interval, spec.UnobservableAfter, spec.Source.HTTP.Timeout = duration(interval), duration(unobservableAfter), duration(etcdTimeout)
		p := history.Policy{Namespace: namespace, Invariant: invariant.Name, Interval: interval, Timeout: etcdTimeout, UnobservableAfter: unobservableAfter}
		switch invariant.Name {
		case "member-has-leader":
			p.GracePeriod = 3 * time.Second
		case "quorum":
			p.ResolveAfter = 2 * time.Second
		}
		spec.GracePeriod, spec.ResolveAfter = duration(p.GracePeriod), duration(p.ResolveAfter)
		must(c.stage, c.stage.api.Create(c.stage.ctx, invariant))
		c.stage.history.Policy(p)
	}
}

// pack are the Invariants of config/samples/etcd, about this cluster.
func (c *etcdCluster) pack() []*v1alpha1.Invariant {
	c.stage.Helper()
	text, _, err := controlplane.Kubectl(c.stage.ctx, c.stage.plane.Kubeconfig, "", "kustomize", "../../config/samples/etcd")
	must(c.stage, err)
	for i, m := range c.members {
		text = strings.ReplaceAll(text, fmt.Sprintf("etcd-%d:2379", i+1), m.client.Address)
	}
	var pack []*v1alpha1.Invariant
	for _, document := range strings.Split(text, "\n---\n") {
		invariant := &v1alpha1.Invariant{}
		must(c.stage, yaml.UnmarshalStrict([]byte(document), invariant))
		pack = append(pack, invariant)
	}
	return pack
}

// ailments are the faults that a member can have, each of which can begin and end.
func (c *etcdCluster) ailments(m *member) []func(ill bool) {
	return []func(bool){m.die, m.freeze, m.silence, func(ill bool) { c.isolate(m, ill) }}
}

// die kills the member, or starts it again.
func (m *member) die(ill bool) {
	m.kill()
	if !ill {
		m.start()
	}
}

// freeze stops the member as a machine does that has no time for it, or lets it go on.
func (m *member) freeze(ill bool) {
	if ill {
		_ = m.process.Pause() // fails only when it is dead
	} else {
		_ = m.process.Resume()
	}
}

// silence cuts the member off from those who ask it.
func (m *member) silence(ill bool) { cutLink(m.client, "", ill) }

// isolate cuts the member off from the others, in both directions.
func (c *etcdCluster) isolate(m *member, ill bool) {
	cutLink(m.peer, "", ill)
	for _, other := range c.members {
		cutLink(other.peer, m.id, ill)
	}
}

// sever cuts what one member sends to another of its own accord, and leaves the other direction.
func (c *etcdCluster) sever(from, to *member, ill bool) { cutLink(to.peer, from.id, ill) }

func cutLink(l *gate.Link, from string, ill bool) {
	if ill {
		l.Cut(from)
	} else {
		l.Mend(from)
	}
}

// suffer lets the members fall ill and recover at random for a while.
func (c *etcdCluster) suffer(ctx context.Context, lasts time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, lasts)
	defer cancel()
	rng := c.stage.fork()
	var all []*turning
	add := func(do func(bool)) {
		all = append(all, &turning{do: func(ill bool) {
			do(ill)
			if ill {
				c.suffered++
			}
		}, well: [2]time.Duration{20 * time.Second, 2 * time.Minute}, ill: [2]time.Duration{time.Second, 30 * time.Second}})
	}
	for i, m := range c.members {
		for _, ailment := range c.ailments(m) {
			add(ailment)
		}
		other := c.members[(i+1)%len(c.members)]
		add(func(ill bool) { c.sever(m, other, ill) })
	}
	turnAll(ctx, rng, all)
}

// sufferOnce makes two of the members ill, each in its own way, for long enough to be seen.
func (c *etcdCluster) sufferOnce(ctx context.Context) {
	rng := c.stage.fork()
	first := rng.IntN(3)
	for _, m := range []*member{c.members[first], c.members[(first+1)%3]} {
		ailments := c.ailments(m)
		ailment := ailments[rng.IntN(len(ailments))]
		ailment(true)
		defer ailment(false)
		c.suffered++
	}
	wait(ctx, 7500*time.Millisecond)
}

// heal ends all that the members suffer from.
func (c *etcdCluster) heal() {
	for i, m := range c.members {
		m.silence(false)
		c.isolate(m, false)
		c.sever(m, c.members[(i+1)%len(c.members)], false)
		m.freeze(false)
		select {
		case <-m.process.Ended():
			m.start()
		default:
		}
	}
}
