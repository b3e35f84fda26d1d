// Command operator is the monitor, and the commands for its tickets.
package main

import (
	"os"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"invariant.dev/operator/cmd/internal/invariants"
	"invariant.dev/operator/cmd/internal/program"
	"invariant.dev/operator/cmd/internal/tickets"
)

// version is set when a release is built.
var version = "dev"

func main() { os.Exit(program.Run(newRootCommand(), os.Stderr)) }

func newRootCommand() *cobra.Command {
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	root := program.NewRoot("operator", "Check what must always be true of your systems, and work on what is not", version)
	root.AddCommand(newMonitorCommand())
	root.AddCommand(tickets.NewCommand(streams))
	root.AddCommand(invariants.NewCommand(streams))
	return root
}
