package controllers

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/ledger"
	"invariant.dev/operator/controllers/observe"
	"invariant.dev/operator/controllers/verdict"
	"invariant.dev/operator/hack/faulty"
)

var update = flag.Bool("update", false, "write the files that tests compare with what they see")

const (
	failuresFile   = "../docs/source-failures.md"
	failuresUpdate = "go test ./controllers -run TestTheTableOfFailures -update"
)

// The timeout of sources that are expected to use it up, and of all others.
const (
	patience = 100 * time.Millisecond
	plenty   = 30 * time.Second
)

// failure is a row of the table: something that goes wrong with a source, and how to make it go wrong.
type failure struct {
	what  string
	stage func(*scene)
}

// section is one table.
type section struct {
	title, intro string
	failures     []failure
	// notes say what is not in the table, and why.
	notes []string
}

// scene is where one failure happens: an Invariant in a namespace of its own, and the observer that reads its source.
type scene struct {
	*testing.T
	cast      *cast
	namespace string
	spec      v1alpha1.InvariantSpec
	observer  *observe.Observer
	clock     *testingclock.FakeClock
	// proxies are those in front of the API server.
	proxies []*apiProxy
	// between, if set, is called between the two looks.
	between func()
}

// cast is what all scenes share.
type cast struct {
	// api is an administrator's client, live the monitor's.
	api, live client.Client
	// config is how the monitor reaches the API server, and mapper the kinds that it knows there.
	config *rest.Config
	mapper meta.RESTMapper
	names  *nameServer
	// logged is what was logged since the test began.
	logged func() string
}

// told is what the user is told of a failure.
type told struct {
	// refused is what kubectl apply is told; then there is nothing else.
	refused          string
	truth            verdict.Truth
	ready, satisfied v1alpha1.Condition
	// violation is the message that the ticket would have.
	violation string
}

// TestTheTableOfFailures makes each source fail in each way and writes down what the user is told, so that whoever reads the table
// reads what happens.
func TestTheTableOfFailures(t *testing.T) {
	// Not parallel: it replaces what is there once for all of the process, the loggers and the resolver.
	c := newCast(t, recordLogs(t))
	sections := []section{urlSection(), endpointsSection(), prometheusSection(t), promQLSection(t), kubernetesSection(), apiServerSection()}
	lines := make([][]string, len(sections))
	t.Run("failures", func(t *testing.T) {
		for i, section := range sections {
			lines[i] = make([]string, len(section.failures))
			for j, f := range section.failures {
				t.Run(section.title+"/"+f.what, func(t *testing.T) {
					t.Parallel()
					s := c.scene(t)
					f.stage(s)
					lines[i][j] = row(f.what, s.play())
				})
			}
		}
	})
	if slices.Contains(slices.Concat(lines...), "") {
		t.Log("not all failures happened: the table is not compared")
		return
	}
	if text := c.logged(); strings.Contains(text, faulty.Secret) {
		t.Errorf("the log repeats what sources answered:\n%s", text)
	}
	if !t.Failed() {
		compare(t, document(sections, lines))
	}
}

// compare requires that the file is up to date, or brings it up to date.
func compare(t *testing.T, want string) {
	t.Helper()
	if *update {
		must(t, os.WriteFile(failuresFile, []byte(want), 0o644)) //nolint:gosec // a document
		return
	}
	have, err := os.ReadFile(failuresFile)
	must(t, err)
	if string(have) == want {
		return
	}
	old := map[string]bool{}
	for line := range strings.Lines(string(have)) {
		old[line] = true
	}
	changed := ""
	for line := range strings.Lines(want) {
		if !old[line] {
			changed += line
		}
	}
	t.Errorf("%s is out of date: run %s, and read what has changed. New lines:\n%s", failuresFile, failuresUpdate, changed)
}

func document(sections []section, lines [][]string) string {
	var b strings.Builder
	b.WriteString(`# What one is told when a source fails

<!-- Written by ` + failuresUpdate + `, which makes each of these failures happen. Do not edit. -->

Each line is a failure, and what the Invariant then says of it: the verdict, and status and reason of the conditions ` + "`Ready` and `Satisfied`" + `.
The message is that of ` + "`Satisfied`" + `; that of ` + "`Ready`" + ` is the same where it is False, and "the source answers" (or, of endpoints, that each answers for itself) where it is True. An Unknown verdict
opens no ticket before ` + "`unobservableAfter`" + ` (2 minutes), and resolves none. Nothing in a message or in the log is from what the
source answered, unless the author's own expression put it there.

Here the sources are ` + "`http://pd:2379`, `http://prometheus:9090`" + ` and the API server, and the Invariant is in the namespace ` + "`tikv-prod`" + `.
Where the message is that of ` + "`kubectl apply`" + `, the API server refuses the Invariant, and nothing is ever read.
`)
	for i, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| what happens | verdict | Ready | Satisfied | message |\n|---|---|---|---|---|\n%s", s.title, s.intro, strings.Join(lines[i], ""))
		if len(s.notes) > 0 {
			b.WriteString("\nNot in this table:\n\n")
		}
		for _, note := range s.notes {
			fmt.Fprintf(&b, "- %s\n", note)
		}
	}
	return b.String()
}

