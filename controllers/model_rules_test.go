package controllers

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/ledger"
	"invariant.dev/operator/controllers/observe"
)

// record is what the properties have to know of an execution so far, beside what is stored.
type record struct {
	// looks has a bit for each tick and monitor whose look saw the store violated.
	looks map[string]uint64
	// since is when a store was first seen violated, as it was stored first and no look has found it satisfied after that.
	since map[string]time.Time
	// taken are the names that tickets have had.
	taken map[string]bool
	// deleted: a person deleted a ticket; freed: a process created one while it was freed.
	deleted, freed bool
}

func newRecord() record {
	return record{looks: map[string]uint64{}, since: map[string]time.Time{}, taken: map[string]bool{}}
}

func (r *record) hash() uint64 {
	sum := mix(0, [2]bool{r.deleted, r.freed})
	for store, ticks := range r.looks {
		sum += mix(ticks, store)
	}
	for store, at := range r.since {
		sum += mix(uint64(at.Unix()), store) //nolint:gosec // after 1970
	}
	for name := range r.taken {
		sum += mix(1, name)
	}
	return sum
}

// look notes what a look saw.
func (w *world) look(p *process) {
	looked := w.clock.Now()
	if p.looking() {
		looked = p.looked
	}
	bit := int(looked.Sub(w.began)/DefaultInterval)*w.monitors + slices.Index(w.slots, p)
	for i, said := range p.sees {
		store := fmt.Sprint(i + 1)
		switch said {
		case 'v':
			w.record.looks[store] |= 1 << bit
		case 's':
			delete(w.record.since, store)
		}
	}
}

// seen notes since when a store is stored to have been violated.
func (r *record) seen(store string, since time.Time) {
	if known, found := r.since[store]; !found || since.Before(known) {
		r.since[store] = since
	}
}

// written checks one write: the writer is nil where a person writes.
func (w *world) written(p *process, before, after client.Object) {
	if after, is := after.(*v1alpha1.Invariant); is {
		w.invariantWritten(p, after)
		return
	}
	was, _ := before.(*v1alpha1.Ticket)
	is, _ := after.(*v1alpha1.Ticket)
	switch {
	case is == nil && was != nil:
		w.ticketDeleted(was)
	case is == nil:
		// The Invariant is deleted, and all that was known of it.
		clear(w.record.since)
	case was == nil:
		w.ticketCreated(p, is)
	default:
		w.ticketWritten(p, was, is)
	}
}

func (w *world) invariantWritten(p *process, is *v1alpha1.Invariant) {
	if p == nil {
		return
	}
	for _, group := range is.Status.Pending {
		for _, store := range group.StoreIDs {
			if first := group.FirstSeenTime.Go(); !first.IsZero() {
				w.record.seen(store, first)
			}
		}
	}
	w.mustBeFresh(p, "the status of the Invariant")
}

// mustBeFresh: what was observed too long ago is not written. The monitor cannot know how long the API server takes to hear it.
func (w *world) mustBeFresh(p *process, what string) {
	cached, exists := p.cache[invariantKind][objectKey{invariantKind, modelInvariant}]
	if !exists || cached.object.(*v1alpha1.Invariant).Spec.Suspend {
		// It dropped its look, and what it writes is of no look at all.
		return
	}
	if age := p.resumed.Sub(p.looked); age > DefaultInterval+observe.TimeoutOf(&modelSpec) {
		w.fail("%s writes %s, of what it saw %s ago", p.name, what, age)
	}
}

// ticketDeleted: what a ticket knew that somebody deletes lives on in the process that had it open, and in no other.
func (w *world) ticketDeleted(was *v1alpha1.Ticket) {
	w.record.deleted = true
	for _, p := range w.slots {
		p.freed = p.freed || compareNames(was.Name, p.newest) >= 0
	}
	if known := w.slots[0].monitor.systemOf(modelSystem).open[was.Name]; known == nil || w.deletedBetween() {
		clear(w.record.since)
	}
}

