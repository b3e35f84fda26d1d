package tickets

import (
	"context"

	"github.com/spf13/cobra"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
)

type holdOptions struct {
	change
	note string
}

func newHoldCommand(c cli.Common) *cobra.Command {
	o := &holdOptions{change: newChange(c)}
	cmd := &cobra.Command{
		Use:   "hold ID...",
		Short: "Keep tickets open until they are unheld",
		Long: `Keep tickets open: while a hold stands, the monitor does not resolve the ticket, even when all has cleared.
Only a person can, with resolve.

A resolved ticket stays resolved. There, a hold keeps the ticket from being removed when its time is up.

A hold is the annotation operator/hold. This command also writes why (operator/hold-note) and who
(operator/hold-by); this does the same without them:

  kubectl annotate ticket ID operator/hold=true`,
		Example: `  # While you investigate
  PROGRAM tickets hold tikv-prod-17 --note "collecting profiles"

  # A resolved one that is to stay for the post-mortem
  PROGRAM tickets hold tikv-prod-12 --note "post-mortem on Monday"

  # All open ones of a team
  PROGRAM tickets hold -l team=storage`,
		ValidArgsFunction: completeIDs(c, toHold),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.Run(cmd, args, o.hold) },
	}
	o.AddFlags(cmd)
	cmd.Flags().StringVar(&o.note, "note", "", "Why. Replaces the note of a hold that is there.")
	return cmd
}

func (o *holdOptions) hold(ctx context.Context, c *cli.Cluster, t *v1alpha1.Ticket) (string, error) {
	if t.Held() && (o.note == "" || o.note == t.Annotations[v1alpha1.HoldNoteAnnotation]) {
		warnIfResolved(c, t)
		return "already held", nil
	}
	by, err := c.User(ctx)
	if err != nil {
		return "", err
	}
	annotations := map[string]any{v1alpha1.HoldNoteAnnotation: orNull(o.note), v1alpha1.HoldByAnnotation: by}
	if !t.Held() {
		annotations[v1alpha1.HoldAnnotation] = "true"
	}
	after, err := o.Patch(ctx, c, t, cli.Annotated(annotations))
	if err != nil {
		return "", err
	}
	warnIfResolved(c, after)
	return "held", nil
}

// warnIfResolved says what a hold does not do to a ticket.
func warnIfResolved(c *cli.Cluster, t *v1alpha1.Ticket) {
	if !t.IsOpen() {
		c.Warn(t.Name + " is resolved, and stays so: the hold only keeps it from being removed; if the fault comes back, a new ticket opens")
	}
}

type unholdOptions struct{ change }

func newUnholdCommand(c cli.Common) *cobra.Command {
	o := &unholdOptions{newChange(c)}
	cmd := &cobra.Command{
		Use:   "unhold ID...",
		Short: "Let the monitor resolve tickets again",
		Long: `Remove the hold of tickets, with its note and who placed it. The monitor resolves a ticket at its next check if all
has cleared.

This does the same without this program:

  kubectl annotate ticket ID operator/hold- operator/hold-note- operator/hold-by-`,
		Example:           `  PROGRAM tickets unhold tikv-prod-17`,
		ValidArgsFunction: completeIDs(c, toUnhold),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.Run(cmd, args, o.unhold) },
	}
	o.AddFlags(cmd)
	return cmd
}

func (o *unholdOptions) unhold(ctx context.Context, c *cli.Cluster, t *v1alpha1.Ticket) (string, error) {
	if !t.Held() {
		return "not held", nil
	}
	none := map[string]any{v1alpha1.HoldAnnotation: nil, v1alpha1.HoldNoteAnnotation: nil, v1alpha1.HoldByAnnotation: nil}
	if _, err := o.Patch(ctx, c, t, cli.Annotated(none)); err != nil {
		return "", err
	}
	return "unheld", nil
}
