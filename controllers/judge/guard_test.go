package judge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// nested is an expression for a list that holds one list twice, which holds another twice, and so on.
func nested(depth int) string {
	expression := "[[0]]"
	for i := range depth {
		expression = fmt.Sprintf("%s.map(v%d, [v%d, v%d])", expression, i, i, i)
	}
	return expression + "[0]"
}

func TestASingleCallThatWouldNeverEndIsNotMade(t *testing.T) {
	t.Parallel()
	answer := `{"text": "` + strings.Repeat("x", 1<<20) + `", "list": [` + strings.TrimSuffix(strings.Repeat(`"0123456789",`, 50_000), ",") + `]}`
	for name, expression := range map[string]string{
		"lists that hold themselves 30 times, compared":     nested(30) + " == " + nested(30),
		"the same, compared for a difference":               nested(30) + " != " + nested(30),
		"the same, looked up in a list":                     nested(30) + " in [" + nested(30) + "]",
		"the same, behind dyn":                              "dyn(" + nested(30) + ") == dyn(" + nested(30) + ")",
		"the same, as text":                                 "'%s'.format([" + nested(30) + "]) == ''",
		"the same, in an index":                             "[" + nested(30) + "].indexOf(" + nested(30) + ") == 0",
		"the same, made distinct":                           "[" + nested(30) + "," + nested(30) + "].distinct().size() == 1",
		"the same, as sets":                                 "sets.contains([" + nested(30) + "], [" + nested(30) + "])",
		"the same, flattened":                               "[" + nested(30) + "].flatten(100).size() == 1",
		"a list of the numbers up to a billion":             "lists.range(1000000000).size() > 0",
		"a text in the place of each of its own characters": "self.text.replace('', self.text) == ''",
		"the same, with a limit":                            "self.text.replace('x', self.text, 1000000) == ''",
		"a long text between many":                          "self.list.join(self.text) == ''",
		"a text many times":                                 "'" + strings.Repeat("%s", 4000) + "'.format(lists.range(4000).map(i, self.text)) == ''",
		"a text as a pattern of itself":                     "self.text.matches(self.text)",
		"the same, searched":                                "self.text.findAll(self.text).size() > 0",
		"a long list made distinct":                         "self.list.distinct().size() == 1",
		"long lists as sets":                                "sets.equivalent(self.list, self.list)",
		"a list in a list for each of its items":            "self.list.all(a, self.list.all(b, self.list == self.list))",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r := compile(t, &v1alpha1.InvariantSpec{StoreID: "'1'", Expression: expression}).Judge(ctx, body(t, answer), moment)
			if fault := r.FirstFault(); fault == nil || *fault != (verdict.Fault{Reason: verdict.CostExceeded, Message: "expression" + tooMuch}) {
				t.Errorf("the judgement is %v: %v", r.Truth(), fault)
			}
		})
	}
}

func TestWhatGuardedCallsGiveIsWhatTheyAlwaysGave(t *testing.T) {
	t.Parallel()
	for _, expression := range []string{
		"self.n == 1 && self.n != 2 && !(self.n == 2) && self.n == 1.0 && dyn(1) == 1.0 && !(dyn('1') == 1)",
		"[dyn(1), dyn([2])] == [dyn(1), dyn([2])] && [1] != [2] && {'a': 1} == {'a': 1} && {'a': 1} != {'a': 2} && null == dyn(null)",
		"1 in [1, 2] && !(3 in [1, 2]) && 'a' in {'a': 1} && 'k' in self.m && self.n in self.l && self.n in dyn([1])",
		"[1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2 && 'abc'.indexOf('c') == 2 && self.t.indexOf('b') == 1 && 'abab'.lastIndexOf('b') == 3",
		"[1, 1, 2].distinct() == [1, 2] && self.l.distinct() == [1, 2]",
		"sets.contains([1, 2], [1]) && sets.equivalent([1, 2], [2, 1]) && sets.intersects([1], [1, 2]) && sets.contains(self.l, [1])",
		"lists.range(3) == [0, 1, 2]",
		"'aXbX'.replace('X', '-') == 'a-b-' && 'aXbX'.replace('X', '-', 1) == 'a-bX' && self.t.replace('a', '') == 'bc'",
		"['a', 'b'].join(',') == 'a,b' && ['a', 'b'].join() == 'ab'",
		"'%s is %d, %.2f'.format(['x', 1, 0.5]) == 'x is 1, 0.50'",
		"'a,b'.split(',') == ['a', 'b'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && self.t.split('') == ['a', 'b', 'c']",
		"'abc'.matches('^a.c$') && self.t.matches('b') && 'a1b2'.find('[0-9]') == '1' && 'a1b2'.findAll('[0-9]') == ['1', '2'] && 'a1b2'.findAll('[0-9]', 1) == ['1']",
		"[[1], [2]].flatten() == [1, 2] && [dyn([1]), dyn([dyn(2), dyn([3])])].flatten(2) == [1, 2, 3]",
		"quantity('1Gi') == quantity('1024Mi') && duration('60s') == duration('1m') && now == now && ip('::1') == ip('::1')",
		"[optional.of(1)] == [optional.of(1)] && optional.none() == optional.none()",
	} {
		r := judged(t, &v1alpha1.InvariantSpec{StoreID: "'1'", Expression: expression}, `{"n": 1, "t": "abc", "l": [1, 2, 1], "m": {"k": null}}`)
		if r.Truth() != verdict.Satisfied {
			t.Errorf("%s: %v, %v", expression, r.Truth(), r.FirstFault())
		}
	}
	for expression, want := range map[string]string{
		"self.l.matches('x')":          "no such overload",
		"self.missing == 1":            "no such key: missing",
		"1 in self.n":                  "no such overload",
		"self.t.matches(self.t + '[')": "error parsing regexp",
		"self.n.replace('1', '2')":     "no such overload",
	} {
		r := judged(t, &v1alpha1.InvariantSpec{StoreID: "'1'", Expression: "dyn(" + expression + ") == true"}, `{"n": 1, "t": "abc", "l": [1, 2, 1]}`)
		if fault := r.FirstFault(); fault == nil || !strings.Contains(fault.Message, want) {
			t.Errorf("%s: %v, want %s", expression, fault, want)
		}
	}
}

