// Package history keeps what happened while a monitor was disturbed, and tells whether the rules held. Every version of every
// ticket comes from etcd, past the monitor and past the API server; what was wrong with the observed systems, what people did
// and when a monitor was able to check is noted by whoever caused it.
package history

import (
	"maps"
	"slices"
	"sync"
	"time"

	"invariant.dev/operator/api/v1alpha1"
)

// Version is a ticket as one write left it.
type Version struct {
	// Revision is etcd's: it orders all versions of all tickets.
	Revision int64
	// At is when the write was noticed, some milliseconds after it.
	At        time.Time
	Namespace string
	Name      string
	// Ticket is nil where the write was its deletion.
	Ticket *v1alpha1.Ticket
}

// Span is a stretch of time.
type Span struct {
	Start time.Time
	// End is zero while it lasts.
	End time.Time
}

// until is its end, or another where it lasts.
func (s Span) until(now time.Time) time.Time {
	if s.End.IsZero() {
		return now
	}
	return s.End
}

// Place is what a verdict is about: a store, as one Invariant sees it. StoreID is empty for the Invariant's source.
type Place struct{ Namespace, Invariant, StoreID string }

// Fault is a store that was not as its Invariant wants it, or a source that could not be read.
type Fault struct {
	Place
	Reason v1alpha1.ViolationReason
	// Span is when it was there for certain.
	Span
	// Possible is when it may have been there: the same where whoever noted it had caused it, and longer where they saw it from
	// outside. Only in Span must a monitor see it all the time, and only outside Possible must it not.
	Possible Span
}

// exact tells whether nothing about the fault is in doubt.
func (f Fault) exact() bool { return f.Span == f.Possible }

// certainAt tells whether it is out of doubt that the fault, which is there at about that moment, was there then.
func (f Fault) certainAt(at time.Time) bool {
	return f.exact() || !at.Before(f.Start) && !at.After(f.until(at))
}

// ActKind is what somebody did to a ticket.
type ActKind string

// What people do.
const (
	Hold        ActKind = "hold"
	Unhold      ActKind = "unhold"
	Acknowledge ActKind = "acknowledge"
	Diagnose    ActKind = "diagnose"
	Resolve     ActKind = "resolve"
	Delete      ActKind = "delete"
)

// Act is something that somebody did to a ticket.
type Act struct {
	Namespace, Ticket string
	Kind              ActKind
	// Word is what tells it from all other acts: the value of the hold, or the note or text that was written.
	Word  string
	Asked time.Time
	// Confirmed is when the API server said that it is done; zero if it never said so.
	Confirmed time.Time
	// Err is what the API server said else.
	Err error
}

// Policy is what the rules need to know of an Invariant.
type Policy struct {
	Namespace, Invariant                                            string
	Interval, Timeout, GracePeriod, ResolveAfter, UnobservableAfter time.Duration
}

// History is what happened. Its methods may be called from several goroutines.
type History struct {
	mu       sync.Mutex
	versions []Version
	faults   []*Fault
	acts     []*Act
	able     map[string][]*Span
	hindered map[string][]*Span
	hanging  map[string][]*Span
	delayed  map[string][]Span
	clocks   map[string][]clockSpan
	policies []Policy
	awaited  []awaited
	given    map[string]bool
	// latest are the tickets that are there, by namespace and name.
	latest map[string]map[string]Version
}

// clockSpan is a stretch in which the clock of a namespace's monitor is off by the same offset.
type clockSpan struct {
	Span
	offset time.Duration
}

// awaited is a version that somebody waits for.
type awaited struct {
	is    func(Version) bool
	found chan Version
}

// New is an empty history.
func New() *History {
	return &History{able: map[string][]*Span{}, hindered: map[string][]*Span{}, hanging: map[string][]*Span{}, delayed: map[string][]Span{}, clocks: map[string][]clockSpan{},
		latest: map[string]map[string]Version{}, given: map[string]bool{}}
}

// Write notes a version of a ticket.
func (h *History) Write(v Version) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.versions = append(h.versions, v)
	switch there := h.latest[v.Namespace]; {
	case v.Ticket == nil:
		delete(there, v.Name)
	case there == nil:
		h.latest[v.Namespace] = map[string]Version{v.Name: v}
	default:
		there[v.Name] = v
	}
	h.awaited = slices.DeleteFunc(h.awaited, func(a awaited) bool {
		if !a.is(v) {
			return false
		}
		a.found <- v
		return true
	})
}

// Await is the first version from now on that is what somebody waits for. The function must not call the history.
func (h *History) Await(is func(Version) bool) <-chan Version {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := make(chan Version, 1)
	h.awaited = append(h.awaited, awaited{is, found})
	return found
}

// Given notes a ticket that no monitor opened here: it was there before. No rule asks why it opened.
func (h *History) Given(namespace, ticket string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.given[namespace+"/"+ticket] = true
}

// Policy notes what an Invariant wants.
func (h *History) Policy(p Policy) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.policies = append(h.policies, p)
}

