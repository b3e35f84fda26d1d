package ledger

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// book is the tickets of a system while a cycle writes into them: who holds which key, and what each entry becomes.
type book struct {
	cycle   Cycle
	tickets []*page
	// held are the entries of open tickets, by key; the oldest ticket with a key holds it.
	held map[Key]*line
	// left are the violations that resolved tickets left active and that no open ticket holds.
	left map[Key]*line
	// keys are those of held and left, by invariant.
	keys map[string][]Key
}

// page is one ticket.
type page struct {
	ticket   *v1alpha1.Ticket
	lines    []*line
	recurred []Key
	// uncounted are cycles that saw its violations and were not written.
	uncounted Uncounted
	// seen: one of its violations that count was seen in this cycle, and had not been counted yet.
	seen bool
}

// line is one violation of a ticket.
type line struct {
	page  *page
	spec  *v1alpha1.Violation
	entry v1alpha1.ViolationStatus
	// seen: this cycle saw it violated.
	seen bool
}

func newBook(c Cycle, tickets []*v1alpha1.Ticket) *book {
	b := &book{cycle: c, held: map[Key]*line{}, left: map[Key]*line{}, keys: map[string][]Key{}}
	byAge := slices.SortedStableFunc(slices.Values(tickets), func(a, b *v1alpha1.Ticket) int { return a.Number() - b.Number() })
	for _, ticket := range byAge {
		p := &page{ticket: ticket, uncounted: c.Uncounted[ticket.Name]}
		for i, entry := range entriesOf(ticket) {
			p.lines = append(p.lines, &line{page: p, spec: &ticket.Spec.Violations[i], entry: entry})
		}
		p.addUncounted()
		b.tickets = append(b.tickets, p)
	}
	b.takeOwnership()
	b.findLeft()
	return b
}

// addUncounted catches up on the cycles whose counters were not written.
func (p *page) addUncounted() {
	if p.uncounted.Cycles == 0 {
		return
	}
	for _, l := range p.lines {
		if l.entry.Active && !l.entry.Pending {
			l.entry.Occurrences += p.uncounted.Cycles
			l.entry.LastSeenTime = v1alpha1.NewTime(p.uncounted.LastSeen)
		}
	}
}

// takeOwnership gives each key to the oldest open ticket that has it; in the younger ones it counts as cleared.
func (b *book) takeOwnership() {
	for _, p := range b.tickets {
		if !p.ticket.IsOpen() {
			continue
		}
		for _, l := range p.lines {
			if _, taken := b.held[l.key()]; taken {
				l.clear(b.cycle.Now, v1alpha1.Duplicate)
				continue
			}
			b.held[l.key()] = l
			b.keys[l.spec.Invariant] = append(b.keys[l.spec.Invariant], l.key())
		}
	}
}

// findLeft finds what resolved tickets left active: the newest resolved ticket with a key speaks for it, unless an
// open ticket holds it.
func (b *book) findLeft() {
	for _, p := range slices.Backward(b.tickets) {
		if p.ticket.IsOpen() {
			continue
		}
		for _, l := range p.lines {
			if !l.entry.Active || l.entry.Pending {
				continue
			}
			key := l.key()
			if b.held[key] != nil || b.left[key] != nil {
				l.clear(b.cycle.Now, v1alpha1.Duplicate)
				continue
			}
			b.left[key] = l
			b.keys[key.Invariant] = append(b.keys[key.Invariant], key)
		}
	}
}

// entriesOf are the ticket's entries in the order of its spec. An entry that is missing, because a crash came between
// the two writes that open a ticket, is that of a violation seen once.
func entriesOf(t *v1alpha1.Ticket) []v1alpha1.ViolationStatus {
	written := make(map[Key]v1alpha1.ViolationStatus, len(t.Status.Violations))
	for _, e := range t.Status.Violations {
		written[Key{e.Invariant, e.StoreID, e.Reason}] = e
	}
	entries := make([]v1alpha1.ViolationStatus, len(t.Spec.Violations))
	for i, v := range t.Spec.Violations {
		entry, found := written[keyOf(v)]
		if !found {
			entry = firstEntry(v, t.Spec.OpenedTime.Go())
		}
		entries[i] = *entry.DeepCopy()
	}
	return entries
}

