package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"invariant.dev/operator/api/v1alpha1"
)

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

func hasKey(v Version, k key) bool {
	return slices.ContainsFunc(v.Ticket.Spec.Violations, func(violation v1alpha1.Violation) bool { return keyOf(v.Namespace, violation) == k })
}

func byHand(t *v1alpha1.Ticket) bool {
	return t.Status.State == v1alpha1.Resolved && (t.Status.Resolution == nil || t.Status.Resolution.Reason == "" || t.Status.Resolution.Reason == v1alpha1.Manual)
}
