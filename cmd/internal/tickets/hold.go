package tickets

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"invariant.dev/operator/api/v1alpha1"
)

type holdOptions struct {
	change
	note string
}

func newHoldCommand(c common) *cobra.Command {
	o := &holdOptions{change: change{common: c}}
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
		ValidArgsFunction: c.completeIDs,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args, o.hold) },
	}
	o.addFlags(cmd)
	cmd.Flags().StringVar(&o.note, "note", "", "Why. Replaces the note of a hold that is there.")
	return cmd
}

func (o *holdOptions) hold(ctx context.Context, c *cluster, t *v1alpha1.Ticket) (string, error) {
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
	after, err := o.patch(ctx, c, t, annotated(annotations))
	if err != nil {
		return "", err
	}
	if !after.IsOpen() {
		return "", fmt.Errorf("hold the ticket %s: it was resolved a moment before, and stays so; remove the hold again with %s unhold %s",
			t.Name, c.program, t.Name)
	}
	return "held", nil
}

func newUnholdCommand(c common) *cobra.Command {
	o := &change{common: c}
	cmd := &cobra.Command{
		Use:   "unhold ID...",
		Short: "Let the monitor resolve tickets again",
		Long: `Remove the hold of tickets. The monitor resolves a ticket at its next check if all has cleared.

This does the same without this program:

  kubectl annotate ticket ID operator/hold-`,
		Example: `  PROGRAM tickets unhold tikv-prod-17`,

		ValidArgsFunction: c.completeIDs,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args, o.unhold) },
	}
	o.addFlags(cmd)
	return cmd
}

func (c *change) unhold(ctx context.Context, cluster *cluster, t *v1alpha1.Ticket) (string, error) {
	if !t.Held() {
		return "not held", nil
	}
	none := map[string]any{v1alpha1.HoldAnnotation: nil, v1alpha1.HoldNoteAnnotation: nil}
	if _, err := c.patch(ctx, cluster, t, annotated(none)); err != nil {
		return "", err
	}
	return "unheld", nil
}

// annotated is the patch that sets annotations, and removes those that are nil.
func annotated(annotations map[string]any) any {
	return map[string]any{"metadata": map[string]any{"annotations": annotations}}
}
