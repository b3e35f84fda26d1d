package v1alpha1_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/controlplane"
)

func fieldSelector(selector string) *metav1.ListOptions {
	return &metav1.ListOptions{FieldSelector: selector}
}

func kubectl(t testing.TB, namespace string, args ...string) string {
	t.Helper()
	out, _, err := controlplane.Kubectl(t.Context(), plane.Kubeconfig, "", append(args, "-n", namespace)...)
	must(t, err)
	return out
}

// kubectlNames are the names of what kubectl selects, in order.
func kubectlNames(t testing.TB, namespace, resource, selector string) string {
	t.Helper()
	out := kubectl(t, namespace, "get", resource, "--field-selector", selector, "-o", `jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}`)
	names := strings.Fields(out)
	slices.Sort(names)
	return strings.Join(names, " ")
}

// wantTable requires a table of these columns that fits a terminal of 100.
func wantTable(t testing.TB, table, columns string) {
	t.Helper()
	lines := strings.Split(strings.TrimRight(table, "\n"), "\n")
	if got := strings.Join(strings.Fields(lines[0]), " "); got != columns {
		t.Errorf("the columns are\n%s, want\n%s", got, columns)
	}
	for _, line := range lines {
		if width := len(strings.TrimRight(line, " ")); width > 100 {
			t.Errorf("a line is %d wide:\n%s", width, line)
		}
	}
}

func TestKubectlShowsTicketsInATableOf100Columns(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	ticket := object(t, namespace, ticketManifest, changes{"metadata.annotations": map[string]any{v1alpha1.HoldAnnotation: "true"}})
	must(t, c.Create(t.Context(), ticket))
	must(t, patchStatus(t.Context(), c, ticket, fmt.Sprintf(
		`{"state":"Open","severity":"Critical","occurrences":1234,"lastSeenTime":%q,"summary":"store-down(3), high-latency(3)","acknowledgement":{"by":"ana"}}`,
		time.Now().Add(-70*time.Second).UTC().Format(time.RFC3339))))
	for _, name := range []string{"tickets", "ticket", "tkt"} {
		table := kubectl(t, namespace, "get", name)
		wantTable(t, table, "NAME STATE SEVERITY HELD COUNT LAST-SEEN SUMMARY AGE")
		row := strings.Join(strings.Fields(strings.Split(table, "\n")[1]), " ")
		if !regexp.MustCompile(`^tikv-prod-17 Open Critical true 1234 \d+s store-down\(3\), high-latency\(3\) \d+s$`).MatchString(row) {
			t.Errorf("kubectl get %s shows %q", name, row)
		}
	}
	wide := strings.Fields(kubectl(t, namespace, "get", "tickets", "-o", "wide"))
	for _, column := range []string{"SYSTEM", "ACKNOWLEDGED-BY", "RESOLUTION", "PREVIOUS", "ana"} {
		if !slices.Contains(wide, column) {
			t.Errorf("kubectl get tickets -o wide does not show %s: %s", column, wide)
		}
	}
}

func TestKubectlShowsInvariantsInATableOf100Columns(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	invariant := object(t, namespace, invariantManifest, changes{"metadata.name": "region-health-stuck", "spec.system": "tikv-prod-europe", "spec.severity": "Critical"})
	must(t, c.Create(t.Context(), invariant))
	must(t, patchStatus(t.Context(), c, invariant, `{"system":"tikv-prod-europe","stores":1000,"violating":17,"lastCheckTime":"2026-11-24T03:00:00Z","conditions":[
		{"type":"Ready","status":"True","reason":"Answering","message":"","lastTransitionTime":"2026-11-24T03:00:00Z"},
		{"type":"Satisfied","status":"Unknown","reason":"Timeout","message":"","lastTransitionTime":"2026-11-24T03:00:00Z"}]}`))
	for _, name := range []string{"invariants", "invariant", "inv"} {
		table := kubectl(t, namespace, "get", name)
		wantTable(t, table, "NAME SYSTEM SEVERITY READY SATISFIED STORES VIOLATING AGE")
		row := strings.Join(strings.Fields(strings.Split(table, "\n")[1]), " ")
		if !regexp.MustCompile(`^region-health-stuck tikv-prod-europe Critical True Unknown 1000 17 \d+s$`).MatchString(row) {
			t.Errorf("kubectl get %s shows %q", name, row)
		}
	}
}

func TestTheCategoryOperatorShowsBothKinds(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	must(t, c.Create(t.Context(), object(t, namespace, invariantManifest, nil)))
	must(t, c.Create(t.Context(), object(t, namespace, ticketManifest, nil)))
	got := strings.Fields(kubectl(t, namespace, "get", "operator", "-o", "name"))
	slices.Sort(got)
	if want := []string{"invariant.operator.invariant.dev/store-down", "ticket.operator.invariant.dev/tikv-prod-17"}; !slices.Equal(got, want) {
		t.Errorf("kubectl get operator shows %q, want %q", got, want)
	}
}

func TestKubectlExplainReadsAsAManual(t *testing.T) {
	t.Parallel()
	for path, says := range map[string][]string{
		"invariant":           {"Invariant is a statement that must always be true of a system."},
		"invariant.spec":      {"At most 720h", "Default: the monitor's --interval, which is 30s", "enum: Critical, Warning, Info"},
		"invariant.status":    {"naming the first five stores"},
		"ticket":              {"Ticket is what broke in one system in one cycle."},
		"ticket.status":       {"Open, Acknowledged, Diagnosed or Resolved; it only goes forward.", "enum: Open, Acknowledged, Diagnosed, Resolved"},
		"ticket.status.state": {"ENUM: Open Acknowledged Diagnosed Resolved DESCRIPTION:"},
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			out := strings.Join(strings.Fields(kubectl(t, "default", "explain", path)), " ")
			if strings.Contains(out, "<no description>") {
				t.Errorf("a field has no description:\n%s", out)
			}
			for _, words := range says {
				if !strings.Contains(out, words) {
					t.Errorf("kubectl explain %s does not say %q:\n%s", path, words, out)
				}
			}
		})
	}
	out := kubectl(t, "default", "explain", "invariant.spec", "--recursive")
	for _, field := range []string{"expression", "source", "http", "endpoints", "items", "timeout", "snapshot", "unobservableAfter"} {
		if !regexp.MustCompile(`(?m)^ +` + field + `\t`).MatchString(out) {
			t.Errorf("kubectl explain invariant.spec --recursive does not show %s:\n%s", field, out)
		}
	}
}

func TestEveryFieldOfBothKindsHasADescription(t *testing.T) {
	t.Parallel()
	for _, kind := range readCRDs(t) {
		kind.walk(func(path string, s *schema) {
			if s.Description == "" && path != "metadata" && !strings.HasSuffix(path, "[]") && !strings.HasSuffix(path, "{}") {
				t.Errorf("%s: %s has no description", kind.name, path)
			}
		})
	}
}
