package judge

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"invariant.dev/operator/controllers/verdict"
)

const forty = "'0123456789012345678901234567890123456789'"

func TestItemsThatBuildMoreThanAnAnswerHasAreTooLarge(t *testing.T) {
	t.Parallel()
	answer := `{"text": "` + strings.Repeat("x", 1<<20) + `", "stores": [` + strings.TrimSuffix(strings.Repeat(`{"id": 1},`, 1000), ",") + `]}`
	for name, items := range map[string]string{
		"a long text":                  "[" + doubled(forty, 20) + "]",
		"a long text, in a map":        "[{'id': '1', 'text': " + doubled(forty, 18) + "}]",
		"the same, as a key":           "[{" + doubled(forty, 18) + ": 1}]",
		"the same, as bytes":           "[bytes(" + doubled(forty, 18) + ")]",
		"the same, in an optional":     "[optional.of(" + doubled(forty, 18) + ")]",
		"many texts":                   "lists.range(9).map(i, string(i) + self.text)",
		"many numbers":                 "[lists.range(200000)]",
		"lists that hold lists":        "[" + nested(20) + "]",
		"the same, one after another":  "[" + doubled("[[1]]", 18) + "]",
		"what was split into its text": "[self.text.split('')]",
	} {
		spec := stores("false")
		spec.StoreID, spec.Source.HTTP.Items = "'1'", items
		r := judged(t, spec, answer)
		if r.Fault == nil || *r.Fault != (verdict.Fault{Reason: verdict.TooLarge, Message: "source.http.items makes more than 8 MiB of the answer: let it pick out less"}) {
			t.Errorf("%s: %v", name, r.Fault)
		}
	}
}

func TestItemsMayPickOutOfAnAnswerWhateverItHolds(t *testing.T) {
	t.Parallel()
	var listed []string
	for i := range 3000 {
		listed = append(listed, fmt.Sprintf(`{"id": %d, "text": "%s", "labels": [{"key": "zone", "value": "z1"}, {"key": "host", "value": "h1"}]}`, i, strings.Repeat("x", 2048)))
	}
	answer := `{"stores": [` + strings.Join(listed, ",") + `]}`
	for items, built := range map[string]int{
		"self.stores":                      100,
		"self.stores.filter(s, s.id >= 0)": 3001 * builtValue,
		"self.stores + []":                 3001 * builtValue,
		"self.stores.map(s, {'id': s.id, 'store': s, 'all': self.stores})":           3000*7*builtValue + 3000*20,
		"self.stores.map(s, s.text == '' ? s : {'id': s.id, 'text': dyn(s.id + 1)})": 3000*5*builtValue + 3000*20,
	} {
		spec := stores("self.id < 0")
		spec.Source.HTTP.Items = items
		r := judged(t, spec, answer)
		if r.Fault != nil || len(r.Violating) != 3000 || r.Built > built {
			t.Errorf("%s: %d are violated, built of %d bytes where %d are thought to be, with the fault %v", items, len(r.Violating), r.Built, built, r.Fault)
		}
	}
}

func TestWhatIsSaidToBeBuiltIsWhatViolatedStoresHold(t *testing.T) {
	spec := stores("int(self.id) % 2 == 0")
	spec.Source.HTTP.Items = "lists.range(100).map(i, {'id': string(i), 'text': " + doubled(forty, 10) + " + string(i)})"
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc) //nolint:gosec // far from 8 EiB
	}
	program, o := compile(t, spec), body(t, "{}")
	before := heap()
	r := program.Judge(t.Context(), o, moment)
	if held := heap() - before; len(r.Violating) != 50 || held > r.Built*3/2 {
		t.Errorf("%d violated stores hold %d bytes, and %d are said to be built", len(r.Violating), held, r.Built)
	}
	spec.Expression = "true"
	if well := judged(t, spec, "{}"); well.Built != 0 || well.Truth() != verdict.Satisfied {
		t.Errorf("%d bytes are said to be built where nothing is violated: %v", well.Built, well.Truth())
	}
	runtime.KeepAlive(r)
}
