package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/ledger"
)

// DefaultTicketRetention is how long a resolved ticket is kept where the monitor does not say: thirty days, because
// post-mortems need the diagnoses.
const DefaultTicketRetention = 720 * time.Hour

// newestRetry is when a system's newest ticket is looked at again that would otherwise be removed.
const newestRetry = time.Hour

// retain removes a ticket whose time has come, and otherwise returns when that will be; zero where nothing but a change of
// the ticket can bring it about. A system's newest ticket stays: the next one is numbered by it.
func (r *TicketReconciler) retain(ctx context.Context, ticket *v1alpha1.Ticket, now time.Time) (time.Time, error) {
	if r.Retention == 0 {
		return time.Time{}, nil
	}
	window, err := r.longestWindow(ctx, ticket)
	if err != nil {
		return time.Time{}, err
	}
	expiry := ledger.Expiry(ticket, max(r.Retention, window))
	if expiry.IsZero() || now.Before(expiry) {
		return expiry, nil
	}
	isNewest, err := r.isNewest(ctx, ticket)
	if err != nil {
		return time.Time{}, err
	}
	if isNewest {
		return now.Add(newestRetry), nil
	}
	return time.Time{}, r.remove(ctx, ticket)
}

// longestWindow is the longest flapping window of the Invariants of a ticket's system: its history is needed for so long.
func (r *TicketReconciler) longestWindow(ctx context.Context, ticket *v1alpha1.Ticket) (time.Duration, error) {
	var invariants v1alpha1.InvariantList
	err := r.Client.List(ctx, &invariants, client.InNamespace(ticket.Namespace), client.MatchingFields{systemIndex: ticket.Spec.System}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return 0, fmt.Errorf("list the Invariants of system %s/%s: %w", ticket.Namespace, ticket.Spec.System, err)
	}
	var longest time.Duration
	for i := range invariants.Items {
		longest = max(longest, ledger.PolicyOf(&invariants.Items[i], time.Time{}).Flapping.Window)
	}
	return longest, nil
}

// isNewest tells whether no ticket of the system has a higher number. Those that do are asked for at the API server: the cache
// may still have them when they were deleted.
func (r *TicketReconciler) isNewest(ctx context.Context, ticket *v1alpha1.Ticket) (bool, error) {
	// Mostly the next one is there, which saves looking through all.
	var next v1alpha1.Ticket
	name := v1alpha1.TicketName(ticket.Spec.System, ticket.Number()+1)
	if err := r.Client.Get(ctx, types.NamespacedName{Namespace: ticket.Namespace, Name: name}, &next); err == nil && next.Spec.System == ticket.Spec.System {
		if isThere, err := r.isThere(ctx, &next); err != nil || isThere {
			return false, err
		}
	}
	newer, err := r.newerThan(ctx, ticket)
	if err != nil {
		return false, err
	}
	for _, other := range newer {
		if isThere, err := r.isThere(ctx, other); err != nil || isThere {
			return false, err
		}
	}
	return true, nil
}

// newerThan are the tickets of the same system with a higher number in the cache, newest first: that one is the last to go.
func (r *TicketReconciler) newerThan(ctx context.Context, ticket *v1alpha1.Ticket) ([]*v1alpha1.Ticket, error) {
	var tickets v1alpha1.TicketList
	err := r.Client.List(ctx, &tickets, client.InNamespace(ticket.Namespace), client.MatchingFields{systemIndex: ticket.Spec.System}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("list the tickets of system %s/%s: %w", ticket.Namespace, ticket.Spec.System, err)
	}
	var newer []*v1alpha1.Ticket
	for i := range tickets.Items {
		if tickets.Items[i].Number() > ticket.Number() {
			newer = append(newer, &tickets.Items[i])
		}
	}
	slices.SortFunc(newer, func(a, b *v1alpha1.Ticket) int { return cmp.Compare(b.Number(), a.Number()) })
	return newer, nil
}

// isThere asks the API server whether it still has a ticket.
func (r *TicketReconciler) isThere(ctx context.Context, ticket *v1alpha1.Ticket) (bool, error) {
	found := metav1.PartialObjectMetadata{}
	found.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Ticket"))
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(ticket), &found)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("find out whether ticket %s/%s is still there: %w", ticket.Namespace, ticket.Name, err)
	}
	return err == nil, nil
}

// remove deletes a ticket, provided that nobody has written to it since it was read: a hold placed a moment before wins.
func (r *TicketReconciler) remove(ctx context.Context, ticket *v1alpha1.Ticket) error {
	unchanged := client.Preconditions{UID: &ticket.UID, ResourceVersion: &ticket.ResourceVersion}
	switch err := r.Client.Delete(ctx, ticket, unchanged); {
	case isConflict(err):
		return nil
	case err != nil:
		return fmt.Errorf("remove ticket %s/%s, which was resolved more than %v ago: %w", ticket.Namespace, ticket.Name, r.Retention, err)
	}
	r.Log.Info("Ticket removed", "ticket", ticket.Namespace+"/"+ticket.Name, "note", fmt.Sprintf("it was resolved more than %v ago", r.Retention))
	return nil
}
