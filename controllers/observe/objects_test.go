package observe

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	testingclock "k8s.io/utils/clock/testing"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// countingMapper knows no kind, and counts how often it is asked.
type countingMapper struct {
	meta.RESTMapper
	asked int
}

func (m *countingMapper) RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	m.asked++
	return m.RESTMapper.RESTMapping(kind, versions...)
}

func TestKindsThatDoNotExistAreAskedForOnceInAWhileHoweverManyThereAre(t *testing.T) {
	t.Parallel()
	clock := testingclock.NewFakeClock(time.Unix(0, 0))
	mapper := &countingMapper{RESTMapper: meta.NewDefaultRESTMapper(nil)}
	objects := &Objects{Kinds: mapper, Clock: clock}
	const kinds = 150
	for second := range 10 {
		for i := range kinds {
			source := &v1alpha1.KubernetesSource{APIVersion: "example.com/v1", Kind: fmt.Sprintf("Kind%d", i)}
			if o := objects.Observe(t.Context(), system, source); o.Fault == nil || o.Fault.Reason != verdict.NoSuchKind {
				t.Fatalf("the observation is %+v", o)
			}
		}
		if mapper.asked != kinds {
			t.Fatalf("after %d s, %d kinds were asked for %d times", second, kinds, mapper.asked)
		}
		clock.Step(kindRetry / 10)
	}
}
