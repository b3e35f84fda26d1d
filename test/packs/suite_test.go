// Package packs tries the packs of Invariants in config/samples: on a real API server, with the program that users check
// Invariants with, and on answers and objects as the systems give them.
package packs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/test/installed"
)

const samples = "../../config/samples"

var plane *controlplane.ControlPlane

// bin is where the program is built.
var bin string

func TestMain(m *testing.M) {
	installed.Main(m, installed.Options{Root: "../..", Programs: []string{"cmd/operator"}, Plane: &plane, Bin: &bin})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kubectl runs kubectl as the administrator and returns what it prints.
func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, _, err := controlplane.Kubectl(t.Context(), plane.Kubeconfig, stdin, args...)
	must(t, err)
	return out
}

// packNames are the folders in config/samples.
func packNames(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(samples)
	must(t, err)
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}

// documents are the manifests of a YAML text.
func documents(text string) []string {
	var list []string
	for _, document := range strings.Split("\n"+text, "\n---\n") {
		if strings.TrimSpace(document) != "" {
			list = append(list, document)
		}
	}
	return list
}

// decode reads Invariants from a YAML text, by their names, and leaves out what is none.
func decode(t *testing.T, text string) map[string]*v1alpha1.Invariant {
	t.Helper()
	invariants := map[string]*v1alpha1.Invariant{}
	for _, document := range documents(text) {
		var invariant v1alpha1.Invariant
		if !strings.Contains(document, "\nkind: Invariant\n") {
			continue
		}
		must(t, yaml.UnmarshalStrict([]byte(document), &invariant))
		invariants[invariant.Name] = &invariant
	}
	return invariants
}

// pack are the Invariants of a pack, as kustomize builds it.
func pack(t *testing.T, name string) map[string]*v1alpha1.Invariant {
	t.Helper()
	return decode(t, kubectl(t, "", "kustomize", filepath.Join(samples, name)))
}

// overlay builds a pack as the comment in its kustomization shows to, with other addresses in place of those.
func overlay(t *testing.T, name string, oldnew ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(samples, name, "kustomization.yaml"))
	must(t, err)
	var shown []string
	for _, line := range strings.Split(string(text), "\n") {
		if line, isShown := strings.CutPrefix(line, "#   "); isShown && !strings.HasPrefix(line, "kubectl ") {
			shown = append(shown, line)
		}
	}
	kustomization := strings.NewReplacer(oldnew...).Replace(strings.Join(shown, "\n"))
	if kustomization = strings.Replace(kustomization, "../"+name+" ", "PACK ", 1); !strings.Contains(kustomization, "\nresources:") {
		kustomization = "resources: [PACK]\n" + kustomization
	}
	return build(t, name, kustomization)
}

// build builds a kustomization in which PACK stands for the folder of a pack.
func build(t *testing.T, name, kustomization string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	to, err := filepath.Abs(filepath.Join(samples, name))
	must(t, err)
	// kustomize takes no absolute path.
	relative, err := filepath.Rel(dir, to)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(strings.Replace(kustomization, "PACK", relative, 1)), 0o600))
	return kubectl(t, "", "kustomize", dir)
}

// named are those Invariants of a pack, or all of it.
func named(t *testing.T, pack string, names ...string) string {
	t.Helper()
	var list []string
	for _, document := range documents(kubectl(t, "", "kustomize", filepath.Join(samples, pack))) {
		if len(names) == 0 || slices.ContainsFunc(names, func(name string) bool { return strings.Contains(document, "\n  name: "+name+"\n") }) {
			list = append(list, document)
		}
	}
	return strings.Join(list, "\n---\n")
}

// report is what a check prints.
type report struct {
	Items []struct {
		Name, Truth, Reason, Message string
		Stores                       []struct {
			StoreID, Truth, Reason, Message string
			Snapshot                        []v1alpha1.SnapshotValue
		}
	}
}

// check has the program check the Invariants of a YAML text against their sources, with more flags.
func check(t *testing.T, manifests string, flags ...string) report {
	t.Helper()
	args := append([]string{"invariants", "check", "-f", "-", "-o", "json", "--kubeconfig", plane.Kubeconfig}, flags...)
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "operator"), args...)
	cmd.Stdin = strings.NewReader(manifests)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("check prints %q: %v: %s", out, err, exit.Stderr)
	}
	return r
}

// lines is what the report says in short, such as store-up(2) Violated or store-space Unknown HTTPStatus; what
// is satisfied is left out.
func (r report) lines() map[string]bool {
	lines := map[string]bool{}
	for _, i := range r.Items {
		if len(i.Stores) == 0 && i.Truth != "Satisfied" {
			lines[strings.TrimSpace(i.Name+" "+i.Truth+" "+i.Reason)] = true
		}
		for _, s := range i.Stores {
			if s.Truth != "Satisfied" {
				lines[strings.TrimSpace(fmt.Sprintf("%s(%s) %s %s", i.Name, s.StoreID, s.Truth, s.Reason))] = true
			}
		}
	}
	return lines
}

// wantEvidence wants every violation to bring all of its evidence.
func (r report) wantEvidence(t *testing.T) {
	t.Helper()
	for _, i := range r.Items {
		for _, s := range i.Stores {
			for _, v := range s.Snapshot {
				if v.Error != "" {
					t.Errorf("%s of %s(%s): %s", v.Name, i.Name, s.StoreID, v.Error)
				}
			}
		}
	}
}

// message is the message of a violation in the report.
func (r report) message(invariant, storeID string) string {
	for _, i := range r.Items {
		for _, s := range i.Stores {
			if i.Name == invariant && s.StoreID == storeID {
				return s.Message
			}
		}
	}
	return ""
}

// wantLines wants exactly these lines.
func wantLines(t *testing.T, r report, want ...string) {
	t.Helper()
	got := r.lines()
	for _, line := range want {
		if !got[line] {
			t.Errorf("the check does not say %s", line)
		}
		delete(got, line)
	}
	for line := range got {
		t.Errorf("the check says %s", line)
	}
	if t.Failed() {
		t.Logf("all of it: %+v", r)
	}
}
