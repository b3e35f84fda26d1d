package tickets

import (
	"cmp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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

// object is a ticket as the API server sent it, with what a newer version may have added, and as we read it.
type object struct {
	unstructured.Unstructured
	ticket *v1alpha1.Ticket
}

// sortObjects puts the worst first, and of equal severity the newest. What cannot be read comes last, and only as
// it was sent.
func sortObjects(sent []unstructured.Unstructured) []object {
	objects := make([]object, 0, len(sent))
	for i := range sent {
		t, err := decode(&sent[i])
		if err != nil {
			t = &v1alpha1.Ticket{}
			t.Namespace, t.Name, t.CreationTimestamp = sent[i].GetNamespace(), sent[i].GetName(), sent[i].GetCreationTimestamp()
		}
		objects = append(objects, object{sent[i], t})
	}
	slices.SortFunc(objects, func(a, b object) int {
		return compareRanks(rank{a.ticket.Status.Severity, a.ticket}, rank{b.ticket.Status.Severity, b.ticket})
	})
	return objects
}
