package observe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// wantFree requires that a budget is as it was at first.
func wantFree(t *testing.T, b *Budget) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sum != 0 || len(b.taken) != 0 {
		t.Errorf("%d bytes are taken, by namespaces %v", b.sum, b.taken)
	}
}

func TestALeaseANamespaceAndAllTogetherHaveALimit(t *testing.T) {
	t.Parallel()
	b := NewBudget(100, 60)
	first, second, other := b.Lease("a", 40), b.Lease("a", 40), b.Lease("b", 60)
	for _, step := range []struct {
		name  string
		lease *Lease
		bytes int64
		taken bool
	}{
		{"all that a lease may have", first, 40, true},
		{"more than a lease may have", first, 1, false},
		{"more than the namespace may have", second, 21, false},
		{"what is left of the namespace's part", second, 20, true},
		{"nothing", second, 0, true},
		{"more than there is", other, 41, false},
		{"what is left of all", other, 40, true},
		{"one more", other, 1, false},
	} {
		if taken := step.lease.Take(step.bytes); taken != step.taken {
			t.Errorf("%s: taken is %v", step.name, taken)
		}
	}
	first.Release()
	if !other.Take(20) || second.Take(21) || !second.Take(20) {
		t.Error("what was given back is not there for others, within their limits")
	}
	for _, lease := range []*Lease{first, second, other, other, nil} {
		lease.Release()
	}
	wantFree(t, b)
}

func TestALeaseIsResizedWithinItsLimitsOrStaysAsItIs(t *testing.T) {
	t.Parallel()
	b := NewBudget(100, 60)
	lease, other := b.Lease("a", 50), b.Lease("a", 60)
	for _, step := range []struct{ size, held int64 }{{40, 40}, {51, 40}, {50, 50}, {0, 0}, {30, 30}} {
		if resized := lease.Resize(step.size); resized != (step.size == step.held) || lease.held != step.held || b.sum != step.held {
			t.Errorf("resized to %d is %v; the lease holds %d, and all %d", step.size, resized, lease.held, b.sum)
		}
	}
	if !other.Resize(30) || other.Resize(31) || lease.Resize(31) || !lease.Resize(20) || !other.Resize(40) {
		t.Error("what one gives back is not the other's, or more is")
	}
	lease.Release()
	other.Release()
	wantFree(t, b)
}

func TestABudgetThatIsUsedByManyAtOnceIsNeverExceededAndAllComesBack(t *testing.T) {
	t.Parallel()
	const total, perNamespace, perLease = 1000, 300, 100
	b := NewBudget(total, perNamespace)
	var users sync.WaitGroup
	for i := range 64 {
		users.Go(func() {
			for round := range 200 {
				lease := b.Lease(fmt.Sprint("ns", i%8), perLease)
				var both sync.WaitGroup
				for range 2 {
					both.Go(func() {
						for n := int64(1); lease.Take(n + int64(round)%7); n++ {
						}
					})
				}
				both.Wait()
				b.mu.Lock()
				if b.sum > total || b.taken[lease.namespace] > perNamespace || lease.held > perLease {
					t.Errorf("taken: %d of all, %d of the namespace, %d of the lease", b.sum, b.taken[lease.namespace], lease.held)
				}
				b.mu.Unlock()
				lease.Release()
			}
		})
	}
	users.Wait()
	wantFree(t, b)
}

func TestAnAnswerIsReadAsFarAsThereIsRoom(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, readChunk - 1, readChunk, readChunk + 1, 5*readChunk + 7} {
		b := NewBudget(1<<20, 1<<20)
		lease, content := b.Lease("a", 1<<20), bytes.Repeat([]byte("x"), size)
		got, room, err := lease.readAll(bytes.NewReader(content), 1<<20)
		if !room || err != nil || !bytes.Equal(got, content) || lease.held < int64(cap(got)) {
			t.Errorf("%d bytes: %d are read, room %v, %v; %d are held for %d", size, len(got), room, err, lease.held, cap(got))
		}
		if got, _, _ = b.Lease("a", 1<<20).readAll(bytes.NewReader(content), int64(size/2)); len(got) != size/2 {
			t.Errorf("%d of at most %d bytes are read", len(got), size/2)
		}
	}
	lease := NewBudget(1<<20, 1<<20).Lease("a", 3*readChunk)
	if got, room, err := lease.readAll(bytes.NewReader(make([]byte, 4*readChunk)), 1<<20); room || got != nil || err != nil {
		t.Errorf("%d bytes are read where there is no room for them: %v", len(got), err)
	}
	broken := errors.New("broken")
	got, room, err := NewBudget(1<<20, 1<<20).Lease("a", 1<<20).readAll(io.MultiReader(strings.NewReader("abc"), failingReader{broken}), 1<<20)
	if string(got) != "abc" || !room || !errors.Is(err, broken) {
		t.Errorf("of what breaks off, %q is read, room %v, %v", got, room, err)
	}
}

