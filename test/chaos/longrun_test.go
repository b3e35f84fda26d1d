package chaos

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/promtest"
	"invariant.dev/operator/test/chaos/history"
)

// leisurely is a pace at which an hour of twenty systems has some thousands of tickets.
var leisurely = pace{
	well: [2]time.Duration{time.Minute, 3 * time.Minute}, ill: [2]time.Duration{5 * time.Second, 30 * time.Second},
	sourceWell: [2]time.Duration{2 * time.Minute, 6 * time.Minute}, sourceIll: [2]time.Duration{3 * time.Second, 20 * time.Second},
}

// TestLongRun lets many systems live and people work for long, and wants that a monitor takes no more of its machine, its network and
// its API server in the end than before. All that comes also goes: what is resolved, people delete; Invariants, their systems and the
// watches that only they need come for a while. The short form wants that what came is gone again when all is quiet.
func TestLongRun(t *testing.T) {
	s := newStage(t, plane)
	flag, address := s.metricsFlag()
	// Of a system whose Invariants are gone, the monitor's own interval is the interval.
	m := s.monitor("long", flag, "--interval=1s", "--ticket-retention=1h")
	w := &watched{stage: s, monitor: m, address: address, scraper: s.scraper(), pace: shortOr(brisk, leisurely)}
	w.build(shortOr(2, 20))
	w.start()
	before := w.vitals()
	living, end := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	w.live(living, &wg)
	if *long {
		w.sample(cmp.Or(*lasts, time.Hour))
		end()
		wg.Wait()
		w.heal()
		facts := w.trends()
		s.settled(busy, facts...)
		return
	}
	wait(s.ctx, 3*time.Second)
	end()
	wg.Wait()
	w.heal()
	// Connections to the API server that were needed at the same time stay for up to 90 s, with two goroutines each.
	const idle = 20
	var now sample
	s.eventually("what came is gone again", 2*time.Minute, func() bool {
		now = w.vitals()
		return now.Goroutines <= before.Goroutines+idle && now.Files <= before.Files+idle/2 && now.watches <= before.watches && now.objects <= before.objects
	})
	s.Logf("before: %s; after: %s", before, now)
	s.settled(busy)
}

// watched is what one monitor watches: systems of each kind of source, and guests.
type watched struct {
	stage   *stage
	monitor *monitor
	address string
	scraper *http.Client
	pace    pace
	systems []*system
	// lives live, each until its context ends, and leave all well.
	lives   []func(ctx context.Context)
	samples []sample
}

// build makes so many systems over HTTP, one of objects, and in the long form one in a Prometheus.
func (w *watched) build(systems int) {
	w.stage.Helper()
	for i := range systems {
		y := w.stage.system(fmt.Sprint(i), 4)
		w.systems = append(w.systems, y)
		w.lives = append(w.lives, func(ctx context.Context) { y.liveAt(ctx, w.pace) })
	}
	// These have no source that notices looks, and share the monitor of a system that does.
	home := w.systems[0]
	w.lives = append(w.lives, home.objects(6, w.pace), home.guests)
	if *long {
		w.lives = append(w.lives, home.series(6, w.pace))
	}
}

// start starts the monitor, and waits until it has looked everywhere.
func (w *watched) start() {
	for _, y := range w.systems {
		y.monitored()
	}
	w.monitor.start()
	for _, y := range w.systems {
		if !y.nextLook(w.stage.ctx, startsWithin) {
			w.stage.Errorf("%s did not look at %s within %s of its start", w.monitor.name, y.namespace, startsWithin)
		}
	}
	w.stage.eventually("it says how it is", startsWithin, func() bool {
		_, err := readVitals(w.scraper, w.address)
		return err == nil
	})
	w.stage.eventually("it watches Invariants, tickets and Deployments", startsWithin, func() bool { return w.monitor.gate.Watches() == 3 })
}

// live lets all live, and people work and tidy up, until the context ends.
func (w *watched) live(ctx context.Context, wg *sync.WaitGroup) {
	for _, live := range w.lives {
		wg.Go(func() { live(ctx) })
	}
	for _, y := range w.systems {
		ana, bob := y.people(), y.people()
		wg.Go(func() { ana.work(ctx, shortOr(time.Second, 5*time.Second)) })
		wg.Go(func() { bob.tidy(ctx, 5*time.Second, time.Minute) })
	}
}

// heal mends all.
func (w *watched) heal() {
	for _, y := range w.systems {
		y.heal()
		y.people().leave(w.stage.ctx)
	}
}

// tidy ends the holds of tickets that nobody works on any more, and deletes what was resolved some time ago, as retention would after a
// longer one, until the context ends.
func (p *people) tidy(ctx context.Context, every, after time.Duration) {
	for wait(ctx, every) {
		tickets := p.stage.history.Latest(p.namespace)
		for i, v := range tickets {
			switch {
			case v.Ticket.Held():
				if time.Since(v.Ticket.Spec.OpenedTime.Go()) > after && i < len(tickets)-worked {
					p.do(ctx, v.Name, history.Unhold)
				}
			case !v.Ticket.IsOpen() && time.Since(v.At) > after:
				p.do(ctx, v.Name, history.Delete)
			}
		}
	}
}

