package judge

import (
	"context"
	"strings"
	"testing"

	"k8s.io/utils/ptr"

	"invariant.dev/operator/controllers/verdict"
)

func TestAnErrorOnOneStoreLeavesItsNeighboursJudged(t *testing.T) {
	t.Parallel()
	r := judged(t, stores("self.status.readyReplicas > 0"), `[{"id": 1, "status": {"readyReplicas": 1}}, {"id": 2, "status": {}}, {"id": 3, "status": {"readyReplicas": 0}}, {"id": 4, "status": {"readyReplicas": "x"}}, {"id": 5}]`)
	wantStores(t, r, map[string]verdict.Truth{"1": verdict.Satisfied, "2": verdict.Unknown, "3": verdict.Violated, "4": verdict.Unknown, "5": verdict.Unknown})
	want := "expression: no such key: readyReplicas; where it may be missing write self.status.?readyReplicas.orValue(0), with the value to assume in place of 0"
	if fault := r.Verdicts[1].Fault; fault == nil || fault.Reason != verdict.EvaluationFailed || fault.Message != want {
		t.Errorf("the fault of a missing field is\n%v, want\n%s", fault, want)
	}
	if r.Incomplete {
		t.Error("the judgement counts as incomplete, where every store is told")
	}
}

func TestWhatIsNotTrueOrFalseIsUnknown(t *testing.T) {
	t.Parallel()
	for expression, message := range map[string]string{
		"self.name":                         "expression: it gives string where true or false is needed: compare it with something",
		"self.id":                           "expression: it gives int where true or false is needed: compare it with something",
		"self.nothing":                      "expression: it gives null_type where true or false is needed: compare it with something",
		"self.list":                         "expression: it gives list where true or false is needed: compare it with something",
		"dyn(self.?absent)":                 "expression: it gives optional_type where true or false is needed: compare it with something",
		"self.float < double('NaN')":        "expression: NaN values cannot be ordered",
		"self.id / 0 == 1":                  "expression: division by zero",
		"self.id * 1.5 > 1.0":               "expression: no such overload; where a value has another type, convert it with string(), int() or double()",
		"9223372036854775807 + self.id < 0": "expression: integer overflow",
		"self.list[7] == 1":                 "expression: index out of bounds: 7",
		"int(self.name) == 1":               "expression: type conversion error from 'string' to 'int'",
	} {
		t.Run(expression, func(t *testing.T) {
			t.Parallel()
			r := judged(t, stores(expression), `[{"id": 1, "name": "tikv-1", "nothing": null, "list": [1], "float": 1.5}]`)
			wantStores(t, r, map[string]verdict.Truth{"1": verdict.Unknown})
			if fault := r.Verdicts[0].Fault; fault.Reason != verdict.EvaluationFailed || fault.Message != message {
				t.Errorf("the fault is %v, want the message %q", fault, message)
			}
		})
	}
}

func TestAStoreThatCannotBeToldIsUnknownAndMakesTheJudgementIncomplete(t *testing.T) {
	t.Parallel()
	for storeID, message := range map[string]string{
		"self.id":      "storeID: it gives int where a string is needed: write string(...) around it",
		"self.empty":   "storeID: it gives an empty string",
		"self.long":    "storeID: it gives 321 bytes where at most 320 are taken",
		"self.address": "storeID: no such key: address",
	} {
		spec := stores("true")
		spec.StoreID = "self.id == 2 ? '2' : " + strings.Replace("dyn(X)", "X", storeID, 1)
		r := judged(t, spec, `[{"id": 1, "empty": "", "long": "`+strings.Repeat("x", 321)+`"}, {"id": 2}]`)
		wantStores(t, r, map[string]verdict.Truth{"": verdict.Unknown, "2": verdict.Satisfied})
		if fault := r.Verdicts[0].Fault; fault == nil || fault.Message != message || !r.Incomplete {
			t.Errorf("%s: incomplete %v with the fault %v, want %q", storeID, r.Incomplete, fault, message)
		}
	}
}

func TestReadingsOfOneStoreAreOneStoreAndTheWorstHolds(t *testing.T) {
	t.Parallel()
	for readings, truth := range map[string]verdict.Truth{
		`[{"id": 1, "up": true}, {"id": 1, "up": true}]`:             verdict.Satisfied,
		`[{"id": 1, "up": true}, {"id": 1}]`:                         verdict.Unknown,
		`[{"id": 1}, {"id": 1, "up": true}]`:                         verdict.Unknown,
		`[{"id": 1, "up": true}, {"id": 1, "up": false}, {"id": 1}]`: verdict.Violated,
		`[{"id": 1}, {"id": 1, "up": false}, {"id": 1, "up": true}]`: verdict.Violated,
		`[{"id": "1", "up": false}, {"id": 1, "up": true}]`:          verdict.Violated,
	} {
		r := judged(t, stores("self.up"), readings)
		wantStores(t, r, map[string]verdict.Truth{"1": truth})
		if _, kept := r.Violating["1"]; kept != (truth == verdict.Violated) {
			t.Errorf("%s: the evidence of a violated store is kept: %v", readings, kept)
		}
	}
}

func TestStoresWithLargeNumbersAreToldApart(t *testing.T) {
	t.Parallel()
	r := judged(t, stores("true"), `[{"id": 9007199254740992}, {"id": 9007199254740993}, {"id": 9223372036854775807}]`)
	wantStores(t, r, map[string]verdict.Truth{"9007199254740992": verdict.Satisfied, "9007199254740993": verdict.Satisfied, "9223372036854775807": verdict.Satisfied})
}

