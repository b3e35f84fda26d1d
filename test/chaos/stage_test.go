package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/test/chaos/history"
)

// stage is what a scenario plays on: a control plane, the history of what happens on it, and people.
type stage struct {
	*testing.T
	ctx     context.Context
	plane   *controlplane.ControlPlane
	history *history.History
	// recorder reads the control plane's etcd.
	recorder *history.Recorder
	// seeds gives each actor dice of its own.
	seeds *rand.Rand
	mu    sync.Mutex
	// api is an administrator's.
	api   client.Client
	began time.Time
	// token is the monitor's.
	token string
	// lasting: a fault lasts until a ticket must say so.
	lasting bool
	name    string
}

// monitorNamespace is where config/default installs the monitor.
const monitorNamespace = "operator-system"

// newStage sets a stage on a control plane on which config/default is installed.
func newStage(t *testing.T, plane *controlplane.ControlPlane) *stage {
	t.Helper()
	s := &stage{T: t, ctx: t.Context(), plane: plane, history: history.New(), seeds: dice(t), began: time.Now()}
	s.name = strings.ToLower(strings.NewReplacer("Test", "", "/", "-", "_", "-").Replace(t.Name()))
	s.name = s.name[:min(len(s.name), 30)]
	scheme := runtime.NewScheme()
	must(t, v1alpha1.AddToScheme(scheme))
	must(t, coordinationv1.AddToScheme(scheme))
	api, err := client.New(plane.Config, client.Options{Scheme: scheme})
	must(t, err)
	s.api = api
	config, _, err := plane.ServiceAccount(s.ctx, monitorNamespace, "operator-monitor")
	must(t, err)
	s.token = config.BearerToken
	s.recorder, err = history.Record(s.ctx, s.history, plane.EtcdSocket(), s.name+"-")
	must(t, err)
	t.Cleanup(func() { _ = s.recorder.Stop() })
	return s
}

// settled ends a scenario: when all disturbances are over, it waits until nothing more is to come and checks the history.
func (s *stage) settled(tolerance history.Tolerance, facts ...string) {
	s.Helper()
	s.eventually(history.WhatClearedResolves, time.Minute, func() bool {
		return len(s.history.Check(time.Now(), tolerance, history.WhatClearedResolves)) == 0
	})
	must(s, s.recorder.Stop())
	breaches := s.history.Check(time.Now(), tolerance)
	for i, breach := range breaches {
		if i == 20 {
			s.Errorf("and %d more", len(breaches)-i)
			break
		}
		s.Error(breach)
	}
	c, demanded := s.history.Counts(), s.history.Demanded(time.Now(), tolerance)
	if s.lasting && demanded == 0 {
		s.Error("no fault lasted long enough to need a ticket: that nothing is lost is not shown")
	}
	facts = append(facts, fmt.Sprintf("%d faults, of which %d need a ticket", c.Faults, demanded), fmt.Sprintf("%d tickets in %d versions", c.Tickets, c.Versions),
		fmt.Sprintf("%d acts of people, of them %d holds and %d words", c.Acts, c.Holds, c.Words), fmt.Sprintf("%d rules broken", len(breaches)))
	s.Log(strings.Join(facts, ", "))
	table.add(strings.TrimPrefix(s.Name(), "Test"), time.Since(s.began), facts...)
}

// eventually waits until something is true. It is no error that it never is: the check of the history says more.
func (s *stage) eventually(what string, within time.Duration, isTrue func() bool) {
	s.Helper()
	for deadline := time.Now().Add(within); !isTrue(); {
		if time.Now().After(deadline) || !wait(s.ctx, 50*time.Millisecond) {
			s.Errorf("%s: not within %s", what, within)
			return
		}
	}
}

// fork are dice for one actor.
func (s *stage) fork() *rand.Rand {
	s.mu.Lock()
	defer s.mu.Unlock()
	return rand.New(rand.NewPCG(s.seeds.Uint64(), 0))
}
