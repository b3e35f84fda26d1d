package judge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/cel-go/cel"
	"sigs.k8s.io/yaml"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// filled is the longest expression of that many bytes at most that repeats a part.
func filled(bytes int, part, end string) string {
	return strings.Repeat(part, (bytes-len(end))/len(part)) + end
}

func wantRefused(t *testing.T, err error, field, why string) {
	t.Helper()
	var fault *verdict.Fault
	if !errors.As(err, &fault) || fault.Reason != verdict.InvalidExpression || !strings.HasPrefix(fault.Message, "spec."+field+": ") || !strings.Contains(fault.Message, why) {
		t.Errorf("the error is %.300v, want one of %s: %s", err, field, why)
	}
}

// These took from a second to for ever, and up to 48 GiB, while their types were found out.
func TestAnExpressionWhoseTypesTakeTooLongToFindOutIsRefused(t *testing.T) {
	deep := func(depth int) string { return strings.Repeat("[", depth) + "1" + strings.Repeat("]", depth) }
	for name, expression := range map[string]string{
		"empty lists":                           filled(16384, "[]==[]||", "true"),
		"empty lists, in one":                   "[" + filled(16380, "[],", "[]") + "].size() > 0",
		"empty maps, in a list":                 "[" + filled(16380, "{},", "{}") + "].size() > 0",
		"items of what can be a list or a map":  filled(8192, "self[0]==1||", "true") + "&&" + filled(8190, "1<1&&", "true"),
		"optional items":                        filled(16380, "self[?0]==[]||", "true"),
		"loops":                                 filled(16380, "[].all(x,x)||", "true"),
		"loops in loops":                        strings.Repeat("[1].map(x,", 100) + "1" + strings.Repeat(")", 100) + ".size() > 0",
		"sets":                                  filled(16380, "sets.contains([],[])||", "true"),
		"a list in a list in a list":            deep(200) + ".all(x," + filled(15900, "x==x||", "true") + ")",
		"a list of what was mapped":             "[1]" + strings.Repeat(".map(x,[x])", 200) + ".size() > 0",
		"a map from each map to itself":         "[1]" + strings.Repeat(".map(x,{x:x})", 40) + ".size() > 0",
		"the same, by an index and a condition": "[1]" + strings.Repeat(".map(x,{[x][0]:true?x:x})", 40) + ".size() > 0",
		"the same, by a bound name":             strings.Repeat("optional.of(1).optMap(x,{x:x})", 1) + strings.Repeat(".optMap(x,{x:x})", 40) + ".hasValue()",
	} {
		t.Run(name, func(t *testing.T) {
			bounded(t, "compiling", func(context.Context) {
				began := processorTime()
				_, err := Compile(&v1alpha1.InvariantSpec{StoreID: "'1'", Expression: expression})
				wantRefused(t, err, "expression", "steps to find out the types of the expressions up to this one, and at most 2000000 are taken: use fewer calls, lists and maps, "+
					"or lists of lists less deep; or let several Invariants share the work")
				if took := processorTime() - began; took > time.Second {
					t.Errorf("it was refused after %v", took)
				}
			})
		})
	}
}

func TestTheExpressionsOfAnInvariantAreBoundedTogether(t *testing.T) {
	t.Parallel()
	full := func(text string) *v1alpha1.InvariantSpec {
		spec := stores("self.up")
		for i := range 16 {
			evidence := v1alpha1.SnapshotSpec{Name: fmt.Sprintf("s%d", i), Query: "up", With: map[string]v1alpha1.CELString{}}
			for j := range 16 {
				evidence.With[fmt.Sprintf("v%02d", j)] = v1alpha1.CELString(text)
			}
			spec.Snapshot = append(spec.Snapshot, evidence)
		}
		return spec
	}
	began := processorTime()
	_, err := Compile(full("string(" + filled(3900, "[]==[]||", "true") + ")"))
	wantRefused(t, err, "snapshot s0.with.v01", "at most 2000000 are taken")
	_, err = Compile(full("'" + strings.Repeat("x", 3990) + "'"))
	wantRefused(t, err, "snapshot s1.with.v00", "the expressions up to this one have 67890 bytes, and at most 65536 are taken: write less, or let several Invariants share the work")
	if took := processorTime() - began; took > 5*time.Second {
		t.Errorf("they were refused after %v", took)
	}
	if _, err := Compile(full("self.status_address + ':' + string(self.port)")); err != nil {
		t.Error(err)
	}
}

func TestLongExpressionsOfTheCommonKindAreTaken(t *testing.T) {
	t.Parallel()
	for _, expression := range []string{
		"self.name in [" + filled(16000, "'tikv-1234',", "'x'") + "]",
		filled(12000, "self.name == 'tikv-1' && ", "true"),
		filled(12000, "self.conditions.exists(c, c.type == 'Ready' && c.status == 'True') || ", "false"),
		filled(8000, "self.?status.?readyReplicas.orValue(0) >= self.spec.replicas - 1 || ", "false"),
		"self.l.transformMapEntry(i, v, {v: i}).transformMapEntry(k, v, {string(v): k}) == {}",
	} {
		if _, err := Compile(stores(expression)); err != nil {
			t.Errorf("%.60s: %v", expression, err)
		}
	}
}

func TestNoSampleComesNearTheBoundsOfExpressions(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../config/samples/*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d samples, %v", len(files), err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file) //nolint:gosec // a sample
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range strings.Split(string(content), "\n---\n") {
			var invariant v1alpha1.Invariant
			if err := yaml.Unmarshal([]byte(document), &invariant); err != nil || invariant.Kind != "Invariant" {
				continue
			}
			c, err := newCompiler()
			if err != nil {
				t.Fatal(err)
			}
			if c.compile(c.two, "expression", invariant.Spec.Expression, cel.BoolType); c.checking > maxChecking/20 {
				t.Errorf("%s in %s takes %d steps", invariant.Name, file, c.checking)
			}
		}
	}
}
