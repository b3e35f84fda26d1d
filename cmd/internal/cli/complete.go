package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/cmd/internal/terminal"
)

// completionTimeout is how long somebody waits who presses the tabulator key.
const completionTimeout = 3 * time.Second

// CompleteNames offers the names of the objects of the namespace that Fields and Offered select, in the order of Compare,
// that are not yet on the command line. about says in a few words what an object is about.
func (t Targets[T]) CompleteNames(c Common, about func(T) string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const directive = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
		cluster, err := c.Connect(cmd, false)
		if err != nil {
			return nil, directive
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		objects, err := t.Kind.List(ctx, cluster, metav1.ListOptions{FieldSelector: t.Fields})
		if err != nil {
			return nil, directive
		}
		var names []cobra.Completion
		for _, item := range t.Kind.Sort(objects, t.Compare) {
			if name := item.GetName(); !slices.Contains(args, name) && (t.Offered == nil || t.Offered(item.Read)) {
				names = append(names, cobra.CompletionWithDesc(name, terminal.Line(about(item.Read))))
			}
		}
		return names, directive
	}
}

// CompleteFlag offers the values of a flag of cmd. It panics if there is no such flag.
func CompleteFlag(cmd *cobra.Command, name string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag does not exist: a mistake in this program
	}
}
