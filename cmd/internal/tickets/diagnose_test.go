package tickets

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli/clitest"
)

func TestDiagnoseSaysWhatWasTheMatter(t *testing.T) {
	b := newBench(t)
	ana, bob := b.as("ana"), b.as("bob")
	want := func(t *testing.T, name string, state v1alpha1.TicketState, by, text string, previous ...string) {
		t.Helper()
		s := b.stored(name).Status
		if s.State != state || s.Diagnosis == nil || s.Diagnosis.By != by || s.Diagnosis.Text != text || s.Diagnosis.Time == nil {
			t.Fatalf("%s, %+v", s.State, s.Diagnosis)
		}
		var got []string
		for _, p := range s.Diagnosis.Previous {
			got = append(got, p.By+": "+p.Text)
		}
		if strings.Join(got, "; ") != strings.Join(previous, "; ") {
			t.Errorf("before it: %q, want %q", got, previous)
		}
	}
	t.Run("of an open ticket, and of one that is acknowledged", func(t *testing.T) {
		b.ticket("sys-1")
		b.ticket("sys-2", state(v1alpha1.Acknowledged))
		ana.Run("diagnose", "sys-1", "sys-2", "--text", "a switch").OK().Printed(printed + "sys-1 diagnosed\n" + printed + "sys-2 diagnosed\n")
		want(t, "sys-1", v1alpha1.Diagnosed, "ana", "a switch")
		want(t, "sys-2", v1alpha1.Diagnosed, "ana", "a switch")
	})
	t.Run("again by the same, with the same words, changes nothing", func(t *testing.T) {
		for _, args := range [][]string{nil, {"--replace"}} {
			ana.unchanged("sys-1", append([]string{"diagnose", "sys-1", "--text", "a switch"}, args...)...).OK().Printed(printed + "sys-1 already diagnosed\n")
		}
	})
	t.Run("with other words replaces one's own, which is kept", func(t *testing.T) {
		ana.Run("diagnose", "sys-1", "--text", "a disk").OK().Printed(printed + "sys-1 diagnosed, in the place of your former diagnosis\n")
		want(t, "sys-1", v1alpha1.Diagnosed, "ana", "a disk", "ana: a switch")
	})
	t.Run("by another replaces only when asked to", func(t *testing.T) {
		for _, text := range []string{"a rack", "a disk"} {
			bob.unchanged("sys-1", "diagnose", "sys-1", "--text", text).Printed("").
				Failed("diagnose the ticket sys-1: ana has diagnosed it already, at 2").
				Failed("nothing was changed; --replace puts yours in its place")
		}
		bob.Run("diagnose", "sys-1", "--text", "a rack", "--replace").OK().Printed(printed + "sys-1 diagnosed, in the place of ana's diagnosis\n")
		want(t, "sys-1", v1alpha1.Diagnosed, "bob", "a rack", "ana: a disk", "ana: a switch")
		long := strings.Repeat("é", 10000)
		bob.Run("diagnose", "sys-1", "--text", long).OK()
		ana.Run("diagnose", "sys-1", "--text", "a room", "--replace").OK()
		want(t, "sys-1", v1alpha1.Diagnosed, "ana", "a room", "bob: "+long[:8<<10], "bob: a rack", "ana: a disk")
	})
	t.Run("of a resolved ticket, which stays resolved", func(t *testing.T) {
		b.ticket("sys-3", state(v1alpha1.Resolved))
		ana.Run("diagnose", "sys-3", "--text", "a switch").OK().Printed(printed + "sys-3 diagnosed\n")
		want(t, "sys-3", v1alpha1.Resolved, "ana", "a switch")
		ana.unchanged("sys-3", "diagnose", "sys-3", "--text", "a switch").OK().Printed(printed + "sys-3 already diagnosed\n")
	})
	t.Run("also when it is resolved at that moment", func(t *testing.T) {
		b.ticket("sys-4")
		fast := *ana
		fast.Between = meanwhile(func() { b.Run("resolve", "sys-4") })
		fast.Run("diagnose", "sys-4", "--text", "a switch").OK()
		want(t, "sys-4", v1alpha1.Resolved, "ana", "a switch")
	})
	t.Run("when another does so at that moment: their words stay", func(t *testing.T) {
		b.ticket("sys-5")
		fast := *ana
		fast.Between = meanwhile(func() { bob.Run("diagnose", "sys-5", "--text", "a rack").OK() })
		fast.Run("diagnose", "sys-5", "--text", "a switch").Printed("").Failed("sys-5: bob has diagnosed it already")
		fast.Between = meanwhile(func() { bob.Run("diagnose", "sys-5", "--text", "a room").OK() })
		fast.Run("diagnose", "sys-5", "--text", "a switch", "--replace").OK()
		want(t, "sys-5", v1alpha1.Diagnosed, "ana", "a switch", "bob: a room", "bob: a rack")
	})
	t.Run("which somebody wrote with kubectl, without the state", func(t *testing.T) {
		b.ticket("sys-6", func(t *v1alpha1.Ticket) {
			t.Status.Diagnosis = &v1alpha1.Diagnosis{By: "ana", Text: "a switch", Time: clitest.Ago(0)}
		})
		ana.Run("diagnose", "sys-6", "--text", "a switch").OK().Printed(printed + "sys-6 diagnosed\n")
		want(t, "sys-6", v1alpha1.Diagnosed, "ana", "a switch")
	})
}

