// Package controlplanetest gives the tests of a package a control plane.
package controlplanetest

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"invariant.dev/operator/hack/controlplane"
)

// Main starts a control plane with the CRDs of this repository, stores it in cp, runs the tests of the package,
// stops it, and exits. What controller-runtime logs meanwhile is dropped. Where it cannot start, it prints why and exits with 1. Call it from TestMain:
//
//	var cp *controlplane.ControlPlane
//
//	func TestMain(m *testing.M) { controlplanetest.Main(m, &cp) }
func Main(m *testing.M, cp **controlplane.ControlPlane) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(run(m, cp))
}

func run(m *testing.M, cp **controlplane.ControlPlane) (code int) {
	ctx := context.Background()
	started, err := controlplane.Start(ctx, controlplane.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := started.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	if err := started.InstallCRDs(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	*cp = started
	return m.Run()
}
