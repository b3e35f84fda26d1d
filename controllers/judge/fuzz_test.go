package judge

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
	"invariant.dev/operator/hack/race"
)

// secret stands in readings, as a key and as values; no fault may repeat it.
const secret = "s3cr3t"

// Bounds of what one check of a fuzzed program may take. That the machine is busy with other things must not count, so
// it is processor time that is bounded.
const (
	fuzzDeadline = 500 * time.Millisecond
	fuzzSlack    = 4 * time.Second
	fuzzMemory   = 1 << 30
)

// slack is how much longer than fuzzDeadline a check may take. The race detector makes a program up to twenty times slower,
// which is nothing that users wait for.
func slack() time.Duration {
	if race.Enabled {
		return 20 * fuzzSlack
	}
	return fuzzSlack
}

// hostileReadings are what sources may answer that makes expressions expensive, or gives away what only the author may say.
var hostileReadings = sync.OnceValue(func() []verdict.Observation {
	var all []verdict.Observation
	for _, text := range []string{
		`{"id": 1, "state": "` + secret + `", "status": {"x": 1, "` + secret + `": "` + secret + `"}, "stores": [{"id": 1, "up": true}, {"id": 2, "up": false}], "up": true}`,
		`["` + secret + `", "` + secret + `[", 1, -0.5, null, true, {"a": {"b": {"c": []}}}, [[[[]]]], 9007199254740993, "2026-11-24T03:00:00Z", "90s", "1Gi", "1.2.3", "10.0.0.1", "10.0.0.0/8", "http://pd:2379/x?a=b", "漢字"]`,
		`{"text": "` + strings.Repeat("x", 256<<10) + `", "digits": "` + strings.Repeat("1", 256<<10) + `", "query": "http://h/?` + strings.Repeat("a=1&", 64<<10) + `",
			"list": [` + strings.TrimSuffix(strings.Repeat(`"0123456789",`, 5000), ",") + `], "numbers": [` + strings.TrimSuffix(strings.Repeat("1,", 20_000), ",") + `]}`,
		strings.Repeat(`{"a":[`, 200) + strings.Repeat(`]}`, 200),
	} {
		var value any
		if err := utiljson.Unmarshal([]byte(text), &value); err != nil {
			panic(err)
		}
		all = append(all, verdict.Observation{Readings: []verdict.Reading{{Value: value, Version: "1"}}, Version: "1"})
	}
	return all
})

// FuzzCompile: whatever is written into an Invariant compiles or says InvalidExpression, and is then judged within bounds of
// time and memory, whatever a source answers; nothing of the answer is in a fault, and a second check says the same.
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
		var program *Program
		var err error
		bounded(t, "compiling", func(context.Context) { program, err = Compile(spec) })
		if err != nil {
			var fault *verdict.Fault
			if !errors.As(err, &fault) || fault.Reason != verdict.InvalidExpression {
				t.Fatalf("the error is %v", err)
			}
			return
		}
		readings := slices.Clone(hostileReadings())
		var o verdict.Observation
		if parse(answer, &o) {
			readings = append(readings, o)
		}
		for i, o := range readings {
			bounded(t, fmt.Sprintf("a check of reading %d", i), func(ctx context.Context) { checkTwice(ctx, t, spec, program, o) })
		}
	})
}

// checkTwice judges an observation twice, one after the other.
func checkTwice(ctx context.Context, t *testing.T, spec *v1alpha1.InvariantSpec, program *Program, o verdict.Observation) {
	past := &Past{}
	first := program.JudgeAfter(ctx, past, o, moment)
	checkResult(ctx, t, program, first)
	if !strings.Contains(spec.Source.HTTP.Items+spec.StoreID+spec.Expression+spec.Message, secret) {
		checkDiscretion(t, first)
	}
	second := program.JudgeAfter(ctx, past, o, moment)
	checkResult(ctx, t, program, second)
	if ctx.Err() == nil && !program.looksBack && !reflect.DeepEqual(first.Verdicts, second.Verdicts) {
		t.Fatalf("one check says\n%+v, and the next, of the same, \n%+v", first.Verdicts, second.Verdicts)
	}
}

// checkDiscretion requires that no fault repeats what a source answered.
func checkDiscretion(t *testing.T, r Result) {
	faults := []*verdict.Fault{r.Fault}
	for _, v := range r.Verdicts {
		faults = append(faults, v.Fault)
	}
	for _, fault := range faults {
		if fault != nil && strings.Contains(fault.Message, secret) {
			t.Fatalf("a fault repeats the answer: %v", fault)
		}
	}
}

// bounded requires that what is done within fuzzDeadline ends soon after it, and takes no more than fuzzMemory.
func bounded(t *testing.T, what string, do func(ctx context.Context)) {
	ctx, cancel := context.WithTimeout(t.Context(), fuzzDeadline)
	defer cancel()
	began, over, peak := processorTime(), make(chan struct{}), make(chan uint64)
	go func() { peak <- peakMemory(over) }()
	do(ctx)
	close(over)
	if most := <-peak; most > fuzzMemory {
		t.Fatalf("%s took %d MiB", what, most>>20)
	}
	if took := processorTime() - began; took > fuzzDeadline+slack() {
		t.Fatalf("%s of %v took %v", what, fuzzDeadline, took)
	}
}

