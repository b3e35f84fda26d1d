package alerting

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/template"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/verdict"
)

var moment = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

// messageOf is what a message says of a series, as the monitor evaluates it.
func messageOf(t testing.TB, message string, labels map[string]string, value float64) string {
	t.Helper()
	program, err := judge.Compile(&v1alpha1.InvariantSpec{Message: message, Source: v1alpha1.Source{Prometheus: &v1alpha1.PrometheusSource{Query: "up"}}})
	must(t, err)
	read := map[string]any{}
	for name, value := range labels {
		read[name] = value
	}
	reading := map[string]any{"labels": read, "value": value}
	result := program.Judge(t.Context(), verdict.Observation{Readings: []verdict.Reading{{Value: reading}}}, moment)
	if len(result.Verdicts) != 1 {
		t.Fatalf("the judgement is %+v", result)
	}
	return result.Verdicts[0].Message
}

// expanded is what Prometheus makes of a template.
func expanded(t testing.TB, text string, labels map[string]string, value float64) string {
	t.Helper()
	data := template.AlertTemplateData(labels, nil, "", promql.Sample{F: value})
	got, err := template.NewTemplateExpander(context.Background(), prelude+text, "test", data, model.TimeFromUnix(moment.Unix()), nil, &url.URL{}, nil).Expand()
	must(t, err)
	return got
}

var labels = map[string]string{"instance": "tikv-1:20180", "type": `a "quoted" \ 'one'`, "we-ird": "dash"}

// translated is a template in CEL; all of it must be translated.
func translated(t testing.TB, source string) string {
	t.Helper()
	parsed := parseText(source)
	cel, whole := parsed.expression(maxMessage)
	if parsed.err != nil || len(parsed.kept) > 0 || !whole {
		t.Fatalf("%s is not translated: %v, %v; %s", source, parsed.err, parsed.kept, cel)
	}
	return cel
}

func TestAMessageSaysWhatPrometheusSays(t *testing.T) {
	t.Parallel()
	for _, source := range []string{
		"plain",
		"instance: {{ $labels.instance }}, values:{{ $value }}",
		"{{$labels.instance}}{{$value}}",
		"{{ .Labels.instance }} {{ .Value }} {{ $.Labels.type }} {{ $.Value }}",
		"{{ $labels.missing }}.",
		`{{ index $labels "we-ird" }} {{ index .Labels "instance" }}`,
		"a {{- $labels.instance -}} b {{/* nothing */}} c",
		`{{ "{{" }} {{ "quoted" }} {{ ` + "`raw`" + ` }}`,
		`{{ printf "%s is at %.2f%%, %v" $labels.instance $value $value }}`,
		`{{ $value | printf "%.0f" }} {{ printf "%f" $value }} {{ printf "%g" .Value }}`,
		`{{ printf "no verb" }} {{ printf "%s" ($labels.type) }} {{ ($value) | printf "%.3f" }}`,
		"quotes \" ' ` \\ \\n and\nlines\r\n\ttabs, \u00e9\u9ad8\U0001f600 \u202e \x00 \x7f end",
	} {
		for _, value := range []float64{0, 1, 0.5, 42.123456789, 1e6, 123456789, -3, 1e-9, 1e21} {
			want := expanded(t, source, labels, value)
			// CEL puts commas between thousands, where it has to print a fixed number of decimals.
			got := messageOf(t, translated(t, source), labels, value)
			if strings.Contains(source, "%.") || strings.Contains(source, "%f") {
				got = strings.ReplaceAll(got, ",", "")
				want = strings.ReplaceAll(want, ",", "")
			}
			if got != want {
				t.Errorf("%s of %v says\n%q, and Prometheus\n%q", source, value, got, want)
			}
		}
	}
}

func TestAHumanizedValueIsThatOfPrometheusWithTwoDecimals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		function     string
		value        float64
		ours, theirs string
	}{
		{"humanize", 1234567, "1.23M", "1.235M"}, {"humanize", 1500, "1.50k", "1.5k"}, {"humanize", 7, "7.00", "7"}, {"humanize", 2.5e12, "2.50T", "2.5T"},
		{"humanize", 0.25, "0.25", "250m"}, {"humanize", 3e9, "3.00G", "3G"},
		{"humanize1024", 1536, "1.50ki", "1.5ki"}, {"humanize1024", 5 << 30, "5.00Gi", "5Gi"}, {"humanize1024", 5 << 20, "5.00Mi", "5Mi"}, {"humanize1024", 1 << 40, "1.00Ti", "1Ti"}, {"humanize1024", 12, "12.00", "12"},
		{"humanizePercentage", 0.9534, "95.34%", "95.34%"}, {"humanizePercentage", 0.05, "5.00%", "5%"},
		{"humanizeDuration", 93784, "1d 2h 3m 4s", "1d 2h 3m 4s"}, {"humanizeDuration", 3700.5, "1h 1m 40s", "1h 1m 40s"},
		{"humanizeDuration", 61, "1m 1s", "1m 1s"}, {"humanizeDuration", 59.5, "59.50s", "59.5s"}, {"humanizeDuration", 0.25, "0.25s", "250ms"},
		{"humanizeTimestamp", 1435781451.5, "2015-07-01T20:10:51Z", "2015-07-01 20:10:51.5 +0000 UTC"},
	} {
		for _, source := range []string{"{{ $value | " + test.function + " }}", "{{ " + test.function + " .Value }}"} {
			if got := expanded(t, source, labels, test.value); got != test.theirs {
				t.Errorf("Prometheus says %q of %v with %s, want %q", got, test.value, source, test.theirs)
			}
			if got := messageOf(t, translated(t, source), labels, test.value); got != test.ours {
				t.Errorf("%s of %v says %q, want %q", source, test.value, got, test.ours)
			}
		}
	}
}

