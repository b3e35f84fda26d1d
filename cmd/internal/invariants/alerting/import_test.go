package alerting

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"invariant.dev/operator/api/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files anew")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// told are notes as they are printed.
func told(notes []Note) []string {
	var lines []string
	for _, n := range notes {
		lines = append(lines, fmt.Sprintf("%d: %s: %s", n.Line, n.Subject, n.Text))
	}
	return lines
}

// importing imports a file, which must be good as a whole.
func importing(t testing.TB, o Options, content string) Result {
	t.Helper()
	result, err := NewImporter(o).Import([]byte(content))
	must(t, err)
	return result
}

// wantNotes wants one note for each of the wanted, in this order, that begins with it.
func wantNotes(t testing.TB, r Result, want ...string) {
	t.Helper()
	got := told(r.Notes)
	if len(got) != len(want) {
		t.Fatalf("there are %d notes, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("the note is\n%s\nwant\n%s", got[i], want[i])
		}
	}
}

// up is a rule about which there is nothing to note, with more fields of the rule.
func up(fields ...string) string {
	return "groups:\n- name: g\n  rules:\n  - alert: Down\n    expr: up == 0\n    labels: {severity: critical}\n" +
		strings.Join(fields, "")
}

func TestARuleFileBecomesManifestsAndNotes(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("testdata/rules.yml")
	must(t, err)
	result := importing(t, Options{SeverityLabel: "level"}, string(content))
	var manifests bytes.Buffer
	for _, i := range result.Invariants {
		manifest, err := i.Manifest()
		must(t, err)
		_, _ = fmt.Fprintf(&manifests, "---\n%s", manifest)
	}
	golden(t, "rules.golden.yaml", manifests.String())
	golden(t, "rules.notes", strings.Join(told(result.Notes), "\n")+"\n")
}

// golden wants a text to be that of a file. With -update it writes the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		must(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s is out of date: see what changed with -update. It would be:\n%s", path, got)
	}
}

func TestAnAlertIsNamedAsAnObjectIs(t *testing.T) {
	t.Parallel()
	for alert, want := range map[string]string{
		"TiKV_critical_error":           "tikv-critical-error",
		"PD_cluster_low_space":          "pd-cluster-low-space",
		"KubePodCrashLooping":           "kube-pod-crash-looping",
		"PodCPUHigh":                    "pod-cpu-high",
		"TiKVServerDown":                "tikv-server-down",
		"MySQLDown":                     "mysql-down",
		"NodeExporter_DiskFull":         "node-exporter-disk-full",
		"P99High":                       "p99-high",
		"etcdMembersDown":               "etcd-members-down",
		"instance down: 5 minutes":      "instance-down-5-minutes",
		"__a..b--C__":                   "a-b-c",
		"UP":                            "up",
		"Größe":                         "gr-e",
		"高":                             "",
		strings.Repeat("a", 252) + "_b": strings.Repeat("a", 252),
	} {
		if got := dnsName(alert); got != want {
			t.Errorf("%s is named %q, want %q", alert, got, want)
		}
	}
}

func TestNoTwoInvariantsHaveOneName(t *testing.T) {
	t.Parallel()
	rules := "groups:\n- name: g\n  rules:\n"
	for _, alert := range []string{"DiskFull", "disk_full", "disk-full-2", "DiskFull", "高", strings.Repeat("x", 260), strings.Repeat("x", 253)} {
		rules += "  - {alert: " + alert + ", expr: up, labels: {severity: info}}\n"
	}
	i := NewImporter(Options{})
	first, err := i.Import([]byte(rules))
	must(t, err)
	second, err := i.Import([]byte(up() + "  - {alert: DiskFull, expr: up, labels: {severity: info}}\n"))
	must(t, err)
	var names []string
	for _, i := range slices.Concat(first.Invariants, second.Invariants) {
		names = append(names, i.Name)
	}
	want := []string{"disk-full", "disk-full-2", "disk-full-2-2", "disk-full-3", "alert", strings.Repeat("x", 253), strings.Repeat("x", 251) + "-2", "down", "disk-full-4"}
	if !slices.Equal(names, want) {
		t.Errorf("the names are %v, want %v", names, want)
	}
	wantNotes(t, first, "5: disk_full: the Invariant is named disk-full-2: there is a disk-full before it",
		"6: disk-full-2: the Invariant is named disk-full-2-2", "7: DiskFull: the Invariant is named disk-full-3", "8: 高: its name has nothing in it",
		"10: "+strings.Repeat("x", 253)+": the Invariant is named xxx")
	wantNotes(t, second, "7: DiskFull: the Invariant is named disk-full-4")
}

