// Package cli is what the commands for one kind of object have in common: they take kubectl's flags, connect to the
// cluster, run a verb there on objects that are named or selected, print what came of it, and explain what failed.
//
// A command is a cobra.Command with verbs below it (Common.AddVerbs). Most verbs are a List or a Change of a Kind.
package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// ProgramName stands in the examples of commands for the name that the program was called by.
const ProgramName = "PROGRAM"

// Common is what all verbs of a command share.
type Common struct {
	genericiooptions.IOStreams
	// Flags are kubectl's own: they say which cluster, which namespace and which user.
	Flags *genericclioptions.ConfigFlags
}

// NewCommon returns what the verbs of a command share that has not been typed yet.
func NewCommon(streams genericiooptions.IOStreams) Common {
	return Common{IOStreams: streams, Flags: genericclioptions.NewConfigFlags(true)}
}

// AddVerbs puts kubectl's flags on cmd, and verbs below it. Alone, cmd shows its help. ProgramName in the examples of
// all of them becomes the name of the program when they are shown.
func (c Common) AddVerbs(cmd *cobra.Command, verbs ...*cobra.Command) {
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(verbs...)
	// Nothing is discovered, so nothing is cached.
	c.Flags.CacheDir = nil
	c.Flags.AddFlags(cmd.PersistentFlags())
	nameExamples(cmd)
}

// nameExamples puts the name of the program into the examples of cmd and its verbs when they are shown; before
// that, nobody knows it.
func nameExamples(cmd *cobra.Command) {
	help := cmd.HelpFunc()
	cmd.SetHelpFunc(func(c *cobra.Command, args []string) {
		c.Example = strings.ReplaceAll(c.Example, ProgramName, c.Root().DisplayName())
		help(c, args)
	})
}

// Run connects to the cluster, lets do work there, and then tells of a monitor that seems to be down. cmd is the verb.
func (c Common) Run(cmd *cobra.Command, allNamespaces bool, do func(context.Context, *Cluster) error) error {
	cluster, err := c.Connect(cmd, allNamespaces)
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

// UsageError is an error in what was typed for cmd. It says where its usage is explained.
func UsageError(cmd *cobra.Command, message string) error {
	return fmt.Errorf("%s\nSee '%s --help' for usage", message, cmd.CommandPath())
}
