package judge

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

func TestAnExpressionThatDoesNotCompileIsNamedWithThePlaceOfItsFault(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*v1alpha1.InvariantSpec)
		says   []string
	}{
		"expression":  {func(s *v1alpha1.InvariantSpec) { s.Expression = "self.up &&" }, []string{"spec.expression: <input>:1:11: Syntax error"}},
		"second line": {func(s *v1alpha1.InvariantSpec) { s.Expression = "true &&\nslef.up" }, []string{"spec.expression: <input>:2:1: undeclared reference to 'slef'"}},
		"storeID":     {func(s *v1alpha1.InvariantSpec) { s.StoreID = "string(id)" }, []string{"spec.storeID: <input>:1:8: undeclared reference to 'id'"}},
		"message":     {func(s *v1alpha1.InvariantSpec) { s.Message = "'store ' + 7" }, []string{"spec.message: <input>:1:10: found no matching overload for '_+_'"}},
		"items":       {func(s *v1alpha1.InvariantSpec) { s.Source.HTTP.Items = "self.(" }, []string{"spec.source.http.items: <input>:1:6: Syntax error"}},
		"snapshot": {func(s *v1alpha1.InvariantSpec) {
			s.Snapshot = []v1alpha1.SnapshotSpec{{Name: "capacity", Expression: "self."}}
		}, []string{"spec.snapshot capacity: <input>:1:6: Syntax error"}},
		"expression that is no condition": {func(s *v1alpha1.InvariantSpec) { s.Expression = "'Up'" }, []string{"spec.expression: it gives string where bool is needed"}},
		"storeID that is a number":        {func(s *v1alpha1.InvariantSpec) { s.StoreID = "7" }, []string{"spec.storeID: it gives int where string is needed: write string(...) around it"}},
		"message that is a number":        {func(s *v1alpha1.InvariantSpec) { s.Message = "7" }, []string{"spec.message: it gives int where string is needed: write string(...) around it"}},
		"items that is a string":          {func(s *v1alpha1.InvariantSpec) { s.Source.HTTP.Items = "'x'" }, []string{"spec.source.http.items: it gives string where list(dyn) is needed"}},
		"mixed numbers":                   {func(s *v1alpha1.InvariantSpec) { s.Expression = "3 * 1.5 > 1.0" }, []string{"spec.expression: <input>:1:3: found no matching overload for '_*_' applied to '(int, double)'"}},
		"no expression":                   {func(s *v1alpha1.InvariantSpec) { s.Expression = "" }, []string{"spec.expression: it is missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := stores("self.up")
			test.change(spec)
			_, err := Compile(spec)
			var fault *verdict.Fault
			if !errors.As(err, &fault) || fault.Reason != verdict.InvalidExpression {
				t.Fatalf("the error is %v, want a fault InvalidExpression", err)
			}
			for _, words := range test.says {
				if !strings.HasPrefix(fault.Message, words) {
					t.Errorf("the message is\n%s\nwant it to begin with\n%s", fault.Message, words)
				}
			}
		})
	}
}

func TestAThousandInvariantsTakeLittleMemoryEach(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc) //nolint:gosec // far from 8 EiB
	}
	const invariants, most = 1000, 100 << 10
	programs := []*Program{compile(t, stores("self.up"))}
	before := heap()
	for i := range invariants {
		programs = append(programs, compile(t, stores(fmt.Sprintf("self.up%d", i))))
	}
	if each := (heap() - before) / invariants; each > most {
		t.Errorf("each takes %d bytes, want at most %d", each, most)
	}
	runtime.KeepAlive(programs)
}

func TestTheLanguageIsThatOfKubernetes(t *testing.T) {
	t.Parallel()
	for _, expression := range []string{
		"quantity('1.8Ti').isGreaterThan(quantity('1Ti'))",
		"url(self.url).getHost() == 'pd:2379'",
		"ip(self.ip).family() == 4 && cidr('10.0.0.0/8').containsIP(self.ip)",
		"semver(self.version).isGreaterThan(semver('7.1.0'))",
		"self.?absent.orValue(0) == 0 && !self.?absent.hasValue()",
		"self.name.find('[0-9]+') == '12'",
		"self.list.isSorted() && self.list.sum() == 6 && self.list.max() == 3",
		"sets.contains(self.list, [1, 2])",
		"self.name.split('-')[1] == '12'",
		"self.list.all(i, x, i < x)",
		"7 / 10 == 0",
		"double(self.int) * 1.5 == 4.5",
		"self.int < 3.5 && self.float > 1",
		"now == timestamp('2026-11-24T03:00:00Z')",
		"now - timestamp(self.seen) < duration('2m')",
		"self.big == 9007199254740993 && string(self.big) == '9007199254740993'",
		"has(self.int) && !has(self.absent)",
		"{'a': dyn(1), 'b': dyn('x')}.a == 1",
	} {
		t.Run(expression, func(t *testing.T) {
			t.Parallel()
			r := judged(t, &v1alpha1.InvariantSpec{Expression: "self.all(self, " + expression + ")"}, `{"url": "http://pd:2379/x", "ip": "10.1.2.3", "version": "7.5.1", "name": "store-12", "list": [1, 2, 3],
				"int": 3, "float": 1.5, "seen": "2026-11-24T02:59:00Z", "big": 9007199254740993}`)
			wantStores(t, r, map[string]verdict.Truth{"": verdict.Satisfied})
		})
	}
}
