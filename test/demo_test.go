package test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"invariant.dev/operator/hack/programs"
)

// demo runs the demo with its files in a directory of its own, and returns what it printed.
func demo(t *testing.T, dir string, interruptAt string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	log := &programs.Output{}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "demo"))
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "KEEP=")
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	if interruptAt != "" {
		eventually(t, "the demo comes to: "+interruptAt, func() bool { return strings.Contains(log.String(), interruptAt) })
		must(t, cmd.Process.Signal(syscall.SIGINT))
	}
	err := cmd.Wait()
	if interruptAt == "" && err != nil {
		t.Errorf("the demo failed: %v\n%s", err, log)
	}
	return log.String()
}

// shortDir is a directory whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "d-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

// wantNothingLeft wants no process and no file of the demo.
func wantNothingLeft(t *testing.T, dir string) {
	t.Helper()
	left := func() string {
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		must(t, err)
		for _, path := range lines {
			if line, err := os.ReadFile(path); err == nil && strings.Contains(string(line), dir) {
				return strings.ReplaceAll(string(line), "\x00", " ")
			}
		}
		return ""
	}
	if line := left(); line != "" {
		t.Errorf("the demo left a process: %s", line)
	}
	files, err := os.ReadDir(dir)
	must(t, err)
	for _, file := range files {
		t.Errorf("the demo left a file: %s", file.Name())
	}
}

func TestTheDemoTellsItsStoryAndLeavesNothing(t *testing.T) {
	dir := shortDir(t)
	out := demo(t, dir, "")
	rest := out
	for _, want := range []string{
		"$ kubectl apply -f",
		"member-up created",
		"$ kubectl get invariants",
		"$ kill -9 ",
		"member-up(3), member-has-leader(3)",
		"$ kubectl annotate ticket etcd-1 operator/hold=true",
		"$ kubectl operator tickets unhold etcd-1",
		"etcd-2",
		"make demo KEEP=1",
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("the demo does not come to %q:\n%s", want, out)
		}
		rest = after
	}
	wantNothingLeft(t, dir)
}

func TestTheDemoLeavesNothingAfterCtrlC(t *testing.T) {
	for _, at := range []string{"Starting a Kubernetes control plane", "Starting what will be observed", "kill -9"} {
		t.Run("at: "+at, func(t *testing.T) {
			dir := shortDir(t)
			out := demo(t, dir, at)
			if !strings.Contains(out, "Interrupted") {
				t.Errorf("it does not say that it was interrupted:\n%s", out)
			}
			wantNothingLeft(t, dir)
		})
	}
}
