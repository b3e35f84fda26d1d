package ledger

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// world is an API server without a network: the tickets, and what the Invariants' statuses remember. Beside it
// stands an independent record of what every check said.
type world struct {
	t *rapid.T
	// number is that of the newest ticket.
	number   int
	now      time.Time
	policies map[string]Invariant
	tickets  map[string]*v1alpha1.Ticket
	stored   map[string]v1alpha1.InvariantStatus
	memory   map[string]Memory
	said     map[Key][]saying
	// whole: the last cycle came to an end; only then is everything promised at once.
	whole bool
	// started: no cycle has run since the last start; the first one checks everything.
	started bool
}

// saying is what one check said of one key.
type saying struct {
	at    time.Time
	truth verdict.Truth
	// lost: a crash came before it was written down.
	lost bool
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: epoch, policies: map[string]Invariant{}, tickets: map[string]*v1alpha1.Ticket{},
		stored: map[string]v1alpha1.InvariantStatus{}, memory: map[string]Memory{}, said: map[Key][]saying{}}
	for i := range rapid.IntRange(1, 3).Draw(t, "invariants") {
		name := fmt.Sprintf("inv-%d", i)
		w.policies[name] = Invariant{
			Name:              name,
			Severity:          rapid.SampledFrom([]v1alpha1.Severity{v1alpha1.Critical, v1alpha1.Warning, v1alpha1.Info}).Draw(t, "severity"),
			GracePeriod:       time.Duration(rapid.SampledFrom([]int{0, 0, 30, 60}).Draw(t, "grace")) * time.Second,
			ResolveAfter:      time.Duration(rapid.SampledFrom([]int{0, 0, 30, 90}).Draw(t, "resolveAfter")) * time.Second,
			UnobservableAfter: time.Duration(rapid.SampledFrom([]int{0, 60, 120}).Draw(t, "unobservableAfter")) * time.Second,
			OnAbsent:          rapid.SampledFrom([]v1alpha1.OnAbsent{v1alpha1.OnAbsentClear, v1alpha1.OnAbsentKeep}).Draw(t, "onAbsent"),
			Flapping:          Flapping{Threshold: rapid.IntRange(2, 3).Draw(t, "threshold"), Window: time.Duration(rapid.SampledFrom([]int{90, 180, 600}).Draw(t, "window")) * time.Second},
		}
	}
	return w
}

var storeIDs = []string{"1", "2", "10"}

// judge draws what a cycle's checks say, and writes it into the record.
func (w *world) judge() map[string]Invariant {
	cycle := map[string]Invariant{}
	for _, name := range sortedKeys(w.policies) {
		policy := w.policies[name]
		if w.started || rapid.IntRange(0, 5).Draw(w.t, "due") > 0 {
			policy.Judgement = w.judgement(policy)
		}
		cycle[name] = policy
	}
	w.started = false
	return cycle
}

func (w *world) judgement(policy Invariant) *verdict.Judgement {
	if rapid.IntRange(0, 4).Draw(w.t, "fault") == 0 {
		for _, storeID := range storeIDs {
			w.say(policy, storeID, verdict.Unknown)
		}
		return &verdict.Judgement{Fault: noAnswer}
	}
	j := &verdict.Judgement{}
	for _, storeID := range storeIDs {
		switch truth := rapid.SampledFrom([]string{"ok", "ok", "bad", "bad", "unknown", "absent"}).Draw(w.t, "store "+storeID); truth {
		case "ok":
			j.Verdicts = append(j.Verdicts, verdict.Verdict{StoreID: storeID, Truth: verdict.Satisfied})
			w.say(policy, storeID, verdict.Satisfied)
		case "bad":
			j.Verdicts = append(j.Verdicts, verdict.Verdict{StoreID: storeID, Truth: verdict.Violated, Message: "broken"})
			w.say(policy, storeID, verdict.Violated)
		case "unknown":
			j.Verdicts = append(j.Verdicts, verdict.Verdict{StoreID: storeID, Fault: noAnswer})
			w.say(policy, storeID, verdict.Unknown)
		case "absent":
			w.say(policy, storeID, absentTruth(w, policy, storeID))
		}
	}
	return j
}

// absentTruth: a store that is gone is well, except that Keep keeps what a ticket holds.
func absentTruth(w *world, policy Invariant, storeID string) verdict.Truth {
	if policy.OnAbsent == v1alpha1.OnAbsentKeep && w.holders(Key{policy.Name, storeID, v1alpha1.Violated}) > 0 {
		return verdict.Unknown
	}
	return verdict.Satisfied
}

