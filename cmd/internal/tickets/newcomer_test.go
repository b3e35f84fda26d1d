package tickets

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/controlplane"
)

// freeAddress is one where nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { must(t, l.Close()) }()
	return l.Addr().String()
}

var verbs = [][]string{{"list"}, {"list", "--json"}, {"show", "sys-1", "sys-2"}, {"hold", "sys-1", "sys-2"}, {"unhold", "sys-1"}, {"resolve", "sys-1"}, {"hold", "-l", "a=b"}}

func TestCommandsTellANewcomerWhatIsWrong(t *testing.T) {
	t.Run("no cluster", func(t *testing.T) {
		b := newBench(t)
		server := "https://" + freeAddress(t)
		for _, verb := range verbs {
			r := b.run(append(verb, "--server", server)...).printed("").failed(
				"the API server " + server + " does not answer: dial tcp " + strings.TrimPrefix(server, "https://") + ": connect: connection refused; is the cluster running")
			if !strings.Contains(r.err, "KUBECONFIG") || strings.Count(r.err, "\n") != 1 {
				t.Errorf("want one line that says where to look: %v", r)
			}
		}
	})
	t.Run("a server with a certificate that nobody knows", func(t *testing.T) {
		b := newBench(t)
		b.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
		_, _, err := controlplane.Kubectl(t.Context(), b.kubeconfig, "", "config", "set-cluster", "x", "--server="+plane.Config.Host)
		must(t, err)
		_, _, err = controlplane.Kubectl(t.Context(), b.kubeconfig, "", "config", "set-context", "x", "--cluster=x")
		must(t, err)
		b.run("list", "--context", "x").failed("certificate signed by unknown authority; is the cluster running, and is this the right one?")
	})
	t.Run("a context that does not exist", func(t *testing.T) {
		newBench(t).run("list", "--context", "nowhere").failed(`read the kubeconfig: context "nowhere" does not exist`)
	})
	t.Run("CRDs not installed", func(t *testing.T) {
		bare, err := controlplane.Start(t.Context(), controlplane.Options{})
		must(t, err)
		defer func() { must(t, bare.Stop()) }()
		b := newBench(t)
		b.kubeconfig = bare.Kubeconfig
		for _, verb := range verbs {
			b.run(verb...).printed("").failed("the CRDs are not installed in the cluster " + bare.Config.Host + ": run make install or kubectl apply -k config/crd")
		}
	})
	t.Run("no permission", func(t *testing.T) {
		b := newBench(t)
		b.ticket("sys-1")
		_, kubeconfig, err := plane.User("nobody")
		must(t, err)
		b.kubeconfig = kubeconfig
		in := " in the namespace " + b.namespace
		b.run("list").printed("").failed(`User "nobody" cannot list resource "tickets"`).failed("ask for a role that may list tickets" + in + ", such as the ClusterRole view")
		b.run("list", "-A").printed("").failed("ask for a role that may list tickets in all namespaces")
		b.run("show", "sys-1", "sys-2").printed("").failed("ask for a role that may get tickets" + in + ", such as the ClusterRole view")
		b.run("resolve", "-l", "a=b").printed("").failed("ask for a role that may list tickets" + in)
		b.run("list", "--as", "ana").printed("").failed(`cannot impersonate`).failed("; leave out --as, or ask for a role that may impersonate others")
	})
	t.Run("permission to look only", func(t *testing.T) {
		b := newBench(t)
		b.ticket("sys-1", cleared)
		_, kubeconfig, err := plane.User("viewer")
		must(t, err)
		b.grant("viewer", may("tickets", "get", "list"))
		b.kubeconfig = kubeconfig
		b.run("show", "sys-1").ok()
		in := " in the namespace " + b.namespace + ", such as the ClusterRole edit"
		b.run("hold", "sys-1").printed("").failed("change the ticket sys-1: you may not: ").failed("ask for a role that may patch tickets" + in)
		b.run("resolve", "sys-1").printed("").failed("ask for a role that may patch tickets/status" + in)
	})
	t.Run("permission for tickets alone is enough", func(t *testing.T) {
		b := newBench(t)
		b.ticket("sys-1", cleared)
		_, kubeconfig, err := plane.User("responder")
		must(t, err)
		b.grant("responder", may("tickets", "get", "list", "patch"), may("tickets/status", "patch"))
		b.kubeconfig = kubeconfig
		b.run("hold", "sys-1").ok()
		b.run("unhold", "-l", "a!=b").ok()
		b.run("resolve", "sys-1").ok()
		if by := b.stored("sys-1").Status.Resolution.By; by != "responder" {
			t.Errorf("resolved by %s", by)
		}
	})
	t.Run("credentials that are none", func(t *testing.T) {
		b := newBench(t)
		server, ca := plane.Config.Host, filepath.Join(t.TempDir(), "ca")
		must(t, os.WriteFile(ca, plane.Config.CAData, 0o600))
		b.kubeconfig = os.DevNull
		b.run("list", "--server", server, "--certificate-authority", ca, "--token", "stale").failed("does not know you")
	})
	t.Run("words that are no command or flag", func(t *testing.T) {
		b := newBench(t)
		b.anywhere("tickets", "lsit").failed(`unknown command "lsit" for "operator tickets"`)
		b.run("list", "sys-1").failed(`unknown command "sys-1" for "operator tickets list"`)
		b.run("list", "--sate", "all").failed("unknown flag: --sate\nSee 'operator tickets list --help' for usage")
	})
}

