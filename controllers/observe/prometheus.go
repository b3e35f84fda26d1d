package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"k8s.io/apimachinery/pkg/types"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// queryPath is where a Prometheus-compatible API answers instant queries.
const queryPath = "/api/v1/query"

// queryRequest is the request for a source's query.
func queryRequest(source *v1alpha1.PrometheusSource, defaultURL string) (request, *verdict.Fault) {
	address := source.URL
	if address == "" {
		address = defaultURL
	}
	if address == "" {
		return request{}, noPrometheus()
	}
	r := newRequest(address, source.Access)
	r.query = source.Query
	return r, nil
}

func noPrometheus() *verdict.Fault {
	return &verdict.Fault{Reason: verdict.InvalidExpression,
		Message: "spec.source.prometheus.url: it is missing, and the monitor has no --prometheus-url to take instead: set one of them"}
}

// target is the address to get: that of the request, or of its query.
func (r request) target(timeout time.Duration) (*url.URL, error) {
	u, err := url.Parse(r.url)
	if err != nil || r.query == "" {
		return u, err
	}
	u = u.JoinPath(queryPath)
	u.RawQuery = url.Values{"query": {r.query}, "timeout": {strconv.FormatInt(timeout.Milliseconds(), 10) + "ms"}}.Encode()
	return u, nil
}

// queryAnswer is what the API answers, as in Prometheus' web/api/v1/api.go.
type queryAnswer struct {
	Status    string `json:"status"`
	ErrorType string `json:"errorType"`
	Data      struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	} `json:"data"`
	// Warnings say that the result is not all that it should be. Infos, which are about style, do not matter.
	Warnings []string `json:"warnings"`
	// IsPartial is VictoriaMetrics' way of saying that some of its storages did not answer.
	IsPartial bool `json:"isPartial"`
}

// series is one series of an instant vector. model.Sample would take one without a value for a zero.
type series struct {
	Metric    model.Metric               `json:"metric"`
	Value     *point                     `json:"value"`
	Histogram *model.SampleHistogramPair `json:"histogram"`
}

// isEmpty: there is nothing in it to judge.
func (s series) isEmpty() bool { return s.Value == nil && s.Histogram == nil }

func vectorOf(list []series) model.Vector {
	vector := make(model.Vector, 0, len(list))
	for _, s := range list {
		sample := &model.Sample{Metric: s.Metric}
		if s.Histogram != nil {
			sample.Histogram = s.Histogram.Histogram
		} else {
			sample.Value = s.Value.SampleValue
		}
		vector = append(vector, sample)
	}
	return vector
}

// point is a number at a time, of which the number is of use.
type point struct{ model.SampleValue }

// UnmarshalJSON implements json.Unmarshaler.
func (p *point) UnmarshalJSON(text []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(text, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("a time and a number are needed, and there are %d values", len(pair))
	}
	return json.Unmarshal(pair[1], &p.SampleValue)
}

// samples are the readings that an answer to a query has.
func (a *answer) samples() verdict.Observation {
	vector, fault := a.vector()
	if fault != nil {
		return verdict.Observation{Fault: fault}
	}
	o := verdict.Observation{Readings: make([]verdict.Reading, 0, len(vector))}
	for _, sample := range vector {
		o.Readings = append(o.Readings, sampleReading(sample))
	}
	return o
}

// sampleReading is the reading that a series gives.
func sampleReading(sample *model.Sample) verdict.Reading {
	labels := make(map[string]any, len(sample.Metric))
	for name, value := range sample.Metric {
		labels[string(name)] = string(value)
	}
	reading := verdict.Reading{Value: map[string]any{"labels": labels, "value": float64(sample.Value)}}
	switch {
	case sample.Histogram != nil:
		reading.Fault = &verdict.Fault{Reason: verdict.NotANumber,
			Message: "the query gives a native histogram where a number is needed: take histogram_quantile, histogram_avg or histogram_count of it"}
	case math.IsNaN(float64(sample.Value)):
		reading.Fault = &verdict.Fault{Reason: verdict.NotANumber,
			Message: "the query gives NaN, as a quantile or a ratio of nothing does; where that is well, add >= 0 to the query, which drops it"}
	}
	return reading
}

// vector is the instant vector of an answer. A scalar is a vector of one sample without labels.
func (a *answer) vector() (model.Vector, *verdict.Fault) {
	if a.fault != nil {
		return nil, a.queryFault()
	}
	var got queryAnswer
	if err := json.Unmarshal(a.content, &got); err != nil || got.Status != "success" {
		return nil, a.notPrometheus(looksLike(a.content))
	}
	if len(got.Warnings) > 0 || got.IsPartial {
		return nil, a.faulty(verdict.Partial, "the API warns that the result may not be all of it; run the query there to read the warning")
	}
	switch got.Data.ResultType {
	case model.ValVector.String():
		var list []series
		if err := json.Unmarshal(got.Data.Result, &list); err != nil || list == nil || slices.ContainsFunc(list, series.isEmpty) {
			return nil, a.notPrometheus("")
		}
		return vectorOf(list), nil
	case model.ValScalar.String():
		var scalar point
		if err := json.Unmarshal(got.Data.Result, &scalar); err != nil {
			return nil, a.notPrometheus("")
		}
		return model.Vector{{Value: scalar.SampleValue}}, nil
	case model.ValMatrix.String():
		return nil, queryInvalid("it gives a range of values where one for each series is needed: take rate(...), max_over_time(...) or last_over_time(...) of it")
	case model.ValString.String():
		return nil, queryInvalid("it gives a string where numbers are needed")
	}
	return nil, a.notPrometheus("")
}

