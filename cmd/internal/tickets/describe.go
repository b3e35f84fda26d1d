package tickets

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/printers"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/terminal"
)

// field is a line of a page: a name, and a value that others may have written.
type field struct{ name, value string }

// detailed is of how many violations, the worst, all is shown unless somebody asks for all of all.
const detailed = 10

// describe writes a ticket for a person to read: of all violations everything, or of the worst.
func describe(w io.Writer, t *v1alpha1.Ticket, all bool) error {
	p := &page{w: w, now: time.Now(), color: printers.AllowsColorOutput(w)}
	p.fields("", p.head(t))
	p.timeLine(t)
	p.section(fmt.Sprintf("Violations (%d)", len(t.Spec.Violations)), "")
	whole := len(t.Spec.Violations)
	if !all {
		whole = min(whole, detailed)
	}
	for i, v := range t.Spec.Violations[:whole] {
		if i > 0 {
			p.write("\n")
		}
		p.violation(t, v)
	}
	p.inShort(t, t.Spec.Violations[whole:])
	if a := t.Status.Acknowledgement; a != nil {
		p.section("Acknowledgement", p.byAt(a.By, a.Time))
		p.note(a.Note)
	}
	if d := t.Status.Diagnosis; d != nil {
		p.diagnosis(d)
	}
	if r := t.Status.Resolution; r != nil {
		p.section("Resolution", string(r.Reason)+", "+p.byAt(r.By, r.Time))
		p.note(r.Note)
	}
	return p.err
}

// describeSection writes the heading of a further section of a page.
func describeSection(w io.Writer, title, value string) error {
	p := &page{w: w}
	p.section(title, value)
	return p.err
}

// page is written from top to bottom; err is the first error.
type page struct {
	w   io.Writer
	now time.Time
	// color: some values are coloured, for a terminal.
	color bool
	err   error
}

func (p *page) write(text string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, text)
	}
}

// section begins a section after an empty line.
func (p *page) section(title, value string) {
	p.write("\n" + strings.TrimRight(title+": "+terminal.Line(value), " ") + "\n")
}

// fields writes lines with their values below each other. Those without a value are left out.
func (p *page) fields(indent string, fields []field) {
	if p.err != nil {
		return
	}
	table := printers.GetNewTabWriter(p.w)
	for _, f := range fields {
		if f.value != "" {
			_, _ = fmt.Fprintf(table, "%s%s:\t%s\n", indent, terminal.Line(f.name), p.colored(f))
		}
	}
	p.err = table.Flush()
}

// evidence is fields whose values may have many lines.
func (p *page) evidence(indent string, fields []field) {
	if p.err != nil {
		return
	}
	table := printers.GetNewTabWriter(p.w)
	for _, f := range fields {
		_, _ = fmt.Fprintf(table, "%s%s:\t%s\n", indent, terminal.Line(f.name), terminal.Cell(f.value, indent+"\t| "))
	}
	p.err = table.Flush()
}

func (p *page) note(note string) {
	if note != "" {
		p.fields("  ", []field{{"Note", note}})
	}
}

// block writes text in its own lines.
func (p *page) block(indent, text string) {
	for _, line := range strings.Split(strings.TrimRight(terminal.Block(text), "\n"), "\n") {
		p.write(strings.TrimRight(indent+line, " ") + "\n")
	}
}

// holdNote is why the ticket is held. A note may outlive its hold.
func holdNote(t *v1alpha1.Ticket) string {
	if !t.Held() {
		return ""
	}
	return t.Annotations[v1alpha1.HoldNoteAnnotation]
}

