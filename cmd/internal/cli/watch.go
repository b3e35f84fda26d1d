package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/printers"
)

// rewatch is how long to wait before a watch that ended is begun again.
const rewatch = time.Second

// watcher prints what a query selects, and then what changes.
type watcher[T Object] struct {
	list  *List[T]
	query Query[T]
	// print prints one row.
	print func(metav1.TableRow) error
	// columns are those of the table, and shown the versions of what was printed and is still selected.
	columns []metav1.TableColumnDefinition
	shown   map[types.UID]string
	headers bool
}

func (l *List[T]) runWatch(cmd *cobra.Command, q Query[T]) error {
	w := &watcher[T]{list: l, query: q, shown: map[types.UID]string{}, headers: !l.noHeaders}
	if err := w.choosePrinter(); err != nil {
		return err
	}
	return l.Common.Run(cmd, l.allNamespaces, func(ctx context.Context, c *Cluster) error {
		for {
			// What fails because of Ctrl-C is no failure.
			if err := w.listAndWatch(ctx, c); !errors.Is(err, errWatchEnded) && ctx.Err() == nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(rewatch):
			}
		}
	})
}

// choosePrinter prints rows of a table, whose widths stay, or objects.
func (w *watcher[T]) choosePrinter() error {
	if w.list.output.ForPeople() {
		out := printers.GetNewTabWriter(w.list.Out)
		w.print = func(row metav1.TableRow) error {
			table := &metav1.Table{ColumnDefinitions: w.columns, Rows: []metav1.TableRow{row}}
			options := printers.PrintOptions{WithNamespace: w.list.allNamespaces, NoHeaders: !w.headers, Wide: w.list.output.format() == wide}
			w.headers = false
			return errors.Join(PrintTable(table, options, out), out.Flush())
		}
		return nil
	}
	printer, err := w.list.output.Printer()
	if err != nil {
		return err
	}
	w.print = func(row metav1.TableRow) error {
		object := &unstructured.Unstructured{}
		if err := json.Unmarshal(row.Object.Raw, object); err != nil {
			return fmt.Errorf("read the change: %w", err)
		}
		return printer.PrintObj(object, w.list.Out)
	}
	return nil
}

// errWatchEnded tells that the API server ended the watch, as it does every few minutes.
var errWatchEnded = errors.New("the watch ended")

// listAndWatch prints what is selected and was not printed yet in its present version, and then what changes.
func (w *watcher[T]) listAndWatch(ctx context.Context, c *Cluster) error {
	k := w.list.kind
	// Not with the field selector: what it no longer selects is to be seen once more, as it has become.
	options := metav1.ListOptions{LabelSelector: w.list.Selector}
	table, err := k.Table(ctx, c, options, true)
	if err != nil {
		return err
	}
	if table.ColumnDefinitions != nil {
		w.columns = table.ColumnDefinitions
	}
	if err := w.printList(c, table); err != nil {
		return err
	}
	options.ResourceVersion, options.Watch = table.ResourceVersion, true
	changes, err := c.tables.Get().
		NamespaceIfScoped(c.namespace, c.namespace != "").
		Resource(k.plural).
		SpecificallyVersionedParams(&options, tableParameters, schema.GroupVersion{Version: "v1"}).
		Param("includeObject", string(metav1.IncludeObject)).
		Watch(ctx)
	if err != nil {
		return c.explain(err, "watch", k.plural, "watch the "+k.plural+" "+c.where())
	}
	defer changes.Stop()
	for change := range changes.ResultChan() {
		if err := w.changed(change); err != nil {
			return err
		}
	}
	return errWatchEnded
}

func (w *watcher[T]) printList(c *Cluster, table *metav1.Table) error {
	rows := slices.DeleteFunc(table.Rows, func(row metav1.TableRow) bool {
		object := row.Object.Object.(T)
		return !w.selects(object) || w.shown[object.GetUID()] == object.GetResourceVersion()
	})
	if len(rows) == 0 && len(w.shown) == 0 && w.headers {
		c.SayNothing(w.query.Nothing)
	}
	sorted := &metav1.Table{ColumnDefinitions: table.ColumnDefinitions, Rows: rows}
	w.query.SortTable(sorted)
	for _, row := range sorted.Rows {
		if err := w.show(row); err != nil {
			return err
		}
	}
	return nil
}

func (w *watcher[T]) selects(object T) bool {
	return (w.query.Selects == nil || w.query.Selects(object)) && w.query.keeps(object)
}

// changed prints what a change made of an object, if it is selected, or was.
func (w *watcher[T]) changed(change watch.Event) error {
	if change.Type == watch.Error {
		if err := apierrors.FromObject(change.Object); !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			return fmt.Errorf("watch the %s: %w", w.list.kind.plural, err)
		}
		return errWatchEnded
	}
	sent, ok := change.Object.(*unstructured.Unstructured)
	if !ok || change.Type == watch.Bookmark {
		return nil
	}
	table := &metav1.Table{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(sent.Object, table); err != nil {
		return fmt.Errorf("read a change of the %s: %w", w.list.kind.plural, err)
	}
	if table.ColumnDefinitions != nil {
		w.columns = table.ColumnDefinitions
	}
	for _, row := range table.Rows {
		object := w.list.kind.empty()
		if err := json.Unmarshal(row.Object.Raw, object); err != nil {
			return fmt.Errorf("read a change of the %s: %w", w.list.kind.plural, err)
		}
		row.Object.Object = object
		_, was := w.shown[object.GetUID()]
		is := w.selects(object) && change.Type != watch.Deleted
		if !was && !is {
			continue
		}
		if err := w.show(row); err != nil {
			return err
		}
		if !is {
			delete(w.shown, object.GetUID())
		}
	}
	return nil
}

func (w *watcher[T]) show(row metav1.TableRow) error {
	object := row.Object.Object.(T)
	w.shown[object.GetUID()] = object.GetResourceVersion()
	return w.print(row)
}
