// Package invariants is the command invariants, for people who write what must always be true: it lists Invariants, tries them
// before they are applied, makes them of alerting rules, and mutes them for planned work.
package invariants

import (
	"cmp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
)

// NewCommand returns the command invariants, with kubectl's own flags on it and its verbs below it. Its verbs return
// errors that are whole sentences for whoever typed the command.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	return newCommand(cli.NewCommon(streams))
}

func newCommand(c cli.Common) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "invariants",
		Aliases: []string{"invariant", "inv"},
		Short:   "List, try, import and mute invariants",
		Long: `List, try, import and mute invariants.

An invariant says what must always be true of a system. The monitor checks it every interval; what is broken becomes a
ticket.`,
		Example: `  # What is checked here, what is violated first
  PROGRAM invariants list

  # Try one before you apply it
  PROGRAM invariants check -f store-down.yaml

  # The alerting rules that you have, as invariants
  PROGRAM invariants import -f tikv.rules.yml --severity-label level | kubectl apply -f -

  # Planned work: for two hours, a whole system opens no tickets
  PROGRAM invariants mute --system tikv-prod --for 2h`,
	}
	c.AddVerbs(cmd, newListCommand(c), newCheckCommand(c), newImportCommand(c), newMuteCommand(c), newUnmuteCommand(c))
	return cmd
}

type (
	targets = cli.Targets[*v1alpha1.Invariant]
	change  = cli.Change[*v1alpha1.Invariant]
)

// newTargets are invariants that are named, or those with some labels.
func newTargets() targets {
	return targets{Kind: cli.Invariants, Which: "invariants", Compare: compare}
}

// completeNames offers the invariants of the namespace.
func completeNames(c cli.Common) cobra.CompletionFunc {
	return newTargets().CompleteNames(c, func(i *v1alpha1.Invariant) string { return i.Spec.Description })
}

// ofSystem selects the invariants of a system.
func ofSystem(name string) func(*v1alpha1.Invariant) bool {
	return func(i *v1alpha1.Invariant) bool { return i.SystemName() == name }
}

type listOptions struct {
	cli.List[*v1alpha1.Invariant]
	system string
}

func newListCommand(c cli.Common) *cobra.Command {
	o := &listOptions{List: cli.NewList(c, cli.Invariants)}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List invariants, what is violated first",
		Long:    `List invariants: first what is violated, then what cannot be judged, then the rest by name.`,
		Example: `  PROGRAM invariants list
  PROGRAM invariants list --all-namespaces -o wide
  PROGRAM invariants list --system tikv-prod`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keep := func(*v1alpha1.Invariant) bool { return true }
			if o.system != "" {
				keep = ofSystem(o.system)
			}
			return o.Run(cmd, cli.Query[*v1alpha1.Invariant]{Keep: keep, Compare: compare, SortTable: sortTable, Nothing: "No invariants found"})
		},
	}
	o.AddFlags(cmd)
	cmd.Flags().StringVar(&o.system, "system", "", "List the invariants of this system.")
	return cmd
}

// compare puts what is violated first, then what cannot be judged, then the rest by name.
func compare(a, b *v1alpha1.Invariant) int {
	return cmp.Or(cmp.Compare(urgency(a), urgency(b)), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

func urgency(i *v1alpha1.Invariant) int {
	satisfied := v1alpha1.FindCondition(i.Status.Conditions, v1alpha1.ConditionSatisfied)
	switch {
	case satisfied != nil && satisfied.Status == metav1.ConditionFalse:
		return 0
	case satisfied != nil && satisfied.Status == metav1.ConditionUnknown && !i.Spec.Suspend:
		return 1
	default:
		return 2
	}
}

func sortTable(table *metav1.Table) {
	slices.SortFunc(table.Rows, func(a, b metav1.TableRow) int {
		return compare(a.Object.Object.(*v1alpha1.Invariant), b.Object.Object.(*v1alpha1.Invariant))
	})
}