func (w *world) say(policy Invariant, storeID string, truth verdict.Truth) {
	key := Key{policy.Name, storeID, v1alpha1.Violated}
	w.said[key] = append(w.said[key], saying{at: w.now, truth: truth})
}

// holders is how many open tickets have an active violation with that key.
func (w *world) holders(key Key) int {
	n := 0
	for _, ticket := range w.tickets {
		if !ticket.IsOpen() {
			continue
		}
		for _, entry := range entriesOf(ticket) {
			if (Key{entry.Invariant, entry.StoreID, entry.Reason}) == key && entry.Active && !entry.Pending {
				n++
			}
		}
	}
	return n
}

// cycle runs one cycle. It crashes after so many writes, if that many come.
func (w *world) cycle(crashAfter int) {
	c := Cycle{Now: w.now, Monitor: "m", Invariants: w.judge()}
	plan := Decide(c, w.memory, slices.Collect(maps.Values(w.tickets)))
	writes := 0
	write := func(do func()) bool {
		if writes == crashAfter {
			return false
		}
		writes++
		do()
		return true
	}
	defer w.check(c)
	if w.whole = w.write(c, plan, write); !w.whole {
		w.lose()
		w.restart()
	}
}

// write writes a plan in the order of the write protocol, and tells whether it came to the end.
func (w *world) write(c Cycle, plan Plan, write func(func()) bool) bool {
	if len(plan.Open) > 0 {
		w.checkOpening(c, plan.Open)
		NoteRecurrences(plan.Open, slices.Collect(maps.Values(w.tickets)), c.Invariants)
		for _, part := range Split(plan.Open) {
			w.number++
			ticket := NewTicket("ns", "sys", w.number, "", "", part, c.Invariants, w.now)
			if !write(func() { w.tickets[ticket.Name] = ticket }) {
				return false
			}
			if !write(func() { w.update(ticket, FirstStatus(ticket, c)) }) {
				return false
			}
		}
		plan.Opened(plan.Open)
	}
	for _, u := range plan.Updates {
		if !write(func() { w.update(u.Ticket, u.Status) }) {
			return false
		}
	}
	w.memory = plan.Memory
	for _, name := range sortedKeys(w.policies) {
		done := write(func() {
			status := v1alpha1.InvariantStatus{}
			w.memory[name].Record(&status)
			w.stored[name] = status
		})
		if !done {
			return false
		}
	}
	return true
}

// lose marks what the last cycle said as not written down: a grace period that began in it begins again.
func (w *world) lose() {
	for _, history := range w.said {
		if last := &history[len(history)-1]; last.at.Equal(w.now) {
			last.lost = true
		}
	}
}

func (w *world) update(ticket *v1alpha1.Ticket, status v1alpha1.TicketStatus) {
	before := w.tickets[ticket.Name].Status
	if !before.State.CanBecome(status.State) {
		w.t.Fatalf("%s went from %s back to %s", ticket.Name, before.State, status.State)
	}
	if before.Acknowledgement != nil && status.Acknowledgement == nil {
		w.t.Fatalf("%s lost its acknowledgement", ticket.Name)
	}
	if status.Occurrences < before.Occurrences {
		w.t.Fatalf("%s counts backwards, from %d to %d", ticket.Name, before.Occurrences, status.Occurrences)
	}
	w.checkFlapping(ticket, status)
	if before.State != v1alpha1.Resolved && status.State == v1alpha1.Resolved {
		w.checkResolving(ticket, status)
	}
	next := ticket.DeepCopy()
	next.Status = status
	w.tickets[ticket.Name] = next
}

// restart forgets all that is not in the API server.
func (w *world) restart() {
	w.memory, w.started = map[string]Memory{}, true
	for name, status := range w.stored {
		w.memory[name] = Recall(&status)
	}
}

func (w *world) checkResolving(ticket *v1alpha1.Ticket, status v1alpha1.TicketStatus) {
	if ticket.Held() {
		w.t.Fatalf("%s was resolved under a hold", ticket.Name)
	}
	for _, entry := range status.Violations {
		if entry.Pending || entry.Reason != v1alpha1.Violated {
			continue
		}
		key := Key{entry.Invariant, entry.StoreID, entry.Reason}
		if w.lastKnown(key) != verdict.Satisfied {
			w.t.Fatalf("%s was resolved, but %v was last known to be violated: entry %+v, record %v", ticket.Name, key, entry, w.said[key])
		}
	}
}

