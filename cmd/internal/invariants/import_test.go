package invariants

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
	"invariant.dev/operator/cmd/internal/cli/clitest"
	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/hack/promtest"
)

const someRules = `groups:
- name: raft
  interval: 15s
  rules:
  - alert: RaftErrors
    expr: rate(raft_errors_total[1m]) > 0
    for: 2m
    labels: {severity: page, team: storage}
    annotations: {summary: Raft meets errors, description: "it's {{ $labels.instance }}: {{ $value | humanize }}"}
`

// ruleFile writes a file of rules with changes, and returns its path.
func ruleFile(t *testing.T, content string, changes ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rules.yml")
	clitest.Must(t, os.WriteFile(path, []byte(strings.NewReplacer(changes...).Replace(content)), 0o600))
	return path
}

// appliedAsPrinted applies what import printed, as somebody would who pipes it.
func (b *bench) appliedAsPrinted(r clitest.Result) string {
	b.T.Helper()
	stdout, stderr, err := controlplane.Kubectl(b.T.Context(), b.Kubeconfig, r.Out, "apply", "-n", b.Namespace, "-f", "-")
	if err != nil {
		b.T.Fatalf("apply %s: %v: %s", r.Out, err, stderr)
	}
	return stdout
}

func TestWhatImportPrintsIsAppliedAsItIs(t *testing.T) {
	b := newBench(t)
	path := ruleFile(t, someRules)
	r := b.Run("import", "-f", path).OK()
	if !strings.HasPrefix(r.Out, "# RaftErrors, "+path+":5\napiVersion: operator.invariant.dev/v1alpha1\nkind: Invariant\nmetadata:\n  name: raft-errors\n") {
		t.Errorf("the manifest begins otherwise: %v", r)
	}
	if out := b.appliedAsPrinted(r); out != "invariant.operator.invariant.dev/raft-errors created\n" {
		t.Errorf("kubectl says %s", out)
	}
	spec := b.stored("raft-errors").Spec
	if spec.Severity != v1alpha1.Critical || spec.GracePeriod.Duration.Duration != 2*time.Minute || spec.Interval.Duration.Duration != 15*time.Second ||
		spec.Labels["team"] != "storage" || spec.Source.Prometheus.Query != "rate(raft_errors_total[1m]) > 0" || spec.Expression != "" || spec.MinStores != nil {
		t.Errorf("what is stored is %+v", spec)
	}
}

func TestTheAPIServerTakesAllThatTheGoldenRulesBecome(t *testing.T) {
	b := newBench(t)
	r := ended(t, b.Run("import", "-f", "alerting/testdata/rules.yml", "--severity-label", "level", "--system", "db", "--prometheus-url", "http://prometheus:9090"), 1)
	if out := b.appliedAsPrinted(r); strings.Count(out, " created\n") != 4 {
		t.Errorf("kubectl says %s", out)
	}
	if spec := b.stored("disk-full").Spec; spec.System != "db" || spec.Source.Prometheus.URL != "http://prometheus:9090" {
		t.Errorf("what is stored is %+v", spec)
	}
}

func TestTheAPIServerTakesTheLargestOfEverything(t *testing.T) {
	b := newBench(t)
	labels := ""
	for i := range 17 {
		labels += fmt.Sprintf(", l%02d: %s", i, strings.Repeat("v", 63))
	}
	r := ended(t, b.Run("import", "-f", ruleFile(t, someRules, "for: 2m", "for: 2y\n    keep_firing_for: 1y", "interval: 15s", "interval: 1w",
		", team: storage", labels, "Raft meets errors", strings.Repeat("é", 1025), "it's {{", strings.Repeat("é", 1000)+strings.Repeat("{{ $value }}'\\\\\\v", 300)+"{{",
		"RaftErrors", strings.Repeat("RaftErrors", 30), "> 0", "> "+strings.Repeat("1", 16000),
		"summary:", "runbook_url: "+strings.Repeat("x", 2048)+", summary:")), 0)
	b.appliedAsPrinted(r)
	var list v1alpha1.InvariantList
	clitest.Must(t, b.API.List(t.Context(), &list, client.InNamespace(b.Namespace)))
	if len(list.Items) != 1 {
		t.Fatalf("%d are stored", len(list.Items))
	}
	i := list.Items[0]
	if len(i.Name) != 253 || len(i.Spec.Labels) != 16 || len(i.Spec.RunbookURL) != 2048 || len([]rune(i.Spec.Description)) != 1024 || len(i.Spec.Message) < 4000 ||
		i.Spec.GracePeriod.Duration.Duration != 720*time.Hour || i.Spec.ResolveAfter.Duration.Duration != 720*time.Hour || i.Spec.Interval.Duration.Duration != 24*time.Hour {
		t.Errorf("what is stored is %+v", i)
	}
}

