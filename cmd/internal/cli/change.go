package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
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

	// attempt is how often the present object has been written to in vain.
	attempt int
}

// AddFlags adds --selector and --dry-run to the verb.
func (c *Change[T]) AddFlags(cmd *cobra.Command) {
	c.Targets.AddFlags(cmd)
	cmd.Flags().StringVar(&c.DryRun, "dry-run", DryRunNone,
		"Must be none, client or server. With client, only print what would be done. With server, let the API server check it without storing it.")
	CompleteFlag(cmd, "dry-run", DryRunNone, DryRunClient, DryRunServer)
}

// Run applies a change to each target and prints what became of it: "resolved", "already resolved". apply decides by the
// object what to do, and writes with Patch, which heeds --dry-run. Where another write came in between, it is read and
// decided anew.
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
			became, err := c.decide(ctx, cluster, sent, apply)
			if err != nil {
				return err
			}
			return (&printers.NamePrinter{Operation: became + c.suffix()}).PrintObj(sent, c.Out)
		})
	})
}

// writeBackoff is how often a write is tried while others write to the same object: the monitor does so once a cycle, and
// many people may at once. All waits together are some ten seconds.
//
// The first guarded tries are made on condition that nobody has written to the object since it was read, so that even two
// commands of the same user know which of them came first. Against a writer that never rests that would fail for ever: the
// others leave it to the API server's rules, which let nobody's words be lost.
const guarded = 8

var writeBackoff = wait.Backoff{Steps: 25, Duration: 20 * time.Millisecond, Factor: 1.2, Jitter: 0.5}

// decide calls apply with the object as it was sent, and then as it is, until no other write comes in between.
func (c *Change[T]) decide(ctx context.Context, cluster *Cluster, sent *unstructured.Unstructured,
	apply func(context.Context, *Cluster, T) (string, error)) (became string, err error) {
	c.attempt = 0
	err = wait.ExponentialBackoffWithContext(ctx, writeBackoff, func(ctx context.Context) (bool, error) {
		object, decodeErr := c.Kind.Decode(sent)
		if decodeErr != nil {
			return false, decodeErr
		}
		became, err = apply(ctx, cluster, object)
		// Without a condition, a write that was decided on what is no longer so is refused by the rules.
		if !apierrors.IsConflict(err) && (c.attempt < guarded || !apierrors.IsInvalid(err)) {
			return true, err
		}
		c.attempt++
		fresh, readErr := c.Kind.Get(ctx, cluster, sent.GetName())
		if readErr != nil {
			return false, readErr
		}
		sent = fresh
		return false, nil
	})
	if wait.Interrupted(err) {
		return "", cluster.explain(cmp.Or(ctx.Err(), errBusy), "patch", c.Kind.plural, "change the "+c.Kind.singular+" "+sent.GetName())
	}
	return became, err
}

var errBusy = errors.New("others keep writing to it; try again")

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

// StatusOf is the change of a status, in the first tries on condition that nobody has written to the object since it was read.
func (c *Change[T]) StatusOf(object T, status map[string]any) any {
	change := map[string]any{"status": status}
	if c.attempt < guarded {
		change["metadata"] = map[string]any{"resourceVersion": object.GetResourceVersion()}
	}
	return change
}
