package judge

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// checks are the checks of one Invariant, one after another.
type checks struct {
	t       *testing.T
	program *Program
	past    Past
}

func checksOf(t *testing.T, spec *v1alpha1.InvariantSpec) *checks {
	t.Helper()
	return &checks{t: t, program: compile(t, spec)}
}

// next is the next check, of a body.
func (c *checks) next(text string) Result {
	c.t.Helper()
	return c.observe(body(c.t, text))
}

func (c *checks) observe(o verdict.Observation) Result {
	return c.program.JudgeAfter(c.t.Context(), &c.past, o, moment)
}

func failure() verdict.Observation {
	return verdict.Observation{Fault: &verdict.Fault{Reason: verdict.Timeout, Message: "no whole answer"}}
}

func growing() *v1alpha1.InvariantSpec { return stores("self.applied > oldSelf.applied") }

func wantFirstReading(t *testing.T, v verdict.Verdict) {
	t.Helper()
	want := verdict.Fault{Reason: verdict.FirstReading, Message: "oldSelf: this is the first reading, so there is none to compare it with; the next check has one"}
	if v.Fault == nil || *v.Fault != want {
		t.Errorf("store %q is %v with the fault %v", v.StoreID, v.Truth, v.Fault)
	}
}

func TestTheFirstReadingOfAStoreHasNoneToBeComparedWith(t *testing.T) {
	t.Parallel()
	c := checksOf(t, growing())
	r := c.next(`[{"id": 1, "applied": 5}, {"id": 2, "applied": 7}]`)
	wantStores(t, r, map[string]verdict.Truth{"1": verdict.Unknown, "2": verdict.Unknown})
	for _, v := range r.Verdicts {
		wantFirstReading(t, v)
	}
	r = compile(t, growing()).Judge(t.Context(), body(t, `[{"id": 1, "applied": 6}]`), moment)
	wantStores(t, r, map[string]verdict.Truth{"1": verdict.Unknown})
}

func TestEachStoreIsComparedWithItsOwnReadingInTheGoodObservationBefore(t *testing.T) {
	t.Parallel()
	c := checksOf(t, growing())
	c.next(`[{"id": 1, "applied": 5}, {"id": 2, "applied": 7}]`)
	wantStores(t, c.next(`[{"id": 2, "applied": 7}, {"id": 1, "applied": 6}]`), map[string]verdict.Truth{"1": verdict.Satisfied, "2": verdict.Violated})
	wantStores(t, c.next(`[{"id": 1, "applied": 6}, {"id": 2, "applied": 8}]`), map[string]verdict.Truth{"1": verdict.Violated, "2": verdict.Satisfied})
}

func TestAFailedObservationLeavesTheReadingBeforeItToCompareWith(t *testing.T) {
	t.Parallel()
	c := checksOf(t, growing())
	c.next(`[{"id": 1, "applied": 5}]`)
	for name, failed := range map[string]verdict.Observation{
		"no answer":        failure(),
		"no list":          body(t, `{"id": 1}`),
		"too few readings": body(t, `[]`),
	} {
		if r := c.observe(failed); r.Fault == nil {
			t.Errorf("%s: the judgement is %+v", name, r)
		}
	}
	wantStores(t, c.next(`[{"id": 1, "applied": 5}]`), map[string]verdict.Truth{"1": verdict.Violated})
}

func TestAReadingThatCannotBeJudgedIsStillTheOneToCompareTheNextWith(t *testing.T) {
	t.Parallel()
	c := checksOf(t, stores("self.applied > oldSelf.?applied.orValue(0)"))
	c.next(`[{"id": 1, "applied": 5}]`)
	wantStores(t, c.next(`[{"id": 1}]`), map[string]verdict.Truth{"1": verdict.Unknown})
	wantStores(t, c.next(`[{"id": 1, "applied": 1}]`), map[string]verdict.Truth{"1": verdict.Satisfied})
}

func TestAStoreThatTheLastGoodObservationDidNotListStartsAnew(t *testing.T) {
	t.Parallel()
	c := checksOf(t, growing())
	c.next(`[{"id": 1, "applied": 5}, {"id": 2, "applied": 5}]`)
	c.next(`[{"id": 1, "applied": 6}]`)
	r := c.next(`[{"id": 1, "applied": 7}, {"id": 2, "applied": 9}, {"id": 3, "applied": 1}]`)
	wantStores(t, r, map[string]verdict.Truth{"1": verdict.Satisfied, "2": verdict.Unknown, "3": verdict.Unknown})
	wantFirstReading(t, r.Verdicts[1])
	wantFirstReading(t, r.Verdicts[2])
}

