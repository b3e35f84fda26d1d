package judge

import (
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
)

// CEL counts what a call has cost when it is over, and stops between calls only. A single call can take minutes or more memory
// than there is: replace puts a string of megabytes in the place of each of a million characters, and two lists that hold one
// list twice, which holds another twice, and so on, are compared for ever. So these calls are estimated before they are made.
var estimates = map[string]func(args []ref.Val) uint64{
	operators.Equals:    costOfComparing,
	operators.NotEquals: costOfComparing,
	operators.In:        func(args []ref.Val) uint64 { return deepSize(args[1]) },
	"indexOf":           costOfSearching,
	"lastIndexOf":       costOfSearching,
	"includes":          costOfSearching,
	"distinct":          func(args []ref.Val) uint64 { return times(size(args[0]), deepSize(args[0])) },
	"sets.contains":     costOfSets,
	"sets.equivalent":   costOfSets,
	"sets.intersects":   costOfSets,
	"lists.range":       func(args []ref.Val) uint64 { return number(args[0]) },
	"replace":           costOfReplacing,
	"join":              costOfJoining,
	"format":            costOfFormatting,
	"split":             func(args []ref.Val) uint64 { return size(args[0]) },
	"matches":           costOfMatching,
	"find":              costOfMatching,
	"findAll":           costOfMatching,
	"flatten":           func(args []ref.Val) uint64 { return deepSize(args[0]) },
}

// guard makes a program estimate calls before it makes them.
func guard(env *cel.Env) (cel.ProgramOption, error) {
	implementations := map[string]*functions.Overload{}
	for name, function := range env.Functions() {
		if estimates[name] == nil {
			continue
		}
		overloads, err := function.Bindings()
		if err != nil {
			return nil, err
		}
		for _, overload := range overloads {
			implementations[name+"\x00"+overload.Operator] = overload
		}
	}
	return cel.CustomDecoratorV2(func(node interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
		call, ok := node.(interpreter.InterpretableCall)
		if !ok || estimates[call.Function()] == nil {
			return node, nil
		}
		guarded := &guardedCall{InterpretableCall: call, estimate: estimates[call.Function()]}
		switch call.Function() {
		case operators.Equals:
			guarded.call = func(args []ref.Val) ref.Val { return types.Equal(args[0], args[1]) }
		case operators.NotEquals:
			guarded.call = func(args []ref.Val) ref.Val { return types.Bool(types.Equal(args[0], args[1]) != types.True) }
		default:
			implementation := implementations[call.Function()+"\x00"+call.OverloadID()]
			if implementation == nil {
				implementation = implementations[call.Function()+"\x00"+call.Function()]
			}
			if implementation == nil {
				return node, nil
			}
			guarded.call = func(args []ref.Val) ref.Val { return invoke(call, implementation, args) }
		}
		return guarded, nil
	}), nil
}

// guardedCall is a call that is not made where it would cost too much.
type guardedCall struct {
	interpreter.InterpretableCall
	estimate func(args []ref.Val) uint64
	call     func(args []ref.Val) ref.Val
}

// Eval implements interpreter.Interpretable.
func (g *guardedCall) Eval(activation interpreter.Activation) ref.Val {
	return g.Exec(interpreter.AsFrame(activation))
}

// Exec implements interpreter.InterpretableV2.
func (g *guardedCall) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	nodes := g.Args()
	args := make([]ref.Val, len(nodes))
	for i, node := range nodes {
		if args[i] = node.Exec(frame); types.IsUnknownOrError(args[i]) {
			return args[i]
		}
	}
	if g.estimate(args) > maxCallCost {
		panic(interpreter.EvalCancelledError{Cause: interpreter.CostLimitExceeded, Message: costLimitMessage})
	}
	return types.LabelErrNode(g.ID(), g.call(args))
}