// processorTime is what this process has taken of it, with all its threads.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// peakMemory is the most that objects in memory took until it was over.
func peakMemory(over <-chan struct{}) uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var most uint64
	for {
		metrics.Read(sample)
		most = max(most, sample[0].Value.Uint64())
		select {
		case <-over:
			return most
		case <-tick.C:
		}
	}
}

func parse(answer string, o *verdict.Observation) bool {
	var value any
	if utiljson.Unmarshal([]byte(answer), &value) != nil {
		return false
	}
	o.Readings = []verdict.Reading{{Value: value}}
	return true
}

// harmless is a value that needs no quoting, and is well even as the end of an escape.
const harmless = "a0HARMLESS0a"

var promQL = parser.NewParser(parser.Options{EnableExperimentalFunctions: true, ExperimentalDurationExpr: true})

// FuzzQueryTemplate: whatever a value holds, nothing of it gets out of the string that it is put into.
func FuzzQueryTemplate(f *testing.F) {
	for _, template := range []string{
		`up{instance="$instance"}`, `up{instance='$instance'}`, "up{instance=`$instance`}", `up{instance=~"$instance"}`, "up{instance!~`a.*$instance|$storeID`}",
		`sum by (le) (rate(x_bucket{a="b\"$instance\\", c!='$storeID'}[1m])) > 5 # "$"`, `label_replace(up, "a", "$1", "b", "(.*)$$")`, `{"up.$instance"}`,
		"up{a=~ # a comment\n\"$instance\"}", `up{a="\$instance"}`, `up{a="\x2$instance"}`, `up{a=~"\\$instance"}`,
	} {
		for _, value := range []string{"tikv-1:20180", `" or vector(1) # `, `'`, "`", `\`, "\n", "\x00\x7f\xff", "\ufffd", ".*", "a|b", "漢😀\u2028", "$instance"} {
			f.Add(template, value)
		}
	}
	f.Fuzz(func(t *testing.T, template, value string) {
		if strings.Contains(template+value, harmless) {
			return
		}
		q, err := parseQuery(template, []string{"instance"})
		if err != nil {
			return
		}
		tame := q.fill(map[string]string{"instance": harmless, storeIDName: harmless})
		wild := q.fill(map[string]string{"instance": value, storeIDName: value})
		want, lexes := lex(tame)
		if !lexes {
			return
		}
		got, lexes := lex(wild)
		if !lexes {
			t.Fatalf("with its value it is no PromQL any more:\n%s\n%s", tame, wild)
		}
		compareTokens(t, want, got)
		if utf8.ValidString(value) {
			compareMatchers(t, tame, wild, value)
		}
	})
}

// lex takes a query into its words, and tells whether it can be.
func lex(query string) (tokens []parser.Item, lexes bool) {
	lexer := parser.Lex(query)
	for {
		var item parser.Item
		lexer.NextItem(&item)
		if item.Typ == parser.ERROR {
			return nil, false
		}
		tokens = append(tokens, item)
		if item.Typ == parser.EOF {
			return tokens, true
		}
	}
}

// compareTokens requires that two queries differ in strings alone.
func compareTokens(t *testing.T, want, got []parser.Item) {
	if len(got) != len(want) {
		t.Fatalf("%d words have become %d:\n%v\n%v", len(want), len(got), want, got)
	}
	for i, w := range want {
		if g := got[i]; g.Typ != w.Typ || (w.Typ != parser.STRING && g.Val != w.Val) {
			t.Fatalf("the word %v has become %v", w, g)
		}
	}
}

// compareMatchers requires that the matchers of a query, where it is one, match what those of the other would with the value
// in place of the harmless one.
func compareMatchers(t *testing.T, tame, wild, value string) {
	parsed, err := promQL.ParseExpr(tame)
	if err != nil {
		return
	}
	want, got := matchers(parsed), []*labels.Matcher(nil)
	parsed, err = promQL.ParseExpr(wild)
	if err != nil {
		// A name, or what a function takes, may be wrong with a value that is well for a matcher.
		return
	}
	if got = matchers(parsed); len(got) != len(want) {
		t.Fatalf("%d matchers have become %d:\n%s\n%s", len(want), len(got), tame, wild)
	}
	for i, w := range want {
		g, inPlace := got[i], value
		pattern := w.Type == labels.MatchRegexp || w.Type == labels.MatchNotRegexp
		if pattern {
			inPlace = regexp.QuoteMeta(value)
		}
		if g.Type != w.Type || g.Value != strings.ReplaceAll(w.Value, harmless, inPlace) {
			t.Fatalf("the matcher %v has become %v", w, g)
		}
		matches := !pattern || w.Type == labels.MatchRegexp
		if w.Value == harmless && w.Type != labels.MatchNotEqual && (g.Matches(value) != matches || g.Matches(value+"x") == matches) {
			t.Fatalf("the matcher %v does not match exactly %q", g, value)
		}
	}
}

// matchers are the label matchers of a query, in order.
func matchers(query parser.Expr) (all []*labels.Matcher) {
	parser.Inspect(query, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			all = append(all, selector.LabelMatchers...)
		}
		return nil
	})
	return all
}