// series is what a query gives of one store; a fault in place of a value that is no number.
func series(value float64, fault *verdict.Fault) verdict.Observation {
	return verdict.Observation{Readings: []verdict.Reading{{Value: map[string]any{"value": value, "labels": map[string]any{"instance": "1"}}, Fault: fault}}}
}

func TestAReadingThatIsNoNumberIsPassedOverByOldSelf(t *testing.T) {
	t.Parallel()
	nan := &verdict.Fault{Reason: verdict.NotANumber, Message: "the query gives NaN"}
	for name, spec := range map[string]*v1alpha1.InvariantSpec{
		"of a store":   {StoreID: "self.labels.instance", Expression: "self.value >= oldSelf.value"},
		"of the whole": {Expression: "self[0].value >= oldSelf[0].value"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program, past := compile(t, spec), &Past{}
			for n, check := range []struct {
				seen verdict.Observation
				want verdict.Truth
			}{
				{series(7, nil), verdict.Unknown},
				{series(7, nil), verdict.Satisfied},
				{series(0, nan), verdict.Unknown},
				{series(0, nan), verdict.Unknown},
				{series(5, nil), verdict.Violated},
				{series(5, nil), verdict.Satisfied},
			} {
				if r := program.JudgeAfter(t.Context(), past, check.seen, moment); r.Truth() != check.want {
					t.Errorf("check %d says %v for %v, want %v", n+1, r.Truth(), r.FirstFault(), check.want)
				}
			}
		})
	}
}

func TestWithoutAStoreIDTheListsOfReadingsAreCompared(t *testing.T) {
	t.Parallel()
	spec := stores("self.size() >= oldSelf.size() && self[0].applied > oldSelf[0].applied")
	spec.StoreID = ""
	spec.Message = "string(oldSelf.size()) + ' have become ' + string(self.size())"
	c := checksOf(t, spec)
	if r := c.next(`[{"applied": 1}, {"applied": 1}]`); r.Fault == nil || r.Fault.Reason != verdict.FirstReading {
		t.Errorf("the first judgement is %+v", r)
	}
	wantStores(t, c.next(`[{"applied": 2}, {"applied": 2}]`), map[string]verdict.Truth{"": verdict.Satisfied})
	r := c.next(`[{"applied": 3}]`)
	wantStores(t, r, map[string]verdict.Truth{"": verdict.Violated})
	if r.Verdicts[0].Message != "2 have become 1" {
		t.Errorf("the message is %q", r.Verdicts[0].Message)
	}
}

func TestOfReadingsThatShareAStoreTheLastIsComparedWithAndTheWorstHolds(t *testing.T) {
	t.Parallel()
	c := checksOf(t, growing())
	c.next(`[{"id": 1, "applied": 9}, {"id": 1, "applied": 5}]`)
	wantStores(t, c.next(`[{"id": 1, "applied": 6}, {"id": 1, "applied": 7}]`), map[string]verdict.Truth{"1": verdict.Satisfied})
	wantStores(t, c.next(`[{"id": 1, "applied": 8}, {"id": 1, "applied": 7}]`), map[string]verdict.Truth{"1": verdict.Violated})
}

func TestAMessageMayLookBack(t *testing.T) {
	t.Parallel()
	spec := growing()
	spec.Message = "'still at ' + string(oldSelf.applied)"
	c := checksOf(t, spec)
	c.next(`[{"id": 1, "applied": 5}]`)
	if r := c.next(`[{"id": 1, "applied": 5}]`); len(r.Verdicts) != 1 || r.Verdicts[0].Message != "still at 5" {
		t.Errorf("the judgement is %+v", r)
	}
	spec.Expression = "self.applied > 9"
	c = checksOf(t, spec)
	wantFirstReading(t, c.next(`[{"id": 1, "applied": 5}]`).Verdicts[0])
	if r := c.next(`[{"id": 1, "applied": 6}]`); len(r.Verdicts) != 1 || r.Verdicts[0].Message != "still at 5" {
		t.Errorf("the judgement is %+v", r)
	}
}

