package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"
)

const wide = "wide"

// List is the verb that lists objects of a kind: as the API server's own table, or as -o says.
type List[T Object] struct {
	Common
	// Selector is the label selector of --selector. Empty: all.
	Selector string

	kind          Kind[T]
	output        *Output
	allNamespaces bool
	json          bool
	noHeaders     bool
	watch         bool
}

// NewList returns a verb that lists objects of a kind.
func NewList[T Object](c Common, kind Kind[T]) List[T] {
	return List[T]{Common: c, kind: kind, output: NewOutput(wide)}
}

// AddFlags adds -o and its like, --json, --no-headers, --all-namespaces and --selector to the verb.
func (l *List[T]) AddFlags(cmd *cobra.Command) {
	l.output.AddFlags(cmd, "")
	f := cmd.Flags()
	f.BoolVarP(&l.allNamespaces, "all-namespaces", "A", false, "List the "+l.kind.plural+" of all namespaces.")
	addSelectorFlag(cmd, &l.Selector, "List the "+l.kind.plural+" with these labels.")
	f.BoolVar(&l.json, "json", false, "The same as -o json: a List of whole "+l.kind.plural+".")
	f.BoolVar(&l.noHeaders, "no-headers", false, "Leave out the headers of the table.")
	f.BoolVarP(&l.watch, "watch", "w", false, "After listing, go on and print what changes, until you press Ctrl-C. What no longer belongs to the list is printed once more.")
	cmd.MarkFlagsMutuallyExclusive("json", "output")
}

// Query is which objects a List shows, and in which order.
type Query[T Object] struct {
	// Fields is a field selector. Empty: all.
	Fields string
	// Keep tells which of the objects selected are shown. Nil: all.
	Keep func(T) bool
	// Selects tells what Fields tells the API server, of an object. Nil: all.
	Selects func(T) bool
	// Compare orders the objects, SortTable the rows of the table; each row has the metadata of a T as its object.
	Compare   func(a, b T) int
	SortTable func(*metav1.Table)
	// Nothing is said if there is nothing to show, such as "No open tickets".
	Nothing string
}

// Run connects to the cluster and prints what the query selects.
func (l *List[T]) Run(cmd *cobra.Command, q Query[T]) error {
	if l.json {
		l.output.setFormat("json")
	}
	options := metav1.ListOptions{LabelSelector: l.Selector, FieldSelector: q.Fields}
	if l.watch {
		return l.runWatch(cmd, q)
	}
	if l.output.ForPeople() {
		return l.Common.Run(cmd, l.allNamespaces, func(ctx context.Context, c *Cluster) error { return l.printTable(ctx, c, options, q) })
	}
	printer, err := l.output.Printer()
	if err != nil {
		return err
	}
	return l.Common.Run(cmd, l.allNamespaces, func(ctx context.Context, c *Cluster) error { return l.printObjects(ctx, c, options, q, printer) })
}

func (l *List[T]) printTable(ctx context.Context, c *Cluster, options metav1.ListOptions, q Query[T]) error {
	table, err := l.kind.Table(ctx, c, options, q.Keep != nil)
	if err != nil {
		return err
	}
	table.Rows = slices.DeleteFunc(table.Rows, func(row metav1.TableRow) bool { return !q.keeps(row.Object.Object.(T)) })
	if len(table.Rows) == 0 {
		c.SayNothing(q.Nothing)
		return nil
	}
	q.SortTable(table)
	return PrintTable(table, printers.PrintOptions{
		WithNamespace: l.allNamespaces,
		NoHeaders:     l.noHeaders,
		Wide:          l.output.format() == wide,
	}, l.Out)
}

func (l *List[T]) printObjects(ctx context.Context, c *Cluster, options metav1.ListOptions, q Query[T], printer printers.ResourcePrinter) error {
	objects, err := l.kind.List(ctx, c, options)
	if err != nil {
		return err
	}
	list := EmptyList()
	for _, item := range l.kind.Sort(objects, q.Compare) {
		if q.keeps(item.Read) {
			list.Items = append(list.Items, item.Unstructured)
		}
	}
	if len(list.Items) == 0 && l.output.format() == "name" {
		c.SayNothing(q.Nothing)
	}
	return printer.PrintObj(list, l.Out)
}

func (q Query[T]) keeps(object T) bool { return q.Keep == nil || q.Keep(object) }
