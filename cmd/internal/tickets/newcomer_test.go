package tickets

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
	"invariant.dev/operator/cmd/internal/cli/clitest"
	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/hack/race"
)

var verbs = [][]string{{"list"}, {"list", "--json"}, {"show", "sys-1", "sys-2"}, {"hold", "sys-1", "sys-2"}, {"unhold", "sys-1"}, {"resolve", "sys-1"}, {"hold", "-l", "a=b"},
	{"list", "--watch"}}

func TestCommandsTellANewcomerWhatIsWrong(t *testing.T) {
	t.Run("no cluster", func(t *testing.T) {
		b := newBench(t)
		server := "https://" + clitest.FreeAddress(t)
		for _, verb := range verbs {
			r := b.Run(append(verb, "--server", server)...).Printed("").Failed(
				"the API server " + server + " does not answer: dial tcp " + strings.TrimPrefix(server, "https://") + ": connect: connection refused; is the cluster running")
			if !strings.Contains(r.Err, "KUBECONFIG") || strings.Count(r.Err, "\n") != 1 {
				t.Errorf("want one line that says where to look: %v", r)
			}
		}
	})
	t.Run("a server with a certificate that nobody knows", func(t *testing.T) {
		b := newBench(t)
		b.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
		_, _, err := controlplane.Kubectl(t.Context(), b.Kubeconfig, "", "config", "set-cluster", "x", "--server="+plane.Config.Host)
		clitest.Must(t, err)
		_, _, err = controlplane.Kubectl(t.Context(), b.Kubeconfig, "", "config", "set-context", "x", "--cluster=x")
		clitest.Must(t, err)
		b.Run("list", "--context", "x").Failed("certificate signed by unknown authority; is the cluster running, and is this the right one?")
	})
	t.Run("a context that does not exist", func(t *testing.T) {
		newBench(t).Run("list", "--context", "nowhere").Failed(`read the kubeconfig: context "nowhere" does not exist`)
	})
	t.Run("CRDs not installed", func(t *testing.T) {
		bare, err := controlplane.Start(t.Context(), controlplane.Options{})
		clitest.Must(t, err)
		defer func() { clitest.Must(t, bare.Stop()) }()
		b := newBench(t)
		b.Kubeconfig = bare.Kubeconfig
		for _, verb := range verbs {
			b.Run(verb...).Printed("").Failed("the CRDs are not installed in the cluster " + bare.Config.Host + ": run make install or kubectl apply -k config/crd")
		}
	})
	t.Run("no permission", func(t *testing.T) {
		b := newBench(t)
		b.ticket("sys-1")
		_, kubeconfig, err := plane.User("nobody")
		clitest.Must(t, err)
		b.Kubeconfig = kubeconfig
		in := " in the namespace " + b.Namespace
		b.Run("list").Printed("").Failed(`User "nobody" cannot list resource "tickets"`).Failed("ask for a role that may list tickets" + in + ", such as the ClusterRole operator-ticket-viewer")
		b.Run("list", "-A").Printed("").Failed("ask for a role that may list tickets in all namespaces")
		b.Run("show", "sys-1", "sys-2").Printed("").Failed("ask for a role that may get tickets" + in + ", such as the ClusterRole operator-ticket-viewer")
		b.Run("resolve", "-l", "a=b").Printed("").Failed("ask for a role that may list tickets" + in)
		b.Run("list", "--as", "ana").Printed("").Failed(`cannot impersonate`).Failed("; leave out --as, or ask for a role that may impersonate others")
	})
	t.Run("permission to look only", func(t *testing.T) {
		b := newBench(t)
		b.ticket("sys-1", cleared)
		_, kubeconfig, err := plane.User("viewer")
		clitest.Must(t, err)
		b.Grant("viewer", clitest.May("tickets", "get", "list"))
		b.Kubeconfig = kubeconfig
		b.Run("show", "sys-1").OK()
		in := " in the namespace " + b.Namespace + ", such as the ClusterRole operator-ticket-responder"
		b.Run("hold", "sys-1").Printed("").Failed("change the ticket sys-1: you may not: ").Failed("ask for a role that may patch tickets" + in)
		b.Run("resolve", "sys-1").Printed("").Failed("ask for a role that may patch tickets/status" + in)
	})
	t.Run("permission for tickets alone is enough", func(t *testing.T) {
		b := newBench(t)
		b.ticket("sys-1", cleared)
		_, kubeconfig, err := plane.User("responder")
		clitest.Must(t, err)
		b.Grant("responder", clitest.May("tickets", "get", "list", "patch"), clitest.May("tickets/status", "patch"))
		b.Kubeconfig = kubeconfig
		b.Run("hold", "sys-1").OK()
		b.Run("unhold", "-l", "a!=b").OK()
		b.Run("resolve", "sys-1").OK()
		if by := b.stored("sys-1").Status.Resolution.By; by != "responder" {
			t.Errorf("resolved by %s", by)
		}
	})
	t.Run("credentials that are none", func(t *testing.T) {
		b := newBench(t)
		server, ca := plane.Config.Host, filepath.Join(t.TempDir(), "ca")
		clitest.Must(t, os.WriteFile(ca, plane.Config.CAData, 0o600))
		b.Kubeconfig = os.DevNull
		b.Run("list", "--server", server, "--certificate-authority", ca, "--token", "stale").Failed("does not know you")
	})
	t.Run("words that are no command or flag", func(t *testing.T) {
		b := newBench(t)
		b.Anywhere("tickets", "lsit").Failed(`unknown command "lsit" for "operator tickets"`)
		b.Run("list", "sys-1").Failed("list takes no IDs: operator tickets show sys-1 shows one ticket")
		b.Run("list", "--since", "3d").Failed("write days as hours, such as 72h")
		b.Run("list", "--sate", "all").Failed("unknown flag: --sate\nSee 'operator tickets list --help' for usage")
	})
}

