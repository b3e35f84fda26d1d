package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

var noAnswer = &verdict.Fault{Reason: verdict.Timeout, Message: "no answer"}

func TestWhatClearedAndWentAwayKeepsNoTicketOpenUnderKeepAlsoAfterALookThatKnewNothing(t *testing.T) {
	l := newLife(t)
	l.policy.OnAbsent, l.policy.UnobservableAfter = v1alpha1.OnAbsentKeep, time.Hour
	l.look(0, stores(verdict.Violated, "1", "2"))
	l.look(time.Minute, &verdict.Judgement{Verdicts: slices.Concat(stores(verdict.Satisfied, "1").Verdicts, stores(verdict.Violated, "2").Verdicts)})
	l.look(time.Minute, &verdict.Judgement{Fault: noAnswer})
	l.look(time.Minute, stores(verdict.Violated, "2"))
	l.look(time.Minute, stores(verdict.Satisfied, "2"))
	if l.last().IsOpen() {
		t.Errorf("the ticket stays open: %+v", l.last().Status)
	}
}

func TestWhatClearedMayBeBackWhileAReadingIsOfAStoreThatCannotBeTold(t *testing.T) {
	for _, onAbsent := range []v1alpha1.OnAbsent{v1alpha1.OnAbsentKeep, v1alpha1.OnAbsentClear} {
		t.Run(string(onAbsent), func(t *testing.T) {
			l := newLife(t)
			l.policy.OnAbsent, l.policy.UnobservableAfter = onAbsent, time.Hour
			l.look(0, stores(verdict.Violated, "1", "2"))
			l.look(time.Minute, &verdict.Judgement{Verdicts: slices.Concat(stores(verdict.Satisfied, "1").Verdicts, stores(verdict.Violated, "2").Verdicts)})
			l.look(time.Minute, &verdict.Judgement{Fault: noAnswer})
			incomplete := stores(verdict.Satisfied, "2")
			incomplete.Incomplete = true
			l.look(time.Minute, incomplete)
			if !l.last().IsOpen() {
				t.Errorf("the ticket is resolved: %+v", l.last().Status)
			}
		})
	}
}

func TestMemoryDoesNotGrowWithoutEndWhileAReadingIsOfAStoreThatCannotBeTold(t *testing.T) {
	l := newLife(t)
	l.policy.GracePeriod, l.policy.UnobservableAfter = time.Hour, 24*time.Hour
	const each = 1000
	for round := range 15 {
		ids := make([]string, 0, each)
		for i := range each {
			ids = append(ids, fmt.Sprintf("pod-%d-%d", round, i))
		}
		judgement := stores(verdict.Violated, ids...)
		judgement.Incomplete = true
		l.look(time.Minute, judgement)
	}
	remembered := l.memory[l.policy.Name].Stores
	if n := len(remembered); n != maxPendingStores {
		t.Errorf("%d stores are remembered, want %d", n, maxPendingStores)
	}
	for storeID, want := range map[string]bool{"pod-14-0": true, "pod-5-0": true, "pod-0-0": false} {
		if _, is := remembered[storeID]; is != want {
			t.Errorf("%s is remembered: %v, want %v", storeID, is, want)
		}
	}
}

func TestAViolationThatSomebodyWroteTwiceIntoATicketIsOne(t *testing.T) {
	l := newLife(t)
	l.policy.UnobservableAfter = time.Hour
	l.after(0, true)
	l.last().Spec.Violations = append(l.last().Spec.Violations, l.last().Spec.Violations...)
	l.after(time.Minute, true)
	l.look(time.Minute, &verdict.Judgement{Fault: noAnswer})
	for _, e := range l.last().Status.Violations {
		if !e.Active {
			t.Errorf("it is not active: %+v", e)
		}
	}
	if !l.last().IsOpen() {
		t.Errorf("the ticket is resolved: %+v", l.last().Status)
	}
	l.after(time.Minute, false)
	if l.last().IsOpen() {
		t.Errorf("the ticket is open, and all is well: %+v", l.last().Status)
	}
}

// stores is what a look says that saw the same of these stores.
func stores(truth verdict.Truth, storeIDs ...string) *verdict.Judgement {
	j := &verdict.Judgement{}
	for _, storeID := range storeIDs {
		j.Verdicts = append(j.Verdicts, verdict.Verdict{StoreID: storeID, Truth: truth, Message: "down"})
	}
	return j
}

func TestAGracePeriodThatACrashLeftInATicketAloneEndsWithAStoreThatIsGone(t *testing.T) {
	l := newLifeWithGrace(t)
	l.policy.OnAbsent = v1alpha1.OnAbsentClear
	l.look(0, stores(verdict.Violated, "1"))
	l.look(time.Hour, stores(verdict.Violated, "1", "2"))
	l.memory = nil
	l.look(time.Hour, stores(verdict.Violated, "1"))
	l.look(time.Hour, stores(verdict.Violated, "1", "2"))
	if v := l.last().Status.Violations[1]; !v.Pending {
		t.Errorf("it counts at the first look that saw it again: %+v", v)
	}
}
