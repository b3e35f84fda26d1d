package promtest_test

import (
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"invariant.dev/operator/hack/promtest"
)

// TestWhatPrometheusAnswers holds what the pinned Prometheus answers to an instant query, byte for byte: whoever reads
// such answers relies on it. TIME stands for the time of the query, SAMPLED for that of the one sample of
// capacity_ratio, in seconds. Where there are several warnings or several infos, their order changes.
func TestWhatPrometheusAnswers(t *testing.T) {
	sampled := time.Now().Truncate(time.Second)
	p := stores(t, sampled)
	// A time gone by: what is scraped meanwhile changes no answer.
	now := strconv.FormatInt(time.Now().Unix(), 10)
	times := strings.NewReplacer("TIME", now, "SAMPLED", strconv.FormatInt(sampled.Unix(), 10))
	for _, c := range []struct {
		name, query string
		time        string // default: TIME
		timeout     string // default: Prometheus's own
		limit       string // default: none
		status      int
		want        string
	}{
		{name: "a vector", query: "used_ratio", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"used_ratio","instance":"tikv-1","job":"tikv","store":"1"},"value":[TIME,"0.25"]},{"metric":{"__name__":"used_ratio","instance":"tikv-1","job":"tikv","store":"2"},"value":[TIME,"0.5"]}]}}`},
		{name: "an empty vector", query: "absent_metric", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[]}}`},
		{name: "the series of a rule that nothing breaks", query: "used_ratio > 0.7", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[]}}`},
		{name: "a vector without labels", query: "sum(used_ratio)", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[TIME,"0.75"]}]}}`},
		{name: "a number too big or too small to write out", query: "vector(1e21) or label_replace(vector(1e-7), 'a', 'b', '', '')", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[TIME,"1e+21"]},{"metric":{"a":"b"},"value":[TIME,"1e-07"]}]}}`},
		{name: "NaN", query: "vector(NaN)", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[TIME,"NaN"]}]}}`},
		{name: "+Inf", query: "vector(Inf)", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[TIME,"+Inf"]}]}}`},
		{name: "-Inf", query: "vector(-Inf)", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[TIME,"-Inf"]}]}}`},
		{name: "a native histogram", query: "latency_seconds", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"latency_seconds","instance":"tikv-1","job":"tikv"},"histogram":[TIME,{"count":"4","sum":"2.2","buckets":[[3,"-2.938735877055719e-39","2.938735877055719e-39","1"],[0,"0.0963881765879963","0.1051120519067143","2"],[0,"1.8340080864093422","2","1"]]}]}]}}`},
		{name: "a native histogram without observations", query: "latency_seconds - latency_seconds", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"instance":"tikv-1","job":"tikv"},"histogram":[TIME,{"count":"0","sum":"0"}]}]}}`},
		{name: "a scalar", query: "1", status: 200,
			want: `{"status":"success","data":{"resultType":"scalar","result":[TIME,"1"]}}`},
		{name: "a scalar that is no number", query: "NaN", status: 200,
			want: `{"status":"success","data":{"resultType":"scalar","result":[TIME,"NaN"]}}`},
		{name: "a scalar at a fraction of a second", query: "1", time: "1.500", status: 200,
			want: `{"status":"success","data":{"resultType":"scalar","result":[1.5,"1"]}}`},
		{name: "a vector at a fraction of a second", query: "vector(1)", time: "1.500", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1.500,"1"]}]}}`},
		{name: "a string", query: `"up"`, status: 200,
			want: `{"status":"success","data":{"resultType":"string","result":[TIME,"up"]}}`},
		{name: "the matrix of a range selector", query: "capacity_ratio[1h]", status: 200,
			want: `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"capacity_ratio","instance":"tikv-1","job":"tikv"},"values":[[SAMPLED,"0.75"]]}]}}`},
		{name: "the matrix of a subquery over a native histogram", query: "latency_seconds[1s:1s]", status: 200,
			want: `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"latency_seconds","instance":"tikv-1","job":"tikv"},"histograms":[[TIME,{"count":"4","sum":"2.2","buckets":[[3,"-2.938735877055719e-39","2.938735877055719e-39","1"],[0,"0.0963881765879963","0.1051120519067143","2"],[0,"1.8340080864093422","2","1"]]}]]}]}}`},
		{name: "an empty matrix", query: "absent_metric[1h]", status: 200,
			want: `{"status":"success","data":{"resultType":"matrix","result":[]}}`},

		{name: "an info", query: "sum(rate(used_ratio[1h]))", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[TIME,"0"]}]},"infos":["PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"used_ratio\" (1:10)"]}`},
		{name: "a warning", query: "quantile(2, used_ratio)", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[TIME,"+Inf"]}]},"warnings":["PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"]}`},
		{name: "a warning that something was left out", query: `sum({__name__=~"used_ratio|latency_seconds"})`, status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["PromQL warning: encountered a mix of histograms and floats for aggregation (1:5)"]}`},
		{name: "an info that something was left out", query: "max(latency_seconds)", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[]},"infos":["PromQL info: ignored histogram in max aggregation (1:5)"]}`},
		{name: "a warning and an info", query: "quantile(2, used_ratio) + sum(rate(used_ratio[1h]))", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[TIME,"+Inf"]}]},"warnings":["PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"],"infos":["PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"used_ratio\" (1:36)"]}`},
		{name: "a limit that was met", query: "used_ratio", limit: "1", status: 200,
			want: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"used_ratio","instance":"tikv-1","job":"tikv","store":"1"},"value":[TIME,"0.25"]}]},"warnings":["results truncated due to limit"]}`},

		{name: "a query that does not parse", query: "used_ratio >", status: 400,
			want: `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:13: parse error: unexpected end of input"}`},
		{name: "an unknown function", query: "nosuch(1)", status: 400,
			want: `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:1: parse error: unknown function with name \"nosuch\""}`},
		{name: "no query", query: "", status: 400,
			want: `{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": unknown position: parse error: no expression found in input"}`},
		{name: "a timeout of zero", query: "used_ratio", timeout: "0", status: 400,
			want: `{"status":"error","errorType":"bad_data","error":"invalid parameter \"timeout\": timeout must be positive, got 0s"}`},
		{name: "an ambiguous match", query: "used_ratio * on() used_ratio", status: 422,
			want: `{"status":"error","errorType":"execution","error":"found duplicate series for the match group {} on the right hand-side of the operation: [{__name__=\"used_ratio\", instance=\"tikv-1\", job=\"tikv\", store=\"1\"}, {__name__=\"used_ratio\", instance=\"tikv-1\", job=\"tikv\", store=\"2\"}];many-to-many matching not allowed: matching labels must be unique on one side"}`},
		{name: "more samples than --query.max-samples", query: "count_over_time(vector(1)[1000000s:1s])", status: 422,
			want: `{"status":"error","errorType":"execution","error":"query processing would load too many samples into memory in query execution"}`},
		{name: "a timeout", query: "max_over_time(sum_over_time(vector(1)[10000s:1s])[10000s:1s])", timeout: "20ms", status: 503,
			want: `{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			params := url.Values{"query": {c.query}, "time": {now}}
			for name, value := range map[string]string{"time": c.time, "timeout": c.timeout, "limit": c.limit} {
				if value != "" {
					params.Set(name, value)
				}
			}
			response, err := p.Client().Get(p.URL + "/api/v1/query?" + params.Encode())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != c.status || response.Header.Get("Content-Type") != "application/json" {
				t.Errorf("the answer is %s, %s, want %d %s, application/json", response.Status,
					response.Header.Get("Content-Type"), c.status, http.StatusText(c.status))
			}
			if want := times.Replace(c.want); string(body) != want {
				t.Errorf("the body is\n%s\nwant\n%s", body, want)
			}
		})
	}
}

// stores is a Prometheus that has scraped a few metrics of two stores, and capacity_ratio with that time.
func stores(t *testing.T, sampled time.Time) *promtest.Prometheus {
	t.Helper()
	target := promtest.NewTarget(t)
	capacity := prometheus.NewGauge(prometheus.GaugeOpts{Name: "capacity_ratio"})
	capacity.Set(0.75)
	target.Registry.MustRegister(stamped{capacity, sampled})
	target.Gauge("used_ratio", store("1")).Set(0.25)
	target.Gauge("used_ratio", store("2")).Set(0.5)
	latency := target.NativeHistogram("latency_seconds", nil)
	for _, seconds := range []float64{0, 0.1, 0.1, 2} {
		latency.Observe(seconds)
	}
	p := promtest.Run(t, promtest.Options{
		Scrape: []promtest.Scrape{{Job: "tikv", Targets: []string{target.Address}, NativeHistograms: true,
			Labels: map[string]string{"instance": "tikv-1"}}},
		Args: []string{"--query.max-samples=100000"},
	})
	// A second ago already, so that it holds at the last full second too; twice, so that rate has a result.
	p.WaitFor(t, "count(count_over_time(used_ratio[1h] offset 1s) >= 2)", promtest.Value(2))
	return p
}

// stamped gives the gauge's sample a time of its own, so that all scrapes give one sample.
type stamped struct {
	prometheus.Gauge
	at time.Time
}

func (s stamped) Collect(metrics chan<- prometheus.Metric) {
	metrics <- prometheus.NewMetricWithTimestamp(s.at, s.Gauge)
}