func TestMoreThanCanBeKeptUntilTheNextCheckIsRefused(t *testing.T) {
	t.Parallel()
	answer := func(values int) string { return `[{"id": 1, "applied": [` + strings.Repeat("1,", values) + `1]}]` }
	spec := stores("self.applied == oldSelf.applied")
	c := checksOf(t, spec)
	c.next(answer(MaxPast / 2))
	if kept := c.past.Values(); kept < MaxPast/2 || kept > MaxPast/2+20 {
		t.Errorf("%d values are kept of %d", kept, MaxPast/2)
	}
	wantFault(t, c.next(answer(MaxPast)), verdict.TooLarge, "oldSelf: the readings have more than 100000 values, which is more than is kept until the next check; "+
		"let items, a query or a selector pick out less")
	wantFault(t, c.next(`[{"id": 1, "applied": "`+strings.Repeat("x", 10*MaxPast)+`"}]`), verdict.TooLarge, "oldSelf: the readings have more than 100000 values, which is more than is kept until the next check; "+
		"let items, a query or a selector pick out less")
	wantStores(t, c.next(answer(MaxPast/2)), map[string]verdict.Truth{"1": verdict.Satisfied})
	c.past.Forget()
	if c.past.Values() != 0 {
		t.Errorf("%d values are kept of what is forgotten", c.past.Values())
	}
	wantFirstReading(t, c.next(`[{"id": 1, "applied": []}]`).Verdicts[0])
	c = checksOf(t, stores("true"))
	if c.next(answer(MaxPast)); c.past.Values() != 0 {
		t.Errorf("%d values are kept where nothing looks back", c.past.Values())
	}
}

func TestOnlyExpressionAndMessageMayLookBack(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*v1alpha1.InvariantSpec){
		"storeID":           func(s *v1alpha1.InvariantSpec) { s.StoreID = "string(oldSelf.id)" },
		"source.http.items": func(s *v1alpha1.InvariantSpec) { s.Source.HTTP.Items = "oldSelf" },
		"snapshot capacity": func(s *v1alpha1.InvariantSpec) {
			s.Snapshot = []v1alpha1.SnapshotSpec{{Name: "capacity", Expression: "oldSelf"}}
		},
		"snapshot p99.with.instance": func(s *v1alpha1.InvariantSpec) {
			s.Snapshot = []v1alpha1.SnapshotSpec{{Name: "p99", Query: `up{instance="$instance"}`, With: map[string]v1alpha1.CELString{"instance": "oldSelf.address"}}}
		},
	} {
		spec := stores("self.up")
		change(spec)
		_, err := Compile(spec)
		var fault *verdict.Fault
		if !errors.As(err, &fault) || fault.Reason != verdict.InvalidExpression || !strings.HasPrefix(fault.Message, "spec."+field+": ") ||
			!strings.Contains(fault.Message, "undeclared reference to 'oldSelf'") {
			t.Errorf("%s: the error is %v", field, err)
		}
	}
}

// versioned is an observation with a version, of readings that each have an id, a version, and whether they are up.
func versioned(version string, readings ...verdict.Reading) verdict.Observation {
	return verdict.Observation{Version: version, Readings: readings}
}

func member(id int, version string, up bool) verdict.Reading {
	return verdict.Reading{Version: version, Value: map[string]any{"id": int64(id), "up": up}}
}

// Whether something is judged again is told by giving it another value under the same version, which no source does.

func TestAReadingThatHasNotChangedIsNotJudgedAgain(t *testing.T) {
	t.Parallel()
	spec := stores("self.up")
	spec.Source.HTTP.Items = ""
	c := checksOf(t, spec)
	wantStores(t, c.observe(versioned("", member(1, "a", true), member(2, "b", false))), map[string]verdict.Truth{"1": verdict.Satisfied, "2": verdict.Violated})
	r := c.observe(versioned("", member(1, "a", false), member(2, "b", true), member(3, "c", false), member(4, "", false)))
	wantStores(t, r, map[string]verdict.Truth{"1": verdict.Satisfied, "2": verdict.Violated, "3": verdict.Violated, "4": verdict.Violated})
	if len(r.Violating) != 3 {
		t.Errorf("the evidence is %v", r.Violating)
	}
	r = c.observe(versioned("", member(1, "a2", false), member(2, "b", true), member(4, "", true)))
	wantStores(t, r, map[string]verdict.Truth{"1": verdict.Violated, "2": verdict.Violated, "4": verdict.Satisfied})
	if c.observe(failure()); len(c.past.judged) != 2 {
		t.Errorf("verdicts on %d readings are kept", len(c.past.judged))
	}
	wantStores(t, c.observe(versioned("", member(2, "b", true), member(3, "c", true))), map[string]verdict.Truth{"2": verdict.Violated, "3": verdict.Satisfied})
}

