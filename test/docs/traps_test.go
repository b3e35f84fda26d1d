package docs

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/json"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/verdict"
)

// moment is the time of the checks.
var moment = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

// judged is what an expression says of a reading, as the documentation writes it: Satisfied, Violated, or the first line of
// the message of a fault.
func judged(t *testing.T, expression string, reading any) (said string, reason verdict.Reason) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	program, err := judge.Compile(&v1alpha1.InvariantSpec{Source: v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{}}, StoreID: "self.name", Expression: expression})
	fault := (*verdict.Fault)(nil)
	if err == nil {
		r := program.Judge(ctx, verdict.Observation{Readings: []verdict.Reading{{Value: reading}}}, moment)
		if fault = r.FirstFault(); fault == nil {
			return r.Verdicts[0].Truth.String(), ""
		}
	} else if !errors.As(err, &fault) {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(fault.Message, "\n")
	return strings.TrimRight(line, " "), fault.Reason
}

// opposite is what the right expression says where the wrong one says that.
func opposite(said string) string {
	if said == verdict.Satisfied.String() {
		return verdict.Violated.String()
	}
	return verdict.Satisfied.String()
}

func TestEveryTrapCatchesAndEveryWayAroundItLeadsAround(t *testing.T) {
	t.Parallel()
	const section = "CEL's traps"
	d := readDocument(t)
	var reading any
	must(t, json.Unmarshal([]byte(d.in(t, section, "json")[0].text), &reading))
	for _, row := range d.rows(t, section, 4) {
		t.Run(row[0], func(t *testing.T) {
			wrong, sees, right := code(t, row[1]), strings.TrimRight(code(t, row[2]), " "), code(t, row[3])
			said, reason := judged(t, wrong, reading)
			if said != sees {
				t.Errorf("of %s one sees\n%s\nand not\n%s", wrong, said, sees)
			}
			if reason != "" && !strings.Contains(d.text, "`"+string(reason)+"`") {
				t.Errorf("the reason %s is not named", reason)
			}
			if said, _ := judged(t, right, reading); said != opposite(sees) {
				t.Errorf("of %s one sees\n%s\nand not\n%s", right, said, opposite(sees))
			}
		})
	}
	t.Run("an error does not count where the other operand decides", func(t *testing.T) {
		const expression = "self.used > 5 || self.delay > 5"
		if !strings.Contains(d.text, "`"+expression+"`") {
			t.Fatal("the expression is another now")
		}
		if said, _ := judged(t, expression, reading); said != "Satisfied" {
			t.Errorf("it says %s", said)
		}
		if said, _ := judged(t, expression, map[string]any{"name": "tikv-1", "used": int64(5)}); !strings.HasPrefix(said, "expression: no such key: delay") {
			t.Errorf("it says %s of 5", said)
		}
	})
	t.Run("a loop in a loop runs out of time", func(t *testing.T) {
		list := make([]any, judge.MaxReadings)
		for i := range list {
			list[i] = int64(i)
		}
		const message = "expression: the check ran out of time"
		said, reason := judged(t, "self.ids.all(a, self.ids.exists_one(b, a == b))", map[string]any{"name": "tikv-1", "ids": list})
		if said != message || reason != verdict.CostExceeded || !strings.Contains(d.text, "`"+message+"`") {
			t.Errorf("it says %s", said)
		}
	})
}

func TestWhatStandsInAQueryIsAskedAsTheTableSays(t *testing.T) {
	t.Parallel()
	for _, row := range readDocument(t).rows(t, "Evidence", 2) {
		query := code(t, row[0])
		spec := &v1alpha1.InvariantSpec{Source: v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{}}, StoreID: "self.name", Expression: "false",
			Snapshot: []v1alpha1.SnapshotSpec{{Name: "evidence", Query: query}}}
		program, err := judge.Compile(spec)
		if err != nil {
			if want := "InvalidExpression: spec.snapshot evidence.query: " + row[1]; err.Error() != want {
				t.Errorf("%s: the error is\n%v\nand not\n%s", query, err, want)
			}
			continue
		}
		asked := ""
		program.Snapshot(t.Context(), `a.b"c`, map[string]any{}, moment, func(_ context.Context, query string) (string, *verdict.Fault) {
			asked = query
			return "", nil
		})
		if want := code(t, row[1]); asked != want {
			t.Errorf("%s asks\n%s\nand not\n%s", query, asked, want)
		}
	}
}
