package controllers

// explorer walks through all executions of a scenario, depth first and without keeping a state: it runs the scenario again
// from its beginning for each, and repeats the choices that led to where it branches off. It goes no further from a state
// that it has been in: the same objects, the same clock, and processes that have been told the same since they began.
type explorer struct {
	path []branch
	// seen are the states, and at which depth each was met first.
	seen map[uint64]int
	// limit is how many choices an execution may have; 0 is any number.
	limit int
	// most is how many executions there may be; 0 is any number.
	most       int
	executions int
	// reached counts what happened in any execution.
	reached map[string]int
}

// branch is one choice: what is chosen now, of how many.
type branch struct {
	taken, options int
	name           string
}

// option is one thing that can happen next.
type option struct {
	name string
	do   func()
}

// execution is one run of a scenario: it asks choose what happens next until that says no.
type execution interface {
	// run runs to the end, and returns what went wrong.
	run(choose func(state uint64, options []option) (option, bool)) (failure string)
}

// maxDiverged is how often an execution is begun again that takes another turn than it did: the monitor goes through some
// maps in any order.
const maxDiverged = 100

func newExplorer() *explorer { return &explorer{seen: map[uint64]int{}, reached: map[string]int{}} }

// explore runs executions until there is none left, or one fails. It returns the choices of the one that failed, and why.
func (e *explorer) explore(begin func() execution) (trace []string, failure string) {
	for more, again := true, 0; more && (e.most == 0 || e.executions < e.most); more = again > 0 || e.next() {
		e.executions++
		depth, diverged := 0, false
		failure := begin().run(func(state uint64, options []option) (option, bool) {
			if depth == len(e.path) && !e.enter(state, depth) {
				return option{}, false
			}
			if depth == len(e.path) {
				e.path = append(e.path, branch{options: len(options), name: options[0].name})
			}
			b := &e.path[depth]
			if b.options != len(options) || (b.name != "" && b.name != options[b.taken].name) {
				diverged = true
				return option{}, false
			}
			b.name = options[b.taken].name
			depth++
			return options[b.taken], true
		})
		if failure != "" {
			return e.trace(depth), failure
		}
		if again++; !diverged {
			again = 0
		}
		if again > maxDiverged {
			return e.trace(depth), "the execution cannot be repeated after this"
		}
	}
	return nil, ""
}

// enter notes a state, and tells whether to go on from there.
func (e *explorer) enter(state uint64, depth int) bool {
	if e.limit > 0 && depth >= e.limit {
		return false
	}
	first, been := e.seen[state]
	if been && (e.limit == 0 || first <= depth) {
		return false
	}
	e.seen[state] = depth
	return true
}

// next turns to the next execution, and tells whether there is one.
func (e *explorer) next() bool {
	for len(e.path) > 0 {
		last := &e.path[len(e.path)-1]
		last.taken++
		last.name = ""
		if last.taken < last.options {
			return true
		}
		e.path = e.path[:len(e.path)-1]
	}
	return false
}

func (e *explorer) trace(depth int) []string {
	var trace []string
	for _, b := range e.path[:depth] {
		trace = append(trace, b.name)
	}
	return trace
}

// maxShortening bounds the search for a shorter execution.
const maxShortening = 3000

// shortest is the shortest execution that fails, as far as it finds one in time: it looks for ever shorter ones.
func shortest(begin func(*explorer) execution, trace []string, failure string) ([]string, string) {
	for left := maxShortening; ; {
		e := newExplorer()
		e.limit, e.most = len(trace)-1, left
		shorter, why := e.explore(func() execution { return begin(e) })
		if why == "" || left <= e.executions {
			return trace, failure
		}
		trace, failure, left = shorter, why, left-e.executions
	}
}
