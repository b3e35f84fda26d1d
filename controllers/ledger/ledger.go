// Package ledger decides what a cycle does to a system's tickets. It is the heart of the monitor and it is
// pure: it reads no clock and calls nothing, so that its rules can be tested in microseconds and replayed
// over any history.
package ledger

import (
	"cmp"
	"slices"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// Key is what makes two violations the same violation, within a namespace.
type Key struct {
	Invariant string
	StoreID   string
	Reason    v1alpha1.ViolationReason
}

// Invariant is what the ledger has to know of an Invariant.
type Invariant struct {
	Name              string
	Severity          v1alpha1.Severity
	GracePeriod       time.Duration
	ResolveAfter      time.Duration
	UnobservableAfter time.Duration
	OnAbsent          v1alpha1.OnAbsent
	Flapping          Flapping
	RunbookURL        string
	Labels            map[string]string
	// Muted: it opens and joins no ticket; those it has live on.
	Muted bool
	// Judgement is what this cycle's check said; nil where it was not checked in this cycle.
	Judgement *verdict.Judgement
}

// PolicyOf is what the ledger has to know of an Invariant at a moment, before it was checked. An annotation that
// mutes nothing because it is not a time counts as none; the caller reports it.
func PolicyOf(i *v1alpha1.Invariant, now time.Time) Invariant {
	labels := make(map[string]string, len(i.Spec.Labels))
	for key, value := range i.Spec.Labels {
		labels[key] = string(value)
	}
	until, err := i.MutedUntil()
	return Invariant{
		Name:              i.Name,
		Severity:          cmp.Or(i.Spec.Severity, v1alpha1.Warning),
		GracePeriod:       i.Spec.GracePeriod.Or(0),
		ResolveAfter:      i.Spec.ResolveAfter.Or(0),
		UnobservableAfter: i.Spec.UnobservableAfter.Or(v1alpha1.DefaultUnobservableAfter),
		OnAbsent:          i.Spec.OnAbsentOrDefault(),
		Flapping:          flappingOf(i.Spec.Flapping),
		RunbookURL:        i.Spec.RunbookURL,
		Labels:            labels,
		Muted:             err == nil && now.Before(until),
	}
}

// Cycle is one check of the due invariants of one system.
type Cycle struct {
	// Now is the cycle's time: its tick. The ledger uses it in whole seconds, as the API stores it.
	Now time.Time
	// Monitor is the process that writes.
	Monitor string
	// Invariants are all of the system, by name: an invariant that a ticket names and that is not among
	// them counts as deleted.
	Invariants map[string]Invariant
	// Uncounted are the cycles whose counters were not written, by the ticket's name.
	Uncounted map[string]Uncounted
	// Overlap is how much later than this cycle's another monitor may have looked that wrote before it. What was seen later still
	// was seen by a clock that ran ahead.
	Overlap time.Duration
	// Known is the latest look that this monitor knew of when this one began: its own, and those that the tickets told of. Where they tell of
	// a later one now, another monitor looked meanwhile; where they told of one in the future even then, a clock runs ahead.
	Known time.Time
}

// LatestLook is the time of the latest look that tickets tell of; zero where there is none.
func LatestLook(tickets []*v1alpha1.Ticket) (last time.Time) {
	for _, t := range tickets {
		if len(t.Status.Violations) == 0 {
			last = latest(last, t.Spec.OpenedTime.Go())
		}
		for i := range t.Status.Violations {
			for _, at := range looksIn(&t.Status.Violations[i]) {
				last = latest(last, at.Go())
			}
		}
	}
	return last
}

// looksIn are the times of the looks that an entry tells of; nil where it does not.
func looksIn(e *v1alpha1.ViolationStatus) []*v1alpha1.Time {
	return []*v1alpha1.Time{e.LastSeenTime, e.SatisfiedSinceTime, e.UnknownSinceTime, e.ClearedTime}
}

// overtakenBy tells whether a time in a ticket is that of another monitor's look, later than this one.
func (c Cycle) overtakenBy(t *v1alpha1.Time) bool {
	later := t.Go().Sub(c.Now)
	return t != nil && later > 0 && later <= c.Overlap && t.Go().After(c.Known)
}

// WithoutOvertaken leaves out what a later look of another monitor has found cleared, as its ticket among these says. It stays in memory.
func (c Cycle) WithoutOvertaken(batch []v1alpha1.Violation, tickets []*v1alpha1.Ticket) []v1alpha1.Violation {
	overtaken := map[Key]bool{}
	for _, t := range tickets {
		for _, e := range t.Status.Violations {
			if !e.Active && e.ClearedReason == "" && c.overtakenBy(e.ClearedTime) {
				overtaken[Key{e.Invariant, e.StoreID, e.Reason}] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(batch), func(v v1alpha1.Violation) bool { return overtaken[keyOf(v)] })
}

// Uncounted are cycles that saw all active violations of a ticket, and nothing else, and were not written.
type Uncounted struct {
	Cycles   int32
	LastSeen time.Time
}

// Plan is what a cycle has to write, in this order.
type Plan struct {
	// Open is what is new, worst first: the batch of one ticket, or of several where it is too large.
	Open []v1alpha1.Violation
	// Updates are the tickets whose status changes, oldest first.
	Updates []Update
	// Memory is what to remember of each invariant, and to write into its status.
	Memory map[string]Memory
}

// Update is a ticket's next status.
type Update struct {
	// Ticket is the ticket as it was given; it is not changed.
	Ticket *v1alpha1.Ticket
	// Status is what it becomes.
	Status v1alpha1.TicketStatus
	// CountersOnly tells that the counters of what lasts are all that changed, and all of it was seen.
	CountersOnly bool
	// Recurred are the violations that came back in this cycle after a check had found them satisfied.
	Recurred []Key
}

// Decide says what a cycle has to write. The tickets are all open ones of the system and those resolved ones that
// Unsettled picks; memory is what earlier cycles remember. Decide changes none of its arguments, and deciding
// again on the tickets as they are after a part of the plan was written gives the rest of the plan.
func Decide(c Cycle, memory map[string]Memory, tickets []*v1alpha1.Ticket) Plan {
	c.Now = c.Now.UTC().Truncate(time.Second)
	b := newBook(c, tickets)
	next := make(map[string]Memory, len(c.Invariants))
	var open, along []v1alpha1.Violation
	for _, name := range sortedKeys(c.Invariants) {
		invariant := c.Invariants[name]
		if invariant.Judgement == nil {
			next[name] = memory[name]
			continue
		}
		a := assess(b, invariant, memory[name])
		next[name] = a.memory
		open = append(open, a.due...)
		along = append(along, a.inGrace...)
	}
	b.clearDeleted()
	plan := Plan{Updates: b.updates(), Memory: next}
	if len(open) > 0 {
		plan.Open = append(open, along...)
		sortViolations(plan.Open)
	}
	return plan
}

// Opened takes the violations that now stand in a ticket out of memory. Those still in their grace period stay: it
// goes on there.
func (p *Plan) Opened(violations []v1alpha1.Violation) {
	for _, v := range violations {
		if memory, found := p.Memory[v.Invariant]; found && !v.Pending && v.Reason == v1alpha1.Violated {
			delete(memory.Stores, v.StoreID)
		}
	}
}

// Unwritten keeps in memory what an update counts and its ticket does not, because it could not be written: violations that came back, or
// whose grace period ended. If somebody resolves the ticket as it is, nothing else knows since when they have been there. before is the
// memory that the cycle began with.
func (p *Plan) Unwritten(u Update, before map[string]Memory, now time.Time) {
	counts := func(e v1alpha1.ViolationStatus) bool { return e.Active && !e.Pending }
	updated := entriesOf(&v1alpha1.Ticket{Spec: u.Ticket.Spec, Status: u.Status})
	for i, e := range entriesOf(u.Ticket) {
		memory, found := p.Memory[e.Invariant]
		if !found || e.Reason != v1alpha1.Violated || counts(e) || !counts(updated[i]) {
			continue
		}
		timer := before[e.Invariant].Stores[e.StoreID]
		if timer.FirstSeen.IsZero() && e.Active {
			// It is pending there, which only the ticket may know.
			timer = timerOf(u.Ticket.Spec.Violations[i], e)
		}
		memory.Stores[e.StoreID], _ = timer.next(now.UTC().Truncate(time.Second), verdict.Violated, 0, time.Time{})
	}
}

// Unsettled tells whether a resolved ticket still matters to the ledger: it was resolved while one of its violations
// was active, and no check since has found that violation satisfied.
func Unsettled(t *v1alpha1.Ticket) bool {
	if t.IsOpen() {
		return false
	}
	return slices.ContainsFunc(entriesOf(t), func(e v1alpha1.ViolationStatus) bool { return e.Active && !e.Pending })
}

// Active are the violations of a ticket that have not cleared.
func Active(t *v1alpha1.Ticket) []v1alpha1.ViolationStatus {
	return slices.DeleteFunc(entriesOf(t), func(e v1alpha1.ViolationStatus) bool { return !e.Active })
}

// Awaited are the Invariants whose checks a ticket waits for: of its violations that have not cleared, or that are Unknown since. Where
// one is deleted, they end.
func Awaited(t *v1alpha1.Ticket) []string {
	var names []string
	for _, e := range entriesOf(t) {
		if awaited(e) {
			names = append(names, e.Invariant)
		}
	}
	return names
}
