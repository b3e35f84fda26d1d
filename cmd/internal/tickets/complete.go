package tickets

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

// completeIDs offers the open tickets of the namespace, worst first, that are not yet on the command line. It is a
// cobra.CompletionFunc.
func (c common) completeIDs(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	cluster, err := c.connect(cmd, false)
	if err != nil {
		return nil, directive
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	objects, err := cluster.list(ctx, ticketsResource, metav1.ListOptions{FieldSelector: openTickets})
	if err != nil {
		return nil, directive
	}
	var ids []cobra.Completion
	for _, o := range sortObjects(objects) {
		if !slices.Contains(args, o.ticket.Name) {
			ids = append(ids, cobra.CompletionWithDesc(o.ticket.Name, terminal.Line(o.ticket.Status.Summary)))
		}
	}
	return ids, directive
}

// completeFlag offers the values of a flag.
func completeFlag(cmd *cobra.Command, name string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag does not exist: a mistake in this package
	}
}
