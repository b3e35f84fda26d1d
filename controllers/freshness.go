package controllers

import (
	"errors"
	"time"

	"k8s.io/utils/clock"

	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/observe"
)

var errStale = errors.New("what was observed is older than an interval, so it is not written")

// freshness is how long what a look saw may be written. A leader that was paused must not write when it wakes up.
type freshness struct {
	clock clock.PassiveClock
	// began is when the look began, and lasts for how long after that it is fresh: the interval, and what its sources may take.
	began time.Time
	lasts time.Duration
}

// freshness is that of a look from which those results come.
func (s *scope) freshness(clock clock.PassiveClock, began time.Time, results map[string]judge.Result) freshness {
	interval, timeout := s.interval, time.Duration(0)
	for name := range results {
		invariant := s.invariants[name]
		interval = min(interval, s.intervalOf(invariant))
		timeout = max(timeout, observe.TimeoutOf(&invariant.Spec))
	}
	return freshness{clock: clock, began: began, lasts: interval + timeout}
}

// left is how long what was seen may still be written; negative when it may not.
func (f freshness) left() time.Duration {
	// The wall clock goes on while a virtual machine is suspended, the monotonic one does not.
	now := f.clock.Now()
	age := max(now.Sub(f.began), now.Round(0).Sub(f.began.Round(0)))
	return f.lasts - age
}

// check is an error when what was seen may not be written any more.
func (f freshness) check() error {
	if f.left() < 0 {
		return errStale
	}
	return nil
}
