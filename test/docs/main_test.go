// Package docs holds the documentation to its word: it applies, runs and judges the examples of docs/invariants.md.
package docs

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/test/installed"
)

// namespace is where the examples live.
const namespace = "tikv-prod"

var plane *controlplane.ControlPlane

// bin is where the program is built.
var bin string

func TestMain(m *testing.M) {
	installed.Main(m, installed.Options{Root: "../..", Programs: []string{"cmd/operator"}, Plane: &plane, Bin: &bin, Prepare: prepare})
}

// prepare makes the namespace of the examples, and the kind of certificates that one is about.
func prepare(ctx context.Context, plane *controlplane.ControlPlane) error {
	for _, args := range [][]string{
		{"apply", "--server-side", "-f", "testdata/certificates.yaml"},
		{"wait", "--for=condition=Established", "crd", "--all"},
		{"create", "namespace", namespace},
	} {
		if _, _, err := controlplane.Kubectl(ctx, plane.Kubeconfig, "", args...); err != nil {
			return err
		}
	}
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until there is nothing wrong.
func eventually(t *testing.T, wrong func() string) {
	t.Helper()
	var last string
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		last = wrong()
		return last == "", nil
	})
	if err != nil {
		t.Errorf("%v:\n%s", err, last)
	}
}

// shell runs a command as a person types it, with kubectl and operator on the PATH, and returns what it prints and its exit code.
func shell(t *testing.T, dir, command string) (stdout string, code int) {
	t.Helper()
	kubectl, err := controlplane.Binary("kubectl")
	must(t, err)
	cmd := exec.CommandContext(t.Context(), "bash", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), controlplane.Env(plane.Kubeconfig)...), "PATH="+bin+":"+filepath.Dir(kubectl)+":"+os.Getenv("PATH"))
	out, err := cmd.Output()
	exit := (*exec.ExitError)(nil)
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil && len(exit.Stderr) > 0 {
		t.Logf("%s\n%s", command, exit.Stderr)
	}
	return string(out), cmd.ProcessState.ExitCode()
}
