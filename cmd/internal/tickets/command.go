// Package tickets is the command tickets, for people who work on what is broken: it lists and shows Tickets, and
// writes on them what kubectl would with longer commands.
package tickets

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
)

// NewCommand returns the command tickets, with kubectl's own flags on it and its verbs below it. Its verbs return
// errors that are whole sentences for whoever typed the command; several come as one
// k8s.io/apimachinery/pkg/util/errors.Aggregate.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	return newCommand(cli.NewCommon(streams))
}

func newCommand(c cli.Common) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tickets",
		Aliases: []string{"ticket", "tkt"},
		Short:   "Work on tickets: list, show, acknowledge, diagnose, hold and resolve them",
		Long: `Work on tickets.

A ticket is what broke in one system at one moment, with the evidence of that moment. The monitor opens it,
counts how often it sees the fault, and resolves it once all has cleared. A hold keeps it open.

People and agents acknowledge it (this is mine), and diagnose it (this was the matter). Its state goes forward only:
Open, Acknowledged, Diagnosed, Resolved. Where a fault comes back, a new ticket opens that names the one before it.`,
		Example: `  # What is broken in this namespace, and everywhere
  PROGRAM tickets list
  PROGRAM tickets list -A

  # All about one ticket
  PROGRAM tickets show tikv-prod-17

  # It is yours; keep it open while you look into it; say what it was
  PROGRAM tickets ack tikv-prod-17
  PROGRAM tickets hold tikv-prod-17 --note "draining the rack"
  PROGRAM tickets diagnose tikv-prod-17 --text "The rack lost power."
  PROGRAM tickets unhold tikv-prod-17`,
	}
	c.AddVerbs(cmd, newListCommand(c), newShowCommand(c), newAckCommand(c), newDiagnoseCommand(c),
		newHoldCommand(c), newUnholdCommand(c), newResolveCommand(c))
	return cmd
}

type (
	targets = cli.Targets[*v1alpha1.Ticket]
	change  = cli.Change[*v1alpha1.Ticket]
)

// openTickets selects what is open.
const openTickets = "status.state!=" + string(v1alpha1.Resolved)

// newTargets are tickets that are named, or open ones with some labels.
func newTargets() targets {
	return targets{Kind: cli.Tickets, Fields: openTickets, Which: "open tickets", Compare: compareTickets}
}

func newChange(c cli.Common) change { return change{Common: c, Targets: newTargets()} }
