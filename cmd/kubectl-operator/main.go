// Command kubectl-operator is the plugin of kubectl: kubectl operator tickets.
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
	root := program.NewRoot("kubectl-operator", "Work on what is broken in your systems", version)
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl operator"}
	// A shell completes kubectl, not its plugins.
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(tickets.NewCommand(streams))
	root.AddCommand(invariants.NewCommand(streams))
	return root
}
