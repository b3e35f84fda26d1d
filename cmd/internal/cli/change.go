package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/printers"
)

// The values of --dry-run.
const (
	DryRunNone   = "none"
	DryRunClient = "client"
	DryRunServer = "server"
)

// Change is what the verbs share that change objects of a kind.
type Change[T Object] struct {
	Common
	Targets[T]
	// DryRun is one of DryRunNone, DryRunClient and DryRunServer.
	DryRun string
}

// AddFlags adds --selector and --dry-run to the verb.
func (c *Change[T]) AddFlags(cmd *cobra.Command) {
	c.Targets.AddFlags(cmd)
	cmd.Flags().StringVar(&c.DryRun, "dry-run", DryRunNone,
		"Must be none, client or server. With client, only print what would be done. With server, let the API server check it without storing it.")
	CompleteFlag(cmd, "dry-run", DryRunNone, DryRunClient, DryRunServer)
}

// Run applies a change to each target and prints what became of it: "resolved", "already resolved". apply writes with
// Patch, which heeds --dry-run.
func (c *Change[T]) Run(cmd *cobra.Command, args []string, apply func(context.Context, *Cluster, T) (string, error)) error {
	if err := c.Complete(cmd, args); err != nil {
		return err
	}
	switch c.DryRun {
	case DryRunNone, DryRunClient, DryRunServer:
	default:
		return UsageError(cmd, fmt.Sprintf("--dry-run is %q: it must be none, client or server", c.DryRun))
	}
	return c.Common.Run(cmd, false, func(ctx context.Context, cluster *Cluster) error {
		return c.Each(ctx, cluster, func(sent *unstructured.Unstructured) error {
			object, err := c.Kind.Decode(sent)
			if err != nil {
				return err
			}
			became, err := apply(ctx, cluster, object)
			if err != nil {
				return err
			}
			return (&printers.NamePrinter{Operation: became + c.suffix()}).PrintObj(sent, c.Out)
		})
	})
}

// suffix says of an operation that it was not really done.
func (c *Change[T]) suffix() string {
	switch c.DryRun {
	case DryRunClient:
		return " (dry run)"
	case DryRunServer:
		return " (server dry run)"
	default:
		return ""
	}
}

// Patch merges a change into an object, or its subresource, as --dry-run says, and returns the object as it is then.
func (c *Change[T]) Patch(ctx context.Context, cluster *Cluster, object T, change any, subresource ...string) (T, error) {
	switch c.DryRun {
	case DryRunClient:
		return object, nil
	case DryRunServer:
		return c.Kind.Patch(ctx, cluster, object, change, []string{metav1.DryRunAll}, subresource...)
	default:
		return c.Kind.Patch(ctx, cluster, object, change, nil, subresource...)
	}
}

// Annotated is the change that sets annotations, and removes those that are nil.
func Annotated(annotations map[string]any) any {
	return map[string]any{"metadata": map[string]any{"annotations": annotations}}
}
