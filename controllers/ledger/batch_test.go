package ledger

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

func violations(n int, message string) []v1alpha1.Violation {
	batch := make([]v1alpha1.Violation, 0, n)
	for i := range n {
		batch = append(batch, v1alpha1.Violation{Invariant: "inv", StoreID: fmt.Sprint(i + 1), Reason: v1alpha1.Violated,
			Severity: v1alpha1.Warning, Message: message, FirstSeenTime: *v1alpha1.NewTime(epoch)})
	}
	return batch
}

func TestRule3ABatchIsSplitByCountAndBySizeAndNothingIsDropped(t *testing.T) {
	for name, c := range map[string]struct {
		batch []v1alpha1.Violation
		parts int
	}{
		"one violation":              {violations(1, "m"), 1},
		"as many as fit":             {violations(MaxViolations, "m"), 1},
		"one more than fit":          {violations(MaxViolations+1, "m"), 2},
		"messages that fill tickets": {violations(1000, strings.Repeat("x", MaxMessage)), 3},
	} {
		t.Run(name, func(t *testing.T) {
			parts := Split(c.batch)
			if len(parts) != c.parts {
				t.Errorf("%d parts, want %d", len(parts), c.parts)
			}
			total := 0
			for _, part := range parts {
				total += len(part)
				encoded, err := json.Marshal(part)
				if err != nil || len(part) > MaxViolations || len(encoded) > MaxSpecBytes+2 {
					t.Errorf("a part has %d violations in %d bytes (%v)", len(part), len(encoded), err)
				}
			}
			if total != len(c.batch) {
				t.Errorf("%d of %d violations are left", total, len(c.batch))
			}
		})
	}
}

func TestASummaryNamesTheWorstFirstAndCountsTheRest(t *testing.T) {
	down := v1alpha1.Violation{Invariant: "store-down", StoreID: "3", Severity: v1alpha1.Critical}
	whole := v1alpha1.Violation{Invariant: "quorum", Severity: v1alpha1.Critical}
	blind := v1alpha1.Violation{Invariant: "latency", Reason: v1alpha1.Unobservable}
	var dozen []v1alpha1.Violation
	for i := range 12 {
		dozen = append(dozen, v1alpha1.Violation{Invariant: "is-up", StoreID: fmt.Sprintf("tikv-0-%d", i)})
	}
	for want, batch := range map[string][]v1alpha1.Violation{
		"store-down(3)":                           {down},
		"store-down(3), quorum":                   {down, whole},
		"raft-store-apply-lag-is-small(2 stores)": {{Invariant: "raft-store-apply-lag-is-small", StoreID: "10.0.0.1:20160"}, {Invariant: "raft-store-apply-lag-is-small", StoreID: "10.0.0.2:20160"}},
		"is-up(tikv-0-0,tikv-0-1,tikv-0-2,+9)":    dozen,
		"inv(1,2,3,4,5,+1995)":                    violations(2000, ""),
		"store-down(3), latency unobservable":     {down, blind},
	} {
		if got := Summary(batch); got != want {
			t.Errorf("the summary is %q, want %q", got, want)
		}
	}
	var many []v1alpha1.Violation
	for i := range 100 {
		many = append(many, v1alpha1.Violation{Invariant: fmt.Sprintf("invariant-%d", i), StoreID: strings.Repeat("s", 300)})
	}
	if got := Summary(many); len(got) > maxSummary || !strings.Contains(got, ", +") {
		t.Errorf("a long summary has %d bytes: %q", len(got), got)
	}
}

func TestStoreIDsThatAreNumbersAreOrderedAsNumbers(t *testing.T) {
	batch := violations(11, "")
	batch[0], batch[10] = batch[10], batch[0]
	sortViolations(batch)
	for i, v := range batch {
		if want := fmt.Sprint(i + 1); v.StoreID != want {
			t.Errorf("place %d has store %s, want %s", i, v.StoreID, want)
		}
	}
}