func (w *world) ticketCreated(p *process, is *v1alpha1.Ticket) {
	if w.record.taken[is.Name] && !w.record.deleted {
		w.fail("the number of %s is used again by %s", is.Name, p.name)
	}
	if p.gone {
		w.fail("%s creates %s, and was told since it listed the numbers that the newest ticket is gone", p.name, is.Name)
	}
	w.record.taken[is.Name] = true
	w.record.freed = w.record.freed || p.freed
	w.mustBeFresh(p, is.Name)
	for _, v := range is.Spec.Violations {
		first := v.FirstSeenTime.Go()
		if since, known := w.record.since[v.StoreID]; known && first.After(since) && !w.deletedBetween() {
			w.fail("%s says that store %s was first seen violated at %s, but it is known since %s", is.Name, v.StoreID, first.Format(time.TimeOnly), since.Format(time.TimeOnly))
		}
		if at := w.clearedAt(v.StoreID); at.After(p.looked) {
			w.fail("%s is opened by what %s saw at %s of store %s, which was found cleared at %s", is.Name, p.name,
				p.looked.Format(time.TimeOnly), v.StoreID, at.Format(time.TimeOnly))
		}
		w.record.seen(v.StoreID, first)
		if age := p.looked.Sub(first); !v.Pending && age < w.grace {
			w.fail("%s opens %s after its violation was first seen, within the grace period", is.Name, age)
		} else if w.grace > 0 {
			w.reached["opened after a grace period"]++
		}
	}
}

func (w *world) ticketWritten(p *process, was, is *v1alpha1.Ticket) {
	before, after := was.Status, is.Status
	if after.Occurrences < before.Occurrences {
		w.fail("%s counts backwards, from %d to %d", is.Name, before.Occurrences, after.Occurrences)
	}
	if p == nil {
		return
	}
	if before.LastSeenTime != nil {
		// The first status of a ticket may come late: it says nothing that the ticket does not.
		w.mustBeFresh(p, "the status of "+is.Name)
	}
	if p.superseded && was.IsOpen() {
		w.fail("%s was superseded, and its write to %s that was under way counts", p.name, is.Name)
	}
	w.counted(is)
	for _, e := range ledger.Active(was) {
		w.cleared(p, is, e)
	}
	if before.State != v1alpha1.Resolved && after.State == v1alpha1.Resolved {
		w.resolved(p, was, is)
	}
}

// counted: no ticket counts more cycles than looks saw one of its violations since it was opened.
func (w *world) counted(is *v1alpha1.Ticket) {
	var looks uint64
	for _, v := range is.Spec.Violations {
		looks |= w.record.looks[v.StoreID]
	}
	before := int(is.Spec.OpenedTime.Sub(w.began)/DefaultInterval) * w.monitors
	if most := bits.OnesCount64(looks >> before); int(is.Status.Occurrences) > most {
		w.fail("%s counts %d cycles, of %d that saw it", is.Name, is.Status.Occurrences, most)
	}
}

// cleared: a violation that was active is so no more only if the writer saw it satisfied, or had another good reason.
func (w *world) cleared(p *process, is *v1alpha1.Ticket, was v1alpha1.ViolationStatus) {
	for _, e := range is.Status.Violations {
		if e.StoreID != was.StoreID || e.Active {
			continue
		}
		switch e.ClearedReason {
		case "":
			// Where two monitors look at the same time, the other one's look may have been the later.
			delete(w.record.since, e.StoreID)
			if was.LastSeenTime.Go().After(p.looked) {
				w.fail("store %s of %s is cleared by what %s saw at %s, and was seen violated at %s", e.StoreID, is.Name, p.name,
					p.looked.Format(time.TimeOnly), was.LastSeenTime.Format(time.TimeOnly))
			}
			if p.saw(e.StoreID) != 's' {
				w.fail("store %s of %s is cleared, but %s saw %q", e.StoreID, is.Name, p.name, p.sees)
			}
		case v1alpha1.InvariantDeleted:
			if !p.missed {
				w.fail("%s says that its Invariant was deleted, but %s was not told so", is.Name, p.name)
			}
		}
	}
}

// saw is what the process's present look says of a store.
func (p *process) saw(store string) byte { return p.sees[store[0]-'1'] }

// resolved: the monitor resolves nothing that is held, nothing that is still violated, and no person's words as a duplicate.
func (w *world) resolved(p *process, was, is *v1alpha1.Ticket) {
	reason := is.Status.Resolution.Reason
	w.reached["resolved as "+string(reason)]++
	if was.Held() {
		w.fail("%s is resolved as %s by %s under a hold", is.Name, reason, p.name)
	}
	for _, e := range is.Status.Violations {
		if reason == v1alpha1.Cleared && !e.Pending && e.ClearedReason == "" && p.saw(e.StoreID) != 's' {
			w.fail("%s is resolved as Cleared by %s, which saw %q", is.Name, p.name, p.sees)
		}
	}
	if reason == v1alpha1.Duplicate && was.HasWords() {
		w.fail("%s is resolved as Duplicate in spite of a person's words", is.Name)
	}
}

