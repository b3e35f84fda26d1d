package controllers

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/observe"
)

// gets counts the requests of each path. Paths that begin with /hang are answered only when the test ends.
type gets struct {
	server *httptest.Server
	over   chan struct{}

	mu    sync.Mutex
	count map[string]int
	// changed is closed, and replaced, at each request.
	changed chan struct{}
}

func newGets(t *testing.T) *gets {
	g := &gets{over: make(chan struct{}), count: map[string]int{}, changed: make(chan struct{})}
	g.server = httptest.NewServer(g)
	t.Cleanup(func() { close(g.over); g.server.Close() })
	return g
}

func (g *gets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.count[r.URL.Path]++
	close(g.changed)
	g.changed = make(chan struct{})
	g.mu.Unlock()
	if len(r.URL.Path) > 5 && r.URL.Path[:5] == "/hang" {
		select {
		case <-g.over:
		case <-r.Context().Done():
		}
		return
	}
	_, _ = w.Write([]byte(`{"ok":true}`))
}

// waitFor waits until each path has that many requests, and returns the counts of all paths.
func (g *gets) waitFor(t *testing.T, paths []string, atLeast int) map[string]int {
	t.Helper()
	timeout := time.After(2 * time.Minute)
	for {
		g.mu.Lock()
		missing, changed, counts := 0, g.changed, map[string]int{}
		for path, n := range g.count {
			counts[path] = n
		}
		g.mu.Unlock()
		for _, path := range paths {
			if counts[path] < atLeast {
				missing++
			}
		}
		if missing == 0 {
			return counts
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%d of %d sources were not read %d times", missing, len(paths), atLeast)
		}
	}
}

func TestSystemsOnAHangingSourceHoldUpNoOther(t *testing.T) {
	const systems, hanging, cycles = 200, 10, 6
	ns := fmt.Sprintf("many-%d", namespaces.Add(1))
	must(t, plane.Namespace(t.Context(), ns))
	g := newGets(t)
	api, err := client.New(plane.Config, client.Options{Scheme: testScheme(t)})
	must(t, err)
	var well []string
	for i := range systems {
		path := fmt.Sprintf("/well/%d", i)
		if i < hanging {
			path = fmt.Sprintf("/hang/%d", i)
		} else {
			well = append(well, path)
		}
		must(t, api.Create(t.Context(), &v1alpha1.Invariant{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("inv-%d", i)},
			Spec: v1alpha1.InvariantSpec{
				System:     fmt.Sprintf("sys-%d", i),
				Source:     v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: g.server.URL + path, Timeout: seconds(10)}},
				Expression: "self[0].ok",
			},
		}))
	}
	const interval = time.Second
	startMonitor(t, interval, 2, ns)
	first := g.waitFor(t, well, 2)
	begin := time.Now()
	counts := g.waitFor(t, well, 2+cycles)
	ticks := int(time.Since(begin)/interval) + 1
	for _, path := range well {
		// One tick may fall on either end of the time measured.
		if got := counts[path] - first[path]; got < min(ticks, cycles)-1 || got > ticks+1 {
			t.Errorf("%s was read %d times in %d ticks", path, got, ticks)
		}
	}
	for i := range hanging {
		if counts[fmt.Sprintf("/hang/%d", i)] == 0 {
			t.Errorf("the hanging source %d was never read", i)
		}
	}
}