func TestWhatCannotBeCarriedOverIsListedWithItsLine(t *testing.T) {
	b := newBench(t)
	path := ruleFile(t, someRules, "page", "sev1", "summary:", "value: x, summary:")
	r := ended(t, b.Run("import", "-f", path), 0)
	want := path + ":8: note: RaftErrors: severity is Warning: what severity sev1 means is not known; say so with --map-severity 'sev1=Critical'\n" +
		path + ":9: note: RaftErrors: annotation value is left out: what a ticket should say of it goes into spec.message\n" +
		"1 Invariant made, 2 notes\n"
	if r.Err != want {
		t.Errorf("want stderr\n%s\ngot %v", want, r)
	}
	r = ended(t, b.Run("import", "-f", path, "--map-severity", "sev1=critical,p2=Info"), 0).Has("severity: Critical")
	if !strings.HasSuffix(r.Err, "1 Invariant made, 1 note\n") {
		t.Errorf("the severity is not taken: %v", r)
	}
}

func TestARuleThatCannotBeImportedEndsWithOneAndTheRestIsPrinted(t *testing.T) {
	b := newBench(t)
	path := ruleFile(t, someRules+"  - {alert: Broken}\n")
	r := ended(t, b.Run("import", "-f", path), 1).Has("name: raft-errors")
	want := path + ":10: error: Broken: not imported: it has no expr: write the query\n1 Invariant made, 0 notes, 1 error\n"
	if r.Err != want || strings.Contains(r.Out, "broken") {
		t.Errorf("want stderr\n%s\ngot %v", want, r)
	}
}

func TestSeveralFilesAndStandardInputBecomeOneStream(t *testing.T) {
	b := newBench(t)
	b.Stdin = strings.ReplaceAll(someRules, "RaftErrors", "FromStdin")
	path := ruleFile(t, someRules)
	r := ended(t, b.Run("import", "-f", path, "-f", "-", "-f", path), 0).Has("name: raft-errors\n", "---\n# FromStdin, standard input:5\n", "name: from-stdin\n", "name: raft-errors-2\n")
	if strings.Count(r.Out, "---\n") != 2 || !strings.Contains(r.Err, "RaftErrors: the Invariant is named raft-errors-2: there is a raft-errors before it") {
		t.Errorf("the stream is not one of three: %v", r)
	}
	b.appliedAsPrinted(r)
}

func TestWhatImportPrintsIsCheckedAgainstPrometheus(t *testing.T) {
	b := newBench(t)
	prometheus := promtest.Run(t, promtest.Options{})
	path := ruleFile(t, someRules, "rate(raft_errors_total[1m]) > 0", `'label_replace(vector(1500), "instance", "tikv-1", "", "") > 0 or vector(2)'`)
	b.Stdin = b.Run("import", "-f", path, "--prometheus-url", prometheus.URL).OK().Out
	ended(t, b.Run("check", "-f", "-"), 1).Has(`instance="tikv-1"`, "it's tikv-1: 1.50k", "it's : 2.00")
}

func TestAnAlertThatDoesNotFireIsSatisfied(t *testing.T) {
	b := newBench(t)
	prometheus := promtest.Run(t, promtest.Options{})
	b.Stdin = b.Run("import", "-f", ruleFile(t, someRules), "--prometheus-url", prometheus.URL).OK().Out
	ended(t, b.Run("check", "-f", "-"), 0)
}

func TestTheNamespaceIsWrittenWhereItIsSaid(t *testing.T) {
	b := newBench(t)
	path := ruleFile(t, someRules)
	b.Run("import", "-f", path).Has("name: raft-errors\n  namespace: " + b.Namespace + "\n")
	r := b.Anywhere("invariants", "--kubeconfig", b.Kubeconfig, "import", "-f", path).OK()
	if strings.Contains(r.Out, "namespace:") {
		t.Errorf("there is a namespace that nobody said: %v", r)
	}
}

func TestImportAsksNoCluster(t *testing.T) {
	b := newBench(t)
	b.Anywhere("invariants", "--kubeconfig", "/nowhere", "import", "-f", ruleFile(t, someRules)).OK().Has("name: raft-errors")
}

