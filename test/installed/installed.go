// Package installed gives the tests of a package what a user has who followed the README: the programs, built, and a cluster with all
// that config/default installs.
package installed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	ctrl "sigs.k8s.io/controller-runtime"

	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/hack/race"
)

// Options say what the tests of a package need.
type Options struct {
	// Root is the root of the repository, from the package's directory.
	Root string
	// Programs are the packages of the programs to build, from Root, such as cmd/operator.
	Programs []string
	// Config is the copy of the repository whose config/default is installed. Default: Root.
	Config string
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
	code, err := Run(context.Background(), m, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// Run is Main without the exit, for those who have more to remove.
func Run(ctx context.Context, m *testing.M, o Options) (code int, err error) {
	ctrl.SetLogger(logr.Discard())
	if *o.Bin, err = os.MkdirTemp("", "installed-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, race.Found(*o.Bin), os.RemoveAll(*o.Bin)) }()
	if err := race.Watch(*o.Bin); err != nil {
		return 0, err
	}
	plane, err := controlplane.Start(ctx, controlplane.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, plane.Stop()) }()
	*o.Plane = plane
	var group errgroup.Group
	group.Go(func() error { return Build(ctx, o.Root, *o.Bin, nil, o.Programs...) })
	group.Go(func() error { return o.install(ctx, plane) })
	if err := group.Wait(); err != nil {
		return 0, err
	}
	code = m.Run()
	if o.After != nil {
		o.After()
	}
	return code, nil
}

// install installs config/default, and prepares.
func (o Options) install(ctx context.Context, plane *controlplane.ControlPlane) error {
	if err := Apply(ctx, plane, cmp.Or(o.Config, o.Root)); err != nil || o.Prepare == nil {
		return err
	}
	return o.Prepare(ctx, plane)
}

// Build builds programs of the module in dir, such as cmd/operator, into bin, with more flags of go build. Where the race detector watches
// the tests, it watches them too.
func Build(ctx context.Context, dir, bin string, flags []string, programs ...string) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	args := slices.Concat([]string{"build", "-o", bin + string(filepath.Separator)}, race.BuildFlags(), flags)
	for _, program := range programs {
		args = append(args, "."+string(filepath.Separator)+program)
	}
	build := exec.CommandContext(ctx, "go", args...)
	build.Dir = dir
	if !race.Enabled {
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w: %s", err, out)
	}
	return nil
}

// Apply installs config/default of a copy of the repository, as make deploy does, or brings what is installed up to it.
func Apply(ctx context.Context, plane *controlplane.ControlPlane, root string) error {
	for _, args := range [][]string{
		{"apply", "--server-side", "-k", filepath.Join(root, "config/default")},
		{"wait", "--for=condition=Established", "crd", "--all"},
	} {
		if _, _, err := controlplane.Kubectl(ctx, plane.Kubeconfig, "", args...); err != nil {
			return err
		}
	}
	return nil
}