// large are answers of the size that a source may give.
var large = map[string]func() string{
	"text":    func() string { return quoted(strings.Repeat("x", 8<<20-2)) },
	"digits":  func() string { return quoted(strings.Repeat("1", 8<<20-2)) },
	"version": func() string { return quoted("1.0.0-" + strings.Repeat("a.", 4<<20-10) + "a") },
	"numbers": func() string { return listed("1", 499_000) },
	"words":   func() string { return listed(quoted("0123456789012345678901234567890123456789"), 180_000) },
	"two": func() string {
		return "[" + quoted(strings.Repeat("x", 5<<20)) + "," + quoted(strings.Repeat("x", 2<<20)+"y") + "]"
	},
	"halves": func() string {
		return "[" + quoted(strings.Repeat("x", 4<<20-9)+"a") + "," + quoted(strings.Repeat("x", 4<<20-9)+"b") + "]"
	},
	"deepText": func() string { return layered(9000, quoted(strings.Repeat("x", 8<<20-20_000))) },
	"deepList": func() string { return layered(9000, listed("1", 480_000)) },
	"path":     func() string { return quoted("http://h/" + strings.Repeat("[", 8<<20-20)) },
	"none":     func() string { return "{}" },
}

func quoted(text string) string { return `"` + text + `"` }

func listed(item string, n int) string {
	return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
}

func layered(depth int, inside string) string {
	return strings.Repeat("[", depth) + inside + strings.Repeat("]", depth)
}

