// Package tickets is the command tickets, for people who work on what is broken: it lists and shows Tickets, and
// writes on them what kubectl would with longer commands.
package tickets

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// programName stands for the name that the program was called by in the texts of this package.
const programName = "PROGRAM"

// common is what all verbs share.
type common struct {
	genericiooptions.IOStreams
	flags *genericclioptions.ConfigFlags
}

// NewCommand returns the command tickets, with kubectl's own flags on it and its verbs below it. Its verbs return
// errors that are whole sentences for whoever typed the command; several come as one
// k8s.io/apimachinery/pkg/util/errors.Aggregate.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	return newCommand(streams, genericclioptions.NewConfigFlags(true))
}

func newCommand(streams genericiooptions.IOStreams, flags *genericclioptions.ConfigFlags) *cobra.Command {
	c := common{IOStreams: streams, flags: flags}
	cmd := &cobra.Command{
		Use:     "tickets",
		Aliases: []string{"ticket", "tkt"},
		Short:   "List, show, hold and resolve tickets",
		Long: `List, show, hold and resolve tickets.

A ticket is what broke in one system at one moment, with the evidence of that moment. The monitor opens it,
counts how often it sees the fault, and resolves it once all has cleared. A hold keeps it open.`,
		Example: `  # What is broken in this namespace, and everywhere
  PROGRAM tickets list
  PROGRAM tickets list -A

  # All about one ticket
  PROGRAM tickets show tikv-prod-17

  # Keep it open while you look into it
  PROGRAM tickets hold tikv-prod-17 --note "draining the rack"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newListCommand(c), newShowCommand(c), newResolveCommand(c), newHoldCommand(c), newUnholdCommand(c))
	// Nothing is discovered, so nothing is cached.
	flags.CacheDir = nil
	flags.AddFlags(cmd.PersistentFlags())
	nameExamples(cmd)
	return cmd
}

// nameExamples puts the name of the program into the examples of cmd and its verbs when they are shown; before
// that, nobody knows it.
func nameExamples(cmd *cobra.Command) {
	help := cmd.HelpFunc()
	cmd.SetHelpFunc(func(c *cobra.Command, args []string) {
		c.Example = strings.ReplaceAll(c.Example, programName, c.Root().DisplayName())
		help(c, args)
	})
}

// run connects to the cluster, lets do work there, and then tells of a monitor that seems to be down.
func (c common) run(cmd *cobra.Command, allNamespaces bool, do func(context.Context, *cluster) error) error {
	cluster, err := c.connect(cmd, allNamespaces)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	err = do(ctx, cluster)
	// Where nothing works, nobody needs to hear that the monitor does not either.
	if !errors.As(err, new(hopelessError)) {
		cluster.warnOfMonitor(ctx)
	}
	return err
}
