package v1alpha1

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultUnobservableAfter is unobservableAfter where an Invariant does not say.
const DefaultUnobservableAfter = 2 * time.Minute

// What counts as flapping where an Invariant does not say.
const (
	DefaultFlappingThreshold = 3
	DefaultFlappingWindow    = 30 * time.Minute
)

// MaxPreviousDiagnoses is how many diagnoses that were replaced a ticket keeps, and MaxPreviousText how many bytes of
// each.
const (
	MaxPreviousDiagnoses = 3
	MaxPreviousText      = 8 << 10
)

// maxSystemLength is what fits before a number in a name that people read in a table.
const maxSystemLength = 40

// NewTime is t as the API writes it, in whole seconds.
func NewTime(t time.Time) *Time {
	return &Time{Time: metav1.NewTime(t.UTC().Truncate(time.Second))}
}

// Go is the moment as Go's time in UTC, zero for nil.
func (t *Time) Go() time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// Or is the duration, or another where it is left out.
func (d *Duration) Or(other time.Duration) time.Duration {
	if d == nil {
		return other
	}
	return d.Duration.Duration
}

// stateOrder is the only order in which a ticket's state changes; the rule on TicketStatus says the same.
var stateOrder = map[TicketState]int{Open: 0, Acknowledged: 1, Diagnosed: 2, Resolved: 3}

// CanBecome tells whether a ticket may go from state s to another: forward, or stay.
func (s TicketState) CanBecome(next TicketState) bool {
	from, known := stateOrder[s]
	to, knownNext := stateOrder[next]
	return known && knownNext && to >= from
}

// IsOpen tells whether the ticket is in any state but Resolved.
func (t *Ticket) IsOpen() bool { return t.Status.State != Resolved }

// Held tells whether somebody keeps the ticket open: the annotation operator/hold is there, with any value
// but false, no, 0 or nothing.
func (t *Ticket) Held() bool {
	switch strings.ToLower(strings.TrimSpace(t.Annotations[HoldAnnotation])) {
	case "", "false", "no", "0":
		return false
	default:
		return true
	}
}

// Stamp completes what somebody wrote into a status without saying all: words take the ticket to the state that goes with
// them, and have a time. It changes nothing that is there.
func (s *TicketStatus) Stamp(now time.Time) {
	if s.Acknowledgement != nil {
		s.advance(Acknowledged)
		stamp(&s.Acknowledgement.Time, now)
	}
	if s.Diagnosis != nil {
		s.advance(Diagnosed)
		stamp(&s.Diagnosis.Time, now)
	}
	if s.Resolution != nil {
		s.advance(Resolved)
		stamp(&s.Resolution.Time, now)
	}
}

func (s *TicketStatus) advance(to TicketState) {
	if s.State.CanBecome(to) {
		s.State = to
	}
}

func stamp(t **Time, now time.Time) {
	if *t == nil {
		*t = NewTime(now)
	}
}

// Replace is the diagnosis next in the place of d, which may be nil: it keeps d, and what d had replaced.
func (d *Diagnosis) Replace(next Diagnosis) *Diagnosis {
	next.Previous = nil
	if d == nil {
		return &next
	}
	// Cut between characters, and without a mark: the API server compares it with the text it was.
	text := d.Text
	if len(text) > MaxPreviousText {
		end := MaxPreviousText
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	replaced := PreviousDiagnosis{By: d.By, Time: d.Time, Text: text, Truncated: len(text) < len(d.Text)}
	next.Previous = append([]PreviousDiagnosis{replaced}, d.Previous...)
	next.Previous = next.Previous[:min(len(next.Previous), MaxPreviousDiagnoses)]
	return &next
}

// HasWords tells whether a person or an agent has written on the ticket.
func (t *Ticket) HasWords() bool {
	return t.Status.Acknowledgement != nil || t.Status.Diagnosis != nil
}

// Number is the number in the ticket's name, which orders the tickets of a system by age. It is 0 where the
// name is not the system's and a number.
func (t *Ticket) Number() int { return TicketNumber(t.Spec.System, t.Name) }

// maxTicketNumber is more than there will ever be, and far from where numbers end.
const maxTicketNumber = 1e15

// TicketNumber is the number in the name of a ticket of that system, or 0.
func TicketNumber(system, name string) int {
	digits, found := strings.CutPrefix(name, system+"-")
	n, err := strconv.Atoi(digits)
	if !found || err != nil || n < 0 || n > maxTicketNumber || digits != strconv.Itoa(n) {
		return 0
	}
	return n
}

// TicketName is the name of the system's ticket with that number.
func TicketName(system string, number int) string { return fmt.Sprintf("%s-%d", system, number) }

// SystemName is the system that the invariant is about: spec.system, or else the namespace's name, cut to
// what fits into a ticket's name.
func (i *Invariant) SystemName() string {
	if i.Spec.System != "" {
		return i.Spec.System
	}
	name := i.Namespace
	if len(name) > maxSystemLength {
		name = name[:maxSystemLength]
	}
	return strings.TrimRight(name, "-")
}

// MutedUntil is the end of planned work on the invariant, from the annotation operator/mute-until, or zero. An
// annotation that is not an RFC 3339 time mutes nothing and is an error.
func (i *Invariant) MutedUntil() (time.Time, error) {
	value, found := i.Annotations[MuteUntilAnnotation]
	if !found || value == "" {
		return time.Time{}, nil
	}
	until, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return time.Time{}, errors.New("the annotation " + MuteUntilAnnotation + " mutes nothing, because it is not a time such as 2026-11-24T06:00:00Z")
	}
	return until, nil
}

// AlertStyle tells whether each reading is a violation, because nothing says what must be true of it: as in an alerting rule,
// the query picks out what is wrong.
func (s *InvariantSpec) AlertStyle() bool { return s.Expression == "" && s.Source.Prometheus != nil }

// MinStoresOrDefault is how many readings are an observation.
func (s *InvariantSpec) MinStoresOrDefault() int {
	switch {
	case s.MinStores != nil:
		return int(*s.MinStores)
	case s.AlertStyle():
		return 0
	default:
		return 1
	}
}

// OnAbsentOrDefault is what becomes of a violated store that is no longer listed.
func (s *InvariantSpec) OnAbsentOrDefault() OnAbsent {
	switch {
	case s.OnAbsent != "":
		return s.OnAbsent
	case s.Source.Prometheus != nil && !s.AlertStyle():
		return OnAbsentKeep
	default:
		return OnAbsentClear
	}
}
