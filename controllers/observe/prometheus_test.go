package observe

import (
	"fmt"
	"math"
	"net"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

func prometheusSpec(address string) *v1alpha1.InvariantSpec {
	return &v1alpha1.InvariantSpec{Source: v1alpha1.Source{Prometheus: &v1alpha1.PrometheusSource{URL: address, Query: "up", Timeout: timeout(plenty)}}}
}

// answerOf is what a Prometheus answers to a query that succeeds.
func answerOf(resultType, result string) string {
	return answerHead + "\r\n" + `{"status":"success","data":{"resultType":"` + resultType + `","result":` + result + `}}`
}

func TestEachSeriesOfAnAnswerIsAReading(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string][]verdict.Reading{
		answerOf("vector", `[]`): {},
		answerOf("vector", `[{"metric":{"__name__":"up","job":"tikv"},"value":[1764000000.123,"1"]},{"metric":{},"value":[1764000000,"-Inf"]}]`): {
			{Value: map[string]any{"labels": map[string]any{"__name__": "up", "job": "tikv"}, "value": 1.0}},
			{Value: map[string]any{"labels": map[string]any{}, "value": math.Inf(-1)}},
		},
		answerOf("scalar", `[1764000000,"0.5"]`): {{Value: map[string]any{"labels": map[string]any{}, "value": 0.5}}},
	} {
		o := observe(t.Context(), NewObserver(loopback), prometheusSpec(saying(t, answer)))
		if o.Fault != nil || !reflect.DeepEqual(o.Readings, want) {
			t.Errorf("%s is read as\n%+v", answer, o)
		}
	}
}

func TestASeriesWithoutANumberIsAReadingThatMustNotBeJudged(t *testing.T) {
	t.Parallel()
	o := observe(t.Context(), NewObserver(loopback), prometheusSpec(saying(t, answerOf("vector",
		`[{"metric":{"a":"b"},"value":[1,"NaN"]},{"metric":{"a":"c"},"histogram":[1,{"count":"1","sum":"2","buckets":[[0,"1","2","1"]]}]},{"metric":{"a":"d"},"value":[1,"1"]}]`))))
	if o.Fault != nil || len(o.Readings) != 3 || o.Readings[2].Fault != nil {
		t.Fatalf("the observation is %+v", o)
	}
	for i, want := range []string{"the query gives NaN, as a quantile", "the query gives a native histogram where"} {
		if fault := o.Readings[i].Fault; fault == nil || fault.Reason != verdict.NotANumber || !strings.HasPrefix(fault.Message, want) {
			t.Errorf("the fault is %v, want %s", fault, want)
		}
	}
}

func TestWhatOnlyLooksLikeAnAnswerOfPrometheusIsRefused(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		answerOf("vector", `null`), answerOf("vector", `{}`), answerOf("vector", `[null]`), answerOf("vector", `[{}]`), answerOf("vector", `["`+secret+`"]`),
		answerOf("vector", `[{"metric":{"a":"b"}}]`), answerOf("vector", `[{"metric":{"a":"b"},"value":null}]`), answerOf("vector", `[{"metric":{"a":"b"},"value":[]}]`),
		answerOf("vector", `[{"metric":{"a":"b"},"value":[1]}]`), answerOf("vector", `[{"metric":{"a":"b"},"value":[1,"1","2"]}]`), answerOf("vector", `[{"metric":{"a":"b"},"value":[1,1]}]`),
		answerOf("vector", `[{"metric":{"a":"b"},"value":[1,"`+secret+`"]}]`), answerOf("vector", `[{"metric":{"a":1},"value":[1,"1"]}]`),
		answerOf("vector", `[{"metric":{"a":"b"},"histogram":[1,null]}]`), answerOf("vector", `[{"metric":{"a":"b"},"value":[1,"1"]},{"metric":{"a":"c"}}]`),
		answerOf("scalar", `null`), answerOf("scalar", `[]`), answerOf("scalar", `[1]`), answerOf("scalar", `[1,null]`), answerOf("scalar", `["1",null]`),
		answerOf(secret, `[]`), answerHead + "\r\n" + `{"status":"success"}`, answerHead + "\r\n" + `{"status":"success","data":null}`, answerHead + "\r\n" + `{"status":"` + secret + `"}`,
		answerHead + "\r\n[]", answerHead + "\r\nnull", answerHead + "\r\n" + secret,
	} {
		address := saying(t, answer)
		o := observe(t.Context(), NewObserver(loopback), prometheusSpec(address))
		want := verdict.Fault{Reason: verdict.InvalidBody, Message: fmt.Sprintf("GET %s/api/v1/query: the answer is not that of a Prometheus API", address)}
		if o.Fault == nil || *o.Fault != want || len(o.Readings) != 0 {
			t.Errorf("%s is read as %+v, with the fault %v", answer[len(answerHead):], o.Readings, o.Fault)
		}
	}
}

func TestAnAPIThatDidNotAnswerIsLeftAloneForAWhileByWhoAskedIt(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	address := answering(t, func(_ net.Conn, release <-chan struct{}) {
		asked.Add(1)
		<-release
	})
	o, spec := NewObserver(loopback), prometheusSpec(address)
	spec.Source.Prometheus.Timeout = timeout(patience)
	other := types.NamespacedName{Namespace: "etcd-prod", Name: "etcd"}
	for _, ask := range []struct {
		system types.NamespacedName
		says   string
		asked  int32
	}{
		{system, "did not answer within 100ms", 1},
		{system, "not asked: Prometheus did not answer within the last 30s", 1},
		{other, "did not answer within 100ms", 2},
	} {
		text, fault := o.Ask(t.Context(), ask.system, spec, "up")
		if fault == nil || fault.Reason != verdict.Timeout || !strings.Contains(fault.Message, ask.says) || asked.Load() != ask.asked {
			t.Errorf("%s: %q, %v, after %d questions; want %q after %d", ask.system, text, fault, asked.Load(), ask.says, ask.asked)
		}
	}
}