func TestATicketHasTheLabelsOnWhichItsViolationsAgree(t *testing.T) {
	invariants := map[string]Invariant{
		"a": {Labels: map[string]string{"team": "storage", "tier": "1"}},
		"b": {Labels: map[string]string{"team": "storage", "tier": "2", "zone": "x"}},
	}
	batch := []v1alpha1.Violation{{Invariant: "a"}, {Invariant: "b"}}
	labels := NewTicket("ns", "sys", 1, "", "", batch, invariants, epoch).Labels
	if len(labels) != 1 || labels["team"] != "storage" {
		t.Errorf("labels are %v, want team=storage alone", labels)
	}
}

func TestPreviousIsTheNewestResolvedTicketWithOneOfTheViolations(t *testing.T) {
	ticket := func(number int, state v1alpha1.TicketState, store string) *v1alpha1.Ticket {
		made := NewTicket("ns", "sys", number, "", "", []v1alpha1.Violation{{Invariant: "inv", StoreID: store, Reason: v1alpha1.Violated}}, nil, epoch)
		made.Status.State = state
		return made
	}
	tickets := []*v1alpha1.Ticket{ticket(2, v1alpha1.Resolved, "1"), ticket(9, v1alpha1.Resolved, "1"), ticket(10, v1alpha1.Resolved, "2"), ticket(11, v1alpha1.Open, "1")}
	if got := Previous(violations(1, ""), tickets, 12); got != "sys-9" {
		t.Errorf("the ticket before is %q, want sys-9", got)
	}
}

func TestCountersThatWereNotWrittenAreCaughtUpWith(t *testing.T) {
	ticket := NewTicket("ns", "sys", 1, "", "", violations(2, "m"), nil, epoch)
	c := Cycle{Now: epoch, Monitor: "m"}
	ticket.Status = FirstStatus(ticket, c)
	policy := Invariant{Name: "inv", Judgement: &verdict.Judgement{Verdicts: []verdict.Verdict{{StoreID: "1", Truth: verdict.Violated}, {StoreID: "2", Truth: verdict.Violated}}}}
	c.Invariants = map[string]Invariant{"inv": policy}
	c.Now = epoch.Add(time.Minute)
	c.Uncounted = map[string]Uncounted{"sys-1": {Cycles: 3, LastSeen: epoch.Add(30 * time.Second)}}
	plan := Decide(c, nil, []*v1alpha1.Ticket{ticket})
	if len(plan.Updates) != 1 || !plan.Updates[0].CountersOnly {
		t.Fatalf("want one update of counters, got %+v", plan.Updates)
	}
	status := plan.Updates[0].Status
	if status.Occurrences != 5 || status.Violations[0].Occurrences != 5 {
		t.Errorf("occurrences are %d and %d, want 5: the first, three that were not written, and this one", status.Occurrences, status.Violations[0].Occurrences)
	}
}

func TestMemorySurvivesTheStatusOfAnInvariant(t *testing.T) {
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	memory := Memory{UnknownSince: at(9), Stores: map[string]Timer{
		"1": {FirstSeen: at(1), Since: at(2)}, "2": {FirstSeen: at(1), Since: at(2)}, "3": {UnknownSince: at(4)},
		"4": {FirstSeen: at(1), Since: at(2), SatisfiedSince: at(5)}, "": {FirstSeen: at(7), Since: at(7)},
	}}
	var status v1alpha1.InvariantStatus
	memory.Record(&status)
	if len(status.Pending) != 4 || status.PendingTruncated != 0 {
		t.Errorf("want four groups of equal times, got %+v", status.Pending)
	}
	if got := Recall(&status); fmt.Sprint(got) != fmt.Sprint(memory) {
		t.Errorf("recalled %v, want %v", got, memory)
	}
}

func TestWhatDoesNotFitIntoAStatusIsCounted(t *testing.T) {
	memory := Memory{Stores: map[string]Timer{}}
	for i := range 3000 {
		memory.Stores[fmt.Sprintf("%0300d", i)] = Timer{FirstSeen: epoch, Since: epoch}
	}
	var status v1alpha1.InvariantStatus
	memory.Record(&status)
	kept := 0
	for _, group := range status.Pending {
		kept += len(group.StoreIDs)
	}
	if kept == 0 || kept+int(status.PendingTruncated) != 3000 {
		t.Errorf("%d kept and %d counted of 3000", kept, status.PendingTruncated)
	}
}