func TestAReadingThatCouldNotBeJudgedIsJudgedAgain(t *testing.T) {
	t.Parallel()
	spec := stores("self.up")
	spec.Source.HTTP.Items = ""
	c := checksOf(t, spec)
	wantStores(t, c.observe(versioned("", verdict.Reading{Version: "a", Value: map[string]any{"id": int64(1)}})), map[string]verdict.Truth{"1": verdict.Unknown})
	wantStores(t, c.observe(versioned("", member(1, "a", true))), map[string]verdict.Truth{"1": verdict.Satisfied})
}

func TestAnObservationThatHasNotChangedSaysTheSame(t *testing.T) {
	t.Parallel()
	spec := stores("self.up")
	spec.Source.HTTP.Items = ""
	c := checksOf(t, spec)
	first := c.observe(versioned("v1", member(1, "a", true), member(2, "", false)))
	c.observe(failure())
	again := c.observe(versioned("v1", member(1, "x", false), member(2, "", true)))
	if fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("the same observation says\n%+v, and said\n%+v", again, first)
	}
	// Of another, only what has changed is judged.
	wantStores(t, c.observe(versioned("v2", member(1, "a", false), member(2, "", true))), map[string]verdict.Truth{"1": verdict.Satisfied, "2": verdict.Satisfied})
	wantStores(t, c.observe(versioned("v1", member(1, "x", false), member(2, "", true))), map[string]verdict.Truth{"1": verdict.Violated, "2": verdict.Satisfied})
}

func TestWhatDependsOnTheTimeOrOnTheReadingBeforeIsJudgedInEachCheck(t *testing.T) {
	t.Parallel()
	for _, change := range []func(*v1alpha1.InvariantSpec){
		func(s *v1alpha1.InvariantSpec) { s.Expression = "self.up && now > timestamp('2026-01-01T00:00:00Z')" },
		func(s *v1alpha1.InvariantSpec) { s.Message = "string(now)" },
		func(s *v1alpha1.InvariantSpec) { s.StoreID = "string(self.id) + string(now).substring(0, 0)" },
		func(s *v1alpha1.InvariantSpec) { s.Expression = "self.up || oldSelf == now" },
		func(s *v1alpha1.InvariantSpec) { s.Expression = "self.up && [now].all(now, now == .now)" },
		func(s *v1alpha1.InvariantSpec) { s.Expression = "self.up || oldSelf == null" },
		func(s *v1alpha1.InvariantSpec) { s.Message = "string(oldSelf.id)" },
	} {
		spec := stores("self.up")
		spec.Source.HTTP.Items = ""
		change(spec)
		c := checksOf(t, spec)
		c.observe(versioned("v1", member(1, "a", true)))
		r := c.observe(versioned("v1", member(1, "a", true)))
		wantStores(t, r, map[string]verdict.Truth{"1": verdict.Satisfied})
		r = c.observe(versioned("v1", member(1, "a", false)))
		wantStores(t, r, map[string]verdict.Truth{"1": verdict.Violated})
	}
}

func TestAViolationsEvidenceIsNotKeptForNothing(t *testing.T) {
	t.Parallel()
	c := checksOf(t, stores("self.up"))
	if r := c.next(`[{"id": 1, "up": false}]`); len(r.Violating) != 1 || len(c.past.result.Violating) != 0 {
		t.Errorf("the evidence is %v, and the past keeps %v", r.Violating, c.past.result.Violating)
	}
}

func TestALongMessageIsCutWhereATicketWouldCutIt(t *testing.T) {
	t.Parallel()
	spec := stores("false")
	spec.Message = "self.text"
	r := judged(t, spec, `[{"id": 1, "text": "`+strings.Repeat("漢", 100_000)+`"}]`)
	if len(r.Verdicts) != 1 || len(r.Verdicts[0].Message) > 1024 || !strings.HasSuffix(r.Verdicts[0].Message, "漢…") {
		t.Errorf("the message has %d bytes", len(r.Verdicts[0].Message))
	}
}
