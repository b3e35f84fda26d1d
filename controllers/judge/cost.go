package judge

import (
	"strings"

	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"k8s.io/apiserver/pkg/cel/library"
)

// costLimitMessage is what the interpreter says when a cost limit is met.
const costLimitMessage = "operation cancelled: actual cost limit exceeded"

func isCostLimit(err error) bool {
	return err != nil && strings.Contains(err.Error(), "actual cost limit exceeded")
}

// costEstimator counts as Kubernetes does, and also what that leaves out: + on values whose type is not known before they
// are read, as all of self is, and on lists, costs Kubernetes 1, so that 30 doublings make a value of gigabytes. A
// function over it then runs on where neither cost nor time can stop it.
type costEstimator struct{ library.CostEstimator }

// CallCost is what a call has cost.
func (e *costEstimator) CallCost(function, overload string, args []ref.Val, result ref.Val) *uint64 {
	var cost uint64
	switch estimate := estimates[function]; {
	case function == operators.Add:
		cost = sizeCost(result)
	case estimate != nil:
		cost = 1 + estimate(args)
	default:
		return e.CostEstimator.CallCost(function, overload, args, result)
	}
	return &cost
}

// sizeCost is the cost of going through a value once, and not into it: 1 per item of a list, and 1 per 10 bytes of a string, as
// in Kubernetes.
func sizeCost(value ref.Val) uint64 {
	n := size(value)
	switch value.(type) {
	case types.String, types.Bytes:
		return 1 + n/10
	}
	return 1 + n
}