func TestTimesOfAClockThatRanAheadHoldNothingUp(t *testing.T) {
	memory := map[string]Memory{"inv": {Stores: map[string]Timer{"1": {FirstSeen: epoch.Add(time.Hour), Since: epoch.Add(time.Hour)}}}}
	policy := Invariant{Name: "inv", GracePeriod: time.Minute, Judgement: &verdict.Judgement{Verdicts: []verdict.Verdict{{StoreID: "1", Truth: verdict.Violated}}}}
	for i, want := range []int{0, 0, 1} {
		c := Cycle{Now: epoch.Add(time.Duration(i) * 30 * time.Second), Invariants: map[string]Invariant{"inv": policy}}
		plan := Decide(c, memory, nil)
		if len(plan.Open) != want {
			t.Errorf("cycle %d opens %d violations, want %d", i, len(plan.Open), want)
		}
		memory = plan.Memory
	}
}

// cycleOf runs a cycle that finds stores 1, 2 and so on so, writes its updates into the ticket, and returns its plan.
func cycleOf(policy Invariant, ticket *v1alpha1.Ticket, memory map[string]Memory, now time.Time, truths ...verdict.Truth) Plan {
	policy.Judgement = &verdict.Judgement{}
	for i, truth := range truths {
		v := verdict.Verdict{StoreID: fmt.Sprint(i + 1), Truth: truth, Fault: &verdict.Fault{Reason: verdict.EvaluationFailed}}
		policy.Judgement.Verdicts = append(policy.Judgement.Verdicts, v)
	}
	plan := Decide(Cycle{Now: now, Invariants: map[string]Invariant{policy.Name: policy}}, memory, []*v1alpha1.Ticket{ticket})
	for _, u := range plan.Updates {
		u.Ticket.Status = u.Status
	}
	return plan
}

func TestAStoreThatIsUnknownWhenTheClockIsSetBackIsUnobservableInTime(t *testing.T) {
	policy := Invariant{Name: "inv", UnobservableAfter: time.Minute}
	ticket := NewTicket("ns", "sys", 1, "", "", violations(1, "m"), nil, epoch)
	plan := cycleOf(policy, ticket, nil, epoch.Add(time.Hour), verdict.Unknown)
	for i, want := range []int{0, 0, 1} {
		plan = cycleOf(policy, ticket, plan.Memory, epoch.Add(time.Duration(i)*30*time.Second), verdict.Unknown)
		if len(plan.Open) != want {
			t.Errorf("cycle %d after the clock was set back opens %d violations, want %d", i, len(plan.Open), want)
		}
	}
}

func TestAnInvariantIsObservableAgainOnceEveryStoreIsKnown(t *testing.T) {
	policy := Invariant{Name: "inv", UnobservableAfter: time.Minute}
	blind := []v1alpha1.Violation{{Invariant: "inv", Reason: v1alpha1.Unobservable}}
	ticket := NewTicket("ns", "sys", 1, "", "", blind, nil, epoch)
	plan := cycleOf(policy, ticket, nil, epoch.Add(30*time.Second), verdict.Satisfied, verdict.Unknown)
	if !ticket.IsOpen() {
		t.Error("resolved when the one store was known again, and the other no more")
	}
	cycleOf(policy, ticket, plan.Memory, epoch.Add(60*time.Second), verdict.Satisfied, verdict.Violated)
	if ticket.IsOpen() {
		t.Errorf("still open when every store is known: %+v", ticket.Status.Violations)
	}
}

func TestWhatWasWellForAMomentHasNotClearedWhenTheClockIsSetBack(t *testing.T) {
	policy := Invariant{Name: "inv", ResolveAfter: time.Minute, UnobservableAfter: time.Minute}
	ticket := NewTicket("ns", "sys", 1, "", "", violations(1, "m"), nil, epoch)
	plan := cycleOf(policy, ticket, nil, epoch.Add(time.Second), verdict.Satisfied)
	plan = cycleOf(policy, ticket, plan.Memory, epoch.Add(time.Hour), verdict.Unknown)
	cycleOf(policy, ticket, plan.Memory, epoch.Add(3*time.Second), verdict.Satisfied)
	if !ticket.IsOpen() {
		t.Errorf("resolved although the store was well for two seconds of a minute: %+v", ticket.Status.Violations)
	}
}

