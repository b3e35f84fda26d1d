package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"invariant.dev/operator/api/v1alpha1"
)

// grounded wants that what a ticket opens with was broken when it was first seen, and not long before it opened.
func grounded(a *account) {
	a.inOrderOfCreation(func(v Version) {
		for _, violation := range v.Ticket.Spec.Violations {
			k := keyOf(v.Namespace, violation)
			p := a.policyOf(k)
			first := violation.FirstSeenTime.Go()
			if len(a.sightings(k, first, v.At)) == 0 && !a.inherited(v, violation) {
				a.breach(v, "%v is said to be first seen at %s, when nothing was wrong with it", k, clock(first))
				continue
			}
			stale := a.underWay(k.Namespace, a.sent(k.Namespace, v.At), p.Interval+p.Timeout+p.ResolveAfter+a.Late)
			if !slices.ContainsFunc(a.faults[k], func(f Fault) bool { return f.Possible.Start.Before(v.At) && f.Possible.until(a.now).After(stale) }) {
				a.breach(v, "%v had been well for long when it opened", k)
			}
		}
	})
}

// sighting is a fault that a monitor saw, and the true time at which it says that it did.
type sighting struct {
	Fault
	at time.Time
}

// sightings are what a time that a monitor wrote by then may mean, for each clock by which it may have written it: the latest first.
func (a *account) sightings(k key, at, by time.Time) []sighting {
	late := a.Late + a.policyOf(k).Timeout
	var sightings []sighting
	for _, moment := range slices.Backward(a.moments(k.Namespace, at, by)) {
		for _, f := range slices.Backward(a.faults[k]) {
			if !moment.Before(f.Possible.Start.Add(-a.Early)) && !moment.After(f.Possible.until(a.now).Add(late)) {
				sightings = append(sightings, sighting{f, moment})
			}
		}
	}
	return sightings
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
			if before.Ticket == nil && v.Ticket != nil && a.isOfAnother(v, k, s.Start) {
				inside = false
			}
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

// isOfAnother tells whether a ticket that opens is about another fault of a key than the one that began then: it was sent in that one, and
// arrived in this.
func (a *account) isOfAnother(v Version, k key, began time.Time) bool {
	return slices.ContainsFunc(v.Ticket.Spec.Violations, func(violation v1alpha1.Violation) bool {
		return keyOf(v.Namespace, violation) == k && !slices.ContainsFunc(a.sightings(k, violation.FirstSeenTime.Go(), v.At), func(s sighting) bool {
			return s.Start.Equal(began)
		})
	})
}

// grace wants that what counts was violated for its grace period, and that first-seen times are true: no later than when a
// monitor was first able to see it.
func grace(a *account) {
	a.inOrderOfCreation(func(v Version) {
		for _, violation := range v.Ticket.Spec.Violations {
			k := keyOf(v.Namespace, violation)
			wrong := ""
			for _, seen := range a.sightings(k, violation.FirstSeenTime.Go(), v.At) {
				if wrong = cmp.Or(a.early(v, violation, seen), a.late(v, violation, seen)); wrong == "" {
					break
				}
			}
			if wrong != "" {
				a.breach(v, "%v %s", k, wrong)
			}
		}
	})
}

// early tells whether a violation counts before its grace period is over, if that is what it was first seen by.
func (a *account) early(v Version, violation v1alpha1.Violation, seen sighting) string {
	k := keyOf(v.Namespace, violation)
	grace := a.policyOf(k).GracePeriod
	opened := v.Ticket.Spec.OpenedTime.Go()
	waited := opened.Sub(violation.FirstSeenTime.Go())
	if a.timesSet(k.Namespace, seen.at, v.At) > 0 {
		waited = v.At.Sub(seen.at) + a.Early
	}
	_, shorter := a.off(k.Namespace, seen.at, v.At)
	if !violation.Pending && violation.Reason == v1alpha1.Violated && waited < grace-shorter {
		return fmt.Sprintf("was seen at %s and counts at %s, in its grace period of %s", clock(seen.at), clock(opened), grace)
	}
	return ""
}

// late tells whether a violation is said to be first seen, or opens, later than a monitor was able to see and to write it.
func (a *account) late(v Version, violation v1alpha1.Violation, seen sighting) string {
	k := keyOf(v.Namespace, violation)
	p := a.policyOf(k)
	switch {
	case a.deletedIn(k, seen.Fault, v): // what a deleted ticket knew, only a monitor that lived on knows
		return ""
	case !seen.certainAt(seen.at): // it may have been well for a moment
		return ""
	case a.inherited(v, violation): // the ticket before it was asked
		return ""
	}
	longer, _ := a.off(k.Namespace, seen.Start, v.At)
	if able, ok := a.firstSeeing(k, seen.Start, a.sees(k.Namespace, p, seen.Start)); ok && seen.at.After(able.Add(longer)) {
		return fmt.Sprintf("broke at %s and is said to be first seen at %s; a monitor could see it by %s", clock(seen.Start), clock(seen.at), clock(able.Add(longer)))
	}
	if violation.Pending || a.blind(k, seen.Start, v.At) || !a.firstOf(v, k, seen.Fault) {
		return ""
	}
	wait := p.GracePeriod
	if k.Reason == v1alpha1.Unobservable {
		wait = p.UnobservableAfter
	}
	longer, _ = a.off(k.Namespace, seen.at, v.At)
	if due, ok := a.firstWriting(k.Namespace, seen.at.Add(wait+longer), a.settle(p)); ok && v.At.After(due) {
		return fmt.Sprintf("was first seen at %s, its grace period is %s, a monitor could open by %s, and it opened at %s", clock(seen.at), wait, clock(due), clock(v.At))
	}
	return ""
}

// inherited tells whether the ticket with that violation before it says the same of when it was first seen, or a later time: that lay ahead
// of the clock by which a monitor took it over, and was pulled back.
func (a *account) inherited(ticket Version, violation v1alpha1.Violation) bool {
	k := keyOf(ticket.Namespace, violation)
	before := a.before(ticket, k)
	return before.Ticket != nil && slices.ContainsFunc(before.Ticket.Spec.Violations, func(v v1alpha1.Violation) bool {
		return keyOf(ticket.Namespace, v) == k && !v.FirstSeenTime.Go().Before(violation.FirstSeenTime.Go())
	})
}

// before is the last version, before a ticket, of another that has a key, be it one that had the same name.
func (a *account) before(ticket Version, k key) (last Version) {
	for _, name := range a.with(k) {
		for _, v := range a.tickets[name] {
			if v.Ticket != nil && v.Revision < ticket.Revision && v.Revision > last.Revision && hasKey(v, k) {
				last = v
			}
		}
	}
	return last
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
