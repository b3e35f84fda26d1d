package tickets

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/cli-runtime/pkg/printers"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
	"invariant.dev/operator/cmd/internal/terminal"
)

type showOptions struct {
	cli.Common
	targets
	output *cli.Output
	all    bool
}

func newShowCommand(c cli.Common) *cobra.Command {
	o := &showOptions{Common: c, targets: newTargets(), output: cli.NewOutput()}
	cmd := &cobra.Command{
		Use:   "show ID...",
		Short: "Show all about tickets",
		Long: `Show all about tickets: what broke and the evidence of that moment, what has become of it since, who is at it,
the diagnosis, how it ended, the tickets before it, and what else is open in the same system.

Of more than ten violations, the worst ten are shown with everything and the others in a line each.`,
		Example: `  # For a person
  PROGRAM tickets show tikv-prod-17

  # For a program
  PROGRAM tickets show tikv-prod-17 -o json`,
		ValidArgsFunction: completeIDs(c, toShow),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	o.output.AddFlags(cmd, "Default: a page for a person.")
	o.AddFlags(cmd)
	cmd.Flags().BoolVar(&o.all, "all", false, "Show everything of each violation, however many there are.")
	return cmd
}

func (o *showOptions) run(cmd *cobra.Command, args []string) error {
	if err := o.Complete(cmd, args); err != nil {
		return err
	}
	if o.output.ForPeople() {
		return o.Run(cmd, false, o.printPages)
	}
	printer, err := o.output.Printer()
	if err != nil {
		return err
	}
	return o.Run(cmd, false, func(ctx context.Context, c *cli.Cluster) error { return o.printObjects(ctx, c, printer) })
}

func (o *showOptions) printPages(ctx context.Context, c *cli.Cluster) error {
	shown := 0
	return o.Each(ctx, c, func(object *unstructured.Unstructured) error {
		t, err := cli.Tickets.Decode(object)
		if err != nil {
			return err
		}
		if shown++; shown > 1 {
			_, _ = fmt.Fprint(o.Out, "\n\n")
		}
		if err := describe(o.Out, t, o.all); err != nil {
			return fmt.Errorf("show the ticket %s: %w", t.Name, err)
		}
		if err := o.printEarlier(ctx, c, t); err != nil {
			return err
		}
		return o.printOthers(ctx, c, t)
	})
}

// earlier is how many tickets before one are shown.
const earlier = 5

// printEarlier prints the tickets before one, newest first.
func (o *showOptions) printEarlier(ctx context.Context, c *cli.Cluster, t *v1alpha1.Ticket) error {
	if t.Spec.Previous == "" {
		return nil
	}
	if err := describeSection(o.Out, "Tickets before this one", ""); err != nil {
		return err
	}
	p := &page{now: time.Now()}
	table := printers.GetNewTabWriter(o.Out)
	for shown := 0; t.Spec.Previous != ""; shown++ {
		if shown == earlier {
			_, _ = fmt.Fprintf(table, "  %s\tand so on: show %s\n", terminal.Line(t.Spec.Previous), terminal.Line(t.Spec.Previous))
			break
		}
		object, err := cli.Tickets.Get(ctx, c, t.Spec.Previous)
		if apierrors.IsNotFound(err) {
			_, _ = fmt.Fprintf(table, "  %s\tno longer there\n", terminal.Line(t.Spec.Previous))
			break
		}
		if err != nil {
			return err
		}
		if t, err = cli.Tickets.Decode(object); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", t.Name, t.Status.State, terminal.Line(t.Status.Summary), terminal.Line(p.ending(t)))
	}
	return table.Flush()
}

// ending says how a ticket ended, and who knows why.
func (p *page) ending(t *v1alpha1.Ticket) string {
	ending := "opened " + p.at(&t.Spec.OpenedTime)
	if r := t.Status.Resolution; r != nil {
		ending = string(r.Reason) + ", " + p.byAt(r.By, r.Time)
	}
	if d := t.Status.Diagnosis; d != nil {
		ending += ", diagnosed by " + d.By
	}
	return ending
}

// printOthers prints what else is open in the system of a ticket.
func (o *showOptions) printOthers(ctx context.Context, c *cli.Cluster, t *v1alpha1.Ticket) error {
	selector := fields.AndSelectors(
		fields.OneTermEqualSelector("spec.system", t.Spec.System),
		fields.OneTermNotEqualSelector("metadata.name", t.Name),
		fields.OneTermNotEqualSelector("status.state", string(v1alpha1.Resolved)))
	table, err := cli.Tickets.Table(ctx, c, metav1.ListOptions{FieldSelector: selector.String()}, false)
	if err != nil {
		return err
	}
	if len(table.Rows) == 0 {
		return describeSection(o.Out, "Also open in this system", "none")
	}
	sortTable(table)
	if err := describeSection(o.Out, "Also open in this system", ""); err != nil {
		return err
	}
	return cli.PrintTable(table, printers.PrintOptions{}, &indenter{w: o.Out, indent: "  "})
}

func (o *showOptions) printObjects(ctx context.Context, c *cli.Cluster, printer printers.ResourcePrinter) error {
	list := cli.EmptyList()
	err := o.Each(ctx, c, func(object *unstructured.Unstructured) error {
		list.Items = append(list.Items, *object)
		return nil
	})
	switch {
	case len(list.Items) == 1 && len(o.Names) == 1:
		return printer.PrintObj(&list.Items[0], o.Out)
	case len(list.Items) > 0 || err == nil:
		if printErr := printer.PrintObj(list, o.Out); printErr != nil {
			return printErr
		}
	}
	return err
}
