package tickets

import (
	"cmp"
	"time"

	"github.com/spf13/cobra"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
)

// lately is for how long after its resolution a ticket is offered to verbs that make sense then.
const lately = 72 * time.Hour

// offer is which tickets a verb offers to complete an ID.
type offer struct {
	// fields is a field selector.
	fields string
	// rank puts the lowest first. What is negative is not offered.
	rank func(t *v1alpha1.Ticket) int
}

const never = -1

var (
	toResolve     = offer{openTickets, func(*v1alpha1.Ticket) int { return 0 }}
	toAcknowledge = offer{openTickets, func(t *v1alpha1.Ticket) int { return rankIf(t.Status.Acknowledgement != nil) }}
	toHold        = offer{openTickets, func(t *v1alpha1.Ticket) int { return rankIf(t.Held()) }}
	// A hold also keeps a resolved ticket from being removed.
	toUnhold = offer{"", func(t *v1alpha1.Ticket) int {
		switch {
		case t.Held():
			return 0
		case t.IsOpen():
			return 1
		default:
			return never
		}
	}}
	toShow = offer{"", func(t *v1alpha1.Ticket) int {
		if t.IsOpen() {
			return 0
		}
		return ifLately(t, 1)
	}}
	toDiagnose = offer{"", func(t *v1alpha1.Ticket) int {
		done := rankIf(t.Status.Diagnosis != nil)
		if t.IsOpen() {
			return done
		}
		return ifLately(t, 2+done)
	}}
)

// completeIDs offers tickets of the namespace, of equal rank the worst first.
func completeIDs(c cli.Common, o offer) cobra.CompletionFunc {
	t := newTargets()
	t.Fields = o.fields
	t.Offered = func(ticket *v1alpha1.Ticket) bool { return o.rank(ticket) != never }
	t.Compare = func(a, b *v1alpha1.Ticket) int {
		return cmp.Or(cmp.Compare(o.rank(a), o.rank(b)), compareTickets(a, b))
	}
	return t.CompleteNames(c, func(t *v1alpha1.Ticket) string { return t.Status.Summary })
}

func rankIf(last bool) int {
	if last {
		return 1
	}
	return 0
}

func ifLately(t *v1alpha1.Ticket, rank int) int {
	if r := t.Status.Resolution; r != nil && r.Time != nil && time.Since(r.Time.Go()) > lately {
		return never
	}
	return rank
}
