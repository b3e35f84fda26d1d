package judge

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/library"
)

// CEL counts what a call has cost when it is over, and stops between calls only. A single call can take minutes or more memory
// than there is: replace puts a string of megabytes in the place of each of a million characters, and two lists that hold one
// list twice, which holds another twice, and so on, are compared for ever. So these calls are estimated before they are made.
// An estimate takes no more time than what it gives stands for. Of the functions that are not here a single call takes no longer
// than reading its texts a few times does, which they cost afterwards.
var estimates = map[string]func(args []ref.Val) uint64{
	operators.Equals:    costOfComparing,
	operators.NotEquals: costOfComparing,
	operators.In:        costOfLookingUp,
	"indexOf":           costOfSearching,
	"lastIndexOf":       costOfSearching,
	"includes":          costOfSearching,
	"contains":          costOfSearching,
	"isSorted":          costOfFirst,
	"max":               costOfFirst,
	"min":               costOfFirst,
	"flatten":           func(args []ref.Val) uint64 { return layeredSize(args[0]) },
	"sort":              costOfSorting,
	sortBy:              costOfSorting,
	"distinct":          func(args []ref.Val) uint64 { return times(size(args[0]), deepSize(args[0])) },
	"sets.contains":     costOfSets,
	"sets.equivalent":   costOfSets,
	"sets.intersects":   costOfSets,
	"lists.range":       func(args []ref.Val) uint64 { return number(args[0]) },
	"replace":           costOfReplacing,
	"join":              costOfJoining,
	"format":            costOfFormatting,
	"split":             func(args []ref.Val) uint64 { return size(args[0]) + costOfSearching(args) },
	"matches":           costOfMatching,
	"find":              costOfMatching,
	"findAll":           func(args []ref.Val) uint64 { return size(args[0]) + costOfMatching(args) },
	"validate":          costOfValidating,
	"quantity":          costOfQuantity,
	"isQuantity":        costOfQuantity,
	"semver":            costOfVersion,
	"isSemver":          costOfVersion,
}