func TestDiagnoseTakesItsTextFromWhereItIs(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1")
	b.ticket("sys-2")
	file := filepath.Join(t.TempDir(), "findings.md")
	write := func(text string) { clitest.Must(t, os.WriteFile(file, []byte(text), 0o600)) }
	t.Run("a file, without the line breaks at its end", func(t *testing.T) {
		write("# Found\n\n- a switch\r\n\n")
		b.Run("diagnose", "sys-1", "-f", file).OK()
		if text := b.stored("sys-1").Status.Diagnosis.Text; text != "# Found\n\n- a switch" {
			t.Errorf("%q", text)
		}
	})
	t.Run("standard input, once for all tickets", func(t *testing.T) {
		b.Stdin = "a rack\n"
		b.Run("diagnose", "sys-1", "sys-2", "--filename", "-").OK()
		for _, name := range []string{"sys-1", "sys-2"} {
			if text := b.stored(name).Status.Diagnosis.Text; text != "a rack" {
				t.Errorf("%s: %q", name, text)
			}
		}
	})
	t.Run("as many characters as there may be", func(t *testing.T) {
		write(strings.Repeat("é", 65536) + "\n")
		b.Run("diagnose", "sys-2", "-f", file).OK()
	})
	t.Run("but not", func(t *testing.T) {
		write(strings.Repeat("é", 65537))
		large := filepath.Join(t.TempDir(), "large")
		clitest.Must(t, os.WriteFile(large, []byte(strings.Repeat("\n", 2<<20)+"end"), 0o600))
		b.Stdin = "not \xff text"
		for name, c := range map[string]struct{ args, want string }{
			"from nowhere":               {"", "what was the matter? Give --text, or --filename (- is standard input)\nSee 'operator tickets diagnose --help'"},
			"from two places":            {"--text a -f -", "--text and --filename cannot be used together\nSee"},
			"nothing":                    {"--text=", "the diagnosis is empty"},
			"an empty file":              {"-f " + os.DevNull, "the diagnosis is empty"},
			"one that is not there":      {"-f /no/such/file", "read the diagnosis: open /no/such/file: no such file"},
			"more than there may be":     {"-f " + file, "the diagnosis is too long: it has 65537 characters and may have 65536"},
			"a file that is far too big": {"-f " + large, "read the diagnosis: it is too long: it may have 65536 characters"},
			"what is not text":           {"-f -", "the diagnosis is not text in UTF-8"},
		} {
			t.Run(name, func(t *testing.T) {
				b.unchanged("sys-1", append([]string{"diagnose", "sys-1"}, strings.Fields(c.args)...)...).Printed("").Failed(c.want)
			})
		}
		b.Run("diagnose", "--text", "a").Printed("").Failed("which tickets? Give at least one ID, or --selector\nSee")
	})
}
