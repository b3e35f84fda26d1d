package judge

import (
	"fmt"
	"regexp"
	"regexp/syntax"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	"k8s.io/utils/lru"
)

// maxPatterns is how many parts the regular expressions that are written into one expression may have together. They are compiled
// where nothing bounds that, and kept.
const maxPatterns = 20_000

// Patterns come again with each reading, so that the sizes of the last ones are kept.
const (
	maxPatternsKept = 1024
	maxPatternKept  = 1024
)

var patternSizes = lru.New(maxPatternsKept)

// patternSize is how many parts a regular expression has once it is compiled, about: x{1000} has a thousand. What is no regular
// expression has 1.
func patternSize(pattern string) uint64 {
	if len(pattern) > maxPatternKept {
		return sizeOfPattern(pattern)
	}
	if known, found := patternSizes.Get(pattern); found {
		return known.(uint64)
	}
	n := sizeOfPattern(pattern)
	patternSizes.Add(pattern, n)
	return n
}

func sizeOfPattern(pattern string) uint64 {
	if len(pattern) > maxCallCost/100 {
		// Parsing it takes hundreds of bytes for each of its own.
		return maxCallCost
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 1 + uint64(len(pattern))/10
	}
	return partsOf(parsed)
}

func partsOf(pattern *syntax.Regexp) uint64 {
	parts := uint64(1)
	for _, sub := range pattern.Sub {
		parts += partsOf(sub)
	}
	switch pattern.Op {
	case syntax.OpLiteral:
		parts += uint64(len(pattern.Rune))
	case syntax.OpCharClass:
		parts += uint64(len(pattern.Rune)) / 16
	case syntax.OpRepeat:
		parts = times(parts, uint64(max(1, pattern.Min+1, pattern.Max))) //nolint:gosec // at most 1000
	}
	return parts
}

// matchingConstant is the call of a regular expression that is written into the expression, compiled once; nil for another call.
func matchingConstant(call interpreter.InterpretableCall) (func(args []ref.Val) ref.Val, error) {
	if args := call.Args(); isMatching(call.Function()) && len(args) > 1 {
		if constant, ok := args[1].(interpreter.InterpretableConst); ok {
			if pattern, ok := constant.Value().(types.String); ok {
				return matching(call.Function(), string(pattern))
			}
		}
	}
	return nil, nil
}

func isMatching(function string) bool {
	return function == "matches" || function == "find" || function == "findAll"
}

func matching(function, pattern string) (func(args []ref.Val) ref.Val, error) {
	compiled, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	return func(args []ref.Val) ref.Val {
		text, ok := args[0].(types.String)
		if !ok {
			return types.MaybeNoSuchOverloadErr(args[0])
		}
		switch function {
		case "matches":
			return types.Bool(compiled.MatchString(string(text)))
		case "find":
			return types.String(compiled.FindString(string(text)))
		}
		most := types.Int(-1)
		if len(args) > 2 {
			if most, ok = args[2].(types.Int); !ok {
				return types.MaybeNoSuchOverloadErr(args[2])
			}
		}
		return types.NewStringList(types.DefaultTypeAdapter, compiled.FindAllString(string(text), int(most)))
	}, nil
}

// checkPatterns refuses regular expressions that are too large to compile.
func checkPatterns(expression ast.Expr) error {
	var parts uint64
	ast.PreOrderVisit(expression, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		call := e.AsCall()
		if !isMatching(call.FunctionName()) {
			return
		}
		for _, arg := range call.Args() {
			if arg.Kind() != ast.LiteralKind {
				continue
			}
			if pattern, ok := arg.AsLiteral().(types.String); ok {
				parts += patternSize(string(pattern))
			}
		}
	}))
	if parts > maxPatterns {
		return fmt.Errorf("its regular expressions have %d parts, where x{1000} counts as a thousand, and at most %d are compiled: look for less", parts, maxPatterns)
	}
	return nil
}
