package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"invariant.dev/operator/api/v1alpha1"
)

// Breach is a rule that did not hold.
type Breach struct {
	Rule      string
	Namespace string
	Ticket    string
	Revision  int64
	Text      string
}

func (b Breach) String() string {
	return fmt.Sprintf("%s: %s/%s at revision %d: %s", b.Rule, b.Namespace, b.Ticket, b.Revision, b.Text)
}

// Tolerance is what the checks leave to the machine.
type Tolerance struct {
	// Early is how far the time of a cycle, which is its tick in whole seconds, may lie before what it saw.
	Early time.Duration
	// Late is how long a busy machine may take for what should be done at once.
	Late time.Duration
	// Retention is how long a resolved ticket stays; zero: for ever.
	Retention time.Duration
}

// WhatClearedResolves is the rule that holds only when all has settled.
const WhatClearedResolves = "what has cleared resolves"

// rules are all checks, by the rule that they check.
var rules = []struct {
	name  string
	check func(*account)
}{
	{"one open ticket per violation key", oneHolder},
	{"a ticket's number is used once", numbers},
	{"no ticket without a fault", grounded},
	{"every fault has its ticket", answered},
	{"one ticket per fault", undoubled},
	{"a grace period neither ends early nor starts over", grace},
	{"only an observation clears", cleared},
	{WhatClearedResolves, finished},
	{"a hold is a promise", holds},
	{"a person's words survive", words},
	{"what was confirmed is done", confirmed},
	{"the monitor's writes make no person's fail", unhindered},
	{"a state never goes back", forward},
	{"a cycle counts once", counted},
	{"no ticket is lost", kept},
}

// Check tells which rules did not hold until now, which is when the disturbances have been over for long enough for all to settle. Where
// rules are named, it checks only those.
func (h *History) Check(now time.Time, t Tolerance, only ...string) []Breach {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := newAccount(h, now, t)
	for _, rule := range rules {
		if len(only) > 0 && !slices.Contains(only, rule.name) {
			continue
		}
		a.rule = rule.name
		rule.check(a)
	}
	return a.breaches
}

// key is a violation key with its namespace.
type key struct {
	Place
	Reason v1alpha1.ViolationReason
}

// account is a history in the order in which the checks read it.
type account struct {
	*History
	Tolerance
	now      time.Time
	rule     string
	breaches []Breach
	// tickets are the versions of each ticket, oldest first.
	tickets map[string][]Version
	order   []string
	// having are the names of the tickets that have a key, in the same order, and counting the keys that count as active in a
	// version: both are made when first asked for.
	having   map[key][]string
	counting map[*v1alpha1.Ticket]map[key]bool
	faults   map[key][]Fault
	policy   map[Place]Policy
}

func newAccount(h *History, now time.Time, t Tolerance) *account {
	a := &account{History: h, Tolerance: t, now: now, tickets: map[string][]Version{}, faults: map[key][]Fault{}, policy: map[Place]Policy{},
		counting: map[*v1alpha1.Ticket]map[key]bool{}}
	slices.SortStableFunc(h.versions, func(x, y Version) int { return cmp.Compare(x.Revision, y.Revision) })
	for _, v := range h.versions {
		name := v.Namespace + "/" + v.Name
		if a.tickets[name] == nil {
			a.order = append(a.order, name)
		}
		a.tickets[name] = append(a.tickets[name], v)
	}
	for _, f := range h.faults {
		k := key{f.Place, f.Reason}
		a.faults[k] = append(a.faults[k], *f)
	}
	for _, p := range h.policies {
		a.policy[Place{Namespace: p.Namespace, Invariant: p.Invariant}] = p
	}
	return a
}

func (a *account) breach(v Version, format string, args ...any) {
	a.breaches = append(a.breaches, Breach{a.rule, v.Namespace, v.Name, v.Revision, fmt.Sprintf(format, args...)})
}

// steps calls do with each version of each ticket and the one before it, which has no Ticket for the first.
func (a *account) steps(do func(before, after Version)) {
	for _, name := range a.order {
		before := Version{}
		for _, v := range a.tickets[name] {
			do(before, v)
			before = v
		}
	}
}

