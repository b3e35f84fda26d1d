package controlplane

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// Program is a program that runs beside the control plane.
type Program struct {
	process *process
}

// StartProgram starts the program at path beside the control plane, and does not wait for it to be ready. name tells it
// from the others, and may be used again once it has ended. Its output goes to log. Like the control plane's own
// programs it does not get the terminal's Ctrl-C, and it does not outlive this process, not even a kill -9 of it;
// Stop of the control plane does not end it.
func (c *ControlPlane) StartProgram(name, path string, log io.Writer, args ...string) (*Program, error) {
	launcher, err := launcherOf(c.dir, name, path)
	if err != nil {
		return nil, err
	}
	process, err := startLauncher(c.dir, name, launcher, log, args...)
	if err != nil {
		return nil, err
	}
	return &Program{process}, nil
}

// MkdirTemp makes a directory for the files of such programs. It is gone after Stop, or after the end of this process.
func (c *ControlPlane) MkdirTemp(pattern string) (string, error) { return os.MkdirTemp(c.dir, pattern) }

// Pid is its process ID.
func (p *Program) Pid() int { return p.process.cmd.Process.Pid }

// Signal sends it a signal.
func (p *Program) Signal(signal syscall.Signal) error { return p.process.cmd.Process.Signal(signal) }

// Ended is closed once it has ended; Err says how.
func (p *Program) Ended() <-chan struct{} { return p.process.ended }

// Err is nil if the program ended with exit code 0, and how it ended otherwise. Call it once Ended is closed.
func (p *Program) Err() error { return p.process.err }

// Kill ends it at once, as kill -9 does, and waits until it is gone. It is no error if it has ended.
func (p *Program) Kill() error {
	err := p.process.cmd.Process.Signal(syscall.SIGKILL)
	<-p.process.ended
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing %s: %w", p.process.name, err)
	}
	return nil
}

// Stop ends it with SIGTERM, and with SIGKILL after ten seconds, which is an error. It is no error if it has ended.
func (p *Program) Stop() error { return p.process.stop() }
