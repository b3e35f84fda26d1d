package tickets

import (
	"strings"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli/clitest"
)

// as is somebody else at the bench, who may do everything there.
func (b *bench) as(user string) *bench {
	b.T.Helper()
	_, kubeconfig, err := plane.User(user, "system:masters")
	clitest.Must(b.T, err)
	other := *b
	other.Kubeconfig = kubeconfig
	return &other
}

// unchanged wants args to succeed without a write to the ticket.
func (b *bench) unchanged(name string, args ...string) clitest.Result {
	b.T.Helper()
	before := b.stored(name).ResourceVersion
	r := b.Run(args...)
	if after := b.stored(name); after.ResourceVersion != before {
		b.T.Errorf("it was written: %v\n%+v", r, after.Status)
	}
	return r
}

func TestAckSaysWhoIsAtIt(t *testing.T) {
	b := newBench(t)
	ana, bob := b.as("ana"), b.as("bob")
	t.Run("of an open ticket", func(t *testing.T) {
		b.ticket("sys-1")
		before := time.Now().Truncate(time.Second)
		ana.Run("ack", "sys-1", "--note", "on it").OK().Printed(printed + "sys-1 acknowledged\n")
		s := b.stored("sys-1").Status
		a := s.Acknowledgement
		if s.State != v1alpha1.Acknowledged || a == nil || a.By != "ana" || a.Note != "on it" || a.TakenFrom != "" || a.Time.Go().Before(before) || a.Time.Go().After(time.Now()) {
			t.Errorf("%s, %+v", s.State, a)
		}
	})
	t.Run("again by the same changes nothing, but for a new note", func(t *testing.T) {
		before := b.stored("sys-1").Status.Acknowledgement
		for _, args := range [][]string{{"ack", "sys-1"}, {"ack", "sys-1", "--note", "on it"}, {"ack", "sys-1", "--take"}} {
			ana.unchanged("sys-1", args...).OK().Printed(printed + "sys-1 already acknowledged\n")
		}
		ana.Run("ack", "sys-1", "--note", "found it").OK().Printed(printed + "sys-1 acknowledged\n")
		if a := b.stored("sys-1").Status.Acknowledgement; a.By != "ana" || a.Note != "found it" || !a.Time.Go().Equal(before.Time.Go()) {
			t.Errorf("%+v", a)
		}
	})
	t.Run("by another changes nothing, and says whose it is and since when", func(t *testing.T) {
		since := b.stored("sys-1").Status.Acknowledgement.Time.Go().Format(time.RFC3339)
		bob.unchanged("sys-1", "ack", "sys-1", "--note", "me too").Printed("").
			Failed("acknowledge the ticket sys-1: ana has acknowledged it already, at " + since + " (").
			Failed("nothing was changed; --take takes it over")
	})
	t.Run("unless they take it over", func(t *testing.T) {
		bob.Run("ack", "sys-1", "--take").OK().Printed(printed + "sys-1 acknowledged, taken over from ana\n")
		if a := b.stored("sys-1").Status.Acknowledgement; a.By != "bob" || a.TakenFrom != "ana" || a.Note != "" || a.Time == nil {
			t.Errorf("%+v", a)
		}
		ana.Run("ack", "sys-1", "--take", "--note", "mine again").OK().Printed(printed + "sys-1 acknowledged, taken over from bob\n")
		if a := b.stored("sys-1").Status.Acknowledgement; a.By != "ana" || a.TakenFrom != "bob" || a.Note != "mine again" {
			t.Errorf("%+v", a)
		}
	})
	t.Run("and --take of what nobody has is an ack", func(t *testing.T) {
		b.ticket("sys-2")
		ana.Run("ack", "sys-2", "--take").OK().Printed(printed + "sys-2 acknowledged\n")
		if a := b.stored("sys-2").Status.Acknowledgement; a.By != "ana" || a.TakenFrom != "" {
			t.Errorf("%+v", a)
		}
	})
	t.Run("of a diagnosed ticket, which stays diagnosed", func(t *testing.T) {
		b.ticket("sys-3", state(v1alpha1.Diagnosed))
		ana.Run("ack", "sys-3").OK().Printed(printed + "sys-3 acknowledged\n")
		if s := b.stored("sys-3").Status; s.State != v1alpha1.Diagnosed || s.Acknowledgement.By != "ana" {
			t.Errorf("%s, %+v", s.State, s.Acknowledgement)
		}
	})
	t.Run("of a resolved ticket is an error", func(t *testing.T) {
		b.ticket("sys-4", state(v1alpha1.Resolved))
		ana.unchanged("sys-4", "ack", "sys-4", "--take").Printed("").Failed("acknowledge the ticket sys-4: it is already resolved, and stays so")
	})
	t.Run("which somebody wrote with kubectl, without the state", func(t *testing.T) {
		b.ticket("sys-5", func(t *v1alpha1.Ticket) { t.Status.Acknowledgement = &v1alpha1.Acknowledgement{By: "ana"} })
		bob.unchanged("sys-5", "ack", "sys-5").Failed("sys-5: ana has acknowledged it already, and nothing was changed")
		ana.Run("ack", "sys-5").OK().Printed(printed + "sys-5 acknowledged\n")
		if s := b.stored("sys-5").Status; s.State != v1alpha1.Acknowledged || s.Acknowledgement.By != "ana" {
			t.Errorf("%s, %+v", s.State, s.Acknowledgement)
		}
	})
	t.Run("of several, where one is another's", func(t *testing.T) {
		b.ticket("sys-6")
		bob.Run("ack", "sys-1", "sys-6", "sys-99").Printed(printed+"sys-6 acknowledged\n").
			Failed("sys-1: ana has acknowledged it already", "sys-99: there is none of this name")
	})
	t.Run("of all that are open with a label", func(t *testing.T) {
		b.ticket("sys-7", labeled("team", "web"))
		b.ticket("sys-8", labeled("team", "web"), state(v1alpha1.Resolved))
		bob.Run("ack", "-l", "team=web").OK().Printed(printed + "sys-7 acknowledged\n")
	})
	t.Run("with a note that is not too long", func(t *testing.T) {
		b.ticket("sys-9")
		ana.unchanged("sys-9", "ack", "sys-9", "--note", strings.Repeat("x", 4097)).Printed("").Failed("change the ticket sys-9: ")
	})
}

