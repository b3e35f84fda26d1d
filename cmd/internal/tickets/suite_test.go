package tickets

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/program"
	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/hack/controlplane/controlplanetest"
)

var plane *controlplane.ControlPlane

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	controlplanetest.Main(m, &plane)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bench is a namespace on a real API server, and somebody who types commands.
type bench struct {
	t          *testing.T
	api        client.Client
	namespace  string
	kubeconfig string
	// between, if set, stands between the commands and the API server.
	between func(http.RoundTripper) http.RoundTripper
}

var namespaces atomic.Int32

func newBench(t *testing.T) *bench {
	t.Helper()
	scheme := runtime.NewScheme()
	must(t, clientgoscheme.AddToScheme(scheme))
	must(t, v1alpha1.AddToScheme(scheme))
	api, err := client.New(plane.Config, client.Options{Scheme: scheme})
	must(t, err)
	b := &bench{t: t, api: api, namespace: fmt.Sprintf("ns-%d", namespaces.Add(1)), kubeconfig: plane.Kubeconfig}
	must(t, plane.Namespace(t.Context(), b.namespace))
	return b
}

// result is what a command printed, and its exit code.
type result struct {
	t        *testing.T
	command  string
	out, err string
	code     int
}

// anywhere types operator tickets with args, with no namespace of its own.
func (b *bench) anywhere(args ...string) result {
	b.t.Helper()
	var out, errOut bytes.Buffer
	flags := genericclioptions.NewConfigFlags(true)
	if b.between != nil {
		flags.WrapConfigFn = func(c *rest.Config) *rest.Config { c.Wrap(b.between); return c }
	}
	root := program.NewRoot("operator", "", "test")
	root.AddCommand(newCommand(genericiooptions.IOStreams{Out: &out, ErrOut: &errOut}, flags))
	root.SetOut(&out)
	root.SetErr(&errOut)
	root.SetArgs(args)
	code := program.Run(root, &errOut)
	return result{b.t, strings.Join(args, " "), out.String(), errOut.String(), code}
}

// run types operator tickets with args, in the bench's namespace.
func (b *bench) run(args ...string) result {
	b.t.Helper()
	return b.anywhere(append([]string{"tickets", "--kubeconfig", b.kubeconfig, "--namespace", b.namespace}, args...)...)
}

func (r result) String() string {
	return fmt.Sprintf("%s\nexit code %d, stdout:\n%s\nstderr:\n%s", r.command, r.code, r.out, r.err)
}

// ok wants the command to have succeeded, with nothing to say on stderr.
func (r result) ok() result {
	r.t.Helper()
	if r.code != 0 || r.err != "" {
		r.t.Fatalf("want success and nothing on stderr: %v", r)
	}
	return r
}

// printed wants all of stdout to be this.
func (r result) printed(want string) result {
	r.t.Helper()
	if r.out != want {
		r.t.Errorf("want stdout\n%s\ngot %v", want, r)
	}
	return r
}

// warned wants success, and all of stderr to be this.
func (r result) warned(want string) result {
	r.t.Helper()
	if r.code != 0 || r.err != want {
		r.t.Errorf("want success and stderr\n%s\ngot %v", want, r)
	}
	return r
}

// failed wants exit code 1 and errors on stderr, one for each of the wanted, in this order, that contain them.
func (r result) failed(want ...string) result {
	r.t.Helper()
	var errs []string
	for _, line := range strings.SplitAfter(r.err, "\n") {
		if strings.HasPrefix(line, "error: ") || len(errs) == 0 {
			errs = append(errs, line)
		} else {
			errs[len(errs)-1] += line
		}
	}
	if r.code != 1 || len(errs) != len(want) {
		r.t.Fatalf("want exit code 1 and %d errors: %v", len(want), r)
	}
	for i, message := range errs {
		if !strings.HasPrefix(message, "error: ") || !strings.Contains(message, want[i]) {
			r.t.Errorf("error %d does not say %q: %v", i+1, want[i], r)
		}
	}
	for _, never := range []string{"goroutine", "Usage:", "Flags:"} {
		if strings.Contains(r.err+r.out, never) {
			r.t.Errorf("more is shown than the error: %v", r)
		}
	}
	return r
}