func TestTheSeverityIsThatOfTheLabel(t *testing.T) {
	t.Parallel()
	o := Options{Severities: map[string]v1alpha1.Severity{"p1": v1alpha1.Critical, "page": v1alpha1.Info}}
	for value, test := range map[string]struct {
		want v1alpha1.Severity
		note string
	}{
		"critical": {want: v1alpha1.Critical}, "Emergency": {want: v1alpha1.Critical}, "ERROR": {want: v1alpha1.Critical},
		"warning": {want: v1alpha1.Warning}, "warn": {want: v1alpha1.Warning}, "ticket": {want: v1alpha1.Warning},
		"info": {want: v1alpha1.Info}, "none": {want: v1alpha1.Info}, "notice": {want: v1alpha1.Info},
		"P1":                {want: v1alpha1.Critical},
		"page":              {want: v1alpha1.Info},
		"sev2":              {v1alpha1.Warning, "severity is Warning: what severity sev2 means is not known; say so with --map-severity 'sev2=Critical'"},
		"{{ $labels.sev }}": {v1alpha1.Warning, "severity is Warning: the label severity has a template"},
		"":                  {v1alpha1.Warning, "severity is Warning: there is no label severity; name the one that has it with --severity-label"},
	} {
		r := importing(t, o, "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up\n    labels:\n      severity: '"+value+"'\n")
		spec := r.Invariants[0].Spec
		if spec.Severity != test.want || spec.Labels["severity"] != "" {
			t.Errorf("%q is %s with the labels %v, want %s", value, spec.Severity, spec.Labels, test.want)
		}
		if joined := strings.Join(told(r.Notes), ""); !strings.Contains(joined, test.note) || (test.note == "") != (joined == "") {
			t.Errorf("the notes on %q are %s, want %q", value, joined, test.note)
		}
	}
}

func TestDurationsAreThoseOfTheRule(t *testing.T) {
	t.Parallel()
	for written, want := range map[string]time.Duration{
		"5m": 5 * time.Minute, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "1500ms": 1500 * time.Millisecond,
		"1d": 24 * time.Hour, "2w": 336 * time.Hour, "30d": 720 * time.Hour,
	} {
		r := importing(t, Options{}, up("    for: "+written+"\n    keep_firing_for: "+written+"\n"))
		wantNotes(t, r)
		if s := r.Invariants[0].Spec; s.GracePeriod.Duration.Duration != want || s.ResolveAfter.Duration.Duration != want {
			t.Errorf("%s is %v and %v", written, s.GracePeriod, s.ResolveAfter)
		}
	}
	for _, none := range []string{"0", "0s", "", "null", `""`} {
		if s := importing(t, Options{}, up("    for: "+none+"\n")).Invariants[0].Spec; s.GracePeriod != nil || s.ResolveAfter != nil {
			t.Errorf("for: %s is %v", none, s.GracePeriod)
		}
	}
}

func TestADurationThatIsTooLongIsTheLongestThereIs(t *testing.T) {
	t.Parallel()
	r := importing(t, Options{}, up("    for: 31d\n    keep_firing_for: 1y\n"))
	wantNotes(t, r, "7: Down: for is 31d: spec.gracePeriod is 720h, the longest there is",
		"8: Down: keep_firing_for is 1y: spec.resolveAfter is 720h, the longest there is")
	if s := r.Invariants[0].Spec; s.GracePeriod.Duration.Duration != 720*time.Hour || s.ResolveAfter.Duration.Duration != 720*time.Hour {
		t.Errorf("they are %v and %v", s.GracePeriod, s.ResolveAfter)
	}
}

