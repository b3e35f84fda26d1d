package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
)

// Targets are the objects that a verb is about: those named, or those selected by labels.
type Targets[T Object] struct {
	Kind Kind[T]
	// Fields is a field selector: only what it selects can be selected by labels, and is offered to complete a name.
	// Empty: all.
	Fields string
	// Which names those objects, such as "open tickets".
	Which string
	// Keep, if set, selects besides the labels, or alone.
	Keep func(T) bool
	// Offered tells which of them are offered to complete a name. Nil: all.
	Offered func(T) bool
	// Compare orders the objects that are selected.
	Compare func(a, b T) int

	// Names are the names given, each once, and Selector is that of --selector. One of them is empty.
	Names    []string
	Selector string
}

// AddFlags adds --selector to the verb.
func (t *Targets[T]) AddFlags(cmd *cobra.Command) {
	addSelectorFlag(cmd, &t.Selector, fmt.Sprintf("All %s with these labels, instead of %ss.", t.Which, t.Kind.name))
}

func addSelectorFlag(cmd *cobra.Command, selector *string, meaning string) {
	cmd.Flags().StringVarP(selector, "selector", "l", "", meaning+" Supports '=', '==', '!=', 'in' and 'notin', such as team=storage.")
}

// Complete reads the arguments of the verb, as ParseName does. It wants either names or --selector.
func (t *Targets[T]) Complete(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) > 0 && t.Selector != "":
		return UsageError(cmd, t.Kind.name+"s and --selector cannot be used together")
	case len(args) == 0 && t.Selector == "" && t.Keep == nil:
		return UsageError(cmd, fmt.Sprintf("which %s? Give at least one %s, or --selector", t.Kind.plural, t.Kind.name))
	}
	for _, arg := range args {
		name, err := t.Kind.ParseName(arg)
		if err != nil {
			return UsageError(cmd, err.Error())
		}
		if !slices.Contains(t.Names, name) {
			t.Names = append(t.Names, name)
		}
	}
	return nil
}

// Each calls do for each of the objects as the API server sent them, also where it failed for others, and returns all
// errors. It ends at one that every further request would meet too.
func (t *Targets[T]) Each(ctx context.Context, c *Cluster, do func(*unstructured.Unstructured) error) error {
	if len(t.Names) == 0 {
		objects, err := t.Kind.List(ctx, c, metav1.ListOptions{LabelSelector: t.Selector, FieldSelector: t.Fields})
		if err != nil {
			return err
		}
		items := slices.DeleteFunc(t.Kind.Sort(objects, t.Compare), func(item Item[T]) bool { return t.Keep != nil && !t.Keep(item.Read) })
		if len(items) == 0 {
			c.SayNothing("No " + t.Which + t.selectedBy())
		}
		return forEach(items, func(item Item[T]) error { return do(&item.Unstructured) })
	}
	return forEach(t.Names, func(name string) error {
		object, err := t.Kind.Get(ctx, c, name)
		if err != nil {
			return err
		}
		return do(object)
	})
}

// selectedBy says why nothing was selected.
func (t *Targets[T]) selectedBy() string {
	if t.Selector != "" {
		return " with these labels"
	}
	return ""
}

// forEach calls do for each item and returns all errors. It ends at a hopeless one.
func forEach[I any](items []I, do func(I) error) error {
	var errs []error
	for _, item := range items {
		err := do(item)
		if err != nil {
			errs = append(errs, err)
		}
		if errors.As(err, new(hopelessError)) {
			break
		}
	}
	return utilerrors.NewAggregate(errs)
}
