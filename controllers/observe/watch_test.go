package observe

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	testingclock "k8s.io/utils/clock/testing"

	"invariant.dev/operator/controllers/verdict"
)

// watchWith is a watch that takes from a memory, before its first list.
func watchWith(memory *Budget) *objectWatch {
	clock := testingclock.NewFakeClock(time.Unix(0, 0))
	return &objectWatch{clock: clock, started: clock.Now(), cancel: func() {}, settled: make(chan struct{}),
		objects: map[objectKey]*unstructured.Unstructured{}, sizes: map[objectKey]int64{},
		memory: memory.Lease(system.Namespace, maxWatchedPerNamespace), coming: memory.Lease(system.Namespace, maxWatchedPerNamespace),
		turns: newTurns(), namespace: system.Namespace, readAt: -1}
}

// object is an object with a text of so many bytes.
func object(name string, size int) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": name, "uid": name, "resourceVersion": "7"},
		"text":     strings.Repeat("x", size),
	}}
}

func TestOnlyAnObjectThatCanBeToldFromItsNextStateHasAVersion(t *testing.T) {
	t.Parallel()
	w := watchWith(NewBudget(maxWatched, maxWatchedPerNamespace))
	unversioned := object("b", 1)
	unstructured.RemoveNestedField(unversioned.Object, "metadata", "resourceVersion")
	must(t, w.Replace([]any{object("a", 1), unversioned}, ""))
	readings, _, fault := w.read(t.Context())
	if fault != nil || len(readings) != 2 || readings[0].Version != "a/7" || readings[1].Version != "" {
		t.Errorf("the readings are %+v with the fault %v", readings, fault)
	}
}

func TestWatchedObjectsTakeNoMoreMemoryThanThereIs(t *testing.T) {
	t.Parallel()
	const mebibyte = 1 << 20
	memory := NewBudget(3*mebibyte, 3*mebibyte)
	w := watchWith(memory)
	must(t, w.Replace([]any{object("a", mebibyte), object("b", mebibyte)}, ""))
	// One that is replaced, or gone, takes nothing any more.
	for range 5 {
		must(t, w.Update(object("a", mebibyte)))
		must(t, w.Add(object("c", mebibyte/2)))
		must(t, w.Delete(object("c", mebibyte/2)))
	}
	if _, _, fault := w.read(t.Context()); fault != nil {
		t.Fatal(fault)
	}
	must(t, w.Add(object("c", mebibyte)))
	if _, _, fault := w.read(t.Context()); fault == nil || fault.Reason != verdict.TooLarge {
		t.Errorf("with more than there is room for, the fault is %v", fault)
	}
	// What comes after the end is not held.
	must(t, w.Add(object("d", 1)))
	if memory.sum != 0 || len(w.objects) != 0 {
		t.Errorf("%d bytes are taken for %d objects after the end", memory.sum, len(w.objects))
	}

	other := watchWith(memory)
	must(t, other.Replace([]any{object("a", mebibyte)}, ""))
	other.stop()
	must(t, other.Replace([]any{object("a", mebibyte)}, ""))
	if memory.sum != 0 || len(memory.taken) != 0 {
		t.Errorf("%d bytes are taken by a watch that was stopped", memory.sum)
	}
}

func TestAWatchEndsAtTooManyObjectsAndIsBegunAnewLater(t *testing.T) {
	t.Parallel()
	w := watchWith(NewBudget(maxWatched, maxWatchedPerNamespace))
	var list []any
	for i := range maxObjects {
		list = append(list, object(fmt.Sprint(i), 1))
	}
	must(t, w.Replace(list, ""))
	if _, _, fault := w.read(t.Context()); fault != nil {
		t.Fatal(fault)
	}
	must(t, w.Add(object("one more", 1)))
	if _, _, fault := w.read(t.Context()); fault == nil || fault.Reason != verdict.TooLarge {
		t.Errorf("the fault is %v", fault)
	}
	if w.worthRestarting() {
		t.Error("it is begun anew at once")
	}
	w.clock.(*testingclock.FakeClock).Step(restartAfter)
	if !w.worthRestarting() {
		t.Error("it is not begun anew")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAWatchThatEndsWithAnErrorSeesNothingUntilItBeginsAnew(t *testing.T) {
	t.Parallel()
	w := watchWith(NewBudget(maxWatched, maxWatchedPerNamespace))
	must(t, w.Replace([]any{object("a", 1)}, ""))
	server := watch.NewFake()
	w.resource = watchable{events: server}
	events, err := w.WatchWithContext(t.Context(), metav1.ListOptions{})
	must(t, err)
	expired := apierrors.NewResourceExpired("too old resource version").Status()
	go server.Error(&expired)
	if event := <-events.ResultChan(); event.Type != watch.Error {
		t.Fatalf("the reflector gets %+v", event)
	}
	if _, _, fault := w.read(t.Context()); fault == nil || fault.Reason != verdict.Unreachable {
		t.Errorf("until it begins anew, the fault is %v", fault)
	}
	w.resource = watchable{events: watch.NewFake()}
	if _, err := w.WatchWithContext(t.Context(), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, _, fault := w.read(t.Context()); fault != nil {
		t.Errorf("once it has begun anew, the fault is %v", fault)
	}
}

func TestWhatWaitsToBeListedAnewIsUnknownOnceItMayBeOutOfDate(t *testing.T) {
	t.Parallel()
	w := watchWith(NewBudget(maxWatched, maxWatchedPerNamespace))
	clock := w.clock.(*testingclock.FakeClock)
	must(t, w.Replace([]any{object("a", 1)}, ""))
	for _, step := range []struct {
		queued bool
		reason verdict.Reason
	}{{true, ""}, {true, verdict.NotSynced}, {false, verdict.Timeout}} {
		// A page, or a turn, after the first makes nothing of what is held any newer.
		w.ask(step.queued)
		if reason := reasonOf(w); reason != step.reason {
			t.Errorf("where it waits for its turn, %v, the reason is %q, want %q", step.queued, reason, step.reason)
		}
		clock.Step(answerPatience + 1)
	}
	must(t, w.Replace([]any{object("a", 1)}, ""))
	w.answered(&w.listFault, nil)
	if reason := reasonOf(w); reason != "" {
		t.Errorf("once it is listed, the reason is %q", reason)
	}
}

func TestAWatchThatIsStoppedLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := watchWith(NewBudget(maxWatched, maxWatchedPerNamespace))
		server := watch.NewFake()
		w.resource = watchable{events: server}
		events, err := w.WatchWithContext(t.Context(), metav1.ListOptions{})
		must(t, err)
		server.Add(object("a", 1))
		// Nobody reads what came. The test fails if something waits for that when it ends.
		events.Stop()
		events.Stop()
	})
}

// watchable is a resource that can only be watched.
type watchable struct {
	dynamic.ResourceInterface
	events watch.Interface
}

// Watch watches.
func (w watchable) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return w.events, nil
}
