package chaos

import (
	"io"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/hack/programs"
	"invariant.dev/operator/test/chaos/gate"
)

// monitor is the installed program, run as its ServiceAccount, behind a gate to the API server.
type monitor struct {
	stage *stage
	name  string
	flags []string
	// command is the program, and what stands before its arguments.
	command []string
	gate    *gate.Gate
	// kubeconfig leads through the gate.
	kubeconfig string
	log        *programs.Tail

	mu      sync.Mutex
	process *controlplane.Program
	starts  int
}

// monitor makes a monitor with flags more than those that every one here has, and does not start it.
func (s *stage) monitor(name string, flags ...string) *monitor {
	s.Helper()
	return s.monitorIn(monitorNamespace, name, flags...)
}

// monitorIn makes a monitor that is at home in a namespace: there is the Lease for which it stands.
func (s *stage) monitorIn(home, name string, flags ...string) *monitor {
	s.Helper()
	g, err := gate.New(s.plane.Config)
	must(s, err)
	s.Cleanup(g.Close)
	m := &monitor{stage: s, name: s.name + "-" + name, gate: g, log: programs.NewTail(io.Discard, logBytes), command: []string{filepath.Join(bin, "operator")},
		flags: append([]string{"--allow-address", "127.0.0.0/8"}, flags...)}
	m.kubeconfig, err = g.Kubeconfig(s.TempDir(), home, s.token)
	must(s, err)
	s.Cleanup(func() {
		m.kill()
		if s.Failed() {
			s.Logf("the end of the log of %s:\n%s", m.name, m.log)
		}
	})
	return m
}

// start starts the monitor. It has checked something once a system has seen its look.
func (m *monitor) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	args := slices.Concat([]string{memoryLimit}, m.command, []string{"monitor", "--kubeconfig", m.kubeconfig}, m.flags)
	process, err := m.stage.plane.StartProgram(m.name, "/usr/bin/env", m.log, args...)
	if err != nil {
		m.stage.Errorf("start %s: %v", m.name, err)
		return
	}
	m.process = process
	m.starts++
}

// running is its process, or nil.
func (m *monitor) running() *controlplane.Program {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return nil
	}
	select {
	case <-m.process.Ended():
		return nil
	default:
		return m.process
	}
}

// kill ends it as kill -9 does. It is no error if it has ended.
func (m *monitor) kill() {
	if p := m.running(); p != nil {
		_ = p.Kill()
	}
}

// logBytes is how much of the end of a program's log is kept.
const logBytes = 32 << 10

// memoryLimit is the environment that config/manager gives it.
const memoryLimit = "GOMEMLIMIT=900MiB"

// startsWithin is how long a monitor may take to its first look, on a busy machine.
const startsWithin = 30 * time.Second
