package judge

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"k8s.io/utils/ptr"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// alert is a spec in the style of an alerting rule.
func alert() *v1alpha1.InvariantSpec {
	return &v1alpha1.InvariantSpec{Source: v1alpha1.Source{Prometheus: &v1alpha1.PrometheusSource{Query: "up == 0"}}}
}

// labelled is a reading as a query gives it.
func labelled(value float64, labels map[string]any) verdict.Reading {
	r := verdict.Reading{Value: map[string]any{"value": value, "labels": labels}}
	if math.IsNaN(value) {
		r.Fault = &verdict.Fault{Reason: verdict.NotANumber, Message: "the query gives NaN"}
	}
	return r
}

func alerted(t *testing.T, spec *v1alpha1.InvariantSpec, readings ...verdict.Reading) Result {
	t.Helper()
	return compile(t, spec).Judge(t.Context(), verdict.Observation{Readings: readings}, moment)
}

func TestWithoutAnExpressionEachSeriesIsAViolationNamedByItsLabels(t *testing.T) {
	t.Parallel()
	r := alerted(t, alert(), labelled(0, map[string]any{"__name__": "up", "job": "tikv", "instance": "tikv-1:20180"}), labelled(0, map[string]any{"zone": `a"b\`, "job": "漢"}))
	wantStores(t, r, map[string]verdict.Truth{`instance="tikv-1:20180",job="tikv"`: verdict.Violated, `job="漢",zone="a\"b\\"`: verdict.Violated})
	if r.Verdicts[0].Message != "given by the query up == 0" || len(r.Violating) != 2 || r.Incomplete {
		t.Errorf("the judgement is %+v", r)
	}
}

func TestAnAlertsMessageAndStoreIDAreThoseOfItsSpec(t *testing.T) {
	t.Parallel()
	spec := alert()
	spec.Description = "Every store is up."
	if r := alerted(t, spec, labelled(0, map[string]any{"a": "b"})); len(r.Verdicts) != 1 || r.Verdicts[0].Message != "Every store is up." {
		t.Errorf("the judgement is %+v", r)
	}
	spec.StoreID, spec.Message = "self.labels.instance", "self.labels.instance + ' is at ' + string(self.value)"
	r := alerted(t, spec, labelled(0.5, map[string]any{"instance": "tikv-1"}), labelled(0.5, map[string]any{"a": "b"}))
	wantStores(t, r, map[string]verdict.Truth{"tikv-1": verdict.Violated, "": verdict.Unknown})
	if r.Verdicts[1].Message != "tikv-1 is at 0.5" || !r.Incomplete {
		t.Errorf("the judgement is %+v", r)
	}
}

func TestAnAlertsMessageMayLookBack(t *testing.T) {
	t.Parallel()
	spec := alert()
	spec.Description, spec.Message = "Down.", "'from ' + string(oldSelf.value) + ' to ' + string(self.value)"
	program, past := compile(t, spec), &Past{}
	var said []string
	for _, value := range []float64{1, 2} {
		r := program.JudgeAfter(t.Context(), past, verdict.Observation{Readings: []verdict.Reading{labelled(value, map[string]any{"a": "b"})}}, moment)
		wantStores(t, r, map[string]verdict.Truth{`a="b"`: verdict.Violated})
		said = append(said, r.Verdicts[0].Message)
	}
	if !strings.HasPrefix(said[0], "Down. (message: ") || said[1] != "from 1 to 2" {
		t.Errorf("the messages are %q", said)
	}
}

func TestTheMessageOfALongQueryIsCutAlsoWhereItsOwnMessageFails(t *testing.T) {
	t.Parallel()
	for _, message := range []string{"", "self.labels.missing"} {
		spec := alert()
		spec.Message, spec.Source.Prometheus.Query = message, "up == "+strings.Repeat("1", 10_000)
		r := alerted(t, spec, labelled(0, map[string]any{"a": "b"}))
		if len(r.Verdicts) != 1 || len(r.Verdicts[0].Message) > verdict.MaxMessage {
			t.Errorf("the message %q has %d bytes", message, len(r.Verdicts[0].Message))
		}
	}
}

func TestTheOrderOfLabelsDoesNotMatterToAnID(t *testing.T) {
	t.Parallel()
	labels := map[string]any{}
	for i := range 20 {
		labels[fmt.Sprintf("l%02d", i)] = "x"
	}
	want := labelsID(map[string]any{"labels": labels})
	for range 50 {
		if got := labelsID(map[string]any{"labels": labels}); got != want {
			t.Fatalf("the ID is\n%s and\n%s", got, want)
		}
	}
}

func TestALongIDIsCutButStaysDistinctAndReadable(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for length := range 400 {
		for _, filling := range []string{"x", "漢", "é", "\"", "\n", "😀"} {
			for _, end := range []string{"1", "2"} {
				value := strings.Repeat(filling, length) + end
				id := labelsID(map[string]any{"labels": map[string]any{"instance": value, "__name__": "up"}})
				if other, twice := seen[id]; twice && other != value {
					t.Fatalf("%q and %q have the ID %s", other, value, id)
				}
				if seen[id] = value; len(id) > MaxStoreID || !utf8.ValidString(id) || !strings.HasPrefix(id, `instance="`) {
					t.Fatalf("the ID of %q has %d bytes, valid %v", value, len(id), utf8.ValidString(id))
				}
			}
		}
	}
}

