package ledger

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"

	"invariant.dev/operator/api/v1alpha1"
)

// page is one ticket.
type page struct {
	ticket   *v1alpha1.Ticket
	lines    []*line
	recurred []Key
	// uncounted are cycles that saw its violations and were not written.
	uncounted Uncounted
	// seen: one of its violations that count was seen in this cycle, and had not been counted yet.
	seen bool
}

// addUncounted catches up on the cycles whose counters were not written.
func (p *page) addUncounted() {
	if p.uncounted.Cycles == 0 {
		return
	}
	for _, l := range p.lines {
		if l.entry.Active && !l.entry.Pending {
			l.entry.Occurrences = plus(l.entry.Occurrences, p.uncounted.Cycles)
			l.entry.LastSeenTime = v1alpha1.NewTime(p.uncounted.LastSeen)
		}
	}
}

// status is what the ticket's status becomes.
func (p *page) status(c Cycle) v1alpha1.TicketStatus {
	s := *p.ticket.Status.DeepCopy()
	s.Violations = make([]v1alpha1.ViolationStatus, len(p.lines))
	for i, l := range p.lines {
		s.Violations[i] = l.entry
	}
	if !p.ticket.IsOpen() {
		return s
	}
	s.Monitor = c.Monitor
	if s.LastSeenTime == nil && slices.ContainsFunc(p.lines, func(l *line) bool { return !l.spec.Pending }) {
		// The cycle that opened the ticket saw it, and maybe wrote no more.
		s.Occurrences, s.LastSeenTime = 1, v1alpha1.NewTime(p.ticket.Spec.OpenedTime.Go())
	}
	if p.uncounted.Cycles > 0 {
		s.Occurrences = plus(s.Occurrences, p.uncounted.Cycles)
		s.LastSeenTime = v1alpha1.NewTime(p.uncounted.LastSeen)
	}
	if p.seen {
		s.Occurrences = plus(s.Occurrences, 1)
		s.LastSeenTime = v1alpha1.NewTime(c.Now)
	}
	p.summarize(&s)
	setFlapping(p.ticket.Spec.Violations, &s, c.Invariants, c.Now)
	if reason, over := p.over(); over && !p.ticket.Held() {
		s.State = v1alpha1.Resolved
		// A resolution is written once: what somebody wrote ahead of time stands.
		if s.Resolution == nil {
			s.Resolution = &v1alpha1.Resolution{By: MonitorName, Time: v1alpha1.NewTime(c.Now), Reason: reason}
		}
	}
	return s
}

// MonitorName is who resolves a ticket when nobody else does.
const MonitorName = "monitor"

// summarize writes what follows from the violations that count.
func (p *page) summarize(s *v1alpha1.TicketStatus) {
	var counting []v1alpha1.Violation
	for _, l := range p.lines {
		if l.entry.Pending {
			continue
		}
		counting = append(counting, *l.spec)
		if s.Severity == "" || l.spec.Severity.Rank() < s.Severity.Rank() {
			s.Severity = l.spec.Severity
		}
		if first := l.spec.FirstSeenTime.Go(); s.FirstSeenTime == nil || first.Before(s.FirstSeenTime.Go()) {
			s.FirstSeenTime = v1alpha1.NewTime(first)
		}
	}
	s.Summary = Summary(counting)
}

// over tells whether nothing that counts is awaited any more, and why.
func (p *page) over() (v1alpha1.ResolutionReason, bool) {
	reasons := map[v1alpha1.ResolutionReason]int{}
	counting := 0
	for _, l := range p.lines {
		if l.entry.Pending {
			continue
		}
		if awaited(l.entry) {
			return "", false
		}
		counting++
		reasons[l.entry.ClearedReason]++
	}
	switch {
	case counting == 0:
		return "", false
	case reasons[v1alpha1.Duplicate] > 0 && p.ticket.HasWords():
		return "", false
	case reasons[v1alpha1.Duplicate] == counting:
		return v1alpha1.Duplicate, true
	case reasons[v1alpha1.InvariantDeleted] > 0:
		return v1alpha1.InvariantDeleted, true
	default:
		return v1alpha1.Cleared, true
	}
}

// countersOnly tells whether the status differs in nothing but the counters of violations that all were seen.
func (p *page) countersOnly(status v1alpha1.TicketStatus) bool {
	for _, l := range p.lines {
		if l.entry.Active && !l.entry.Pending && !l.seen {
			return false
		}
	}
	return equality.Semantic.DeepEqual(withoutCounters(status), withoutCounters(p.ticket.Status))
}

func withoutCounters(s v1alpha1.TicketStatus) v1alpha1.TicketStatus {
	s.Occurrences, s.LastSeenTime = 0, nil
	s.Violations = slices.Clone(s.Violations)
	for i := range s.Violations {
		s.Violations[i].Occurrences, s.Violations[i].LastSeenTime = 0, nil
	}
	return s
}
