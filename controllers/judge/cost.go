package judge

import (
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"k8s.io/apiserver/pkg/cel/library"
)

// costEstimator counts as Kubernetes does, and also what that leaves out: + on values whose type is not known before they
// are read, as all of self is, and on lists, costs Kubernetes 1, so that 30 doublings make a value of gigabytes. A
// function over it then runs on where neither cost nor time can stop it.
type costEstimator struct{ library.CostEstimator }

// CallCost is what a call has cost.
func (e *costEstimator) CallCost(function, overload string, args []ref.Val, result ref.Val) *uint64 {
	var cost uint64
	switch {
	case function == operators.Add:
		cost = sizeCost(result)
	case function == operators.In && len(args) == 2:
		cost = sizeCost(args[1])
	default:
		return e.CostEstimator.CallCost(function, overload, args, result)
	}
	return &cost
}

// sizeCost is the cost of going through a value once: 1 per item of a list, and 1 per 10 bytes of a string, as in
// Kubernetes.
func sizeCost(value ref.Val) uint64 {
	switch v := value.(type) {
	case traits.Lister:
		if size, ok := v.Size().(types.Int); ok && size >= 0 {
			return 1 + uint64(size)
		}
		return maxCallCost + 1
	case types.String:
		return 1 + uint64(len(v))/10
	case types.Bytes:
		return 1 + uint64(len(v))/10
	}
	return 1
}
