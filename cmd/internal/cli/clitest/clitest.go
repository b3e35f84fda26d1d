// Package clitest types commands at a real API server, for tests, and looks at what they print.
package clitest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/cobra"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
	"invariant.dev/operator/cmd/internal/program"
	"invariant.dev/operator/hack/controlplane"
)

// Must ends the test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Bench is a namespace on a real API server, and somebody who types commands. A copy is somebody else in the same
// namespace.
type Bench struct {
	T *testing.T
	// API reads and writes as an administrator.
	API       client.Client
	Namespace string
	// Kubeconfig is a path; it says as whom commands are typed.
	Kubeconfig string
	// Stdin is what commands read from standard input.
	Stdin string
	// Between, if set, stands between the commands and the API server.
	Between func(http.RoundTripper) http.RoundTripper

	command func(cli.Common) *cobra.Command
}

var namespaces atomic.Int32

// NewBench returns a bench in a namespace of its own on plane, for the command that command makes. An administrator
// sits at it.
func NewBench(t *testing.T, plane *controlplane.ControlPlane, command func(cli.Common) *cobra.Command) Bench {
	t.Helper()
	scheme := runtime.NewScheme()
	Must(t, clientgoscheme.AddToScheme(scheme))
	Must(t, v1alpha1.AddToScheme(scheme))
	api, err := client.New(plane.Config, client.Options{Scheme: scheme})
	Must(t, err)
	b := Bench{T: t, API: api, Namespace: fmt.Sprintf("ns-%d", namespaces.Add(1)), Kubeconfig: plane.Kubeconfig, command: command}
	Must(t, plane.Namespace(t.Context(), b.Namespace))
	return b
}

// Anywhere types operator with args, with no namespace of its own.
func (b *Bench) Anywhere(args ...string) Result {
	b.T.Helper()
	var out, errOut bytes.Buffer
	c := cli.NewCommon(genericiooptions.IOStreams{In: strings.NewReader(b.Stdin), Out: &out, ErrOut: &errOut})
	if b.Between != nil {
		c.Flags.WrapConfigFn = func(c *rest.Config) *rest.Config { c.Wrap(b.Between); return c }
	}
	root := program.NewRoot("operator", "", "test")
	root.AddCommand(b.command(c))
	root.SetOut(&out)
	root.SetErr(&errOut)
	root.SetArgs(args)
	code := program.Run(root, &errOut)
	return Result{b.T, strings.Join(args, " "), out.String(), errOut.String(), code}
}

// Run types operator, the command and args, in the bench's namespace.
func (b *Bench) Run(args ...string) Result {
	b.T.Helper()
	name := b.command(cli.NewCommon(genericiooptions.NewTestIOStreamsDiscard())).Name()
	return b.Anywhere(append([]string{name, "--kubeconfig", b.Kubeconfig, "--namespace", b.Namespace}, args...)...)
}

// Grant lets a user do things in the bench's namespace.
func (b *Bench) Grant(user string, rules ...rbacv1.PolicyRule) {
	b.T.Helper()
	meta := metav1.ObjectMeta{Namespace: b.Namespace, Name: user}
	Must(b.T, b.API.Create(b.T.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: rules}))
	Must(b.T, b.API.Create(b.T.Context(), &rbacv1.RoleBinding{ObjectMeta: meta,
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}}}))
	for _, rule := range rules {
		b.await(user, rule)
	}
}

// await waits until the API server, which learns of roles a moment later, lets a user do the first thing of a rule.
func (b *Bench) await(user string, rule rbacv1.PolicyRule) {
	b.T.Helper()
	resource, subresource, _ := strings.Cut(rule.Resources[0], "/")
	attributes := &authorizationv1.ResourceAttributes{Namespace: b.Namespace, Group: rule.APIGroups[0], Resource: resource, Subresource: subresource, Verb: rule.Verbs[0]}
	Must(b.T, wait.PollUntilContextTimeout(b.T.Context(), 10*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: attributes}}
		err := b.API.Create(ctx, review)
		return review.Status.Allowed, err
	}))
}

// May is the rule that allows verbs on a resource of the operator.
func May(resource string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{resource}, Verbs: verbs}
}

// Invariant makes an Invariant that was last checked that long ago, as change makes it. It is gone after the test.
func (b *Bench) Invariant(name string, checked time.Duration, change ...func(*v1alpha1.Invariant)) {
	b.T.Helper()
	i := &v1alpha1.Invariant{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: name},
		Spec: v1alpha1.InvariantSpec{
			Source:     v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: "http://pd:2379/stores"}},
			Expression: "true",
		},
	}
	for _, c := range change {
		c(i)
	}
	Must(b.T, b.API.Create(b.T.Context(), i))
	b.T.Cleanup(func() { Must(b.T, b.API.Delete(context.WithoutCancel(b.T.Context()), i)) })
	i.Status.LastCheckTime = Ago(checked)
	Must(b.T, b.API.Status().Update(b.T.Context(), i))
}

// Ago is the time that long ago.
func Ago(d time.Duration) *v1alpha1.Time { return v1alpha1.NewTime(time.Now().Add(-d)) }

// FreeAddress is one where nobody listens.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Must(t, err)
	defer func() { Must(t, l.Close()) }()
	return l.Addr().String()
}

// RoundTripper is a function that answers requests.
type RoundTripper func(*http.Request) (*http.Response, error)

// RoundTrip answers r.
func (f RoundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