func TestTheIntervalIsThatOfTheGroup(t *testing.T) {
	t.Parallel()
	for written, test := range map[string]struct {
		want time.Duration
		note string
	}{
		"1m": {want: time.Minute}, "1d": {want: 24 * time.Hour}, "1s": {want: time.Second}, "0s": {},
		"500ms": {time.Second, "2: group g: interval is 500ms: spec.interval is 1s, the nearest there is"},
		"2d":    {24 * time.Hour, "2: group g: interval is 2d: spec.interval is 24h0m0s, the nearest there is"},
		"often": {0, `2: group g: interval is left out: "often" is not a duration such as 5m or 1d; set spec.interval`},
	} {
		r := importing(t, Options{}, strings.Replace(up(), "- name: g\n", "- interval: "+written+"\n  name: g\n", 1))
		if got := r.Invariants[0].Spec.Interval.Or(0); got != test.want {
			t.Errorf("%s is %v, want %v", written, got, test.want)
		}
		if joined := strings.Join(told(r.Notes), ""); !strings.HasPrefix(joined, test.note) || (test.note == "") != (joined == "") {
			t.Errorf("the notes on %s are %s, want %s", written, joined, test.note)
		}
	}
}

func TestLabelsThatATicketCanHaveAreCarriedOver(t *testing.T) {
	t.Parallel()
	rules := "groups:\n- name: g\n  labels: {team: storage, tier: gold, gone: x}\n  rules:\n  - alert: A\n    expr: up\n    labels:\n      severity: info\n      tier: silver\n      gone: ''\n      on: 1\n" +
		"      expr: up == 0\n      dynamic: a {{ $value }}\n      _hidden: x\n      long: " + strings.Repeat("x", 64) + "\n"
	r := importing(t, Options{}, rules)
	want := map[string]v1alpha1.LabelValue{"team": "storage", "tier": "silver", "on": "1"}
	if got := r.Invariants[0].Spec.Labels; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the labels are %v, want %v", got, want)
	}
	wantNotes(t, r, "12: A: label expr is left out: the values of a ticket's labels have at most 63", "13: A: label dynamic is left out: it has a template, and a ticket's labels are fixed",
		"14: A: label _hidden is left out: the names of a ticket's labels", "15: A: label long is left out: the values of a ticket's labels")
}

func TestMoreLabelsThanATicketHasAreNoted(t *testing.T) {
	t.Parallel()
	rules := up()
	for i := range 18 {
		rules = strings.Replace(rules, "labels: {", fmt.Sprintf("labels: {l%02d: x, ", i), 1)
	}
	r := importing(t, Options{}, rules)
	if n := len(r.Invariants[0].Spec.Labels); n != 16 {
		t.Errorf("there are %d labels", n)
	}
	wantNotes(t, r, "6: Down: label l16 is left out: there are 16 already", "6: Down: label l17 is left out: there are 16 already")
}