func firstEntry(v v1alpha1.Violation, opened time.Time) v1alpha1.ViolationStatus {
	entry := v1alpha1.ViolationStatus{Invariant: v.Invariant, StoreID: v.StoreID, Reason: v.Reason, Active: true, Pending: v.Pending}
	if !v.Pending {
		entry.Occurrences = 1
		entry.LastSeenTime = v1alpha1.NewTime(opened)
	}
	return entry
}

func keyOf(v v1alpha1.Violation) Key { return Key{v.Invariant, v.StoreID, v.Reason} }

func (l *line) key() Key { return keyOf(*l.spec) }

// clear ends a violation without a check that found it satisfied.
func (l *line) clear(now time.Time, why v1alpha1.ResolutionReason) {
	if l.entry.Active {
		l.entry.Active = false
		l.entry.ClearedTime = v1alpha1.NewTime(now)
		l.entry.ClearedReason = why
	}
}

// holds tells whether an open ticket holds the key, be it pending in it or counting.
func (b *book) holds(key Key) bool { return b.held[key] != nil }

// counts tells whether an open ticket holds the key and it counts there.
func (b *book) counts(key Key) bool { return b.holds(key) && !b.held[key].entry.Pending }

// entry is what an open ticket says of the key, or nil.
func (b *book) entry(key Key) *v1alpha1.ViolationStatus {
	if l := b.held[key]; l != nil {
		return &l.entry
	}
	return nil
}

// leftViolated tells whether a resolved ticket left the key active, and when it was first seen.
func (b *book) leftViolated(key Key) (time.Time, bool) {
	if l := b.left[key]; l != nil {
		return l.spec.FirstSeenTime.Go(), true
	}
	return time.Time{}, false
}

// pendingSince tells whether an open ticket took the key along and it is still in its grace period there, and
// when it was first seen.
func (b *book) pendingSince(key Key) (time.Time, bool) {
	if l := b.held[key]; l != nil && l.entry.Pending && l.entry.Active {
		return l.spec.FirstSeenTime.Go(), true
	}
	return time.Time{}, false
}

// absent carries what an observation no longer lists into the entries that count it.
func (b *book) absent(invariant string, seen map[string]bool, onAbsent v1alpha1.OnAbsent, resolveAfter time.Duration) {
	for _, key := range b.keys[invariant] {
		l := b.find(key)
		switch {
		case key.Reason != v1alpha1.Violated || seen[key.StoreID] || l.entry.Pending:
		case onAbsent == v1alpha1.OnAbsentClear:
			l.satisfied(b.cycle.Now, resolveAfter)
		case l.entry.Active:
			l.unknown(b.cycle.Now)
		}
	}
}

// find is the entry that speaks for a key: an open ticket's, or else what a resolved one left.
func (b *book) find(key Key) *line {
	if l := b.held[key]; l != nil {
		return l
	}
	return b.left[key]
}

// unseen makes all that an invariant has in open tickets Unknown.
func (b *book) unseen(invariant string) {
	for _, key := range b.keys[invariant] {
		if key.Reason == v1alpha1.Violated && b.counts(key) {
			b.apply(key, verdict.Unknown, 0)
		}
	}
}

// count makes a violation that was taken along in its grace period count.
func (b *book) count(key Key) {
	l := b.held[key]
	l.entry.Pending = false
	l.entry.Active = true
	l.entry.ClearedTime = nil
	l.see(b.cycle)
}

// leave ends a violation that was taken along in its grace period and cleared before it counted.
func (b *book) leave(key Key) {
	if l := b.held[key]; l != nil && l.entry.Pending && l.entry.Active {
		l.entry.Active = false
		l.entry.ClearedTime = v1alpha1.NewTime(b.cycle.Now)
	}
}

