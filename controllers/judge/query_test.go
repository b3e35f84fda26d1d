package judge

import (
	"context"
	"errors"
	"strings"
	"testing"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// asked is what is asked with these values in a query's names.
func asked(t *testing.T, source string, values map[string]string) string {
	t.Helper()
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	q, err := parseQuery(source, names)
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	return q.fill(values)
}

func TestAValueIsQuotedAsTheStringThatItStandsIn(t *testing.T) {
	t.Parallel()
	const value = `a"b'c` + "`d\\e\n"
	for source, want := range map[string]string{
		`up{a="$v"}`:                `up{a="a\"b'c` + "`" + `d\\e\n"}`,
		`up{a='$v'}`:                `up{a='a"b\'c` + "`" + `d\\e\n'}`,
		"up{a=`$v`}":                `up{a="a\"b'c` + "`" + `d\\e\n"}`,
		"up{a=`x\\d\"$v\\`}":        `up{a="x\\d\"a\"b'c` + "`" + `d\\e\n\\"}`,
		`up{a="x\"$v\\", b='\'$v'}`: `up{a="x\"a\"b'c` + "`" + `d\\e\n\\", b='\'a"b\'c` + "`" + `d\\e\n'}`,
		`up{a="$v$v-$v"}`:           `up{a="` + strings.Repeat(`a\"b'c`+"`"+`d\\e\n`, 2) + `-a\"b'c` + "`" + `d\\e\n"}`,
		"up{a=`x\\d`, b=\"\\x41\"}": "up{a=`x\\d`, b=\"\\x41\"}",
		`up{a="x"} # $v "$v" it's`:  `up{a="x"} # $v "$v" it's`,
		"# \"\nup{a=\"$v\"} # '\n":  "# \"\nup{a=\"a\\\"b'c`d\\\\e\\n\"} # '\n",
		`up{a="#$v"}`:               `up{a="#a\"b'c` + "`" + `d\\e\n"}`,
		`up{a="$storeID"}`:          `up{a=""}`,
		`up{a="$$v $1 ${v} 5$ $"}`:  `up{a="$v $1 ${v} 5$ $"}`,
		"up{a=`$$v \\ $1 $`}":       `up{a="$v \\ $1 $"}`,
		`label_replace(up, "a", "$1-$$2", "b", "(.*)$")`: `label_replace(up, "a", "$1-$2", "b", "(.*)$")`,
	} {
		if got := asked(t, source, map[string]string{"v": value}); got != want {
			t.Errorf("%s becomes\n%s, want\n%s", source, got, want)
		}
	}
}

func TestWhatNoStringMayHoldIsWrittenAsAnEscape(t *testing.T) {
	t.Parallel()
	if got, want := asked(t, `up{a="$v"}`, map[string]string{"v": "漢😀\x00\x7f\u2028\xff\ufffd"}), `up{a="漢😀\x00\x7f\u2028\xff\ufffd"}`; got != want {
		t.Errorf("it becomes %s, want %s", got, want)
	}
}

func TestInARegularExpressionAValueMatchesItself(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		`up{a=~"$v"}`:                    `up{a=~"a\\.b\\|c"}`,
		`up{a!~'$v'}`:                    `up{a!~'a\\.b\\|c'}`,
		"up{a =~ \t\n`.*($v)+[0-9]{2}`}": `up{a =~ ` + "\t\n" + `".*(a\\.b\\|c)+[0-9]{2}"}`,
		"up{a=~ # it's\n\"$v\"}":         "up{a=~ # it's\n\"a\\\\.b\\\\|c\"}",
		`up{a="=~", b="$v"}`:             `up{a="=~", b="a.b|c"}`,
		"up{b= # =~\n\"$v\"}":            "up{b= # =~\n\"a.b|c\"}",
		`up{a=~"x|$v", b="$v", c!="$v"}`: `up{a=~"x|a\\.b\\|c", b="a.b|c", c!="a.b|c"}`,
		`up{a=~"$v|$v:$$"}`:              `up{a=~"a\\.b\\|c|a\\.b\\|c:$"}`,
	} {
		if got := asked(t, source, map[string]string{"v": "a.b|c"}); got != want {
			t.Errorf("%s becomes\n%s, want\n%s", source, got, want)
		}
	}
}