func TestWhatAnnotationsSayIsShownToPeople(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		annotations                   string
		description, message, runbook string
		notes                         []string
	}{
		"nothing":        {annotations: "{}"},
		"a summary":      {annotations: "{summary: It is down.}", description: "It is down."},
		"a description":  {annotations: "{description: ' It is down.\n'}", description: "It is down."},
		"both":           {annotations: "{summary: Down, description: It is down.}", description: "Down", message: `"It is down."`},
		"the same twice": {annotations: "{summary: Down, description: Down}", description: "Down"},
		"a template in the description": {annotations: "{summary: Down, description: '{{ $labels.instance }} is down'}", description: "Down",
			message: `self.labels[?"instance"].orValue("") + " is down"`},
		"a template in the summary alone": {annotations: "{summary: '{{ $labels.instance }} is {{ $value }}'}", description: "<instance> is <value>",
			message: `self.labels[?"instance"].orValue("") + " is " + string(self.value)`},
		"a template in both": {annotations: "{summary: '{{ $labels.job }} is down', description: '{{ $labels.instance }}'}", description: "<job> is down",
			message: `self.labels[?"instance"].orValue("")`,
			notes:   []string{"7: Down: annotation summary has a template, which spec.description cannot have: it says <job> is down"}},
		"a template that is not translated": {annotations: `{summary: Down, description: '{{ $labels.a }}: {{ len "x" }}'}`, description: "Down",
			message: `self.labels[?"a"].orValue("") + ": {{len \"x\"}}"`,
			notes:   []string{`7: Down: annotation description: {{len "x"}} is shown as it is, because it is not translated to CEL; write spec.message anew`}},
		"a long template that is not translated": {annotations: `{summary: '{{ if $value }}` + strings.Repeat("x", 100) + `{{ end }}'}`,
			description: "{{if $value}}" + strings.Repeat("x", 100) + "{{end}}",
			notes:       []string{"7: Down: annotation summary: {{if $value}}" + strings.Repeat("x", 67) + "… is shown as it is"}},
		"a template that does not parse": {annotations: "{summary: 'is {{ $value'}", description: "is {{ $value",
			notes: []string{"7: Down: annotation summary is shown as it is: its template does not parse (template: annotation:1: unclosed action)"}},
		"a runbook": {annotations: "{runbook_url: https://runbooks.example/down}", runbook: "https://runbooks.example/down"},
		"a runbook with a template": {annotations: "{runbook_url: 'https://runbooks.example/{{ $labels.job }}'}",
			notes: []string{"7: Down: annotation runbook_url is left out: it has a template, and spec.runbookURL is fixed"}},
		"a runbook that is too long": {annotations: "{runbook_url: " + strings.Repeat("x", 2049) + "}",
			notes: []string{"7: Down: annotation runbook_url is left out: it has more than 2048 characters"}},
		"a summary that is too long": {annotations: "{summary: " + strings.Repeat("é", 1025) + "}", description: strings.Repeat("é", 1024),
			message: `"` + strings.Repeat("é", 1025) + `"`,
			notes:   []string{"7: Down: annotation summary is cut: spec.description has at most 1024 characters"}},
		"a description that is too long": {annotations: "{summary: Down, description: " + strings.Repeat("é", 3000) + "}", description: "Down",
			message: `"` + strings.Repeat("é", 2047) + `"`,
			notes:   []string{"7: Down: annotation description is cut: spec.message has at most 4096 bytes"}},
		"others": {annotations: "\n      value: '{{ $value }}'\n      dashboard_url: x", notes: []string{
			"8: Down: annotation value is left out: what a ticket should say of it goes into spec.message",
			"9: Down: annotation dashboard_url is left out"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := importing(t, Options{}, up("    annotations: "+test.annotations+"\n"))
			if s := r.Invariants[0].Spec; s.Description != test.description || s.Message != test.message || s.RunbookURL != test.runbook {
				t.Errorf("they are\n%q\n%s\n%q, want\n%q\n%s\n%q", s.Description, s.Message, s.RunbookURL, test.description, test.message, test.runbook)
			}
			wantNotes(t, r, test.notes...)
		})
	}
}

