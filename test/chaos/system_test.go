package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/test/chaos/history"
)

// aspect is one of the ways in which a store can be ill, and the Invariant that watches it.
type aspect struct {
	name                      string
	gracePeriod, resolveAfter time.Duration
	// query, if any, is evidence that is asked of Prometheus.
	query string
}

// aspects are broken independently: one that counts at once, one with a grace period, and one that must be well for a while.
var aspects = []aspect{
	{name: "up"},
	{name: "fast", gracePeriod: 4 * time.Second},
	{name: "empty", resolveAfter: 3 * time.Second},
}

// Of all Invariants here.
const (
	interval          = time.Second
	sourceTimeout     = 2 * time.Second
	unobservableAfter = 5 * time.Second
)

// system is an observed system: a namespace, its stores, and what is wrong with them. All that changes in it is noted in the
// history.
type system struct {
	stage     *stage
	namespace string
	// name is spec.system of its Invariants.
	name     string
	interval time.Duration
	aspects  []aspect
	server   *httptest.Server
	looks    atomic.Int64

	mu     sync.Mutex
	stores []string
	// steady are stores that live leaves alone.
	steady []string
	// ends ends the faults that last.
	ends map[history.Place]func(time.Time)
	// silent: the source answers 503.
	silent bool
	// starting: a monitor was started, and its first look shows that it is able.
	starting bool
	unable   func(time.Time)
	looked   chan struct{}
	// broken is what the last look saw broken, and sights how often a look saw a place broken that the one before it saw well.
	broken map[history.Place]bool
	sights map[history.Place]int
	// lastLook and longestGap tell how regularly it is looked at.
	lastLook   time.Time
	longestGap time.Duration
}

// system makes a system of so many stores, all well, and its Invariants.
func (s *stage) system(name string, stores int) *system {
	s.Helper()
	return s.systemOf(&system{namespace: s.name + "-" + name, name: "sys", interval: interval, aspects: aspects}, stores)
}

// systemOf is system with a name, an interval and aspects of its own.
func (s *stage) systemOf(y *system, stores int) *system {
	s.Helper()
	y.stage, y.ends, y.looked = s, map[history.Place]func(time.Time){}, make(chan struct{})
	y.broken, y.sights = map[history.Place]bool{}, map[history.Place]int{}
	for i := range stores {
		y.stores = append(y.stores, fmt.Sprint(i+1))
	}
	y.server = httptest.NewServer(http.HandlerFunc(y.answer))
	s.Cleanup(y.server.Close)
	must(s, s.plane.Namespace(s.ctx, y.namespace))
	s.Cleanup(y.leave)
	for _, a := range y.aspects {
		y.watch(a)
	}
	return y
}

// leave leaves nothing to the monitors of other scenarios that watch all namespaces.
func (y *system) leave() {
	for _, kind := range []client.Object{&v1alpha1.Invariant{}, &v1alpha1.Ticket{}} {
		if err := y.stage.api.DeleteAllOf(context.Background(), kind, client.InNamespace(y.namespace)); err != nil {
			y.stage.Error(err)
		}
	}
}

// watch makes the Invariant of an aspect.
func (y *system) watch(a aspect) {
	y.stage.Helper()
	duration := func(d time.Duration) *v1alpha1.Duration {
		return &v1alpha1.Duration{Duration: metav1.Duration{Duration: d}}
	}
	invariant := &v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Namespace: y.namespace, Name: a.name}, Spec: v1alpha1.InvariantSpec{
		System: y.name, Severity: v1alpha1.Critical, Interval: duration(y.interval), GracePeriod: duration(a.gracePeriod),
		ResolveAfter: duration(a.resolveAfter), UnobservableAfter: duration(unobservableAfter),
		Source:     v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: y.server.URL, Items: "self", Timeout: duration(sourceTimeout)}},
		StoreID:    "self.id",
		Expression: "self." + a.name,
	}}
	if a.query != "" {
		invariant.Spec.Snapshot = []v1alpha1.SnapshotSpec{{Name: "evidence", Query: a.query}}
	}
	must(y.stage, y.stage.api.Create(y.stage.ctx, invariant))
	y.stage.history.Policy(history.Policy{Namespace: y.namespace, Invariant: a.name, Interval: y.interval, Timeout: sourceTimeout,
		GracePeriod: a.gracePeriod, ResolveAfter: a.resolveAfter, UnobservableAfter: unobservableAfter})
}

