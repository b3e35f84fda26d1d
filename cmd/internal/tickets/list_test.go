package tickets

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli/clitest"
	"invariant.dev/operator/hack/controlplane"
)

func TestListShowsOpenTicketsWorstThenNewest(t *testing.T) {
	b := newBench(t)
	b.ticket("a-info", severity(v1alpha1.Info))
	b.ticket("b-warning", severity(v1alpha1.Warning))
	b.nextSecond(b.ticket("z-critical", state(v1alpha1.Acknowledged)))
	b.ticket("d-critical-new", state(v1alpha1.Diagnosed))
	b.ticket("d-resolved", state(v1alpha1.Resolved))
	b.ticket("y-warning-new", severity(v1alpha1.Warning))
	const want = "d-critical-new z-critical y-warning-new b-warning a-info"

	t.Run("in a table", func(t *testing.T) {
		if got := b.Run("list").OK().Rows(); got != "NAME "+want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("as names", func(t *testing.T) {
		if got := strings.ReplaceAll(b.Run("list", "-o", "name").OK().Rows(), "ticket.operator.invariant.dev/", ""); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("as JSON, whole and as a List", func(t *testing.T) {
		r := b.Run("list", "--json").OK()
		var list struct {
			APIVersion, Kind string
			Items            []v1alpha1.Ticket
		}
		clitest.Must(t, json.Unmarshal([]byte(r.Out), &list))
		var names []string
		for _, item := range list.Items {
			names = append(names, item.Name)
			if item.Kind != "Ticket" || item.Spec.System != "sys" || item.Status.Summary != "store-down(3)" {
				t.Errorf("%s is not whole: %+v", item.Name, item)
			}
		}
		if got := strings.Join(names, " "); list.Kind != "List" || list.APIVersion != "v1" || got != want {
			t.Errorf("got a %s %s of %q, want a v1 List of %q", list.APIVersion, list.Kind, got, want)
		}
		if strings.Contains(r.Out, "managedFields") {
			t.Error("it has managed fields, which kubectl leaves out")
		}
		b.Run("list", "-o", "json").OK().Printed(r.Out)
	})
	t.Run("as YAML", func(t *testing.T) { b.Run("list", "-o", "yaml").OK().Has("kind: List", "name: d-critical-new") })
	t.Run("by a template", func(t *testing.T) {
		b.Run("list", "-o", "jsonpath={.items[*].metadata.name}").OK().Printed(want)
		b.Run("list", "--template", "{{len .items}}").OK().Printed("5")
	})
	t.Run("in the states that are asked for", func(t *testing.T) {
		for states, want := range map[string]string{
			"resolved":                             "d-resolved",
			"acknowledged,Resolved":                "d-resolved z-critical",
			"diagnosed":                            "d-critical-new",
			"open":                                 "y-warning-new b-warning a-info",
			"all":                                  "d-critical-new d-resolved z-critical y-warning-new b-warning a-info",
			"open,acknowledged,diagnosed,resolved": "d-critical-new d-resolved z-critical y-warning-new b-warning a-info",
		} {
			got := b.Run("list", "--no-headers", "--state", states).OK().Rows()
			// Of two in the same second, neither is the newer.
			got = strings.ReplaceAll(got, "d-resolved d-critical-new", "d-critical-new d-resolved")
			if got != want {
				t.Errorf("--state %s: got %q, want %q", states, got, want)
			}
		}
		b.Run("list", "--state", "closed").Failed(`--state is "closed": use open, acknowledged, diagnosed, resolved`)
	})
	t.Run("and of one second, the higher number first", func(t *testing.T) {
		b := newBench(t)
		var got string
		for same := false; !same; {
			two, three, ten := b.ticket("sys-2"), b.ticket("sys-3"), b.ticket("sys-10")
			same = two.CreationTimestamp.Equal(&ten.CreationTimestamp)
			got = b.Run("list", "--no-headers").OK().Rows()
			for _, ticket := range []*v1alpha1.Ticket{two, three, ten} {
				clitest.Must(t, b.API.Delete(t.Context(), ticket))
			}
		}
		if got != "sys-10 sys-3 sys-2" {
			t.Errorf("got %q", got)
		}
	})
}

func TestListPrintsTheColumnsThatTheAPIServerDefines(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1", func(t *v1alpha1.Ticket) {
		t.Status.Occurrences = 1234567
		t.Status.LastSeenTime = clitest.Ago(3 * time.Hour)
		t.Spec.Previous = "sys-0"
	}, annotations(map[string]string{v1alpha1.HoldAnnotation: "true"}))
	words := func(line string) string { return strings.Join(strings.Fields(line), " ") }
	withoutAge := func(out string) string {
		var lines []string
		for line := range strings.Lines(out) {
			fields := strings.Fields(line)
			lines = append(lines, strings.Join(fields[:len(fields)-1], " "))
		}
		return strings.Join(lines, "\n")
	}
	t.Run("by default", func(t *testing.T) {
		header, row, _ := strings.Cut(b.Run("list").OK().Out, "\n")
		if got := words(header); got != "NAME STATE SEVERITY HELD COUNT LAST-SEEN SUMMARY AGE" {
			t.Errorf("the header is %q", got)
		}
		if got := words(row); !strings.HasPrefix(got, "sys-1 Open Critical true 1234567 3h store-down(3) ") {
			t.Errorf("the row is %q", got)
		}
	})
	t.Run("which kubectl get prints too", func(t *testing.T) {
		for _, flags := range [][]string{nil, {"-o", "wide"}, {"-A", "-l", "no-such-label!=x"}, {"--no-headers"}} {
			args := append([]string{"get", "tickets", "-n", b.Namespace, "--field-selector", "metadata.namespace=" + b.Namespace}, flags...)
			want, _, err := controlplane.Kubectl(t.Context(), plane.Kubeconfig, "", args...)
			clitest.Must(t, err)
			got := b.Run(append([]string{"list"}, flags...)...).OK().Out
			if strings.Join(flags, " ") == "-A -l no-such-label!=x" {
				got = onlyNamespace(got, b.Namespace)
			}
			if withoutAge(got) != withoutAge(want) {
				t.Errorf("with %v\n%s\nwant\n%s", flags, got, want)
			}
		}
	})
	t.Run("in all namespaces, with the namespace first", func(t *testing.T) {
		other := newBench(t)
		other.ticket("sys-2", labeled("only", "here"))
		out := b.Run("list", "--all-namespaces", "-l", "only=here").OK().Out
		header, row, _ := strings.Cut(out, "\n")
		if !strings.HasPrefix(header, "NAMESPACE ") || !strings.HasPrefix(words(row), other.Namespace+" sys-2 ") {
			t.Error(out)
		}
	})
	t.Run("an unknown format is an error that names the known", func(t *testing.T) {
		b.Run("list", "-o", "xml").Failed(`--output is "xml": use one of wide, json, yaml`)
		b.Run("list", "--json", "-o", "yaml").Failed("json output")
	})
}

// onlyNamespace is a table of all namespaces without the rows of others.
func onlyNamespace(table, namespace string) string {
	var kept string
	for line := range strings.Lines(table) {
		if first := strings.Fields(line)[0]; first == "NAMESPACE" || first == namespace {
			kept += line
		}
	}
	return kept
}

func TestListKeepsWhatIsAskedFor(t *testing.T) {
	b := newBench(t)
	b.ticket("old-1", func(t *v1alpha1.Ticket) { t.Status.LastSeenTime = clitest.Ago(73 * time.Hour) })
	b.ticket("new-1", labeled("team", "storage"), func(t *v1alpha1.Ticket) { t.Status.LastSeenTime = clitest.Ago(71 * time.Hour) })
	b.ticket("unseen-1", severity(v1alpha1.Info), func(t *v1alpha1.Ticket) { t.Status.LastSeenTime = nil })
	t.Run("last seen since", func(t *testing.T) {
		for _, format := range [][]string{{"--no-headers"}, {"-o", "name"}} {
			got := b.Run(append([]string{"list", "--since", "72h"}, format...)...).OK().Rows()
			if strings.ReplaceAll(got, "ticket.operator.invariant.dev/", "") != "new-1 unseen-1" {
				t.Errorf("%v: got %q", format, got)
			}
		}
		b.Run("list", "--since", "-1h").Failed("--since is -1h0m0s")
	})
	t.Run("by label", func(t *testing.T) {
		if got := b.Run("list", "--no-headers", "-l", "team=storage").OK().Rows(); got != "new-1" {
			t.Errorf("got %q", got)
		}
		b.Run("list", "-l", "team==,,").Failed("list the tickets in the namespace " + b.Namespace)
	})
}

func TestListSaysWhenNothingIsFound(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1", state(v1alpha1.Resolved))
	b.Run("list").Warned("No open tickets in " + b.Namespace + " namespace.\n").Printed("")
	b.Run("list", "-o", "wide").Warned("No open tickets in " + b.Namespace + " namespace.\n").Printed("")
	b.Run("list", "-o", "name").Warned("No open tickets in " + b.Namespace + " namespace.\n").Printed("")
	b.Run("list", "--state", "open").Warned("No tickets found in " + b.Namespace + " namespace.\n").Printed("")
	b.Run("list", "-l", "no=such").Warned("No tickets found in " + b.Namespace + " namespace.\n").Printed("")
	b.Run("list", "--since", "1h").Warned("No tickets found in " + b.Namespace + " namespace.\n").Printed("")
	b.Run("list", "-A", "-l", "no=such").Warned("No tickets found.\n").Printed("")
	t.Run("to a program, by an empty list", func(t *testing.T) {
		b.Run("list", "--json").OK().Has(`"items": []`, `"kind": "List"`)
	})
}

func TestListTakesManyTicketsPageByPage(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"sys-1", "sys-2", "sys-3", "sys-4", "sys-5"} {
		b.ticket(name)
	}
	// Pages of 500 cut down to 2, as if there were a thousand tickets.
	var asked int
	b.Between = func(next http.RoundTripper) http.RoundTripper {
		return clitest.RoundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/tickets") {
				asked++
				query := r.URL.Query()
				if got := query.Get("limit"); got != "500" {
					t.Errorf("limit is %q", got)
				}
				query.Set("limit", "2")
				r = r.Clone(r.Context())
				r.URL.RawQuery = query.Encode()
			}
			return next.RoundTrip(r)
		})
	}
	for _, format := range [][]string{{"--no-headers"}, {"-o", "name"}} {
		asked = 0
		got := b.Run(append([]string{"list"}, format...)...).OK().Rows()
		if strings.Count(got, "sys-") != 5 || asked != 3 {
			t.Errorf("%v: got %q in %d requests", format, got, asked)
		}
	}
}
