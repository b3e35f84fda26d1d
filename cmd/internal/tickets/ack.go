package tickets

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
	"invariant.dev/operator/cmd/internal/terminal"
)

type ackOptions struct {
	change
	note string
	take bool
}

func newAckCommand(c cli.Common) *cobra.Command {
	o := &ackOptions{change: newChange(c)}
	cmd := &cobra.Command{
		Use:     "ack ID...",
		Aliases: []string{"acknowledge"},
		Short:   "Say that you are at it",
		Long: `Acknowledge tickets: say that you are at it, so that nobody else needs to be.

Of several people who acknowledge a ticket at the same moment, one has it, and the others are told who. What
somebody else has stays theirs unless you take it over with --take; the ticket then says from whom. To acknowledge what you
have already is no error, and a new --note replaces yours.

An open ticket becomes Acknowledged; a diagnosed one stays Diagnosed. The monitor goes on counting, and resolves
the ticket when all has cleared.`,
		Example: `  # This one is yours
  PROGRAM tickets ack tikv-prod-17 --note "looking at the disks"

  # Relieve a colleague
  PROGRAM tickets ack tikv-prod-17 --take --note "ana's shift is over"

  # All open ones of a team
  PROGRAM tickets ack -l team=storage`,
		ValidArgsFunction: completeIDs(c, toAcknowledge),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.Run(cmd, args, o.ack) },
	}
	o.AddFlags(cmd)
	cmd.Flags().StringVar(&o.note, "note", "", "What you are at. At most 4096 characters. Replaces your note that is there.")
	cmd.Flags().BoolVar(&o.take, "take", false, "Take over what somebody else has acknowledged.")
	return cmd
}

func (o *ackOptions) ack(ctx context.Context, c *cli.Cluster, t *v1alpha1.Ticket) (string, error) {
	me, err := c.User(ctx)
	if err != nil {
		return "", err
	}
	var former v1alpha1.Acknowledgement
	if a := t.Status.Acknowledgement; a != nil {
		former = *a
	}
	became := "acknowledged"
	next := map[string]any{"by": me, "time": v1alpha1.NewTime(time.Now()), "note": orNull(o.note), "takenFrom": nil}
	switch {
	case !t.IsOpen():
		return "", fmt.Errorf("acknowledge the ticket %s: it is already resolved, and stays so; if the fault comes back, a new ticket opens", t.Name)
	case former.By == "":
	case former.By == me && (o.note == "" || o.note == former.Note) && t.Status.State != v1alpha1.Open:
		return "already acknowledged", nil
	case former.By == me:
		next = map[string]any{}
		if o.note != "" {
			next["note"] = o.note
		}
	case !o.take:
		return "", fmt.Errorf("acknowledge the ticket %s: %s, and nothing was changed; --take takes it over",
			t.Name, whose("has acknowledged it already", former.By, former.Time))
	default:
		next["takenFrom"] = former.By
		became += ", taken over from " + terminal.Line(former.By)
	}
	status := map[string]any{"acknowledgement": next}
	if t.Status.State == v1alpha1.Open {
		status["state"] = v1alpha1.Acknowledged
	}
	if _, err := o.Patch(ctx, c, t, o.StatusOf(t, status), "status"); err != nil {
		return "", err
	}
	return became, nil
}

// orNull is a value of a merge patch: null removes the field.
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// whose says who has done something already, and when, for errors.
func whose(done, by string, when *v1alpha1.Time) string {
	p := &page{now: time.Now()}
	if when == nil {
		return terminal.Line(by) + " " + done
	}
	return terminal.Line(by) + " " + done + ", at " + p.at(when)
}