type failingReader struct{ error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.error }

// sized answers as many values as its path says, in as many bytes each.
func sized(w http.ResponseWriter, r *http.Request) {
	var n, width int
	if _, err := fmt.Sscanf(r.URL.Path, "/%d/%d", &n, &width); err != nil {
		http.NotFound(w, r)
		return
	}
	_, _ = io.WriteString(w, "["+strings.TrimSuffix(strings.Repeat(`"`+strings.Repeat("x", width)+`",`, n), ",")+"]")
}

const refusedTogether = "together with what else is read for this system or namespace at this moment, the answer is more than the monitor holds; read less, or from fewer addresses"

func TestAnAnswerOverTheBudgetIsRefusedAndCountsNothingAfterwards(t *testing.T) {
	t.Parallel()
	address, _ := recording(t, sized)
	for _, path := range []string{"/1/400000", "/5000/0", "/100/3500"} {
		o := NewObserver(loopback)
		o.memory = NewBudget(300_000, 300_000)
		spec := urlSpec(address+path, plenty)
		look := o.Look(t.Context(), system, []*v1alpha1.InvariantSpec{spec})
		seen := look.Observation(spec)
		if want := "GET " + address + path + ": " + refusedTogether; seen.Fault == nil || seen.Fault.Reason != verdict.TooLarge || seen.Fault.Message != want {
			t.Errorf("%s: the observation is %v, want\n%s", path, seen.Fault, want)
		}
		if reading := look.answers[newRequest(spec.Source.HTTP.URL, spec.Source.HTTP.Access)]; reading.content != nil || !reading.unasked {
			t.Errorf("%s: %d bytes are kept of what is refused, and it is the address's fault: %v", path, len(reading.content), !reading.unasked)
		}
		look.Release()
		wantFree(t, o.memory)
		spec = urlSpec(address+"/10/10", plenty)
		if seen := observe(t.Context(), o, spec); seen.Fault != nil {
			t.Errorf("after %s, a small answer is refused: %v", path, seen.Fault)
		}
	}
}

func TestWhatALookHoldsIsGivenBackWithIt(t *testing.T) {
	t.Parallel()
	address, _ := recording(t, sized)
	o := NewObserver(loopback)
	o.memory = NewBudget(1<<20, 500_000)
	spec := urlSpec(address+"/1000/100", plenty)
	for range 20 {
		look := o.Look(t.Context(), system, []*v1alpha1.InvariantSpec{spec})
		if seen := look.Observation(spec); seen.Fault != nil {
			t.Fatalf("the observation is %v", seen.Fault)
		}
		if held := look.lease.held; held < 1000*(100+valueBytes) {
			t.Errorf("%d bytes are held for 1000 values of 100", held)
		}
		look.Release()
		look.Release()
	}
	wantFree(t, o.memory)
}

func TestANamespaceAtItsLimitLeavesRoomForOthers(t *testing.T) {
	t.Parallel()
	address, _ := recording(t, sized)
	o := NewObserver(loopback)
	var hostile []Look
	defer func() {
		for _, look := range hostile {
			look.Release()
		}
		wantFree(t, o.memory)
	}()
	refused := 0
	for i := range 8 {
		spec := urlSpec(fmt.Sprintf("%s/250000/0?%d", address, i), plenty)
		look := o.Look(t.Context(), types.NamespacedName{Namespace: "hostile", Name: fmt.Sprint(i)}, []*v1alpha1.InvariantSpec{spec})
		if hostile = append(hostile, look); look.Observation(spec).Fault != nil {
			refused++
		}
	}
	if refused == 0 {
		t.Error("one namespace holds as much as it likes")
	}
	for _, namespace := range []string{"tikv-prod", "etcd-prod"} {
		spec := urlSpec(address+"/200000/0", plenty)
		look := o.Look(t.Context(), types.NamespacedName{Namespace: namespace, Name: "s"}, []*v1alpha1.InvariantSpec{spec})
		if seen := look.Observation(spec); seen.Fault != nil {
			t.Errorf("%s: beside a namespace at its limit, %v", namespace, seen.Fault)
		}
		look.Release()
	}
}

