package invariants

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
)

// maxMute is how long a mute may last: one that is forgotten hides faults. For longer there is spec.suspend.
const maxMute = 30 * 24 * time.Hour

// muting is what mute and unmute share.
type muting struct {
	change
	system string
}

func (m *muting) addFlags(cmd *cobra.Command) {
	m.AddFlags(cmd)
	cmd.Flags().StringVar(&m.system, "system", "", "All invariants of this system, instead of names.")
}

func (m *muting) run(cmd *cobra.Command, args []string, apply func(context.Context, *cli.Cluster, *v1alpha1.Invariant) (string, error)) error {
	if m.system != "" {
		if len(args) > 0 {
			return cli.UsageError(cmd, "names and --system cannot be used together")
		}
		m.Keep = ofSystem(m.system)
		m.Which = "invariants of the system " + m.system
	}
	return m.Run(cmd, args, apply)
}

type muteOptions struct {
	muting
	duration time.Duration
	until    string
	// end is when the mute ends.
	end time.Time
}

func newMuteCommand(c cli.Common) *cobra.Command {
	o := &muteOptions{muting: muting{change: change{Common: c, Targets: newTargets()}}}
	cmd := &cobra.Command{
		Use:   "mute (NAME... | -l SELECTOR | --system SYSTEM) (--for DURATION | --until TIME)",
		Short: "Have invariants open no tickets for a while",
		Long: `Mute invariants for planned work. Until the end, they are checked and their conditions tell the truth, but they open and
join no ticket; tickets that are open live on. What is still violated at the end opens one ticket, without a second grace
period.

A mute hides what goes wrong besides, too. Leave an invariant about the whole unmuted, such as

  expression: self.filter(s, s.state != 'Up').size() <= 1

without a storeID, so that a second store that goes down in the middle of a rolling restart still opens a ticket.

A mute is the annotation operator/mute-until, so that this does the same without this program, but for who did it:

  kubectl annotate --overwrite invariant NAME operator/mute-until=2026-11-24T06:00:00Z`,
		Example: `  # While one is worked on
  PROGRAM invariants mute store-down --for 2h

  # A whole system, or what has a label
  PROGRAM invariants mute --system tikv-prod --for 45m
  PROGRAM invariants mute -l team=storage --until 2026-11-24T06:00:00Z`,
		ValidArgsFunction: completeNames(c),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.runMute(cmd, args, time.Now()) },
	}
	o.addFlags(cmd)
	f := cmd.Flags()
	f.DurationVar(&o.duration, "for", 0, "For how long, such as 2h; at most 720h.")
	f.StringVar(&o.until, "until", "", "Until when, such as 2026-11-24T06:00:00Z.")
	cmd.MarkFlagsMutuallyExclusive("for", "until")
	cmd.MarkFlagsOneRequired("for", "until")
	return cmd
}

func (o *muteOptions) runMute(cmd *cobra.Command, args []string, now time.Time) error {
	if o.until == "" {
		o.end = now.Add(o.duration)
	} else {
		end, err := time.Parse(time.RFC3339, o.until)
		if err != nil {
			return fmt.Errorf("--until is %q: it must be a time such as 2026-11-24T06:00:00Z", o.until)
		}
		o.end = end
	}
	switch length := o.end.Sub(now); {
	case length <= 0 && o.until != "":
		return fmt.Errorf("--until is %s, which is over: it must be a time to come", o.until)
	case length <= 0:
		return fmt.Errorf("--for is %v: it must be more than nothing, such as 2h", o.duration)
	case length > maxMute:
		return errors.New("a mute lasts at most 720h, because one that is forgotten hides faults: for longer, set spec.suspend")
	}
	return o.run(cmd, args, o.mute)
}

func (o *muteOptions) mute(ctx context.Context, c *cli.Cluster, i *v1alpha1.Invariant) (string, error) {
	end, before := o.end.UTC().Format(time.RFC3339), i.Annotations[v1alpha1.MuteUntilAnnotation]
	by, err := c.User(ctx)
	if err != nil {
		return "", err
	}
	became := "muted until " + end
	switch {
	case before == end:
		return "already " + became, nil
	case before != "":
		became += " instead of " + before
	}
	_, err = o.Patch(ctx, c, i, cli.Annotated(map[string]any{v1alpha1.MuteUntilAnnotation: end, v1alpha1.MuteByAnnotation: by}))
	return became, err
}

func newUnmuteCommand(c cli.Common) *cobra.Command {
	o := &muting{change: change{Common: c, Targets: newTargets()}}
	cmd := &cobra.Command{
		Use:   "unmute (NAME... | -l SELECTOR | --system SYSTEM)",
		Short: "Have invariants open tickets again",
		Long: `End the mute of invariants. What is violated opens a ticket at the next check, without a second grace period.

This does the same without this program:

  kubectl annotate invariant NAME operator/mute-until- operator/mute-by-`,
		Example: `  PROGRAM invariants unmute store-down
  PROGRAM invariants unmute --system tikv-prod`,
		ValidArgsFunction: completeNames(c),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args, o.unmute) },
	}
	o.addFlags(cmd)
	return cmd
}

func (m *muting) unmute(ctx context.Context, c *cli.Cluster, i *v1alpha1.Invariant) (string, error) {
	if i.Annotations[v1alpha1.MuteUntilAnnotation] == "" {
		return "not muted", nil
	}
	_, err := m.Patch(ctx, c, i, cli.Annotated(map[string]any{v1alpha1.MuteUntilAnnotation: nil, v1alpha1.MuteByAnnotation: nil}))
	return "unmuted", err
}