func TestHelpNamesTheProgramThatWasCalled(t *testing.T) {
	b := newBench(t)
	for _, verb := range []string{"", "list", "show", "resolve", "hold", "unhold"} {
		args := append([]string{"tickets"}, strings.Fields(verb)...)
		r := b.Anywhere(append(args, "--help")...).OK().Has("\nExamples:\n", "  operator "+strings.Join(args, " "))
		if strings.Contains(r.Out, cli.ProgramName) {
			t.Errorf("%v", r)
		}
		b.Anywhere(append([]string{"help"}, args...)...).OK().Printed(r.Out)
	}
	b.Anywhere("tickets").OK().Has("operator tickets list")
	for _, alias := range []string{"ticket", "tkt"} {
		b.Anywhere(alias, "list", "--help").OK().Has("operator tickets list")
	}
}

func TestShellsCompleteOpenTickets(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1")
	b.ticket("sys-2", cleared)
	b.ticket("sys-3", state(v1alpha1.Resolved))
	complete := func(words ...string) string {
		return b.Anywhere(append([]string{"__complete", "tickets", "--kubeconfig", b.Kubeconfig, "-n", b.Namespace}, words...)...).Out
	}
	// What was resolved lately makes sense to some verbs.
	resolved := map[string]string{"show": "sys-3\tstore-down(3)\n", "diagnose": "sys-3\tstore-down(3)\n"}
	for _, verb := range []string{"show", "ack", "diagnose", "resolve", "hold", "unhold"} {
		if got := complete(verb, ""); got != "sys-2\tstore-down(3)\nsys-1\tstore-down(3)\n"+resolved[verb]+":36\n" {
			t.Errorf("%s: %q", verb, got)
		}
		if got := complete(verb, "sys-2", ""); got != "sys-1\tstore-down(3)\n"+resolved[verb]+":36\n" {
			t.Errorf("%s after sys-2: %q", verb, got)
		}
	}
	if got := complete("list", "--state", ""); !strings.HasPrefix(got, "all\nopen\nacknowledged\ndiagnosed\nresolved\n") {
		t.Errorf("--state: %q", got)
	}
	if got := complete("hold", "--dry-run", ""); !strings.HasPrefix(got, "none\nclient\nserver\n") {
		t.Errorf("--dry-run: %q", got)
	}
	b.Kubeconfig = os.DevNull
	if got := complete("show", "--server", "https://"+clitest.FreeAddress(t), ""); got != ":36\n" {
		t.Errorf("with no cluster: %q", got)
	}
}