func (a *account) policyOf(k key) Policy {
	return a.policy[Place{Namespace: k.Namespace, Invariant: k.Invariant}]
}

func keyOf(namespace string, v v1alpha1.Violation) key {
	return key{Place{namespace, v.Invariant, v.StoreID}, v.Reason}
}

// with are the names of the tickets that have a key in any version, in the order in which they were made.
func (a *account) with(k key) []string {
	if a.having == nil {
		a.having = map[key][]string{}
		for _, name := range a.order {
			for _, v := range a.tickets[name] {
				a.noteKeys(name, v)
			}
		}
	}
	return a.having[k]
}

func (a *account) noteKeys(name string, v Version) {
	if v.Ticket == nil {
		return
	}
	for _, violation := range v.Ticket.Spec.Violations {
		k := keyOf(v.Namespace, violation)
		if names := a.having[k]; len(names) == 0 || names[len(names)-1] != name {
			a.having[k] = append(names, name)
		}
	}
}

// entry is what a ticket's status says of the violation at an index of its spec: counting and active where a write is missing.
func entry(t *v1alpha1.Ticket, index int) v1alpha1.ViolationStatus {
	v := t.Spec.Violations[index]
	is := func(e v1alpha1.ViolationStatus) bool {
		return e.Invariant == v.Invariant && e.StoreID == v.StoreID && e.Reason == v.Reason
	}
	// The monitor writes them in the order of the spec.
	if index < len(t.Status.Violations) && is(t.Status.Violations[index]) {
		return t.Status.Violations[index]
	}
	if i := slices.IndexFunc(t.Status.Violations, is); i >= 0 {
		return t.Status.Violations[i]
	}
	return v1alpha1.ViolationStatus{Active: true, Pending: v.Pending}
}

// settle is how long a monitor that is able takes to find something and write it: two intervals, and what the machine takes.
func (a *account) settle(p Policy) time.Duration { return 2*p.Interval + a.Late }

// moments are the true times that a time of a monitor's clock may mean, if it was written by then.
func (a *account) moments(namespace string, at, by time.Time) []time.Time {
	spans := a.clocks[namespace]
	if len(spans) == 0 {
		return []time.Time{at}
	}
	var moments []time.Time
	for _, s := range spans {
		moment := at.Add(-s.offset)
		// A cycle that is under way when the clock is set ends with the time at which it began.
		if s.Start.Before(by) && !moment.Before(s.Start.Add(-a.Early)) && !moment.After(s.until(a.now).Add(a.Late+a.Early)) {
			moments = append(moments, moment)
		}
	}
	return moments
}

// off is how much longer and shorter by true time what is timed from a moment on may last, because the clock of the namespace's
// monitor was set before it was over: by how far it was set, and where it was set back, by what had gone by until then at most.
func (a *account) off(namespace string, from, to time.Time) (longer, shorter time.Duration) {
	gone := time.Duration(0)
	for i, s := range a.clocks[namespace] {
		if i == 0 || !s.Start.After(from.Add(-a.Early)) || !s.Start.Before(to) {
			continue
		}
		if by := s.offset - a.clocks[namespace][i-1].offset; by > 0 {
			shorter += by
		} else {
			longer -= by
			gone = max(0, s.Start.Sub(from))
		}
	}
	return min(longer, gone), shorter
}

// timesSet is how often the clock of a namespace's monitor was set in a stretch of time.
func (a *account) timesSet(namespace string, from, to time.Time) (times int) {
	for i, s := range a.clocks[namespace] {
		if i > 0 && s.Start.After(from.Add(-a.Early)) && s.Start.Before(to) {
			times++
		}
	}
	return times
}

// firstAble is the end of the first stretch from then on, of that length, in which the namespace's monitor was able to look all the time.
func (a *account) firstAble(namespace string, from time.Time, length time.Duration) (time.Time, bool) {
	return a.firstStretch(a.able[namespace], from, length)
}