// answer tells the monitor how the stores are.
func (y *system) answer(w http.ResponseWriter, _ *http.Request) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.looks.Add(1)
	y.noteGap(time.Now())
	if y.starting {
		y.starting = false
		y.unable = y.stage.history.Able(y.namespace, time.Now())
	}
	close(y.looked)
	y.looked = make(chan struct{})
	if y.silent {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	body := make([]map[string]any, 0, len(y.stores)+len(y.steady))
	for _, store := range slices.Concat(y.stores, y.steady) {
		reading := map[string]any{"id": store}
		for _, a := range y.aspects {
			reading[a.name] = y.see(y.place(a, store))
		}
		body = append(body, reading)
	}
	_ = json.NewEncoder(w).Encode(body)
}

// see is what a look sees of a place; y.mu is held.
func (y *system) see(place history.Place) (well bool) {
	broken := y.ends[place] != nil
	if broken && !y.broken[place] {
		y.sights[place]++
	}
	y.broken[place] = broken
	return !broken
}

// noteGap takes the time since the last look; y.mu is held.
func (y *system) noteGap(now time.Time) {
	if !y.lastLook.IsZero() && !y.starting {
		y.longestGap = max(y.longestGap, now.Sub(y.lastLook))
	}
	y.lastLook = now
}

func (y *system) place(a aspect, store string) history.Place {
	return history.Place{Namespace: y.namespace, Invariant: a.name, StoreID: store}
}

// add adds a store, which is well, and which those who live leave alone.
func (y *system) add() (store string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	store = fmt.Sprint("steady-", len(y.steady)+1)
	y.steady = append(y.steady, store)
	return store
}

// lasting is a store of a system of its own, in the same namespace, that is broken until it is mended: whatever monitor checks the
// namespace writes to its ticket in each cycle. Before it is mended, it lasts until a ticket must say so, if a monitor is able.
func (y *system) lasting() (mend func()) {
	y.stage.Helper()
	y.stage.mu.Lock()
	y.stage.lasting = true
	y.stage.mu.Unlock()
	var mended atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `[{"id": "1", "lasting": %t}]`, !mended.Load())
	}))
	y.stage.Cleanup(server.Close)
	const name = "lasting"
	invariant := &v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Namespace: y.namespace, Name: name}, Spec: v1alpha1.InvariantSpec{
		System: name, Interval: &v1alpha1.Duration{Duration: metav1.Duration{Duration: interval}},
		Source:  v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: server.URL, Items: "self"}},
		StoreID: "self.id", Expression: "!self.lasting",
	}}
	end := y.stage.history.Begin(history.Place{Namespace: y.namespace, Invariant: name, StoreID: "1"}, v1alpha1.Violated, time.Now())
	y.stage.history.Policy(history.Policy{Namespace: y.namespace, Invariant: name, Interval: interval, Timeout: sourceTimeout})
	must(y.stage, y.stage.api.Create(y.stage.ctx, invariant))
	return func() {
		wait(y.stage.ctx, 3*interval+busy.Late)
		mended.Store(true)
		end(time.Now())
	}
}

// turn breaks what is well and mends what is broken.
func (y *system) turn(a aspect, store string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.set(y.place(a, store), y.ends[y.place(a, store)] == nil, v1alpha1.Violated)
}

// together breaks or mends an aspect of many stores at the same moment: one look sees all of it.
func (y *system) together(a aspect, stores []string, broken bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, store := range stores {
		y.set(y.place(a, store), broken, v1alpha1.Violated)
	}
}

