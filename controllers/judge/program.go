// Package judge turns readings into verdicts, with the expressions of an Invariant in Kubernetes' own CEL
// environment. It does no I/O and reads no clock.
package judge

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel/environment"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// Limits of one check. Costs are in CEL's cost units, as Kubernetes counts them: 10 million take from one second
// to ten, so that a loop in a loop meets the deadline of the check first.
const (
	// MaxReadings is how many readings a check takes.
	MaxReadings = 10_000
	// MaxStoreID is the length of a store ID, in bytes.
	MaxStoreID = 320
	// maxCallCost is what one evaluation may cost, and maxCheckCost all of one check.
	maxCallCost  = 10_000_000
	maxCheckCost = 30_000_000
	// maxRefusal is how much is said of what does not compile, in bytes: CEL repeats the line for each of a hundred mistakes.
	maxRefusal = 4096
	// interruptEvery is after how many steps of a loop an evaluation looks at its deadline.
	interruptEvery = 20
)

// languageVersion is the Kubernetes version whose CEL this is.
var languageVersion = version.MajorMinor(1, 37)

// Program is an Invariant's expressions, compiled. It may be used by many goroutines.
type Program struct {
	// expression is nil where each reading is a violation.
	items, storeID, expression, message *expression
	snapshot                            []evidence
	// fallback is the message where there is none.
	fallback  string
	minStores int
	// wholeAnswer: the answer of an http source is one reading.
	wholeAnswer bool
	// ages: what is said of a reading depends on the time too. looksBack: and on the reading before it.
	ages, looksBack bool
}

// evidence is one piece of a snapshot: what an expression gives, or the answer to a query.
type evidence struct {
	name       string
	expression *expression
	query      *query
	with       map[string]*expression
}

// expression is one compiled expression.
type expression struct {
	// field is where it stands in the spec.
	field, source string
	program       cel.Program
}

// Compile compiles the expressions of a spec. The error is a *verdict.Fault with the reason InvalidExpression that names
// the field and says where in it the fault is.
func Compile(spec *v1alpha1.InvariantSpec) (*Program, error) {
	c, err := newCompiler()
	if err != nil {
		return nil, fmt.Errorf("prepare the CEL environment: %w", err)
	}
	if spec.Expression == "" && !spec.AlertStyle() {
		c.refuse("expression", "it is missing: write what must be true, such as self.status == 'Up'")
	}
	p := &Program{
		storeID:    c.compile(c.one, "storeID", spec.StoreID, cel.StringType),
		expression: c.compile(c.two, "expression", spec.Expression, cel.BoolType),
		message:    c.compile(c.two, "message", spec.Message, cel.StringType),
		fallback:   fallbackMessage(spec),
		minStores:  spec.MinStoresOrDefault(),
	}
	if spec.Source.HTTP != nil {
		p.wholeAnswer = spec.Source.HTTP.URL != "" && spec.Source.HTTP.Items == ""
		p.items = c.compile(c.one, "source.http.items", spec.Source.HTTP.Items, cel.ListType(cel.DynType))
	}
	p.ages, p.looksBack = c.names[nameNow], c.names[nameOldSelf]
	for _, s := range spec.Snapshot {
		p.snapshot = append(p.snapshot, c.evidence(s))
	}
	if c.fault != nil {
		return nil, c.fault
	}
	return p, nil
}

// fallbackMessage is a violation's message where there is none.
func fallbackMessage(spec *v1alpha1.InvariantSpec) string {
	switch {
	case spec.Description != "":
		return spec.Description
	case spec.AlertStyle():
		return "given by the query " + spec.Source.Prometheus.Query
	default:
		return "not true: " + spec.Expression
	}
}

// What expressions call what they are about.
const (
	nameSelf    = "self"
	nameOldSelf = "oldSelf"
	nameNow     = "now"
)

// language is what expressions are written in.
type language struct {
	// one is the environment of expressions over one reading, two of those that also have the reading before it.
	one, two *cel.Env
	guard    cel.ProgramOption
	// calls is what the types of functions take to find out.
	calls map[callable]callTypes
}

