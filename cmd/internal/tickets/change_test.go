package tickets

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
	"invariant.dev/operator/cmd/internal/cli/clitest"
)

const printed = "ticket.operator.invariant.dev/"

func TestResolveEndsATicketByHand(t *testing.T) {
	b := newBench(t)
	t.Run("and says who did it, when and why", func(t *testing.T) {
		b.ticket("sys-1", cleared, state(v1alpha1.Acknowledged), annotations(map[string]string{v1alpha1.HoldAnnotation: "true"}))
		before := time.Now().Truncate(time.Second)
		b.Run("resolve", "sys-1", "--note", "moved away").OK().Printed(printed + "sys-1 resolved\n")
		got := b.stored("sys-1")
		r := got.Status.Resolution
		if got.Status.State != v1alpha1.Resolved || r == nil || r.By != "admin" || r.Reason != v1alpha1.Manual || r.Note != "moved away" ||
			r.Time.Go().Before(before) || r.Time.Go().After(time.Now()) {
			t.Errorf("%s, %+v", got.Status.State, r)
		}
	})
	t.Run("as the user that --as names", func(t *testing.T) {
		b.ticket("sys-2", cleared)
		b.Run("resolve", "sys-2", "--as", "ana", "--as-group", "system:masters").OK()
		if by := b.stored("sys-2").Status.Resolution.By; by != "ana" {
			t.Errorf("by %s", by)
		}
	})
	t.Run("once: again changes nothing", func(t *testing.T) {
		before := b.stored("sys-1")
		b.Run("resolve", "sys-1", "--note", "another").OK().Printed(printed + "sys-1 already resolved\n")
		if after := b.stored("sys-1"); after.ResourceVersion != before.ResourceVersion {
			t.Errorf("it was written: %+v", after.Status.Resolution)
		}
	})
	t.Run("and warns of a new one where it is still violated", func(t *testing.T) {
		b.ticket("sys-3")
		b.Run("resolve", "sys-3").
			Warned("Warning: sys-3 was still violated by store-down(3): while that lasts, a new ticket will open; " +
				"operator tickets ack on that one, or operator invariants mute for planned work, leaves it be\n").
			Printed(printed + "sys-3 resolved\n")
		b.ticket("sys-4", func(t *v1alpha1.Ticket) { t.Status.Violations[0].SatisfiedSinceTime = clitest.Ago(time.Second) })
		b.Run("resolve", "sys-4").OK()
		b.ticket("sys-5", func(t *v1alpha1.Ticket) {
			t.Status.Violations = nil
			for _, id := range []string{"4", "5", "6", "7", "8"} {
				v := t.Spec.Violations[0]
				v.StoreID = id
				t.Spec.Violations = append(t.Spec.Violations, v)
			}
		})
		if r := b.Run("resolve", "sys-5"); !strings.Contains(r.Err, "store-down(3), store-down(4), store-down(5), store-down(6), store-down(7), 1 more: while") {
			t.Errorf("%v", r)
		}
	})
}

// meanwhile runs do just before the first PATCH, and always before each.
func meanwhile(do func()) func(http.RoundTripper) http.RoundTripper { return always(sync.OnceFunc(do)) }

func always(do func()) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper {
		return clitest.RoundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPatch {
				do()
			}
			return next.RoundTrip(r)
		})
	}
}