// These took from seconds to for ever, or more than 500 MiB, when only the cost of calls that were over was counted.
func TestNoExpressionTakesMuchTimeOrMemoryOverWhateverASourceAnswers(t *testing.T) {
	for answer, expressions := range map[string][]string{
		"digits": {
			"isQuantity(self)", "quantity(self).isInteger()",
			strings.Repeat("double(self) == 1.0 || ", 600) + "false", strings.Repeat("timestamp(self) == now || ", 500) + "true",
		},
		"none": {
			"quantity('1e2147483647').isGreaterThan(quantity('1'))", "quantity('1e2000000000') == quantity('1')", "quantity('1E-2000000000').compareTo(quantity('1')) == 0",
			"''.matches(['" + strings.Repeat("x{1000}", 2000) + "'][0])",
			"lists.range(1000000).map(x, lists.range(1000000)).size() > 0",
			"lists.range(1000000).map(x, semver('1.2.3-a.b.c.d.e.f.g.h.i.j.k.l.m.n.o')).size() > 0",
			"lists.range(2000).map(x, lists.range(1000).map(y, url('http://a/b?c'))).size() > 0",
		},
		"text": {
			"self.matches('(.*.{500}y)z')", "self.matches('(x{1000}){0,1}y')", "self.find('(.?){900}y') == ''", "self.findAll('').size() > 0", "self.findAll(dyn('x')).size() > 0",
			"''.matches(self)", "''.matches(self.replace('x', 'x?'))", "lists.range(1000).map(i, bytes(self)).size() > 0",
			strings.Repeat("size(self) == 1 || ", 300) + "false", strings.Repeat("self.charAt(1) == 'y' || ", 600) + "false",
		},
		"version":  {"semver(self).major() > 0", "isSemver(self)", "lists.range(10).map(i, semver(self)).size() > 0"},
		"numbers":  {strings.Repeat("self == 1 || ", 900) + "true", "lists.range(1000).map(i, self.sort()).size() > 0", "lists.range(1000).map(i, self.reverse()).size() > 0", "self.all(a, self.all(b, self == self))"},
		"words":    {"lists.range(1000).map(i, self.sort()).size() > 0", "self.distinct().size() > 0", "sets.equivalent(self, self)", "self.map(x, x.split('')).size() > 0"},
		"two":      {"self[0].indexOf(self[1]) > 0", "self[0].lastIndexOf(self[1]) > 0", "self[0].contains(self[1])", "self[0].split(self[1]).size() > 0", "self[0].replace(self[1], '') == ''"},
		"halves":   {"lists.range(4000).map(i, self[i % 2]).sort().size() > 0", "lists.range(4000).map(i, self[i % 2]).isSorted()", "lists.range(4000).map(i, self[i % 2]).max() == ''", "lists.range(4000).sortBy(i, self[i % 2]).size() > 0"},
		"deepText": {"'%s'.format([self]) == ''"},
		"deepList": {"'%s'.format([self]) == ''", "self.flatten(10000).size() > 0"},
		"path":     {"[url(self)].all(u, lists.range(1000).map(i, u.getEscapedPath()).size() > 0)"},
	} {
		o := body(t, large[answer]())
		for _, expression := range expressions {
			t.Run(answer+"/"+verdict.Truncate(expression, 60), func(t *testing.T) {
				program := compile(t, &v1alpha1.InvariantSpec{StoreID: "'1'", Expression: expression})
				bounded(t, "the check", func(ctx context.Context) {
					r := program.Judge(ctx, o, moment)
					if fault := r.FirstFault(); fault != nil && fault.Reason != verdict.CostExceeded && fault.Reason != verdict.EvaluationFailed {
						t.Errorf("the fault is %v", fault)
					}
				})
			})
		}
	}
}

func TestLoopsAndLooksIntoMapsCostNoMoreThanTheyDo(t *testing.T) {
	t.Parallel()
	var stores []string
	for i := range MaxReadings {
		stores = append(stores, fmt.Sprintf(`{"id": "%d", "zone": "z%d"}`, i, i%3))
	}
	answer := `{"stores": [` + strings.Join(stores, ",") + `], "zones": {"z0": 1, "z1": 1, "z2": 1}}`
	for _, expression := range []string{
		"self.stores.map(s, s.id).size() == 10000",
		"self.stores.filter(s, s.zone == 'z0').size() == 3334",
		"self.stores.map(s, s.id).sort()[0] == '0'",
		"self.stores.all(s, s.zone in self.zones)",
		"self.stores.map(s, s.zone).sortBy(z, z)[0] == 'z0'",
		"self.stores.all(s, s.id.matches('^[0-9]{1,5}$') && semver('7.5.' + s.id).major() == 7)",
	} {
		r := judged(t, &v1alpha1.InvariantSpec{StoreID: "'1'", Expression: expression}, answer)
		if r.Truth() != verdict.Satisfied {
			t.Errorf("%s: %v, %v", expression, r.Truth(), r.FirstFault())
		}
	}
}

func TestWhatCannotBeCompiledWithinBoundsIsRefused(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		"self.matches('" + strings.Repeat("x{1000}", 2000) + "')":             "spec.expression: its regular expressions have",
		"self.find('" + strings.Repeat("(x{100}y{100}){9}", 100) + "') == ''": "spec.expression: its regular expressions have",
		"{b'abc': 1}.size() > 0":    "spec.expression: CEL's own compiler fails on it",
		"[?dyn(self)].size() == 0":  "spec.expression: CEL's own compiler fails on it",
		strings.Repeat("$", 4000):   "spec.expression: <input>:1:1: Syntax error",
		"self.matches(self + '[')&": "spec.expression: <input>:1:25: Syntax error",
	} {
		_, err := Compile(&v1alpha1.InvariantSpec{StoreID: "'1'", Expression: expression})
		var fault *verdict.Fault
		if !errors.As(err, &fault) || fault.Reason != verdict.InvalidExpression || !strings.HasPrefix(fault.Message, want) || len(fault.Message) > maxRefusal {
			t.Errorf("%.40s: the error is %.200v, want %s", expression, err, want)
		}
	}
}