func TestTheQueryIsTheExprUnchanged(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		expr, query string
		notes       []string
	}{
		"as it is written": {expr: "'up   ==  0 # why'", query: "up   ==  0 # why"},
		"over lines":       {expr: "|\n      sum(up)\n        > 0\n", query: "sum(up)\n  > 0"},
		"a number":         {expr: "1", query: "1"},
		"what only an experimental Prometheus knows": {expr: "limitk(3, up) > 0", query: "limitk(3, up) > 0"},
		"MetricsQL": {expr: "rate(up) > 0", query: "rate(up) > 0",
			notes: []string{`5: A: expr is not PromQL as it is known here (1:6: parse error: expected type range vector in call to function "rate", got instant vector): it is carried over as it is`}},
		"what fires at all times": {expr: "vector(1)", query: "vector(1)", notes: []string{"5: A: expr fires at all times, and so would its ticket stay open"}},
		"a range":                 {expr: "up[5m]", query: "up[5m]", notes: []string{"5: A: expr gives a range vector, which is nothing to alert on"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := importing(t, Options{}, "groups:\n- rules:\n  - alert: A\n    labels: {severity: info}\n    expr: "+test.expr)
			if s := r.Invariants[0].Spec; s.Source.Prometheus.Query != test.query || s.Expression != "" || s.StoreID != "" {
				t.Errorf("the spec is %+v", s)
			}
			wantNotes(t, r, test.notes...)
		})
	}
}

func TestOptionsStandInEachInvariant(t *testing.T) {
	t.Parallel()
	r := importing(t, Options{PrometheusURL: "http://prometheus:9090", System: "tikv-prod", Namespace: "db"}, up())
	manifest, err := r.Invariants[0].Manifest()
	must(t, err)
	want := `apiVersion: operator.invariant.dev/v1alpha1
kind: Invariant
metadata:
  name: down
  namespace: db
spec:
  severity: Critical
  source:
    prometheus:
      query: up == 0
      url: http://prometheus:9090
  system: tikv-prod
`
	if string(manifest) != want {
		t.Errorf("the manifest is\n%s\nwant\n%s", manifest, want)
	}
}

func TestAManifestIsYAMLWhateverStandsInTheRule(t *testing.T) {
	t.Parallel()
	r := importing(t, Options{}, `groups: [{rules: [{alert: A, expr: "a\x7f\x85\x9f\ufffe\u2028\ufeff\0b", labels: {severity: info}, annotations: {summary: "\x7f<&>: #\e"}}]}]`)
	manifest, err := r.Invariants[0].Manifest()
	must(t, err)
	var read v1alpha1.Invariant
	must(t, yaml.UnmarshalStrict(manifest, &read))
	if read.Spec.Source.Prometheus.Query != "a\x7f\u0085\u009f\ufffe\u2028\ufeff\x00b" || read.Spec.Description != "\x7f<&>: #\x1b" {
		t.Errorf("it is read as %+v", read.Spec)
	}
}

func TestWhatAGroupHasBesidesRulesIsNoted(t *testing.T) {
	t.Parallel()
	group := "groups:\n- name: g\n  limit: 3\n  query_offset: 1m\n  partial_response_strategy: warn\n  concurrency: 2\n  rules:\n  - {record: a:b, expr: up}\n"
	r := importing(t, Options{}, strings.Replace(up("    debug: true\n"), "groups:\n- name: g\n  rules:\n", "namespace: tenant\n"+group, 1))
	wantNotes(t, r, "1: rule file: field namespace is left out: it is unknown here",
		"4: group g: limit is left out", "5: group g: query_offset is left out", "6: group g: partial_response_strategy is left out",
		"7: group g: field concurrency is left out: it is unknown here", "9: a:b: not imported: a recording rule stays with Prometheus",
		"13: Down: field debug is left out: it is unknown here")
	if r.Refused() != 0 || len(r.Invariants) != 1 {
		t.Errorf("%d are refused, %d imported", r.Refused(), len(r.Invariants))
	}
}

