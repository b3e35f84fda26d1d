package tickets

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli/clitest"
)

// rich has something in every field.
func rich(t *v1alpha1.Ticket) {
	at := func(minutes int) *v1alpha1.Time { return clitest.Ago(time.Duration(minutes)*time.Minute + time.Second) }
	t.Labels = map[string]string{"team": "storage"}
	t.Annotations = map[string]string{v1alpha1.HoldAnnotation: "until monday", v1alpha1.HoldByAnnotation: "ana", v1alpha1.HoldNoteAnnotation: "draining the rack"}
	t.Spec = v1alpha1.TicketSpec{
		System: "tikv-prod", BatchKey: "tikv-prod-16", OpenedTime: *at(40), Previous: "tikv-prod-12",
		Violations: []v1alpha1.Violation{
			{Invariant: "store-down", StoreID: "3", Reason: v1alpha1.Violated, Severity: v1alpha1.Critical,
				Message: "store 3 at tikv-3:20160 is Down", FirstSeenTime: *at(41), RunbookURL: "https://runbooks.example/tikv/store-down",
				Snapshot: []v1alpha1.SnapshotValue{{Name: "capacity", Value: "1.8TiB"}, {Name: "p99_seconds", Error: "timeout"},
					{Name: "stores", Value: "1,2", Truncated: true}, {Name: "leader"}}},
			{Invariant: "high-latency", StoreID: "3", Reason: v1alpha1.Violated, Severity: v1alpha1.Warning, FirstSeenTime: *at(40)},
			{Invariant: "high-latency", StoreID: "4", Reason: v1alpha1.Violated, Severity: v1alpha1.Warning, FirstSeenTime: *at(40), Pending: true},
			{Invariant: "disk-full", StoreID: "5", Reason: v1alpha1.Violated, Severity: v1alpha1.Warning, FirstSeenTime: *at(40)},
			{Invariant: "leaders", Reason: v1alpha1.Unobservable, Severity: v1alpha1.Info, FirstSeenTime: *at(40)},
			{Invariant: "gone", Reason: v1alpha1.Violated, Severity: v1alpha1.Info, FirstSeenTime: *at(40)},
			{Invariant: "no-entry", Reason: v1alpha1.Violated, Severity: v1alpha1.Info, FirstSeenTime: *at(40)},
		},
	}
	t.Status = v1alpha1.TicketStatus{
		State: v1alpha1.Diagnosed, Severity: v1alpha1.Critical, Summary: "store-down(3), high-latency(3)", Occurrences: 17,
		FirstSeenTime: at(41), LastSeenTime: at(2),
		Violations: []v1alpha1.ViolationStatus{
			{Invariant: "store-down", StoreID: "3", Reason: v1alpha1.Violated, Active: true, Occurrences: 16, Recurrences: 2, LastSeenTime: at(2)},
			{Invariant: "high-latency", StoreID: "3", Reason: v1alpha1.Violated, Active: true, Occurrences: 9, LastSeenTime: at(5), SatisfiedSinceTime: at(4)},
			{Invariant: "high-latency", StoreID: "4", Reason: v1alpha1.Violated, Active: true, Pending: true},
			{Invariant: "disk-full", StoreID: "5", Reason: v1alpha1.Violated, Active: true, Occurrences: 4, UnknownSinceTime: at(6)},
			{Invariant: "leaders", Reason: v1alpha1.Unobservable, Occurrences: 4, ClearedTime: at(8)},
			{Invariant: "gone", Reason: v1alpha1.Violated, Occurrences: 4, ClearedTime: at(9), ClearedReason: v1alpha1.InvariantDeleted},
		},
		Acknowledgement: &v1alpha1.Acknowledgement{By: "ana", Time: at(30), Note: "on it"},
		Diagnosis: &v1alpha1.Diagnosis{By: "agent", Time: at(10), Text: "The rack lost power.\n\n- store 3 is in it\n\tand so is 4\n",
			Previous: []v1alpha1.PreviousDiagnosis{{By: "bob", Time: at(20), Text: "A switch?"}}},
		Conditions: []v1alpha1.Condition{{Type: v1alpha1.ConditionHeld, Status: metav1.ConditionTrue, Reason: "Held", LastTransitionTime: at(25).Time}},
	}
}

