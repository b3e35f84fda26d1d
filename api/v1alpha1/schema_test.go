package v1alpha1_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

type schema = apiextensionsv1.JSONSchemaProps

// kind is what the CRD says of a kind.
type kind struct {
	name   string
	schema *schema
}

func readCRDs(t testing.TB) []kind {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "config", "crd", "bases", "*.yaml"))
	must(t, err)
	var kinds []kind
	for _, file := range files {
		content, err := os.ReadFile(file)
		must(t, err)
		var crd apiextensionsv1.CustomResourceDefinition
		must(t, yaml.UnmarshalStrict(content, &crd))
		kinds = append(kinds, kind{crd.Spec.Names.Kind, crd.Spec.Versions[0].Schema.OpenAPIV3Schema})
	}
	if len(kinds) != 2 {
		t.Fatalf("%d CRDs, want 2", len(kinds))
	}
	return kinds
}

// walk visits every field: the items of a list as path[], the values of a map as path{}.
func (k kind) walk(visit func(path string, s *schema)) { walk("", k.schema, visit) }

func walk(path string, s *schema, visit func(string, *schema)) {
	if path != "" {
		visit(path, s)
	}
	prefix := path
	if prefix != "" {
		prefix += "."
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		property := s.Properties[name]
		walk(prefix+name, &property, visit)
	}
	if s.Items != nil {
		walk(path+"[]", s.Items.Schema, visit)
	}
	if s.AdditionalProperties != nil {
		walk(path+"{}", s.AdditionalProperties.Schema, visit)
	}
}
