package alerting

import (
	"os"
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/judge"
)

// FuzzImport: whatever a file holds, nothing panics, and what is printed is an Invariant that the monitor can use.
func FuzzImport(f *testing.F) {
	golden, err := os.ReadFile("testdata/rules.yml")
	must(f, err)
	f.Add(golden)
	for _, content := range []string{
		up("    annotations: {summary: '{{ $labels.a }} \" {{ $value | humanize }}', description: '{{ printf \"%.2f\" $value }}'}\n"),
		`{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "a"}, "spec": {"groups": [{"rules": [{"alert": "a", "expr": 1}]}]}}]}`,
		"groups: [&g {rules: [&r {alert: A, expr: up, labels: &l {<<: *l, a: b}}, *r]}, *g]",
		"groups:\n- interval: 1y\n  rules:\n  - {alert: \"\\x00\\u202e高\", expr: \"\\x00\", for: 1w, annotations: {summary: !!binary \"/w==\", description: '{{ \"\\xff\" }}'}}",
		"a: &a [*a]\n---\n- b\n---\ngroups: [{rules: [{alert: 1, expr: 2, annotations: {description: \"{{define \\\"x\\\"}}{{end}}\"}}]}]",
	} {
		f.Add([]byte(content))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > 1<<16 {
			return
		}
		result, _ := NewImporter(Options{}).Import(content)
		names := map[string]bool{}
		for n, imported := range result.Invariants {
			if names[imported.Name] || len(validation.IsDNS1123Subdomain(imported.Name)) > 0 {
				t.Fatalf("%q is not a name, or not the first of it", imported.Name)
			}
			names[imported.Name] = true
			// One CEL environment takes longer than all the rest.
			if n < 20 {
				checkManifest(t, imported)
			}
		}
	})
}

// checkManifest wants the manifest to be the Invariant, within the limits of the API server, and its message to compile.
func checkManifest(t *testing.T, imported Imported) {
	t.Helper()
	manifest, err := imported.Manifest()
	must(t, err)
	var read v1alpha1.Invariant
	must(t, yaml.UnmarshalStrict(manifest, &read))
	if read.Name != imported.Name || read.Kind != "Invariant" || !reflect.DeepEqual(read.Spec, imported.Spec) {
		t.Fatalf("%s reads as %+v", manifest, read)
	}
	spec := read.Spec
	if n := len([]rune(spec.Source.Prometheus.Query)); n == 0 || n > maxQuery {
		t.Fatalf("the query has %d characters", n)
	}
	if len([]rune(spec.Description)) > maxDescription || len(spec.Message) > maxMessage || len([]rune(spec.RunbookURL)) > maxRunbookURL || len(spec.Labels) > maxLabels {
		t.Fatalf("the API server refuses %s", manifest)
	}
	for _, d := range []*v1alpha1.Duration{spec.GracePeriod, spec.ResolveAfter} {
		if d.Or(0) < 0 || d.Or(0) > maxDuration {
			t.Fatalf("the API server refuses %v", d)
		}
	}
	if interval := spec.Interval.Or(minInterval); interval < minInterval || interval > maxInterval {
		t.Fatalf("the API server refuses the interval %v", interval)
	}
	if _, err := judge.Compile(&spec); err != nil {
		t.Fatalf("the message %s does not compile: %v", spec.Message, err)
	}
}