// firstWriting is the same, of the stretches in which nothing hindered its writes either.
func (a *account) firstWriting(namespace string, from time.Time, length time.Duration) (time.Time, bool) {
	return a.firstStretch(a.without(a.able[namespace], a.hindered[namespace]), from, length)
}

// firstSeeing is the same, of the stretches in which the source of a store could be read too.
func (a *account) firstSeeing(k key, from time.Time, length time.Duration) (time.Time, bool) {
	able := a.able[k.Namespace]
	if k.Reason == v1alpha1.Violated {
		for _, silence := range a.faults[sourceOf(k)] {
			able = a.without(able, []*Span{&silence.Possible})
		}
	}
	return a.firstStretch(able, from, length)
}

// sourceOf is the key of not being able to read the source of a store.
func sourceOf(k key) key {
	return key{Place{Namespace: k.Namespace, Invariant: k.Invariant}, v1alpha1.Unobservable}
}

// without is what some spans leave of others.
func (a *account) without(spans, cuts []*Span) []*Span {
	for _, cut := range cuts {
		var left []*Span
		for _, s := range spans {
			end := s.until(a.now)
			if cut.Start.After(s.Start) {
				left = append(left, &Span{s.Start, earlier(cut.Start, end)})
			}
			if until := cut.until(a.now); until.Before(end) {
				left = append(left, &Span{later(until, s.Start), end})
			}
		}
		spans = left
	}
	return spans
}

// underWay is when a write that was noticed at some time may have been decided, which takes so long at most; while writes were hindered,
// it may have been under way.
func (a *account) underWay(namespace string, at time.Time, atMost time.Duration) time.Time {
	since := at.Add(-atMost)
	for _, h := range slices.Backward(a.hindered[namespace]) {
		if h.Start.Before(at) && h.until(a.now).After(since) {
			since = earlier(since, h.Start.Add(-atMost))
		}
	}
	return since
}

func (a *account) firstStretch(spans []*Span, from time.Time, length time.Duration) (time.Time, bool) {
	for _, s := range spans {
		if start := later(s.Start, from); s.until(a.now).Sub(start) >= length {
			return start.Add(length), true
		}
	}
	return time.Time{}, false
}

func earlier(x, y time.Time) time.Time {
	if x.Before(y) {
		return x
	}
	return y
}

func later(x, y time.Time) time.Time {
	if x.Before(y) {
		return y
	}
	return x
}

// oneHolder wants that no ticket opens with a key that another open ticket has.
func oneHolder(a *account) {
	open := map[key]map[string]bool{}
	latest := map[string]*v1alpha1.Ticket{}
	for _, v := range a.versions {
		name := v.Namespace + "/" + v.Name
		isNew := latest[name] == nil && v.Ticket != nil
		if before := latest[name]; before != nil {
			for _, violation := range before.Spec.Violations {
				delete(open[keyOf(v.Namespace, violation)], name)
			}
		}
		latest[name] = v.Ticket
		if v.Ticket == nil || !v.Ticket.IsOpen() {
			continue
		}
		for _, violation := range v.Ticket.Spec.Violations {
			k := keyOf(v.Namespace, violation)
			if open[k] == nil {
				open[k] = map[string]bool{}
			}
			if isNew && len(open[k]) > 0 {
				a.breach(v, "opens with %v, which %v has", k, open[k])
			}
			open[k][name] = true
		}
	}
}

// numbers wants that each new ticket of a system has a higher number than all before it. Where a person deleted the newest, nothing
// may remember its number.
func numbers(a *account) {
	highest := map[string]int{}
	a.inOrderOfCreation(func(v Version) {
		system, number := v.Namespace+"/"+v.Ticket.Spec.System, v.Ticket.Number()
		if number <= highest[system] && !a.deletedBefore(v) {
			a.breach(v, "opens after number %d", highest[system])
		}
		highest[system] = max(highest[system], number)
	})
}

// deletedBefore tells whether an earlier ticket of that name was deleted.
func (a *account) deletedBefore(v Version) bool {
	return slices.ContainsFunc(a.tickets[v.Namespace+"/"+v.Name], func(earlier Version) bool { return earlier.Ticket == nil && earlier.Revision < v.Revision })
}

