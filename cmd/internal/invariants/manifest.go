package invariants

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"invariant.dev/operator/api/v1alpha1"
)

// maxManifest is how large a file of manifests may be: far more than the API server takes of one.
const maxManifest = 16 << 20

// readManifests reads the Invariants of a file, or of standard input for -. skipped are what else is in it.
func readManifests(file string, in io.Reader) (manifests []*unstructured.Unstructured, skipped []string, _ error) {
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, nil, fmt.Errorf("read the manifests: %w", err)
		}
		defer func() { _ = opened.Close() }()
		in = opened
	}
	content, err := io.ReadAll(io.LimitReader(in, maxManifest))
	if err != nil {
		return nil, nil, fmt.Errorf("read the manifests of %s: %w", shownFile(file), err)
	}
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for n := 1; ; n++ {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read the manifests of %s: document %d: %w", shownFile(file), n, err)
		}
		if len(object.Object) == 0 {
			continue
		}
		if err := flatten(object, func(o *unstructured.Unstructured) {
			if o.GroupVersionKind() == v1alpha1.GroupVersion.WithKind("Invariant") {
				manifests = append(manifests, o)
				return
			}
			skipped = append(skipped, fmt.Sprintf("%s %s", o.GetKind(), o.GetName()))
		}); err != nil {
			return nil, nil, fmt.Errorf("read the manifests of %s: document %d: %w", shownFile(file), n, err)
		}
	}
	if len(manifests) == 0 {
		return nil, skipped, fmt.Errorf("read the manifests of %s: there is no Invariant of %s in it", shownFile(file), v1alpha1.GroupVersion)
	}
	return manifests, skipped, nil
}

func shownFile(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

// flatten calls do for an object, or for each of a List.
func flatten(object *unstructured.Unstructured, do func(*unstructured.Unstructured)) error {
	if !object.IsList() {
		do(object)
		return nil
	}
	return object.EachListItem(func(item runtime.Object) error {
		do(item.(*unstructured.Unstructured))
		return nil
	})
}

// decodeStrictly reads a manifest as Go knows it. A field that is misspelt is an error.
func decodeStrictly(manifest *unstructured.Unstructured) (*v1alpha1.Invariant, error) {
	invariant := &v1alpha1.Invariant{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(manifest.Object, invariant, true); err != nil {
		return nil, fmt.Errorf("read the Invariant %s: %w", manifest.GetName(), err)
	}
	return invariant, nil
}