// build builds a program of this repository and returns its directory.
func build(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	args := slices.Concat([]string{"build", "-ldflags", "-X main.version=v1.2.3", "-o", dir}, race.BuildFlags(), []string{"invariant.dev/operator/cmd/" + name})
	cmd := exec.Command("go", args...)
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
		out, _, err := kubectl("operator", "tickets", "list", "-n", b.Namespace)
		clitest.Must(t, err)
		if out != b.Run("list").OK().Out && !strings.Contains(out, "\nsys-1 ") {
			t.Error(out)
		}
		out, _, err = kubectl("operator", "tickets", "resolve", "sys-1", "-n", b.Namespace)
		clitest.Must(t, err)
		if out != printed+"sys-1 resolved\n" || b.stored("sys-1").Status.Resolution.By != "admin" {
			t.Error(out)
		}
	})
	t.Run("which it calls by what was typed", func(t *testing.T) {
		out, _, err := kubectl("operator", "tickets", "show", "--help")
		clitest.Must(t, err)
		if !strings.Contains(out, "  kubectl operator tickets show ID... [flags]\n") || !strings.Contains(out, "  kubectl operator tickets show tikv-prod-17\n") {
			t.Error(out)
		}
	})
	t.Run("whose errors are kubectl's exit code", func(t *testing.T) {
		_, errOut, err := kubectl("operator", "tickets", "show", "sys-9", "-n", b.Namespace)
		if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(errOut, "kubectl operator tickets list --state all shows") {
			t.Errorf("%v\n%s", err, errOut)
		}
	})
	t.Run("whose commands and IDs a shell completes through kubectl", func(t *testing.T) {
		b.ticket("sys-2")
		clitest.Must(t, os.Symlink("kubectl-operator", filepath.Join(dir, "kubectl_complete-operator")))
		for _, c := range []struct {
			words []string
			want  string
		}{
			{[]string{"operator", ""}, "invariants\t"},
			{[]string{"operator", "tickets", "ack", "-n", b.Namespace, ""}, "sys-2\tstore-down(3)\n"},
			{[]string{"operator", "tickets", "list", "--state", ""}, "resolved\n"},
		} {
			out, errOut, err := kubectl(append([]string{"__complete"}, c.words...)...)
			clitest.Must(t, err)
			if !strings.Contains(out, c.want) {
				t.Errorf("kubectl %v<TAB> offers %q%s, want %q", c.words, out, errOut, c.want)
			}
		}
	})
	t.Run("and whose version it knows", func(t *testing.T) {
		out, _, err := kubectl("operator", "--version")
		clitest.Must(t, err)
		if out != "kubectl operator version v1.2.3\n" {
			t.Error(out)
		}
	})
}

func TestCtrlCEndsACommandThatWaits(t *testing.T) {
	b := newBench(t)
	b.Between = func(http.RoundTripper) http.RoundTripper {
		return clitest.RoundTripper(func(r *http.Request) (*http.Response, error) {
			// As the terminal would, once the command waits for an answer.
			clitest.Must(t, syscall.Kill(os.Getpid(), syscall.SIGINT))
			select {
			case <-r.Context().Done():
				return nil, r.Context().Err()
			case <-time.After(time.Minute):
				return nil, context.DeadlineExceeded
			}
		})
	}
	b.Run("show", "sys-1", "sys-2").Failed("read the ticket sys-1: interrupted")
}