func (a *account) inOrderOfCreation(do func(Version)) {
	exists := map[string]bool{}
	for _, v := range a.versions {
		name := v.Namespace + "/" + v.Name
		if v.Ticket != nil && !exists[name] && !a.given[name] {
			do(v)
		}
		exists[name] = v.Ticket != nil
	}
}

// grounded wants that what a ticket opens with was broken when it was first seen, and not long before it opened.
func grounded(a *account) {
	a.inOrderOfCreation(func(v Version) {
		for _, violation := range v.Ticket.Spec.Violations {
			k := keyOf(v.Namespace, violation)
			p := a.policyOf(k)
			first := violation.FirstSeenTime.Go()
			if _, _, found := a.faultAt(k, first, v.At); !found {
				a.breach(v, "%v is said to be first seen at %s, when nothing was wrong with it", k, clock(first))
				continue
			}
			stale := a.underWay(k.Namespace, v.At, p.Interval+p.Timeout+p.ResolveAfter+a.Late)
			if !slices.ContainsFunc(a.faults[k], func(f Fault) bool { return f.Possible.Start.Before(v.At) && f.Possible.until(a.now).After(stale) }) {
				a.breach(v, "%v had been well for long when it opened", k)
			}
		}
	})
}

// faultAt is the fault of a key in which a moment lies that a monitor wrote by then, and the true time of that moment.
func (a *account) faultAt(k key, at, by time.Time) (Fault, time.Time, bool) {
	late := a.Late + a.policyOf(k).Timeout
	for _, moment := range slices.Backward(a.moments(k.Namespace, at, by)) {
		for _, f := range slices.Backward(a.faults[k]) {
			if !moment.Before(f.Possible.Start.Add(-a.Early)) && !moment.After(f.Possible.until(a.now).Add(late)) {
				return f, moment, true
			}
		}
	}
	return Fault{}, time.Time{}, false
}

// answered wants that each fault that lasts longer than a monitor needs to see it, and longer than its grace period, stands in
// an open ticket by then.
func answered(a *account) {
	for k, faults := range a.faults {
		p := a.policyOf(k)
		for _, f := range faults {
			deadline, demanded := a.deadline(k, p, f.Span)
			if !demanded || a.standsBy(k, f.Start, deadline) {
				continue
			}
			a.breaches = append(a.breaches, Breach{Rule: a.rule, Namespace: k.Namespace, Text: fmt.Sprintf(
				"%v was broken from %s to %s, and no open ticket says so by %s", k, clock(f.Start), clock(f.until(a.now)), clock(deadline))})
		}
	}
}

// Demanded is how many faults lasted long enough, with a monitor that was able, that a ticket must say so.
func (h *History) Demanded(now time.Time, t Tolerance) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	a, demanded := newAccount(h, now, t), 0
	for k, faults := range a.faults {
		for _, f := range faults {
			if _, is := a.deadline(k, a.policyOf(k), f.Span); is {
				demanded++
			}
		}
	}
	return demanded
}

// deadline is when a fault must stand in a ticket, and whether it lasts until then.
func (a *account) deadline(k key, p Policy, s Span) (time.Time, bool) {
	seen, able := a.firstAble(k.Namespace, s.Start, a.settle(p))
	if !able {
		return time.Time{}, false
	}
	grace := p.GracePeriod
	if k.Reason == v1alpha1.Unobservable {
		grace = p.UnobservableAfter
	}
	// What has no grace period opens a ticket in the cycle that sees it.
	deadline, able := a.firstWriting(k.Namespace, s.Start, a.settle(p))
	if grace > 0 {
		deadline, able = a.firstWriting(k.Namespace, seen.Add(grace), a.settle(p))
	}
	if longer, _ := a.off(k.Namespace, s.Start, deadline); able && longer > 0 {
		deadline, able = a.firstWriting(k.Namespace, seen.Add(grace+longer), a.settle(p))
	}
	return deadline, able && !a.blind(k, s.Start, deadline) && !deadline.After(s.until(a.now))
}

