package judge

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

const tooMuch = ": too much to compute in one check; look at fewer stores, or at less of each"

// doubled is an expression that adds a value to itself that often.
func doubled(value string, times int) string {
	expression := "[" + value + "]"
	for i := range times {
		expression = fmt.Sprintf("%s.map(v%d, v%d + v%d)", expression, i, i, i)
	}
	return expression + "[0]"
}

func TestAnExpressionThatCostsTooMuchIsStopped(t *testing.T) {
	t.Parallel()
	list := "[" + strings.TrimSuffix(strings.Repeat("1,", 3000), ",") + "]"
	for name, expression := range map[string]string{
		"loops in a loop":                          "self.all(a, self.all(b, self.all(c, a + b + c > 0)))",
		"a list doubled 60 times":                  doubled("[1]", 60) + ".size() > 0",
		"the sum of a list doubled 40 times":       doubled("[1]", 40) + ".sum() > 0",
		"a list doubled 64 times":                  doubled("[1]", 64) + ".size() > 0",
		"a part of the answer, doubled":            doubled("self", 40) + ".sum() > 0",
		"a list compared with itself":              doubled("self", 30) + " == " + doubled("self", 30),
		"a string doubled 40 times":                doubled("'x'", 40) + " == ''",
		"a string of the answer, doubled":          doubled("dyn(string(self[0]))", 40) + " == ''",
		"a list of the numbers up to a million":    "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20].all(i, lists.range(1000000).size() > 0)",
		"a search in a list for each of its items": "lists.range(5000).all(a, a in dyn(lists.range(5000)))",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := &v1alpha1.InvariantSpec{Source: v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{Items: "self"}}, Expression: expression}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			r := compile(t, spec).Judge(ctx, body(t, list), moment)
			if r.Fault == nil || r.Fault.Reason != verdict.CostExceeded || (r.Fault.Message != "expression"+tooMuch && r.Fault.Message != "expression: the check ran out of time") {
				t.Errorf("the judgement is %v", r.Fault)
			}
			if took := time.Since(began); took > 6*time.Second {
				t.Errorf("it was stopped after %v", took)
			}
		})
	}
}

func TestItemsThatBuildAHugeListAreStopped(t *testing.T) {
	t.Parallel()
	spec := stores("true")
	for _, items := range []string{doubled("self", 40), doubled("self", 64), "lists.range(100000)", "self.map(a, self.map(b, self.map(c, c)))"} {
		spec.Source.HTTP.Items = items
		r := judged(t, spec, "["+strings.TrimSuffix(strings.Repeat("1,", 300), ",")+"]")
		if r.Fault == nil || (r.Fault.Reason != verdict.CostExceeded && r.Fault.Reason != verdict.TooLarge) {
			t.Errorf("%.40s: %v", items, r.Fault)
		}
	}
}

func TestACheckAsAWholeIsBounded(t *testing.T) {
	t.Parallel()
	var readings []string
	for i := range 50 {
		readings = append(readings, fmt.Sprintf(`{"id": %d}`, i))
	}
	spec := stores("lists.range(900000).size() > 0")
	wantFault(t, judged(t, spec, "["+strings.Join(readings, ",")+"]"), verdict.CostExceeded, "expression"+tooMuch)
}

func TestACheckOfAsManyStoresAsItTakesFitsItsBounds(t *testing.T) {
	t.Parallel()
	var readings []string
	for i := range MaxReadings {
		readings = append(readings, fmt.Sprintf(`{"id": %d, "address": "tikv-%d.tikv-peer.tikv-prod.svc:20160", "state": "Down", "labels": [{"key": "zone", "value": "z1"}]}`, i, i))
	}
	spec := stores("self.state in ['Up', 'Offline'] || self.labels.exists(l, l.key == 'zone' && l.value == 'z2')")
	spec.Message = "'store ' + string(self.id) + ' at ' + self.address + ' is ' + self.state + ' since ' + string(now)"
	r := judged(t, spec, "["+strings.Join(readings, ",")+"]")
	if r.Fault != nil || len(r.Stores(verdict.Violated)) != MaxReadings {
		t.Errorf("%d stores are violated, with the fault %v", len(r.Stores(verdict.Violated)), r.Fault)
	}
}

func TestADeadlineEndsALongEvaluation(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	spec := &v1alpha1.InvariantSpec{Expression: "lists.range(3000).all(a, lists.range(900).all(b, a + b >= 0))"}
	began := time.Now()
	wantFault(t, compile(t, spec).Judge(ctx, body(t, "{}"), moment), verdict.CostExceeded, "expression: the check ran out of time")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it ended after %v", took)
	}
}
