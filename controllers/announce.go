package controllers

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/ledger"
	"invariant.dev/operator/controllers/verdict"
)

// maxEventNote is what the API server takes as an Event's note, in bytes.
const maxEventNote = 1024

// announcement is one thing that happened to a ticket or an Invariant: a line in the log and an Event.
type announcement struct {
	eventType, reason, action, note string
}

func openedAnnouncement(status v1alpha1.TicketStatus) announcement {
	return announcement{corev1.EventTypeWarning, "Opened", "Open", status.Summary}
}

func recurringAnnouncement(keys []ledger.Key) announcement {
	names := make([]string, 0, len(keys))
	for _, key := range keys {
		name := key.Invariant
		if key.StoreID != "" {
			name += "(" + key.StoreID + ")"
		}
		names = append(names, name)
	}
	return announcement{corev1.EventTypeWarning, "Recurring", "Count", "violated again: " + strings.Join(names, ", ")}
}

func heldAnnouncement() announcement {
	return announcement{corev1.EventTypeNormal, "Held", "Hold", "kept open by the annotation " + v1alpha1.HoldAnnotation}
}

func releasedAnnouncement() announcement {
	return announcement{corev1.EventTypeNormal, "Released", "Unhold", "no longer held"}
}

func resolvedAnnouncement(status v1alpha1.TicketStatus) announcement {
	note := "resolved"
	if status.Resolution != nil {
		note = fmt.Sprintf("%s, by %s", status.Resolution.Reason, status.Resolution.By)
	}
	return announcement{corev1.EventTypeNormal, "Resolved", "Resolve", note}
}

func muteIgnoredAnnouncement(err error) announcement {
	return announcement{corev1.EventTypeWarning, "MuteIgnored", "Mute", err.Error()}
}

// announceTicket says it in the log and in an Event on the ticket.
func (r *recorder) announceTicket(ticket *v1alpha1.Ticket, a announcement) {
	note := verdict.Truncate(a.note, maxEventNote)
	r.reconciler.Log.Info("Ticket "+strings.ToLower(a.reason), "ticket", ticket.Namespace+"/"+ticket.Name, "note", note)
	r.reconciler.Recorder.Eventf(ticket, nil, a.eventType, a.reason, a.action, "%s", note)
}

func (r *recorder) opened(ticket *v1alpha1.Ticket, status v1alpha1.TicketStatus) {
	r.announceTicket(ticket, openedAnnouncement(status))
}

// updated announces what changed for a person.
func (r *recorder) updated(u ledger.Update) {
	if len(u.Recurred) > 0 {
		r.announceTicket(u.Ticket, recurringAnnouncement(u.Recurred))
	}
	switch was, is := isHeld(u.Ticket.Status), isHeld(u.Status); {
	case is && !was:
		r.announceTicket(u.Ticket, heldAnnouncement())
	case was && !is:
		r.announceTicket(u.Ticket, releasedAnnouncement())
	}
	if u.Ticket.IsOpen() && u.Status.State == v1alpha1.Resolved {
		r.announceTicket(u.Ticket, resolvedAnnouncement(u.Status))
	}
}

func isHeld(status v1alpha1.TicketStatus) bool {
	held := v1alpha1.FindCondition(status.Conditions, v1alpha1.ConditionHeld)
	return held != nil && held.Status == metav1.ConditionTrue
}

// announceOthers announces the tickets that somebody else resolved since the last cycle.
func (r *recorder) announceOthers(ctx context.Context) {
	before := r.scope.open
	r.scope.open = map[string]bool{}
	for _, ticket := range r.scope.tickets {
		if ticket.IsOpen() {
			r.scope.open[ticket.Name] = true
		}
	}
	for name := range before {
		if r.scope.open[name] {
			continue
		}
		delete(r.scope.lastWrite, name)
		delete(r.scope.uncounted, name)
		var ticket v1alpha1.Ticket
		err := r.reconciler.Client.Get(ctx, types.NamespacedName{Namespace: r.scope.key.Namespace, Name: name}, &ticket)
		if err == nil && !ticket.IsOpen() && (ticket.Status.Resolution == nil || ticket.Status.Resolution.By != ledger.MonitorName) {
			r.announceTicket(&ticket, resolvedAnnouncement(ticket.Status))
		}
	}
}