func TestARuleThatCannotBeImportedIsRefusedAndTheRestIsNot(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ rule, says string }{
		"no expr":             {"{alert: A}", "7: A: not imported: it has no expr: write the query"},
		"an empty expr":       {"{alert: A, expr: ' '}", "7: A: not imported: it has no expr"},
		"no name":             {"{expr: up}", "7: group g: not imported: a rule has neither alert nor record"},
		"both names":          {"{alert: A, record: b, expr: up}", "7: A: not imported: it has both alert and record"},
		"not a mapping":       {"[up]", "7: group g: not imported: a rule must be a mapping"},
		"a list for a name":   {"{alert: [A], expr: up}", "7: group g: not imported: alert must be text"},
		"a list for labels":   {"{alert: A, expr: up, labels: [a]}", "7: A: not imported: labels must be a mapping"},
		"a list for a label":  {"{alert: A, expr: up, labels: {a: [b]}}", "7: A: not imported: a must be text"},
		"a mapping for expr":  {"{alert: A, expr: {a: b}}", "7: A: not imported: expr must be text"},
		"a field twice":       {"{alert: A, expr: up, expr: down}", "7: group g: not imported: expr is there twice"},
		"a key that is none":  {"{alert: A, expr: up, [a]: b}", "7: group g: not imported: a key of a rule must be text"},
		"for":                 {"{alert: A, expr: up, for: soon}", `7: A: not imported: for: "soon" is not a duration such as 5m or 1d`},
		"for without a unit":  {"{alert: A, expr: up, for: 300}", `7: A: not imported: for: "300" is not a duration`},
		"keep_firing_for":     {"{alert: A, expr: up, keep_firing_for: -1m}", `7: A: not imported: keep_firing_for: "-1m" is not a duration`},
		"a query of a novel":  {"{alert: A, expr: '" + strings.Repeat("x", 16385) + "'}", "7: A: not imported: expr has 16385 characters, and a query at most 16384"},
		"labels that are odd": {"{alert: A, expr: up, labels: {<<: [a]}}", "7: A: not imported: labels must be a mapping"},
	} {
		t.Run(name, func(t *testing.T) {
			r := importing(t, Options{}, up("  - "+test.rule+"\n"))
			var refused []string
			for _, n := range r.Notes {
				if n.Refused {
					refused = append(refused, told([]Note{n})...)
				}
			}
			if len(refused) != 1 || !strings.HasPrefix(refused[0], test.says) || r.Refused() != 1 {
				t.Errorf("what is refused is %q, want %q", refused, test.says)
			}
			if len(r.Invariants) != 1 || r.Invariants[0].Name != "down" {
				t.Errorf("the rest is %v", r.Invariants)
			}
		})
	}
}

func TestPrometheusRulesAreReadWhereverTheyStand(t *testing.T) {
	t.Parallel()
	object := func(name string) string {
		return `{"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "` + name + `", "labels": {"a": "b"}},
 "spec": {"groups": [{"name": "g", "rules": [{"alert": "` + name + `", "expr": 1, "labels": {"severity": "info"}}]}]}, "status": {}}`
	}
	configMap := `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}}`
	for name, test := range map[string]struct {
		content string
		names   string
		notes   []string
	}{
		"one":                  {content: object("a"), names: "a"},
		"several documents":    {content: "---\n" + object("a") + "\n---\n# nothing\n---\n" + object("b") + "\n---\n" + strings.ReplaceAll(up(), "Down", "c"), names: "a b c"},
		"a List":               {content: `{"apiVersion": "v1", "kind": "List", "items": [` + object("a") + "," + object("b") + "]}", names: "a b"},
		"a PrometheusRuleList": {content: `{"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRuleList", "items": [` + object("a") + "]}", names: "a"},
		"something else beside it": {content: configMap + "\n---\n" + object("a"), names: "a",
			notes: []string{"1: ConfigMap other: skipped: it is not a PrometheusRule of monitoring.coreos.com/v1"}},
		"something else in a List": {content: `{"apiVersion": "v1", "kind": "List", "items": [` + object("a") + ",\n" + configMap + "]}", names: "a",
			notes: []string{"3: ConfigMap other: skipped: it is not a PrometheusRule"}},
		"one with a namespace": {content: strings.Replace(object("a"), `"name": "a",`, `"name": "a", "namespace": "monitoring",`, 1), names: "a",
			notes: []string{"1: PrometheusRule a: its namespace monitoring is not carried over: say where the Invariants go with --namespace, here or to kubectl apply"}},
		"a field of the spec that is unknown": {content: strings.Replace(object("a"), `"groups"`, `"more": 1, "groups"`, 1), names: "a",
			notes: []string{"2: PrometheusRule a: field more is left out: it is unknown here"}},
		"aliases and merges": {content: `
common: &common {severity: info, team: a}
groups:
- &g
  name: g
  rules:
  - &r {alert: A, expr: up, labels: {<<: *common, team: b}}
  - {<<: [*r], alert: B}
- {<<: *g, name: h}
`, names: "a b a-2 b-2", notes: []string{"2: rule file: field common is left out", "7: A: the Invariant is named a-2", "8: B: the Invariant is named b-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := importing(t, Options{}, test.content)
			var names []string
			for _, i := range r.Invariants {
				names = append(names, i.Name)
			}
			if got := strings.Join(names, " "); got != test.names {
				t.Errorf("the names are %q, want %q", got, test.names)
			}
			wantNotes(t, r, test.notes...)
		})
	}
}