// startMonitor runs the controller on a manager, with the real clock, in some namespaces.
func startMonitor(t testing.TB, interval time.Duration, workers int, namespaces ...string) {
	t.Helper()
	watched := map[string]cache.Config{}
	for _, namespace := range namespaces {
		watched[namespace] = cache.Config{}
	}
	api := rest.CopyConfig(plane.Config)
	// As in operator monitor.
	api.QPS, api.Burst = 100, 200
	mgr, err := ctrl.NewManager(api, ctrl.Options{
		Scheme:                 testScheme(t),
		Logger:                 logr.Discard(),
		Metrics:                metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress: "0",
		Cache:                  cache.Options{DefaultNamespaces: watched},
		Controller:             config.Controller{SkipNameValidation: ptr.To(true)},
	})
	must(t, err)
	objects := newObjects(t, api, clock.RealClock{})
	observer := observe.NewObserver(observe.AddressPolicy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	observer.Objects = objects
	r := &CycleReconciler{
		Client:   mgr.GetClient(),
		Live:     mgr.GetAPIReader(),
		Observer: observer,
		Objects:  objects,
		Recorder: mgr.GetEventRecorder("monitor"),
		Clock:    clock.RealClock{},
		Interval: interval,
		Workers:  workers,
		Monitor:  "monitor",
	}
	must(t, r.SetupWithManager(mgr))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(t.Context()) }()
	t.Cleanup(func() { must(t, <-done) })
}

func TestANamespaceThatIsHostileDelaysNoOther(t *testing.T) {
	const systems, hostile, cycles, interval = 20, 500, 6, time.Second
	for name, spec := range map[string]func(g *gets, i int) v1alpha1.InvariantSpec{
		"500 sources that hang": func(g *gets, i int) v1alpha1.InvariantSpec {
			return v1alpha1.InvariantSpec{Expression: "self[0].ok",
				Source: v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: fmt.Sprintf("%s/hang/%d", g.server.URL, i), Timeout: seconds(10)}}}
		},
		"500 expressions that take long": func(g *gets, _ int) v1alpha1.InvariantSpec {
			return v1alpha1.InvariantSpec{Expression: "lists.range(3000).all(a, lists.range(900).all(b, a + b >= 0))",
				Source: v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: g.server.URL + "/long"}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			theirs, ours := fmt.Sprintf("many-%d", namespaces.Add(1)), fmt.Sprintf("many-%d", namespaces.Add(1))
			must(t, plane.Namespace(t.Context(), theirs))
			must(t, plane.Namespace(t.Context(), ours))
			g := newGets(t)
			api, err := client.New(plane.Config, client.Options{Scheme: testScheme(t)})
			must(t, err)
			create := func(namespace string, i int, spec v1alpha1.InvariantSpec) {
				spec.System = fmt.Sprintf("sys-%d", i)
				must(t, api.Create(t.Context(), &v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("inv-%d", i)}, Spec: spec}))
			}
			for i := range hostile {
				create(theirs, i, spec(g, i))
			}
			var well []string
			for i := range systems {
				well = append(well, fmt.Sprintf("/well/%d", i))
				create(ours, i, v1alpha1.InvariantSpec{Expression: "self[0].ok", Source: v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: g.server.URL + well[i]}}})
			}
			startMonitor(t, interval, 2, theirs, ours)
			first := g.waitFor(t, well, 2)
			begin := time.Now()
			counts := g.waitFor(t, well, 2+cycles)
			ticks := int(time.Since(begin)/interval) + 1
			for _, path := range well {
				if got := counts[path] - first[path]; got < cycles-1 || ticks > cycles+3 {
					t.Errorf("%s was read %d times in %d ticks", path, got, ticks)
				}
			}
		})
	}
}

func TestACycleOfAThousandStoresAndTenInvariantsIsOneGet(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for i := range 1000 {
		b.source.set(fmt.Sprintf("store-%d", i), "Up")
	}
	for i := range 10 {
		b.invariant(fmt.Sprintf("inv-%d", i))
	}
	b.reconcile()
	for range 3 {
		before := b.source.gets.Load()
		b.cycle()
		if got := b.source.gets.Load() - before; got != 1 {
			t.Errorf("a cycle read the source %d times, want once", got)
		}
	}
	if stores := b.getInvariant("inv-9").Status.Stores; *stores != 1003 {
		t.Errorf("it saw %d stores, want 1003", *stores)
	}
}
