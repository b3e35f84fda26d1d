package tickets

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
)

const printed = "ticket.operator.invariant.dev/"

func TestResolveEndsATicketByHand(t *testing.T) {
	b := newBench(t)
	t.Run("and says who did it, when and why", func(t *testing.T) {
		b.ticket("sys-1", cleared, state(v1alpha1.Acknowledged), annotations(map[string]string{v1alpha1.HoldAnnotation: "true"}))
		before := time.Now().Truncate(time.Second)
		b.run("resolve", "sys-1", "--note", "moved away").ok().printed(printed + "sys-1 resolved\n")
		got := b.stored("sys-1")
		r := got.Status.Resolution
		if got.Status.State != v1alpha1.Resolved || r == nil || r.By != "admin" || r.Reason != v1alpha1.Manual || r.Note != "moved away" ||
			r.Time.Go().Before(before) || r.Time.Go().After(time.Now()) {
			t.Errorf("%s, %+v", got.Status.State, r)
		}
	})
	t.Run("as the user that --as names", func(t *testing.T) {
		b.ticket("sys-2", cleared)
		b.run("resolve", "sys-2", "--as", "ana", "--as-group", "system:masters").ok()
		if by := b.stored("sys-2").Status.Resolution.By; by != "ana" {
			t.Errorf("by %s", by)
		}
	})
	t.Run("once: again changes nothing", func(t *testing.T) {
		before := b.stored("sys-1")
		b.run("resolve", "sys-1", "--note", "another").ok().printed(printed + "sys-1 already resolved\n")
		if after := b.stored("sys-1"); after.ResourceVersion != before.ResourceVersion {
			t.Errorf("it was written: %+v", after.Status.Resolution)
		}
	})
	t.Run("and warns of a new one where it is still violated", func(t *testing.T) {
		b.ticket("sys-3")
		b.run("resolve", "sys-3").
			warned("Warning: sys-3 was still violated by store-down(3): while that lasts, a new ticket will open\n").
			printed(printed + "sys-3 resolved\n")
		b.ticket("sys-4", func(t *v1alpha1.Ticket) { t.Status.Violations[0].SatisfiedSinceTime = ago(time.Second) })
		b.run("resolve", "sys-4").ok()
		b.ticket("sys-5", func(t *v1alpha1.Ticket) {
			t.Status.Violations = nil
			for _, id := range []string{"4", "5", "6", "7", "8"} {
				v := t.Spec.Violations[0]
				v.StoreID = id
				t.Spec.Violations = append(t.Spec.Violations, v)
			}
		})
		if r := b.run("resolve", "sys-5"); !strings.Contains(r.err, "store-down(3), store-down(4), store-down(5), store-down(6), store-down(7), 1 more: while") {
			t.Errorf("%v", r)
		}
	})
}