func TestWhatCELCannotSayIsShownAsItIs(t *testing.T) {
	t.Parallel()
	for source, kept := range map[string]string{
		`{{ query "up" | first | value }}`:                      `{{query "up" | first | value}}`,
		"{{ if gt $value 1.0 }}a{{ else }}b{{ end }}":           "{{if gt $value 1.0}}a{{else}}b{{end}}",
		`{{ range query "up" }}{{ .Labels.instance }}{{ end }}`: `{{range query "up"}}{{.Labels.instance}}{{end}}`,
		"{{ with $labels.a }}{{ . }}{{ end }}":                  "{{with $labels.a}}{{.}}{{end}}",
		"{{ $externalLabels.cluster }}":                         "{{$externalLabels.cluster}}",
		"{{ $externalURL }}":                                    "{{$externalURL}}",
		"{{ $labels }}":                                         "{{$labels}}",
		"{{ . }}":                                               "{{.}}",
		"{{ 5 }}":                                               "{{5}}",
		"{{ $labels.instance | stripPort }}":                    "{{$labels.instance | stripPort}}",
		"{{ $labels.instance | humanize }}":                     "{{$labels.instance | humanize}}",
		`{{ printf "%d" $value }}`:                              `{{printf "%d" $value}}`,
		`{{ printf "%5.1f" $value }}`:                           `{{printf "%5.1f" $value}}`,
		`{{ printf "%.2f" $labels.instance }}`:                  `{{printf "%.2f" $labels.instance}}`,
		`{{ printf "%s" }}`:                                     `{{printf "%s"}}`,
		`{{ printf "%s" $labels.a $labels.b }}`:                 `{{printf "%s" $labels.a $labels.b}}`,
		`{{ printf $labels.a }}`:                                `{{printf $labels.a}}`,
		`{{ printf "100%" }}`:                                   `{{printf "100%"}}`,
		`{{ index $labels $value }}`:                            `{{index $labels $value}}`,
		`{{ index $labels "" }}`:                                `{{index $labels ""}}`,
		`{{ $labels.instance.port }}`:                           `{{$labels.instance.port}}`,
		`{{ template "x" }}`:                                    `{{template "x"}}`,
		`{{ $x := $value }}`:                                    `{{$x := $value}}`,
		"{{ $value | $labels.a }}":                              "{{$value | $labels.a}}",
		`{{ (index $labels "a").b }}`:                           `{{(index $labels "a").b}}`,
		`{{ define "x" }}y{{ end }}z`:                           "the whole of it, which defines templates,",
	} {
		parsed := parseText("at {{ $labels.instance }}: " + source)
		if parsed.err != nil || len(parsed.kept) != 1 || parsed.kept[0] != kept {
			t.Errorf("of %s, what is kept is %q (%v), want %q", source, parsed.kept, parsed.err, kept)
			continue
		}
		cel, _ := parsed.expression(maxMessage)
		got := messageOf(t, cel, labels, 2)
		if strings.HasPrefix(kept, "{{") && got != "at tikv-1:20180: "+kept {
			t.Errorf("%s says %q", source, got)
		}
	}
}

func TestAVariableWithAValueOfTheTemplatesOwnIsNotTranslated(t *testing.T) {
	t.Parallel()
	for source, kept := range map[string]int{
		"{{ $value }}{{ $value := humanize $value }}{{ $value }}{{ $labels.a }}":            2,
		"{{ if $labels.a }}{{ $value = 1 }}{{ end }}{{ $value }}":                           2,
		"{{ $labels := args 1 }}{{ $labels.arg0 }}{{ $value }}":                             2,
		"{{ $other := 1 }}{{ $value }}":                                                     1,
		`{{ range $i, $value := query "up" }}{{ $value }}{{ end }}{{ .Value }}{{ $value }}`: 2,
	} {
		if parsed := parseText(source); len(parsed.kept) != kept {
			t.Errorf("of %s, %q are kept, want %d", source, parsed.kept, kept)
		}
	}
}

func TestAMessageIsCutWhereItsRoomEnds(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"abcdefgh{{ $value }}":      `"abcdefgh"`,
		"{{ $value }}abcdef":        `string(self.value) + "abcd"`,
		"{{ $value }} {{ $value }}": `string(self.value) + " "`,
		"{{ $labels.instance }}":    "",
		strings.Repeat(`"`, 20):     `"` + strings.Repeat(`\"`, 12) + `"`,
	} {
		if got, whole := parseText(source).expression(27); got != want || whole {
			t.Errorf("%s is cut to %s (%v), want %s", source, got, whole, want)
		}
	}
}

func TestAMessageOfManyPartsCompiles(t *testing.T) {
	t.Parallel()
	cel, _ := parseText(strings.Repeat("{{ $value }}", 500)).expression(maxMessage)
	if got := messageOf(t, cel, labels, 7); got != strings.Repeat("7", len(got)) || len(got) < 100 {
		t.Errorf("it says %q", got)
	}
	cel, _ = parseText(strings.Repeat("x{{ $labels.a }}", 500)).expression(maxMessage)
	messageOf(t, cel, labels, 7)
}
