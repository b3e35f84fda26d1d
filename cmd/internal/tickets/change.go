package tickets

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/printers"

	"invariant.dev/operator/api/v1alpha1"
)

// The values of --dry-run.
const (
	dryRunNone   = "none"
	dryRunClient = "client"
	dryRunServer = "server"
)

// change is what the verbs that change tickets share.
type change struct {
	common
	targets
	dryRun string
}

func (c *change) addFlags(cmd *cobra.Command) {
	c.targets.addFlags(cmd)
	cmd.Flags().StringVar(&c.dryRun, "dry-run", dryRunNone,
		"Must be none, client or server. With client, only print what would be done. With server, let the API server check it without storing it.")
	completeFlag(cmd, "dry-run", dryRunNone, dryRunClient, dryRunServer)
}

// run applies a change to each ticket and prints what became of it: "resolved", "already resolved".
func (c *change) run(cmd *cobra.Command, args []string, apply func(context.Context, *cluster, *v1alpha1.Ticket) (string, error)) error {
	if err := c.complete(cmd, args); err != nil {
		return err
	}
	switch c.dryRun {
	case dryRunNone, dryRunClient, dryRunServer:
	default:
		return usageError(cmd, fmt.Sprintf("--dry-run is %q: it must be none, client or server", c.dryRun))
	}
	return c.common.run(cmd, false, func(ctx context.Context, cluster *cluster) error {
		return c.each(ctx, cluster, func(object *unstructured.Unstructured) error {
			ticket, err := decode(object)
			if err != nil {
				return err
			}
			became, err := apply(ctx, cluster, ticket)
			if err != nil {
				return err
			}
			return (&printers.NamePrinter{Operation: became + c.suffix()}).PrintObj(object, c.Out)
		})
	})
}

// suffix says of an operation that it was not really done.
func (c *change) suffix() string {
	switch c.dryRun {
	case dryRunClient:
		return " (dry run)"
	case dryRunServer:
		return " (server dry run)"
	default:
		return ""
	}
}

// patch merges a change into a ticket as --dry-run says, and returns the ticket as it is then.
func (c *change) patch(ctx context.Context, cluster *cluster, t *v1alpha1.Ticket, body any, subresource ...string) (*v1alpha1.Ticket, error) {
	switch c.dryRun {
	case dryRunClient:
		return t, nil
	case dryRunServer:
		return cluster.patch(ctx, t, body, []string{metav1.DryRunAll}, subresource...)
	default:
		return cluster.patch(ctx, t, body, nil, subresource...)
	}
}
