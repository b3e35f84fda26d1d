package chaos

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/test/chaos/history"
)

// probeEvery is how often the prober asks each member.
const probeEvery = 100 * time.Millisecond

// sight is what a prober saw of something.
type sight int

const (
	well sight = iota
	// unsure: a monitor that asked at the same time may have seen the one or the other.
	unsure
	ill
)

// glimpse is what a prober saw, asking at one time and knowing at another.
type glimpse struct {
	asked, known time.Time
	sight        sight
}

// prober asks the members of an etcd cluster all the time what their Invariants ask, with eyes of its own.
type prober struct {
	cluster *etcdCluster

	mu     sync.Mutex
	rounds []*probing
}

// probing is what all members answered that were asked at the same time.
type probing struct {
	asked   time.Time
	members []probe
}

// probe is what a member answered.
type probe struct {
	known time.Time
	// healthy: /health says so; answers: it says anything as long as it is no error; hasLeader and sized: /metrics says so.
	healthy, answers, hasLeader, sized sight
	// changes is how many leaders it has seen so far.
	changes string
}

// probe asks until the context ends, and returns when all has been answered.
func (p *prober) probe(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for wait(ctx, probeEvery) {
		r := &probing{asked: time.Now(), members: make([]probe, len(p.cluster.members))}
		wg.Go(func() {
			var members sync.WaitGroup
			for i, m := range p.cluster.members {
				members.Go(func() { r.members[i] = m.probe(context.WithoutCancel(ctx)) })
			}
			members.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			p.rounds = append(p.rounds, r)
		})
	}
}

var (
	leaderChanges = regexp.MustCompile(`\netcd_server_leader_changes_seen_total ([0-9.e+]+)\n`)
	size          = regexp.MustCompile(`\netcd_mvcc_db_total_size_in_bytes [0-9.e+]+\n`)
	quota         = regexp.MustCompile(`\netcd_server_quota_backend_bytes [0-9.e+]+\n`)
)

// probe asks a member once. It waits for longer than the monitor does.
func (m *member) probe(ctx context.Context) probe {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout*3/2)
	defer cancel()
	var p probe
	var wg sync.WaitGroup
	wg.Go(func() {
		body, seen := m.ask(ctx, "/health")
		p.answers, p.healthy = seen(true), seen(strings.Contains(body, `"health":"true"`))
	})
	wg.Go(func() {
		body, seen := m.ask(ctx, "/metrics")
		p.hasLeader, p.sized = seen(strings.Contains(body, "\netcd_server_has_leader 1\n")), seen(size.MatchString(body) && quota.MatchString(body))
		if changes := leaderChanges.FindStringSubmatch(body); changes != nil {
			// A part of the body would keep all of it.
			p.changes = strings.Clone(changes[1])
		}
	})
	wg.Wait()
	p.known = time.Now()
	return p
}

// ask asks a member, and returns what to make of what its answer says: where it took about as long as the monitor waits, nobody knows
// what that saw.
func (m *member) ask(ctx context.Context, path string) (body string, seen func(good bool) sight) {
	asked := time.Now()
	status, body, err := get(ctx, m.client.Address, path)
	took := time.Since(asked)
	return body, func(good bool) sight {
		switch {
		case err != nil || status != http.StatusOK || !good:
			return ill
		case took > etcdTimeout/2:
			return unsure
		default:
			return well
		}
	}
}

// inOrder are the rounds in the order in which they were asked.
func (p *prober) inOrder() []*probing {
	p.mu.Lock()
	defer p.mu.Unlock()
	rounds := slices.Clone(p.rounds)
	slices.SortFunc(rounds, func(a, b *probing) int { return a.asked.Compare(b.asked) })
	return rounds
}

// allWell tells whether all was well lately, as far as what is not answered yet leaves that open.
func (p *prober) allWell() bool {
	rounds := p.inOrder()
	recent := time.Now().Add(-etcdTimeout * 2)
	for _, r := range slices.Backward(rounds) {
		if r.asked.Before(recent) {
			return r != rounds[len(rounds)-1]
		}
		if slices.ContainsFunc(r.members, func(m probe) bool { return max(m.healthy, m.answers, m.hasLeader, m.sized) != well }) {
			return false
		}
	}
	return false
}