// row is a line of a table.
func row(what string, told told) string {
	cell := func(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
	code := func(text string) string { return "`" + cell(text) + "`" }
	if told.refused != "" {
		return fmt.Sprintf("| %s | — | — | — | kubectl apply: %s |\n", cell(what), code(told.refused))
	}
	message := code(told.satisfied.Message)
	if told.violation != "" {
		message += "<br>ticket: " + code(told.violation)
	}
	return fmt.Sprintf("| %s | %s | %s, %s | %s, %s | %s |\n", cell(what), told.truth,
		told.ready.Status, told.ready.Reason, told.satisfied.Status, told.satisfied.Reason, message)
}

// recordLogs returns what is logged from now on, by whatever logs at all while sources are read: net/http and client-go, as the
// monitor sets them up.
func recordLogs(t *testing.T) func() string {
	var mu sync.Mutex
	var text bytes.Buffer
	out := writerFunc(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(b)
	})
	before := log.Writer()
	log.SetOutput(observe.QuietLog(out))
	klog.SetLogger(textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(out), textlogger.Verbosity(2))))
	t.Cleanup(func() { log.SetOutput(before); klog.ClearLogger() })
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

var _ io.Writer = writerFunc(nil)

func newCast(t *testing.T, logged func() string) *cast {
	t.Helper()
	config, err := monitorConfig()
	must(t, err)
	c := &cast{config: config, names: newNameServer(t), logged: logged}
	c.api, err = client.New(plane.Config, client.Options{Scheme: testScheme(t)})
	must(t, err)
	c.live, err = client.New(config, client.Options{Scheme: testScheme(t)})
	must(t, err)
	httpClient, err := rest.HTTPClientFor(config)
	must(t, err)
	c.mapper, err = apiutil.NewDynamicRESTMapper(config, httpClient)
	must(t, err)
	return c
}

// scene is an empty scene, with the observer of operator monitor.
func (c *cast) scene(t *testing.T) *scene {
	t.Helper()
	s := &scene{T: t, cast: c, namespace: fmt.Sprintf("bench-%d", namespaces.Add(1)), clock: testingclock.NewFakeClock(start)}
	must(t, plane.Namespace(t.Context(), s.namespace))
	s.observer = observe.NewObserver(observe.AddressPolicy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	s.observer.Identity = "system:serviceaccount:operator-system:operator-monitor"
	s.readSecretsWith(c.live)
	s.watchThrough(c.config)
	return s
}

func (s *scene) readSecretsWith(live client.Client) {
	s.observer.Secrets = func(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
		secret := &corev1.Secret{}
		return secret, live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, secret)
	}
}

func (s *scene) key() types.NamespacedName {
	return types.NamespacedName{Namespace: s.namespace, Name: testSystem}
}

// invariant is the Invariant as the API server admits it, with its defaults, or why it does not.
func (s *scene) invariant() (*v1alpha1.Invariant, error) {
	invariant := &v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "failing"}, Spec: *s.spec.DeepCopy()}
	return invariant, s.cast.api.Create(s.Context(), invariant, client.DryRunAll)
}

// play looks at the source twice and is what the user is told, which must be the same both times.
func (s *scene) play() told {
	s.Helper()
	invariant, err := s.invariant()
	if err != nil {
		return told{refused: s.mask(refusal(s.T, err))}
	}
	first := s.tell(invariant)
	if s.between != nil {
		s.between()
	}
	second := s.tell(invariant)
	if first != second {
		s.Errorf("the next cycle says something else:\n%+v\n%+v", first, second)
	}
	for _, text := range []string{first.ready.Message, first.satisfied.Message} {
		if strings.Contains(text, faulty.Secret) {
			s.Errorf("the message repeats what the source answered: %s", text)
		}
	}
	switch {
	case first.ready.Status == metav1.ConditionFalse && (first.ready.Message != first.satisfied.Message || first.ready.Reason != first.satisfied.Reason):
		s.Errorf("Ready says %q, but Satisfied %q", first.ready.Message, first.satisfied.Message)
	case first.ready.Status == metav1.ConditionTrue && first.ready.Message != "the source answers" && !strings.HasPrefix(first.ready.Message, "each endpoint answers for itself"):
		s.Errorf("Ready says %q", first.ready.Message)
	}
	return first
}

// refusal is what the API server has against an object.
func refusal(t *testing.T, err error) string {
	t.Helper()
	var refused *apierrors.StatusError
	if !errors.As(err, &refused) || refused.ErrStatus.Details == nil || len(refused.ErrStatus.Details.Causes) == 0 {
		t.Fatal(err)
	}
	cause := refused.ErrStatus.Details.Causes[0]
	return cause.Field + ": " + cause.Message
}

