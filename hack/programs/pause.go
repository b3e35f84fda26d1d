package programs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Pause stops a process as SIGSTOP does, and returns once it stands still: kill returns earlier, and on a busy machine
// the process may still serve a request after that. Resume ends it. It is an error if the process has ended, or does not
// stand still within StopTimeout. It needs the /proc of Linux.
func Pause(pid int) error {
	return pause(pid, func(signal syscall.Signal) error { return syscall.Kill(pid, signal) })
}

// Resume lets a paused process go on. It is an error if it has ended.
func Resume(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		return fmt.Errorf("resuming process %d: %w", pid, err)
	}
	return nil
}

// Pause makes the program stand still, and returns once it does, as the function of that name.
func (p *Process) Pause() error { return pause(p.Pid(), p.Signal) }

// Resume lets the program go on after Pause. It is an error if it has ended.
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }

func pause(pid int, send func(syscall.Signal) error) error {
	if err := send(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("pausing process %d: %w", pid, err)
	}
	err := wait.PollUntilContextTimeout(context.Background(), time.Millisecond, StopTimeout, true, func(context.Context) (bool, error) {
		return standsStill(pid)
	})
	if err != nil {
		return fmt.Errorf("waiting for process %d to stand still after SIGSTOP: %w", pid, err)
	}
	return nil
}

// standsStill says whether every thread of a process is stopped.
func standsStill(pid int) (bool, error) {
	dir := filepath.Join("/proc", fmt.Sprint(pid))
	// Once its first thread is stopped it starts no more: those listed after that are all there are.
	switch state, err := stateOf(dir); {
	case err != nil:
		return false, err
	case state == "Z" || state == "X":
		return false, syscall.ESRCH
	case state != "T":
		return false, nil
	}
	threads, err := filepath.Glob(filepath.Join(dir, "task", "*"))
	if err != nil {
		return false, err
	}
	for _, thread := range threads {
		if state, err := stateOf(thread); err == nil && state != "T" { // an error: the thread has ended
			return false, nil
		}
	}
	return true, nil
}

// stateOf is the letter for what a process or a thread does, from its stat file: see proc_pid_stat(5).
func stateOf(dir string) (string, error) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return "", err
	}
	// The name stands in brackets and may hold anything; the state comes behind it.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) == 0 {
		return "", fmt.Errorf("%s/stat has no state", dir)
	}
	return fields[0], nil
}
