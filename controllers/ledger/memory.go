package ledger

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// Memory is what cycles remember of one invariant between them, beside its tickets.
type Memory struct {
	// UnknownSince is when the whole observation began to fail; zero while it does not.
	UnknownSince time.Time
	// Stores are those violated in no ticket that counts them, and those Unknown.
	Stores map[string]Timer
}

// Timer measures one store's grace period.
type Timer struct {
	// FirstSeen is when it was first seen violated; zero where it is only Unknown.
	FirstSeen time.Time
	// Since is what the grace period is measured from: FirstSeen, plus the time that was Unknown.
	Since time.Time
	// SatisfiedSince is when it was last found satisfied, for less than resolveAfter.
	SatisfiedSince time.Time
	// UnknownSince is when nothing more was known of it.
	UnknownSince time.Time
}

// next is the timer after a verdict, and whether it still runs. wholeUnknownSince is when the whole
// observation began to fail, up to this check.
func (t Timer) next(now time.Time, truth verdict.Truth, resolveAfter time.Duration, wholeUnknownSince time.Time) (Timer, bool) {
	if truth == verdict.Unknown {
		if t.UnknownSince.IsZero() {
			t.UnknownSince = now
			if !wholeUnknownSince.IsZero() {
				// A crash may have lost the good observation between the failure and what is timed here.
				t.UnknownSince = latest(wholeUnknownSince, t.Since, t.SatisfiedSince)
			}
		}
		return t, true
	}
	if !t.UnknownSince.IsZero() {
		t.Since = shift(t.Since, now.Sub(t.UnknownSince))
		t.SatisfiedSince = shift(t.SatisfiedSince, now.Sub(t.UnknownSince))
		t.UnknownSince = time.Time{}
	}
	if truth == verdict.Violated {
		if t.FirstSeen.IsZero() {
			t.FirstSeen, t.Since = now, now
		}
		t.SatisfiedSince = time.Time{}
		return t, true
	}
	if t.SatisfiedSince.IsZero() {
		t.SatisfiedSince = now
	}
	return t, !t.FirstSeen.IsZero() && now.Sub(t.SatisfiedSince) < resolveAfter
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

func earliest(times ...time.Time) time.Time { return slices.MinFunc(times, time.Time.Compare) }

// shift moves a set time on.
func shift(t time.Time, by time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(by)
}

func (m Memory) clone() Memory {
	stores := maps.Clone(m.Stores)
	if stores == nil {
		stores = map[string]Timer{}
	}
	return Memory{UnknownSince: m.UnknownSince, Stores: stores}
}

// Restore puts back into memory what a ticket that somebody deleted knew: since when its violations that had not cleared
// have been seen. They open a new ticket at the next check that finds them violated, without a second grace period.
func Restore(memory map[string]Memory, deleted *v1alpha1.Ticket) {
	for i, e := range entriesOf(deleted) {
		if !e.Active || e.Pending || e.Reason != v1alpha1.Violated {
			continue
		}
		m := memory[e.Invariant].clone()
		m.Stores[e.StoreID] = timerOf(deleted.Spec.Violations[i], e)
		memory[e.Invariant] = m
	}
}

// timerOf is the timer of a violation as its ticket knows it. How long it was Unknown before it counted the ticket does not know: its
// grace period is over then all the same.
func timerOf(v v1alpha1.Violation, e v1alpha1.ViolationStatus) Timer {
	first := v.FirstSeenTime.Go()
	return Timer{FirstSeen: first, Since: first, SatisfiedSince: e.SatisfiedSinceTime.Go(), UnknownSince: e.UnknownSinceTime.Go()}
}

// notAfter pulls times of a clock that ran ahead back to now, so that nothing waits for that clock's hour.
func (m *Memory) notAfter(now time.Time) {
	m.UnknownSince = earliest(m.UnknownSince, now)
	for storeID, t := range m.Stores {
		m.Stores[storeID] = t.notAfter(now)
	}
}

// notAfter is the timer with times of a clock that ran ahead pulled back to now.
func (t Timer) notAfter(now time.Time) Timer {
	return Timer{earliest(t.FirstSeen, now), earliest(t.Since, now), earliest(t.SatisfiedSince, now), earliest(t.UnknownSince, now)}
}

// forgetLongAbsent drops stores that are absent where there are more than a check may list: while one of its readings is of a store that
// cannot be told, every store that ever was violated or Unknown may still be there. Those that have been Unknown the longest go first.
func (m *Memory) forgetLongAbsent(seen map[string]bool) {
	over := len(m.Stores) - maxPendingStores
	if over <= 0 {
		return
	}
	absent := slices.DeleteFunc(sortedKeys(m.Stores), func(storeID string) bool { return seen[storeID] })
	slices.SortStableFunc(absent, func(a, b string) int { return m.Stores[a].UnknownSince.Compare(m.Stores[b].UnknownSince) })
	for _, storeID := range absent[:min(over, len(absent))] {
		delete(m.Stores, storeID)
	}
}

// Limits of what an Invariant's status holds of its memory; the API server enforces the same.
const (
	maxPendingGroups = 1000
	maxPendingStores = 10_000
	maxPendingBytes  = 256 << 10
)

// Record writes memory into an Invariant's status: stores with the same times together, oldest first. What
// does not fit is counted in PendingTruncated.
func (m Memory) Record(status *v1alpha1.InvariantStatus) {
	status.UnknownSinceTime = timeOrNil(m.UnknownSince)
	status.Pending, status.PendingTruncated = nil, 0
	groups := map[Timer][]string{}
	for storeID, timer := range m.Stores {
		groups[timer] = append(groups[timer], storeID)
	}
	room, stores := maxPendingBytes, 0
	for _, timer := range slices.SortedFunc(maps.Keys(groups), compareTimers) {
		group := v1alpha1.PendingStores{
			FirstSeenTime:      timeOrNil(timer.FirstSeen),
			SinceTime:          timeOrNil(timer.Since),
			SatisfiedSinceTime: timeOrNil(timer.SatisfiedSince),
			UnknownSinceTime:   timeOrNil(timer.UnknownSince),
		}
		room -= pendingGroupBytes
		for _, storeID := range slices.Sorted(slices.Values(groups[timer])) {
			if room < len(storeID)+3 || stores == maxPendingStores || len(status.Pending) == maxPendingGroups {
				status.PendingTruncated++
				continue
			}
			room -= len(storeID) + 3
			stores++
			group.StoreIDs = append(group.StoreIDs, storeID)
		}
		if len(group.StoreIDs) > 0 {
			status.Pending = append(status.Pending, group)
		}
	}
}

// pendingGroupBytes is about what the times of a group take as JSON.
const pendingGroupBytes = 220

// Recall reads memory out of an Invariant's status, after a restart.
func Recall(status *v1alpha1.InvariantStatus) Memory {
	m := Memory{UnknownSince: status.UnknownSinceTime.Go(), Stores: map[string]Timer{}}
	for _, group := range status.Pending {
		for _, storeID := range group.StoreIDs {
			m.Stores[storeID] = Timer{
				FirstSeen:      group.FirstSeenTime.Go(),
				Since:          group.SinceTime.Go(),
				SatisfiedSince: group.SatisfiedSinceTime.Go(),
				UnknownSince:   group.UnknownSinceTime.Go(),
			}
		}
	}
	return m
}

func compareTimers(a, b Timer) int {
	return cmp.Or(a.FirstSeen.Compare(b.FirstSeen), a.Since.Compare(b.Since),
		a.SatisfiedSince.Compare(b.SatisfiedSince), a.UnknownSince.Compare(b.UnknownSince))
}

func timeOrNil(t time.Time) *v1alpha1.Time {
	if t.IsZero() {
		return nil
	}
	return v1alpha1.NewTime(t)
}

// Violations is how many stores a check found violated past their grace period, as memory is after the cycle.
func (m Memory) Violations(policy Invariant, now time.Time) int {
	count := 0
	for _, storeID := range policy.Judgement.Stores(verdict.Violated) {
		if timer, timed := m.Stores[storeID]; !timed || timer.isOver(policy, now) {
			count++
		}
	}
	return count
}

// Due are the stores that a check found violated past their grace period and that stand in no ticket, though they should, as memory is after
// the cycle.
func (m Memory) Due(policy Invariant, now time.Time) (stores []string) {
	if policy.Muted {
		return nil
	}
	for _, storeID := range policy.Judgement.Stores(verdict.Violated) {
		if timer, timed := m.Stores[storeID]; timed && timer.isOver(policy, now) {
			stores = append(stores, storeID)
		}
	}
	return stores
}

// isOver tells whether a violation's grace period is over.
func (t Timer) isOver(policy Invariant, now time.Time) bool {
	return now.Sub(t.Since) >= policy.GracePeriod
}
