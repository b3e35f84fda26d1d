package programs_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"invariant.dev/operator/hack/programs"
)

// busyFile names the environment variable that makes this binary the process that is paused.
const busyFile = "BUSY_FILE"

func TestMain(m *testing.M) {
	if file := os.Getenv(busyFile); file != "" {
		beBusy(file)
	}
	os.Exit(m.Run())
}

// beBusy writes to the file from more threads than there are processors, and never ends.
func beBusy(file string) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		panic(err)
	}
	const threads = 8
	runtime.GOMAXPROCS(threads)
	for range threads {
		go func() {
			for {
				_, _ = f.Write([]byte{0})
			}
		}()
	}
	select {}
}

func TestAPausedProcessDoesNothingMore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "written")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), busyFile+"="+file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	defer end()
	for range 20 {
		before := size(t, file)
		waitUntil(t, "it writes", func() bool { return size(t, file) > before })
		if err := programs.Pause(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		paused := size(t, file)
		for range 10_000 {
			if more := size(t, file) - paused; more > 0 {
				t.Fatalf("it has written %d times after Pause returned", more)
			}
		}
		if err := programs.Resume(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
	}
	end()
	if err := programs.Pause(cmd.Process.Pid); err == nil {
		t.Error("a process that has ended was paused")
	}
	if err := programs.Resume(cmd.Process.Pid); err == nil {
		t.Error("a process that has ended was resumed")
	}
}

func TestAProcessThatEndsInsteadCannotBePaused(t *testing.T) {
	cmd := exec.Command("/bin/true")
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	// Its output ends with it; until somebody waits for it, it takes signals.
	if _, err := io.ReadAll(output); err != nil {
		t.Fatal(err)
	}
	if err := programs.Pause(cmd.Process.Pid); err == nil {
		t.Error("it was paused")
	}
}

// waitUntil waits until something is so.
func waitUntil(t *testing.T, what string, isSo func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) { return isSo(), nil })
	if err != nil {
		t.Fatalf("waiting until %s: %v", what, err)
	}
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
