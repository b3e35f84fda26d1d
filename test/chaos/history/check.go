package history

import (
	"fmt"
	"slices"
	"time"
)

// Breach is a rule that did not hold.
type Breach struct {
	Rule      string
	Namespace string
	Ticket    string
	Revision  int64
	Text      string
}

func (b Breach) String() string {
	return fmt.Sprintf("%s: %s/%s at revision %d: %s", b.Rule, b.Namespace, b.Ticket, b.Revision, b.Text)
}

// Tolerance is what the checks leave to the machine.
type Tolerance struct {
	// Early is how far the time of a cycle, which is its tick in whole seconds, may lie before what it saw.
	Early time.Duration
	// Late is how long a busy machine may take for what should be done at once.
	Late time.Duration
	// Retention is how long a resolved ticket stays; zero: for ever.
	Retention time.Duration
}

// WhatClearedResolves is the rule that holds only when all has settled.
const WhatClearedResolves = "what has cleared resolves"

// rules are all checks, by the rule that they check.
var rules = []struct {
	name  string
	check func(*account)
}{
	{"one open ticket per violation key", oneHolder},
	{"a ticket's number is used once", numbers},
	{"no ticket without a fault", grounded},
	{"every fault has its ticket", answered},
	{"one ticket per fault", undoubled},
	{"a grace period neither ends early nor starts over", grace},
	{"only an observation clears", cleared},
	{WhatClearedResolves, finished},
	{"a hold is a promise", holds},
	{"a person's words survive", words},
	{"what was confirmed is done", confirmed},
	{"the monitor's writes make no person's fail", unhindered},
	{"a state never goes back", forward},
	{"a cycle counts once", counted},
	{"no ticket is lost", kept},
}

// Check tells which rules did not hold until now, which is when the disturbances have been over for long enough for all to settle. Where
// rules are named, it checks only those.
func (h *History) Check(now time.Time, t Tolerance, only ...string) []Breach {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := newAccount(h, now, t)
	for _, rule := range rules {
		if len(only) > 0 && !slices.Contains(only, rule.name) {
			continue
		}
		a.rule = rule.name
		rule.check(a)
	}
	return a.breaches
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }
