package controlplane

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"invariant.dev/operator/hack/programs"
)

// EtcdSocket is the path of the Unix socket on which the control plane's etcd answers: what the API server stores can be
// read, watched and compacted there, past the API server.
func (c *ControlPlane) EtcdSocket() string { return filepath.Join(c.dir, "etcd.sock") }

// KillEtcd kills etcd as kill -9 does. Its data stays: StartEtcd starts it again on them. Until then the API server
// answers what needs etcd with errors or not at all.
func (c *ControlPlane) KillEtcd() error {
	if err := c.etcd.Kill(); err != nil {
		return fmt.Errorf("killing etcd: %w", err)
	}
	return nil
}

// StartEtcd starts etcd again after KillEtcd, and returns when it answers. It is no error if it runs. ctx bounds the start.
func (c *ControlPlane) StartEtcd(ctx context.Context) error {
	if c.etcd.Check() == nil {
		return nil
	}
	if err := c.startEtcd(ctx, c.log); err != nil {
		return fmt.Errorf("starting etcd again: %w", err)
	}
	return nil
}

// KillAPIServer kills the API server as kill -9 does, with all connections to it. StartAPIServer starts it again.
func (c *ControlPlane) KillAPIServer() error {
	programs.KillNoted(c.plane.APIServer.Path)
	// It has ended: this only waits until that is noticed.
	if err := c.endAPIServer(); err != nil {
		return fmt.Errorf("killing kube-apiserver: %w", err)
	}
	return nil
}

// StopAPIServer ends the API server in an orderly way, as an upgrade does. StartAPIServer starts it again.
func (c *ControlPlane) StopAPIServer() error {
	if err := c.endAPIServer(); err != nil {
		return fmt.Errorf("stopping kube-apiserver: %w", err)
	}
	return nil
}

// endAPIServer ends the API server unless it has ended, and forgets its process ID, which may be another's from now on.
func (c *ControlPlane) endAPIServer() error {
	// One that hangs would not hear that it is to end, and one without its etcd would wait for that.
	_ = c.ResumeAPIServer() // fails only when it has ended
	if c.etcd.Check() != nil {
		programs.KillNoted(c.plane.APIServer.Path)
	}
	return errors.Join(c.plane.APIServer.Stop(), programs.Forget(c.plane.APIServer.Path))
}

// StartAPIServer starts the API server again, at the same address, with the same certificates, on the same etcd, and returns
// when it is ready. It is no error if it runs. ctx bounds the start.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	interrupt := context.AfterFunc(ctx, func() { programs.KillNoted(c.plane.APIServer.Path) })
	defer interrupt()
	if !c.apiServerRuns() {
		if err := c.plane.APIServer.Start(); err != nil {
			return fmt.Errorf("starting kube-apiserver again: %w", err)
		}
	}
	return poll(ctx, "kube-apiserver to be ready", func(ctx context.Context) error {
		return get(ctx, c.http, c.Config.Host+"readyz")
	})
}

// apiServerRuns says whether there is a process of the API server.
func (c *ControlPlane) apiServerRuns() bool {
	pid, err := programs.Noted(c.plane.APIServer.Path)
	return err == nil && syscall.Kill(pid, 0) == nil
}

// PauseAPIServer makes the API server hang, as SIGSTOP does, and returns once it answers nothing more. ResumeAPIServer
// ends that.
func (c *ControlPlane) PauseAPIServer() error { return c.withAPIServer("pausing", programs.Pause) }

// ResumeAPIServer lets the API server go on after PauseAPIServer.
func (c *ControlPlane) ResumeAPIServer() error { return c.withAPIServer("resuming", programs.Resume) }

// withAPIServer does something to the process of the API server.
func (c *ControlPlane) withAPIServer(doing string, do func(pid int) error) error {
	pid, err := programs.Noted(c.plane.APIServer.Path)
	if err == nil {
		err = do(pid)
	}
	if err != nil {
		return fmt.Errorf("%s kube-apiserver: %w", doing, err)
	}
	return nil
}
