package judge

import (
	"strings"

	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/library"
)

// costLimitMessage is what the interpreter says when a cost limit is met.
const costLimitMessage = "operation cancelled: actual cost limit exceeded"

func isCostLimit(err error) bool {
	return err != nil && strings.Contains(err.Error(), "actual cost limit exceeded")
}

// costEstimator counts as Kubernetes does, and also what that leaves out: the cost of a function of CEL's own whose argument's type is
// not known before it is read, as all of self is, is 1, however long the text. So is that of + on lists, so that 30 doublings make
// a value of gigabytes. A function over it then runs on where neither cost nor time can stop it.
type costEstimator struct{ library.CostEstimator }

// unread are the functions that do not read the texts that they are given.
var unread = map[string]bool{"dyn": true, "type": true, "optional.of": true, "optional.ofNonZeroValue": true, "or": true, "orValue": true, "hasValue": true, "value": true}

// CallCost is what a call has cost.
func (e *costEstimator) CallCost(function, overload string, args []ref.Val, result ref.Val) *uint64 {
	var cost uint64
	switch estimate := estimates[function]; {
	case function == operators.Add:
		cost = costOfAdding(args, result)
	case estimate != nil:
		cost = 1 + estimate(args)
	default:
		theirs := e.CostEstimator.CallCost(function, overload, args, result)
		if cost = costOfReading(args); unread[function] || cost == 0 {
			return theirs
		}
		if theirs != nil {
			cost = max(cost, *theirs)
		}
	}
	return &cost
}

// costOfAdding is that of what comes of it; but a loop's result grows where it is, by what is added.
func costOfAdding(args []ref.Val, result ref.Val) uint64 {
	if _, grows := args[0].(traits.MutableLister); grows {
		return sizeCost(args[1])
	}
	return sizeCost(result)
}

// costOfReading is that of reading all texts among the arguments once.
func costOfReading(args []ref.Val) uint64 {
	var cost uint64
	for _, arg := range args {
		switch arg.(type) {
		case types.String, types.Bytes, apiservercel.URL:
			cost += sizeCost(arg)
		}
	}
	return cost
}

// sizeCost is the cost of going through a value once, and not into it: 1 per item of a list, and 1 per 10 bytes of a string, as
// in Kubernetes.
func sizeCost(value ref.Val) uint64 {
	n := size(value)
	switch value.(type) {
	case types.String, types.Bytes, apiservercel.URL:
		return 1 + n/10
	}
	return 1 + n
}