// Begin notes that a fault begins. It is over when end is called.
func (h *History) Begin(place Place, reason v1alpha1.ViolationReason, at time.Time) (end func(time.Time)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &Fault{Place: place, Reason: reason, Span: Span{Start: at}, Possible: Span{Start: at}}
	h.faults = append(h.faults, f)
	return h.ender(&f.Span, &f.Possible)
}

// Note notes a fault that is over, as somebody saw it from outside. Where none of it is certain, its Span has no length.
func (h *History) Note(f Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, &f)
}

// Able notes that a monitor is able to look at a namespace from now on, and to write unless it is Hindered. It no longer is when end is called.
func (h *History) Able(namespace string, at time.Time) (end func(time.Time)) {
	return h.span(h.able, namespace, at)
}

// Hindered notes that a monitor that looks at a namespace may be unable to write what it sees from now on. What it then saw for the
// first time it is to write, as seen then, once end is called.
func (h *History) Hindered(namespace string, at time.Time) (end func(time.Time)) {
	return h.span(h.hindered, namespace, at)
}

// Hanging notes that what a monitor sends to write to a namespace may hang from now on: it looks again when it has given that up.
func (h *History) Hanging(namespace string, at time.Time) (end func(time.Time)) {
	return h.span(h.hanging, namespace, at)
}

// Delayed notes that what a monitor sent at one time to write to a namespace arrived at another.
func (h *History) Delayed(namespace string, sent, arrived time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.delayed[namespace] = append(h.delayed[namespace], Span{sent, arrived})
}

func (h *History) span(spans map[string][]*Span, namespace string, at time.Time) (end func(time.Time)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &Span{Start: at}
	spans[namespace] = append(spans[namespace], s)
	return h.ender(s)
}

// Clock notes that the clock of a namespace's monitor is off by an offset from now on. Before that it is right.
func (h *History) Clock(namespace string, offset time.Duration, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	spans := h.clocks[namespace]
	if len(spans) == 0 {
		spans = []clockSpan{{}}
	}
	spans[len(spans)-1].End = at
	h.clocks[namespace] = append(spans, clockSpan{Span{Start: at}, offset})
}

func (h *History) ender(spans ...*Span) func(time.Time) {
	return func(at time.Time) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, s := range spans {
			if s.End.IsZero() {
				s.End = at
			}
		}
	}
}

// Ask notes that somebody does something to a ticket. answer notes what the API server said.
func (h *History) Ask(namespace, ticket string, kind ActKind, word string, at time.Time) (answer func(error, time.Time)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := &Act{Namespace: namespace, Ticket: ticket, Kind: kind, Word: word, Asked: at}
	h.acts = append(h.acts, a)
	return func(err error, at time.Time) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if a.Err = err; err == nil {
			a.Confirmed = at
		}
	}
}

// Latest is the last version of each ticket that was not deleted, of all namespaces or of one.
func (h *History) Latest(namespace string) []Version {
	h.mu.Lock()
	defer h.mu.Unlock()
	var versions []Version
	for there, tickets := range h.latest {
		if namespace == "" || namespace == there {
			versions = slices.AppendSeq(versions, maps.Values(tickets))
		}
	}
	slices.SortFunc(versions, func(a, b Version) int { return int(a.Revision - b.Revision) })
	return versions
}

// Counts is how much happened.
type Counts struct {
	Versions, Tickets, Faults, Acts, Holds, Words int
}

// Counts counts.
func (h *History) Counts() Counts {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := Counts{Versions: len(h.versions), Faults: len(h.faults)}
	seen := map[string]bool{}
	for _, v := range h.versions {
		if key := v.Namespace + "/" + v.Name; !seen[key] {
			seen[key] = true
			c.Tickets++
		}
	}
	for _, a := range h.acts {
		if a.Confirmed.IsZero() {
			continue
		}
		c.Acts++
		switch a.Kind {
		case Hold:
			c.Holds++
		case Acknowledge, Diagnose:
			c.Words++
		}
	}
	return c
}

// FirstAfter is the first version of a namespace's tickets that was written after a moment.
func (h *History) FirstAfter(namespace string, after time.Time) (Version, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range h.versions {
		if v.Namespace == namespace && v.At.After(after) {
			return v, true
		}
	}
	return Version{}, false
}

// Lags is how long each fault of a place stood before an open ticket said so, of those of which one did.
func (h *History) Lags(place Place) []time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := newAccount(h, time.Now(), Tolerance{})
	k := key{place, v1alpha1.Violated}
	var lags []time.Duration
	for _, f := range a.faults[k] {
		if at, found := a.firstCounted(k, f.Span); found {
			lags = append(lags, at.Sub(f.Start))
		}
	}
	return lags
}

// firstCounted is when a ticket first counted a key in a fault.
func (a *account) firstCounted(k key, s Span) (first time.Time, found bool) {
	for _, name := range a.with(k) {
		for _, v := range a.tickets[name] {
			if v.Ticket == nil || !v.Ticket.IsOpen() || v.At.Before(s.Start) || v.At.After(s.until(a.now)) || !a.countsActive(v, k) {
				continue
			}
			if !found || v.At.Before(first) {
				first, found = v.At, true
			}
		}
	}
	return first, found
}