func (p *page) head(t *v1alpha1.Ticket) []field {
	head := []field{
		{"Name", t.Name},
		{"Namespace", t.Namespace},
		{"Labels", labels.FormatLabels(t.Labels)},
		{"System", t.Spec.System},
		{"State", string(t.Status.State)},
		{"Severity", string(t.Status.Severity)},
		{"Held", p.held(t)},
		{"Flapping", p.flapping(t)},
		{"Hold note", holdNote(t)},
		{"Opened", p.at(&t.Spec.OpenedTime)},
		{"First seen", p.at(t.Status.FirstSeenTime)},
		{"Last seen", p.at(t.Status.LastSeenTime)},
		{"Clear since", p.clear(t)},
		{"Occurrences", fmt.Sprint(t.Status.Occurrences)},
	}
	if len(t.Labels) == 0 {
		head[2].value = ""
	}
	if t.Spec.BatchKey != t.Name {
		head = append(head, field{"Continues", t.Spec.BatchKey + ", too large for one ticket"})
	}
	return head
}

func (p *page) held(t *v1alpha1.Ticket) string {
	if !t.Held() {
		return "no"
	}
	held := "yes" + heldBy(t)
	if value := t.Annotations[v1alpha1.HoldAnnotation]; value != "true" {
		held += " (" + value + ")"
	}
	if c := v1alpha1.FindCondition(t.Status.Conditions, v1alpha1.ConditionHeld); c != nil && c.Status == "True" {
		held += ", since " + p.at(&v1alpha1.Time{Time: c.LastTransitionTime})
	}
	return held
}

// heldBy says who holds a ticket, where that is known.
func heldBy(t *v1alpha1.Ticket) string {
	if by := t.Annotations[v1alpha1.HoldByAnnotation]; by != "" {
		return ", by " + by
	}
	return ""
}

func (p *page) flapping(t *v1alpha1.Ticket) string {
	c := v1alpha1.FindCondition(t.Status.Conditions, v1alpha1.ConditionFlapping)
	if c == nil || c.Status != "True" {
		return ""
	}
	return "yes, " + c.Message
}

// clear says since when an open ticket has been clear, and why it is open all the same.
func (p *page) clear(t *v1alpha1.Ticket) string {
	since := clearSince(t)
	switch {
	case since == nil || !t.IsOpen():
		return ""
	case t.Held():
		return p.at(since) + ", open because it is held"
	default:
		return p.at(since) + ", resolves at the next check"
	}
}

// inShort writes a line for each violation.
func (p *page) inShort(t *v1alpha1.Ticket, violations []v1alpha1.Violation) {
	if len(violations) == 0 || p.err != nil {
		return
	}
	p.write("\n  In short (--all shows everything of each):\n")
	table := printers.GetNewTabWriter(p.w)
	for _, v := range violations {
		_, _ = fmt.Fprintf(table, "    %s\t%s\t%s\t%s\n", terminal.Line(nameOf(v)), v.Severity, p.state(t, statusOf(t, v)), terminal.Line(v.Message))
	}
	p.err = table.Flush()
}

// colored is the value of a field, safe for a terminal, in the colour that goes with it.
func (p *page) colored(f field) string {
	const red, yellow, green, reset = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"
	value, color := terminal.Line(f.value), ""
	switch f.name + " " + strings.SplitN(f.value, " ", 2)[0] {
	case "State Open", "Severity Critical", "Now active":
		color = red
	case "State Acknowledged", "State Diagnosed", "Severity Warning", "Now pending:", "Now unknown", "Now satisfied", "Flapping yes,":
		color = yellow
	case "State Resolved", "Now cleared":
		color = green
	}
	if !p.color || color == "" {
		return value
	}
	return color + value + reset
}

func (p *page) violation(t *v1alpha1.Ticket, v v1alpha1.Violation) {
	title := v.Invariant
	if v.StoreID != "" {
		title += ", store " + v.StoreID
	}
	status := statusOf(t, v)
	p.write("  " + terminal.Line(title) + "\n")
	p.fields("    ", []field{
		{"Severity", string(v.Severity)},
		{"Reason", string(v.Reason)},
		{"Message", v.Message},
		{"Now", p.state(t, status)},
		{"First seen", p.at(&v.FirstSeenTime)},
		{"Last seen", p.at(status.LastSeenTime)},
		{"Occurrences", fmt.Sprint(status.Occurrences)},
		{"Recurrences", fmt.Sprint(status.Recurrences)},
		{"Flapping", map[bool]string{true: "yes, it keeps coming back"}[status.Flapping]},
		{"Runbook", v.RunbookURL},
	})
	if len(v.Snapshot) > 0 {
		p.write("    Snapshot of that moment:\n")
		p.evidence("      ", snapshot(v.Snapshot))
	}
}

