package ledger

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// Limits of a ticket; the API server enforces the same numbers of characters.
const (
	// MaxMessage is the length of a message, in bytes.
	MaxMessage = verdict.MaxMessage
	// MaxViolations is how many violations fit into one ticket.
	MaxViolations = 1000
	// MaxSpecBytes is how large the violations of one ticket may be as JSON: etcd takes no object of more
	// than 1.5 MiB, and the status has to fit beside the spec.
	MaxSpecBytes = 512 << 10
	// maxSummary keeps a table of tickets within some 100 columns; the API server takes more.
	maxSummary = 48
	// summaryStores is how many stores of an invariant a summary names.
	summaryStores = 5
)

// Split cuts a batch into what fits into a ticket each. Nothing is dropped.
func Split(batch []v1alpha1.Violation) [][]v1alpha1.Violation {
	var parts [][]v1alpha1.Violation
	var part []v1alpha1.Violation
	size := 0
	for _, v := range batch {
		encoded, err := json.Marshal(v)
		if err != nil {
			panic(fmt.Sprintf("a violation cannot be written as JSON: %v", err))
		}
		if len(part) == MaxViolations || (len(part) > 0 && size+len(encoded) > MaxSpecBytes) {
			parts, part, size = append(parts, part), nil, 0
		}
		part, size = append(part, v), size+len(encoded)+1
	}
	return append(parts, part)
}

// NewTicket is the ticket for a part of a batch, as it is created. batchKey is the name of the batch's first ticket, or
// empty for the first itself. Its first status is FirstStatus.
func NewTicket(namespace, system string, number int, batchKey, previous string, violations []v1alpha1.Violation,
	invariants map[string]Invariant, now time.Time) *v1alpha1.Ticket {
	name := v1alpha1.TicketName(system, number)
	return &v1alpha1.Ticket{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: agreedLabels(violations, invariants)},
		Spec: v1alpha1.TicketSpec{
			System:     system,
			BatchKey:   cmp.Or(batchKey, name),
			OpenedTime: *v1alpha1.NewTime(now),
			Previous:   previous,
			Violations: violations,
		},
		Status: v1alpha1.TicketStatus{State: v1alpha1.Open},
	}
}

// FirstStatus is the second write that opens a ticket: all that follows from its spec.
func FirstStatus(t *v1alpha1.Ticket, c Cycle) v1alpha1.TicketStatus {
	p := newBook(Cycle{Now: c.Now.UTC().Truncate(time.Second)}, []*v1alpha1.Ticket{t}).tickets[0]
	return p.status(Cycle{Now: c.Now.UTC().Truncate(time.Second), Monitor: c.Monitor, Invariants: c.Invariants})
}

// agreedLabels are the labels on which the invariants of all violations agree.
func agreedLabels(violations []v1alpha1.Violation, invariants map[string]Invariant) map[string]string {
	agreed := maps.Clone(invariants[violations[0].Invariant].Labels)
	for _, v := range violations {
		labels := invariants[v.Invariant].Labels
		maps.DeleteFunc(agreed, func(key, value string) bool {
			other, found := labels[key]
			return !found || other != value
		})
	}
	return agreed
}

// Previous is the newest of the resolved tickets that had one of these violations, or nothing. Only tickets
// with a lower number than before count.
func Previous(violations []v1alpha1.Violation, tickets []*v1alpha1.Ticket, before int) string {
	keys := make(map[Key]bool, len(violations))
	for _, v := range violations {
		keys[keyOf(v)] = true
	}
	newest, number := "", 0
	for _, t := range tickets {
		n := t.Number()
		if t.IsOpen() || n <= number || n >= before {
			continue
		}
		if slices.ContainsFunc(t.Spec.Violations, func(v v1alpha1.Violation) bool { return keys[keyOf(v)] }) {
			newest, number = t.Name, n
		}
	}
	return newest
}

// Summary says in short what broke: store-down(3), high-latency(1,2,+1998). Invariants come in the order of the
// violations, which is worst first.
func Summary(violations []v1alpha1.Violation) string {
	var groups []*summaryGroup
	byLabel := map[string]*summaryGroup{}
	for _, v := range violations {
		label := v.Invariant
		if v.Reason == v1alpha1.Unobservable {
			label += " unobservable"
		}
		g := byLabel[label]
		if g == nil {
			g = &summaryGroup{label: label}
			groups, byLabel[label] = append(groups, g), g
		}
		if v.StoreID != "" {
			g.stores = append(g.stores, v.StoreID)
		}
	}
	parts := make([]string, 0, len(groups))
	for _, g := range groups {
		parts = append(parts, g.inShort(maxSummary-len(", +100")))
	}
	return joinWithin(parts, maxSummary)
}

// summaryGroup is what a summary says of one invariant.
type summaryGroup struct {
	label  string
	stores []string
}

// inShort names as many stores as fit, and counts the rest.
func (g *summaryGroup) inShort(limit int) string {
	if len(g.stores) == 0 {
		return g.label
	}
	for named := min(len(g.stores), summaryStores); named > 0; named-- {
		shown := slices.Clone(g.stores[:named])
		if more := len(g.stores) - named; more > 0 {
			shown = append(shown, "+"+strconv.Itoa(more))
		}
		if text := g.label + "(" + strings.Join(shown, ",") + ")"; len(text) <= limit {
			return text
		}
	}
	return fmt.Sprintf("%s(%s)", g.label, count(len(g.stores)))
}

func count(stores int) string {
	if stores == 1 {
		return "1 store"
	}
	return strconv.Itoa(stores) + " stores"
}

// joinWithin joins as many parts as fit and counts the rest.
func joinWithin(parts []string, limit int) string {
	joined := ""
	for i, part := range parts {
		rest := ""
		if more := len(parts) - i - 1; more > 0 {
			rest = fmt.Sprintf(", +%d", more)
		}
		if joined == "" {
			joined = verdict.Truncate(part, limit-len(rest))
			continue
		}
		if len(joined)+len(", ")+len(part)+len(rest) > limit {
			return fmt.Sprintf("%s, +%d", joined, len(parts)-i)
		}
		joined += ", " + part
	}
	return joined
}

// sortViolations puts the worst first, what counts before what is in its grace period, then by invariant and store.
func sortViolations(violations []v1alpha1.Violation) {
	slices.SortStableFunc(violations, func(a, b v1alpha1.Violation) int {
		return cmp.Or(
			cmp.Compare(a.Severity.Rank(), b.Severity.Rank()),
			compareBools(a.Pending, b.Pending),
			compareKeys(keyOf(a), keyOf(b)),
		)
	})
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// compareKeys orders numeric store IDs as numbers.
func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Invariant, b.Invariant), cmp.Compare(a.Reason, b.Reason), compareStoreIDs(a.StoreID, b.StoreID))
}

func compareStoreIDs(a, b string) int {
	n, errA := strconv.ParseUint(a, 10, 64)
	m, errB := strconv.ParseUint(b, 10, 64)
	if errA == nil && errB == nil {
		return cmp.Or(cmp.Compare(n, m), cmp.Compare(a, b))
	}
	return cmp.Or(compareBools(errA != nil, errB != nil), cmp.Compare(a, b))
}
