package observe

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/verdict"
)

var fuzzedTarget = &url.URL{Scheme: "http", Host: "source.invalid", Path: "/path"}

// fuzzed is what an address answered to a request, as get returns it.
func fuzzed(r request, status int, content []byte) *answer {
	a := &answer{request: r, target: fuzzedTarget, status: status, content: content, lease: NewBudget(maxMemory, maxNamespaceMemory).Lease("default", maxLookMemory)}
	a.fault = a.refuse("")
	return a
}

// discreet are the messages that faults may have of what answers there: all that there are, so that nothing of an answer is
// in one but its status and where in it a fault is.
var discreet = regexp.MustCompile(`^(?:GET http://source\.invalid/path: (?:` + strings.Join([]string{
	`-?\d+ [A-Za-z' -]*(?:; redirects are not followed: name the address that answers|; if it wants credentials, name a Secret that has them in secretRef|` +
		`: is this the address of a Prometheus API\?|: is the path right\?|; if it speaks TLS, write https)?`,
	`the answer is not (?:JSON|that of a Prometheus API)(?:: it is empty| but looks like HTML: is this the address of the API\?|: it ends half way|: what stands at byte \d+ cannot stand there)?`,
	`the answer has more than 500000 values: ask for less`,
	`the API warns that the result may not be all of it; run the query there to read the warning`,
	`Prometheus gave the query up before it was done: ask for less, or raise timeout or Prometheus' --query\.timeout`,
}, "|") + `)|spec\.source\.prometheus\.query: (?:` + strings.Join([]string{
	`it gives a range of values where one for each series is needed: take rate\(\.\.\.\), max_over_time\(\.\.\.\) or last_over_time\(\.\.\.\) of it`,
	`it gives a string where numbers are needed`,
	`Prometheus cannot read it as PromQL: run it there to see why`,
	`Prometheus can read it but not evaluate it: run it there to see why`,
}, "|") + `)|the query gives a native histogram where a number is needed: take histogram_quantile, histogram_avg or histogram_count of it|` +
	`the query gives NaN, as a quantile or a ratio of nothing does; where that is well, add >= 0 to the query, which drops it)$`)

