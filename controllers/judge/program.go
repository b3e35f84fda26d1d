// Package judge turns readings into verdicts, with the expressions of an Invariant in Kubernetes' own CEL
// environment. It does no I/O and reads no clock.
package judge

import (
	"fmt"
	"strings"

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
	// interruptEvery is after how many steps of a loop an evaluation looks at its deadline.
	interruptEvery = 100
)

// languageVersion is the Kubernetes version whose CEL this is.
var languageVersion = version.MajorMinor(1, 37)

// Program is an Invariant's expressions, compiled. It may be used by many goroutines.
type Program struct {
	items, storeID, expression, message *expression
	snapshot                            []namedProgram
	// fallback is the message where there is none.
	fallback  string
	minStores int
}

type namedProgram struct {
	name    string
	program *expression
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
	env, err := environment.MustBaseEnvSet(languageVersion).Extend(environment.VersionedOptions{
		IntroducedVersion: languageVersion,
		EnvOptions: []cel.EnvOption{
			cel.Variable("self", cel.DynType),
			cel.Variable("now", cel.TimestampType),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the CEL environment: %w", err)
	}
	c := compiler{env: env.NewExpressionsEnv()}
	if spec.Expression == "" {
		c.refuse("expression", "it is missing: write what must be true, such as self.status == 'Up'")
	}
	p := &Program{
		storeID:    c.compile("storeID", spec.StoreID, cel.StringType),
		expression: c.compile("expression", spec.Expression, cel.BoolType),
		message:    c.compile("message", spec.Message, cel.StringType),
		fallback:   spec.Description,
		minStores:  1,
	}
	if spec.MinStores != nil {
		p.minStores = int(*spec.MinStores)
	}
	if p.fallback == "" {
		p.fallback = "not true: " + spec.Expression
	}
	if spec.Source.HTTP != nil {
		p.items = c.compile("source.http.items", spec.Source.HTTP.Items, cel.ListType(cel.DynType))
	}
	for _, s := range spec.Snapshot {
		p.snapshot = append(p.snapshot, namedProgram{s.Name, c.compile("snapshot "+s.Name, s.Expression, cel.DynType)})
	}
	if c.fault != nil {
		return nil, c.fault
	}
	return p, nil
}

// compiler compiles one expression after another and keeps the first fault.
type compiler struct {
	env   *cel.Env
	fault *verdict.Fault
}

func (c *compiler) compile(field, source string, want *cel.Type) *expression {
	if source == "" || c.fault != nil {
		return nil
	}
	ast, issues := c.env.Compile(source)
	if issues.Err() != nil {
		c.refuse(field, strings.TrimPrefix(issues.Err().Error(), "ERROR: "))
		return nil
	}
	if got := ast.OutputType(); !got.IsExactType(cel.DynType) && !want.IsAssignableType(got) {
		c.refuse(field, fmt.Sprintf("it gives %s where %s is needed%s", got, want, hintForType(want)))
		return nil
	}
	program, err := c.env.Program(ast, cel.CostTracking(&costEstimator{}), cel.CostLimit(maxCallCost), cel.InterruptCheckFrequency(interruptEvery))
	if err != nil {
		c.refuse(field, err.Error())
	}
	return &expression{field, source, program}
}

func (c *compiler) refuse(field, why string) {
	c.fault = &verdict.Fault{Reason: verdict.InvalidExpression, Message: fmt.Sprintf("spec.%s: %s", field, why)}
}

func hintForType(want *cel.Type) string {
	if want.IsExactType(cel.StringType) {
		return ": write string(...) around it"
	}
	return ""
}
