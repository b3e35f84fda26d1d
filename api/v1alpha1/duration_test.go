package v1alpha1_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
)

func TestADurationThatTheTypedClientReadItCanWriteBack(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	for _, value := range []string{"30s", "1500ms", "1s1ms", "59999ms", "99999ms", "1h500ms", "90s"} {
		read := v1alpha1.Invariant{}
		must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object(t, namespace, invariantManifest, changes{"spec.interval": value}).Object, &read))
		if err := c.Create(t.Context(), read.DeepCopy(), client.DryRunAll); err != nil {
			t.Errorf("%s is read and cannot be written: %v", value, err)
		}
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&read)
		must(t, err)
		if err := c.Create(t.Context(), &unstructured.Unstructured{Object: content}, client.DryRunAll); err != nil {
			t.Errorf("%s is read and cannot be written as unstructured: %v", value, err)
		}
	}
}
