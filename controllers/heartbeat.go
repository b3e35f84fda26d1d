package controllers

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// checked is what the last check of an invariant said, for the heartbeat.
type checked struct {
	truth      verdict.Truth
	violations int
	muted      bool
}

// tally is what the last checks of all invariants said.
type tally struct {
	mu      sync.Mutex
	systems map[types.NamespacedName]map[string]checked
}

func (t *tally) set(system types.NamespacedName, invariant string, c checked) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.systems == nil {
		t.systems = map[types.NamespacedName]map[string]checked{}
	}
	if t.systems[system] == nil {
		t.systems[system] = map[string]checked{}
	}
	t.systems[system][invariant] = c
}

// keep drops what is not among a system's invariants that are checked.
func (t *tally) keep(system types.NamespacedName, invariants map[string]*v1alpha1.Invariant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.systems[system] {
		if invariant := invariants[name]; invariant == nil || invariant.Spec.Suspend {
			delete(t.systems[system], name)
		}
	}
}

func (t *tally) forget(system types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.systems, system)
}

// String is the heartbeat: "Check complete: 3 invariants, 2 violations, 1 unknown, 1 muted". What is zero is left out.
func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var invariants, violations, unknown, muted int
	for _, system := range t.systems {
		for _, c := range system {
			invariants++
			switch {
			case c.muted:
				muted++
			case c.truth == verdict.Unknown:
				unknown++
				fallthrough
			default:
				violations += c.violations
			}
		}
	}
	parts := []string{count(invariants, "invariant")}
	if violations > 0 {
		parts = append(parts, count(violations, "violation"))
	}
	if unknown > 0 {
		parts = append(parts, fmt.Sprintf("%d unknown", unknown))
	}
	if invariants > 0 && violations == 0 && unknown == 0 && muted < invariants {
		parts = append(parts, "all passing")
	}
	if muted > 0 {
		parts = append(parts, fmt.Sprintf("%d muted", muted))
	}
	return "Check complete: " + strings.Join(parts, ", ")
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// heartbeat logs the tally once per interval, for all that the monitor watches together.
type heartbeat struct {
	tally    *tally
	interval time.Duration
	clock    clock.WithTicker
	log      logr.Logger
}

// NeedLeaderElection makes only the monitor that checks say so.
func (h *heartbeat) NeedLeaderElection() bool { return true }

// Start runs until ctx ends.
func (h *heartbeat) Start(ctx context.Context) error {
	ticker := h.clock.NewTicker(h.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
			h.log.Info(h.tally.String())
		}
	}
}