func TestFewerReadingsThanMinStoresAreNoObservation(t *testing.T) {
	t.Parallel()
	wantFault(t, judged(t, stores("true"), `[]`), verdict.NoStores, "0 readings where minStores wants at least 1; if having none is well, set minStores: 0")
	spec := stores("true")
	spec.MinStores = ptr.To(int32(3))
	wantFault(t, judged(t, spec, `[{"id": 1}, {"id": 2}]`), verdict.NoStores, "2 readings where minStores wants at least 3")
	wantStores(t, judged(t, spec, `[{"id": 1}, {"id": 2}, {"id": 3}]`), map[string]verdict.Truth{"1": verdict.Satisfied, "2": verdict.Satisfied, "3": verdict.Satisfied})
	spec.MinStores = ptr.To(int32(0))
	wantStores(t, judged(t, spec, `[]`), nil)
}

func TestItemsMustGiveAListThatACheckCanTake(t *testing.T) {
	t.Parallel()
	spec := stores("true")
	spec.Source.HTTP.Items = "self.stores"
	wantFault(t, judged(t, spec, `{"stores": {"1": {}}}`), verdict.InvalidBody, "source.http.items gives map where a list is needed")
	wantFault(t, judged(t, spec, `{"stores": null}`), verdict.InvalidBody, "source.http.items gives null_type where a list is needed")
	wantFault(t, judged(t, spec, `{"stores": [`+strings.Repeat("{},", MaxReadings)+`{}]}`), verdict.TooLarge, "10001 readings where a check takes at most 10000")
	wantFault(t, judged(t, spec, `{}`), verdict.EvaluationFailed, "source.http.items: no such key: stores")
	wantFault(t, judged(t, spec, `"stores"`), verdict.EvaluationFailed, "source.http.items: no such key: stores")
}

func TestAFaultOfTheObservationIsTheFaultOfTheJudgement(t *testing.T) {
	t.Parallel()
	fault := &verdict.Fault{Reason: verdict.Timeout, Message: "GET http://pd: no whole answer within 5s"}
	wantFault(t, compile(t, stores("true")).Judge(t.Context(), verdict.Observation{Fault: fault}, moment), fault.Reason, fault.Message)
}

func TestAReadingThatMustNotBeJudgedIsUnknownForItsStore(t *testing.T) {
	t.Parallel()
	fault := &verdict.Fault{Reason: verdict.Forbidden, Message: "GET http://x: refused"}
	o := verdict.Observation{Readings: []verdict.Reading{{Value: map[string]any{"id": "1", "ok": false}, Fault: fault}, {Value: map[string]any{"id": "2", "ok": false}}}}
	spec := stores("self.ok")
	spec.Source.HTTP.Items = ""
	r := compile(t, spec).Judge(t.Context(), o, moment)
	wantStores(t, r, map[string]verdict.Truth{"1": verdict.Unknown, "2": verdict.Violated})
	spec.StoreID, spec.Expression = "", "self.all(s, s.ok)"
	wantFault(t, compile(t, spec).Judge(t.Context(), o, moment), fault.Reason, fault.Message)
}

func TestWithoutAStoreIDThereIsOneVerdictOverAllReadings(t *testing.T) {
	t.Parallel()
	spec := stores("self.filter(s, s.up).size() >= 2")
	spec.StoreID = ""
	spec.Message = "string(self.filter(s, s.up).size()) + ' of ' + string(self.size()) + ' are up'"
	wantStores(t, judged(t, spec, `[{"up": true}, {"up": true}, {"up": false}]`), map[string]verdict.Truth{"": verdict.Satisfied})
	r := judged(t, spec, `[{"up": true}, {"up": false}]`)
	wantStores(t, r, map[string]verdict.Truth{"": verdict.Violated})
	if r.Verdicts[0].Message != "1 of 2 are up" || len(r.Violating) != 1 {
		t.Errorf("the message is %q, and the evidence %v", r.Verdicts[0].Message, r.Violating)
	}
	wantFault(t, judged(t, spec, `[{"up": true}, {}]`), verdict.EvaluationFailed, "expression: no such key: up; where it may be missing write s.?up.orValue(0), with the value to assume in place of 0")
}

func TestAMessageThatFailsDoesNotUnmakeTheViolation(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"":                     "Every store is up.",
		"'store ' + self.name": "store tikv-1",
		"'at ' + self.address": "Every store is up. (message: no such key: address)",
		"self.id":              "Every store is up. (message: it gives int where a string is needed)",
	} {
		spec := stores("self.up")
		spec.Description, spec.Message = "Every store is up.", message
		r := judged(t, spec, `[{"id": 1, "name": "tikv-1", "up": false}]`)
		wantStores(t, r, map[string]verdict.Truth{"1": verdict.Violated})
		if got := r.Verdicts[0].Message; got != want {
			t.Errorf("message %s: %q, want %q", message, got, want)
		}
	}
	r := judged(t, stores("self.up"), `[{"id": 1, "up": false}]`)
	if got := r.Verdicts[0].Message; got != "not true: self.up" {
		t.Errorf("without message and description the message is %q", got)
	}
}

func TestACheckThatIsOutOfTimeSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantFault(t, compile(t, stores("true")).Judge(ctx, body(t, `[{"id": 1}]`), moment), verdict.CostExceeded, "source.http.items: the check ran out of time")
}
