package controllers

import (
	"strings"
	"testing"
	"time"

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
