package judge

import (
	"strings"
	"testing"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

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

func TestWhatASourceAnswersIsNotKeptUntilTheNextCheck(t *testing.T) {
	t.Parallel()
	program, past := compile(t, stores("self.id < 0")), &Past{}
	if r := program.JudgeAfter(t.Context(), past, body(t, `[{"id": 1}, {"id": 2}]`), moment); len(r.Violating) != 2 {
		t.Fatalf("the readings of violated stores are %v", r.Violating)
	}
	if kept := past.result.Violating; len(kept) != 0 {
		t.Errorf("%v is kept, in memory that nobody counts", kept)
	}
}

func TestAMessageIsNoLongerThanATicketTakes(t *testing.T) {
	t.Parallel()
	spec := stores("false")
	spec.Message = "self.text"
	r := judged(t, spec, `[{"id": 1, "text": "`+strings.Repeat("x", 1<<20)+`"}]`)
	if n := len(r.Verdicts[0].Message); n != verdict.MaxMessage {
		t.Errorf("%d bytes, want %d", n, verdict.MaxMessage)
	}
}
