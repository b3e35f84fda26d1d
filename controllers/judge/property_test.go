package judge

import (
	"context"
	"fmt"
	"testing"
	"unicode/utf8"

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