func TestASummaryAlwaysNamesTheFirstInvariant(t *testing.T) {
	long := strings.Repeat("long-", 40)
	for _, batch := range [][]v1alpha1.Violation{{{Invariant: long}}, {{Invariant: long, StoreID: "1"}, {Invariant: "b"}}} {
		if got := Summary(batch); !strings.HasPrefix(got, "long-long-long-") || len(got) > maxSummary {
			t.Errorf("the summary is %q", got)
		}
	}
}

func TestATicketWithNothingThatCountsIsNotResolved(t *testing.T) {
	pending := violations(1, "m")
	pending[0].Pending = true
	ticket := NewTicket("ns", "sys", 1, "", "", pending, nil, epoch)
	if status := FirstStatus(ticket, Cycle{Now: epoch}); status.State != v1alpha1.Open {
		t.Errorf("a ticket of what is in its grace period is %s", status.State)
	}
}

func TestACounterStaysAtTheMostThatTheAPIServerTakes(t *testing.T) {
	if got := plus(2147483646, 5); got != 2147483647 {
		t.Errorf("the counter is %d", got)
	}
}

func TestTicketsMadeByHandHoldNothingThatARealOneHolds(t *testing.T) {
	genuine := NewTicket("ns", "sys", 7, "", "", violations(1, "m"), nil, epoch)
	odd := genuine.DeepCopy()
	odd.Name = "by-hand"
	b := newBook(Cycle{Now: epoch}, []*v1alpha1.Ticket{odd, genuine})
	if l := b.held[Key{"inv", "1", v1alpha1.Violated}]; l.page.ticket != genuine {
		t.Errorf("%s holds the violation, want sys-7", l.page.ticket.Name)
	}
}

// withoutInvariants is a cycle a minute later in which all Invariants are deleted.
func (l *life) withoutInvariants() {
	l.now = l.now.Add(time.Minute)
	for _, u := range Decide(Cycle{Now: l.now, Monitor: "m", Invariants: map[string]Invariant{}}, nil, l.tickets).Updates {
		u.Ticket.Status = u.Status
	}
	l.memory = nil
}

func TestWhatClearedAndIsUnknownKeepsNoTicketOpenOnceItsInvariantIsDeleted(t *testing.T) {
	l := newLife(t)
	l.policy.UnobservableAfter = time.Hour
	l.look(0, stores(verdict.Violated, "1", "2"))
	l.look(time.Minute, &verdict.Judgement{Verdicts: append(stores(verdict.Satisfied, "1").Verdicts, stores(verdict.Violated, "2").Verdicts...)})
	l.look(time.Minute, &verdict.Judgement{Fault: noAnswer})
	l.withoutInvariants()
	if r := l.last().Status.Resolution; l.last().IsOpen() || r.Reason != v1alpha1.InvariantDeleted {
		t.Errorf("want it resolved as InvariantDeleted, got %+v", l.last().Status)
	}
}

func TestWhatCountsOnceItsInvariantWasMadeAgainClearsAsCleared(t *testing.T) {
	l := newLifeWithGrace(t)
	l.look(0, stores(verdict.Violated, "1"))
	l.look(time.Hour, stores(verdict.Violated, "1", "2"))
	ticket := l.last()
	ticket.Annotations = map[string]string{v1alpha1.HoldAnnotation: "true"}
	l.withoutInvariants()
	l.look(time.Minute, stores(verdict.Violated, "2"))
	l.look(time.Hour, stores(verdict.Violated, "2"))
	ticket.Annotations = nil
	l.look(time.Minute, stores(verdict.Satisfied, "1", "2"))
	if r := ticket.Status.Resolution; r == nil || r.Reason != v1alpha1.Cleared {
		t.Errorf("resolved as %+v, want Cleared", r)
	}
}
