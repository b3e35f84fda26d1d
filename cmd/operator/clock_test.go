//go:build !clockoffset

package main

import (
	"os/exec"
	"strings"
	"testing"

	"k8s.io/utils/clock"
)

func TestTheReleasedMonitorHasNoClockButTheMachines(t *testing.T) {
	if _, isReal := newClock().(clock.RealClock); !isReal {
		t.Errorf("the clock is a %T", newClock())
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.GoFiles}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "clock_offset") {
		t.Errorf("built without tags, the operator has a clock for tests in it: %s", out)
	}
}
