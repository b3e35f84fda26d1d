//go:build clockoffset

package main

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"k8s.io/utils/clock"
)

// clockOffsetFile is the environment variable that names a file with how far the clock is off, such as -1h, in whole seconds.
const clockOffsetFile = "OPERATOR_CLOCK_OFFSET_FILE"

// newClock is a clock that is off by what the file says each time that it is asked: for tests, which step it while the monitor runs.
// No release is built with it.
func newClock() clock.WithTicker { return offsetClock{file: os.Getenv(clockOffsetFile)} }

// offsetClock steps as the machine's clock does when somebody sets it: the monotonic clock and tickers go on.
type offsetClock struct {
	clock.RealClock
	file string
}

// Now panics if the file cannot be read: a test must not run with another clock than it thinks.
func (c offsetClock) Now() time.Time {
	content, err := os.ReadFile(c.file)
	if err != nil {
		panic(fmt.Sprintf("the clock of this test build: %v", err))
	}
	offset, err := time.ParseDuration(strings.TrimSpace(string(content)))
	if err != nil {
		panic(fmt.Sprintf("the clock of this test build: %v", err))
	}
	return step(time.Now(), offset)
}

func (c offsetClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// step moves the wall clock of a time and not its monotonic one, which nothing exported does. A time with both has 33 bits of seconds
// above 30 bits of nanoseconds in its first word.
func step(t time.Time, offset time.Duration) time.Time {
	*(*uint64)(unsafe.Pointer(&t)) += uint64(int64(offset/time.Second)) << 30
	return t
}
