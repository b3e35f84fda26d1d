package observe

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/clock"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// lockedMapper knows the kind Pod, and is as long as discovery takes over Slow, which ends in an error. Meanwhile it answers nobody,
// as controller-runtime's does.
type lockedMapper struct {
	meta.RESTMapper
	// lock is held by who sends to it.
	lock  chan struct{}
	takes time.Duration
	asked atomic.Int64
}

func newLockedMapper(takes time.Duration) *lockedMapper {
	known := meta.NewDefaultRESTMapper(nil)
	known.Add(schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, meta.RESTScopeNamespace)
	return &lockedMapper{RESTMapper: known, lock: make(chan struct{}, 1), takes: takes}
}

// RESTMapping finds the resource of a kind.
func (m *lockedMapper) RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	m.lock <- struct{}{}
	defer func() { <-m.lock }()
	if kind.Group == "slow.example.com" {
		m.asked.Add(1)
		time.Sleep(m.takes)
		return nil, errors.New("the answer is not whole")
	}
	return m.RESTMapper.RESTMapping(kind, versions...)
}

var (
	podSource  = &v1alpha1.KubernetesSource{APIVersion: "v1", Kind: "Pod"}
	slowSource = &v1alpha1.KubernetesSource{APIVersion: "slow.example.com/v1", Kind: "Slow"}
)

func TestAKindThatTheAPIServerIsLongInAnsweringForHidesNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &Objects{Client: newListing(pages(1, 1, 1)), Kinds: newLockedMapper(15 * time.Second), Clock: clock.RealClock{}}
		defer o.Keep(system, nil)
		observer := NewObserver(loopback)
		observer.Objects = o
		look := func(sources ...*v1alpha1.KubernetesSource) (faults []*verdict.Fault) {
			specs := make([]*v1alpha1.InvariantSpec, 0, len(sources))
			for _, source := range sources {
				specs = append(specs, &v1alpha1.InvariantSpec{Source: v1alpha1.Source{Kubernetes: source}})
			}
			seen := observer.Look(t.Context(), system, specs)
			defer seen.Release()
			for _, spec := range specs {
				faults = append(faults, seen.Observation(spec).Fault)
			}
			return faults
		}
		if fault := look(podSource)[0]; fault != nil {
			t.Fatal(fault)
		}
		for second := range 40 {
			faults := look(slowSource, podSource)
			if faults[0] == nil || faults[0].Reason != verdict.Timeout {
				t.Fatalf("after %d s, the slow kind is %v", second, faults[0])
			}
			if faults[1] != nil {
				t.Fatalf("after %d s, the other kind is %v", second, faults[1])
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		time.Sleep(15 * time.Second)
	})
}

func TestAKindThatTheAPIServerDidNotAnswerForIsNotWaitedForAtEachLook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const takes = 5 * time.Second
		mapper := newLockedMapper(takes)
		o := &Objects{Kinds: mapper, Clock: clock.RealClock{}}
		waited := time.Duration(0)
		for began := time.Now(); time.Since(began) < takes+kindRetry; time.Sleep(500 * time.Millisecond) {
			asked := time.Now()
			if fault := o.Observe(t.Context(), system, slowSource).Fault; fault == nil || fault.Reason != verdict.Timeout {
				t.Fatalf("the fault is %v", fault)
			}
			waited += time.Since(asked)
		}
		if n := mapper.asked.Load(); n != 1 || waited != syncPatience {
			t.Errorf("the looks waited for %v, and asked %d times", waited, n)
		}
		o.Observe(t.Context(), system, slowSource)
		if n := mapper.asked.Load(); n != 2 {
			t.Errorf("%v after the answer, it was asked for %d times", kindRetry, n)
		}
		time.Sleep(takes)
	})
}

func TestALookWithoutTimeLeftSaysNothingAboutAKindThatIsThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &Objects{Client: newListing(pages(1, 1, 1)), Kinds: newLockedMapper(0), Clock: clock.RealClock{}}
		defer o.Keep(system, nil)
		over, cancel := context.WithCancel(t.Context())
		cancel()
		o.Observe(over, system, podSource)
		synctest.Wait()
		for range 20 {
			o.Observe(over, system, podSource)
			synctest.Wait()
		}
		if fault := o.Observe(over, system, podSource).Fault; fault != nil {
			t.Error(fault)
		}
	})
}

// movingKind is a KindFinder for a kind that has another resource each time that it moved, and counts how often it is asked.
type movingKind struct{ moved, asked atomic.Int64 }

// RESTMapping finds the resource of a kind.
func (m *movingKind) RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	m.asked.Add(1)
	return &meta.RESTMapping{Resource: kind.WithVersion(versions[0]).GroupVersion().WithResource(fmt.Sprintf("gears%d", m.moved.Load())), Scope: meta.RESTScopeNamespace}, nil
}

// movingClient is a dynamic client that knows the resource of a kind that moves.
type movingClient struct {
	*listing
	kind *movingKind
}

// Resource is that of the moving kind, or none.
func (m movingClient) Resource(resource schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return newListing(func(ctx context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error) {
		if resource.Resource != fmt.Sprintf("gears%d", m.kind.moved.Load()) {
			return nil, apierrors.NewNotFound(resource.GroupResource(), "")
		}
		return pages(1, 1, 1)(ctx, options)
	})
}

func TestAKindWhoseResourceIsGoneIsLookedForAnewButNotByEachLook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kind := &movingKind{}
		o := &Objects{Client: movingClient{kind: kind}, Kinds: kind, Clock: clock.RealClock{}}
		defer o.Keep(system, nil)
		look := func() *verdict.Fault {
			return o.Observe(t.Context(), system, &v1alpha1.KubernetesSource{APIVersion: "example.com/v1", Kind: "Gear"}).Fault
		}
		if fault := look(); fault != nil {
			t.Fatal(fault)
		}
		kind.moved.Add(1)
		// Its watch has not noticed, until it has to list anew.
		for _, w := range o.watches {
			w.mu.Lock()
			w.watchFault = apierrors.NewNotFound(w.key.resource.GroupResource(), "")
			w.mu.Unlock()
		}
		if fault := look(); fault == nil || fault.Reason != verdict.NoSuchKind {
			t.Fatalf("at once, the fault is %v", fault)
		}
		for range 20 {
			_ = look()
		}
		if n := kind.asked.Load(); n != 1 {
			t.Errorf("many looks asked %d times", n)
		}
		time.Sleep(kindRetry)
		_ = look()
		if fault := look(); fault != nil || kind.asked.Load() != 2 {
			t.Errorf("after %v it was asked for %d times, and the fault is %v", kindRetry, kind.asked.Load(), fault)
		}
	})
}