// has wants stdout to contain each of these.
func (r result) has(want ...string) result {
	r.t.Helper()
	for _, w := range want {
		if !strings.Contains(r.out, w) {
			r.t.Errorf("stdout does not contain %q: %v", w, r)
		}
	}
	return r
}

// rows is the first words of the lines on stdout.
func (r result) rows() string {
	var rows []string
	for line := range strings.Lines(r.out) {
		rows = append(rows, strings.Fields(line)[0])
	}
	return strings.Join(rows, " ")
}

// ticket makes a ticket with one critical violation of store 3, as change makes it.
func (b *bench) ticket(name string, change ...func(*v1alpha1.Ticket)) *v1alpha1.Ticket {
	b.t.Helper()
	now := v1alpha1.NewTime(time.Now())
	t := &v1alpha1.Ticket{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name},
		Spec: v1alpha1.TicketSpec{
			System:     "sys",
			BatchKey:   name,
			OpenedTime: *now,
			Violations: []v1alpha1.Violation{{Invariant: "store-down", StoreID: "3", Reason: v1alpha1.Violated,
				Severity: v1alpha1.Critical, Message: "store 3 is Down", FirstSeenTime: *now}},
		},
		Status: v1alpha1.TicketStatus{
			State: v1alpha1.Open, Severity: v1alpha1.Critical, Summary: "store-down(3)", Occurrences: 1,
			FirstSeenTime: now, LastSeenTime: now,
			Violations: []v1alpha1.ViolationStatus{{Invariant: "store-down", StoreID: "3", Reason: v1alpha1.Violated,
				Active: true, Occurrences: 1, LastSeenTime: now}},
		},
	}
	for _, c := range change {
		c(t)
	}
	status := t.Status
	must(b.t, b.api.Create(b.t.Context(), t))
	t.Status = status
	must(b.t, b.api.Status().Update(b.t.Context(), t))
	return t
}

func severity(s v1alpha1.Severity) func(*v1alpha1.Ticket) {
	return func(t *v1alpha1.Ticket) { t.Status.Severity = s }
}

func state(s v1alpha1.TicketState) func(*v1alpha1.Ticket) {
	return func(t *v1alpha1.Ticket) { t.Status.State = s }
}

func labeled(key, value string) func(*v1alpha1.Ticket) {
	return func(t *v1alpha1.Ticket) { t.Labels = map[string]string{key: value} }
}

func annotations(a map[string]string) func(*v1alpha1.Ticket) {
	return func(t *v1alpha1.Ticket) { t.Annotations = a }
}

// cleared is a ticket whose only violation has cleared.
func cleared(t *v1alpha1.Ticket) {
	t.Status.Violations[0].Active = false
	t.Status.Violations[0].ClearedTime = v1alpha1.NewTime(time.Now())
}

func ago(d time.Duration) *v1alpha1.Time { return v1alpha1.NewTime(time.Now().Add(-d)) }

// stored is the ticket as it is now.
func (b *bench) stored(name string) *v1alpha1.Ticket {
	b.t.Helper()
	t := &v1alpha1.Ticket{}
	must(b.t, b.api.Get(b.t.Context(), client.ObjectKey{Namespace: b.namespace, Name: name}, t))
	return t
}

// nextSecond waits until the API server would note a later time than that of the ticket.
func (b *bench) nextSecond(t *v1alpha1.Ticket) {
	b.t.Helper()
	must(b.t, wait.PollUntilContextTimeout(b.t.Context(), 10*time.Millisecond, 5*time.Second, true, func(context.Context) (bool, error) {
		return time.Now().Unix() > t.CreationTimestamp.Unix(), nil
	}))
}

// roundTripper is a function that answers requests.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
