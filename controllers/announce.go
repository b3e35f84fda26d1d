package controllers

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

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

func openedAnnouncement(ticket *v1alpha1.Ticket, status v1alpha1.TicketStatus) announcement {
	note := status.Summary
	if ticket.Spec.Previous != "" {
		note += "; the ticket before it is " + ticket.Spec.Previous
	}
	return announcement{corev1.EventTypeWarning, "Opened", "Open", note}
}

func recurringAnnouncement(keys []ledger.Key) announcement {
	names := make([]string, 0, len(keys))
	for _, key := range keys {
		names = append(names, key.String())
	}
	return announcement{corev1.EventTypeWarning, "Recurring", "Count", "violated again: " + strings.Join(names, ", ")}
}

func flappingAnnouncement(c *v1alpha1.Condition) announcement {
	return announcement{corev1.EventTypeWarning, "Flapping", "Count", c.Message}
}

func settledAnnouncement(c *v1alpha1.Condition) announcement {
	return announcement{corev1.EventTypeNormal, "Settled", "Count", c.Message}
}

func heldAnnouncement(ticket *v1alpha1.Ticket, c *v1alpha1.Condition) announcement {
	return announcement{corev1.EventTypeNormal, "Held", "Hold", withNote(c.Message, ticket.Annotations[v1alpha1.HoldNoteAnnotation])}
}

func releasedAnnouncement() announcement {
	return announcement{corev1.EventTypeNormal, "Released", "Unhold", "no longer held"}
}

func acknowledgedAnnouncement(a *v1alpha1.Acknowledgement) announcement {
	by := "by " + a.By
	if a.TakenFrom != "" {
		by += ", taken over from " + a.TakenFrom
	}
	return announcement{corev1.EventTypeNormal, "Acknowledged", "Acknowledge", withNote(by, a.Note)}
}

func diagnosedAnnouncement(d *v1alpha1.Diagnosis) announcement {
	return announcement{corev1.EventTypeNormal, "Diagnosed", "Diagnose", "by " + d.By}
}

func resolvedAnnouncement(status v1alpha1.TicketStatus) announcement {
	note := "resolved"
	if r := status.Resolution; r != nil {
		note = withNote(fmt.Sprintf("%s, by %s", r.Reason, r.By), r.Note)
	}
	return announcement{corev1.EventTypeNormal, "Resolved", "Resolve", note}
}

func mutedAnnouncement(until time.Time, by string) announcement {
	note := "opens no ticket until " + until.UTC().Format(time.RFC3339)
	if by != "" {
		note += ", by " + by
	}
	return announcement{corev1.EventTypeNormal, "Muted", "Mute", note}
}

func unmutedAnnouncement() announcement {
	return announcement{corev1.EventTypeNormal, "Unmuted", "Unmute", "opens tickets again"}
}

func muteIgnoredAnnouncement(err error) announcement {
	return announcement{corev1.EventTypeWarning, "MuteIgnored", "Mute", err.Error()}
}

// conditionAnnouncement says what a condition of an Invariant has become. Its reason is the condition's, but for what all
// is well with, which reads better as a word of its own.
func conditionAnnouncement(c *v1alpha1.Condition) announcement {
	eventType := corev1.EventTypeNormal
	if c.Status == metav1.ConditionFalse {
		eventType = corev1.EventTypeWarning
	}
	return announcement{eventType, c.Reason, "Check", c.Message}
}

// withNote adds a person's words.
func withNote(text, note string) string {
	if note == "" {
		return text
	}
	return text + ": " + note
}

// announcer says what happened, in the log and in Events.
type announcer struct {
	events events.EventRecorder
	log    logr.Logger
}

// ticket says it of a ticket.
func (a announcer) ticket(ticket *v1alpha1.Ticket, what announcement) {
	a.log.Info("Ticket "+strings.ToLower(what.reason), "ticket", ticket.Namespace+"/"+ticket.Name, "note", verdict.Truncate(what.note, maxEventNote))
	a.event(ticket, what)
}

// event says it in an Event alone.
func (a announcer) event(object client.Object, what announcement) {
	a.events.Eventf(object, nil, what.eventType, what.reason, what.action, "%s", verdict.Truncate(what.note, maxEventNote))
}

// condition announces a condition of a ticket that became true or false. One that had to make room for another became neither.
func (a announcer) condition(ticket *v1alpha1.Ticket, before, after v1alpha1.TicketStatus, conditionType string, began, ended func(*v1alpha1.Condition) announcement) {
	was, is := v1alpha1.FindCondition(before.Conditions, conditionType), v1alpha1.FindCondition(after.Conditions, conditionType)
	switch {
	case isTrue(is) && !isTrue(was):
		a.ticket(ticket, began(is))
	case isTrue(was) && is != nil && !isTrue(is):
		a.ticket(ticket, ended(is))
	}
}

func isTrue(c *v1alpha1.Condition) bool { return c != nil && c.Status == metav1.ConditionTrue }

// opened announces a ticket that the cycle opened.
func (r *recorder) opened(ticket *v1alpha1.Ticket, status v1alpha1.TicketStatus) {
	a := r.reconciler.announcer()
	a.ticket(ticket, openedAnnouncement(ticket, status))
	a.condition(ticket, v1alpha1.TicketStatus{}, status, v1alpha1.ConditionFlapping, flappingAnnouncement, settledAnnouncement)
}

// updated announces what a cycle changed for a person.
func (r *recorder) updated(u ledger.Update) {
	a := r.reconciler.announcer()
	if len(u.Recurred) > 0 {
		a.ticket(u.Ticket, recurringAnnouncement(u.Recurred))
	}
	a.condition(u.Ticket, u.Ticket.Status, u.Status, v1alpha1.ConditionFlapping, flappingAnnouncement, settledAnnouncement)
	if u.Ticket.IsOpen() && u.Status.State == v1alpha1.Resolved {
		a.ticket(u.Ticket, resolvedAnnouncement(u.Status))
	}
}
