package test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"invariant.dev/operator/hack/controlplane"
)

// hanging is a source that never answers; it tells asked of each request.
func hanging(t *testing.T, asked chan<- struct{}) string {
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(over); server.Close() })
	return server.URL
}

// fails runs operator and wants it to fail, soon, with one error that says all of this.
func fails(t *testing.T, kubeconfig string, args []string, says ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "operator"), args...)
	cmd.Env = append(os.Environ(), append(controlplane.Env(kubeconfig), "HOME="+t.TempDir())...)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); !asExit(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v, want exit code 1", err)
	}
	var message string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "error: ") {
			message += line
		}
	}
	for _, want := range says {
		if !strings.Contains(message, want) {
			t.Errorf("the error does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "goroutine") || strings.Contains(string(out), "Usage:") {
		t.Errorf("a newcomer is shown more than the error:\n%s", out)
	}
}

func asExit(err error, exit **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError) //nolint:errorlint // exec returns it as it is.
	*exit = e
	return ok
}

func TestTheMonitorTellsANewcomerWhatIsWrong(t *testing.T) {
	monitor := func(flags ...string) []string { return append([]string{"monitor"}, flags...) }
	t.Run("no kubeconfig at all", func(t *testing.T) {
		fails(t, filepath.Join(t.TempDir(), "missing"), monitor(), "find the cluster", "KUBECONFIG")
	})
	t.Run("a cluster that does not answer", func(t *testing.T) {
		kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
		_, _, err := controlplane.Kubectl(t.Context(), kubeconfig, "", "config", "set-cluster", "gone", "--server=https://"+freeAddress(t))
		must(t, err)
		_, _, err = controlplane.Kubectl(t.Context(), kubeconfig, "", "config", "set-context", "gone", "--cluster=gone")
		must(t, err)
		_, _, err = controlplane.Kubectl(t.Context(), kubeconfig, "", "config", "use-context", "gone")
		must(t, err)
		fails(t, kubeconfig, monitor(), "reach the cluster https://127.0.0.1", "connection refused", "is it running")
	})
	t.Run("no CRDs", func(t *testing.T) {
		bare, err := controlplane.Start(t.Context(), controlplane.Options{})
		must(t, err)
		defer func() { must(t, bare.Stop()) }()
		fails(t, bare.Kubeconfig, monitor(), "does not know Invariants and Tickets", "make install")
	})
	t.Run("no permission", func(t *testing.T) {
		_, kubeconfig, err := plane.User("nobody")
		must(t, err)
		fails(t, kubeconfig, monitor(), "may not get invariants, list invariants", "create tickets", "patch tickets/status", "operator-monitor")
	})
	t.Run("a context that does not exist", func(t *testing.T) {
		fails(t, plane.Kubeconfig, monitor("--context", "nowhere"), "find the cluster", "nowhere")
	})
	for flag, says := range map[string]string{
		"--interval=5":                          "missing unit in duration",
		"--interval=10ms":                       "must be from 1s to 24h",
		"--allow-address=home":                  "must be a CIDR such as 127.0.0.0/8",
		"--intervall=5s":                        "unknown flag: --intervall",
		"--workers=0":                           "must be at least 1",
		"--prometheus-url=prom:9090":            "--prometheus-url must be like http://prometheus:9090, without a user, a password or a query",
		"--prometheus-url=http://a:b@prom":      "--prometheus-url must be like http://prometheus:9090, without a user, a password or a query",
		"--prometheus-url=http://prom/?query=x": "--prometheus-url must be like http://prometheus:9090, without a user, a password or a query",
		"--ticket-retention=5m":                 "must be at least 1h, or 0",
		"--ticket-retention=30d":                "unknown unit",
		"--metrics-bind-address=here":           "here",
	} {
		t.Run("the flag "+flag, func(t *testing.T) { fails(t, plane.Kubeconfig, monitor(flag), says) })
	}
	t.Run("an argument too many", func(t *testing.T) { fails(t, plane.Kubeconfig, monitor("now"), `"now"`) })
}
