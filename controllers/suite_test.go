package controllers

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/observe"
	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/hack/controlplane/controlplanetest"
)

var plane *controlplane.ControlPlane

func TestMain(m *testing.M) { controlplanetest.Main(m, &plane) }

func testScheme(t testing.TB) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	must(t, clientgoscheme.AddToScheme(scheme))
	must(t, v1alpha1.AddToScheme(scheme))
	return scheme
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// monitorConfig is how the monitor reaches the API server: as its ServiceAccount, with exactly the role of config/rbac.
var monitorConfig = sync.OnceValues(func() (*rest.Config, error) {
	ctx := context.Background()
	if err := plane.Namespace(ctx, "operator-system"); err != nil {
		return nil, err
	}
	for _, file := range []string{"service_account.yaml", "role.yaml", "role_binding.yaml",
		"observed_role.yaml", "observed_role_binding.yaml", "observe_workloads_role.yaml"} {
		if _, _, err := controlplane.Kubectl(ctx, plane.Kubeconfig, "", "apply", "-f", "../config/rbac/"+file); err != nil {
			return nil, err
		}
	}
	config, _, err := plane.ServiceAccount(ctx, "operator-system", "operator-monitor")
	return config, err
})

var namespaces atomic.Int32

// start is when all histories begin.
var start = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

// bench is a namespace on a real API server, an observed system, and a monitor whose clock the test steps.
type bench struct {
	t         *testing.T
	ctx       context.Context
	namespace string
	// system is the one whose cycles run.
	system string
	// api is an administrator's, live and cache are the monitor's.
	api   client.Client
	live  client.Client
	cache client.Client
	clock *testingclock.FakeClock
	// requests counts what the monitor asks of the API server.
	requests atomic.Int64
	// prometheusURL is the monitor's --prometheus-url.
	prometheusURL string
	source        *stores
	monitor       *CycleReconciler
	tender        *TicketReconciler
	events        *eventLog
	// objects is where the monitor of the moment reads Kubernetes objects, and objectsConfig how.
	objects       *observe.Objects
	objectsConfig *rest.Config
	kinds         observe.KindFinder
	// writer, if set, stands between the monitor and the API server.
	writer func(client.Client) client.Client
}

func newBench(t *testing.T) *bench {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	b := &bench{t: t, ctx: ctx, namespace: fmt.Sprintf("bench-%d", namespaces.Add(1)), clock: testingclock.NewFakeClock(start), system: testSystem, source: newStores(t), events: &eventLog{}}
	must(t, plane.Namespace(ctx, b.namespace))
	api, err := client.New(plane.Config, client.Options{Scheme: testScheme(t)})
	must(t, err)
	b.api = api
	shared, err := monitorConfig()
	must(t, err)
	config := rest.CopyConfig(shared)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			b.requests.Add(1)
			return next.RoundTrip(r)
		})
	})
	b.live, err = client.New(config, client.Options{Scheme: testScheme(t)})
	must(t, err)
	c, err := cluster.New(config, func(o *cluster.Options) {
		o.Scheme = testScheme(t)
		o.Logger = logr.Discard()
		o.Cache = cache.Options{DefaultNamespaces: map[string]cache.Config{b.namespace: {}}}
	})
	must(t, err)
	must(t, addIndexes(ctx, c.GetFieldIndexer()))
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Start(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	b.cache, b.objectsConfig, b.kinds = c.GetClient(), config, newKinds(t, config)
	b.restart()
	return b
}

// restart replaces the monitor by a new process, which knows only what the API server knows.
func (b *bench) restart() {
	b.t.Helper()
	writer := b.cache
	if b.writer != nil {
		writer = b.writer(b.cache)
	}
	if b.objects != nil {
		b.objects.Keep(b.key(), nil)
	}
	b.objects = newObjects(b.t, b.objectsConfig, b.clock)
	b.objects.Kinds = b.kinds
	b.monitor = &CycleReconciler{
		Client:   writer,
		Live:     b.live,
		Observer: b.observer(),
		Objects:  b.objects,
		Recorder: b.events,
		Clock:    b.clock,
		Interval: DefaultInterval,
		Workers:  1,
		Monitor:  fmt.Sprintf("monitor-%d", namespaces.Add(1)),
	}
	b.monitor.init()
	b.tender = &TicketReconciler{Client: writer, Live: b.live, Recorder: b.events, Clock: b.clock, Retention: DefaultTicketRetention}
	b.tender.init()
	b.monitor.queue = workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
}

// newObjects reads objects as operator monitor does.
func newObjects(t testing.TB, config *rest.Config, clock clock.PassiveClock) *observe.Objects {
	t.Helper()
	config = rest.CopyConfig(config)
	config.Wrap(observe.BoundedLists)
	client, err := dynamic.NewForConfig(config)
	must(t, err)
	return &observe.Objects{Client: client, Kinds: newKinds(t, config), Clock: clock}
}

// newKinds finds kinds as operator monitor does.
func newKinds(t testing.TB, config *rest.Config) observe.KindFinder {
	t.Helper()
	kinds, err := discovery.NewDiscoveryClientForConfig(config)
	must(t, err)
	return observe.KindsOf(kinds)
}

