package tickets

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"

	"invariant.dev/operator/api/v1alpha1"
)

type showOptions struct {
	common
	targets
	print *genericclioptions.PrintFlags
}

func newShowCommand(c common) *cobra.Command {
	o := &showOptions{common: c, print: genericclioptions.NewPrintFlags("")}
	cmd := &cobra.Command{
		Use:   "show ID...",
		Short: "Show all about tickets",
		Long: `Show all about tickets: what broke and the evidence of that moment, what has become of it since, who is at it,
the diagnosis, how it ended, and what else is open in the same system.`,
		Example: `  # For a person
  PROGRAM tickets show tikv-prod-17

  # For a program
  PROGRAM tickets show tikv-prod-17 -o json`,
		ValidArgsFunction: c.completeIDs,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	o.print.AddFlags(cmd)
	o.addFlags(cmd)
	cmd.Flags().Lookup("output").Usage = outputUsage(o.print) + " Default: a page for a person."
	completeFlag(cmd, "output", o.print.AllowedFormats()...)
	return cmd
}

func (o *showOptions) run(cmd *cobra.Command, args []string) error {
	if err := o.complete(cmd, args); err != nil {
		return err
	}
	if *o.print.OutputFormat == "" && *o.print.TemplatePrinterFlags.TemplateArgument == "" {
		return o.common.run(cmd, false, o.printPages)
	}
	printer, err := toPrinter(o.print)
	if err != nil {
		return err
	}
	return o.common.run(cmd, false, func(ctx context.Context, c *cluster) error { return o.printObjects(ctx, c, printer) })
}

func (o *showOptions) printPages(ctx context.Context, c *cluster) error {
	shown := 0
	return o.each(ctx, c, func(object *unstructured.Unstructured) error {
		t, err := decode(object)
		if err != nil {
			return err
		}
		if shown++; shown > 1 {
			_, _ = fmt.Fprint(o.Out, "\n\n")
		}
		if err := describe(o.Out, t); err != nil {
			return fmt.Errorf("show the ticket %s: %w", t.Name, err)
		}
		return o.printOthers(ctx, c, t)
	})
}

// printOthers prints what else is open in the system of a ticket.
func (o *showOptions) printOthers(ctx context.Context, c *cluster, t *v1alpha1.Ticket) error {
	selector := fields.AndSelectors(
		fields.OneTermEqualSelector("spec.system", t.Spec.System),
		fields.OneTermNotEqualSelector("metadata.name", t.Name),
		fields.OneTermNotEqualSelector("status.state", string(v1alpha1.Resolved)))
	table, err := c.table(ctx, metav1.ListOptions{FieldSelector: selector.String()}, false)
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
	return printTable(table, printers.PrintOptions{}, &indenter{w: o.Out, indent: "  "})
}

func (o *showOptions) printObjects(ctx context.Context, c *cluster, printer printers.ResourcePrinter) error {
	list := newList()
	err := o.each(ctx, c, func(object *unstructured.Unstructured) error {
		list.Items = append(list.Items, *object)
		return nil
	})
	switch {
	case len(list.Items) == 1 && len(o.ids) == 1:
		return printer.PrintObj(&list.Items[0], o.Out)
	case len(list.Items) > 0 || err == nil:
		if printErr := printer.PrintObj(list, o.Out); printErr != nil {
			return printErr
		}
	}
	return err
}
