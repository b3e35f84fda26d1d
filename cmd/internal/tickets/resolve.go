package tickets

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/terminal"
)

const alreadyResolved = "already resolved"

type resolveOptions struct {
	change
	note string
	// by is who resolves, once it is known.
	by string
}

func newResolveCommand(c common) *cobra.Command {
	o := &resolveOptions{change: change{common: c}}
	cmd := &cobra.Command{
		Use:   "resolve ID...",
		Short: "Resolve tickets by hand",
		Long: `Resolve tickets by hand, also those that are held. A ticket that is resolved stays so.

There is seldom a need: the monitor resolves a ticket by itself once all of its violations have cleared. For
what is still violated it opens a new ticket.`,
		Example: `  # One ticket
  PROGRAM tickets resolve tikv-prod-17 --note "decommissioned on purpose"

  # All open ones of a team: first look which
  PROGRAM tickets resolve -l team=storage --dry-run=server`,
		ValidArgsFunction: c.completeIDs,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args, o.resolve) },
	}
	o.addFlags(cmd)
	cmd.Flags().StringVar(&o.note, "note", "", "Why. At most 4096 characters.")
	return cmd
}

func (o *resolveOptions) resolve(ctx context.Context, c *cluster, t *v1alpha1.Ticket) (string, error) {
	if !t.IsOpen() {
		return alreadyResolved, nil
	}
	body, err := o.body(ctx, c)
	if err != nil {
		return "", err
	}
	_, err = o.patch(ctx, c, t, body, "status")
	if apierrors.IsInvalid(err) && isResolved(ctx, c, t.Name) {
		// Somebody else was faster: a resolution is written once.
		return alreadyResolved, nil
	}
	if err != nil {
		return "", err
	}
	if violated := stillViolated(t); len(violated) > 0 {
		c.warnings.Print(fmt.Sprintf("%s was still violated by %s: while that lasts, a new ticket will open", t.Name, first(violated, 5)))
	}
	return "resolved", nil
}

func (o *resolveOptions) body(ctx context.Context, c *cluster) (any, error) {
	if o.dryRun == dryRunClient {
		return nil, nil
	}
	if o.by == "" {
		var err error
		if o.by, err = c.user(ctx); err != nil {
			return nil, err
		}
	}
	return map[string]any{"status": map[string]any{
		"state": v1alpha1.Resolved,
		"resolution": v1alpha1.Resolution{
			By:     o.by,
			Time:   v1alpha1.NewTime(time.Now()),
			Reason: v1alpha1.Manual,
			Note:   o.note,
		},
	}}, nil
}

// user is who the API server takes the user for.
func (c *cluster) user(ctx context.Context) (string, error) {
	review, err := c.reviews.Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return "", c.explain(err, "create", "selfsubjectreviews", "ask the API server who you are")
	}
	return review.Status.UserInfo.Username, nil
}

func isResolved(ctx context.Context, c *cluster, name string) bool {
	object, err := c.get(ctx, name)
	if err != nil {
		return false
	}
	t, err := decode(object)
	return err == nil && !t.IsOpen()
}

// stillViolated names the violations that were not satisfied when the monitor last looked.
func stillViolated(t *v1alpha1.Ticket) []string {
	var violated []string
	for _, v := range t.Spec.Violations {
		if status := statusOf(t, v); status.Active && status.SatisfiedSinceTime == nil {
			name := v.Invariant
			if v.StoreID != "" {
				name += "(" + terminal.Line(v.StoreID) + ")"
			}
			violated = append(violated, name)
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
