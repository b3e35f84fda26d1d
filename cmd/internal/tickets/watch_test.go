package tickets

import (
	"context"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
	"invariant.dev/operator/cmd/internal/cli/clitest"
	"invariant.dev/operator/cmd/internal/program"
	"invariant.dev/operator/hack/programs"
)

// watching types tickets list --watch with args. printed waits until all of this is on stdout, in this order.
func (b *bench) watching(args ...string) (printed func(want ...string), stop func()) {
	b.T.Helper()
	ctx, cancel := context.WithCancel(b.T.Context())
	out, errOut := &programs.Output{}, &programs.Output{}
	root := program.NewRoot("operator", "", "test")
	root.AddCommand(newCommand(cli.NewCommon(genericiooptions.IOStreams{Out: out, ErrOut: errOut})))
	root.SetArgs(append([]string{"tickets", "--kubeconfig", b.Kubeconfig, "-n", b.Namespace, "list", "--watch"}, args...))
	ended := make(chan error, 1)
	go func() { ended <- root.ExecuteContext(ctx) }()
	printed = func(want ...string) {
		b.T.Helper()
		err := wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
			rest := out.String()
			for _, w := range want {
				_, after, found := strings.Cut(rest, w)
				if !found {
					return false, nil
				}
				rest = after
			}
			return true, nil
		})
		if err != nil {
			b.T.Fatalf("want %q in this order, got\n%s%s", want, out, errOut)
		}
	}
	return printed, func() {
		cancel()
		if err := <-ended; err != nil {
			b.T.Errorf("after Ctrl-C it ends with %v", err)
		}
	}
}

func TestListWatchPrintsWhatChangesAndOnceWhatNoLongerBelongs(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1")
	b.ticket("sys-2", state(v1alpha1.Resolved))
	printed, stop := b.watching()
	printed("NAME", "sys-1   Open")
	b.ticket("sys-3", severity(v1alpha1.Warning))
	printed("NAME", "sys-1   Open", "sys-3   Open")
	b.Run("ack", "sys-1").OK()
	printed("sys-3   Open", "sys-1   Acknowledged")
	b.Run("resolve", "sys-1")
	printed("sys-1   Acknowledged", "sys-1   Resolved")
	b.Run("diagnose", "sys-2", "--text", "it was DNS").OK()
	b.Run("hold", "sys-3").OK()
	printed("sys-1   Resolved", "sys-3   Open", "true")
	stop()
}

func TestListWatchPrintsObjectsForPrograms(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1", labeled("team", "storage"))
	printed, stop := b.watching("-o", "name", "-l", "team=storage")
	printed("ticket.operator.invariant.dev/sys-1\n")
	b.ticket("other-1")
	b.ticket("sys-2", labeled("team", "storage"))
	printed("ticket.operator.invariant.dev/sys-1\n", "ticket.operator.invariant.dev/sys-2\n")
	stop()
	printed, stop = b.watching("-o", "yaml", "--state", "all")
	printed("kind: Ticket", "name: other-1")
	stop()
}

func TestListWatchSaysWhatIsMissing(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1")
	somebody := *b
	_, kubeconfig, err := plane.User("onlooker")
	clitest.Must(t, err)
	somebody.Kubeconfig = kubeconfig
	somebody.Grant("onlooker", clitest.May("tickets", "get", "list"))
	somebody.Run("list", "--watch").Has("sys-1").Failed("ask for a role that may watch tickets")
}
