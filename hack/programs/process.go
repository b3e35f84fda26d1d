package programs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// StopTimeout bounds how long a program may take to end by itself.
const StopTimeout = 10 * time.Second

// TailBytes is how much of a program's output an error message has.
const TailBytes = 4096

// Launcher writes a shell script, named name, into dir. The script notes its process ID beside itself and becomes
// the program at path. The guard reads these notes; it is also the only way to learn the ID of what envtest starts.
func Launcher(dir, name, path string) (string, error) {
	launcher := filepath.Join(dir, name)
	script := fmt.Sprintf("#!/bin/sh\necho $$ >\"$0.pid\"\nexec %s \"$@\"\n", quote(path))
	// A program that is started meanwhile elsewhere in this process would hold the file open for writing for a
	// moment, and a file that is open for writing cannot be executed.
	syscall.ForkLock.RLock()
	err := os.WriteFile(launcher, []byte(script), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		return "", fmt.Errorf("writing the script that starts %s: %w", name, err)
	}
	return launcher, nil
}

// Noted is the process ID of what a launcher's script has become. It is an error if it was not started, or was forgotten.
func Noted(launcher string) (pid int, err error) {
	content, err := os.ReadFile(launcher + ".pid")
	if err == nil {
		pid, err = strconv.Atoi(strings.TrimSpace(string(content)))
	}
	if err != nil {
		return 0, fmt.Errorf("reading what %s has become: %w", launcher, err)
	}
	return pid, nil
}

// KillNoted kills what a launcher's script has become, if it was started.
func KillNoted(launcher string) {
	if pid, err := Noted(launcher); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL) // fails only when it has ended
	}
}

// Forget removes the note of a launcher whose program has ended: the process ID may be another's from now on.
func Forget(launcher string) error {
	if err := os.Remove(launcher + ".pid"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forgetting what %s became: %w", launcher, err)
	}
	return nil
}

func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Guard is a shell that waits for this process to end, in whatever way, and then kills what it had started
// and removes its directory. Nothing is left for it to do after an orderly stop.
type Guard struct {
	cmd   *exec.Cmd
	alive io.Closer
}

// StartGuard starts the guard of what is started in dir.
func StartGuard(dir string) (*Guard, error) {
	// The shell's read ends when the last writer of the pipe is gone. Only this process holds it: what it
	// starts does not inherit it.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making the pipe of the guard: %w", err)
	}
	defer func() { _ = r.Close() }()
	cmd := exec.Command("/bin/sh", "-c",
		`read -r _; for f in "$1"/*.pid; do [ -f "$f" ] && kill -KILL "$(cat "$f")"; done; rm -rf "$1"`, "guard", dir)
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the guard: %w", err), w.Close())
	}
	return &Guard{cmd: cmd, alive: w}, nil
}

// Dismiss ends the guard, which removes the directory and kills what is still noted there.
func (g *Guard) Dismiss() error {
	err := g.alive.Close()
	// Its exit status tells only whether there was something to kill.
	var exit *exec.ExitError
	if waitErr := g.cmd.Wait(); waitErr != nil && !errors.As(waitErr, &exit) {
		err = errors.Join(err, waitErr)
	}
	return err
}

// Process is a program that this process has started. Its methods may be called from several goroutines.
type Process struct {
	name string
	cmd  *exec.Cmd
	tail *Tail
	// ended is closed once the program has ended; err is why.
	ended chan struct{}
	err   error
}

// Start starts the program at path in dir, through a launcher of that name, and does not wait for it to be ready. The
// name may be used again once it has ended. Its output goes to log. It does not get the terminal's Ctrl-C. A guard of
// dir sees to it that it does not outlive this process.
func Start(dir, name, path string, log io.Writer, args ...string) (*Process, error) {
	launcher, err := Launcher(dir, name, path)
	if err != nil {
		return nil, err
	}
	p := &Process{name: name, cmd: exec.Command(launcher, args...), tail: NewTail(log, TailBytes), ended: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = p.tail, p.tail
	// In a process group of its own it does not get the Ctrl-C of the terminal, so that the order of the stop
	// is ours.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		_ = os.Remove(launcher + ".pid") // the ID may be another's from now on; gone already after Stop
		close(p.ended)
	}()
	return p, nil
}

// Pid is its process ID.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends it a signal.
func (p *Process) Signal(signal syscall.Signal) error { return p.cmd.Process.Signal(signal) }

// Ended is closed once it has ended; Err says how.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Err is nil if the program ended with exit code 0, and how it ended otherwise. Call it once Ended is closed.
func (p *Process) Err() error { return p.err }

// Check returns an error, with the end of its output, if the program has ended: call it while waiting for the
// program to be ready.
func (p *Process) Check() error {
	select {
	case <-p.ended:
		if p.err == nil {
			return fmt.Errorf("%s ended (exit status 0) before it was ready: %s", p.name, p.tail.Last())
		}
		return fmt.Errorf("%s ended (%w) before it was ready: %s", p.name, p.err, p.tail.Last())
	default:
		return nil
	}
}

// Kill ends it at once, as kill -9 does, and waits until it is gone. It is no error if it has ended.
func (p *Process) Kill() error {
	err := p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.ended
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing %s: %w", p.name, err)
	}
	return nil
}

// Stop ends it with SIGTERM, and with SIGKILL after StopTimeout, which is an error. It is no error if it has ended.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only when it has ended
	timeout, cancel := context.WithTimeout(context.Background(), StopTimeout)
	defer cancel()
	select {
	case <-p.ended:
		return nil
	case <-timeout.Done():
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not stop within %s and was killed", p.name, StopTimeout)
	}
}
