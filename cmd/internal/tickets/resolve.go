package tickets

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
	"invariant.dev/operator/cmd/internal/terminal"
)

const alreadyResolved = "already resolved"

type resolveOptions struct {
	change
	note string
}

func newResolveCommand(c cli.Common) *cobra.Command {
	o := &resolveOptions{change: newChange(c)}
	cmd := &cobra.Command{
		Use:   "resolve ID...",
		Short: "Resolve tickets by hand",
		Long: `Resolve tickets by hand, also those that are held. A ticket that is resolved stays so.

There is seldom a need: the monitor resolves a ticket by itself once all of its violations have cleared. For
what is still violated it opens a new ticket at its next check. To leave such a fault be, acknowledge its ticket with
ack, or, for planned work, mute its Invariant.`,
		Example: `  # One ticket
  PROGRAM tickets resolve tikv-prod-17 --note "decommissioned on purpose"

  # All open ones of a team: first look which
  PROGRAM tickets resolve -l team=storage --dry-run=server`,
		ValidArgsFunction: completeIDs(c, toResolve),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.Run(cmd, args, o.resolve) },
	}
	o.AddFlags(cmd)
	cmd.Flags().StringVar(&o.note, "note", "", "Why. At most 4096 characters.")
	return cmd
}

func (o *resolveOptions) resolve(ctx context.Context, c *cli.Cluster, t *v1alpha1.Ticket) (string, error) {
	if !t.IsOpen() {
		return alreadyResolved, nil
	}
	body, err := o.body(ctx, c)
	if err != nil {
		return "", err
	}
	_, err = o.Patch(ctx, c, t, body, "status")
	if apierrors.IsInvalid(err) && isResolved(ctx, c, t.Name) {
		// Somebody else was faster: a resolution is written once.
		return alreadyResolved, nil
	}
	if err != nil {
		return "", err
	}
	if violated := stillViolated(t); len(violated) > 0 {
		c.Warn(fmt.Sprintf("%s was still violated by %s: while that lasts, a new ticket will open; %s ack on that one, or %s mute for planned work, leaves it be",
			t.Name, first(violated, 5), c.Command, strings.Replace(c.Command, "tickets", "invariants", 1)))
	}
	return "resolved", nil
}

func (o *resolveOptions) body(ctx context.Context, c *cli.Cluster) (any, error) {
	if o.DryRun == cli.DryRunClient {
		return nil, nil
	}
	by, err := c.User(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]any{"status": map[string]any{
		"state": v1alpha1.Resolved,
		"resolution": v1alpha1.Resolution{
			By:     by,
			Time:   v1alpha1.NewTime(time.Now()),
			Reason: v1alpha1.Manual,
			Note:   o.note,
		},
	}}, nil
}

func isResolved(ctx context.Context, c *cli.Cluster, name string) bool {
	object, err := cli.Tickets.Get(ctx, c, name)
	if err != nil {
		return false
	}
	t, err := cli.Tickets.Decode(object)
	return err == nil && !t.IsOpen()
}

// stillViolated names the violations that were not satisfied when the monitor last looked.
func stillViolated(t *v1alpha1.Ticket) []string {
	var violated []string
	for _, v := range t.Spec.Violations {
		if status := statusOf(t, v); status.Active && status.SatisfiedSinceTime == nil {
			violated = append(violated, terminal.Line(nameOf(v)))
		}
	}
	return violated
}

// first is the first n of names, and how many more there are.
func first(names []string, n int) string {
	if more := len(names) - n; more > 0 {
		names = append(slices.Clone(names[:n]), fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}