// apply carries a verdict into the entry that speaks for the key; there must be one.
func (b *book) apply(key Key, truth verdict.Truth, resolveAfter time.Duration) {
	l := b.find(key)
	switch truth {
	case verdict.Violated:
		l.violated(b.cycle)
	case verdict.Satisfied:
		l.satisfied(b.cycle.Now, resolveAfter)
	default:
		l.unknown(b.cycle.Now)
	}
}

func (l *line) violated(c Cycle) {
	e := &l.entry
	cameBack := e.SatisfiedSinceTime != nil || (!e.Active && e.ClearedReason == "")
	if cameBack {
		e.Recurrences++
		l.page.recurred = append(l.page.recurred, l.key())
	}
	e.Active = true
	e.SatisfiedSinceTime, e.UnknownSinceTime, e.ClearedTime, e.ClearedReason = nil, nil, nil, ""
	l.see(c)
}

// see counts the violation once in a cycle, also when the cycle is decided again after a part of it was written.
func (l *line) see(c Cycle) {
	l.seen = true
	if l.entry.LastSeenTime.Go().Equal(c.Now) {
		return
	}
	l.entry.Occurrences++
	l.entry.LastSeenTime = v1alpha1.NewTime(c.Now)
	l.page.seen = true
}

func (l *line) satisfied(now time.Time, resolveAfter time.Duration) {
	e := &l.entry
	if !e.Active {
		// A check says now what nobody had seen when it was cleared.
		e.ClearedReason, e.UnknownSinceTime = "", nil
		return
	}
	if e.UnknownSinceTime != nil && e.SatisfiedSinceTime != nil {
		e.SatisfiedSinceTime = v1alpha1.NewTime(e.SatisfiedSinceTime.Go().Add(now.Sub(e.UnknownSinceTime.Go())))
	}
	e.UnknownSinceTime = nil
	if e.SatisfiedSinceTime == nil || e.SatisfiedSinceTime.Go().After(now) {
		e.SatisfiedSinceTime = v1alpha1.NewTime(now)
	}
	if now.Sub(e.SatisfiedSinceTime.Go()) >= resolveAfter {
		e.Active = false
		e.ClearedTime = v1alpha1.NewTime(now)
	}
}

func (l *line) unknown(now time.Time) {
	if l.entry.UnknownSinceTime == nil {
		l.entry.UnknownSinceTime = v1alpha1.NewTime(now)
	}
}

// clearDeleted clears what is about invariants that no longer exist.
func (b *book) clearDeleted() {
	for _, p := range b.tickets {
		for _, l := range p.lines {
			if _, exists := b.cycle.Invariants[l.spec.Invariant]; !exists {
				l.clear(b.cycle.Now, v1alpha1.InvariantDeleted)
			}
		}
	}
}

// updates are the tickets that this cycle changed.
func (b *book) updates() []Update {
	var updates []Update
	for _, p := range b.tickets {
		status := p.status(b.cycle)
		if equality.Semantic.DeepEqual(status, p.ticket.Status) {
			continue
		}
		updates = append(updates, Update{
			Ticket:       p.ticket,
			Status:       status,
			CountersOnly: p.countersOnly(status),
			Recurred:     p.recurred,
		})
	}
	return updates
}

// status is what the ticket's status becomes.
func (p *page) status(c Cycle) v1alpha1.TicketStatus {
	s := *p.ticket.Status.DeepCopy()
	s.Violations = make([]v1alpha1.ViolationStatus, len(p.lines))
	for i, l := range p.lines {
		s.Violations[i] = l.entry
	}
	if !p.ticket.IsOpen() {
		return s
	}
	s.Monitor = c.Monitor
	if p.uncounted.Cycles > 0 {
		s.Occurrences += p.uncounted.Cycles
		s.LastSeenTime = v1alpha1.NewTime(p.uncounted.LastSeen)
	}
	if p.seen {
		s.Occurrences++
		s.LastSeenTime = v1alpha1.NewTime(c.Now)
	}
	p.summarize(&s)
	setHeld(p.ticket, &s, c.Now)
	if reason, over := p.over(); over && !p.ticket.Held() {
		s.State = v1alpha1.Resolved
		s.Resolution = &v1alpha1.Resolution{By: MonitorName, Time: v1alpha1.NewTime(c.Now), Reason: reason}
	}
	return s
}