// checkFlapping: what flaps did come back threshold times within a window, no longer than a window ago.
func (w *world) checkFlapping(ticket *v1alpha1.Ticket, status v1alpha1.TicketStatus) {
	if !ticket.IsOpen() {
		return
	}
	flapping := false
	for _, entry := range status.Violations {
		flapping = flapping || entry.Flapping
		key := Key{entry.Invariant, entry.StoreID, entry.Reason}
		if !entry.Flapping || key.Reason != v1alpha1.Violated {
			continue
		}
		policy := w.policies[key.Invariant].Flapping
		returns := w.returns(key)
		if !slices.ContainsFunc(returns, func(last time.Time) bool {
			within := 0
			for _, t := range returns {
				if !t.After(last) && last.Sub(t) <= policy.Window {
					within++
				}
			}
			return within >= policy.Threshold && w.now.Sub(last) < policy.Window
		}) {
			w.t.Fatalf("%s says that %v is flapping, which came back at %v: want %+v", ticket.Name, key, returns, policy)
		}
	}
	if c := v1alpha1.FindCondition(status.Conditions, v1alpha1.ConditionFlapping); flapping != (c != nil && c.Status == "True") {
		w.t.Fatalf("%s: the condition %+v does not say what the entries say", ticket.Name, c)
	}
}

// returns are the times at which a key was violated after a check had found it satisfied. Where a crash came before
// that was written down, it may be noted by the next check.
func (w *world) returns(key Key) []time.Time {
	var returns []time.Time
	before := verdict.Unknown
	for _, s := range w.said[key] {
		if s.truth == verdict.Violated && before == verdict.Satisfied {
			returns = append(returns, s.at)
		}
		if s.truth == verdict.Satisfied || (s.truth == verdict.Violated && !s.lost) {
			before = s.truth
		}
	}
	return returns
}

func (w *world) lastKnown(key Key) verdict.Truth {
	for _, s := range slices.Backward(w.said[key]) {
		if s.truth != verdict.Unknown {
			return s.truth
		}
	}
	return verdict.Unknown
}

func (w *world) checkOpening(c Cycle, batch []v1alpha1.Violation) {
	for _, v := range batch {
		key := keyOf(v)
		if key.Reason == v1alpha1.Unobservable {
			continue
		}
		history := w.said[key]
		if len(history) == 0 || history[len(history)-1] != (saying{at: w.now, truth: verdict.Violated}) {
			w.t.Fatalf("a ticket opens for %v, which this cycle did not see violated", key)
		}
		if age := w.now.Sub(v.FirstSeenTime.Go()); !v.Pending && age < c.Invariants[key.Invariant].GracePeriod {
			w.t.Fatalf("a ticket opens for %v after %v, inside its grace period", key, age)
		}
		first := v.FirstSeenTime.Go()
		if !slices.ContainsFunc(history, func(s saying) bool { return s.at.Equal(first) && s.truth == verdict.Violated }) {
			w.t.Fatalf("%v is said to be first seen at %v, when no check saw it", key, first)
		}
		if _, since := w.violatedFor(history); first.After(since) {
			w.t.Fatalf("%v is said to be first seen at %v, when it had been violated since %v: %v", key, first, since, history)
		}
	}
}

// check compares the tickets with the record.
func (w *world) check(c Cycle) {
	for key, history := range w.said {
		holders := w.holders(key)
		if holders > 1 {
			w.t.Fatalf("%d open tickets hold %v", holders, key)
		}
		last := history[len(history)-1]
		known, _ := w.violatedFor(history)
		if holders == 0 && last == (saying{at: w.now, truth: verdict.Violated}) && known >= c.Invariants[key.Invariant].GracePeriod && w.whole {
			w.t.Fatalf("%v is violated and has no ticket", key)
		}
	}
}

// violatedFor is how long a key has been known to be violated without a check that found it satisfied, and since when. The time after a
// check that knew nothing, or that nobody wrote down, does not count.
func (w *world) violatedFor(history []saying) (known time.Duration, since time.Time) {
	known = -1
	next := w.now
	for _, s := range slices.Backward(history) {
		if s.truth == verdict.Satisfied {
			break
		}
		if s.truth == verdict.Violated && !s.lost {
			known, since = max(known, 0)+next.Sub(s.at), s.at
		}
		next = s.at
	}
	return known, since
}