// tell is what the user is told after one cycle.
func (s *scene) tell(invariant *v1alpha1.Invariant) told {
	s.Helper()
	j := s.check(invariant)
	status := nextStatus(invariant, j, ledger.Memory{}, s.clock.Now())
	t := told{truth: j.Truth()}
	for conditionType, into := range map[string]*v1alpha1.Condition{v1alpha1.ConditionReady: &t.ready, v1alpha1.ConditionSatisfied: &t.satisfied} {
		*into = *v1alpha1.FindCondition(status.Conditions, conditionType)
		into.Message = s.mask(into.Message)
	}
	for _, v := range j.Verdicts {
		if v.Truth == verdict.Violated {
			t.violation = s.mask(v.Message)
		}
	}
	return t
}

// check reads the source and judges what it says, as a cycle does.
func (s *scene) check(invariant *v1alpha1.Invariant) *verdict.Judgement {
	s.Helper()
	program, err := judge.Compile(&invariant.Spec)
	must(s, err)
	look := s.observer.Look(s.Context(), s.key(), []*v1alpha1.InvariantSpec{&invariant.Spec})
	defer look.Release()
	result := program.Judge(s.Context(), look.Observation(&invariant.Spec), s.clock.Now())
	return &result.Judgement
}

// waitUntil checks until the judgement is as wanted.
func (s *scene) waitUntil(what string, done func(*verdict.Judgement) bool) {
	s.Helper()
	invariant, err := s.invariant()
	must(s, err)
	err = wait.PollUntilContextTimeout(s.Context(), 10*time.Millisecond, plenty, true, func(context.Context) (bool, error) {
		return done(s.check(invariant)), nil
	})
	if err != nil {
		s.Fatalf("waiting until %s: %v", what, err)
	}
}

// waitUntilLogged waits until that is logged, by whichever scene.
func (s *scene) waitUntilLogged(what string) {
	s.Helper()
	isLogged := func(context.Context) (bool, error) { return strings.Contains(s.cast.logged(), what), nil }
	if err := wait.PollUntilContextTimeout(s.Context(), 10*time.Millisecond, plenty, true, isLogged); err != nil {
		s.Fatalf("waiting until %q is logged: %v\n%s", what, err, s.cast.logged())
	}
}

var (
	sourceAddress = regexp.MustCompile(`//(127\.0\.0\.1|localhost):[0-9]+`)
	otherAddress  = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)
)

// mask replaces what is another in each run.
func (s *scene) mask(text string) string {
	host := "//pd:2379"
	if s.spec.Source.Prometheus != nil {
		host = "//prometheus:9090"
	}
	text = sourceAddress.ReplaceAllString(text, host)
	text = otherAddress.ReplaceAllString(text, "127.0.0.1:PORT")
	return strings.ReplaceAll(text, s.namespace, "tikv-prod")
}

// secret makes a Secret that the monitor may read.
func (s *scene) secret(name string, data map[string]string) {
	s.Helper()
	s.mayRead(name)
	s.hiddenSecret(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data})
}

// hiddenSecret makes a Secret that the monitor may not read.
func (s *scene) hiddenSecret(secret *corev1.Secret) {
	s.Helper()
	secret.Namespace = s.namespace
	must(s, s.cast.api.Create(s.Context(), secret))
}

// mayRead lets the monitor read the Secret of that name, whether there is one or not, as the message of Ready says.
func (s *scene) mayRead(name string) {
	s.Helper()
	here := metav1.ObjectMeta{Namespace: s.namespace, Name: "operator-reads-" + name}
	must(s, s.cast.api.Create(s.Context(), &rbacv1.Role{ObjectMeta: here,
		Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{name}, Verbs: []string{"get"}}}}))
	must(s, s.cast.api.Create(s.Context(), &rbacv1.RoleBinding{ObjectMeta: here,
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: here.Name},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "operator-system", Name: "operator-monitor"}}}))
	must(s, wait.PollUntilContextTimeout(s.Context(), 10*time.Millisecond, plenty, true, func(ctx context.Context) (bool, error) {
		err := s.cast.live.Get(ctx, types.NamespacedName{Namespace: s.namespace, Name: name}, &corev1.Secret{})
		return !apierrors.IsForbidden(err), nil
	}))
}

// nameServer is a DNS server that knows no name: it says so, or that it failed, or nothing.
type nameServer struct{ conn net.PacketConn }

const (
	// failingName and silentName are the ends of names that the name server fails on, and says nothing about.
	failingName = "failing"
	silentName  = "silent"
)

// newNameServer starts a name server that all of the process asks until the test ends.
func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	var config net.ListenConfig
	conn, err := config.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	must(t, err)
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() { net.DefaultResolver = before; _ = conn.Close() })
	s := &nameServer{conn}
	go s.serve()
	return s
}

func (s *nameServer) serve() {
	query := make([]byte, 512)
	for {
		n, from, err := s.conn.ReadFrom(query)
		if err != nil {
			return
		}
		code := byte(3) // NXDOMAIN
		switch {
		case bytes.Contains(query[:n], []byte(silentName)):
			continue
		case bytes.Contains(query[:n], []byte(failingName)):
			code = 2 // SERVFAIL
		}
		// The query is its own answer, once it says so: RFC 1035, 4.1.1.
		query[2] |= 1 << 7
		query[3] = query[3]&0xf0 | code
		_, _ = s.conn.WriteTo(query[:n], from)
	}
}
