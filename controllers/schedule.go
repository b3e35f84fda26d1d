package controllers

import (
	"hash/fnv"
	"time"
)

// Ticks are the multiples of an interval, shifted by a hash of the system: invariants of a system with the same
// interval are always judged together, ticks of intervals that divide each other coincide, and a thousand systems do
// not fire at once.

// phase is what a system's ticks are shifted by, before the interval is known.
func phase(namespace, system string) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(namespace + "/" + system))
	return time.Duration(h.Sum64() % uint64(24*time.Hour)).Truncate(time.Millisecond)
}

// lastTick is the last tick that is not after now. Ticks are of the wall clock: two ticks with readings of the monotonic
// clock would not compare equal, since the clocks drift apart.
func lastTick(now time.Time, interval, phase time.Duration) time.Time {
	now = now.Round(0)
	since := (now.Sub(time.Unix(0, 0)) - phase%interval) % interval
	if since < 0 {
		since += interval
	}
	return now.Add(-since)
}

// nextTick is the first tick after now.
func nextTick(now time.Time, interval, phase time.Duration) time.Time {
	return lastTick(now, interval, phase).Add(interval)
}