// FuzzSamples: whatever answers in the place of a Prometheus, each reading is a series that the answer has, and a fault holds nothing of it.
func FuzzSamples(f *testing.F) {
	for _, content := range []string{
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","instance":"tikv-1"},"value":[1764000000.123,"1"]}]}}`,
		`{"status":"success","data":{"resultType":"vector","result":[]}}`,
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1764000000,"NaN"]},{"metric":{"a":"b"},"histogram":[1764000000,{"count":"1","sum":"2","buckets":[[0,"1","2","1"]]}]}]}}`,
		`{"status":"success","data":{"resultType":"scalar","result":[1764000000,"+Inf"]}}`,
		`{"status":"success","data":{"resultType":"string","result":[1764000000,"x"]}}`,
		`{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["partial"]}`,
		`{"status":"success","data":{"resultType":"vector","result":[null]}}`,
		`{"status":"success","data":{"resultType":"vector","result":null}}`,
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"}},{"value":[1]}]}}`,
		`{"status":"success","data":{"resultType":"scalar","result":null}}`,
		`{"status":"success","data":{"resultType":"scalar","result":[]}}`,
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"histogram":[1,{"buckets":[null]}]},{"metric":{},"histogram":[1,null]}]}}`,
		`<html>`, ``,
	} {
		f.Add(200, []byte(content))
	}
	f.Add(400, []byte(`{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\""}`))
	f.Add(422, []byte(`{"status":"error","errorType":"execution","error":"found duplicate series"}`))
	f.Add(503, []byte(`{"status":"error","errorType":"timeout","error":"query timed out"}`))
	f.Fuzz(func(t *testing.T, status int, content []byte) {
		a := fuzzed(request{url: fuzzedTarget.String(), query: "up"}, status, content)
		o := a.samples()
		if o.Fault != nil {
			if !discreet.MatchString(o.Fault.Message) || len(o.Readings) > 0 {
				t.Fatalf("%d readings, and the fault %v", len(o.Readings), o.Fault)
			}
			return
		}
		series, scalar := seriesOf(t, content)
		if len(series) != len(o.Readings) {
			t.Fatalf("%d readings of %d series", len(o.Readings), len(series))
		}
		for i, reading := range o.Readings {
			checkSample(t, reading, series[i], scalar)
		}
		vector, fault := a.vector()
		if fault != nil {
			t.Fatal(fault)
		}
		if text := vectorText(vector); len(text) > 16<<10+len(content)*8 {
			t.Fatalf("as text it is %d bytes, with the fault %v", len(text), fault)
		}
	})
}

// seriesOf are the series of an answer, read without knowing more of it than that it is JSON.
func seriesOf(t *testing.T, content []byte) (series []json.RawMessage, scalar bool) {
	var got struct {
		Data struct {
			ResultType string
			Result     []json.RawMessage
		}
	}
	if err := json.Unmarshal(content, &got); err != nil || got.Data.Result == nil {
		t.Fatalf("readings of what has no list of results: %v", err)
	}
	if got.Data.ResultType == "scalar" {
		return []json.RawMessage{content}, true
	}
	return got.Data.Result, false
}

// checkSample requires that a reading is what expressions need, and that a number in it comes from the answer.
func checkSample(t *testing.T, reading verdict.Reading, series json.RawMessage, scalar bool) {
	fields, ok := reading.Value.(map[string]any)
	if !ok || len(fields) != 2 {
		t.Fatalf("the reading is %#v", reading.Value)
	}
	value, isNumber := fields["value"].(float64)
	labels, isMap := fields["labels"].(map[string]any)
	if !isNumber || !isMap || (math.IsNaN(value) && reading.Fault == nil) || (reading.Fault != nil && !discreet.MatchString(reading.Fault.Message)) {
		t.Fatalf("the reading is %#v with the fault %v", reading.Value, reading.Fault)
	}
	for name, label := range labels {
		if text, ok := label.(string); !ok || !utf8.ValidString(name+text) {
			t.Fatalf("the labels are %#v", labels)
		}
	}
	var got struct{ Value, Histogram []any }
	if err := json.Unmarshal(series, &got); !scalar && (err != nil || len(got.Value)+len(got.Histogram) < 2) {
		t.Fatalf("%s has no value, and yet is read as %#v", series, reading)
	}
}

// bodyItems are how the stores may be picked out of a body.
var bodyItems = []string{"self", "self.stores", "self.map(x, x)", "dyn(self.?stores.orValue([]))", "[self]"}

// FuzzBody: whatever an address answers, it is read as what it says or refused, within limits, and a fault holds nothing of it.
func FuzzBody(f *testing.F) {
	for _, content := range []string{`{"stores":[{"id":1,"state":"Up"}]}`, `[1,-2.5,"x",null,true,{"a":[]}]`, `9007199254740993`, `"x"`, `<html>`, ``, " \n", "{\"a\":\"\xff\"}",
		`{"a":1,"a":2}`, `[1e999]`, `[123456789012345678901234567890]`, strings.Repeat("[", 2000) + strings.Repeat("]", 2000), strings.Repeat("[", 20_000)} {
		f.Add(200, []byte(content), uint8(1))
	}
	f.Add(503, []byte(`{"health":"false"}`), uint8(0))
	f.Add(302, []byte(`{}`), uint8(0))
	f.Add(0, []byte(nil), uint8(0))
	f.Fuzz(func(t *testing.T, status int, content []byte, items uint8) {
		a := fuzzed(request{url: fuzzedTarget.String()}, status, bytes.Clone(content))
		o := a.body()
		if o.Fault != nil && (!discreet.MatchString(o.Fault.Message) || len(o.Readings) > 0) {
			t.Fatalf("%d readings, and the fault %v", len(o.Readings), o.Fault)
		}
		if o.Fault == nil {
			checkBody(t, o, content)
			judgeItems(t, o, bodyItems[int(items)%len(bodyItems)])
		}
		checkEndpoint(t, a.reading(v1alpha1.Endpoint{StoreID: "1", URL: fuzzedTarget.String()}), a)
	})
}

// checkBody requires that a body is read as what it says, whole.
func checkBody(t *testing.T, o verdict.Observation, content []byte) {
	if len(o.Readings) != 1 || o.Readings[0].Fault != nil {
		t.Fatalf("the readings are %#v", o.Readings)
	}
	read, n := o.Readings[0].Value, 0
	checkValue(t, read, &n)
	if most := values(content) + 1; n > most {
		t.Fatalf("%d values where at most %d are counted", n, most)
	}
	written, err := json.Marshal(read)
	if err != nil {
		t.Fatal(err)
	}
	var again, direct any
	if utiljson.Unmarshal(written, &again) != nil || utiljson.Unmarshal(content, &direct) != nil {
		t.Fatalf("%.200s is read as what is no JSON: %.200s", content, written)
	}
}

// checkValue requires a JSON value as apimachinery decodes it, and counts what is in it.
func checkValue(t *testing.T, value any, n *int) {
	*n++
	switch v := value.(type) {
	case nil, bool, int64:
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			t.Fatalf("the number %v", v)
		}
	case string:
		if !utf8.ValidString(v) {
			t.Fatalf("the string %q", v)
		}
	case []any:
		for _, item := range v {
			checkValue(t, item, n)
		}
	case map[string]any:
		for name, item := range v {
			if !utf8.ValidString(name) {
				t.Fatalf("the name %q", name)
			}
			checkValue(t, item, n)
		}
	default:
		t.Fatalf("a %T", value)
	}
}

// judgeItems judges the stores that items picks out, and requires that each has a verdict.
func judgeItems(t *testing.T, o verdict.Observation, items string) {
	program, err := judge.Compile(&v1alpha1.InvariantSpec{StoreID: "string(self.id)", Expression: "self.state == 'Up'", Message: "string(self.id)",
		Source: v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{Items: items}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	r := program.Judge(ctx, o, time.Unix(0, 0))
	if r.Fault != nil && len(r.Verdicts) > 0 {
		t.Fatalf("%d verdicts, and the fault %v", len(r.Verdicts), r.Fault)
	}
	for _, v := range r.Verdicts {
		if (v.Fault == nil) != (v.Truth != verdict.Unknown) || len(v.StoreID) > judge.MaxStoreID {
			t.Fatalf("the verdict is %+v", v)
		}
	}
}

// checkEndpoint requires that an endpoint's reading has all its fields, of the types that expressions rely on.
func checkEndpoint(t *testing.T, reading verdict.Reading, a *answer) {
	fields, _ := reading.Value.(map[string]any)
	ok, isBool := fields["ok"].(bool)
	status, isInt := fields["status"].(int64)
	message, isString := fields["error"].(string)
	body, hasBody := fields["body"]
	if len(fields) != 5 || fields["storeID"] != "1" || !isBool || !isInt || !isString || !hasBody || ok != (a.fault == nil) || ok != (message == "") || status != int64(a.status) {
		t.Fatalf("the reading is %#v", fields)
	}
	if _, message, _ = strings.Cut(message, ": "); !ok && !discreet.MatchString(message) {
		t.Fatalf("the error is %q", message)
	}
	n := 0
	checkValue(t, body, &n)
}