func TestANamespaceThatIsSaidIsNotMissed(t *testing.T) {
	t.Parallel()
	r := importing(t, Options{Namespace: "db"}, `{"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "a", "namespace": "monitoring"},
 "spec": {"groups": [{"rules": [{"alert": "a", "expr": 1, "labels": {"severity": "info"}}]}]}}`)
	wantNotes(t, r)
}

func TestAFileWithoutAlertingRulesIsAnError(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ content, says string }{
		"nothing":                 {"", "there is no alerting rule in it"},
		"a comment":               {"# nothing\n---\n", "there is no alerting rule in it"},
		"no groups":               {"groups:\n", "there is no alerting rule in it"},
		"no rules":                {"groups: [{name: g}]", "there is no alerting rule in it"},
		"only recording":          {"groups: [{name: g, rules: [{record: a, expr: up}]}]", "there is no alerting rule in it"},
		"something else":          {"apiVersion: v1\nkind: ConfigMap\n", "there is no alerting rule in it"},
		"no spec":                 {"apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\n", "there is no alerting rule in it"},
		"YAML with a tab":         {"groups:\n\t- name: g", "line 2: found character that cannot start any token"},
		"YAML that ends":          {"groups: [", "line 1: did not find expected node content"},
		"bytes that are no text":  {"groups: \xff", "invalid leading UTF-8 octet"},
		"more than anybody wrote": {"a: &a [" + strings.Repeat("{alert: A, expr: up},", 1000) + "]\ngroups: [" + strings.Repeat("{rules: *a},", 2000) + "]", "there are more than 200000 fields in it"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewImporter(Options{}).Import([]byte(test.content)); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("the error is %v, want %s", err, test.says)
			}
		})
	}
}

func TestAFileOfTheWrongShapeIsRefused(t *testing.T) {
	t.Parallel()
	for content, says := range map[string]string{
		"[a]": "1: document: not imported: a document must be a mapping", "text": "1: document: not imported: a document must be a mapping",
		"groups: a":                "1: document: not imported: groups must be a list",
		"groups:\n- a":             "2: group: not imported: a group must be a mapping",
		"groups:\n- rules: {a: b}": "2: group: not imported: rules must be a list",
		"kind: [a]":                "1: document: not imported: kind must be text",
		"kind: List\nitems: a":     "2: document: not imported: items must be a list",
		"kind: List\nitems: [a]":   "2: List: not imported: a document must be a mapping",
		"apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nspec: a": "3: document: not imported: spec must be a mapping",
	} {
		r := importing(t, Options{}, content)
		wantNotes(t, r, says)
		if r.Refused() != 1 {
			t.Errorf("%s: %d are refused", content, r.Refused())
		}
	}
}

func TestWhatStandsBeforeAFaultIsImportedAllTheSame(t *testing.T) {
	t.Parallel()
	r, err := NewImporter(Options{}).Import([]byte(up() + "---\na: ["))
	if err == nil || len(r.Invariants) != 1 {
		t.Errorf("the error is %v, and %d are imported", err, len(r.Invariants))
	}
}