// blind tells whether the source of a store could not be read at some time: then no deadline stands.
func (a *account) blind(k key, from, to time.Time) bool {
	if k.Reason == v1alpha1.Unobservable {
		return false
	}
	return slices.ContainsFunc(a.faults[sourceOf(k)], func(f Fault) bool { return f.Possible.Start.Before(to) && f.Possible.until(a.now).After(from) })
}

// standsBy tells whether at some time of that stretch an open ticket counted a key as active.
func (a *account) standsBy(k key, from, to time.Time) bool {
	for _, name := range a.with(k) {
		versions := a.tickets[name]
		for i, v := range versions {
			if v.Ticket == nil || !v.Ticket.IsOpen() || v.At.After(to) {
				continue
			}
			if i+1 < len(versions) && versions[i+1].At.Before(from) {
				continue
			}
			if a.countsActive(v, k) {
				return true
			}
		}
	}
	return false
}

func (a *account) countsActive(v Version, k key) bool {
	counting := a.counting[v.Ticket]
	if counting == nil {
		counting = map[key]bool{}
		for i, violation := range v.Ticket.Spec.Violations {
			if e := entry(v.Ticket, i); e.Active && !e.Pending {
				counting[keyOf(v.Namespace, violation)] = true
			}
		}
		a.counting[v.Ticket] = counting
	}
	return counting[k]
}

// undoubled wants that a fault counts in one ticket, and in another only after somebody resolved or deleted one in which it did.
func undoubled(a *account) {
	for k, faults := range a.faults {
		for i, f := range faults {
			until := f.until(a.now)
			if f.exact() {
				until = until.Add(a.settle(a.policyOf(k)))
			}
			if i+1 < len(faults) && faults[i+1].Possible.Start.Before(until) {
				until = faults[i+1].Possible.Start
			}
			a.undoubledIn(k, Span{f.Start, until})
		}
	}
}

func (a *account) undoubledIn(k key, s Span) {
	began, again := 0, 0
	last := Version{}
	for _, name := range a.with(k) {
		before := Version{}
		for _, v := range a.tickets[name] {
			counted, counts := before.Ticket != nil && before.Ticket.IsOpen() && a.countsActive(before, k), v.Ticket != nil && v.Ticket.IsOpen() && a.countsActive(v, k)
			inside := !v.At.Before(s.Start) && !v.At.After(s.until(a.now))
			switch {
			case inside && counts && !counted:
				began, last = began+1, v
			case inside && counted && (v.Ticket == nil || byHand(v.Ticket)):
				again++
			}
			before = v
		}
	}
	if began > again+1 {
		a.breach(last, "is ticket %d in which %v counts, broken once from %s to %s; %d were resolved or deleted by people", began, k, clock(s.Start), clock(s.until(a.now)), again)
	}
}

func hasKey(v Version, k key) bool {
	return slices.ContainsFunc(v.Ticket.Spec.Violations, func(violation v1alpha1.Violation) bool { return keyOf(v.Namespace, violation) == k })
}

func byHand(t *v1alpha1.Ticket) bool {
	return t.Status.State == v1alpha1.Resolved && (t.Status.Resolution == nil || t.Status.Resolution.Reason == "" || t.Status.Resolution.Reason == v1alpha1.Manual)
}

