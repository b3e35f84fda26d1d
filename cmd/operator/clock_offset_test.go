//go:build clockoffset

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTheTestBuildsClockStepsAsOneThatIsSet(t *testing.T) {
	file := filepath.Join(t.TempDir(), "offset")
	t.Setenv(clockOffsetFile, file)
	c := newClock()
	for _, offset := range []time.Duration{0, time.Hour, -time.Hour, 2 * time.Minute} {
		if err := os.WriteFile(file, []byte(offset.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		now := c.Now()
		if wall := now.Round(0).Sub(before.Round(0)) - offset; wall < 0 || wall > time.Minute {
			t.Errorf("set by %v, the clock shows %v, which is off by %v", offset, now, wall)
		}
		if monotonic := now.Sub(before); monotonic < 0 || monotonic > time.Minute {
			t.Errorf("set by %v, the monotonic clock went on by %v", offset, monotonic)
		}
		if since := c.Since(before); since < 0 || since > time.Minute {
			t.Errorf("set by %v, the clock says that %v went by", offset, since)
		}
	}
}
