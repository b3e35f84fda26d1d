package judge

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/cel-go/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

func TestAChainOfOptionalMacrosTakesNoMoreThanItsLength(t *testing.T) {
	for _, link := range []string{".optMap(a, a)", ".optFlatMap(a, optional.of(a))"} {
		expression := "optional.of(1)" + strings.Repeat(link, 11) + ".hasValue()"
		bounded(t, "compiling "+link, func(context.Context) {
			began := processorTime()
			r := judged(t, &v1alpha1.InvariantSpec{StoreID: "'1'", Expression: expression}, "{}")
			if took := processorTime() - began; r.Truth() != verdict.Satisfied || took > time.Second {
				t.Errorf("%s: %v after %v, %v", link, r.Truth(), took, r.FirstFault())
			}
		})
	}
}

// theirs is the environment with CEL's own macros.
func theirs(t *testing.T) *cel.Env {
	t.Helper()
	set, err := environment.MustBaseEnvSet(languageVersion).Extend(environment.VersionedOptions{
		IntroducedVersion: languageVersion, EnvOptions: []cel.EnvOption{cel.Variable(nameSelf, cel.DynType), cel.Variable(nameNow, cel.TimestampType)}})
	if err != nil {
		t.Fatal(err)
	}
	return set.NewExpressionsEnv()
}

// outcome is what comes of an expression, or why nothing does.
func outcome(env *cel.Env, expression string, self any) string {
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return issues.Err().Error()
	}
	program, err := env.Program(ast)
	if err != nil {
		return err.Error()
	}
	value, _, err := program.Eval(map[string]any{nameSelf: self, nameNow: moment})
	if err != nil {
		return ast.OutputType().String() + ": " + err.Error()
	}
	text, _ := encode(value)
	return ast.OutputType().String() + ": " + value.Type().TypeName() + " " + text
}

func TestOptionalMacrosGiveWhatTheyAlwaysGave(t *testing.T) {
	t.Parallel()
	ours, err := newCompiler()
	if err != nil {
		t.Fatal(err)
	}
	plain := theirs(t)
	self := map[string]any{"a": int64(1), "m": map[string]any{"k": map[string]any{"s": "x"}}, "l": []any{int64(1), int64(2)}}
	for _, expression := range []string{
		"optional.of(1).optMap(x, x + 1)", "optional.none().optMap(x, x + 1)", "optional.of(1).optMap(x, optional.of(x))", "optional.of(1).optMap(x, string(x)).orValue('')",
		"optional.of(1).optFlatMap(x, optional.of(x + 1))", "optional.of(1).optFlatMap(x, optional.none())", "optional.none().optFlatMap(x, optional.of(x))",
		"self.?a.optMap(x, x + 1)", "self.?b.optMap(x, x + 1).orValue(7)", "self.?m.optFlatMap(m, m.?k).optMap(k, k.s)", "self.?m.?k.?none.optMap(x, x).hasValue()", "self.l[?1].optMap(x, x * 2)",
		// Within what one maps to, and in what another is called on; with the same names, and with those of what is outside.
		"self.?a.optMap(x, optional.of(2).optMap(y, x + y))", "self.?a.optMap(x, optional.of(2).optMap(x, x + 1).orValue(0) + x)", "optional.of(optional.of(1).optMap(x, x)).optMap(x, x.optMap(y, y))",
		"optional.of(1).optMap(x, optional.of(x).optMap(y, y + x).optMap(z, z + x).orValue(0) + optional.of(5).optFlatMap(w, optional.of(w + x)).orValue(0))",
		"self.?a.optMap(self, self + 1)", "self.?a.optMap(x, self.?a.optMap(self, self + x))", "self.?m.optMap(self, self.?k.optMap(self, self.s))", "optional.of(1).optMap(now, now + 1)",
		"self.l.map(i, optional.of(i).optMap(x, x + i).value())", "optional.of([1, 2]).optMap(l, l.map(i, i + l.size()))", "optional.of([3, 1]).optMap(l, l.sortBy(i, i))",
		"[optional.of(1), optional.none()].map(o, o.optMap(x, x + 1).orValue(0))", "self.l.exists(i, self.?a.optMap(x, x == i).orValue(false))", "self.l.all(i, v, optional.of(v).optMap(x, x > i).orValue(false))",
		"now == now && optional.of(now).optMap(t, t - duration('1m')).value() < now", "self.?a.optMap(x, self.l.optMap(y, y))",
		// What fails.
		"optional.of(0).optMap(x, 1 / x)", "optional.of(1 / 0).optMap(x, x)", "optional.none().optMap(x, 1 / 0)", "self.?m.optMap(m, m.none)", "self.a.optMap(x, x)", "dyn(optional.of(1)).optMap(x, x)",
		"self.?a.optFlatMap(x, x)", "self.none.optMap(x, x)", "1.optMap(x, x)", "optional.of(1).optMap(1, 2)", "optional.of(1).optFlatMap(x.y, x)", "optional.of(1).optMap(x, y)", "optional.of(1).optFlatMap(x, x)",
		"optional.of(1).optMap(x, x + 'a')", "optional.of(1).optMap(x)", "optMap(x, x)", "@optional", "optional.of(1).optMap(x, @optional)", "optional.of(1).optMap(x, x).optMap(y, z)",
	} {
		if got, want := outcome(ours.one, expression, self), outcome(plain, expression, self); got != want {
			t.Errorf("%s gives\n%s\nwhere CEL's own macro gives\n%s", expression, got, want)
		}
	}
}

func TestWhatOptionalMacrosMapToIsSeenAsWhatIsOutsideIs(t *testing.T) {
	t.Parallel()
	program := compile(t, stores("self.?up.optMap(u, u == oldSelf.up && now > timestamp('2026-01-01T00:00:00Z')).orValue(true)"))
	if !program.ages || !program.looksBack {
		t.Errorf("the expression depends on now: %v, on oldSelf: %v", program.ages, program.looksBack)
	}
	_, err := Compile(stores("self.?name.optMap(n, n.matches('" + strings.Repeat("x{1000}", 2000) + "')).orValue(true)"))
	if err == nil || !strings.Contains(err.Error(), "its regular expressions have") {
		t.Errorf("a pattern that is too large: %v", err)
	}
	wantStores(t, judged(t, stores("self.?name.optMap(n, n.up).orValue(true)"), `[{"id": 1, "name": {}}, {"id": 2}]`), map[string]verdict.Truth{"1": verdict.Unknown, "2": verdict.Satisfied})
	list := "[" + strings.TrimSuffix(strings.Repeat("1,", 3000), ",") + "]"
	spec := &v1alpha1.InvariantSpec{StoreID: "'1'", Expression: "optional.of(self).optMap(s, s.all(a, s.all(b, s.all(c, a + b + c > 0)))).value()"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if r := compile(t, spec).Judge(ctx, body(t, list), moment); r.Truth() != verdict.Unknown || r.FirstFault().Reason != verdict.CostExceeded {
		t.Errorf("loops in a loop: %v, %v", r.Truth(), r.FirstFault())
	}
}
