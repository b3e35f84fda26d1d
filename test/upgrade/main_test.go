// Package upgrade replaces the monitor of the version before by this one, and this one by it, in a cluster full of tickets.
package upgrade

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/hack/history"
	"invariant.dev/operator/test/installed"
)

const root = "../.."

var from = flag.String("from", "", "the commit or tag to upgrade from and to go back to (default: the last release, else the commit before this one)")

var (
	plane *controlplane.ControlPlane
	// newer and older are where this monitor and the one before are built.
	newer, older string
	// upgraded says from which version.
	upgraded string
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(context.Background(), m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(ctx context.Context, m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "upgrade-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	source, name, err := before(ctx, root, *from, dir)
	if err != nil {
		return 0, err
	}
	upgraded = name
	fmt.Println("upgrading from", upgraded)
	older = filepath.Join(dir, "bin")
	return installed.Run(ctx, m, installed.Options{Root: root, Programs: []string{"cmd/operator"}, Config: source, Plane: &plane, Bin: &newer,
		Prepare: func(ctx context.Context, _ *controlplane.ControlPlane) error {
			return installed.Build(ctx, source, older, nil, "cmd/operator")
		}})
}

// before returns a copy, in dir, of the version before the one in root, or of the one that is asked for, and its name. Without a
// history that has one, this version stands in for it: it replaces itself, as after a crash.
func before(ctx context.Context, root, asked, dir string) (source, name string, err error) {
	clone := history.Clone{Dir: root}
	if asked != "" {
		commit, err := clone.Commit(ctx, asked)
		if err != nil {
			return "", "", fmt.Errorf("-from: %w", err)
		}
		return extract(ctx, clone, commit, dir)
	}
	for _, candidate := range []string{clone.Release(ctx, "HEAD~1"), "HEAD~1"} {
		if commit, err := clone.Commit(ctx, candidate); candidate != "" && err == nil {
			return extract(ctx, clone, commit, dir)
		}
	}
	source, err = filepath.Abs(root)
	return source, "this version itself, as there is no history here to take one from; in a clone, git fetch --unshallow --tags gets it", err
}

func extract(ctx context.Context, clone history.Clone, commit, dir string) (source, name string, err error) {
	source = filepath.Join(dir, "source")
	cmd := exec.CommandContext(ctx, "bash", "-c", `set -o pipefail; mkdir "$2" && git archive "$1" | tar -x -C "$2"`, "extract", commit, source)
	cmd.Dir = clone.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("copy the commit %s: %w: %s", commit, err, out)
	}
	return source, clone.Describe(ctx, commit), nil
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

// eventually waits until there is nothing wrong.
func eventually(t *testing.T, what string, wrong func() string) {
	t.Helper()
	var last string
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		last = wrong()
		return last == "", nil
	})
	if err != nil {
		t.Fatalf("%s: %v: %s", what, err, last)
	}
}
