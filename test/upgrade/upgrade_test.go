package upgrade

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/test/installed"
)

func TestAnUpgradeAndTheWayBackLoseAndDoubleNothing(t *testing.T) {
	t.Log("upgrading from", upgraded)
	sites := []*site{
		newSite(t, "stopped", (*controlplane.Program).Stop),
		newSite(t, "killed", (*controlplane.Program).Kill),
	}
	start(sites, "older", older)
	for _, s := range sites {
		s.fill()
	}

	before := halt(sites)
	must(t, installed.Apply(t.Context(), plane, root))
	start(sites, "newer", newer)
	wantTakenOver(sites, before)

	// What a version to come would add, this one does not know, as the older one may not know what this one added.
	teach(t)
	for _, s := range sites {
		s.writeFuture()
		s.set("seen", "1", "2")
	}
	for _, s := range sites {
		s.until("the newer monitor opens a ticket", func(o objects) string { return o.lacks("ticket/seen-2", `"occurrences"`) })
		s.annotate("seen-2", v1alpha1.HoldAnnotation, "true")
		s.until("it sees the hold", func(o objects) string {
			return o.lacks("ticket/seen-2", `"type":"Held"`) + o.lacks("invariant/seen", `"violating":2`)
		})
	}

	before = halt(sites)
	start(sites, "older again", older)
	wantTakenOver(sites, before)
	wantAllToEnd(sites)
}

func start(sites []*site, name, bin string) {
	for _, s := range sites {
		s.Helper()
		s.start(name, bin)
	}
}

// halt ends the monitors and returns what they leave.
func halt(sites []*site) map[*site]objects {
	left := map[*site]objects{}
	for _, s := range sites {
		s.Helper()
		must(s.T, s.end(s.monitor))
		// A write that was under way when it was killed may come in a moment later.
		left[s] = s.objects()
		s.until("nobody writes any more", func(o objects) string {
			was := left[s]
			left[s] = o
			if !maps.Equal(was.versions(), o.versions()) {
				return "somebody still writes"
			}
			return ""
		})
	}
	return left
}

// wantTakenOver wants the monitors to go on where those before them ended.
func wantTakenOver(sites []*site, before map[*site]objects) {
	pass(sites, 2)
	after := map[*site]objects{}
	for _, s := range sites {
		s.Helper()
		after[s] = s.objects()
		s.wantKept(before[s], after[s])
	}
	pass(sites, 2)
	for _, s := range sites {
		s.wantQuiet(after[s], s.objects())
	}
}

// pass waits until at least so many cycles have passed.
func pass(sites []*site, cycles int64) {
	from := map[*site]int64{}
	for _, s := range sites {
		from[s] = s.objects().occurrences("ticket/seen-1")
	}
	for _, s := range sites {
		s.Helper()
		s.until("seen-1 is seen again", func(o objects) string {
			if got := o.occurrences("ticket/seen-1"); got < from[s]+cycles {
				return fmt.Sprintf("it was seen %d times, after %d", got, from[s])
			}
			return ""
		})
	}
}

// wantKept wants all that was there to be there, and nothing to be written but what must be: who counts from now on, on each open ticket.
func (s *site) wantKept(before, after objects) {
	s.Helper()
	if was, is := slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)); !slices.Equal(was, is) {
		s.Fatalf("%s: there were %v, and are %v", s.namespace, was, is)
	}
	for name, was := range before {
		is := after[name]
		if all := lost("", was.Object, is.Object); len(all) > 0 {
			s.Errorf("%s: %s lost something:\n%s", s.namespace, name, strings.Join(all, "\n"))
		}
		ticket, err := after.ticket(name)
		if err != nil {
			s.Errorf("%s: %s cannot be read: %v", s.namespace, name, err)
			continue
		}
		switch fenced := ticket != nil && ticket.IsOpen(); {
		case fenced && monitor(was) == ticket.Status.Monitor:
			s.Errorf("%s: %s still admits what the monitor before had under way", s.namespace, name)
		case !fenced && was.GetResourceVersion() != is.GetResourceVersion():
			s.Errorf("%s: %s is written without a need: %v", s.namespace, name, is.Object["status"])
		}
	}
}

func monitor(ticket *unstructured.Unstructured) string {
	name, _, _ := unstructured.NestedString(ticket.Object, "status", "monitor")
	return name
}

// wantQuiet wants nothing to be written in a cycle but what counts.
func (s *site) wantQuiet(before, after objects) {
	s.Helper()
	for name := range after {
		if before.occurrences(name) == after.occurrences(name) && before[name].GetResourceVersion() != after[name].GetResourceVersion() {
			s.Errorf("%s: %s is written although nothing happens: %v", s.namespace, name, after[name].Object["status"])
		}
	}
}

// teach has the API server store a field that no monitor knows in each status.
func teach(t *testing.T) {
	for _, kind := range []string{"tickets", "invariants"} {
		kubectl(t, "", "patch", "crd", kind+"."+v1alpha1.GroupVersion.Group, "--type=json", "-p",
			`[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/future","value":{"type":"string"}}]`)
	}
}

func (s *site) writeFuture() {
	s.Helper()
	s.until("the API server stores the new field", func(o objects) string {
		for _, object := range o {
			must(s.T, s.api.Status().Patch(s.Context(), object, client.RawPatch(types.MergePatchType, []byte(`{"status":{"future":"to come"}}`))))
		}
		for name := range o {
			if missing := o.lacks(name, `"future":"to come"`); missing != "" {
				return missing
			}
		}
		return ""
	})
}

// wantAllToEnd mends all, and wants it to end as if there had been one monitor all the time.
func wantAllToEnd(sites []*site) {
	want := maps.Clone(settled)
	want["seen-2"] = v1alpha1.Open // held
	for _, s := range sites {
		for _, system := range []string{"seen", "words", "manual", "mixed", "grace", "muted", "blind"} {
			s.set(system)
		}
	}
	for _, name := range []string{"seen-1", "words-1", "manual-2", "mixed-1"} {
		want[name] = v1alpha1.Resolved
	}
	for _, s := range sites {
		s.Helper()
		s.until("what has cleared is resolved", func(o objects) string { return o.wrong(want) })
		s.until("words are kept", func(o objects) string {
			return o.lacks("ticket/words-1", `"by":"ana","note":"on it"`, "a log was never rotated", "a disk was full")
		})
		s.annotate("held-1", v1alpha1.HoldAnnotation, "")
		s.annotate("seen-2", v1alpha1.HoldAnnotation, "")
	}
	want["held-1"], want["seen-2"] = v1alpha1.Resolved, v1alpha1.Resolved
	for _, s := range sites {
		s.until("what is no longer held is resolved", func(o objects) string { return o.wrong(want) })
	}
}