// meanwhile runs do just before the first PATCH.
func meanwhile(do func()) func(http.RoundTripper) http.RoundTripper {
	var once sync.Once
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPatch {
				once.Do(do)
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
		must(t, b.api.Status().Update(t.Context(), ticket))
	}
	t.Run("two resolve: the second says already resolved, and the first's words stay", func(t *testing.T) {
		b.ticket("sys-1", cleared)
		b.between = meanwhile(func() {
			resolveAs("sys-1", v1alpha1.Resolution{By: "ana", Time: ago(0), Reason: v1alpha1.Manual, Note: "mine"})
		})
		b.run("resolve", "sys-1", "--note", "late").ok().printed(printed + "sys-1 already resolved\n")
		if r := b.stored("sys-1").Status.Resolution; r.By != "ana" || r.Note != "mine" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("the monitor counts while somebody resolves: both stay", func(t *testing.T) {
		b.ticket("sys-2", cleared)
		b.between = meanwhile(func() {
			ticket := b.stored("sys-2")
			ticket.Status.Occurrences = 99
			must(t, b.api.Status().Update(t.Context(), ticket))
		})
		b.run("resolve", "sys-2").ok().printed(printed + "sys-2 resolved\n")
		if s := b.stored("sys-2").Status; s.State != v1alpha1.Resolved || s.Occurrences != 99 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("the monitor resolves while somebody places a hold: they are told", func(t *testing.T) {
		b.ticket("sys-3", cleared)
		b.between = meanwhile(func() { resolveAs("sys-3", v1alpha1.Resolution{By: "monitor", Reason: v1alpha1.Cleared}) })
		b.run("hold", "sys-3").printed("").failed("hold the ticket sys-3: it was resolved a moment before")
	})
	t.Run("the ticket is deleted while somebody resolves it: they are told", func(t *testing.T) {
		ticket := b.ticket("sys-4", cleared)
		b.between = meanwhile(func() { must(t, b.api.Delete(t.Context(), ticket)) })
		b.run("resolve", "sys-4").printed("").failed("change the ticket sys-4: there is none of this name")
	})
	t.Run("others write all the time: it tries again", func(t *testing.T) {
		b.ticket("sys-5", cleared)
		refused := 0
		b.between = func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
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
		b.run("resolve", "sys-5").ok().printed(printed + "sys-5 resolved\n")
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
	unchanged := func(t *testing.T, args ...string) result {
		t.Helper()
		before := b.stored("sys-1").ResourceVersion
		r := b.run(args...).ok()
		if b.stored("sys-1").ResourceVersion != before {
			t.Errorf("it was written: %v", r)
		}
		return r
	}
	t.Run("what is not held is no error to unhold", func(t *testing.T) {
		unchanged(t, "unhold", "sys-1").printed(printed + "sys-1 not held\n")
	})
	t.Run("hold with a note", func(t *testing.T) {
		b.run("hold", "sys-1", "--note", "draining").ok().printed(printed + "sys-1 held\n")
		want(t, true, "draining")
		if value := b.stored("sys-1").Annotations[v1alpha1.HoldAnnotation]; value != "true" {
			t.Errorf("the annotation is %q", value)
		}
	})
	t.Run("hold again is no error and keeps the note", func(t *testing.T) {
		unchanged(t, "hold", "sys-1").printed(printed + "sys-1 already held\n")
		unchanged(t, "hold", "sys-1", "--note", "draining").printed(printed + "sys-1 already held\n")
	})
	t.Run("another note replaces it", func(t *testing.T) {
		b.run("hold", "sys-1", "--note", "collecting profiles").ok().printed(printed + "sys-1 held\n")
		want(t, true, "collecting profiles")
	})
	t.Run("unhold removes both", func(t *testing.T) {
		b.run("unhold", "sys-1").ok().printed(printed + "sys-1 unheld\n")
		want(t, false, "")
		if _, found := b.stored("sys-1").Annotations[v1alpha1.HoldAnnotation]; found {
			t.Error("the annotation is still there")
		}
	})
	t.Run("an annotation that says false is no hold, and its old note goes", func(t *testing.T) {
		ticket := b.stored("sys-1")
		ticket.Annotations[v1alpha1.HoldAnnotation], ticket.Annotations[v1alpha1.HoldNoteAnnotation] = "False", "old"
		must(t, b.api.Update(t.Context(), ticket))
		unchanged(t, "unhold", "sys-1").printed(printed + "sys-1 not held\n")
		b.run("hold", "sys-1").ok().printed(printed + "sys-1 held\n")
		want(t, true, "")
	})
	t.Run("a resolved ticket cannot be held, but freed", func(t *testing.T) {
		b.ticket("sys-2", state(v1alpha1.Resolved))
		b.run("hold", "sys-2").printed("").failed("hold the ticket sys-2: it is already resolved")
		if b.stored("sys-2").Held() {
			t.Error("it is held")
		}
		b.ticket("sys-3", state(v1alpha1.Resolved), annotations(map[string]string{v1alpha1.HoldAnnotation: "true"}))
		b.run("unhold", "sys-3").ok().printed(printed + "sys-3 unheld\n")
	})
}

func TestVerbsTakeSeveralTickets(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1", cleared, labeled("team", "storage"))
	b.ticket("sys-2", cleared, labeled("team", "storage"))
	b.ticket("sys-3", cleared, labeled("team", "web"))
	b.ticket("sys-4", cleared, labeled("team", "storage"), state(v1alpha1.Resolved))
	t.Run("an unknown one is an error that names it, and the others are done", func(t *testing.T) {
		b.run("hold", "sys-1", "sys-98", "sys-2", "sys-99").
			printed(printed+"sys-1 held\n"+printed+"sys-2 held\n").
			failed("read the ticket sys-98: there is none of this name in the namespace "+b.namespace+"; operator tickets list --state all shows all there are", "sys-99")
	})
	t.Run("by label, those that are open", func(t *testing.T) {
		b.run("unhold", "-l", "team=storage").ok().printed(printed + "sys-2 unheld\n" + printed + "sys-1 unheld\n")
		b.run("hold", "-l", "team in (storage,web)").ok().printed(printed + "sys-3 held\n" + printed + "sys-2 held\n" + printed + "sys-1 held\n")
		b.run("resolve", "-l", "no=such").warned("No open tickets with these labels in " + b.namespace + " namespace.\n").printed("")
	})
	t.Run("by the names that are printed, each once", func(t *testing.T) {
		b.run("resolve", printed+"sys-1", "ticket/sys-1", "tkt/sys-2").ok().printed(printed + "sys-1 resolved\n" + printed + "sys-2 resolved\n")
		b.run("resolve", "pod/sys-3").failed(`"pod/sys-3" is not the ID of a ticket`)
		b.run("resolve", "").failed(`"" is not the ID of a ticket`)
	})
	for _, verb := range []string{"show", "resolve", "hold", "unhold"} {
		t.Run("neither an ID nor a label is an error: "+verb, func(t *testing.T) {
			b.run(verb).printed("").failed("which tickets? Give at least one ID, or --selector\nSee 'operator tickets " + verb + " --help' for usage")
			b.run(verb, "sys-3", "-l", "team=web").printed("").failed("IDs and --selector cannot be used together")
		})
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	for verb, change := range map[string]func(*v1alpha1.Ticket){
		"resolve": cleared,
		"hold":    cleared,
		"unhold":  annotations(map[string]string{v1alpha1.HoldAnnotation: "true"}),
	} {
		t.Run(verb, func(t *testing.T) {
			b := newBench(t)
			before := b.ticket("sys-1", change)
			done := map[string]string{"resolve": "resolved", "hold": "held", "unhold": "unheld"}[verb]
			patches := 0
			b.between = func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) {
					if r.Method == http.MethodPatch {
						patches++
					}
					return next.RoundTrip(r)
				})
			}
			b.run(verb, "sys-1", "--dry-run=client").ok().printed(printed + "sys-1 " + done + " (dry run)\n")
			if patches != 0 {
				t.Error("--dry-run=client sent a change")
			}
			b.run(verb, "sys-1", "--dry-run=server").ok().printed(printed + "sys-1 " + done + " (server dry run)\n")
			if patches != 1 {
				t.Error("--dry-run=server sent no change to be checked")
			}
			if after := b.stored("sys-1"); after.ResourceVersion != before.ResourceVersion {
				t.Errorf("it was written: %+v", after)
			}
			b.run(verb, "sys-1", "--dry-run=none").ok().printed(printed + "sys-1 " + done + "\n")
			b.run(verb, "sys-1", "--dry-run=maybe").failed(`--dry-run is "maybe": it must be none, client or server`)
		})
	}
	t.Run("and the server refuses what it would refuse", func(t *testing.T) {
		b := newBench(t)
		b.ticket("sys-1", cleared)
		b.run("resolve", "sys-1", "--dry-run=server", "--note", strings.Repeat("x", 4097)).printed("").failed("change the ticket sys-1: ")
	})
}

func TestChangesAreWrittenUnderANameOfTheirOwn(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1", cleared)
	b.run("hold", "sys-1").ok()
	var managers []string
	for _, entry := range b.stored("sys-1").GetManagedFields() {
		managers = append(managers, entry.Manager)
	}
	if !strings.Contains(strings.Join(managers, " "), fieldManager) {
		t.Errorf("managers are %q", managers)
	}
}