// note notes the faults that were seen.
func (p *prober) note(h *history.History, namespace string) {
	rounds := p.inOrder()
	place := func(invariant, storeID string) history.Place {
		return history.Place{Namespace: namespace, Invariant: invariant, StoreID: storeID}
	}
	var unsized []history.Fault // at the same place, whichever member it is that does not say its size
	answers := make([][]glimpse, len(p.cluster.members))
	for i := range p.cluster.members {
		glimpses := func(of func(probe) sight) []glimpse { return glimpsesOf(rounds, i, of) }
		store := fmt.Sprint(i + 1)
		noteAll(h, faults(place("member-up", store), v1alpha1.Violated, glimpses(func(p probe) sight { return p.healthy })))
		noteAll(h, faults(place("member-has-leader", store), v1alpha1.Violated, glimpses(func(p probe) sight { return p.hasLeader })))
		unsized = append(unsized, faults(place("db-size", ""), v1alpha1.Unobservable, glimpses(func(p probe) sight { return p.sized }))...)
		answers[i] = glimpses(func(p probe) sight { return p.answers })
	}
	noteAll(h, faults(place("quorum", ""), v1alpha1.Violated, quorum(answers)))
	slices.SortFunc(unsized, func(a, b history.Fault) int { return a.Possible.Start.Compare(b.Possible.Start) })
	noteAll(h, unsized)
}

func noteAll(h *history.History, faults []history.Fault) {
	for _, f := range faults {
		h.Note(f)
	}
}

// glimpsesOf are what the rounds show of one member. One that has seen another leader since the round before may have known none for a
// moment.
func glimpsesOf(rounds []*probing, member int, of func(probe) sight) []glimpse {
	var all []glimpse
	changes := ""
	for _, r := range rounds {
		p := r.members[member]
		g := glimpse{r.asked, p.known, of(p)}
		if p.changes != changes && g.sight == well {
			g.sight = unsure
		}
		changes = p.changes
		all = append(all, g)
	}
	return all
}

// quorum is whether most of the members answer. The monitor asks them one by one: what changes in one at nearly the same time as in
// another, it may see in another order.
func quorum(answers [][]glimpse) []glimpse {
	const apart = 3
	var all []glimpse
	for i, g := range answers[0] {
		best, worst := 0, 0
		for _, member := range answers {
			near := member[max(0, i-apart):min(len(member), i+apart+1)]
			g.known = later(g.known, member[i].known)
			if slices.ContainsFunc(near, func(g glimpse) bool { return g.sight != ill }) {
				best++
			}
			if !slices.ContainsFunc(near, func(g glimpse) bool { return g.sight != well }) {
				worst++
			}
		}
		most := len(answers)/2 + 1
		switch {
		case worst >= most:
			g.sight = well
		case best < most:
			g.sight = ill
		default:
			g.sight = unsure
		}
		all = append(all, g)
	}
	return all
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// faults are the stretches in which not all was well: possible from when it was last well to when it was well again, and certain in
// the longest part of that in which it was ill all the time.
func faults(place history.Place, reason v1alpha1.ViolationReason, glimpses []glimpse) []history.Fault {
	var all []history.Fault
	var now *history.Fault
	lastWell := glimpses[0].asked
	var illness history.Span
	for _, g := range glimpses {
		if g.sight == well {
			if now != nil {
				now.Possible.End = g.known
				all, now = append(all, *now), nil
			}
			lastWell = g.asked
			continue
		}
		if now == nil {
			now = &history.Fault{Place: place, Reason: reason, Span: history.Span{Start: lastWell, End: lastWell}, Possible: history.Span{Start: lastWell}}
			illness = history.Span{}
		}
		if g.sight == unsure {
			illness = history.Span{}
			continue
		}
		if illness.Start.IsZero() {
			illness.Start = g.asked
		}
		illness.End = g.asked
		now.Span = longer(now.Span, illness)
	}
	if now != nil {
		all = append(all, *now)
	}
	return all
}

func longer(a, b history.Span) history.Span {
	if b.End.Sub(b.Start) > a.End.Sub(a.Start) {
		return b
	}
	return a
}
