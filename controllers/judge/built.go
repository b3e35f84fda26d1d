package judge

import (
	"fmt"
	"reflect"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"invariant.dev/operator/controllers/verdict"
)

const (
	// maxBuilt is how much memory the readings that items picks may take beside what the source sent, in bytes, about: as much as an answer.
	maxBuilt = 8 << 20
	// builtValue is what a value takes beside its text.
	builtValue = 64
)

// The kinds of list and map that CEL makes of what a source sent; and of other lists and maps, too.
var (
	plainList = reflect.TypeOf(types.NewDynamicList(types.DefaultTypeAdapter, []any{}))
	plainMap  = reflect.TypeOf(types.NewStringInterfaceMap(types.DefaultTypeAdapter, map[string]any{}))
)

// sent tells whether a value is a list or a map that the source sent: that takes no memory anew, wherever it is.
func sent(value ref.Val) (is bool) {
	switch reflect.TypeOf(value) {
	case plainList:
		_, is = value.Value().([]any)
	case plainMap:
		_, is = value.Value().(map[string]any)
	}
	return is
}

// builtSize is what a value takes in memory that an expression made of what a source sent, in bytes, about; it goes no further than maxBuilt.
func builtSize(value ref.Val) int {
	left := maxBuilt + 1
	weigh(value, &left)
	return maxBuilt + 1 - left
}

// weigh takes what a value weighs off what is left.
func weigh(value ref.Val, left *int) {
	*left = max(0, *left-builtValue)
	if *left == 0 || sent(value) {
		return
	}
	switch v := value.(type) {
	case *types.Optional:
		if v.HasValue() {
			weigh(v.GetValue(), left)
		}
	case traits.Mapper:
		for it := v.Iterator(); it.HasNext() == types.True && *left > 0; {
			key := it.Next()
			weigh(key, left)
			weigh(v.Get(key), left)
		}
	case traits.Lister:
		for it := v.Iterator(); it.HasNext() == types.True && *left > 0; {
			weigh(it.Next(), left)
		}
	default:
		*left = max(0, *left-int(min(size(value), maxBuilt+1))) //nolint:gosec // at most maxBuilt+1
	}
}

func tooMuchBuilt() *verdict.Fault {
	return &verdict.Fault{Reason: verdict.TooLarge,
		Message: fmt.Sprintf("source.http.items makes more than %d MiB of the answer: let it pick out less", maxBuilt>>20)}
}
