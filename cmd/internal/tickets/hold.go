package tickets

import (
	"context"
	"fmt"

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

A hold is the annotation operator/hold, so that this does the same without this program:

  kubectl annotate ticket ID operator/hold=true`,
		Example: `  # While you investigate
  PROGRAM tickets hold tikv-prod-17 --note "collecting profiles"

  # All open ones of a team
  PROGRAM tickets hold -l team=storage`,
		ValidArgsFunction: completeIDs(c),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.Run(cmd, args, o.hold) },
	}
	o.AddFlags(cmd)
	cmd.Flags().StringVar(&o.note, "note", "", "Why. Replaces the note of a hold that is there.")
	return cmd
}

func (o *holdOptions) hold(ctx context.Context, c *cli.Cluster, t *v1alpha1.Ticket) (string, error) {
	if !t.IsOpen() {
		return "", fmt.Errorf("hold the ticket %s: it is already resolved, and stays so; if the fault comes back, a new ticket opens", t.Name)
	}
	if t.Held() && (o.note == "" || o.note == t.Annotations[v1alpha1.HoldNoteAnnotation]) {
		return "already held", nil
	}
	annotations := map[string]any{v1alpha1.HoldNoteAnnotation: nil}
	if o.note != "" {
		annotations[v1alpha1.HoldNoteAnnotation] = o.note
	}
	if !t.Held() {
		annotations[v1alpha1.HoldAnnotation] = "true"
	}
	after, err := o.Patch(ctx, c, t, cli.Annotated(annotations))
	if err != nil {
		return "", err
	}
	if !after.IsOpen() {
		return "", fmt.Errorf("hold the ticket %s: it was resolved a moment before, and stays so; remove the hold again with %s unhold %s",
			t.Name, c.Command, t.Name)
	}
	return "held", nil
}

type unholdOptions struct{ change }

func newUnholdCommand(c cli.Common) *cobra.Command {
	o := &unholdOptions{newChange(c)}
	cmd := &cobra.Command{
		Use:   "unhold ID...",
		Short: "Let the monitor resolve tickets again",
		Long: `Remove the hold of tickets. The monitor resolves a ticket at its next check if all has cleared.

This does the same without this program:

  kubectl annotate ticket ID operator/hold-`,
		Example: `  PROGRAM tickets unhold tikv-prod-17`,

		ValidArgsFunction: completeIDs(c),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.Run(cmd, args, o.unhold) },
	}
	o.AddFlags(cmd)
	return cmd
}

func (o *unholdOptions) unhold(ctx context.Context, c *cli.Cluster, t *v1alpha1.Ticket) (string, error) {
	if !t.Held() {
		return "not held", nil
	}
	none := map[string]any{v1alpha1.HoldAnnotation: nil, v1alpha1.HoldNoteAnnotation: nil}
	if _, err := o.Patch(ctx, c, t, cli.Annotated(none)); err != nil {
		return "", err
	}
	return "unheld", nil
}
