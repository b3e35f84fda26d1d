package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopTimeout bounds how long a program may take to end by itself.
const stopTimeout = 10 * time.Second

// launcher writes a shell script that notes its process ID beside itself and becomes the program. The guard
// reads these notes; it is also the only way to learn the ID of what envtest starts.
func launcher(dir, name string) (string, error) {
	binary, err := Binary(name)
	if err != nil {
		return "", err
	}
	return launcherOf(dir, name, binary)
}

// launcherOf is launcher for any program, under any name.
func launcherOf(dir, name, binary string) (string, error) {
	path := filepath.Join(dir, name)
	script := fmt.Sprintf("#!/bin/sh\necho $$ >\"$0.pid\"\nexec %s \"$@\"\n", quote(binary))
	// A program that is started meanwhile elsewhere in this process would hold the file open for writing for a
	// moment, and a file that is open for writing cannot be executed.
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte(script), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		return "", fmt.Errorf("writing the script that starts %s: %w", name, err)
	}
	return path, nil
}

// killNoted kills what a launcher's script has become, if it was started.
func killNoted(launcher string) {
	content, err := os.ReadFile(launcher + ".pid")
	if err != nil {
		return
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(content))); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL) // fails only when it has ended
	}
}

func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// guard is a shell that waits for this process to end, in whatever way, and then kills what it had started
// and removes its directory. Nothing is left for it to do after an orderly stop.
type guard struct {
	cmd   *exec.Cmd
	alive io.Closer
}

func startGuard(dir string) (*guard, error) {
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
	return &guard{cmd: cmd, alive: w}, nil
}

// dismiss ends the guard, which removes the directory and kills what is still noted there.
func (g *guard) dismiss() error {
	err := g.alive.Close()
	// Its exit status tells only whether there was something to kill.
	var exit *exec.ExitError
	if waitErr := g.cmd.Wait(); waitErr != nil && !errors.As(waitErr, &exit) {
		err = errors.Join(err, waitErr)
	}
	return err
}

// process is a program that this package starts by itself.
type process struct {
	name string
	cmd  *exec.Cmd
	tail *tail
	// ended is closed once the program has ended; err is why.
	ended chan struct{}
	err   error
}

func startProcess(dir, name string, log io.Writer, args ...string) (*process, error) {
	path, err := launcher(dir, name)
	if err != nil {
		return nil, err
	}
	return startLauncher(dir, name, path, log, args...)
}

func startLauncher(dir, name, path string, log io.Writer, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(path, args...), tail: &tail{next: log}, ended: make(chan struct{})}
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
		_ = os.Remove(path + ".pid") // the ID may be another's from now on; gone already after Stop
		close(p.ended)
	}()
	return p, nil
}

// check returns an error if the program has ended.
func (p *process) check() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended (%w) before it was ready: %s", p.name, p.err, p.tail)
	default:
		return nil
	}
}

func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only when it has ended
	timeout, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	select {
	case <-p.ended:
		return nil
	case <-timeout.Done():
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not stop within %s and was killed", p.name, stopTimeout)
	}
}

// tail passes on what a program prints, and keeps the end of it for an error message.
type tail struct {
	next io.Writer

	mu   sync.Mutex
	last []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const keep = 4096
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, b...)
	if n := len(t.last); n > keep {
		t.last = append([]byte(nil), t.last[n-keep:]...)
	}
	return t.next.Write(b)
}

// String is the end of the output, in whole lines.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.last
	if len(last) == 4096 {
		if _, rest, ok := bytes.Cut(last, []byte("\n")); ok {
			last = rest
		}
	}
	if len(last) == 0 {
		return "it printed nothing"
	}
	return "its last output was\n" + strings.TrimSpace(string(last))
}

// lockedWriter lets several programs share one log.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
