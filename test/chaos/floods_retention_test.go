package chaos

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/test/chaos/history"
)

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
	opened := p.breakMeanwhile()
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
		fmt.Sprintf("what broke meanwhile had its ticket after %s", opened.Round(100*time.Millisecond)),
	}, t.paid())...)
}

// breakMeanwhile breaks the store for as long as it takes to have a ticket, and tells how long that was.
func (p *past) breakMeanwhile() time.Duration {
	broke := time.Now()
	p.system.allTogether(true)
	p.system.stage.eventually("what breaks while tickets are removed has one of its own", patience, func() bool { return len(p.system.open()) > 0 })
	took := time.Since(broke)
	for _, ticket := range p.system.open() {
		p.stays[ticket.Name] = true
	}
	p.system.allTogether(false)
	return took
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
