// Package test runs the programs as users do: built, as processes, on a real control plane.
package test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/hack/programs"
	"invariant.dev/operator/test/installed"
)

var plane *controlplane.ControlPlane

// bin is where the programs are built.
var bin string

func TestMain(m *testing.M) {
	installed.Main(m, installed.Options{Root: "..", Programs: []string{"cmd/operator", "cmd/kubectl-operator", "hack/demo"}, Plane: &plane, Bin: &bin})
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

// eventually waits until what is true.
func eventually(t *testing.T, what string, isTrue func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) { return isTrue(), nil })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// freeAddress is a loopback address on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// startMonitor starts the monitor with a kubeconfig and flags, and ends it with the test.
func startMonitor(t *testing.T, kubeconfig string, flags ...string) (*controlplane.Program, *programs.Output) {
	t.Helper()
	return startMonitorNamed(t, t.Name(), kubeconfig, flags...)
}

// startMonitorNamed is startMonitor where a test starts several.
func startMonitorNamed(t *testing.T, name, kubeconfig string, flags ...string) (*controlplane.Program, *programs.Output) {
	t.Helper()
	log := &programs.Output{}
	args := append([]string{"monitor", "--kubeconfig", kubeconfig}, flags...)
	monitor, err := plane.StartProgram(strings.ReplaceAll(name, "/", "_"), filepath.Join(bin, "operator"), log, args...)
	must(t, err)
	t.Cleanup(func() {
		_ = monitor.Kill()
		if t.Failed() {
			t.Logf("the monitor's log:\n%s", log)
		}
	})
	return monitor, log
}

const storeUp = `
apiVersion: operator.invariant.dev/v1alpha1
kind: Invariant
metadata: {name: store-up, namespace: %s}
spec:
  system: sys
  interval: 1s
  severity: Critical
  source: {http: {url: %q, timeout: 10s}}
  expression: self[0].up
`

// switchable is a source that is up or down.
type switchable struct {
	server *httptest.Server
	mu     sync.Mutex
	up     bool
}

func newSwitchable(t *testing.T) *switchable {
	s := &switchable{}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, _ = fmt.Fprintf(w, `{"up": %v}`, s.up)
	}))
	t.Cleanup(s.server.Close)
	return s
}

func (s *switchable) set(up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up = up
}
