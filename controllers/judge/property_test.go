package judge

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
	"unicode/utf8"

	utiljson "k8s.io/apimachinery/pkg/util/json"
	"pgregory.net/rapid"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// jsonValue draws what a source may answer.
func jsonValue(depth int) *rapid.Generator[any] {
	scalars := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Just[any]("1"), rapid.Just[any](""), rapid.Just[any]("Up"), rapid.Just[any](int64(1)),
		rapid.Bool().AsAny(), rapid.Int64().AsAny(), rapid.Float64().AsAny(), rapid.String().AsAny(),
	}
	if depth == 0 {
		return rapid.OneOf(scalars...)
	}
	keys := rapid.SampledFrom([]string{"id", "state", "status", "stores", "up", "", "a b"})
	list := rapid.SliceOfN(jsonValue(depth-1), 0, 4).AsAny()
	object := rapid.MapOfN(keys, jsonValue(depth-1), 0, 5).AsAny()
	return rapid.OneOf(append(scalars, list, object, object)...)
}

var (
	someItems      = []string{"", "self", "self.stores", "[self, self]", "self.stores.map(s, s.id)", "[]", "dyn(self.?stores)"}
	someStoreIDs   = []string{"", "string(self.id)", "self.id", "self.state", "dyn(self)", "'1'", "string(now)"}
	someConditions = []string{"true", "false", "self.up", "self.state == 'Up'", "self.status.x > 0", "self.id < 3", "self.all(x, x.up)", "self.size() > 1", "self == self",
		"self.id in [dyn(1), dyn('1'), dyn(null)]", "self.?status.?x.orValue(0) == 0", "double(self.id) < 1.0", "self[0] == self.stores[1]", "now > timestamp(self.id)"}
	someMessages = []string{"", "'x'", "self.state", "string(self.id)", "self.id", "string(self)"}
	someEvidence = []string{"self", "self.id", "[self, dyn(now)]", "self.?status", "{'a': self}", "dyn(self).map(x, x)"}
)

func TestJudgeGivesEachStoreOneVerdictWhateverASourceAnswers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		spec := &v1alpha1.InvariantSpec{
			StoreID:    rapid.SampledFrom(someStoreIDs).Draw(t, "storeID"),
			Expression: rapid.SampledFrom(someConditions).Draw(t, "expression"),
			Message:    rapid.SampledFrom(someMessages).Draw(t, "message"),
			Snapshot:   []v1alpha1.SnapshotSpec{{Name: "evidence", Expression: rapid.SampledFrom(someEvidence).Draw(t, "evidence")}},
			Source:     v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{Items: rapid.SampledFrom(someItems).Draw(t, "items")}},
		}
		program, err := Compile(spec)
		if err != nil {
			t.Fatal(err)
		}
		o := verdict.Observation{}
		for i, value := range rapid.SliceOfN(jsonValue(3), 0, 3).Draw(t, "readings") {
			o.Readings = append(o.Readings, verdict.Reading{Value: value})
			if rapid.Bool().Draw(t, fmt.Sprintf("reading %d must not be judged", i)) {
				o.Readings[i].Fault = &verdict.Fault{Reason: verdict.Forbidden, Message: "refused"}
			}
		}
		checkResult(t.Context(), t, program, program.Judge(t.Context(), o, moment))
	})
}

// checkResult requires what holds of every judgement.
func checkResult(ctx context.Context, t interface{ Fatalf(string, ...any) }, program *Program, r Result) {
	if r.Fault != nil && len(r.Verdicts)+len(r.Violating) != 0 {
		t.Fatalf("nothing was observed, and yet there are %+v", r)
	}
	seen := map[string]bool{}
	for _, v := range r.Verdicts {
		_, evidence := r.Violating[v.StoreID]
		switch {
		case seen[v.StoreID]:
			t.Fatalf("store %q has two verdicts", v.StoreID)
		case (v.Fault != nil) != (v.Truth == verdict.Unknown), (v.Message != "") && v.Truth != verdict.Violated, evidence != (v.Truth == verdict.Violated):
			t.Fatalf("the verdict %+v contradicts itself, or its evidence is amiss (%v)", v, evidence)
		case v.StoreID == "" && program.storeID != nil && (v.Truth != verdict.Unknown || !r.Incomplete):
			t.Fatalf("a store that cannot be told is %v, incomplete %v", v.Truth, r.Incomplete)
		case !utf8.ValidString(v.StoreID + v.Message):
			t.Fatalf("the verdict %+v is no valid UTF-8", v)
		case len(v.StoreID) > MaxStoreID:
			t.Fatalf("a store ID of %d bytes", len(v.StoreID))
		}
		seen[v.StoreID] = true
	}
	for _, reading := range r.Violating {
		for _, s := range program.Snapshot(ctx, "1", reading, moment, noQueries) {
			if len(s.Value) > maxSnapshot || len(s.Error) > maxSnapshot || !utf8.ValidString(s.Value+s.Error) {
				t.Fatalf("the evidence %+v cannot be stored", s)
			}
		}
	}
}

// FuzzCompile: whatever is written into an Invariant compiles or says InvalidExpression, and is then judged within bounds.
func FuzzCompile(f *testing.F) {
	for i, expression := range someConditions {
		f.Add(someItems[i%len(someItems)], someStoreIDs[i%len(someStoreIDs)], expression, someMessages[i%len(someMessages)], `[{"id": 1, "state": "Up"}]`)
	}
	f.Add("self.stores", "string(self.id)", doubled("[1]", 20)+".sum() > 0", "'a' + 'b'", `{"stores": [{"id": 9007199254740993}]}`)
	f.Add("", "", "quantity(self).isGreaterThan(quantity('1Ti')) && url('x').getHost() == ''", "'%s'.format([self])", `"1Ti"`)
	f.Fuzz(func(t *testing.T, items, storeID, expression, message, answer string) {
		if len(items)+len(storeID)+len(expression)+len(message)+len(answer) > 8192 {
			return
		}
		spec := &v1alpha1.InvariantSpec{StoreID: storeID, Expression: expression, Message: message, Source: v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{Items: items}},
			Snapshot: []v1alpha1.SnapshotSpec{{Name: "evidence", Expression: "self"}}}
		program, err := Compile(spec)
		if err != nil {
			var fault *verdict.Fault
			if !errors.As(err, &fault) || fault.Reason != verdict.InvalidExpression {
				t.Fatalf("the error is %v", err)
			}
			return
		}
		var o verdict.Observation
		if !parse(answer, &o) {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		checkResult(ctx, t, program, program.Judge(ctx, o, moment))
		if took := time.Since(began); took > 10*time.Second {
			t.Fatalf("a check of one second took %v", took)
		}
	})
}

func parse(answer string, o *verdict.Observation) bool {
	var value any
	if utiljson.Unmarshal([]byte(answer), &value) != nil {
		return false
	}
	o.Readings = []verdict.Reading{{Value: value}}
	return true
}