func TestWhatAParsedAnswerTakesIsNotFarFromItsEstimate(t *testing.T) {
	for name, content := range map[string]string{
		"objects":         "[" + strings.TrimSuffix(strings.Repeat(`{"a":1},`, 100_000), ",") + "]",
		"larger objects":  "[" + strings.TrimSuffix(strings.Repeat(`{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9},`, 30_000), ",") + "]",
		"objects in each": "[" + strings.TrimSuffix(strings.Repeat(`{"a":{"a":{"a":{"a":1}}}},`, 50_000), ",") + "]",
		"texts":           "[" + strings.TrimSuffix(strings.Repeat(`{"a":"0123456789012345678901"},`, 100_000), ",") + "]",
		"numbers":         "[" + strings.TrimSuffix(strings.Repeat("12345,", 300_000), ",") + "]",
		"lists":           "[" + strings.TrimSuffix(strings.Repeat("[1],", 150_000), ",") + "]",
	} {
		a := fuzzed(request{}, http.StatusOK, []byte(content))
		before := heap()
		if !a.parse() {
			t.Fatal(name)
		}
		taken, estimate := heap()-before, parsedBytes(a.content)+int64(len(content))
		if taken > estimate*5/4 {
			t.Errorf("%s: %d bytes are taken where %d are estimated", name, taken, estimate)
		}
		runtime.KeepAlive(a)
	}
}

// heap is what is in use once garbage is collected.
func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc) //nolint:gosec // less than there is memory
}

// held is how much more is in use once what is returned is made, and all of it is there.
func held(do func() any) int64 {
	before := heap()
	kept := do()
	more := heap() - before
	runtime.KeepAlive(kept)
	return more
}

func TestWhatManyInvariantsReadOfOneAnswerIsHeldOnce(t *testing.T) {
	series := `{"metric":{"instance":"tikv-1:20180","job":"tikv"},"value":[1,"0"]},`
	vector := `{"status":"success","data":{"resultType":"vector","result":[` + strings.TrimSuffix(strings.Repeat(series, 20_000), ",") + `]}}`
	address, _ := recording(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/text" {
			_, _ = w.Write(bytes.Repeat([]byte("metric 1\n"), (4<<20)/9))
			return
		}
		_, _ = io.WriteString(w, vector)
	})
	query := &v1alpha1.InvariantSpec{Source: v1alpha1.Source{Prometheus: &v1alpha1.PrometheusSource{URL: address, Query: "up", Timeout: timeout(plenty)}}}
	for name, spec := range map[string]*v1alpha1.InvariantSpec{"text": endpointSpec(address+"/text", plenty), "series": query} {
		var specs []*v1alpha1.InvariantSpec
		for range 20 {
			specs = append(specs, spec.DeepCopy())
		}
		look := NewObserver(loopback).Look(t.Context(), system, specs)
		more := held(func() any {
			var seen []verdict.Observation
			for _, spec := range specs {
				seen = append(seen, look.Observation(spec))
			}
			return seen
		})
		if first := look.Observation(specs[0]); first.Fault != nil || first.Readings[0].Fault != nil {
			t.Fatalf("%s: the observation is %v", name, first)
		}
		if more > look.lease.held {
			t.Errorf("%s: %d MiB are held where %d are counted", name, more>>20, look.lease.held>>20)
		}
		look.Release()
	}
}

func TestTextForWhichThereIsNoRoomIsUnknown(t *testing.T) {
	t.Parallel()
	address, _ := recording(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("metric 1\n", 30_000))
	})
	o := NewObserver(loopback)
	o.memory = NewBudget(600_000, 600_000)
	spec := endpointSpec(address, plenty)
	look := o.Look(t.Context(), system, []*v1alpha1.InvariantSpec{spec})
	if r := look.Observation(spec).Readings[0]; r.Fault == nil || r.Fault.Reason != verdict.TooLarge {
		t.Errorf("the reading is %v", r.Fault)
	}
	look.Release()
	wantFree(t, o.memory)
}

func TestAnAddressThatKeepsSilentTakesOfTheBudgetUntilItIsGivenUp(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	address := answering(t, func(_ net.Conn, release <-chan struct{}) { close(asked); <-release })
	o := NewObserver(loopback)
	ctx, giveUp := context.WithCancel(t.Context())
	over := make(chan Look)
	go func() { over <- o.Look(ctx, system, []*v1alpha1.InvariantSpec{urlSpec(address, plenty)}) }()
	<-asked
	o.memory.mu.Lock()
	taken := o.memory.sum
	o.memory.mu.Unlock()
	if taken != requestBytes {
		t.Errorf("%d bytes are taken while the answer is awaited, want %d", taken, requestBytes)
	}
	giveUp()
	look := <-over
	look.Release()
	wantFree(t, o.memory)
}