// theLanguage is made once: an environment holds tables of all functions, which would take more memory for each Invariant than all else
// of it.
var theLanguage = sync.OnceValues(newLanguage)

func newLanguage() (l language, err error) {
	set, err := environment.MustBaseEnvSet(languageVersion).Extend(environment.VersionedOptions{
		IntroducedVersion: languageVersion,
		EnvOptions:        []cel.EnvOption{optionalMacros, cel.Variable(nameSelf, cel.DynType), cel.Variable(nameNow, cel.TimestampType)},
	})
	if err != nil {
		return l, err
	}
	l.one = set.NewExpressionsEnv()
	if l.two, err = l.one.Extend(cel.Variable(nameOldSelf, cel.DynType)); err != nil {
		return l, err
	}
	l.calls = typesOfCalls(l.two)
	l.guard, err = guard(l.one)
	return l, err
}

// compiler compiles one expression after another and keeps the first fault.
type compiler struct {
	language
	// names are those that the expressions use.
	names map[string]bool
	// text is how long they are together, and checking how many steps their types take to find out.
	text     int
	checking uint64
	fault    *verdict.Fault
}

func newCompiler() (*compiler, error) {
	l, err := theLanguage()
	return &compiler{language: l, names: map[string]bool{}}, err
}

func (c *compiler) compile(env *cel.Env, field, source string, want *cel.Type) *expression {
	if source == "" || c.fault != nil {
		return nil
	}
	defer func() {
		// CEL does not recover from what fails in Go while it compiles: {b'x': 1} is no map that Go can make, and [?dyn(x)] no list
		// whose type can be checked.
		if recover() != nil {
			c.refuse(field, "CEL's own compiler fails on it: write it another way")
		}
	}()
	if err := c.checkText(source); err != nil {
		c.refuse(field, err.Error())
		return nil
	}
	ast, issues := env.Parse(source)
	if issues.Err() == nil {
		if err := cmp.Or(checkPatterns(ast.NativeRep().Expr()), c.checkTypes(ast.NativeRep().Expr())); err != nil {
			c.refuse(field, err.Error())
			return nil
		}
		ast, issues = env.Check(ast)
	}
	if issues.Err() != nil {
		c.refuse(field, strings.TrimPrefix(issues.Err().Error(), "ERROR: "))
		return nil
	}
	if got := ast.OutputType(); !got.IsExactType(cel.DynType) && !want.IsAssignableType(got) {
		c.refuse(field, fmt.Sprintf("it gives %s where %s is needed%s", got, want, hintForType(want)))
		return nil
	}
	program, err := env.Program(ast, c.guard, cel.CostTracking(&costEstimator{}), cel.CostLimit(maxCallCost), cel.InterruptCheckFrequency(interruptEvery))
	if err != nil {
		c.refuse(field, err.Error())
	}
	for _, reference := range ast.NativeRep().ReferenceMap() {
		c.names[reference.Name] = true
	}
	return &expression{field, source, program}
}

// evidence compiles one piece of a snapshot.
func (c *compiler) evidence(s v1alpha1.SnapshotSpec) evidence {
	field := "snapshot " + s.Name
	e := evidence{name: s.Name, expression: c.compile(c.one, field, s.Expression, cel.DynType)}
	if s.Query == "" || c.fault != nil {
		return e
	}
	names := make([]string, 0, len(s.With))
	e.with = make(map[string]*expression, len(s.With))
	for _, name := range slices.Sorted(maps.Keys(s.With)) {
		names = append(names, name)
		e.with[name] = c.compile(c.one, field+".with."+name, string(s.With[name]), cel.StringType)
	}
	parsed, err := parseQuery(s.Query, names)
	if err != nil && c.fault == nil {
		c.refuse(field+".query", err.Error())
	}
	e.query = parsed
	return e
}

func (c *compiler) refuse(field, why string) {
	c.fault = &verdict.Fault{Reason: verdict.InvalidExpression, Message: verdict.Truncate(fmt.Sprintf("spec.%s: %s", field, why), maxRefusal)}
}

func hintForType(want *cel.Type) string {
	if want.IsExactType(cel.StringType) {
		return ": write string(...) around it"
	}
	return ""
}
