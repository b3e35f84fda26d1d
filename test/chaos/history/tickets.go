package history

import (
	"slices"
	"time"

	"invariant.dev/operator/api/v1alpha1"
)

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

// numbers wants that each new ticket of a system has a higher number than all before it. The number of one that a person deleted may be
// used again.
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
