package packs

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/hack/controlplane"
)

func TestEveryPackAppliesAsAFolder(t *testing.T) {
	for _, name := range packNames(t) {
		t.Run(name, func(t *testing.T) {
			ns := "pack-" + name
			must(t, plane.Namespace(t.Context(), ns))
			// Twice, so that a second apply changes nothing, and for real, so that names that clash are seen.
			kubectl(t, "", "apply", "-k", filepath.Join(samples, name), "-n", ns)
			again := kubectl(t, "", "apply", "-k", filepath.Join(samples, name), "-n", ns)
			for _, line := range strings.Split(strings.TrimSpace(again), "\n") {
				if !strings.HasSuffix(line, " unchanged") {
					t.Errorf("applied again: %s", line)
				}
			}
			applied := strings.Fields(kubectl(t, "", "get", "invariants", "-n", ns, "-o", "jsonpath={.items[*].metadata.name}"))
			if want := len(pack(t, name)); len(applied) != want || want == 0 {
				t.Errorf("%d invariants are there, of %d", len(applied), want)
			}
		})
	}
}

func TestEveryExpressionOfEveryPackCompiles(t *testing.T) {
	for _, name := range packNames(t) {
		for _, invariant := range pack(t, name) {
			if _, err := judge.Compile(&invariant.Spec); err != nil {
				t.Errorf("%s/%s: %v", name, invariant.Name, err)
			}
		}
	}
}

func TestEveryInvariantSaysWhatItIsAboutAndWhatToDo(t *testing.T) {
	for _, name := range packNames(t) {
		sources := ""
		files, err := filepath.Glob(filepath.Join(samples, name, "*.yaml"))
		must(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			must(t, err)
			sources += string(text)
		}
		for _, invariant := range pack(t, name) {
			if invariant.Spec.Description == "" || invariant.Spec.Message == "" {
				t.Errorf("%s/%s has no description or no message", name, invariant.Name)
			}
			// Those of the demo are introduced by their file's first line.
			if name != "etcd" && !strings.Contains(sources, "# "+invariant.Name+": ") {
				t.Errorf("no comment of the pack %s begins with %s", name, invariant.Name)
			}
		}
	}
}

func TestTheReadmeNamesEveryPackAndEveryInvariant(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(samples, "README.md"))
	must(t, err)
	listed := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` ").FindAllStringSubmatch(string(readme), -1) {
		listed[row[1]] = true
	}
	for _, name := range packNames(t) {
		if !strings.Contains(string(readme), "]("+name+"/)") {
			t.Errorf("it does not link to the pack %s", name)
		}
		for _, invariant := range pack(t, name) {
			if !listed[invariant.Name] {
				t.Errorf("it does not list %s of %s", invariant.Name, name)
			}
			delete(listed, invariant.Name)
		}
	}
	for name := range listed {
		t.Errorf("it lists %s, which no pack has", name)
	}
}

func TestTheOverlayInTheReadmeBuilds(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(samples, "README.md"))
	must(t, err)
	_, shown, _ := strings.Cut(string(readme), "```yaml\n")
	shown, _, _ = strings.Cut(shown, "```")
	invariants := decode(t, build(t, "tikv", strings.Replace(shown, "../config/samples/tikv ", "PACK ", 1)))
	if got := invariants["grpc-latency"].Spec.Expression; got != "self.value < 0.05" {
		t.Errorf("its latency must be %s", got)
	}
	if invariants["tikv-gc"] != nil || len(invariants) != len(pack(t, "tikv"))-1 {
		t.Errorf("it has %d invariants", len(invariants))
	}
	for name, invariant := range invariants {
		if invariant.Spec.System != "tikv-prod" || invariant.Namespace != "tikv-prod" {
			t.Errorf("%s is about %s in %s", name, invariant.Spec.System, invariant.Namespace)
		}
	}
}

func TestTheMonitorMayReadTheObjectsThatPacksAreAbout(t *testing.T) {
	must(t, plane.Namespace(t.Context(), "granted"))
	for _, name := range packNames(t) {
		kubectl(t, "", "apply", "-k", filepath.Join(samples, name), "-n", "granted")
		for _, invariant := range pack(t, name) {
			source := invariant.Spec.Source.Kubernetes
			if source == nil {
				continue
			}
			group, _, _ := strings.Cut(source.APIVersion, "/")
			resource := strings.ToLower(source.Kind) + "s." + strings.TrimPrefix(group, "v1")
			// Roles come together in the background.
			err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
				answer, _, err := controlplane.Kubectl(ctx, plane.Kubeconfig, "", "auth", "can-i", "watch", resource, "-n", "granted",
					"--as=system:serviceaccount:operator-system:operator-monitor")
				return err == nil && strings.TrimSpace(answer) == "yes", nil
			})
			if err != nil {
				t.Errorf("%s/%s: it may not watch %s", name, invariant.Name, resource)
			}
		}
	}
}