// grace wants that what counts was violated for its grace period, and that first-seen times are true: no later than when a
// monitor was first able to see it.
func grace(a *account) {
	a.inOrderOfCreation(func(v Version) {
		for _, violation := range v.Ticket.Spec.Violations {
			k := keyOf(v.Namespace, violation)
			p := a.policyOf(k)
			opened := v.Ticket.Spec.OpenedTime.Go()
			fault, first, found := a.faultAt(k, violation.FirstSeenTime.Go(), v.At)
			if !found {
				continue // grounded says so
			}
			longer, shorter := a.off(k.Namespace, first, v.At)
			waited := opened.Sub(violation.FirstSeenTime.Go())
			if a.timesSet(k.Namespace, first, v.At) > 0 {
				waited = v.At.Sub(first) + a.Early
			}
			if !violation.Pending && violation.Reason == v1alpha1.Violated && waited < p.GracePeriod-shorter {
				a.breach(v, "%v was seen at %s and counts at %s, in its grace period of %s", k, clock(first), clock(opened), p.GracePeriod)
			}
			if a.deletedIn(k, fault, v) {
				continue // what a deleted ticket knew, only a monitor that lived on knows
			}
			if !fault.certainAt(first) {
				continue // it may have been well for a moment
			}
			if a.longer(k, fault, v) > 0 && !a.firstOf(v, k, fault) {
				continue // the ticket before it may say that it was first seen at a time that lies ahead since the clock was set back
			}
			if able, ok := a.firstSeeing(k, fault.Start, a.settle(p)); ok && first.After(able.Add(a.longer(k, fault, v))) {
				a.breach(v, "%v broke at %s and is said to be first seen at %s; a monitor could see it by %s", k, clock(fault.Start), clock(first), clock(able))
			}
			if violation.Pending || a.blind(k, fault.Start, v.At) {
				continue
			}
			wait := p.GracePeriod
			if k.Reason == v1alpha1.Unobservable {
				wait = p.UnobservableAfter
			}
			if due, ok := a.firstWriting(k.Namespace, first.Add(wait+longer), a.settle(p)); ok && a.firstOf(v, k, fault) && v.At.After(due) {
				a.breach(v, "%v was first seen at %s, its grace period is %s, a monitor could open by %s, and it opened at %s", k, clock(first), wait, clock(due), clock(v.At))
			}
		}
	})
}

// deletedIn tells whether somebody deleted a ticket with that key, open or resolved by hand, in a fault and before another version.
func (a *account) deletedIn(k key, fault Fault, before Version) bool {
	for _, name := range a.with(k) {
		last := Version{}
		for _, v := range a.tickets[name] {
			if v.Ticket == nil && last.Ticket != nil && !v.At.Before(fault.Possible.Start) && v.Revision < before.Revision && hasKey(last, k) {
				return true
			}
			last = v
		}
	}
	return false
}

// longer is how much later than without the setting of clocks a fault may be said to be first seen.
func (a *account) longer(k key, fault Fault, by Version) time.Duration {
	longer, _ := a.off(k.Namespace, fault.Start, by.At)
	return longer
}

// firstOf tells whether no ticket had the key in this fault before: later ones wait for whoever resolved that one.
func (a *account) firstOf(ticket Version, k key, fault Fault) bool {
	began := fault.Possible.Start
	recent := began.Add(-a.Late - a.policyOf(k).ResolveAfter - a.settle(a.policyOf(k)))
	return !slices.ContainsFunc(a.with(k), func(name string) bool {
		return slices.ContainsFunc(a.tickets[name], func(v Version) bool {
			return v.Revision < ticket.Revision && v.Ticket != nil && (v.Ticket.IsOpen() || !v.At.Before(began)) && v.At.After(recent) && hasKey(v, k)
		})
	})
}

// cleared wants that a violation clears only when a look can have found it satisfied.
func cleared(a *account) {
	a.steps(func(before, after Version) {
		if before.Ticket == nil || after.Ticket == nil {
			return
		}
		for i, violation := range after.Ticket.Spec.Violations {
			was, is := entry(before.Ticket, i), entry(after.Ticket, i)
			if !was.Active || is.Active || is.ClearedReason != "" {
				continue
			}
			k := keyOf(after.Namespace, violation)
			p := a.policyOf(k)
			if from := a.underWay(k.Namespace, after.At, p.Interval+p.Timeout+a.Late); !a.wellBetween(k, from, after.At) {
				a.breach(after, "%v clears, but was broken or could not be seen all the time from %s to %s", k, clock(from), clock(after.At))
			}
		}
	})
}

// wellBetween tells whether there was a moment at which a store was well and its source could be read.
func (a *account) wellBetween(k key, from, to time.Time) bool {
	all := slices.Clone(a.faults[k])
	if k.Reason == v1alpha1.Violated {
		all = append(all, a.faults[sourceOf(k)]...)
	}
	slices.SortFunc(all, func(x, y Fault) int { return x.Start.Compare(y.Start) })
	for _, f := range all {
		if f.Start.After(from) {
			break
		}
		if end := f.until(a.now); end.After(from) {
			from = end
		}
	}
	return from.Before(to)
}

