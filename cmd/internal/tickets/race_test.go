package tickets

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli/clitest"
)

func TestOfFiftyAcksByTwoAtOnceOneOfTheTwoHasIt(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1")
	users := map[string]*bench{"ana": b.as("ana"), "bob": b.as("bob")}
	var mu sync.Mutex
	results := map[string][]clitest.Result{}
	var all sync.WaitGroup
	for name, user := range users {
		for range 25 {
			all.Go(func() {
				r := user.Run("ack", "sys-1")
				mu.Lock()
				defer mu.Unlock()
				results[name] = append(results[name], r)
			})
		}
	}
	all.Wait()
	winner := b.stored("sys-1").Status.Acknowledgement.By
	acknowledged := 0
	for _, r := range results[winner] {
		switch r.OK().Out {
		case printed + "sys-1 acknowledged\n":
			acknowledged++
		case printed + "sys-1 already acknowledged\n":
		default:
			t.Errorf("%v", r)
		}
	}
	if acknowledged != 1 {
		t.Errorf("%s has acknowledged it %d times", winner, acknowledged)
	}
	delete(results, winner)
	for _, rs := range results {
		for _, r := range rs {
			r.Printed("").Failed("sys-1: " + winner + " has acknowledged it already")
		}
	}
}

// busyMonitor counts in the status of a ticket, as the monitor does but all the time, until the function that it returns is
// called; that returns how often it did.
func (b *bench) busyMonitor(name string) (stop func() int32) {
	b.T.Helper()
	ctx, cancel := context.WithCancel(b.T.Context())
	written, began := make(chan int32, 1), make(chan struct{})
	begin := sync.OnceFunc(func() { close(began) })
	go func() {
		defer begin()
		var n int32
		defer func() { written <- n }()
		for ctx.Err() == nil {
			var t v1alpha1.Ticket
			if err := b.API.Get(ctx, client.ObjectKey{Namespace: b.Namespace, Name: name}, &t); err != nil {
				continue
			}
			before := t.DeepCopy()
			t.Status.Occurrences++
			// Not with ctx: a write that was given up may have been stored.
			err := b.API.Status().Patch(context.WithoutCancel(ctx), &t, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
			if err == nil {
				n++
				begin()
			} else if !apierrors.IsConflict(err) {
				b.T.Errorf("the monitor: %v", err)
				return
			}
		}
	}()
	<-began
	return func() int32 { cancel(); return <-written }
}

func TestNoWriteOfAPersonIsRefusedOrLostWhileTheMonitorWritesAllTheTime(t *testing.T) {
	b := newBench(t)
	users := []*bench{b.as("ana"), b.as("bob"), b.as("cid")}
	for i := range 3 {
		name := fmt.Sprintf("sys-%d", i+1)
		t.Run(name, func(t *testing.T) {
			b.ticket(name, cleared)
			stop := b.busyMonitor(name)
			var all sync.WaitGroup
			for i, user := range users {
				all.Go(func() { user.Run("ack", name, "--take").OK() })
				all.Go(func() { user.Run("diagnose", name, "--replace", "--text", fmt.Sprint("by ", i)).OK() })
				all.Go(func() { user.Run("hold", name, "--note", fmt.Sprint("by ", i)).OK() })
			}
			all.Wait()
			b.Run("resolve", name).OK()
			counted := stop()
			got := b.stored(name)
			s := got.Status
			if s.Occurrences != 1+counted {
				t.Errorf("the monitor counted %d, and %d are there", counted, s.Occurrences-1)
			}
			if s.State != v1alpha1.Resolved || s.Resolution.By != "admin" || s.Acknowledgement == nil || s.Diagnosis == nil || !got.Held() {
				t.Errorf("%+v, %v", s, got.Annotations)
			}
			if s.Diagnosis == nil || s.Acknowledgement == nil {
				t.FailNow()
			}
			if len(s.Diagnosis.Previous) != 2 || s.Acknowledgement.TakenFrom == "" {
				t.Errorf("somebody's words are lost: %+v, %+v", s.Acknowledgement, s.Diagnosis)
			}
			texts := []string{s.Diagnosis.Text}
			for _, p := range s.Diagnosis.Previous {
				texts = append(texts, p.Text)
			}
			for i := range users {
				if !strings.Contains(strings.Join(texts, ";"), fmt.Sprint("by ", i)) {
					t.Errorf("the diagnosis by %d is lost: %q", i, texts)
				}
			}
		})
	}
}

func TestAWriteThatOthersAlwaysForestallSucceedsAllTheSame(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1")
	patches := 0
	b.Between = always(func() {
		patches++
		ticket := b.stored("sys-1")
		ticket.Status.Occurrences++
		clitest.Must(t, b.API.Status().Update(t.Context(), ticket))
	})
	b.Run("ack", "sys-1").OK().Printed(printed + "sys-1 acknowledged\n")
	if s := b.stored("sys-1").Status; patches < 5 || s.Acknowledgement == nil || s.Occurrences != int32(1+patches) {
		t.Errorf("after %d writes of others: %+v", patches, s)
	}
}
