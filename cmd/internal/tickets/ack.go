package tickets

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
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
		Long: `Acknowledge tickets: say that you are at it, under your name as the API server knows it.

Only one has a ticket. Of two who acknowledge it at the same moment, one is told that the other has it; the exit code
is 1 then, and nothing is changed. Your own again is no error: "already acknowledged". A ticket that is diagnosed stays
so, and has your acknowledgement besides. Give each agent an account of its own: two under one account are the same user.`,
		Example: `  # This one is mine
  PROGRAM tickets ack tikv-prod-17 --note "looking at the disk"

  # From now on it is mine, whoever had it
  PROGRAM tickets ack tikv-prod-17 --take`,
		ValidArgsFunction: completeIDs(c),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.Run(cmd, args, o.ack) },
	}
	o.AddFlags(cmd)
	cmd.Flags().StringVar(&o.note, "note", "", "A word on it. At most 4096 characters.")
	cmd.Flags().BoolVar(&o.take, "take", false, "Take over what somebody else has acknowledged.")
	return cmd
}

func (o *ackOptions) ack(ctx context.Context, c *cli.Cluster, t *v1alpha1.Ticket) (became string, _ error) {
	by, err := c.User(ctx)
	if err != nil {
		return "", err
	}
	err = o.CompareAndSet(ctx, c, t, func(t *v1alpha1.Ticket) (change map[string]any, err error) {
		change, became, err = o.decide(t, by, time.Now())
		return change, err
	}, "status")
	return became, err
}

// decide is what to write on a ticket so that by has it, if anything, and what has become of it then.
func (o *ackOptions) decide(t *v1alpha1.Ticket, by string, now time.Time) (change map[string]any, became string, _ error) {
	became = "acknowledged"
	acknowledgement := map[string]any{"by": by, "time": v1alpha1.NewTime(now), "note": nil, "takenFrom": nil}
	switch before := t.Status.Acknowledgement; {
	case !t.IsOpen():
		return nil, "", fmt.Errorf("acknowledge the ticket %s: it is already resolved; if the fault comes back, a new ticket opens", t.Name)
	case before == nil:
	case before.By == by && (o.note == "" || o.note == before.Note):
		return nil, "already acknowledged", nil
	case before.By == by:
		// A further word does not make it a later one.
		acknowledgement = map[string]any{}
	case !o.take:
		return nil, "", fmt.Errorf("acknowledge the ticket %s: %s has it%s; with --take you take it over", t.Name, before.By, since(before.Time, now))
	default:
		acknowledgement["takenFrom"] = before.By
		became = "acknowledged, taken over from " + before.By
	}
	if o.note != "" {
		acknowledgement["note"] = o.note
	}
	status := map[string]any{"acknowledgement": acknowledgement}
	if t.Status.State == v1alpha1.Open {
		status["state"] = v1alpha1.Acknowledged
	}
	return map[string]any{"status": status}, became, nil
}
