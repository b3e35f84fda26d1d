package v1alpha1_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/hack/controlplane/controlplanetest"
)

var plane *controlplane.ControlPlane

func TestMain(m *testing.M) { controlplanetest.Main(m, &plane) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newClient(t testing.TB) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	must(t, v1alpha1.AddToScheme(scheme))
	c, err := client.New(plane.Config, client.Options{Scheme: scheme})
	must(t, err)
	return c
}

var namespaces atomic.Int32

func newNamespace(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("api-%d", namespaces.Add(1))
	must(t, plane.Namespace(t.Context(), name))
	return name
}

const invariantManifest = `
apiVersion: operator.invariant.dev/v1alpha1
kind: Invariant
metadata: {name: store-down}
spec:
  system: tikv-prod
  source:
    http: {url: "http://pd:2379/pd/api/v1/stores", items: self.stores}
  storeID: string(self.store.id)
  expression: self.store.state_name == 'Up'
`

const ticketManifest = `
apiVersion: operator.invariant.dev/v1alpha1
kind: Ticket
metadata: {name: tikv-prod-17}
spec:
  system: tikv-prod
  batchKey: tikv-prod-17
  openedTime: "2026-11-24T03:00:00Z"
  violations:
  - {invariant: store-down, storeID: "3", reason: Violated, severity: Critical, message: store 3 is Down, firstSeenTime: "2026-11-24T02:59:00Z"}
`

// changes are what a manifest has in place of what it had, by path; what is removed is gone.
type changes map[string]any

type removed struct{}

func object(t testing.TB, namespace, manifest string, c changes) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	must(t, yaml.Unmarshal([]byte(manifest), &o.Object))
	o.SetNamespace(namespace)
	change(t, o, c)
	return o
}

func change(t testing.TB, o *unstructured.Unstructured, c changes) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(c)) {
		fields := strings.Split(path, ".")
		if _, gone := c[path].(removed); gone {
			unstructured.RemoveNestedField(o.Object, fields...)
			continue
		}
		must(t, unstructured.SetNestedField(o.Object, c[path], fields...))
	}
}

// wantRefused requires that the API server's answer says each of these.
func wantRefused(t testing.TB, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("the API server admitted it")
	}
	for _, words := range says {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("the answer does not say %q:\n%v", words, err)
		}
	}
}
