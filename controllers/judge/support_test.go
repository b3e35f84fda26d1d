package judge

import (
	"context"
	"testing"
	"time"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

var moment = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

// body is what a source answered, as observe reads it.
func body(t testing.TB, text string) verdict.Observation {
	t.Helper()
	var value any
	if err := utiljson.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return verdict.Observation{Readings: []verdict.Reading{{Value: value}}}
}

// stores is a spec over a list of stores with an id.
func stores(expression string) *v1alpha1.InvariantSpec {
	return &v1alpha1.InvariantSpec{
		Source:     v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{Items: "self"}},
		StoreID:    "string(self.id)",
		Expression: expression,
	}
}

func compile(t testing.TB, spec *v1alpha1.InvariantSpec) *Program {
	t.Helper()
	program, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func judged(t testing.TB, spec *v1alpha1.InvariantSpec, text string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return compile(t, spec).Judge(ctx, body(t, text), moment)
}

// wantFault requires that nothing was judged, and why.
func wantFault(t testing.TB, r Result, reason verdict.Reason, message string) {
	t.Helper()
	want := verdict.Fault{Reason: reason, Message: message}
	if r.Fault == nil || *r.Fault != want || len(r.Verdicts) != 0 {
		t.Errorf("the judgement is %v with %d verdicts, want\n%v", r.Fault, len(r.Verdicts), &want)
	}
}

// wantStores requires one verdict for each store, and no fault of the whole.
func wantStores(t testing.TB, r Result, want map[string]verdict.Truth) {
	t.Helper()
	got := map[string]verdict.Truth{}
	for _, v := range r.Verdicts {
		got[v.StoreID] = v.Truth
		if (v.Fault != nil) != (v.Truth == verdict.Unknown) {
			t.Errorf("store %q is %v with the fault %v", v.StoreID, v.Truth, v.Fault)
		}
	}
	if r.Fault != nil || len(r.Verdicts) != len(want) {
		t.Errorf("%d verdicts and the fault %v, want %d", len(r.Verdicts), r.Fault, len(want))
	}
	for store, truth := range want {
		if got[store] != truth {
			t.Errorf("store %q is %v, want %v", store, got[store], truth)
		}
	}
}

// noQueries answers where nothing is asked.
func noQueries(context.Context, string) (string, *verdict.Fault) {
	return "", &verdict.Fault{Reason: verdict.Unreachable, Message: "nobody was to be asked"}
}