func (a *answer) notPrometheus(looks string) *verdict.Fault {
	return a.faulty(verdict.InvalidBody, "the answer is not that of a Prometheus API%s", looks)
}

// queryField is how a message about a source's query begins.
const queryField = "spec.source.prometheus.query: "

func queryInvalid(why string) *verdict.Fault {
	return &verdict.Fault{Reason: verdict.InvalidExpression, Message: queryField + why}
}

// syntaxError says what is wrong with a query. It is found out here and not taken from the answer, in which anything may stand.
func syntaxError(query string) string {
	if _, err := parser.NewParser(parser.Options{}).ParseExpr(query); err != nil {
		return err.Error()
	}
	return "run it there to see why"
}

// queryFault is what is wrong with an answer that is none. Of the error in it only the type is taken, which is one of few
// words; its text may repeat data.
func (a *answer) queryFault() *verdict.Fault {
	var got queryAnswer
	if a.status == 0 || json.Unmarshal(a.content, &got) != nil {
		return a.fault
	}
	switch got.ErrorType {
	case "bad_data":
		return queryInvalid("Prometheus cannot read it as PromQL: " + syntaxError(a.request.query))
	case "execution":
		return &verdict.Fault{Reason: verdict.EvaluationFailed, Message: queryField + "Prometheus can read it but not evaluate it: run it there to see why"}
	case "timeout", "canceled":
		return a.faulty(verdict.Timeout, "Prometheus gave the query up before it was done: ask for less, or raise timeout or Prometheus' --query.timeout")
	}
	return a.fault
}

// silence is how long an API that did not answer in time is not asked for evidence: whoever asks waits, and cycles with them.
const silence = 30 * time.Second

// silentAPI is an API as a namespace asks it.
type silentAPI struct{ namespace, url string }

// silentAPIs are those that did not answer in time, and when. It may be used by many goroutines.
type silentAPIs struct {
	mu    sync.Mutex
	since map[silentAPI]time.Time
}

func (s *silentAPIs) recently(api silentAPI, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, silent := s.since[api]
	return silent && now.Sub(since) < silence
}

func (s *silentAPIs) note(api silentAPI, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.since, func(_ silentAPI, since time.Time) bool { return now.Sub(since) >= silence })
	if s.since == nil {
		s.since = map[silentAPI]time.Time{}
	}
	s.since[api] = now
}

// maxSeriesShown is how many series the text of an answer names.
const maxSeriesShown = 16

// Ask asks one query, as evidence: of the Prometheus of a system's spec, or else of the default one. The text is the value where
// there is one series, else a line for each with its labels.
func (o *Observer) Ask(ctx context.Context, system types.NamespacedName, spec *v1alpha1.InvariantSpec, query string) (string, *verdict.Fault) {
	source := v1alpha1.PrometheusSource{}
	if spec.Source.Prometheus != nil {
		source = *spec.Source.Prometheus
	}
	source.Query = query
	r, fault := queryRequest(&source, o.PrometheusURL)
	if fault != nil {
		return "", fault
	}
	silent := silentAPI{system.Namespace, r.url}
	if o.silent.recently(silent, time.Now()) {
		return "", &verdict.Fault{Reason: verdict.Timeout, Message: fmt.Sprintf("not asked: Prometheus did not answer within the last %v", silence)}
	}
	lease := o.memory.Lease(system.Namespace, maxLookMemory)
	defer lease.Release()
	vector, fault := o.get(ctx, o.keyring(system.Namespace, lease), r, source.Timeout.Or(DefaultTimeout), lease).vector()
	switch {
	case fault != nil && fault.Reason == verdict.Timeout:
		o.silent.note(silent, time.Now())
		fallthrough
	case fault != nil:
		return "", &verdict.Fault{Reason: fault.Reason, Message: strings.TrimPrefix(fault.Message, queryField)}
	case len(vector) == 0:
		return "", &verdict.Fault{Reason: verdict.NoStores, Message: "the query gives nothing: " + query}
	}
	return vectorText(vector), nil
}

// vectorText is what a person reads of an answer that is not empty.
func vectorText(vector model.Vector) string {
	if len(vector) == 1 {
		return sampleText(vector[0])
	}
	lines := make([]string, 0, min(len(vector), maxSeriesShown)+1)
	for _, sample := range vector[:min(len(vector), maxSeriesShown)] {
		lines = append(lines, sample.Metric.String()+" "+sampleText(sample))
	}
	if more := len(vector) - maxSeriesShown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}

// sampleText is the value of a sample.
func sampleText(sample *model.Sample) string {
	if sample.Histogram != nil {
		return sample.Histogram.String()
	}
	return sample.Value.String()
}