// sortBy is what the macro of that name calls, with a list and what to sort it by.
const sortBy = "@sortByAssociatedKeys"

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
		matching, err := matchingConstant(call)
		if err != nil {
			return nil, err
		}
		switch {
		case matching != nil:
			guarded.call = matching
		case call.Function() == operators.Equals:
			guarded.call = func(args []ref.Val) ref.Val { return types.Equal(args[0], args[1]) }
		case call.Function() == operators.NotEquals:
			guarded.call = func(args []ref.Val) ref.Val { return types.Bool(types.Equal(args[0], args[1]) != types.True) }
		default:
			implementation := implementations[call.Function()+"\x00"+call.OverloadID()]
			if implementation == nil {
				implementation = implementations[call.Function()+"\x00"+call.Function()]
			}
			if implementation == nil {
				return nil, fmt.Errorf("%s has no implementation that can be guarded", call.Function())
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

// Args are the call's, without telling which are constant: what comes later would put an unguarded call in the place of one with a
// constant regular expression.
func (g *guardedCall) Args() []interpreter.InterpretableV2 {
	args := slices.Clone(g.InterpretableCall.Args())
	for i, arg := range args {
		if _, constant := arg.(interpreter.InterpretableConst); constant {
			args[i] = opaque{arg}
		}
	}
	return args
}

// opaque is a node of which nobody knows the kind.
type opaque struct{ interpreter.InterpretableV2 }

// Eval implements interpreter.Interpretable.
func (g *guardedCall) Eval(activation interpreter.Activation) ref.Val {
	return g.Exec(interpreter.AsFrame(activation))
}

// Exec implements interpreter.InterpretableV2.
func (g *guardedCall) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	nodes := g.InterpretableCall.Args()
	args := make([]ref.Val, len(nodes))
	for i, node := range nodes {
		if args[i] = node.Exec(frame); types.IsUnknownOrError(args[i]) {
			return args[i]
		}
	}
	switch cost := g.estimate(args); {
	case cost > maxCallCost:
		panic(interpreter.EvalCancelledError{Cause: interpreter.CostLimitExceeded, Message: costLimitMessage})
	case cost > costOfALook && outOfTime(frame):
		panic(interpreter.EvalCancelledError{Cause: interpreter.ContextCancelled, Message: "operation interrupted"})
	}
	return types.LabelErrNode(g.ID(), g.call(args))
}

// costOfALook is what a call must cost for it to look at the deadline first: loops do so every few steps, and may be none.
const costOfALook = 10_000

// outOfTime looks at the deadline, which the interpreter does at every so many of its questions.
func outOfTime(frame *interpreter.ExecutionFrame) bool {
	for range interruptEvery {
		if frame.CheckInterrupt() {
			return true
		}
	}
	return false
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

// costOfComparing is what it costs to find out whether two values are equal: it goes through both until they differ.
func costOfComparing(args []ref.Val) uint64 {
	walk := walker{left: maxCallCost + 1}
	walk.compare(args[0], args[1])
	return maxCallCost + 1 - walk.left
}

// costOfLookingUp is that of going through a list, or of one look into a map.
func costOfLookingUp(args []ref.Val) uint64 {
	if _, isMap := args[1].(traits.Mapper); isMap {
		return sizeCost(args[0])
	}
	return deepSize(args[1])
}

// costOfSearching in a text is that of comparing with each part of it, in a list that of going through it.
func costOfSearching(args []ref.Val) uint64 {
	if _, text := args[0].(types.String); text && len(args) > 1 {
		return times(1+size(args[0])/10, 1+size(args[1])/10)
	}
	return deepSize(args[0])
}

func costOfFirst(args []ref.Val) uint64 { return deepSize(args[0]) }

// costOfSorting counts that each value is compared with as many others as the number of values has digits.
func costOfSorting(args []ref.Val) uint64 {
	keys := args[len(args)-1]
	return times(uint64(bits.Len64(size(keys))), deepSize(keys)) //nolint:gosec // from 0 to 64
}

func costOfSets(args []ref.Val) uint64 { return times(size(args[0]), deepSize(args[1])) }

func costOfReplacing(args []ref.Val) uint64 {
	if len(args) < 3 {
		return 0
	}
	text, _ := args[0].(types.String)
	old, _ := args[1].(types.String)
	search := costOfSearching(args)
	if search > maxCallCost {
		return search
	}
	return search + (size(text)+times(uint64(strings.Count(string(text), string(old))), size(args[2])))/10
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
	return times(uint64(strings.Count(string(text), "%")), layeredSize(args[1])+mostDigits/10)
}

// costOfMatching is that of compiling a regular expression, and of looking at each character with each part of it.
func costOfMatching(args []ref.Val) uint64 {
	if len(args) < 2 {
		return 0
	}
	pattern, _ := args[1].(types.String)
	parts := patternSize(string(pattern))
	return times(10, parts) + times(1+size(args[0])/10, parts)
}

// costOfValidating is Kubernetes' own.
func costOfValidating(args []ref.Val) uint64 {
	if cost := (&library.CostEstimator{}).CallCost("validate", "", args, nil); cost != nil {
		return *cost
	}
	return 0
}

// costOfQuantity is that of parsing a number: its digits are multiplied with each other. An exponent of more than three digits is
// too much: not to parse, but to compare, which makes as many digits of it.
func costOfQuantity(args []ref.Val) uint64 {
	text, _ := args[0].(types.String)
	if e := strings.LastIndexAny(string(text), "eE"); e >= 0 && len(strings.TrimLeft(string(text[e+1:]), "+-")) > 3 {
		return maxCallCost + 1
	}
	return costOfVersion(args)
}

// costOfVersion is that of reading a text that is expected to be short, with what is made of its parts: 10 kB cost 100,000, and
// 100 KB are too much.
func costOfVersion(args []ref.Val) uint64 {
	n := size(args[0])
	return n/10 + times(n, n/1000)
}

// size is the length of a string in bytes, or of a list or map in entries.
func size(value ref.Val) uint64 {
	switch v := value.(type) {
	case types.String:
		return uint64(len(v))
	case types.Bytes:
		return uint64(len(v))
	case apiservercel.URL:
		return urlSize(v)
	case traits.Sizer:
		if n, ok := v.Size().(types.Int); ok && n >= 0 {
			return uint64(n)
		}
		return maxCallCost + 1
	}
	return 1
}

// urlSize is what a URL holds, in bytes. Some of it is quoted anew each time that it is asked for, in three times as many.
func urlSize(u apiservercel.URL) uint64 {
	if u.URL == nil {
		return 1
	}
	return uint64(len(u.Host) + 3*len(u.Path) + len(u.RawQuery))
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

// layeredSize is deepSize where what is deep in a value is copied from layer to layer, which is ten times cheaper than going through it.
func layeredSize(value ref.Val) uint64 {
	walk := walker{left: maxCallCost + 1, layered: true}
	walk.visit(value)
	return maxCallCost + 1 - walk.left
}

// walker goes through values until nothing is left.
type walker struct {
	left    uint64
	layered bool
	// depth is how many lists and maps it is in.
	depth uint64
}

func (w *walker) pay(n uint64) bool {
	if w.layered {
		n = times(n, 1+w.depth/10)
	}
	w.left -= min(n, w.left)
	return w.left > 0
}

// compare goes through two values for as long as they are equal, and tells whether they are as far as it went.
func (w *walker) compare(a, b ref.Val) bool {
	if !w.pay(1) {
		return false
	}
	switch v := a.(type) {
	case types.String, types.Bytes:
		return size(a) != size(b) || w.pay(size(a)/10)
	case *types.Optional:
		other, ok := b.(*types.Optional)
		return ok && v.HasValue() && other.HasValue() && w.compare(v.GetValue(), other.GetValue())
	case traits.Mapper:
		other, ok := b.(traits.Mapper)
		return ok && size(a) == size(b) && w.compareMaps(v, other)
	case traits.Lister:
		other, ok := b.(traits.Lister)
		return ok && size(a) == size(b) && w.compareLists(v, other)
	}
	return types.Equal(a, b) == types.True
}

func (w *walker) compareMaps(a, b traits.Mapper) bool {
	for it := a.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		other, found := b.Find(key)
		if !found || !w.pay(sizeCost(key)) || !w.compare(a.Get(key), other) {
			return false
		}
	}
	return true
}

func (w *walker) compareLists(a, b traits.Lister) bool {
	for i := range types.Int(size(a)) { //nolint:gosec // the length of a list
		if !w.compare(a.Get(i), b.Get(i)) {
			return false
		}
	}
	return true
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
		w.depth++
		defer func() { w.depth-- }()
		for it := v.Iterator(); it.HasNext() == types.True && w.left > 0; {
			key := it.Next()
			w.visit(key)
			w.visit(v.Get(key))
		}
	case traits.Lister:
		if !w.pay(1) {
			return
		}
		w.depth++
		defer func() { w.depth-- }()
		for it := v.Iterator(); it.HasNext() == types.True && w.left > 0; {
			w.visit(it.Next())
		}
	default:
		w.pay(1)
	}
}