// timeless is a page with times as TIME and spaces that align as one.
func timeless(page string) string {
	page = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`).ReplaceAllString(page, "TIME")
	return regexp.MustCompile(`(\S) {2,}`).ReplaceAllString(page, "$1  ")
}

const richPage = `Name:  tikv-prod-17
Namespace:  NAMESPACE
Labels:  team=storage
System:  tikv-prod
State:  Diagnosed
Severity:  Critical
Held:  yes, by ana (until monday), since TIME (25m ago)
Hold note:  draining the rack
Opened:  TIME (40m ago)
First seen:  TIME (41m ago)
Last seen:  TIME (2m1s ago)
Occurrences:  17
Continues:  tikv-prod-16, too large for one ticket

Time line:
  TIME (41m ago)  first seen
  TIME (40m ago)  opened for 7 violations
  TIME (30m ago)  acknowledged by ana
  TIME (25m ago)  held, by ana
  TIME (20m ago)  diagnosed by bob
  TIME (10m ago)  diagnosed by agent
  TIME (9m1s ago)  cleared: gone
  TIME (8m1s ago)  cleared: leaders

Violations (7):
  store-down, store 3
    Severity:  Critical
    Reason:  Violated
    Message:  store 3 at tikv-3:20160 is Down
    Now:  active
    First seen:  TIME (41m ago)
    Last seen:  TIME (2m1s ago)
    Occurrences:  16
    Recurrences:  2
    Runbook:  https://runbooks.example/tikv/store-down
    Snapshot of that moment:
      capacity:  1.8TiB
      p99_seconds:  error: timeout
      stores:  1,2... (cut at 1024 bytes)
      leader:  ""

  high-latency, store 3
    Severity:  Warning
    Reason:  Violated
    Now:  satisfied since TIME (4m1s ago), not cleared yet
    First seen:  TIME (40m ago)
    Last seen:  TIME (5m1s ago)
    Occurrences:  9
    Recurrences:  0

  high-latency, store 4
    Severity:  Warning
    Reason:  Violated
    Now:  pending: violated, still in its grace period
    First seen:  TIME (40m ago)
    Occurrences:  0
    Recurrences:  0

  disk-full, store 5
    Severity:  Warning
    Reason:  Violated
    Now:  unknown since TIME (6m1s ago)
    First seen:  TIME (40m ago)
    Occurrences:  4
    Recurrences:  0

  leaders
    Severity:  Info
    Reason:  Unobservable
    Now:  cleared TIME (8m1s ago)
    First seen:  TIME (40m ago)
    Occurrences:  4
    Recurrences:  0

  gone
    Severity:  Info
    Reason:  Violated
    Now:  its Invariant is gone since TIME (9m1s ago)
    First seen:  TIME (40m ago)
    Occurrences:  4
    Recurrences:  0

  no-entry
    Severity:  Info
    Reason:  Violated
    Now:  active
    First seen:  TIME (40m ago)
    Last seen:  TIME (40m ago)
    Occurrences:  1
    Recurrences:  0

Acknowledgement: by ana at TIME (30m ago)
  Note:  on it

Diagnosis: by agent at TIME (10m ago)
  The rack lost power.

  - store 3 is in it
      and so is 4

  Before that, by bob at TIME (20m ago):
    A switch?

Tickets before this one:
  tikv-prod-12  no longer there

Also open in this system: none
`

func TestShowTellsAPersonEverything(t *testing.T) {
	b := newBench(t)
	b.ticket("tikv-prod-17", rich)
	t.Run("of a ticket that is open", func(t *testing.T) {
		got := timeless(b.Run("show", "tikv-prod-17").OK().Out)
		// A second may pass between the writing and the reading.
		got = regexp.MustCompile(`(\dm)[2-9]s ago`).ReplaceAllString(got, "${1}1s ago")
		if want := strings.Replace(richPage, "NAMESPACE", b.Namespace, 1); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
	t.Run("of a ticket that was resolved by hand", func(t *testing.T) {
		b.ticket("tikv-prod-18", rich, state(v1alpha1.Resolved), func(t *v1alpha1.Ticket) {
			t.Annotations = nil
			t.Spec.BatchKey = t.Name
			t.Status.Resolution = &v1alpha1.Resolution{By: "ana", Time: clitest.Ago(30 * time.Minute), Reason: v1alpha1.Manual, Note: "moved away"}
		})
		r := b.Run("show", "tikv-prod-18").OK()
		if got := timeless(r.Out); !strings.Contains(got, "\nResolution: Manual, by ana at TIME (30m ago)\n  Note:  moved away\n") {
			t.Errorf("the resolution is missing: %v", r)
		}
		if got := timeless(r.Out); !strings.Contains(got, "Held:  no\n") || strings.Contains(got, "Now:  active") || strings.Contains(got, "Continues") ||
			!strings.Contains(got, "Now:  not cleared when the ticket was resolved") {
			t.Errorf("it does not read as over: %v", r)
		}
	})
	t.Run("and what else is open in this system, worst first", func(t *testing.T) {
		in := func(system string) func(*v1alpha1.Ticket) { return func(t *v1alpha1.Ticket) { t.Spec.System = system } }
		b.ticket("other-1", in("other"))
		b.ticket("tikv-prod-19", in("tikv-prod"), severity(v1alpha1.Warning))
		b.ticket("tikv-prod-20", in("tikv-prod"))
		b.ticket("tikv-prod-21", in("tikv-prod"), state(v1alpha1.Resolved))
		_, others, found := strings.Cut(b.Run("show", "tikv-prod-17").OK().Out, "Also open in this system:\n")
		if got := (clitest.Result{Out: others}).Rows(); !found || got != "NAME tikv-prod-20 tikv-prod-19" || !strings.HasPrefix(others, "  NAME ") {
			t.Errorf("got %v:\n%s", got, others)
		}
	})
	t.Run("of several, worst first with a selector", func(t *testing.T) {
		b.Run("show", "other-1", "tikv-prod-20").OK().Has("other-1\n", "tikv-prod-20\n")
		if out := b.Run("show", "-l", "team=storage").OK().Out; !strings.HasPrefix(out, "Name:          tikv-prod-17\n") || strings.Contains(out, "Name:          tikv-prod-18\n") {
			t.Error(out)
		}
		b.Run("show", "-l", "no=such").Warned("No open tickets with these labels in " + b.Namespace + " namespace.\n")
	})
	t.Run("to a program, as it is stored", func(t *testing.T) {
		var one v1alpha1.Ticket
		clitest.Must(t, json.Unmarshal([]byte(b.Run("show", "tikv-prod-17", "-o", "json").OK().Out), &one))
		if one.Kind != "Ticket" || one.Name != "tikv-prod-17" || one.Status.Diagnosis.By != "agent" {
			t.Errorf("%+v", one)
		}
		b.Run("show", "tikv-prod-17", "-o", "yaml").OK().Has("kind: Ticket\n")
		b.Run("show", "tikv-prod-17", "other-1", "-o", "yaml").OK().Has("kind: List\n", "name: tikv-prod-17\n", "name: other-1\n")
		b.Run("show", "tikv-prod-17", "-o", "wide").Failed(`--output is "wide": use one of json`)
	})
	t.Run("and names a ticket that does not exist", func(t *testing.T) {
		b.Run("show", "tikv-prod-99", "other-1").Has("other-1\n").Failed("read the ticket tikv-prod-99: there is none of this name in the namespace " + b.Namespace)
		b.Run("show", "tikv-prod-99", "other-1", "-o", "yaml").Has("name: other-1\n").Failed("tikv-prod-99")
	})
}

func TestShowTellsWhatATicketHeldOpenWaitsFor(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1", cleared, annotations(map[string]string{v1alpha1.HoldAnnotation: "true", v1alpha1.HoldByAnnotation: "ana"}))
	got := timeless(b.Run("show", "sys-1").OK().Out)
	if !regexp.MustCompile(`Clear since:  TIME \(\d+s ago\), open because it is held`).MatchString(got) || !strings.Contains(got, "all clear\n") {
		t.Errorf("it does not say why the ticket is open:\n%s", got)
	}
}

func TestShowTellsOfTheTicketsBefore(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1", state(v1alpha1.Resolved))
	for i := 2; i <= 8; i++ {
		b.ticket(v1alpha1.TicketName("sys", i), state(v1alpha1.Resolved), func(t *v1alpha1.Ticket) { t.Spec.Previous = v1alpha1.TicketName("sys", i-1) })
	}
	b.ticket("sys-9", func(t *v1alpha1.Ticket) {
		t.Spec.Previous = "sys-8"
		t.Spec.Violations[0].RecurredTimes = []v1alpha1.Time{*clitest.Ago(time.Minute)}
		t.Status.Violations[0].Flapping = true
		t.Status.Conditions = []v1alpha1.Condition{{Type: v1alpha1.ConditionFlapping, Status: metav1.ConditionTrue, Reason: "Recurring",
			Message: "keeps coming back: store-down(3)", LastTransitionTime: metav1.Now()}}
	})
	r := b.Run("show", "sys-9").OK().Has("Flapping:      yes, keeps coming back: store-down(3)")
	_, before, _ := strings.Cut(r.Out, "Tickets before this one:\n")
	before, _, _ = strings.Cut(before, "\n\n")
	if got := (clitest.Result{Out: before}).Rows(); got != "sys-8 sys-7 sys-6 sys-5 sys-4 sys-3" {
		t.Errorf("before it are %s: %v", got, r)
	}
	if !strings.Contains(before, "by somebody") && !strings.Contains(before, "Manual") {
		t.Errorf("it is not said how they ended:\n%s", before)
	}
}

func TestShowKeepsManyViolationsShortUnlessAllAreWanted(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1", func(t *v1alpha1.Ticket) {
		t.Spec.Violations = nil
		for i := range 40 {
			t.Spec.Violations = append(t.Spec.Violations, v1alpha1.Violation{Invariant: "store-up", StoreID: strconv.Itoa(i), Reason: v1alpha1.Violated,
				Severity: v1alpha1.Critical, Message: "store is Down", FirstSeenTime: t.Spec.OpenedTime})
		}
	})
	short := b.Run("show", "sys-1").OK().Has("Violations (40):", "In short (--all shows everything of each):", "store-up(39)")
	if lines := strings.Count(short.Out, "\n"); lines > 150 {
		t.Errorf("a page of 40 violations has %d lines", lines)
	}
	if all := b.Run("show", "sys-1", "--all").OK(); strings.Contains(all.Out, "In short") || strings.Count(all.Out, "Reason:") != 40 {
		t.Errorf("--all does not show all: %v", all)
	}
}

func TestNothingThatOthersWroteReachesTheTerminalUnescaped(t *testing.T) {
	b := newBench(t)
	const evil = "\x1b[2J\x1b]0;mine\x07\u009b31m\u202eevil\b\r"
	b.ticket("sys-1", func(t *v1alpha1.Ticket) {
		v := &t.Spec.Violations[0]
		v.StoreID, v.Message, v.RunbookURL = evil+"id", evil+"message", evil+"runbook"
		v.Snapshot = []v1alpha1.SnapshotValue{{Name: evil + "name", Value: evil + "value\nState: Forged"}, {Name: "e", Error: evil + "error"}}
		t.Annotations = map[string]string{v1alpha1.HoldAnnotation: evil + "hold", v1alpha1.HoldNoteAnnotation: evil + "note"}
		t.Status.Violations[0].StoreID = v.StoreID
		t.Status.Summary = evil + "summary"
		t.Status.Acknowledgement = &v1alpha1.Acknowledgement{By: evil + "acker", Note: evil + "ack"}
		t.Status.Diagnosis = &v1alpha1.Diagnosis{By: evil + "doctor", Text: "line 1\n" + evil + "line 2",
			Previous: []v1alpha1.PreviousDiagnosis{{By: evil + "nurse", Text: evil + "guess"}}}
	})
	b.ticket("sys-2")
	b.ticket("sys-3", state(v1alpha1.Resolved), func(t *v1alpha1.Ticket) {
		t.Status.Resolution = &v1alpha1.Resolution{By: evil + "closer", Note: evil + "end"}
	})
	const safe = `\x1b[2J\x1b]0;mine\a\u009b31m\u202eevil\b\r`
	for _, c := range []struct {
		args []string
		has  []string
	}{
		{[]string{"list"}, []string{"hold", "summary"}},
		{[]string{"list", "-o", "wide"}, []string{"acker"}},
		{[]string{"show", "sys-1"}, []string{"id", "message", "runbook", "name", "value\n", "error", "hold", "note", "acker", "ack",
			"doctor", "line 2", "nurse", "guess"}},
		{[]string{"show", "sys-2"}, []string{"summary"}},
		{[]string{"show", "sys-3"}, []string{"closer", "end"}},
		{[]string{"resolve", "sys-1", "--dry-run=client"}, []string{"id"}},
		{[]string{"__complete"}, []string{"summary"}},
	} {
		r := b.Run(c.args...)
		if c.args[0] == "__complete" {
			r = b.Anywhere("__complete", "tickets", "show", "--kubeconfig", b.Kubeconfig, "-n", b.Namespace, "")
		}
		all := r.Out + r.Err
		for _, want := range c.has {
			if !strings.Contains(all, safe+want) {
				t.Errorf("%s is missing, or not as it should be: %v", want, r)
			}
		}
		if slices.Contains(strings.Split(strings.ReplaceAll(all, " ", ""), "\n"), "State:Forged") {
			t.Errorf("evidence passes for the ticket's state: %v", r)
		}
		if strings.ContainsAny(all, "\x1b\x07\u009b\u202e\b\r") {
			t.Errorf("it would be obeyed: %q", all)
		}
	}
}