func TestAPersonsWriteAgainstAnothersAtTheSameMoment(t *testing.T) {
	b := newBench(t)
	resolveAs := func(name string, resolution v1alpha1.Resolution) {
		ticket := b.stored(name)
		ticket.Status.State, ticket.Status.Resolution = v1alpha1.Resolved, &resolution
		clitest.Must(t, b.API.Status().Update(t.Context(), ticket))
	}
	t.Run("two resolve: the second says already resolved, and the first's words stay", func(t *testing.T) {
		b.ticket("sys-1", cleared)
		b.Between = meanwhile(func() {
			resolveAs("sys-1", v1alpha1.Resolution{By: "ana", Time: clitest.Ago(0), Reason: v1alpha1.Manual, Note: "mine"})
		})
		b.Run("resolve", "sys-1", "--note", "late").OK().Printed(printed + "sys-1 already resolved\n")
		if r := b.stored("sys-1").Status.Resolution; r.By != "ana" || r.Note != "mine" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("the monitor counts while somebody resolves: both stay", func(t *testing.T) {
		b.ticket("sys-2", cleared)
		b.Between = meanwhile(func() {
			ticket := b.stored("sys-2")
			ticket.Status.Occurrences = 99
			clitest.Must(t, b.API.Status().Update(t.Context(), ticket))
		})
		b.Run("resolve", "sys-2").OK().Printed(printed + "sys-2 resolved\n")
		if s := b.stored("sys-2").Status; s.State != v1alpha1.Resolved || s.Occurrences != 99 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("the monitor resolves while somebody places a hold: they are told", func(t *testing.T) {
		b.ticket("sys-3", cleared)
		b.Between = meanwhile(func() { resolveAs("sys-3", v1alpha1.Resolution{By: "monitor", Reason: v1alpha1.Cleared}) })
		b.Run("hold", "sys-3").Warned("Warning: sys-3 is resolved, and stays so: the hold only keeps it from being removed; " +
			"if the fault comes back, a new ticket opens\n").Printed(printed + "sys-3 held\n")
	})
	t.Run("the ticket is deleted while somebody resolves it: they are told", func(t *testing.T) {
		ticket := b.ticket("sys-4", cleared)
		b.Between = meanwhile(func() { clitest.Must(t, b.API.Delete(t.Context(), ticket)) })
		b.Run("resolve", "sys-4").Printed("").Failed("change the ticket sys-4: there is none of this name")
	})
	t.Run("others write all the time: it tries again", func(t *testing.T) {
		b.ticket("sys-5", cleared)
		refused := 0
		b.Between = func(next http.RoundTripper) http.RoundTripper {
			return clitest.RoundTripper(func(r *http.Request) (*http.Response, error) {
				if r.Method == http.MethodPatch && refused < 2 {
					refused++
					// Only a wrong resource version makes a real API server refuse at will.
					r = r.Clone(r.Context())
					body := `{"metadata":{"resourceVersion":"1"},"status":{"occurrences":5}}`
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
				}
				return next.RoundTrip(r)
			})
		}
		b.Run("resolve", "sys-5").OK().Printed(printed + "sys-5 resolved\n")
		if s := b.stored("sys-5").Status; refused != 2 || s.State != v1alpha1.Resolved || s.Occurrences != 1 {
			t.Errorf("after %d refusals: %+v", refused, s)
		}
	})
}

func TestHoldKeepsATicketOpenUntilUnhold(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1", annotations(map[string]string{"mine": "stays"}))
	want := func(t *testing.T, held bool, note string) {
		t.Helper()
		got := b.stored("sys-1")
		if got.Held() != held || got.Annotations[v1alpha1.HoldNoteAnnotation] != note || got.Annotations["mine"] != "stays" || got.Status.State != v1alpha1.Open {
			t.Errorf("want held %v and note %q, got %v, state %s", held, note, got.Annotations, got.Status.State)
		}
	}
	unchanged := func(t *testing.T, args ...string) clitest.Result {
		t.Helper()
		before := b.stored("sys-1").ResourceVersion
		r := b.Run(args...).OK()
		if b.stored("sys-1").ResourceVersion != before {
			t.Errorf("it was written: %v", r)
		}
		return r
	}
	t.Run("what is not held is no error to unhold", func(t *testing.T) {
		unchanged(t, "unhold", "sys-1").Printed(printed + "sys-1 not held\n")
	})
	t.Run("hold with a note, and who holds it", func(t *testing.T) {
		b.Run("hold", "sys-1", "--note", "draining", "--as", "ana", "--as-group", "system:masters").OK().Printed(printed + "sys-1 held\n")
		want(t, true, "draining")
		if a := b.stored("sys-1").Annotations; a[v1alpha1.HoldAnnotation] != "true" || a[v1alpha1.HoldByAnnotation] != "ana" {
			t.Errorf("the annotations are %v", a)
		}
	})
	t.Run("hold again is no error and keeps the note", func(t *testing.T) {
		unchanged(t, "hold", "sys-1").Printed(printed + "sys-1 already held\n")
		unchanged(t, "hold", "sys-1", "--note", "draining").Printed(printed + "sys-1 already held\n")
	})
	t.Run("another note replaces it, by whoever writes it", func(t *testing.T) {
		b.Run("hold", "sys-1", "--note", "collecting profiles").OK().Printed(printed + "sys-1 held\n")
		want(t, true, "collecting profiles")
		if by := b.stored("sys-1").Annotations[v1alpha1.HoldByAnnotation]; by != "admin" {
			t.Errorf("held by %s", by)
		}
	})
	t.Run("unhold removes all of it", func(t *testing.T) {
		b.Run("unhold", "sys-1").OK().Printed(printed + "sys-1 unheld\n")
		want(t, false, "")
		if a := b.stored("sys-1").Annotations; len(a) != 1 {
			t.Errorf("something is still there: %v", a)
		}
	})
	t.Run("an annotation that says false is no hold, and its old note goes", func(t *testing.T) {
		ticket := b.stored("sys-1")
		ticket.Annotations[v1alpha1.HoldAnnotation], ticket.Annotations[v1alpha1.HoldNoteAnnotation] = "False", "old"
		clitest.Must(t, b.API.Update(t.Context(), ticket))
		unchanged(t, "unhold", "sys-1").Printed(printed + "sys-1 not held\n")
		b.Run("hold", "sys-1").OK().Printed(printed + "sys-1 held\n")
		want(t, true, "")
	})
	t.Run("a resolved ticket stays so, and can be held and freed", func(t *testing.T) {
		b.ticket("sys-2", state(v1alpha1.Resolved))
		const warning = "Warning: sys-2 is resolved, and stays so: the hold only keeps it from being removed"
		for _, became := range []string{"held", "already held"} {
			if r := b.Run("hold", "sys-2").Printed(printed + "sys-2 " + became + "\n"); r.Code != 0 || !strings.HasPrefix(r.Err, warning) {
				t.Errorf("%v", r)
			}
		}
		if got := b.stored("sys-2"); !got.Held() || got.IsOpen() {
			t.Errorf("%s, %v", got.Status.State, got.Annotations)
		}
		b.ticket("sys-3", state(v1alpha1.Resolved), annotations(map[string]string{v1alpha1.HoldAnnotation: "true"}))
		b.Run("unhold", "sys-3").OK().Printed(printed + "sys-3 unheld\n")
	})
}

func TestVerbsTakeSeveralTickets(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1", cleared, labeled("team", "storage"))
	b.ticket("sys-2", cleared, labeled("team", "storage"))
	b.ticket("sys-3", cleared, labeled("team", "web"))
	b.ticket("sys-4", cleared, labeled("team", "storage"), state(v1alpha1.Resolved))
	t.Run("an unknown one is an error that names it, and the others are done", func(t *testing.T) {
		b.Run("hold", "sys-1", "sys-98", "sys-2", "sys-99").
			Printed(printed+"sys-1 held\n"+printed+"sys-2 held\n").
			Failed("read the ticket sys-98: there is none of this name in the namespace "+b.Namespace+"; operator tickets list --state all shows all there are", "sys-99")
	})
	t.Run("by label, those that are open", func(t *testing.T) {
		b.Run("unhold", "-l", "team=storage").OK().Printed(printed + "sys-2 unheld\n" + printed + "sys-1 unheld\n")
		b.Run("hold", "-l", "team in (storage,web)").OK().Printed(printed + "sys-3 held\n" + printed + "sys-2 held\n" + printed + "sys-1 held\n")
		b.Run("resolve", "-l", "no=such").Warned("No open tickets with these labels in " + b.Namespace + " namespace.\n").Printed("")
	})
	t.Run("by the names that are printed, each once", func(t *testing.T) {
		b.Run("resolve", printed+"sys-1", "ticket/sys-1", "tkt/sys-2").OK().Printed(printed + "sys-1 resolved\n" + printed + "sys-2 resolved\n")
		b.Run("resolve", "pod/sys-3").Failed(`"pod/sys-3" is not the ID of a ticket`)
		b.Run("resolve", "").Failed(`"" is not the ID of a ticket`)
	})
	for _, verb := range []string{"show", "ack", "resolve", "hold", "unhold"} {
		t.Run("neither an ID nor a label is an error: "+verb, func(t *testing.T) {
			b.Run(verb).Printed("").Failed("which tickets? Give at least one ID, or --selector\nSee 'operator tickets " + verb + " --help' for usage")
			b.Run(verb, "sys-3", "-l", "team=web").Printed("").Failed("IDs and --selector cannot be used together")
		})
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	for verb, change := range map[string]func(*v1alpha1.Ticket){
		"ack":                      cleared,
		"diagnose --text=a-switch": cleared,
		"resolve":                  cleared,
		"hold":                     cleared,
		"unhold":                   annotations(map[string]string{v1alpha1.HoldAnnotation: "true"}),
	} {
		t.Run(verb, func(t *testing.T) {
			b := newBench(t)
			before := b.ticket("sys-1", change)
			args := strings.Fields(verb)
			done := map[string]string{"ack": "acknowledged", "diagnose": "diagnosed", "resolve": "resolved", "hold": "held", "unhold": "unheld"}[args[0]]
			patches := 0
			b.Between = func(next http.RoundTripper) http.RoundTripper {
				return clitest.RoundTripper(func(r *http.Request) (*http.Response, error) {
					if r.Method == http.MethodPatch {
						patches++
					}
					return next.RoundTrip(r)
				})
			}
			b.Run(append(args, "sys-1", "--dry-run=client")...).OK().Printed(printed + "sys-1 " + done + " (dry run)\n")
			if patches != 0 {
				t.Error("--dry-run=client sent a change")
			}
			b.Run(append(args, "sys-1", "--dry-run=server")...).OK().Printed(printed + "sys-1 " + done + " (server dry run)\n")
			if patches != 1 {
				t.Error("--dry-run=server sent no change to be checked")
			}
			if after := b.stored("sys-1"); after.ResourceVersion != before.ResourceVersion {
				t.Errorf("it was written: %+v", after)
			}
			b.Run(append(args, "sys-1", "--dry-run=none")...).OK().Printed(printed + "sys-1 " + done + "\n")
			b.Run(append(args, "sys-1", "--dry-run=maybe")...).Failed(`--dry-run is "maybe": it must be none, client or server`)
		})
	}
	t.Run("and the server refuses what it would refuse", func(t *testing.T) {
		b := newBench(t)
		b.ticket("sys-1", cleared)
		b.Run("resolve", "sys-1", "--dry-run=server", "--note", strings.Repeat("x", 4097)).Printed("").Failed("change the ticket sys-1: ")
	})
}

func TestChangesAreWrittenUnderANameOfTheirOwn(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1", cleared)
	b.Run("hold", "sys-1").OK()
	var managers []string
	for _, entry := range b.stored("sys-1").GetManagedFields() {
		managers = append(managers, entry.Manager)
	}
	if !strings.Contains(strings.Join(managers, " "), cli.FieldManager) {
		t.Errorf("managers are %q", managers)
	}
}