// observer reads sources as operator monitor does.
func (b *bench) observer() *observe.Observer {
	observer := observe.NewObserver(observe.AddressPolicy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	observer.Objects, observer.Identity = b.objects, "system:serviceaccount:operator-system:operator-monitor"
	observer.PrometheusURL = b.prometheusURL
	observer.Secrets = func(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
		secret := &corev1.Secret{}
		return secret, b.live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, secret)
	}
	return observer
}

const testSystem = "sys"

// cycle steps the clock to the next tick and runs the cycle to its end, and then tends the tickets.
func (b *bench) cycle() {
	b.t.Helper()
	b.reconcileNext()
	b.tend()
}

// reconcileNext steps the clock to the next tick and runs the cycle to its end.
func (b *bench) reconcileNext() {
	b.t.Helper()
	b.clock.SetTime(nextTick(b.clock.Now(), DefaultInterval, phase(b.namespace, b.system)))
	b.reconcile()
}

// tend gives each ticket what it needs between cycles.
func (b *bench) tend() {
	b.t.Helper()
	b.settle()
	for _, ticket := range b.list() {
		_, err := b.tender.Reconcile(b.ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&ticket)})
		must(b.t, err)
	}
}

// reconcile runs what is due now to its end.
func (b *bench) reconcile() {
	b.t.Helper()
	b.settle()
	b.once(reconcile.Request{NamespacedName: b.key()})
	if b.looking() {
		b.once(b.woken())
	}
}

// look begins the look that is due and waits for its end. It returns what wakes the system to go on with it.
func (b *bench) look() reconcile.Request {
	b.t.Helper()
	b.settle()
	b.once(reconcile.Request{NamespacedName: b.key()})
	if !b.looking() {
		b.t.Fatal("no look is due")
	}
	return b.woken()
}

// woken waits until a look that is under way wakes its system.
func (b *bench) woken() reconcile.Request {
	request, _ := b.monitor.queue.Get()
	b.monitor.queue.Done(request)
	return request
}

// reconcileNow is reconcile without waiting for what others wrote, which costs requests.
func (b *bench) reconcileNow() {
	b.t.Helper()
	b.once(reconcile.Request{NamespacedName: b.key()})
	for b.looking() {
		b.once(b.woken())
	}
}

// roundTripper is a function that sends requests.
type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// secret makes a Secret, or changes what it holds.
func (b *bench) secret(name string, data map[string]string) {
	b.t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name}}
	_, err := controllerutil.CreateOrUpdate(b.ctx, b.api, secret, func() error {
		secret.StringData = data
		return nil
	})
	must(b.t, err)
}

// replaceSecret makes a Secret hold that and nothing else.
func (b *bench) replaceSecret(name string, data map[string]string) {
	b.t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name}}
	must(b.t, client.IgnoreNotFound(b.api.Delete(b.ctx, secret)))
	b.secret(name, data)
}

// letSecretsBeRead lets the monitor read all Secrets of the namespace.
func (b *bench) letSecretsBeRead() {
	b.t.Helper()
	meta := metav1.ObjectMeta{Namespace: b.namespace, Name: "secrets"}
	must(b.t, b.api.Create(b.ctx, &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get", "list", "watch"}}}}))
	must(b.t, b.api.Create(b.ctx, &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "secrets"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "operator-system", Name: "operator-monitor"}}}))
	must(b.t, wait.PollUntilContextTimeout(b.ctx, 20*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		return b.live.List(ctx, &corev1.SecretList{}, client.InNamespace(b.namespace)) == nil, nil
	}))
}

// looking tells whether a look is under way or over and not taken.
func (b *bench) looking() bool {
	b.monitor.looks.mu.Lock()
	defer b.monitor.looks.mu.Unlock()
	return b.monitor.looks.looks[b.key()] != nil
}

func (b *bench) key() types.NamespacedName {
	return types.NamespacedName{Namespace: b.namespace, Name: b.system}
}

func (b *bench) once(request reconcile.Request) {
	b.t.Helper()
	if _, err := b.monitor.Reconcile(b.ctx, request); err != nil {
		b.t.Fatalf("a reconcile must not return an error, but got: %v", err)
	}
}

// settle waits until the cache has what the API server has.
func (b *bench) settle() {
	b.t.Helper()
	versions := func(c client.Client) string {
		var invariants v1alpha1.InvariantList
		var tickets v1alpha1.TicketList
		must(b.t, c.List(b.ctx, &invariants, client.InNamespace(b.namespace)))
		must(b.t, c.List(b.ctx, &tickets, client.InNamespace(b.namespace)))
		seen := map[string]string{}
		for _, i := range invariants.Items {
			seen["i/"+i.Name] = i.ResourceVersion
		}
		for _, ticket := range tickets.Items {
			seen["t/"+ticket.Name] = ticket.ResourceVersion
		}
		text, err := json.Marshal(seen)
		must(b.t, err)
		return string(text)
	}
	must(b.t, wait.PollUntilContextTimeout(b.ctx, 5*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		return versions(b.cache) == versions(b.api), nil
	}))
}

