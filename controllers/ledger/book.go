package ledger

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"

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

func newBook(c Cycle, tickets []*v1alpha1.Ticket) *book {
	b := &book{cycle: c, held: map[Key]*line{}, left: map[Key]*line{}, keys: map[string][]Key{}}
	byAge := slices.SortedFunc(slices.Values(tickets), compareAge)
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

// compareAge orders tickets by number; those made by hand under another name come last.
func compareAge(a, b *v1alpha1.Ticket) int {
	return cmp.Or(compareBools(a.Number() == 0, b.Number() == 0), cmp.Compare(a.Number(), b.Number()), cmp.Compare(a.Name, b.Name))
}

// takeOwnership gives each key to the oldest open ticket that has it; in the younger ones it counts as cleared.
func (b *book) takeOwnership() {
	for _, p := range b.tickets {
		if !p.ticket.IsOpen() {
			continue
		}
		for i, l := range p.lines {
			if holder, taken := b.held[l.key()]; taken {
				if holder.page == p {
					// Somebody has written it twice into one ticket: it is one violation.
					p.lines[i] = holder
					continue
				}
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
		for i, l := range p.lines {
			if !l.entry.Active || l.entry.Pending {
				continue
			}
			key := l.key()
			if twice := b.left[key]; twice != nil && twice.page == p {
				p.lines[i] = twice
				continue
			}
			if b.held[key] != nil || b.left[key] != nil {
				l.clear(b.cycle.Now, v1alpha1.Duplicate)
				continue
			}
			b.left[key] = l
			b.keys[key.Invariant] = append(b.keys[key.Invariant], key)
		}
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

// leftViolated tells whether a resolved ticket left the key active, and its timer as the ticket knows it.
func (b *book) leftViolated(key Key) (Timer, bool) {
	if l := b.left[key]; l != nil {
		return timerOf(*l.spec, l.entry), true
	}
	return Timer{}, false
}

// pending tells whether an open ticket took the key along and it is still in its grace period there, and its timer as the ticket knows
// it.
func (b *book) pending(key Key) (Timer, bool) {
	if l := b.held[key]; l != nil && l.entry.Pending && l.entry.Active && key.Reason == v1alpha1.Violated {
		return timerOf(*l.spec, l.entry), true
	}
	return Timer{}, false
}

// absent carries what an observation no longer lists into the entries that count it. One that is not complete may have it all the same.
func (b *book) absent(invariant string, seen map[string]bool, complete bool, onAbsent v1alpha1.OnAbsent, resolveAfter time.Duration) {
	for _, key := range b.keys[invariant] {
		l := b.find(key)
		switch {
		case key.Reason != v1alpha1.Violated || seen[key.StoreID] || l.entry.Pending:
		case complete && onAbsent == v1alpha1.OnAbsentClear:
			l.satisfied(b.cycle, resolveAfter)
		case l.entry.Active:
			l.unknown(b.cycle)
		case complete:
			l.stayedAway(b.cycle)
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

// unseen makes all that counts of an invariant Unknown.
func (b *book) unseen(invariant string) {
	for _, key := range b.keys[invariant] {
		if l := b.find(key); key.Reason == v1alpha1.Violated && !l.entry.Pending {
			l.unknown(b.cycle)
		}
	}
}

// count makes a violation that was taken along in its grace period count, unless a later look of another monitor stands in its entry.
func (b *book) count(key Key) bool {
	l := b.held[key]
	if l.overtaken(b.cycle) {
		return false
	}
	l.entry.Pending = false
	l.entry.Active = true
	l.entry.ClearedTime, l.entry.ClearedReason = nil, ""
	l.see(b.cycle)
	return true
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
		l.satisfied(b.cycle, resolveAfter)
	default:
		l.unknown(b.cycle)
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

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