// boundedByReading are the functions that are not estimated, as a single call takes no longer than reading its texts a few times
// does, and gives no more than a few times their size. Where Kubernetes adds one, see what it does before you add it here.
var boundedByReading = strings.Fields(`!_ -_ _%_ _&&_ _*_ _+_ _-_ _/_ _<=_ _<_ _>=_ _>_ _?._ _?_:_ _[?_] _[_] _||_ @not_strictly_false __not_strictly_false__ _in_ in
	add allowed asApproximateFloat asInteger bool bytes cel.@mapInsert charAt check cidr compareTo containsCIDR containsIP double duration dyn endsWith error errored family
	fieldSelector first format.byte format.date format.datetime format.dns1035Label format.dns1035LabelPrefix format.dns1123Label format.dns1123LabelPrefix
	format.dns1123Subdomain format.dns1123SubdomainPrefix format.labelValue format.named format.qualifiedName format.uri format.uuid
	getDate getDayOfMonth getDayOfWeek getDayOfYear getEscapedPath getFullYear getHost getHostname getHours getMilliseconds getMinutes getMonth getPort getQuery getScheme getSeconds
	group hasValue int ip ip.isCanonical isCIDR isGlobalUnicast isGreaterThan isIP isInteger isLessThan isLinkLocalMulticast isLinkLocalUnicast isLoopback isURL isUnspecified
	labelSelector last lowerAscii major masked minor name namespace optional.none optional.of optional.ofNonZeroValue optional.unwrap or orValue patch path prefixLength
	reason resource reverse serviceAccount sign size slice startsWith string strings.quote sub subresource substring sum timestamp trim type uint unwrapOpt upperAscii url value`)

func TestEveryFunctionOfTheLanguageIsEstimatedOrKnownToBeBounded(t *testing.T) {
	t.Parallel()
	c, err := newCompiler()
	if err != nil {
		t.Fatal(err)
	}
	for name := range c.two.Functions() {
		if estimates[name] == nil && !slices.Contains(boundedByReading, name) {
			t.Errorf("nobody has looked at how long %s takes, and how much it gives, with arguments as large as answers may be", name)
		}
	}
}

func TestNoFaultRepeatsWhatASourceAnswered(t *testing.T) {
	t.Parallel()
	for _, expression := range []string{
		"ip(self.text).family() == 4", "cidr(self.text).prefixLength() == 8", "url(self.text).getHost() == ''", "quantity(self.text).isInteger()", "semver(self.text).major() == 1",
		"int(self.text) == 1", "double(self.text) == 1.0", "timestamp(self.text) == now", "duration(self.text) == duration('1s')", "bool(self.text)", "uint(self.text) == 1u",
		"self.map[self.text] == 1", "self[self.text] == 1", "self.list[self.text] == 1", "[1][dyn(self.text)] == 1", "{self.text: 1, self.text: 2}.size() == 1",
		"self.text.matches(self.text + '[')", "self.text.find(self.text + '[') == ''", "self.text.findAll('(' + self.text).size() == 0",
		"now.getHours(self.text) == 1", "now.getHours(self.text + ':00') == 1", "now.getHours('01:' + self.text) == 1", "'%d'.format([self.text]) == ''", "'%e'.format([self.text]) == ''", "self.text.format([1]) == ''", "('%' + self.text).format([1]) == ''",
		"[self.text, dyn(1)].join() == ''", "[dyn(self)].join() == ''", "self.list.transformMapEntry(i, v, {self.text: v}).size() == 0",
		"self.text.charAt(7000) == ''", "self.text.nothing == 1", "self.text == 1 || self.text", "self.list.sum() == 0",
		"dyn(self.text) + 1 == 1", "-dyn(self.text) == 1", "format.named(self.text).value().validate('x').hasValue()", "optional.none().value() == self.text",
		"string(bytes(self.text) + b'\\xff') == ''", "self.text.all(x, x)", "self.text ? true : false", "self.text && true", "sets.contains(self.text, [1])",
	} {
		program, err := Compile(&v1alpha1.InvariantSpec{StoreID: "'1'", Expression: "dyn(" + expression + ") == true"})
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		r := program.Judge(t.Context(), body(t, `{"text": "`+secret+`", "list": ["`+secret+`", 1], "map": {"`+secret+`x": 1}}`), moment)
		if fault := r.FirstFault(); fault != nil && strings.Contains(fault.Message, secret[:4]) {
			t.Errorf("%s: %v", expression, fault)
		}
	}
}
