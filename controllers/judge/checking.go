package judge

import (
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
)

// CEL finds out the types of an expression in a time that is bounded by nothing: each comparison of two types copies all that was found
// out about types before, and goes through a type that is a list of lists many times. 16 KiB can take minutes, and a few hundred bytes for
// ever, as a map from a value to itself has a type twice as large as that of the value.
const (
	// maxText is how long the expressions of an Invariant may be together, in bytes.
	maxText = 64 << 10
	// maxChecking is how many steps it may take to find out their types together, about: some 50 ns and 50 bytes each.
	maxChecking = 2_000_000
	// largestType is the size of a type that no expression needs, so that what it costs fits a number.
	largestType = 4096
)

// checking estimates how many steps it takes to find out the types of an expression.
type checking struct {
	// calls is what is known of each function.
	calls map[callable]callTypes
	// sizes are those of the types of the names that a loop gives.
	sizes map[string]uint64
	// parameters is of how many type parameters the type was found out.
	parameters, steps uint64
}

// callable is a function by its name, called on something or not.
type callable struct {
	name   string
	member bool
}

// callTypes is how many types a call of a function is compared with, and how many parameters those have.
type callTypes struct{ overloads, parameters uint64 }

// typesOfCalls is what an environment knows of its functions.
func typesOfCalls(env *cel.Env) map[callable]callTypes {
	calls := map[callable]callTypes{}
	for name, function := range env.Functions() {
		for _, overload := range function.OverloadDecls() {
			called := callable{name, overload.IsMemberFunction()}
			known := calls[called]
			calls[called] = callTypes{known.overloads + 1, known.parameters + uint64(len(overload.TypeParams()))}
		}
	}
	return calls
}

// pay counts what an expression takes whose type is of that size and is compared with so many.
func (c *checking) pay(comparisons, size uint64) uint64 {
	size = min(size, largestType)
	c.steps += comparisons*c.parameters + (1+comparisons)*(1+size*size*size/16)
	return size
}

// visit counts what an expression takes, and returns the size of its type: how many lists and maps that is made of, at most.
func (c *checking) visit(e ast.Expr) uint64 {
	switch e.Kind() {
	case ast.IdentKind:
		return c.pay(0, c.sizes[e.AsIdent()])
	case ast.SelectKind:
		return c.pay(1, c.visit(e.AsSelect().Operand()))
	case ast.CallKind:
		return c.visitCall(e.AsCall())
	case ast.ListKind:
		return c.visitList(e.AsList())
	case ast.MapKind:
		return c.visitMap(e.AsMap())
	case ast.StructKind:
		return c.visitStruct(e.AsStruct())
	case ast.ComprehensionKind:
		return c.visitLoop(e.AsComprehension())
	default:
		return c.pay(0, 0)
	}
}

func (c *checking) visitAll(all []ast.Expr) (largest uint64) {
	for _, e := range all {
		largest = max(largest, c.visit(e))
	}
	return largest
}

func (c *checking) visitCall(call ast.CallExpr) uint64 {
	args := call.Args()
	if call.IsMemberFunction() {
		args = append([]ast.Expr{call.Target()}, args...)
	}
	size, known := c.visitAll(args), c.callOf(call)
	if _, operator := operators.FindReverse(call.FunctionName()); !operator {
		size++
	}
	c.parameters += known.parameters
	return c.pay(max(known.overloads, uint64(len(args))), size)
}

// callOf is what is known of a function: a.b(c) may be a call of b on a, or one of a.b.
func (c *checking) callOf(call ast.CallExpr) callTypes {
	if call.IsMemberFunction() && call.Target().Kind() == ast.IdentKind {
		if known, found := c.calls[callable{call.Target().AsIdent() + "." + call.FunctionName(), false}]; found {
			return known
		}
	}
	return c.calls[callable{call.FunctionName(), call.IsMemberFunction()}]
}

func (c *checking) visitList(list ast.ListExpr) uint64 {
	size := c.visitAll(list.Elements())
	c.parameters++
	return c.pay(uint64(list.Size()), 1+size) //nolint:gosec // the length of a list
}

func (c *checking) visitMap(m ast.MapExpr) uint64 {
	var keys, values uint64
	for _, e := range m.Entries() {
		entry := e.AsMapEntry()
		keys, values = max(keys, c.visit(entry.Key())), max(values, c.visit(entry.Value()))
	}
	c.parameters += 2
	return c.pay(2*uint64(m.Size()), 1+keys+values) //nolint:gosec // the length of a map
}

func (c *checking) visitStruct(s ast.StructExpr) (size uint64) {
	for _, field := range s.Fields() {
		size = max(size, c.visit(field.AsStructField().Value()))
	}
	return c.pay(uint64(len(s.Fields())), size)
}

func (c *checking) visitLoop(loop ast.ComprehensionExpr) uint64 {
	over, sum := c.visit(loop.IterRange()), c.visit(loop.AccuInit())
	each := max(over, 1) - 1
	defer c.with(loop.AccuVar(), sum)()
	leave := c.with(loop.IterVar(), each)
	leaveSecond := c.with(loop.IterVar2(), each)
	c.visit(loop.LoopCondition())
	sum = max(sum, c.visit(loop.LoopStep()))
	leaveSecond()
	leave()
	c.sizes[loop.AccuVar()] = sum
	return c.pay(3, c.visit(loop.Result()))
}

// with gives a name a type of that size until what it returns is called.
func (c *checking) with(name string, size uint64) (leave func()) {
	before := c.sizes[name]
	c.sizes[name] = size
	return func() { c.sizes[name] = before }
}

// checkTypes refuses an expression whose types would take too long to find out, with those of the expressions before it.
func (c *compiler) checkTypes(e ast.Expr) error {
	checking := checking{calls: c.calls, sizes: map[string]uint64{}}
	checking.visit(e)
	if c.checking += checking.steps; c.checking > maxChecking {
		return fmt.Errorf("it takes %d steps to find out the types of the expressions up to this one, and at most %d are taken: "+
			"use fewer calls, lists and maps, or lists of lists less deep; or let several Invariants share the work", c.checking, maxChecking)
	}
	return nil
}

// checkText refuses expressions that are too long together.
func (c *compiler) checkText(source string) error {
	if c.text += len(source); c.text > maxText {
		return fmt.Errorf("the expressions up to this one have %d bytes, and at most %d are taken: "+
			"write less, or let several Invariants share the work", c.text, maxText)
	}
	return nil
}
