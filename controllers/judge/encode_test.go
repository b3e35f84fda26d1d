package judge

import (
	"strings"
	"testing"
	"unicode/utf8"

	"invariant.dev/operator/api/v1alpha1"
)

func taken(t *testing.T, expression, reading string) v1alpha1.SnapshotValue {
	t.Helper()
	spec := stores("false")
	spec.Snapshot = []v1alpha1.SnapshotSpec{{Name: "evidence", Expression: expression}}
	values := compile(t, spec).Snapshot(t.Context(), "1", body(t, reading).Readings[0].Value, moment, noQueries)
	if len(values) != 1 || values[0].Name != "evidence" {
		t.Fatalf("the snapshot is %+v", values)
	}
	return values[0]
}

func TestEvidenceReadsAsAPersonWouldWriteIt(t *testing.T) {
	t.Parallel()
	const reading = `{"text": "1.8TiB", "int": 9007199254740993, "float": 0.25, "whole": 2.0, "list": [3, "x", null, {"b": 1, "a": [true]}], "map": {"zone": "z1", "addr": {"y": 1, "x": 2}}, "nothing": null}`
	for expression, want := range map[string]string{
		"self.text":                       "1.8TiB",
		"self.int":                        "9007199254740993",
		"self.float":                      "0.25",
		"self.whole":                      "2",
		"self.list":                       `[3,"x",null,{"a":[true],"b":1}]`,
		"self.map":                        `{"addr":{"x":2,"y":1},"zone":"z1"}`,
		"self.nothing":                    "null",
		"true":                            "true",
		"7u":                              "7",
		"b'abc'":                          `"YWJj"`,
		"duration('90s')":                 `"90s"`,
		"now":                             `"2026-11-24T03:00:00Z"`,
		"[dyn(now), dyn(duration('1s'))]": `["2026-11-24T03:00:00Z","1s"]`,
		"self.?absent":                    "null",
		"self.?int":                       "9007199254740993",
		"[self.?absent, self.?text]":      `[null,"1.8TiB"]`,
		"double('NaN')":                   "NaN",
		"[double('NaN'), double('-Inf')]": "[NaN,-Inf]",
		"{2: 'b', 1: 'a'}":                `{"1":"a","2":"b"}`,
		"[]":                              "[]",
		"{}":                              "{}",
		"''":                              "",
		"'<a & b>'":                       "<a & b>",
		"['<a & b>', 'é漢😀']":              `["\u003ca \u0026 b\u003e","é漢😀"]`,
		"type(1)":                         `"int"`,
		"quantity('1Ti')":                 `"1Ti"`,
		"url('http://pd:2379/x')":         `"http://pd:2379/x"`,
		"ip('10.0.0.1')":                  `"10.0.0.1"`,
		"cidr('10.0.0.0/8')":              `"10.0.0.0/8"`,
		"semver('1.2.3')":                 `"1.2.3"`,
	} {
		t.Run(expression, func(t *testing.T) {
			t.Parallel()
			if got := taken(t, expression, reading); got.Value != want || got.Truncated || got.Error != "" {
				t.Errorf("the evidence is %+v, want %s", got, want)
			}
		})
	}
}

func TestEvidenceThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	if got := taken(t, "self.capacity", `{"id": 1}`); got.Error != "snapshot evidence: no such key: capacity" || got.Value != "" {
		t.Errorf("the evidence is %+v", got)
	}
}

func TestLongEvidenceIsCutAtACharacterAndSaysSo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ expression, reading string }{
		"a string":         {"self", `"` + strings.Repeat("漢", 1000) + `"`},
		"a shifted string": {"'x' + self", `"` + strings.Repeat("漢", 1000) + `"`},
		"a list":           {"self", `["` + strings.Repeat(`漢","`, 1000) + `"]`},
		"a deep list":      {"self", strings.Repeat("[", 2000) + strings.Repeat("]", 2000)},
		"a map":            {"self", `{"` + strings.Repeat("漢", 1000) + `": 1}`},
		"a doubled list":   {doubled("[1]", 18), "1"},
		"bytes":            {"bytes(self)", `"` + strings.Repeat("x", 2000) + `"`},
		"a long list item": {"[self]", `"` + strings.Repeat("漢", 1000) + `"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := taken(t, test.expression, test.reading)
			if !got.Truncated || len(got.Value) > 1024 || len(got.Value) < 1000 || !utf8.ValidString(got.Value) || !strings.HasSuffix(got.Value, "…") {
				t.Errorf("%d bytes, truncated %v, valid %v: %q", len(got.Value), got.Truncated, utf8.ValidString(got.Value), got.Value)
			}
		})
	}
	if got := taken(t, "self", `"`+strings.Repeat("x", 1024)+`"`); got.Truncated || len(got.Value) != 1024 {
		t.Errorf("what just fits is cut to %d bytes", len(got.Value))
	}
}
