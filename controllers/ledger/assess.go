package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// assessment is what one check of one invariant means.
type assessment struct {
	invariant Invariant
	book      *book
	now       time.Time
	memory    Memory
	// due is what counts and stands in no open ticket; inGrace is what does not count yet.
	due, inGrace []v1alpha1.Violation
}

// assess carries the verdicts of one invariant into the tickets that hold its violations, into its timers, and
// into what is new.
func assess(b *book, invariant Invariant, before Memory) *assessment {
	a := &assessment{invariant: invariant, book: b, now: b.cycle.Now, memory: before.clone()}
	a.memory.notAfter(a.now)
	a.pending()
	if invariant.Judgement.Fault != nil {
		a.nothingSeen()
	} else {
		a.storesSeen()
	}
	a.unobservable()
	return a
}

// pending goes on with the grace periods that a crash left in tickets alone, also of stores that this check does not list.
func (a *assessment) pending() {
	for _, key := range a.book.keys[a.invariant.Name] {
		if timer, pending := a.book.pending(key); pending {
			a.resume(key.StoreID, timer)
		}
	}
}

// nothingSeen holds every timer where it is.
func (a *assessment) nothingSeen() {
	if a.memory.UnknownSince.IsZero() {
		a.memory.UnknownSince = a.now
	}
	for storeID := range a.memory.Stores {
		a.timer(storeID, verdict.Verdict{StoreID: storeID, Truth: verdict.Unknown})
	}
	a.book.unseen(a.invariant.Name)
}

// storesSeen carries each verdict to where its violation stands, and what is absent as onAbsent says.
func (a *assessment) storesSeen() {
	seen := make(map[string]bool, len(a.invariant.Judgement.Verdicts))
	for _, v := range a.invariant.Judgement.Verdicts {
		seen[v.StoreID] = true
		a.store(v)
	}
	complete, absent := !a.invariant.Judgement.Incomplete, verdict.Satisfied
	if !complete {
		absent = verdict.Unknown
	}
	for storeID := range a.memory.Stores {
		if !seen[storeID] {
			a.timer(storeID, verdict.Verdict{StoreID: storeID, Truth: absent})
		}
	}
	a.memory.forgetLongAbsent(seen)
	a.book.absent(a.invariant.Name, seen, complete, a.invariant.OnAbsent, a.invariant.ResolveAfter)
	a.memory.UnknownSince = time.Time{}
}

// store carries one verdict to the ticket that counts the violation, or else to its timer.
func (a *assessment) store(v verdict.Verdict) {
	key := Key{a.invariant.Name, v.StoreID, v1alpha1.Violated}
	if a.book.counts(key) {
		a.book.apply(key, v.Truth, a.invariant.ResolveAfter)
		a.sinceWhen(v, key)
		return
	}
	if timer, left := a.book.leftViolated(key); left {
		a.resume(v.StoreID, timer)
		if v.Truth != verdict.Violated {
			a.book.apply(key, v.Truth, a.invariant.ResolveAfter)
		}
	}
	a.timer(v.StoreID, v)
}

// sinceWhen remembers of what counts in a ticket only since when it is Unknown: where nothing is known at all after it, both together may
// make the invariant Unobservable.
func (a *assessment) sinceWhen(v verdict.Verdict, key Key) {
	delete(a.memory.Stores, v.StoreID)
	if unknown := a.book.entry(key).UnknownSinceTime; v.Truth == verdict.Unknown && unknown != nil {
		a.memory.Stores[v.StoreID] = Timer{UnknownSince: unknown.Go()}
	}
}

// resume goes on with a grace period that a ticket knows of and memory does not, after a manual resolve or a crash, also where memory
// knows that nothing is known of the store.
func (a *assessment) resume(storeID string, known Timer) {
	remembered := a.memory.Stores[storeID]
	if !remembered.FirstSeen.IsZero() {
		return
	}
	known = known.notAfter(a.now)
	if unknown := cmp.Or(remembered.UnknownSince, a.memory.UnknownSince); known.UnknownSince.IsZero() && unknown.After(known.Since) {
		known.UnknownSince = unknown
	}
	a.memory.Stores[storeID] = known
}

