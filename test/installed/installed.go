// Package installed gives the tests of a package what a user has who followed the README: the programs, built, and a cluster with all
// that config/default installs.
package installed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	ctrl "sigs.k8s.io/controller-runtime"

	"invariant.dev/operator/hack/controlplane"
)

// Options say what the tests of a package need.
type Options struct {
	// Root is the root of the repository, from the package's directory.
	Root string
	// Programs are the packages of the programs to build, from Root, such as cmd/operator.
	Programs []string
	// Plane takes the control plane, and Bin the directory with the programs.
	Plane **controlplane.ControlPlane
	Bin   *string
	// Prepare, if set, does what else is needed before the tests.
	Prepare func(ctx context.Context, plane *controlplane.ControlPlane) error
	// After, if set, is called after the tests.
	After func()
}

// Main builds and installs, runs the tests of the package, removes all of it, and exits. Where that fails, it prints why and exits with
// 1. Call it from TestMain.
func Main(m *testing.M, o Options) {
	ctrl.SetLogger(logr.Discard())
	code, err := o.run(context.Background(), m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func (o Options) run(ctx context.Context, m *testing.M) (code int, err error) {
	if *o.Bin, err = os.MkdirTemp("", "installed-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(*o.Bin)) }()
	plane, err := controlplane.Start(ctx, controlplane.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, plane.Stop()) }()
	*o.Plane = plane
	var group errgroup.Group
	group.Go(func() error { return o.build(ctx) })
	group.Go(func() error {
		if err := Install(ctx, plane, o.Root); err != nil || o.Prepare == nil {
			return err
		}
		return o.Prepare(ctx, plane)
	})
	if err := group.Wait(); err != nil {
		return 0, err
	}
	code = m.Run()
	if o.After != nil {
		o.After()
	}
	return code, nil
}

// build builds the programs.
func (o Options) build(ctx context.Context) error {
	args := []string{"build", "-o", *o.Bin}
	for _, program := range o.Programs {
		args = append(args, "."+string(filepath.Separator)+filepath.Join(o.Root, program))
	}
	build := exec.CommandContext(ctx, "go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w: %s", err, out)
	}
	return nil
}

// Install installs config/default of the repository at root.
func Install(ctx context.Context, plane *controlplane.ControlPlane, root string) error {
	for _, args := range [][]string{
		{"apply", "--server-side", "-k", filepath.Join(root, "config/default")},
		{"wait", "--for=condition=Established", "crd", "--all"},
	} {
		if _, _, err := controlplane.Kubectl(ctx, plane.Kubeconfig, "", args...); err != nil {
			return fmt.Errorf("install config/default: %w", err)
		}
	}
	return nil
}
