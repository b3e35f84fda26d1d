package ledger

import (
	"math"
	"slices"
	"time"

	"invariant.dev/operator/api/v1alpha1"
)

// line is one violation of a ticket.
type line struct {
	page  *page
	spec  *v1alpha1.Violation
	entry v1alpha1.ViolationStatus
	// seen: this cycle saw it violated.
	seen bool
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

// clear ends a violation without a check that found it satisfied, also one that had cleared and may be back.
func (l *line) clear(now time.Time, why v1alpha1.ResolutionReason) {
	if awaited(l.entry) {
		l.entry.Active = false
		l.entry.ClearedTime = v1alpha1.NewTime(now)
		l.entry.ClearedReason = why
	}
}

// awaited tells whether a violation has not cleared, or has and is Unknown now: it may be back, and nobody would see it.
func awaited(e v1alpha1.ViolationStatus) bool {
	return e.Active || (e.UnknownSinceTime != nil && e.ClearedReason == "")
}

// overtaken tells whether a later look of another monitor stands in the entry: what an older one saw is no longer news.
func (l *line) overtaken(c Cycle) bool {
	return slices.ContainsFunc(looksIn(&l.entry), c.overtakenBy)
}

func (l *line) violated(c Cycle) {
	if l.overtaken(c) {
		l.seen = true
		return
	}
	e := &l.entry
	cameBack := e.SatisfiedSinceTime != nil || (!e.Active && e.ClearedReason == "")
	if cameBack {
		e.Recurrences = plus(e.Recurrences, 1)
		e.RecurredTimes = remember(e.RecurredTimes, c.Now)
		l.page.recurred = append(l.page.recurred, l.key())
	}
	e.Active = true
	e.SatisfiedSinceTime, e.UnknownSinceTime, e.ClearedTime, e.ClearedReason = nil, nil, nil, ""
	l.see(c)
}

// see counts the violation once in a cycle, also when the cycle is decided again after a part of it was written, and after
// that another monitor has counted a later one.
func (l *line) see(c Cycle) {
	l.seen = true
	if later := l.entry.LastSeenTime.Go().Sub(c.Now); later >= 0 && later <= c.Overlap {
		return
	}
	l.entry.Occurrences = plus(l.entry.Occurrences, 1)
	l.entry.LastSeenTime = v1alpha1.NewTime(c.Now)
	l.page.seen = true
}

func (l *line) satisfied(c Cycle, resolveAfter time.Duration) {
	if l.overtaken(c) {
		return
	}
	e, now := &l.entry, c.Now
	if !e.Active {
		// A check says now what nobody had seen when it was cleared.
		e.ClearedReason, e.UnknownSinceTime = "", nil
		return
	}
	if e.UnknownSinceTime != nil && e.SatisfiedSinceTime != nil {
		// A clock that was set back is no time that was satisfied.
		e.SatisfiedSinceTime = v1alpha1.NewTime(e.SatisfiedSinceTime.Go().Add(max(0, now.Sub(e.UnknownSinceTime.Go()))))
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

func (l *line) unknown(c Cycle) {
	// Of a clock that ran ahead, nothing waits for its hour.
	if e := &l.entry; !l.overtaken(c) && (e.UnknownSinceTime == nil || e.UnknownSinceTime.Go().After(c.Now)) {
		e.UnknownSinceTime = v1alpha1.NewTime(c.Now)
	}
}

// stayedAway: what has cleared is not there any more, so that it is not back either.
func (l *line) stayedAway(c Cycle) {
	if !l.overtaken(c) {
		l.entry.UnknownSinceTime = nil
	}
}

// plus adds to a counter that stays at the most that the API server takes.
func plus(counter, n int32) int32 {
	if counter > math.MaxInt32-n {
		return math.MaxInt32
	}
	return counter + n
}
