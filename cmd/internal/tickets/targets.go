package tickets

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"invariant.dev/operator/api/v1alpha1"
)

// targets are the tickets that a verb is about: those named, or those open with some labels.
type targets struct {
	ids      []string
	selector string
}

func (t *targets) addFlags(cmd *cobra.Command) {
	addSelectorFlag(cmd, &t.selector, "All open tickets with these labels, instead of IDs.")
}

func addSelectorFlag(cmd *cobra.Command, selector *string, meaning string) {
	cmd.Flags().StringVarP(selector, "selector", "l", "", meaning+" Supports '=', '==', '!=', 'in' and 'notin', such as team=storage.")
}

// complete reads the IDs, which may also be written as they are printed: ticket.operator.invariant.dev/NAME.
func (t *targets) complete(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) > 0 && t.selector != "":
		return usageError(cmd, "IDs and --selector cannot be used together")
	case len(args) == 0 && t.selector == "":
		return usageError(cmd, "which tickets? Give at least one ID, or --selector")
	}
	for _, arg := range args {
		id, err := parseID(arg)
		if err != nil {
			return usageError(cmd, err.Error())
		}
		if !slices.Contains(t.ids, id) {
			t.ids = append(t.ids, id)
		}
	}
	return nil
}

func usageError(cmd *cobra.Command, message string) error {
	return fmt.Errorf("%s\nSee '%s --help' for usage", message, cmd.CommandPath())
}

func parseID(arg string) (string, error) {
	kind, id, found := strings.Cut(arg, "/")
	if !found {
		kind, id = ticketsResource, arg
	}
	kind = strings.TrimSuffix(kind, "."+v1alpha1.GroupVersion.Group)
	if id == "" || strings.Contains(id, "/") || !slices.Contains([]string{ticketsResource, "ticket", "tkt"}, kind) {
		return "", fmt.Errorf("%q is not the ID of a ticket, such as tikv-prod-17", arg)
	}
	return id, nil
}

// each calls do for each of the tickets, also where it failed for others, and returns all errors.
func (t *targets) each(ctx context.Context, c *cluster, do func(*unstructured.Unstructured) error) error {
	if t.selector != "" {
		objects, err := c.list(ctx, ticketsResource, metav1.ListOptions{LabelSelector: t.selector, FieldSelector: openTickets})
		if err != nil {
			return err
		}
		if len(objects) == 0 {
			c.sayNothing("No open tickets with these labels")
		}
		return forEach(sortObjects(objects), func(o object) error { return do(&o.Unstructured) })
	}
	return forEach(t.ids, func(id string) error {
		object, err := c.get(ctx, id)
		if err != nil {
			return err
		}
		return do(object)
	})
}

// forEach calls do for each item and returns all errors. It ends at a hopeless one.
func forEach[T any](items []T, do func(T) error) error {
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