func (w *world) anyTicket(wanted func(*v1alpha1.Ticket) bool) *v1alpha1.Ticket {
	var names []string
	for name, ticket := range w.tickets {
		if wanted(ticket) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return w.tickets[rapid.SampledFrom(names).Draw(w.t, "ticket")]
}

func (w *world) change(ticket *v1alpha1.Ticket, change func(*v1alpha1.Ticket)) {
	if ticket == nil {
		return
	}
	next := ticket.DeepCopy()
	change(next)
	w.tickets[ticket.Name] = next
}

func TestNoHistoryBreaksTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		isOpen := func(ticket *v1alpha1.Ticket) bool { return ticket.IsOpen() }
		cycle := func(crashAfter int) {
			w.now = w.now.Add(30 * time.Second)
			w.cycle(crashAfter)
		}
		t.Repeat(map[string]func(*rapid.T){
			"cycle":  func(t *rapid.T) { w.t = t; cycle(-1) },
			"cycle ": func(t *rapid.T) { w.t = t; cycle(-1) },
			"crash":  func(t *rapid.T) { w.t = t; cycle(rapid.IntRange(0, 6).Draw(t, "writes")) },
			"restart": func(t *rapid.T) {
				w.t = t
				w.restart()
			},
			"hold": func(t *rapid.T) {
				w.t = t
				w.change(w.anyTicket(isOpen), func(ticket *v1alpha1.Ticket) {
					ticket.Annotations = map[string]string{v1alpha1.HoldAnnotation: "true"}
				})
			},
			"unhold": func(t *rapid.T) {
				w.t = t
				w.change(w.anyTicket((*v1alpha1.Ticket).Held), func(ticket *v1alpha1.Ticket) { ticket.Annotations = nil })
			},
			"delete": func(t *rapid.T) {
				w.t = t
				if ticket := w.anyTicket(isOpen); ticket != nil {
					Restore(w.memory, ticket)
					delete(w.tickets, ticket.Name)
				}
				// A crash before the next cycle would lose what only the deleted ticket had.
				cycle(-1)
			},
			"acknowledge": func(t *rapid.T) {
				w.t = t
				w.change(w.anyTicket(isOpen), func(ticket *v1alpha1.Ticket) {
					if ticket.Status.State.CanBecome(v1alpha1.Acknowledged) {
						ticket.Status.State = v1alpha1.Acknowledged
						ticket.Status.Acknowledgement = &v1alpha1.Acknowledgement{By: "ana"}
					}
				})
			},
			"resolve": func(t *rapid.T) {
				w.t = t
				w.change(w.anyTicket(isOpen), func(ticket *v1alpha1.Ticket) {
					ticket.Status.State = v1alpha1.Resolved
					ticket.Status.Resolution = &v1alpha1.Resolution{By: "ana", Reason: v1alpha1.Manual}
				})
			},
		})
	})
}

func TestACycleIsCountedOnceThoughAnotherMonitorHasCountedALaterOne(t *testing.T) {
	violated := map[string]Invariant{"inv": {Name: "inv", Judgement: &verdict.Judgement{Verdicts: []verdict.Verdict{{StoreID: "1", Truth: verdict.Violated}}}}}
	earlier, later := epoch, epoch.Add(30*time.Second)
	ticket := NewTicket("ns", "sys", 1, "", "", violations(1, "broken"), violated, earlier)
	ticket.Status = FirstStatus(ticket, Cycle{Now: earlier, Monitor: "a", Invariants: violated})
	for _, now := range []time.Time{later, earlier} {
		for _, update := range Decide(Cycle{Now: now, Monitor: "a", Invariants: violated, Overlap: time.Minute}, nil, []*v1alpha1.Ticket{ticket}).Updates {
			ticket.Status = update.Status
		}
	}
	if s := ticket.Status; s.Occurrences != 2 || s.Violations[0].Occurrences != 2 || !s.LastSeenTime.Go().Equal(later) {
		t.Errorf("two cycles count %d and %d, last seen %v, want 2, 2 and %v", s.Occurrences, s.Violations[0].Occurrences, s.LastSeenTime, later)
	}
}

func TestCyclesCountOnWhenTheClockIsSetBack(t *testing.T) {
	violated := map[string]Invariant{"inv": {Name: "inv", Judgement: &verdict.Judgement{Verdicts: []verdict.Verdict{{StoreID: "1", Truth: verdict.Violated}}}}}
	for _, back := range []time.Duration{2 * time.Minute, time.Hour} {
		ticket := NewTicket("ns", "sys", 1, "", "", violations(1, "broken"), violated, epoch)
		ticket.Status = FirstStatus(ticket, Cycle{Now: epoch, Invariants: violated})
		now := epoch.Add(time.Second - back)
		for _, update := range Decide(Cycle{Now: now, Invariants: violated, Overlap: time.Minute}, nil, []*v1alpha1.Ticket{ticket}).Updates {
			ticket.Status = update.Status
		}
		if s := ticket.Status; s.Occurrences != 2 || !s.LastSeenTime.Go().Equal(now) {
			t.Errorf("set back by %v, two cycles count %d, last seen %v, want 2 and %v", back, s.Occurrences, s.LastSeenTime, now)
		}
	}
}