// sample is what the monitor takes at one time.
type sample struct {
	vitals
	// watches are open at the API server, which has so many objects other than tickets and Events.
	watches, objects float64
}

func (s sample) String() string {
	var all []string
	for _, m := range measures {
		all = append(all, fmt.Sprintf("%.0f %s", m.of(s)/m.unit, m.name))
	}
	return strings.Join(all, ", ")
}

// vitals are those of now.
func (w *watched) vitals() sample {
	v, err := readVitals(w.scraper, w.address)
	if err != nil {
		w.stage.Errorf("read the vitals of %s: %v", w.monitor.name, err)
	}
	objects := w.count("/registry/") - w.count("/registry/operator.invariant.dev/tickets/") - w.count("/registry/events/")
	return sample{vitals: v, watches: float64(w.monitor.gate.Watches()), objects: objects}
}

// count is how many objects the API server has.
func (w *watched) count(prefix string) float64 {
	answer, err := w.stage.recorder.Etcd.Get(w.stage.ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		w.stage.Errorf("count what is in %s: %v", prefix, err)
		return 0
	}
	return float64(answer.Count)
}

// sample takes samples for so long.
func (w *watched) sample(lasts time.Duration) {
	const samples = 200
	for deadline := time.Now().Add(lasts); time.Now().Before(deadline) && wait(w.stage.ctx, lasts/samples); {
		w.samples = append(w.samples, w.vitals())
	}
}

// measure is something that must not grow.
type measure struct {
	name string
	of   func(sample) float64
	// unit is what one of what is printed has of what is measured.
	unit float64
	// slack is how much more there may be in the end, beside a tenth, in units.
	slack float64
}

var measures = []measure{
	{"MiB resident", func(s sample) float64 { return s.Memory }, 1 << 20, 8},
	{"MiB live on the heap", func(s sample) float64 { return s.Live }, 1 << 20, 3},
	{"goroutines", func(s sample) float64 { return s.Goroutines }, 1, 5},
	{"files", func(s sample) float64 { return s.Files }, 1, 5},
	{"watches", func(s sample) float64 { return s.watches }, 1, 1},
	{"objects", func(s sample) float64 { return s.objects }, 1, 2},
	{"series of metrics", func(s sample) float64 { return s.Series }, 1, 10},
}

// trends tells how each measure went, and wants that it was no higher in the last quarter than in the second: by then, caches and
// connections are what they will be.
func (w *watched) trends() []string {
	n := len(w.samples)
	if n < 8 {
		w.stage.Errorf("there are only %d samples", n)
		return nil
	}
	facts := []string{fmt.Sprintf("%d systems", len(w.systems))}
	for _, m := range measures {
		var values []float64
		for _, s := range w.samples {
			values = append(values, m.of(s)/m.unit)
		}
		before, after := median(values[n/4:n/2]), median(values[n-n/4:])
		fact := fmt.Sprintf("%.0f %s at first, %.0f in the second quarter, %.0f in the last, %.0f at most", values[0], m.name, before, after, slices.Max(values))
		if after > before*1.1+m.slack {
			w.stage.Errorf("it grows: %s", fact)
		}
		facts = append(facts, fact)
	}
	last, first := w.samples[n-1], w.samples[0]
	return append(facts, fmt.Sprintf("%.0f requests and %.0f s of CPU meanwhile, %.0f Events in the end",
		last.Requests-first.Requests, last.CPU-first.CPU, w.count("/registry/events/")))
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// invariant is an Invariant of a system of that name, and its policy.
func (y *system) invariant(system, name string, spec v1alpha1.InvariantSpec) *v1alpha1.Invariant {
	duration := func(d time.Duration) *v1alpha1.Duration {
		return &v1alpha1.Duration{Duration: metav1.Duration{Duration: d}}
	}
	spec.System, spec.Interval, spec.UnobservableAfter = system, duration(interval), duration(unobservableAfter)
	y.stage.history.Policy(history.Policy{Namespace: y.namespace, Invariant: name, Interval: interval, Timeout: sourceTimeout, UnobservableAfter: unobservableAfter})
	return &v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Namespace: y.namespace, Name: name}, Spec: spec}
}

