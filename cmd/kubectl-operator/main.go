// Command kubectl-operator is the plugin of kubectl: kubectl operator tickets. Under the name kubectl_complete-operator it is
// what kubectl runs to complete a command of the plugin: https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/
package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"invariant.dev/operator/cmd/internal/invariants"
	"invariant.dev/operator/cmd/internal/program"
	"invariant.dev/operator/cmd/internal/tickets"
)

// version is set when a release is built.
var version = "dev"

// completer is the name under which kubectl looks for the program that completes the plugin's commands.
const completer = "kubectl_complete-operator"

func main() {
	root := newRootCommand()
	if strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") == completer {
		root.SetArgs(append([]string{cobra.ShellCompRequestCmd}, os.Args[1:]...))
	}
	os.Exit(program.Run(root, os.Stderr))
}

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