// invoke calls a function as the interpreter does.
func invoke(call interpreter.InterpretableCall, f *functions.Overload, args []ref.Val) ref.Val {
	switch {
	case f.OperandTrait != 0 && !args[0].Type().HasTrait(f.OperandTrait):
	case len(args) == 1 && f.Unary != nil:
		return f.Unary(args[0])
	case len(args) == 2 && f.Binary != nil:
		return f.Binary(args[0], args[1])
	case f.Function != nil:
		return f.Function(args...)
	}
	if receiver, ok := args[0].(traits.Receiver); ok && args[0].Type().HasTrait(traits.ReceiverType) {
		return receiver.Receive(call.Function(), call.OverloadID(), args[1:])
	}
	return types.NewErrWithNodeID(call.ID(), "no such overload: %s", call.Function())
}

func costOfComparing(args []ref.Val) uint64 { return min(deepSize(args[0]), deepSize(args[1])) }

func costOfSearching(args []ref.Val) uint64 {
	if _, text := args[0].(types.String); text {
		return size(args[0]) / 10
	}
	return deepSize(args[0])
}

func costOfSets(args []ref.Val) uint64 { return times(size(args[0]), deepSize(args[1])) }

func costOfReplacing(args []ref.Val) uint64 {
	if len(args) < 3 {
		return 0
	}
	text, _ := args[0].(types.String)
	old, _ := args[1].(types.String)
	return (size(text) + times(uint64(strings.Count(string(text), string(old))), size(args[2]))) / 10
}

func costOfJoining(args []ref.Val) uint64 {
	cost := deepSize(args[0])
	if len(args) > 1 {
		cost += times(size(args[0]), size(args[1])) / 10
	}
	return cost
}

func costOfFormatting(args []ref.Val) uint64 {
	if len(args) < 2 {
		return 0
	}
	text, _ := args[0].(types.String)
	// A clause may ask for so many digits.
	const mostDigits = 1000
	return times(uint64(strings.Count(string(text), "%")), deepSize(args[1])+mostDigits/10)
}

// costOfMatching is Kubernetes' own: a regular expression looks at each character once for each part of it, about.
func costOfMatching(args []ref.Val) uint64 {
	if len(args) < 2 {
		return 0
	}
	return times(1+size(args[0])/10, 1+size(args[1])/4)
}

// size is the length of a string in bytes, or of a list or map in entries.
func size(value ref.Val) uint64 {
	switch v := value.(type) {
	case types.String:
		return uint64(len(v))
	case types.Bytes:
		return uint64(len(v))
	case traits.Sizer:
		if n, ok := v.Size().(types.Int); ok && n >= 0 {
			return uint64(n)
		}
		return maxCallCost + 1
	}
	return 1
}

func number(value ref.Val) uint64 {
	if n, ok := value.(types.Int); ok && n > 0 {
		return uint64(n)
	}
	return 0
}

// times is a*b, or more than any call may cost.
func times(a, b uint64) uint64 {
	if a != 0 && b > (maxCallCost+1)*10/a {
		return (maxCallCost + 1) * 10
	}
	return a * b
}

// deepSize is what going through all of a value costs, however often it holds the same: 1 for each value, and 1 per 10 bytes
// of text, as in Kubernetes. It goes no further than what one call may cost.
func deepSize(value ref.Val) uint64 {
	walk := walker{left: maxCallCost + 1}
	walk.visit(value)
	return maxCallCost + 1 - walk.left
}

// walker goes through values until nothing is left.
type walker struct{ left uint64 }

func (w *walker) pay(n uint64) bool {
	w.left -= min(n, w.left)
	return w.left > 0
}

func (w *walker) visit(value ref.Val) {
	switch v := value.(type) {
	case types.String, types.Bytes:
		w.pay(1 + size(v)/10)
	case *types.Optional:
		if w.pay(1) && v.HasValue() {
			w.visit(v.GetValue())
		}
	case traits.Mapper:
		if !w.pay(1) {
			return
		}
		for it := v.Iterator(); it.HasNext() == types.True && w.left > 0; {
			key := it.Next()
			w.visit(key)
			w.visit(v.Get(key))
		}
	case traits.Lister:
		if !w.pay(1) {
			return
		}
		for it := v.Iterator(); it.HasNext() == types.True && w.left > 0; {
			w.visit(it.Next())
		}
	default:
		w.pay(1)
	}
}
