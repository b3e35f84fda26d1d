package judge

import (
	"context"
	"fmt"
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
		"lists that hold themselves 60 times, compared":     nested(60) + " == " + nested(60),
		"the same, compared for a difference":               nested(60) + " != " + nested(60),
		"the same, looked up in a list":                     nested(60) + " in [" + nested(60) + "]",
		"the same, behind dyn":                              "dyn(" + nested(60) + ") == dyn(" + nested(60) + ")",
		"the same, as text":                                 "'%s'.format([" + nested(60) + "]) == ''",
		"the same, in an index":                             "[" + nested(60) + "].indexOf(" + nested(60) + ") == 0",
		"the same, made distinct":                           "[" + nested(60) + "," + nested(60) + "].distinct().size() == 1",
		"the same, as sets":                                 "sets.contains([" + nested(60) + "], [" + nested(60) + "])",
		"the same, flattened":                               "[" + nested(60) + "].flatten(100).size() == 1",
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
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
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
