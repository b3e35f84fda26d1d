package invariants

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/ledger"
	"invariant.dev/operator/controllers/verdict"
)

// evidenceTime is how long all snapshots of one invariant may take, as in the monitor.
const evidenceTime = 5 * time.Second

// report is what a check found, as -o json prints it.
type report struct {
	CheckedTime *v1alpha1.Time `json:"checkedTime"`
	Items       []item         `json:"items"`
}

// item is what a check found of one invariant.
type item struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	System    string            `json:"system"`
	Severity  v1alpha1.Severity `json:"severity"`
	Truth     string            `json:"truth"`
	Reason    string            `json:"reason,omitempty"`
	Message   string            `json:"message,omitempty"`
	Stores    []store           `json:"stores"`

	invariant *v1alpha1.Invariant
	policy    ledger.Invariant
}

// store is what a check found of one store.
type store struct {
	StoreID  string                   `json:"storeID"`
	Truth    string                   `json:"truth"`
	Reason   string                   `json:"reason,omitempty"`
	Message  string                   `json:"message,omitempty"`
	Snapshot []v1alpha1.SnapshotValue `json:"snapshot,omitempty"`
}

// newItem puts what the judge said into the report: violated stores first, then what is unknown, and the snapshots of the
// first.
func newItem(ctx context.Context, invariant *v1alpha1.Invariant, compiled *judge.Program, result judge.Result, now time.Time, ask judge.Ask) item {
	policy := ledger.PolicyOf(invariant, now)
	i := item{
		Namespace: invariant.Namespace,
		Name:      invariant.Name,
		System:    invariant.SystemName(),
		Severity:  policy.Severity,
		Truth:     result.Truth().String(),
		Stores:    []store{},
		invariant: invariant,
		policy:    policy,
	}
	if fault := result.FirstFault(); fault != nil && result.Truth() == verdict.Unknown {
		i.Reason, i.Message = string(fault.Reason), fault.Message
	}
	verdicts := slices.SortedStableFunc(slices.Values(result.Verdicts), func(a, b verdict.Verdict) int { return cmp.Compare(rank(a.Truth), rank(b.Truth)) })
	for n, v := range verdicts {
		s := store{StoreID: v.StoreID, Truth: v.Truth.String(), Message: verdict.Truncate(v.Message, ledger.MaxMessage)}
		if v.Fault != nil {
			s.Reason, s.Message = string(v.Fault.Reason), v.Fault.Message
		}
		if v.Truth == verdict.Violated && n < evidence {
			s.Snapshot = compiled.Snapshot(ctx, v.StoreID, result.Violating[v.StoreID], now, ask)
		}
		i.Stores = append(i.Stores, s)
	}
	return i
}

func rank(t verdict.Truth) int {
	return slices.Index([]verdict.Truth{verdict.Violated, verdict.Unknown, verdict.Satisfied}, t)
}

// count is how many stores the check says that of.
func (i item) count(t verdict.Truth) int {
	n := 0
	for _, s := range i.Stores {
		if s.Truth == t.String() {
			n++
		}
	}
	return n
}

// exitCode is 0 if all is satisfied, 1 if something is violated, and otherwise 2.
func (r report) exitCode() int {
	code := exitSatisfied
	for _, i := range r.Items {
		switch {
		case i.Truth == verdict.Violated.String():
			return exitViolated
		case i.Truth == verdict.Unknown.String():
			code = exitUnknown
		}
	}
	return code
}

// next says what the monitor makes of what the check found.
func (i item) next(now time.Time) string {
	until, err := i.invariant.MutedUntil()
	switch {
	case i.invariant.Spec.Suspend:
		return "it is suspended: the monitor does not check it"
	case err != nil:
		return err.Error()
	case i.Truth == verdict.Satisfied.String():
		return "the monitor has nothing to do"
	case now.Before(until):
		return "it is muted until " + until.UTC().Format(time.RFC3339) + ": the monitor opens no ticket"
	case i.Reason == string(verdict.FirstReading):
		return "a single check has nothing to compare with: the monitor gives a verdict from its second check on"
	case i.Truth == verdict.Unknown.String():
		return fmt.Sprintf("the monitor opens and resolves nothing by it; after %v that is a violation of its own, Unobservable", i.policy.UnobservableAfter)
	case i.policy.GracePeriod > 0:
		return fmt.Sprintf("the monitor opens a ticket once this has lasted for the gracePeriod of %v", i.policy.GracePeriod)
	default:
		return "the monitor opens a ticket at once, unless an open one holds it"
	}
}