// MonitorName is who resolves a ticket when nobody else does.
const MonitorName = "monitor"

// summarize writes what follows from the violations that count.
func (p *page) summarize(s *v1alpha1.TicketStatus) {
	var counting []v1alpha1.Violation
	for _, l := range p.lines {
		if l.entry.Pending {
			continue
		}
		counting = append(counting, *l.spec)
		if s.Severity == "" || l.spec.Severity.Rank() < s.Severity.Rank() {
			s.Severity = l.spec.Severity
		}
		if first := l.spec.FirstSeenTime.Go(); s.FirstSeenTime == nil || first.Before(s.FirstSeenTime.Go()) {
			s.FirstSeenTime = v1alpha1.NewTime(first)
		}
		if s.LastSeenTime == nil {
			s.LastSeenTime = v1alpha1.NewTime(p.ticket.Spec.OpenedTime.Go())
			s.Occurrences = max(s.Occurrences, 1)
		}
	}
	s.Summary = Summary(counting)
}

// over tells whether nothing that counts is active any more, and why. What has cleared and is Unknown now keeps
// the ticket open: it may be back, and nobody would see it.
func (p *page) over() (v1alpha1.ResolutionReason, bool) {
	reasons := map[v1alpha1.ResolutionReason]int{}
	counting := 0
	for _, l := range p.lines {
		if l.entry.Pending {
			continue
		}
		if l.entry.Active || (l.entry.UnknownSinceTime != nil && l.entry.ClearedReason == "") {
			return "", false
		}
		counting++
		reasons[l.entry.ClearedReason]++
	}
	switch {
	case reasons[v1alpha1.Duplicate] > 0 && p.ticket.HasWords():
		return "", false
	case reasons[v1alpha1.Duplicate] == counting:
		return v1alpha1.Duplicate, true
	case reasons[v1alpha1.InvariantDeleted] > 0:
		return v1alpha1.InvariantDeleted, true
	default:
		return v1alpha1.Cleared, true
	}
}

// setHeld keeps the condition Held true to the annotation.
func setHeld(t *v1alpha1.Ticket, s *v1alpha1.TicketStatus, now time.Time) {
	c := metav1.Condition{Type: v1alpha1.ConditionHeld, LastTransitionTime: metav1.NewTime(now)}
	switch {
	case t.Held():
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, "Annotated", "kept open by the annotation "+v1alpha1.HoldAnnotation
	case v1alpha1.FindCondition(s.Conditions, v1alpha1.ConditionHeld) != nil:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, "NotAnnotated", "resolves when all has cleared"
	default:
		return
	}
	v1alpha1.SetCondition(&s.Conditions, c)
}

// countersOnly tells whether the status differs in nothing but the counters of violations that all were seen.
func (p *page) countersOnly(status v1alpha1.TicketStatus) bool {
	for _, l := range p.lines {
		if l.entry.Active && !l.entry.Pending && !l.seen {
			return false
		}
	}
	return equality.Semantic.DeepEqual(withoutCounters(status), withoutCounters(p.ticket.Status))
}

func withoutCounters(s v1alpha1.TicketStatus) v1alpha1.TicketStatus {
	s.Occurrences, s.LastSeenTime = 0, nil
	s.Violations = slices.Clone(s.Violations)
	for i := range s.Violations {
		s.Violations[i].Occurrences, s.Violations[i].LastSeenTime = 0, nil
	}
	return s
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
