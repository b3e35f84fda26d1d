// Package docs holds the documentation to its word: it applies, runs and judges the examples of docs/invariants.md.
package docs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"

	"invariant.dev/operator/hack/controlplane"
)

// namespace is where the examples live.
const namespace = "tikv-prod"

var plane *controlplane.ControlPlane

// bin is where the program is built.
var bin string

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// run builds the program and starts a control plane with what a user installs, and with the CRD of the certificates that an
// example is about.
func run(m *testing.M) (code int, err error) {
	if bin, err = os.MkdirTemp("", "docs-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bin)) }()
	ctx := context.Background()
	var group errgroup.Group
	group.Go(func() error {
		build := exec.Command("go", "build", "-o", bin, "../../cmd/operator")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build the program: %w: %s", err, out)
		}
		return nil
	})
	started, err := controlplane.Start(ctx, controlplane.Options{})
	if err != nil {
		return 0, errors.Join(err, group.Wait())
	}
	defer func() { err = errors.Join(err, started.Stop()) }()
	plane = started
	for _, args := range [][]string{
		{"apply", "--server-side", "-k", "../../config/default"},
		{"apply", "--server-side", "-f", "testdata/certificates.yaml"},
		{"wait", "--for=condition=Established", "crd", "--all"},
		{"create", "namespace", namespace},
	} {
		if _, _, err := controlplane.Kubectl(ctx, plane.Kubeconfig, "", args...); err != nil {
			return 0, errors.Join(err, group.Wait())
		}
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return m.Run(), nil
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