// objects makes so many Deployments, of which none must be paused, and an Invariant about them. They live at a pace.
func (y *system) objects(n int, p pace) func(ctx context.Context) {
	y.stage.Helper()
	const name = "not-paused"
	must(y.stage, y.stage.api.Create(y.stage.ctx, y.invariant("objects", name, v1alpha1.InvariantSpec{
		Source:  v1alpha1.Source{Kubernetes: &v1alpha1.KubernetesSource{APIVersion: "apps/v1", Kind: "Deployment"}},
		StoreID: "self.metadata.name", Expression: "!self.spec.?paused.orValue(false)",
	})))
	var all []*turning
	for i := range n {
		d := deployment(y.namespace, fmt.Sprintf("app-%d", i))
		must(y.stage, y.stage.api.Create(y.stage.ctx, d))
		var mend func(time.Time)
		all = append(all, &turning{well: p.well, ill: p.ill, do: func(ill bool) {
			if ill {
				mend = y.stage.history.Begin(history.Place{Namespace: y.namespace, Invariant: name, StoreID: d.GetName()}, v1alpha1.Violated, time.Now())
			}
			if err := y.stage.api.Patch(y.stage.ctx, d, merge(map[string]any{"spec": map[string]any{"paused": ill}})); err != nil {
				y.stage.Errorf("pause or resume %s: %v", d.GetName(), err)
			}
			if !ill {
				mend(time.Now())
			}
		}})
	}
	return func(ctx context.Context) { y.turnUntil(ctx, all) }
}

// turnUntil turns things until the context ends, and leaves none ill.
func (y *system) turnUntil(ctx context.Context, all []*turning) {
	turnAll(ctx, y.stage.fork(), all)
	for _, t := range all {
		if t.isIll {
			t.do(false)
		}
	}
}

func deployment(namespace, name string) *unstructured.Unstructured {
	labels := map[string]any{"app": name}
	d := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"replicas": int64(0),
		"selector": map[string]any{"matchLabels": labels},
		"template": map[string]any{
			"metadata": map[string]any{"labels": labels},
			"spec":     map[string]any{"containers": []any{map[string]any{"name": "app", "image": "app"}}},
		},
	}}}
	d.SetGroupVersionKind(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"})
	d.SetNamespace(namespace)
	d.SetName(name)
	return d
}

// series makes so many gauges in a Prometheus, all of which must be 1, and an Invariant about them. They live at a pace.
func (y *system) series(n int, p pace) func(ctx context.Context) {
	y.stage.Helper()
	const name = "all-one"
	// stale is for how long Prometheus may say what no longer is true.
	const stale = 2 * time.Second
	target := promtest.NewTarget(y.stage)
	var all []*turning
	for i := range n {
		store := fmt.Sprint(i + 1)
		gauge := target.Gauge("up_store", prometheus.Labels{"store": store})
		gauge.Set(1)
		var began time.Time
		all = append(all, &turning{well: p.well, ill: p.ill, do: func(ill bool) {
			if ill {
				began = time.Now()
				gauge.Set(0)
				return
			}
			gauge.Set(1)
			ended := time.Now()
			y.stage.history.Note(history.Fault{Place: history.Place{Namespace: y.namespace, Invariant: name, StoreID: store}, Reason: v1alpha1.Violated,
				Span: history.Span{Start: began.Add(stale), End: later(ended, began.Add(stale))}, Possible: history.Span{Start: began, End: ended.Add(2 * stale)}})
		}})
	}
	prom := promtest.Run(y.stage, promtest.Options{Scrape: []promtest.Scrape{{Job: "stores", Targets: []string{target.Address}}}})
	prom.WaitFor(y.stage, "count(up_store)", promtest.Value(float64(n)))
	must(y.stage, y.stage.api.Create(y.stage.ctx, y.invariant("series", name, v1alpha1.InvariantSpec{
		Source:  v1alpha1.Source{Prometheus: &v1alpha1.PrometheusSource{URL: prom.URL, Query: "up_store"}},
		StoreID: "self.labels.store", Expression: "self.value == 1.0", MinStores: ptr.To[int32](1),
	})))
	return func(ctx context.Context) { y.turnUntil(ctx, all) }
}

// guests come and go until the context ends: Invariants of a system of their own, with a watch of their own, that are never satisfied.
func (y *system) guests(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for n := 0; wait(ctx, shortOr(50*time.Millisecond, 2*time.Second)); n++ {
		wg.Go(func() { y.guest(ctx, fmt.Sprintf("guest-%d", n)) })
	}
}

func (y *system) guest(ctx context.Context, name string) {
	api, ctxAll := y.stage.api, y.stage.ctx
	invariant := y.invariant(name, name, v1alpha1.InvariantSpec{
		Source: v1alpha1.Source{Kubernetes: &v1alpha1.KubernetesSource{APIVersion: "v1", Kind: "Service",
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}}},
		Expression: "self.size() > 0", MinStores: ptr.To[int32](0),
	})
	gone := y.stage.history.Begin(history.Place{Namespace: y.namespace, Invariant: name}, v1alpha1.Violated, time.Now())
	if err := api.Create(ctxAll, invariant); err != nil {
		y.stage.Errorf("create %s: %v", name, err)
	}
	wait(ctx, shortOr(time.Second, 8*time.Second))
	if err := api.Delete(ctxAll, invariant); client.IgnoreNotFound(err) != nil {
		y.stage.Errorf("delete %s: %v", name, err)
	}
	gone(time.Now())
}