// invariant applies an Invariant about the stores of the source: each must be Up.
func (b *bench) invariant(name string, change ...func(*v1alpha1.InvariantSpec)) *v1alpha1.Invariant {
	b.t.Helper()
	invariant := &v1alpha1.Invariant{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name},
		Spec: v1alpha1.InvariantSpec{
			System:     testSystem,
			Severity:   v1alpha1.Critical,
			Source:     v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: b.source.url(), Items: "self.stores"}},
			StoreID:    "string(self.id)",
			Expression: "self.state == 'Up'",
			Message:    "'store ' + string(self.id) + ' is ' + self.state",
			Snapshot:   []v1alpha1.SnapshotSpec{{Name: "state", Expression: "self.state"}},
		},
	}
	for _, c := range change {
		c(&invariant.Spec)
	}
	must(b.t, b.api.Create(b.ctx, invariant))
	return invariant
}

func seconds(n int) *v1alpha1.Duration {
	return &v1alpha1.Duration{Duration: metav1.Duration{Duration: time.Duration(n) * time.Second}}
}

func (b *bench) getInvariant(name string) *v1alpha1.Invariant {
	b.t.Helper()
	var invariant v1alpha1.Invariant
	must(b.t, b.api.Get(b.ctx, types.NamespacedName{Namespace: b.namespace, Name: name}, &invariant))
	return &invariant
}

func (b *bench) list() []v1alpha1.Ticket {
	b.t.Helper()
	var list v1alpha1.TicketList
	must(b.t, b.api.List(b.ctx, &list, client.InNamespace(b.namespace)))
	return list.Items
}

// tickets are all tickets, oldest first.
func (b *bench) tickets() []v1alpha1.Ticket {
	b.t.Helper()
	return slices.SortedFunc(slices.Values(b.list()), func(a, b v1alpha1.Ticket) int { return cmp.Compare(a.Number(), b.Number()) })
}

// wantTickets wants these states, oldest first.
func (b *bench) wantTickets(states ...v1alpha1.TicketState) []v1alpha1.Ticket {
	b.t.Helper()
	tickets := b.tickets()
	var got []v1alpha1.TicketState
	for _, ticket := range tickets {
		got = append(got, ticket.Status.State)
	}
	if fmt.Sprint(got) != fmt.Sprint(states) {
		b.t.Fatalf("tickets are %v, want %v\n%s", got, states, b.dump())
	}
	return tickets
}

func (b *bench) dump() string {
	var out strings.Builder
	for _, ticket := range b.tickets() {
		text, _ := json.Marshal(ticket.Status)
		fmt.Fprintf(&out, "%s %s\n", ticket.Name, text)
	}
	return out.String()
}

// edit changes an object as a person would: on what is there now, whatever else happens.
func (b *bench) annotate(ticket, key, value string) {
	b.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value)
	if value == "" {
		patch = fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, key)
	}
	object := &v1alpha1.Ticket{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: ticket}}
	must(b.t, b.api.Patch(b.ctx, object, client.RawPatch(types.MergePatchType, []byte(patch))))
}

func (b *bench) patchStatus(ticket, status string) error {
	object := &v1alpha1.Ticket{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: ticket}}
	return b.api.Status().Patch(b.ctx, object, client.RawPatch(types.MergePatchType, []byte(`{"status":`+status+`}`)))
}

// eventLog is the Events that the monitor wrote.
type eventLog struct {
	mu     sync.Mutex
	events []string
}

// Eventf notes the object's kind and name, the reason and the note.
func (l *eventLog) Eventf(regarding, _ runtime.Object, _, reason, _, note string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, fmt.Sprintf("%s %s: %s", regarding.(client.Object).GetName(), reason, fmt.Sprintf(note, args...)))
}

// since empties the log and returns what was in it.
func (l *eventLog) since() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := l.events
	l.events = nil
	return events
}

// stores is an observed system: an HTTP server that lists its stores.
type stores struct {
	server *httptest.Server
	gets   atomic.Int32

	mu     sync.Mutex
	states map[string]string
	terms  map[string]int
	answer http.HandlerFunc
}

func newStores(t *testing.T) *stores {
	s := &stores{states: map[string]string{"1": "Up", "2": "Up", "3": "Up"}}
	s.server = httptest.NewServer(s)
	t.Cleanup(s.server.Close)
	return s
}

func (s *stores) url() string { return s.server.URL + "/stores" }

func (s *stores) set(store, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states[store] = state
}

func (s *stores) setTerm(store string, term int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terms == nil {
		s.terms = map[string]int{}
	}
	s.terms[store] = term
}

func (s *stores) remove(store string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.states, store)
}

// fail makes the source answer like that; nil makes it well again.
func (s *stores) fail(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *stores) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.gets.Add(1)
	s.mu.Lock()
	answer := s.answer
	type store struct {
		ID    string `json:"id"`
		State string `json:"state"`
		Term  int    `json:"term"`
	}
	var list []store
	for id, state := range s.states {
		list = append(list, store{id, state, s.terms[id]})
	}
	s.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"stores": list})
}

func answers(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}
