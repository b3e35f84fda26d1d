package tickets

import (
	"cmp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
)

// rank is what orders tickets.
type rank struct {
	severity v1alpha1.Severity
	ticket   *v1alpha1.Ticket
}

// compareRanks puts the worst first, and of equal severity the newest.
func compareRanks(a, b rank) int {
	return cmp.Or(
		cmp.Compare(a.severity.Rank(), b.severity.Rank()),
		b.ticket.CreationTimestamp.Compare(a.ticket.CreationTimestamp.Time),
		strings.Compare(a.ticket.Namespace, b.ticket.Namespace),
		// Times are in whole seconds; of one system, the higher number is the newer.
		cmp.Compare(number(b.ticket.Name), number(a.ticket.Name)),
		strings.Compare(a.ticket.Name, b.ticket.Name),
	)
}

// compareTickets puts the worst first, and of equal severity the newest. What could not be read comes last.
func compareTickets(a, b *v1alpha1.Ticket) int {
	return compareRanks(rank{a.Status.Severity, a}, rank{b.Status.Severity, b})
}

func number(name string) int {
	return v1alpha1.TicketNumber(name[:max(0, strings.LastIndexByte(name, '-'))], name)
}

func sortTable(table *metav1.Table) {
	column := slices.IndexFunc(table.ColumnDefinitions, func(d metav1.TableColumnDefinition) bool { return d.Name == "Severity" })
	rankOf := func(row metav1.TableRow) rank {
		r := rank{ticket: row.Object.Object.(*v1alpha1.Ticket)}
		if column >= 0 && column < len(row.Cells) {
			severity, _ := row.Cells[column].(string)
			r.severity = v1alpha1.Severity(severity)
		}
		return r
	}
	slices.SortFunc(table.Rows, func(a, b metav1.TableRow) int { return compareRanks(rankOf(a), rankOf(b)) })
}
