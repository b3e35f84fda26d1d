package docs

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/controlplane"
)

// What is another in every run: ages, how often something was seen, and how wide columns are.
var (
	age   = regexp.MustCompile(`\b[0-9]+[smhd]([0-9]+[smh])?\b`)
	count = regexp.MustCompile(`Critical +[0-9]+`)
	blank = regexp.MustCompile(`[ \t]+`)
)

func normal(printed string) string {
	printed = count.ReplaceAllString(age.ReplaceAllString(printed, "AGE"), "Critical COUNT")
	var lines []string
	for line := range strings.Lines(blank.ReplaceAllString(printed, " ")) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

func TestTheFirstInvariantIsSeenAsTheGuideShows(t *testing.T) {
	d := readDocument(t)
	const section = "The first one"
	sources := &sources{names: map[string]string{}}
	const address = "http://pd.tikv-prod:2379"
	manifest := d.in(t, section, "yaml")[0].text
	standIn := sources.standIn(t, address, answer{Text: d.in(t, section, "json")[0].text})
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "stores-up.yaml"), []byte(strings.ReplaceAll(manifest, address, standIn)), 0o600))

	_, kubeconfig, err := plane.ServiceAccount(t.Context(), "operator-system", "operator-monitor")
	must(t, err)
	monitor, err := plane.StartProgram("monitor", filepath.Join(bin, "operator"), io.Discard,
		"monitor", "--kubeconfig", kubeconfig, "--namespace", namespace, "--allow-address", "127.0.0.0/8")
	must(t, err)
	t.Cleanup(func() { _ = monitor.Kill() })
	_, _, err = controlplane.Kubectl(t.Context(), plane.Kubeconfig, "", "apply", "-f", filepath.Join(dir, "stores-up.yaml"))
	must(t, err)
	t.Cleanup(func() {
		_, _, err := controlplane.Kubectl(context.WithoutCancel(t.Context()), plane.Kubeconfig, "", "delete", "-f", filepath.Join(dir, "stores-up.yaml"))
		must(t, err)
	})

	for _, section := range []string{section, "Trying one", "Planned work"} {
		for _, b := range d.in(t, section, "console") {
			commands, printed := b.commands()
			for i, command := range commands {
				eventually(t, func() string {
					out, code := shell(t, dir, command)
					if strings.Contains(command, "invariants check") && code != 1 || code > 1 {
						t.Fatalf("%s ends with %d", command, code)
					}
					got, want := normal(sources.named(out)), normal(printed[i])
					if printed[i] != "" && got != want {
						return fmt.Sprintf("%s prints\n%s\nand not\n%s", command, got, want)
					}
					return ""
				})
			}
		}
	}
}

func TestWhatTheGuideSaysOfSeriesThatAreGoneIsTheDefault(t *testing.T) {
	t.Parallel()
	want := map[string]struct {
		minStores int
		onAbsent  v1alpha1.OnAbsent
	}{
		"stores-up":     {1, v1alpha1.OnAbsentClear},
		"p99-latency":   {1, v1alpha1.OnAbsentKeep},
		"disk-has-room": {3, v1alpha1.OnAbsentKeep},
		"target-down":   {0, v1alpha1.OnAbsentClear},
		"no-crash-loop": {0, v1alpha1.OnAbsentClear},
	}
	for _, b := range readDocument(t).blocks {
		var invariant v1alpha1.Invariant
		if b.language != "yaml" {
			continue
		}
		must(t, yaml.Unmarshal([]byte(b.text), &invariant))
		wanted, named := want[invariant.Name]
		delete(want, invariant.Name)
		if minStores, onAbsent := invariant.Spec.MinStoresOrDefault(), invariant.Spec.OnAbsentOrDefault(); named && (minStores != wanted.minStores || onAbsent != wanted.onAbsent) {
			t.Errorf("%s has minStores %d and onAbsent %s", invariant.Name, minStores, onAbsent)
		}
	}
	if len(want) > 0 {
		t.Errorf("the guide has none of %v", want)
	}
}
