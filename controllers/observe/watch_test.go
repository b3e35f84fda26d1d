package observe

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestOnlyAnObjectThatCanBeToldFromItsNextStateHasAVersion(t *testing.T) {
	t.Parallel()
	for want, metadata := range map[string]map[string]any{
		"u/7": {"name": "a", "uid": "u", "resourceVersion": "7"},
		"":    {"name": "b"},
	} {
		w := &objectWatch{objects: map[objectKey]*unstructured.Unstructured{}}
		w.keep(&unstructured.Unstructured{Object: map[string]any{"metadata": metadata}})
		if got := w.sorted()[0].Version; got != want {
			t.Errorf("the version of %v is %q, want %q", metadata, got, want)
		}
	}
}
