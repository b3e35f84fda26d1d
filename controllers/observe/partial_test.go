package observe

import (
	"fmt"
	"net/http"
	"testing"

	"invariant.dev/operator/controllers/verdict"
)

// No Prometheus answers like these, but what speaks like it may.
func TestAnAnswerThatDoesNotSayWhatThereIsIsUnknown(t *testing.T) {
	t.Parallel()
	const (
		series = `{"metric":{"instance":"1"},"value":[1,"2"]}`
		vector = `{"status":"success","data":{"resultType":"vector","result":%s}}`
	)
	for name, test := range map[string]struct {
		answer string
		reason verdict.Reason
	}{
		"a series that is null":               {fmt.Sprintf(vector, "["+series+",null]"), verdict.InvalidBody},
		"a series without a value":            {fmt.Sprintf(vector, `[{"metric":{}}]`), verdict.InvalidBody},
		"a series whose value is null":        {fmt.Sprintf(vector, `[{"metric":{},"value":null}]`), verdict.InvalidBody},
		"a result that is null":               {fmt.Sprintf(vector, "null"), verdict.InvalidBody},
		"no result":                           {`{"status":"success","data":{"resultType":"vector"}}`, verdict.InvalidBody},
		"a scalar that is null":               {`{"status":"success","data":{"resultType":"scalar","result":null}}`, verdict.InvalidBody},
		"VictoriaMetrics with a storage down": {`{"status":"success","isPartial":true,"data":{"resultType":"vector","result":[` + series + `]}}`, verdict.Partial},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, _ := recording(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, test.answer) })
			o := observe(t.Context(), NewObserver(loopback), prometheusSpec(address))
			if o.Fault == nil || o.Fault.Reason != test.reason || len(o.Readings) != 0 {
				t.Errorf("the observation is %+v with the fault %v, want %s", o.Readings, o.Fault, test.reason)
			}
			if text, fault := NewObserver(loopback).Ask(t.Context(), system, prometheusSpec(address), "up"); fault == nil {
				t.Errorf("as evidence it is %q", text)
			}
		})
	}
}
