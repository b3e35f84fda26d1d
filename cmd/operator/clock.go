//go:build !clockoffset

package main

import "k8s.io/utils/clock"

// newClock is the clock that cycles and tickets are timed by.
func newClock() clock.WithTicker { return clock.RealClock{} }
