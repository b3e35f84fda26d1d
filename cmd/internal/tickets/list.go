package tickets

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
)

type listOptions struct {
	cli.List[*v1alpha1.Ticket]
	states []string
	since  time.Duration
}

func newListCommand(c cli.Common) *cobra.Command {
	o := &listOptions{List: cli.NewList(c, cli.Tickets)}
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

  # What is broken, and then what changes
  PROGRAM tickets list --watch

  # For a program
  PROGRAM tickets list --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.UsageError(cmd, fmt.Sprintf("list takes no IDs: %s show %s shows one ticket", cmd.Parent().CommandPath(), args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.AddFlags(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&o.states, "state", nil, "List the tickets in these states: open, acknowledged, diagnosed, resolved, or all. Default: all but resolved.")
	f.DurationVar(&o.since, "since", 0, "List what was last seen within this time, such as 72h. Default: no limit.")
	cli.CompleteFlag(cmd, "state", "all", "open", "acknowledged", "diagnosed", "resolved")
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
	query := cli.Query[*v1alpha1.Ticket]{Fields: fields, Selects: o.selects, Compare: compareTickets, SortTable: sortTable, Nothing: o.nothing()}
	if o.since > 0 {
		query.Keep = o.isRecent
	}
	return o.Run(cmd, query)
}

// selects is what stateSelector has the API server do.
func (o *listOptions) selects(t *v1alpha1.Ticket) bool {
	if len(o.states) == 0 {
		return t.IsOpen()
	}
	return slices.ContainsFunc(o.states, func(name string) bool {
		return strings.EqualFold(name, "all") || strings.EqualFold(name, string(t.Status.State))
	})
}

func (o *listOptions) isRecent(t *v1alpha1.Ticket) bool {
	seen := t.CreationTimestamp.Time
	if t.Status.LastSeenTime != nil {
		seen = t.Status.LastSeenTime.Go()
	}
	return time.Since(seen) <= o.since
}

// nothing says that there is nothing to list.
func (o *listOptions) nothing() string {
	if len(o.states) == 0 && o.Selector == "" && o.since == 0 {
		return "No open tickets"
	}
	return "No tickets found"
}

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