func snapshot(values []v1alpha1.SnapshotValue) []field {
	fields := make([]field, 0, len(values))
	for _, s := range values {
		value := s.Value
		switch {
		case s.Error != "":
			value = "error: " + s.Error
		case s.Truncated:
			value += "... (cut at 1024 bytes)"
		case value == "":
			value = `""`
		}
		fields = append(fields, field{s.Name, value})
	}
	return fields
}

// state says how a violation stands.
func (p *page) state(t *v1alpha1.Ticket, v v1alpha1.ViolationStatus) string {
	var state string
	switch {
	case !v.Active:
		state = strings.TrimSpace("cleared " + p.at(v.ClearedTime))
		switch v.ClearedReason {
		case v1alpha1.Duplicate:
			return "continues in another ticket since " + p.at(v.ClearedTime)
		case v1alpha1.InvariantDeleted:
			return "its Invariant is gone since " + p.at(v.ClearedTime)
		}
		return state
	case !t.IsOpen():
		return "not cleared when the ticket was resolved"
	case v.UnknownSinceTime != nil:
		state = "unknown since " + p.at(v.UnknownSinceTime)
	case v.SatisfiedSinceTime != nil:
		state = "satisfied since " + p.at(v.SatisfiedSinceTime) + ", not cleared yet"
	case v.Pending:
		return "pending: violated, still in its grace period"
	default:
		return "active"
	}
	if v.Pending {
		state += "; pending: still in its grace period"
	}
	return state
}

// statusOf is what has become of a violation. One with no entry is active, and was seen once: the monitor stopped
// between the two writes that open a ticket.
func statusOf(t *v1alpha1.Ticket, v v1alpha1.Violation) v1alpha1.ViolationStatus {
	for _, s := range t.Status.Violations {
		if s.Invariant == v.Invariant && s.StoreID == v.StoreID && s.Reason == v.Reason {
			return s
		}
	}
	return v1alpha1.ViolationStatus{Invariant: v.Invariant, StoreID: v.StoreID, Reason: v.Reason,
		Active: true, Pending: v.Pending, Occurrences: 1, LastSeenTime: &t.Spec.OpenedTime}
}

func (p *page) diagnosis(d *v1alpha1.Diagnosis) {
	p.section("Diagnosis", p.byAt(d.By, d.Time))
	p.block("  ", d.Text)
	for _, previous := range d.Previous {
		p.write("\n  Before that, " + terminal.Line(p.byAt(previous.By, previous.Time)) + ":\n")
		p.block("    ", previous.Text)
		if previous.Truncated {
			p.write("    (cut at 8 KiB)\n")
		}
	}
}

// byAt says who wrote something, and when.
func (p *page) byAt(by string, when *v1alpha1.Time) string {
	if by == "" {
		by = "somebody"
	}
	if when == nil {
		return "by " + by
	}
	return "by " + by + " at " + p.at(when)
}

// at is a moment, and how long ago it was; empty where nobody noted it.
func (p *page) at(when *v1alpha1.Time) string {
	if when == nil || when.IsZero() {
		return ""
	}
	text := when.Go().Format(time.RFC3339)
	ago := p.now.Sub(when.Go())
	if ago < 0 {
		return text + " (in " + duration.HumanDuration(-ago) + ")"
	}
	return text + " (" + duration.HumanDuration(ago) + " ago)"
}

// indenter indents each line that is written through it.
type indenter struct {
	w      io.Writer
	indent string
	inLine bool
}

func (i *indenter) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		if !i.inLine {
			if _, err := io.WriteString(i.w, i.indent); err != nil {
				return 0, err
			}
		}
		if _, err := i.w.Write(line); err != nil {
			return 0, err
		}
		i.inLine = !bytes.HasSuffix(line, []byte("\n"))
	}
	return len(b), nil
}