func TestSeriesOfOtherLabelsHaveOtherIDsWhateverTheLabelsAreCalled(t *testing.T) {
	t.Parallel()
	seen := map[string]map[string]any{}
	for _, labels := range []map[string]any{
		{"a": "x", "b": "y"}, {`a="x",b`: "y"}, {"a": `x",b="y`}, {"a": "x"}, {"b": "y"}, {"a": "x", "b": ""}, {`a="x",b="y",c`: ""}, {"a": `x"`}, {`a"`: "x"}, {"a.b": "x"}, {"a b": "x"}, {"漢": "x"}, {"a\nb": "x"},
	} {
		id := labelsID(map[string]any{"labels": labels})
		if other, twice := seen[id]; twice {
			t.Errorf("%v and %v have the ID %s", other, labels, id)
		}
		seen[id] = labels
		if strings.ContainsAny(id, "\n") {
			t.Errorf("the ID %q is more than a line", id)
		}
	}
}

func TestASeriesWithoutLabelsIsTheWhole(t *testing.T) {
	t.Parallel()
	for _, labels := range []map[string]any{{}, {"__name__": "up"}, nil} {
		r := alerted(t, alert(), labelled(1, labels))
		wantStores(t, r, map[string]verdict.Truth{"": verdict.Violated})
		if r.Incomplete || len(r.Violating) != 1 {
			t.Errorf("the judgement is %+v", r)
		}
	}
}

func TestAnAlertWithoutANumberIsUnknown(t *testing.T) {
	t.Parallel()
	r := alerted(t, alert(), labelled(math.NaN(), map[string]any{"a": "b"}), labelled(1, map[string]any{"a": "c"}))
	wantStores(t, r, map[string]verdict.Truth{`a="b"`: verdict.Unknown, `a="c"`: verdict.Violated})
	if fault := r.Verdicts[0].Fault; fault == nil || fault.Reason != verdict.NotANumber {
		t.Errorf("the fault is %v", fault)
	}
}

func TestAnAlertWithoutSeriesIsWellUnlessThereMustBeSome(t *testing.T) {
	t.Parallel()
	spec := alert()
	r := alerted(t, spec)
	if wantStores(t, r, nil); r.Truth() != verdict.Satisfied {
		t.Errorf("the judgement is %v", r.Truth())
	}
	spec.MinStores = ptr.To[int32](1)
	wantFault(t, alerted(t, spec), verdict.NoStores, "0 readings where minStores wants at least 1; if having none is well, set minStores: 0")
}