// deletedBetween tells whether a ticket was deleted under the hands of two monitors, of which one may not know what it knew.
func (w *world) deletedBetween() bool { return w.record.deleted && w.monitors > 1 }

// holders are the open tickets in which a store's violation has not cleared.
func holders(tickets []*v1alpha1.Ticket, store string, pendingToo bool) (names []string) {
	for _, ticket := range tickets {
		for _, e := range ledger.Active(ticket) {
			if ticket.IsOpen() && e.StoreID == store && (pendingToo || !e.Pending) {
				names = append(names, ticket.Name)
			}
		}
	}
	return names
}

// clearedAt is when a check last found a store's violation satisfied, as the tickets say; zero where none did.
func (w *world) clearedAt(store string) (at time.Time) {
	for _, ticket := range w.server.tickets() {
		for _, e := range ticket.Status.Violations {
			if e.StoreID == store && !e.Active && e.ClearedReason == "" {
				at = later(at, e.ClearedTime.Go())
			}
		}
	}
	return at
}

// everywhere is what must be true in every state: one open ticket at most for a violation.
func (w *world) everywhere() {
	for _, store := range w.stores() {
		if held := holders(w.server.tickets(), store, true); len(held) > 1 {
			w.reached["two open tickets hold one violation"]++
			// Who listed the numbers before takes a higher one than who does so after: see TestModel.
			if !w.record.freed || w.monitors == 1 {
				w.fail("%v hold store %s at the same time", held, store)
			}
		}
	}
}

// atTheEnd is what must be true after one more undisturbed cycle, by each process that is left and by new ones.
func (w *world) atTheEnd() {
	w.closing = true
	now, left := w.clock.Now().Add(DefaultInterval), w.server
	undisturbed := func(p *process, sees rune, at time.Time) {
		w.clock.SetTime(at)
		p.sees = strings.Repeat(string(sees), w.width)
		for p.looked.Before(at) || !p.ran {
			p.step()
		}
	}
	for _, p := range w.slots {
		w.server = left.clone()
		undisturbed(p, 'v', now)
		w.nothingIsLost(p.name, now)
		undisturbed(p, 's', now.Add(DefaultInterval))
		w.nothingStays(p.name)
	}
	w.server = left.clone()
	p := newProcess(w, "a new process")
	undisturbed(p, 'v', now)
	w.nothingIsLost(p.name, now)
	p.kill()
	w.server = left.clone()
	p = newProcess(w, "a new process")
	undisturbed(p, 's', now)
	w.nothingStays(p.name)
	p.kill()
	w.server, w.closing = left, false
}

// checked tells whether the Invariant exists and is not suspended.
func (w *world) checked() (exists, suspended bool) {
	o, exists := w.server.objects[objectKey{invariantKind, modelInvariant}]
	return exists, exists && o.object.(*v1alpha1.Invariant).Spec.Suspend
}

// nothingIsLost: where all is violated and has been for a grace period, one open ticket holds each violation.
func (w *world) nothingIsLost(who string, now time.Time) {
	exists, suspended := w.checked()
	if !exists {
		w.nothingStays(who)
		return
	}
	for _, store := range w.stores() {
		since, known := w.record.since[store]
		due := w.grace == 0 || known && now.Sub(since) >= w.grace
		held := holders(w.server.tickets(), store, false)
		if due && !suspended && len(held) != 1 {
			w.fail("after a cycle of %s that saw all violated, %v hold store %s", who, held, store)
		}
	}
}

// nothingStays: where all is satisfied, no ticket stays open but those that are held, and duplicates with a person's words,
// which the next cycle resolves.
func (w *world) nothingStays(who string) {
	if _, suspended := w.checked(); suspended {
		return
	}
	for _, ticket := range w.server.tickets() {
		if ticket.IsOpen() && !ticket.Held() && (!w.record.deleted || !ticket.HasWords()) {
			w.fail("after a cycle of %s that saw all satisfied, %s stays open", who, ticket.Name)
		}
	}
}