func TestAQueryThatCannotBeFilledSafelyDoesNotCompile(t *testing.T) {
	t.Parallel()
	for query, says := range map[string]string{
		`up{a="$w"}`:        "$w is not in with: add it there, or write $$w for a $",
		`up{a="$vv"}`:       "$vv is not in with: add it there, or write $$vv for a $",
		`up{a=$v}`:          "a $ stands outside of quotes, where no value can be put in safely: put it into a string, such as {instance=\"$instance\"}",
		`$v`:                "a $ stands outside of quotes",
		`up{a="x"}[$v]`:     "a $ stands outside of quotes",
		`up{a="$v}`:         "a string that begins with \" has no end",
		`up{a='$v"}`:        "a string that begins with ' has no end",
		"up{a=`$v\\\"'}":    "a string that begins with ` has no end",
		`up{a="$v\"}`:       "a string that begins with \" has no end",
		`up{a="\$v"}`:       `what stands before $v in "\$v" is not whole: write \\ for a \, and $$ for a $`,
		`up{a="\x2$v"}`:     `what stands before $v in "\x2$v" is not whole`,
		`up{a="$v\q"}`:      `the end of "$v\q" is not whole: write \\ for a \`,
		`up{a=~"[$v]"}`:     `in the regular expression "[$v]" a value would not match itself`,
		`up{a=~"\\$v"}`:     `in the regular expression "\\$v" a value would not match itself`,
		"up{a=~`\\Q$v\\E`}": "in the regular expression `\\Q$v\\E` a value would not match itself",
		`up{a=~"x{$v}"}`:    `in the regular expression "x{$v}" a value would not match itself`,
		`up{a=~"$v*"}`:      `in the regular expression "$v*" a value would not match itself`,
		`up{a=~"(?$v)"}`:    `in the regular expression "(?$v)" a value would not match itself`,
	} {
		spec := stores("self.up")
		spec.Snapshot = []v1alpha1.SnapshotSpec{{Name: "p99", Query: query, With: map[string]v1alpha1.CELString{"v": "self.address"}}}
		_, err := Compile(spec)
		var fault *verdict.Fault
		if !errors.As(err, &fault) || fault.Reason != verdict.InvalidExpression || !strings.HasPrefix(fault.Message, "spec.snapshot p99.query: "+says) {
			t.Errorf("%s: the error is\n%v, want\n%s", query, err, says)
		}
	}
}

func TestAQueriesValuesAreThoseOfItsStore(t *testing.T) {
	t.Parallel()
	spec := stores("self.up")
	spec.Snapshot = []v1alpha1.SnapshotSpec{
		{Name: "p99", Query: `p99{instance="$instance", store="$storeID"}`, With: map[string]v1alpha1.CELString{"instance": "self.address"}},
		{Name: "wrong", Query: `p99{instance="$instance"}`, With: map[string]v1alpha1.CELString{"instance": "dyn(self.id)"}},
		{Name: "missing", Query: `p99{instance="$instance"}`, With: map[string]v1alpha1.CELString{"instance": "self.host"}},
		{Name: "long", Query: `p99{instance="$instance"}`, With: map[string]v1alpha1.CELString{"instance": "self.long"}},
		{Name: "refused", Query: `p99`},
	}
	var queries []string
	ask := func(_ context.Context, query string) (string, *verdict.Fault) {
		if queries = append(queries, query); query == "p99" {
			return "", &verdict.Fault{Reason: verdict.Timeout, Message: "no whole answer within 5s"}
		}
		return strings.Repeat("7", 2000), nil
	}
	reading := body(t, `{"id": 3, "address": "tikv-3:20180\"} or vector(1) #", "long": "`+strings.Repeat("x", maxQuery)+`"}`).Readings[0].Value
	values := compile(t, spec).Snapshot(t.Context(), "3", reading, moment, ask)
	if want := `p99{instance="tikv-3:20180\"} or vector(1) #", store="3"}`; len(queries) != 2 || queries[0] != want {
		t.Errorf("what is asked is %q, want %s", queries, want)
	}
	if len(values) != 5 || !values[0].Truncated || len(values[0].Value) != 1024 {
		t.Fatalf("the evidence is %+v", values)
	}
	for i, want := range map[int]string{
		1: "snapshot wrong.with.instance: it gives int where a string is needed: write string(...) around it",
		2: "snapshot missing.with.instance: no such key: host",
		3: "snapshot long: the query is longer than 64 KiB with its values in it",
		4: "no whole answer within 5s",
	} {
		if values[i].Error != want || values[i].Value != "" {
			t.Errorf("the evidence is %+v, want %s", values[i], want)
		}
	}
}