func TestWrongInputOfImportIsAnError(t *testing.T) {
	b := newBench(t)
	good := ruleFile(t, someRules)
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"no file":               {nil, "which rules? Give the file with --filename"},
		"a name":                {[]string{"store-down"}, "store-down: give each file with a --filename of its own"},
		"a glob":                {[]string{"-f", "a.yml", "b.yml"}, "b.yml: give each file with a --filename of its own"},
		"an unknown flag":       {[]string{"--fast"}, "unknown flag: --fast"},
		"a missing file":        {[]string{"-f", filepath.Join(t.TempDir(), "missing.yml")}, "read the rules: open "},
		"a directory":           {[]string{"-f", t.TempDir()}, "is a directory"},
		"an empty file":         {[]string{"-f", ruleFile(t, "")}, "there is no alerting rule in it"},
		"tabs":                  {[]string{"-f", ruleFile(t, "groups:\n\t- a")}, "rules.yml: yaml: line 2: found character that cannot start any token"},
		"a file far too large":  {[]string{"-f", ruleFile(t, strings.Repeat("#", 16<<20+1))}, "it has more than 16 MiB: split it"},
		"an address":            {[]string{"-f", good, "--prometheus-url", "prometheus:9090"}, `--prometheus-url: "prometheus:9090" must be like http://prometheus:9090`},
		"a password":            {[]string{"-f", good, "--prometheus-url", "http://a:b@prometheus"}, "it must hold no user and no password"},
		"an address with query": {[]string{"-f", good, "--prometheus-url", "http://prometheus/?a=b"}, "must have no query"},
		"a long address":        {[]string{"-f", good, "--prometheus-url", "http://" + strings.Repeat("a", 2048)}, "it has more than 2048 characters"},
		"a system":              {[]string{"-f", good, "--system", "TiKV"}, `--system is "TiKV": it must have at most 40 lower-case letters, digits and '-'`},
		"a long system":         {[]string{"-f", good, "--system", strings.Repeat("a", 41)}, "at most 40"},
		"a namespace":           {[]string{"-f", good, "--namespace", "a_b"}, `--namespace is "a_b"`},
		"a severity":            {[]string{"-f", good, "--map-severity", "p1=Bad"}, `--map-severity p1=Bad: "Bad" is no severity: use one of Critical, Warning, Info`},
		"half a severity":       {[]string{"-f", good, "--map-severity", "p1"}, "p1 must be formatted as key=value"},
	} {
		t.Run(name, func(t *testing.T) {
			r := ended(t, b.Run(append([]string{"import"}, test.args...)...), 1)
			if !strings.HasPrefix(r.Err, "error: ") || !strings.Contains(r.Err, test.says) || strings.Contains(r.Err, "Usage:") || r.Out != "" {
				t.Errorf("want an error that says %q: %v", test.says, r)
			}
		})
	}
}

func TestAFileThatCannotBeReadDoesNotKeepTheOthersFromBeingPrinted(t *testing.T) {
	b := newBench(t)
	r := ended(t, b.Run("import", "-f", "missing.yml", "-f", ruleFile(t, someRules), "-f", ruleFile(t, "groups: []")), 1).Has("name: raft-errors")
	if strings.Count(r.Err, "error: read the rules") != 2 {
		t.Errorf("want two errors: %v", r)
	}
}

func TestNothingOfARuleReachesTheTerminalAsAnEscapeSequence(t *testing.T) {
	b := newBench(t)
	r := ended(t, b.Run("import", "-f", ruleFile(t, someRules, "RaftErrors", `"\e]0;pwned\a\nkind: Secret"`, "page", `"\u202e"`)), 0)
	if strings.ContainsAny(r.Out+r.Err, "\x1b\x07\u202e") || strings.Contains(r.Out, "\nkind: Secret") {
		t.Errorf("escape sequences are printed: %q", r.Out+r.Err)
	}
	b.appliedAsPrinted(r)
}

func TestTheExampleInTheDocumentationIsWhatImportPrints(t *testing.T) {
	b := newBench(t)
	content, err := os.ReadFile("../../../docs/import.md")
	clitest.Must(t, err)
	var blocks []string
	for n, part := range strings.Split(string(content), "```") {
		if yaml, ok := strings.CutPrefix(part, "yaml\n"); n%2 == 1 && ok {
			blocks = append(blocks, yaml)
		}
	}
	if len(blocks) != 2 {
		t.Fatalf("there are %d examples", len(blocks))
	}
	path := ruleFile(t, blocks[0])
	r := b.Anywhere("invariants", "import", "-f", path).OK()
	r.Out = strings.ReplaceAll(r.Out, path, "rules.yml")
	r.Printed(blocks[1])
}

// brokenPipe is standard output that nobody reads any more.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestAManifestThatCannotBePrintedIsAnError(t *testing.T) {
	o := &importOptions{Common: cli.NewCommon(genericiooptions.IOStreams{Out: brokenPipe{}, ErrOut: io.Discard}), files: []string{ruleFile(t, someRules)}}
	if err := o.run(nil); err == nil || !strings.Contains(err.Error(), "print the Invariant raft-errors: broken pipe") {
		t.Errorf("the error is %v", err)
	}
}