func TestHelpNamesTheProgramThatWasCalled(t *testing.T) {
	b := newBench(t)
	for _, verb := range []string{"", "list", "show", "resolve", "hold", "unhold"} {
		args := append([]string{"tickets"}, strings.Fields(verb)...)
		r := b.anywhere(append(args, "--help")...).ok().has("\nExamples:\n", "  operator "+strings.Join(args, " "))
		if strings.Contains(r.out, programName) {
			t.Errorf("%v", r)
		}
		b.anywhere(append([]string{"help"}, args...)...).ok().printed(r.out)
	}
	b.anywhere("tickets").ok().has("operator tickets list")
	for _, alias := range []string{"ticket", "tkt"} {
		b.anywhere(alias, "list", "--help").ok().has("operator tickets list")
	}
}

func TestShellsCompleteOpenTickets(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1")
	b.ticket("sys-2", cleared)
	b.ticket("sys-3", state(v1alpha1.Resolved))
	complete := func(words ...string) string {
		return b.anywhere(append([]string{"__complete", "tickets", "--kubeconfig", b.kubeconfig, "-n", b.namespace}, words...)...).out
	}
	for _, verb := range []string{"show", "resolve", "hold", "unhold"} {
		if got := complete(verb, ""); got != "sys-2\tstore-down(3)\nsys-1\tstore-down(3)\n:36\n" {
			t.Errorf("%s: %q", verb, got)
		}
		if got := complete(verb, "sys-2", ""); got != "sys-1\tstore-down(3)\n:36\n" {
			t.Errorf("%s after sys-2: %q", verb, got)
		}
	}
	if got := complete("list", "--state", ""); !strings.HasPrefix(got, "all\nopen\nacknowledged\ndiagnosed\nresolved\n") {
		t.Errorf("--state: %q", got)
	}
	if got := complete("hold", "--dry-run", ""); !strings.HasPrefix(got, "none\nclient\nserver\n") {
		t.Errorf("--dry-run: %q", got)
	}
	b.kubeconfig = os.DevNull
	if got := complete("show", "--server", "https://"+freeAddress(t), ""); got != ":36\n" {
		t.Errorf("with no cluster: %q", got)
	}
}

// build builds a program of this repository and returns its directory.
func build(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-ldflags", "-X main.version=v1.2.3", "-o", dir, "invariant.dev/operator/cmd/"+name)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func TestKubectlRunsThePlugin(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1", cleared)
	dir := build(t, "kubectl-operator")
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	kubectl := func(args ...string) (string, string, error) {
		return controlplane.Kubectl(t.Context(), plane.Kubeconfig, "", args...)
	}
	t.Run("with the same verbs", func(t *testing.T) {
		out, _, err := kubectl("operator", "tickets", "list", "-n", b.namespace)
		must(t, err)
		if out != b.run("list").ok().out && !strings.Contains(out, "\nsys-1 ") {
			t.Error(out)
		}
		out, _, err = kubectl("operator", "tickets", "resolve", "sys-1", "-n", b.namespace)
		must(t, err)
		if out != printed+"sys-1 resolved\n" || b.stored("sys-1").Status.Resolution.By != "admin" {
			t.Error(out)
		}
	})
	t.Run("which it calls by what was typed", func(t *testing.T) {
		out, _, err := kubectl("operator", "tickets", "show", "--help")
		must(t, err)
		if !strings.Contains(out, "  kubectl operator tickets show ID... [flags]\n") || !strings.Contains(out, "  kubectl operator tickets show tikv-prod-17\n") {
			t.Error(out)
		}
	})
	t.Run("whose errors are kubectl's exit code", func(t *testing.T) {
		_, errOut, err := kubectl("operator", "tickets", "show", "sys-9", "-n", b.namespace)
		if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(errOut, "kubectl operator tickets list --state all shows") {
			t.Errorf("%v\n%s", err, errOut)
		}
	})
	t.Run("and whose version it knows", func(t *testing.T) {
		out, _, err := kubectl("operator", "--version")
		must(t, err)
		if out != "kubectl operator version v1.2.3\n" {
			t.Error(out)
		}
	})
}

func TestCtrlCEndsACommandThatWaits(t *testing.T) {
	b := newBench(t)
	b.between = func(http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			// As the terminal would, once the command waits for an answer.
			must(t, syscall.Kill(os.Getpid(), syscall.SIGINT))
			select {
			case <-r.Context().Done():
				return nil, r.Context().Err()
			case <-time.After(time.Minute):
				return nil, context.DeadlineExceeded
			}
		})
	}
	b.run("show", "sys-1", "sys-2").failed("read the ticket sys-1: interrupted")
}