func TestOfTwoWhoAckAtTheSameMomentOneIsToldOfTheOther(t *testing.T) {
	b := newBench(t)
	t.Run("the other was faster", func(t *testing.T) {
		b.ticket("sys-1")
		ana := *b.as("ana")
		ana.Between = meanwhile(func() { b.as("bob").Run("ack", "sys-1").OK() })
		ana.Run("ack", "sys-1").Printed("").Failed("sys-1: bob has acknowledged it already, at ")
	})
	t.Run("the other took it over from the same", func(t *testing.T) {
		b.ticket("sys-2", state(v1alpha1.Acknowledged))
		cid := *b.as("cid")
		cid.Between = meanwhile(func() { b.as("bob").Run("ack", "sys-2", "--take").OK() })
		cid.Run("ack", "sys-2", "--take").OK().Printed(printed + "sys-2 acknowledged, taken over from bob\n")
		if a := b.stored("sys-2").Status.Acknowledgement; a.By != "cid" || a.TakenFrom != "bob" {
			t.Errorf("%+v", a)
		}
	})
	t.Run("the monitor was faster, and resolved it", func(t *testing.T) {
		b.ticket("sys-3")
		ana := *b.as("ana")
		ana.Between = meanwhile(func() { b.as("monitor").Run("resolve", "sys-3") })
		ana.Run("ack", "sys-3").Printed("").Failed("sys-3: it is already resolved")
		if a := b.stored("sys-3").Status.Acknowledgement; a != nil {
			t.Errorf("%+v", a)
		}
	})
}
