package controllers

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/observe"
	"invariant.dev/operator/controllers/verdict"
)

func TestTheTimeOfAFirstCheckIsOfTheWallClockAlone(t *testing.T) {
	t.Parallel()
	s := &scope{system: &system{checks: map[string]*check{"up": {}}}, interval: DefaultInterval, invariants: map[string]*v1alpha1.Invariant{"up": {}}}
	// With a reading of the monotonic clock it would not lie ahead once the clock is set back.
	if _, at := s.due(time.Now()); at != at.Round(0) {
		t.Errorf("%v has a reading of the monotonic clock", at)
	}
}

func TestWhatThereIsNoTimeLeftToJudgeIsNotDecodedEither(t *testing.T) {
	t.Parallel()
	spec := v1alpha1.InvariantSpec{StoreID: "self.name", Expression: "false", Source: v1alpha1.Source{Prometheus: &v1alpha1.PrometheusSource{Query: "up"}}}
	program, err := judge.Compile(&spec)
	must(t, err)
	s := &scope{system: &system{checks: map[string]*check{"up": {program: program}}}, invariants: map[string]*v1alpha1.Invariant{"up": {Spec: spec}}}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	invariant := &v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Name: "up"}, Spec: spec}
	// What is decoded of a look that saw nothing is another fault.
	results := s.judge(over, &look{due: []*v1alpha1.Invariant{invariant}}, observe.NewBudget(1<<20, 1<<20))
	if fault := results["up"].Fault; fault == nil || fault.Reason != verdict.CostExceeded || !strings.HasPrefix(fault.Message, "the check ran out of time: ") {
		t.Errorf("the judgement is %v", fault)
	}
}

func TestWhatItemsMakeOfAnswersIsBoundedTogether(t *testing.T) {
	t.Parallel()
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
	defer source.Close()
	text := "[\"0123456789\"]" + strings.Repeat(".map(v, v + v)", 19)
	spec := v1alpha1.InvariantSpec{StoreID: "'1'", Expression: "false", Source: v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: source.URL, Items: text}}}
	s := &scope{system: &system{checks: map[string]*check{}}, invariants: map[string]*v1alpha1.Invariant{}}
	l := &look{}
	for i := range 20 {
		program, err := judge.Compile(&spec)
		must(t, err)
		invariant := &v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("text-%d", i)}, Spec: spec}
		s.checks[invariant.Name], s.invariants[invariant.Name] = &check{program: program}, invariant
		l.due = append(l.due, invariant)
	}
	observer := observe.NewObserver(observe.AddressPolicy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	l.seen = observer.Look(t.Context(), types.NamespacedName{Namespace: "default", Name: "default"}, []*v1alpha1.InvariantSpec{&spec})
	defer l.seen.Release()
	held := 0
	for name, result := range s.judge(t.Context(), l, observe.NewBudget(1<<20, 1<<20)) {
		switch {
		case result.Fault == nil:
			held += result.Built
		case result.Fault.Reason != verdict.TooLarge || len(result.Violating) != 0:
			t.Errorf("%s: %v", name, result.Fault)
		}
	}
	if held < 50<<20 || held > 64<<20 {
		t.Errorf("%d MiB are held", held>>20)
	}
}

func TestWhatChecksKeepTakesNoMoreMemoryThanThereIs(t *testing.T) {
	t.Parallel()
	seen := verdict.Observation{Version: "1", Readings: []verdict.Reading{
		{Value: map[string]any{"name": "web", "text": strings.Repeat("x", verdict.MaxMessage)}, Version: "web/1"}}}
	for name, test := range map[string]struct {
		expression string
		enough     bool
	}{
		"a verdict is kept, which can be given again": {"self.name == 'api'", true},
		"a reading is kept, which cannot":             {"self.name == oldSelf.name", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program, err := judge.Compile(&v1alpha1.InvariantSpec{StoreID: "self.name", Expression: test.expression, Message: "self.text",
				Source: v1alpha1.Source{Kubernetes: &v1alpha1.KubernetesSource{}}})
			must(t, err)
			c := &check{program: program}
			judged := func() { program.JudgeAfter(t.Context(), &c.past, seen, time.Unix(0, 0)) }
			judged()
			if !c.retain("default", observe.NewBudget(1<<20, 1<<20)) || c.past.Values() < 10 {
				t.Errorf("%d values are kept where there is room", c.past.Values())
			}
			for _, budget := range []*observe.Budget{observe.NewBudget(100, 1<<20), observe.NewBudget(1<<20, 100)} {
				judged()
				if enough := c.retain("default", budget); enough != test.enough || c.past.Values() != 0 {
					t.Errorf("%d values are kept where there is no room; the next check has what it needs: %v", c.past.Values(), enough)
				}
			}
		})
	}
}