// set breaks or mends a place; y.mu is held.
func (y *system) set(place history.Place, broken bool, reason v1alpha1.ViolationReason) {
	end := y.ends[place]
	switch {
	case broken && end == nil:
		y.ends[place] = y.stage.history.Begin(place, reason, time.Now())
	case !broken && end != nil:
		end(time.Now())
		delete(y.ends, place)
	}
}

// silence makes the source answer nobody, or ends that.
func (y *system) silence(silent bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.silent = silent
	for _, a := range y.aspects {
		y.set(y.place(a, ""), silent, v1alpha1.Unobservable)
	}
}

// heal mends all.
func (y *system) heal() {
	y.silence(false)
	y.mu.Lock()
	defer y.mu.Unlock()
	for place := range y.ends {
		y.set(place, false, v1alpha1.Violated)
	}
}

// monitored notes that a monitor was started: its next look shows that it is able.
func (y *system) monitored() {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.unable == nil {
		y.starting = true
	}
}

// unmonitored notes that no monitor is able any more.
func (y *system) unmonitored() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.starting = false
	if y.unable != nil {
		y.unable(time.Now())
		y.unable = nil
	}
}

// nextLook waits for a look that begins after now, and tells whether there was one in that time.
func (y *system) nextLook(ctx context.Context, within time.Duration) bool {
	y.mu.Lock()
	looked := y.looked
	y.mu.Unlock()
	select {
	case <-looked:
		return true
	case <-ctx.Done():
	case <-time.After(within):
	}
	return false
}

// firstLook waits for the first look of a monitor that was started.
func (y *system) firstLook(ctx context.Context, m *monitor) {
	if !y.nextLook(ctx, startsWithin) {
		y.stage.Errorf("%s did not look within %s of its start", m.name, startsWithin)
	}
}

// pace is between which two times a system's stores, and its source, stay well and ill.
type pace struct {
	well, ill             [2]time.Duration
	sourceWell, sourceIll [2]time.Duration
}

// brisk leaves just enough time to tell one fault from the next.
var brisk = pace{
	well: [2]time.Duration{3 * time.Second, 12 * time.Second}, ill: [2]time.Duration{3 * time.Second, 12 * time.Second},
	sourceWell: [2]time.Duration{15 * time.Second, 40 * time.Second}, sourceIll: [2]time.Duration{3 * time.Second, 12 * time.Second},
}

// live breaks and mends things at random until the context ends, and now and then the source answers nobody.
func (y *system) live(ctx context.Context) { y.liveAt(ctx, brisk) }

// liveAt lives at a pace.
func (y *system) liveAt(ctx context.Context, p pace) {
	rng := y.stage.fork()
	var all []*turning
	for _, a := range y.aspects {
		for _, store := range y.stores {
			all = append(all, &turning{do: func(bool) { y.turn(a, store) }, well: p.well, ill: p.ill})
		}
	}
	all = append(all, &turning{do: y.silence, well: p.sourceWell, ill: p.sourceIll})
	turnAll(ctx, rng, all)
}

// turnAll turns things until the context ends.
func turnAll(ctx context.Context, rng *rand.Rand, all []*turning) {
	for wait(ctx, 50*time.Millisecond) {
		for _, t := range all {
			t.turn(rng, time.Now())
		}
	}
}

// turning is something that is well and ill in turn, each for a random time between two.
type turning struct {
	do        func(ill bool)
	well, ill [2]time.Duration

	next  time.Time
	isIll bool
}

func (t *turning) turn(rng *rand.Rand, now time.Time) {
	switch {
	case t.next.IsZero():
		t.next = now.Add(between(rng, 0, t.well[1]))
		return
	case now.Before(t.next):
		return
	}
	t.isIll = !t.isIll
	t.do(t.isIll)
	lasts := t.well
	if t.isIll {
		lasts = t.ill
	}
	t.next = now.Add(between(rng, lasts[0], lasts[1]))
}
