package tickets

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"

	"invariant.dev/operator/api/v1alpha1"
)

type listOptions struct {
	common
	print         *genericclioptions.PrintFlags
	allNamespaces bool
	selector      string
	states        []string
	since         time.Duration
	json          bool
	noHeaders     bool
}

func newListCommand(c common) *cobra.Command {
	o := &listOptions{common: c, print: genericclioptions.NewPrintFlags("")}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List tickets, worst and newest first",
		Long: `List tickets: those that are open, unless --state says otherwise. The worst come first, and of equal
severity the newest.`,
		Example: `  # What is broken in this namespace, and everywhere
  PROGRAM tickets list
  PROGRAM tickets list --all-namespaces

  # What nobody has looked at yet, of one team
  PROGRAM tickets list --state open -l team=storage

  # All that was broken in the last three days, also what is mended
  PROGRAM tickets list --state all --since 72h

  # For a program
  PROGRAM tickets list --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.print.AddFlags(cmd)
	f := cmd.Flags()
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "List the tickets of all namespaces.")
	addSelectorFlag(cmd, &o.selector, "List the tickets with these labels.")
	f.StringSliceVar(&o.states, "state", nil, "List the tickets in these states: open, acknowledged, diagnosed, resolved, or all. Default: all but resolved.")
	f.DurationVar(&o.since, "since", 0, "List what was last seen within this time, such as 72h. Default: no limit.")
	f.BoolVar(&o.json, "json", false, "The same as -o json: a List of whole tickets.")
	f.BoolVar(&o.noHeaders, "no-headers", false, "Leave out the headers of the table.")
	f.Lookup("output").Usage = outputUsage(o.print, "wide")
	cmd.MarkFlagsMutuallyExclusive("json", "output")
	completeFlag(cmd, "state", "all", "open", "acknowledged", "diagnosed", "resolved")
	completeFlag(cmd, "output", append([]string{"wide"}, o.print.AllowedFormats()...)...)
	return cmd
}

func (o *listOptions) run(cmd *cobra.Command) error {
	fields, err := stateSelector(o.states)
	if err != nil {
		return err
	}
	if o.since < 0 {
		return fmt.Errorf("--since is %v: it must be a time that has passed, such as 72h", o.since)
	}
	if o.json {
		*o.print.OutputFormat = "json"
	}
	options := metav1.ListOptions{LabelSelector: o.selector, FieldSelector: fields}
	if format := *o.print.OutputFormat; !o.isTemplate() && (format == "" || format == "wide") {
		return o.common.run(cmd, o.allNamespaces, func(ctx context.Context, c *cluster) error { return o.printTable(ctx, c, options) })
	}
	printer, err := toPrinter(o.print, "wide")
	if err != nil {
		return err
	}
	return o.common.run(cmd, o.allNamespaces, func(ctx context.Context, c *cluster) error { return o.printObjects(ctx, c, options, printer) })
}

// isTemplate tells whether --template is given, which needs no -o.
func (o *listOptions) isTemplate() bool { return *o.print.TemplatePrinterFlags.TemplateArgument != "" }

func (o *listOptions) printTable(ctx context.Context, c *cluster, options metav1.ListOptions) error {
	table, err := c.table(ctx, options, o.since > 0)
	if err != nil {
		return err
	}
	table.Rows = slices.DeleteFunc(table.Rows, func(row metav1.TableRow) bool {
		return !o.isRecent(row.Object.Object.(*v1alpha1.Ticket))
	})
	if len(table.Rows) == 0 {
		o.sayNothingFound(c)
		return nil
	}
	sortTable(table)
	return printTable(table, printers.PrintOptions{
		WithNamespace: o.allNamespaces,
		NoHeaders:     o.noHeaders,
		Wide:          *o.print.OutputFormat == "wide",
	}, o.Out)
}

func (o *listOptions) printObjects(ctx context.Context, c *cluster, options metav1.ListOptions, printer printers.ResourcePrinter) error {
	objects, err := c.list(ctx, ticketsResource, options)
	if err != nil {
		return err
	}
	list := newList()
	for _, object := range sortObjects(objects) {
		if o.isRecent(object.ticket) {
			list.Items = append(list.Items, object.Unstructured)
		}
	}
	if len(list.Items) == 0 && *o.print.OutputFormat == "name" {
		o.sayNothingFound(c)
	}
	return printer.PrintObj(list, o.Out)
}

func (o *listOptions) isRecent(t *v1alpha1.Ticket) bool {
	if o.since == 0 {
		return true
	}
	seen := t.CreationTimestamp.Time
	if t.Status.LastSeenTime != nil {
		seen = t.Status.LastSeenTime.Go()
	}
	return time.Since(seen) <= o.since
}

func (o *listOptions) sayNothingFound(c *cluster) {
	nothing := "No tickets found"
	if len(o.states) == 0 && o.selector == "" && o.since == 0 {
		nothing = "No open tickets"
	}
	c.sayNothing(nothing)
}

// openTickets selects what is open.
const openTickets = "status.state!=" + string(v1alpha1.Resolved)

// stateSelector is the field selector for tickets in any of the states named. Selectors know no or, but every
// set of states is all without some.
func stateSelector(names []string) (string, error) {
	if len(names) == 0 {
		return openTickets, nil
	}
	states := []v1alpha1.TicketState{v1alpha1.Open, v1alpha1.Acknowledged, v1alpha1.Diagnosed, v1alpha1.Resolved}
	wanted := map[v1alpha1.TicketState]bool{}
	for _, name := range names {
		if strings.EqualFold(name, "all") {
			return "", nil
		}
		i := slices.IndexFunc(states, func(s v1alpha1.TicketState) bool { return strings.EqualFold(name, string(s)) })
		if i < 0 {
			return "", fmt.Errorf("--state is %q: use open, acknowledged, diagnosed, resolved, several of them with commas, or all", name)
		}
		wanted[states[i]] = true
	}
	var terms []string
	for _, state := range states {
		if !wanted[state] {
			terms = append(terms, "status.state!="+string(state))
		}
	}
	return strings.Join(terms, ","), nil
}
