package judge

import (
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
)

// CEL's own optMap and optFlatMap write what they are called on twice into what they become. Of a chain of them each link doubles all before
// it, so that twenty take more memory than there is, before anything is checked.
var optionalMacros = cel.Macros(optionalMacro("optMap", true), optionalMacro("optFlatMap", false))

// theOptional is what a macro calls the value that it is called on. Nobody can write such a name.
const theOptional = "@optional"

// optionalMacro is the macro of that name, which evaluates what it is called on once. wrap: it makes an optional value of what it maps to.
//
// Within what it maps to, theOptional may be that of another such macro: its own is not looked at any more by then.
func optionalMacro(name string, wrap bool) cel.Macro {
	return cel.ReceiverMacro(name, 2, func(f cel.MacroExprFactory, target ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
		if args[0].Kind() != ast.IdentKind {
			return nil, f.NewError(args[0].ID(), name+"() variable name must be a simple identifier")
		}
		mapped := bind(f, args[0].AsIdent(), f.NewMemberCall("value", f.NewIdent(theOptional)), args[1])
		if wrap {
			mapped = f.NewCall("optional.of", mapped)
		}
		return bind(f, theOptional, target,
			f.NewCall(operators.Conditional, f.NewMemberCall("hasValue", f.NewIdent(theOptional)), mapped, f.NewCall("optional.none"))), nil
	})
}

// bind is an expression in which a name stands for a value: a loop that is not run, as CEL's own cel.bind.
func bind(f cel.MacroExprFactory, name string, value, in ast.Expr) ast.Expr {
	return f.NewComprehension(f.NewList(), "#unused", name, value, f.NewLiteral(types.False), f.NewIdent(name), in)
}