// finished wants that an open ticket is about a fault that lasts, or held, or was written on and is a duplicate.
func finished(a *account) {
	for _, name := range a.order {
		versions := a.tickets[name]
		v := versions[len(versions)-1]
		if v.Ticket == nil || !v.Ticket.IsOpen() || v.Ticket.Held() {
			continue
		}
		if !slices.ContainsFunc(v.Ticket.Spec.Violations, func(violation v1alpha1.Violation) bool {
			return slices.ContainsFunc(a.faults[keyOf(v.Namespace, violation)], func(f Fault) bool { return f.End.IsZero() })
		}) {
			a.breach(v, "is still open, although nothing of it is broken and nobody holds it: %+v", v.Ticket.Status.Violations)
		}
	}
}

// holds wants that the monitor resolves nothing that is held.
func holds(a *account) {
	a.steps(func(before, after Version) {
		if before.Ticket == nil || after.Ticket == nil || !before.Ticket.IsOpen() || after.Ticket.IsOpen() || byHand(after.Ticket) {
			return
		}
		if before.Ticket.Held() {
			a.breach(after, "resolves as %v under the hold %q", after.Ticket.Status.Resolution, before.Ticket.Annotations[v1alpha1.HoldAnnotation])
		}
	})
}

// words wants that what a person wrote stays until a person writes something else there.
func words(a *account) {
	a.steps(func(before, after Version) {
		if before.Ticket == nil || after.Ticket == nil {
			return
		}
		for _, kind := range []ActKind{Hold, Acknowledge, Diagnose, Resolve} {
			was, is := word(before.Ticket, kind), word(after.Ticket, kind)
			if was == "" || was == is || a.allows(after, kind) {
				continue
			}
			a.breach(after, "%s %q became %q, and nobody did that", kind, was, is)
		}
	})
}

// word is what stands on a ticket where an act of that kind writes.
func word(t *v1alpha1.Ticket, kind ActKind) string {
	switch s := t.Status; {
	case kind == Hold:
		return t.Annotations[v1alpha1.HoldAnnotation]
	case kind == Acknowledge && s.Acknowledgement != nil:
		return s.Acknowledgement.By + ": " + s.Acknowledgement.Note
	case kind == Diagnose && s.Diagnosis != nil:
		return s.Diagnosis.By + ": " + s.Diagnosis.Text
	case kind == Resolve && s.Resolution != nil:
		return s.Resolution.By + ": " + s.Resolution.Note
	default:
		return ""
	}
}

// allows tells whether somebody asked for an act that changes a word, and what now stands there is what they asked for.
func (a *account) allows(v Version, kind ActKind) bool {
	return slices.ContainsFunc(a.acts, func(act *Act) bool {
		if act.Namespace != v.Namespace || act.Ticket != v.Name || act.Asked.After(v.At) {
			return false
		}
		if kind == Hold && act.Kind == Unhold {
			return word(v.Ticket, Hold) == ""
		}
		return act.Kind == kind && act.done(v.Ticket)
	})
}

// done tells whether a ticket shows the act.
func (act *Act) done(t *v1alpha1.Ticket) bool {
	switch s := t.Status; act.Kind {
	case Hold:
		return t.Annotations[v1alpha1.HoldAnnotation] == act.Word
	case Unhold:
		return t.Annotations[v1alpha1.HoldAnnotation] == ""
	case Acknowledge:
		return s.Acknowledgement != nil && s.Acknowledgement.Note == act.Word
	case Diagnose:
		return s.Diagnosis != nil && s.Diagnosis.Text == act.Word
	case Resolve:
		return s.Resolution != nil && s.Resolution.Note == act.Word && s.State == v1alpha1.Resolved
	default:
		return false
	}
}