// timer advances the timer of a violation that counts in no ticket, and says whether it counts now.
func (a *assessment) timer(storeID string, v verdict.Verdict) {
	before, timed := a.memory.Stores[storeID]
	key := Key{a.invariant.Name, storeID, v1alpha1.Violated}
	next, running := before.next(a.now, v.Truth, a.invariant.ResolveAfter, a.memory.UnknownSince)
	if !running || (!timed && v.Truth == verdict.Satisfied) {
		delete(a.memory.Stores, storeID)
		a.book.leave(key)
		return
	}
	a.memory.Stores[storeID] = next
	if v.Truth != verdict.Violated || a.invariant.Muted {
		return
	}
	inGrace := !next.isOver(a.invariant, a.now)
	switch held := a.book.holds(key); {
	case held && !inGrace:
		if a.book.count(key) {
			delete(a.memory.Stores, storeID)
		}
	case !held && inGrace:
		a.inGrace = append(a.inGrace, a.violation(key, v.Message, next.FirstSeen, true))
	case !held:
		a.due = append(a.due, a.violation(key, v.Message, next.FirstSeen, false))
	}
}

// unobservable judges the invariant's own observability: nothing, or one store, was known for too long. Only a look that knows of every
// store says that it is well again.
func (a *assessment) unobservable() {
	key := Key{a.invariant.Name, "", v1alpha1.Unobservable}
	since, stores := a.unknownStores()
	truth := verdict.Satisfied
	switch {
	case !since.IsZero() && a.now.Sub(since) >= a.invariant.UnobservableAfter:
		truth = verdict.Violated
	case a.invariant.Judgement.Fault != nil || len(stores) > 0:
		truth = verdict.Unknown
	}
	if a.book.holds(key) {
		a.book.apply(key, truth, 0)
		return
	}
	if _, left := a.book.leftViolated(key); left && truth != verdict.Violated {
		a.book.apply(key, truth, 0)
	}
	if truth == verdict.Violated && !a.invariant.Muted {
		a.due = append(a.due, a.violation(key, a.blindMessage(since, stores), since, false))
	}
}

// unknownStores are the stores whose verdict is Unknown and since when the first of them has been, or the
// whole observation.
func (a *assessment) unknownStores() (since time.Time, stores []string) {
	since = a.memory.UnknownSince
	candidates := slices.Collect(maps.Keys(a.memory.Stores))
	if a.invariant.Judgement.Fault == nil {
		stores = a.invariant.Judgement.Stores(verdict.Unknown)
		candidates = stores
	}
	for _, storeID := range candidates {
		unknown := a.memory.Stores[storeID].UnknownSince
		if entry := a.book.entry(Key{a.invariant.Name, storeID, v1alpha1.Violated}); entry != nil && unknown.IsZero() {
			unknown = entry.UnknownSinceTime.Go()
		}
		if !unknown.IsZero() && (since.IsZero() || unknown.Before(since)) {
			since = unknown
		}
	}
	return since, stores
}

// shownStores is how many stores a message names.
const shownStores = 5

func (a *assessment) blindMessage(since time.Time, stores []string) string {
	of := ""
	if a.invariant.Judgement.Fault == nil {
		of = " of " + StoreList(stores)
	}
	return fmt.Sprintf("nothing known%s since %s: %v", of, since.Format(time.RFC3339), a.invariant.Judgement.FirstFault())
}

// StoreList names the first five stores, and how many more there are.
func StoreList(stores []string) string {
	if i := slices.Index(stores, ""); i >= 0 {
		stores = slices.Clone(stores)
		stores[i] = "the whole"
	}
	return someOf(stores)
}

func (a *assessment) violation(key Key, message string, firstSeen time.Time, pending bool) v1alpha1.Violation {
	return v1alpha1.Violation{
		Invariant:     key.Invariant,
		StoreID:       key.StoreID,
		Reason:        key.Reason,
		Severity:      a.invariant.Severity,
		Message:       verdict.Truncate(message, MaxMessage),
		FirstSeenTime: *v1alpha1.NewTime(firstSeen),
		Pending:       pending,
		RunbookURL:    a.invariant.RunbookURL,
	}
}