// confirmed wants that each act that the API server confirmed is in a version written meanwhile.
func confirmed(a *account) {
	for _, act := range a.acts {
		if act.Confirmed.IsZero() {
			continue
		}
		versions := a.tickets[act.Namespace+"/"+act.Ticket]
		done := slices.ContainsFunc(versions, func(v Version) bool {
			if v.Ticket == nil {
				return act.Kind == Delete
			}
			return act.done(v.Ticket)
		})
		if !done {
			a.breach(Version{Namespace: act.Namespace, Name: act.Ticket}, "%s %q of %s was confirmed, and no version shows it", act.Kind, act.Word, clock(act.Asked))
		}
	}
}

// unhindered wants that no act of a person met a conflict: people's writes are not conditional.
func unhindered(a *account) {
	for _, act := range a.acts {
		if apierrors.IsConflict(act.Err) {
			a.breach(Version{Namespace: act.Namespace, Name: act.Ticket}, "%s %q was refused: %v", act.Kind, act.Word, act.Err)
		}
	}
}

// forward wants that states go forward, and records that are written once stay.
func forward(a *account) {
	a.steps(func(before, after Version) {
		if before.Ticket == nil || after.Ticket == nil {
			return
		}
		if from, to := before.Ticket.Status.State, after.Ticket.Status.State; !from.CanBecome(to) {
			a.breach(after, "goes from %s back to %s", from, to)
		}
	})
}

// counted wants that counters only rise, and by one in an interval at most, and at the start of a monitor, which waits for no tick.
func counted(a *account) {
	a.steps(func(before, after Version) {
		if after.Ticket == nil {
			return
		}
		s := after.Ticket.Status
		if before.Ticket != nil && s.Occurrences < before.Ticket.Status.Occurrences {
			a.breach(after, "counts %d after %d", s.Occurrences, before.Ticket.Status.Occurrences)
		}
		interval := time.Duration(0)
		for _, v := range after.Ticket.Spec.Violations {
			if p := a.policyOf(keyOf(after.Namespace, v)); interval == 0 || p.Interval < interval {
				interval = p.Interval
			}
		}
		if s.LastSeenTime == nil || interval == 0 {
			return
		}
		// Both times are cut to whole seconds; the cycle that opens counts too.
		span := s.LastSeenTime.Go().Sub(after.Ticket.Spec.OpenedTime.Go()) + time.Second
		if created := after.Ticket.CreationTimestamp.Time; a.timesSet(after.Namespace, created, after.At) > 0 {
			// By true time. When the clock is set, a check is due at once.
			span = after.At.Sub(created) + a.Early + time.Duration(a.timesSet(after.Namespace, created, after.At))*interval
		}
		if most := int32(span/interval) + 1 + a.starts(after.Namespace, after.Ticket.Spec.OpenedTime.Go(), s.LastSeenTime.Go()); s.Occurrences > most {
			a.breach(after, "counts %d cycles of %s in %s", s.Occurrences, interval, span)
		}
	})
}

// starts is how many monitors were first able to check a namespace in a stretch of time.
func (a *account) starts(namespace string, from, to time.Time) (n int32) {
	for _, s := range a.able[namespace] {
		if s.Start.After(from) && s.Start.Before(to.Add(a.Early)) {
			n++
		}
	}
	return n
}

// kept wants that a ticket goes only by a person's hand, or resolved, at its time.
func kept(a *account) {
	a.steps(func(before, after Version) {
		if before.Ticket == nil || after.Ticket != nil {
			return
		}
		byPerson := slices.ContainsFunc(a.acts, func(act *Act) bool {
			return act.Kind == Delete && act.Namespace == after.Namespace && act.Ticket == after.Name && !act.Asked.After(after.At)
		})
		if byPerson {
			return
		}
		if before.Ticket.IsOpen() || before.Ticket.Held() {
			a.breach(after, "was deleted while it was open or held")
			return
		}
		resolved := before.At
		if r := before.Ticket.Status.Resolution; r != nil && r.Time != nil {
			resolved = r.Time.Go()
		}
		if a.Retention == 0 || after.At.Sub(resolved) < a.Retention {
			a.breach(after, "was deleted %s after it was resolved", after.At.Sub(resolved))
		}
	})
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }
