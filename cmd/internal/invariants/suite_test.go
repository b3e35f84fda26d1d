package invariants

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli/clitest"
	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/hack/controlplane/controlplanetest"
)

var plane *controlplane.ControlPlane

func TestMain(m *testing.M) { controlplanetest.Main(m, &plane) }

// bench is somebody who types operator invariants.
type bench struct{ clitest.Bench }

func newBench(t *testing.T) *bench {
	t.Helper()
	return &bench{clitest.NewBench(t, plane, newCommand)}
}

// ended wants the command to have ended with that exit code.
func ended(t *testing.T, r clitest.Result, code int) clitest.Result {
	t.Helper()
	if r.Code != code {
		t.Errorf("want exit code %d: %v", code, r)
	}
	return r
}

// source answers with a body.
func source(t *testing.T, body string) string {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, body) })
}

func serve(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return server.URL
}

// file writes a manifest about the stores at an address, with changes, and returns its path.
func file(t *testing.T, address string, changes ...string) string {
	t.Helper()
	manifest := strings.NewReplacer(append([]string{"ADDRESS", address}, changes...)...).Replace(storesUp)
	path := filepath.Join(t.TempDir(), "invariant.yaml")
	clitest.Must(t, os.WriteFile(path, []byte(manifest), 0o600))
	return path
}

const storesUp = `apiVersion: operator.invariant.dev/v1alpha1
kind: Invariant
metadata:
  name: stores-up
spec:
  system: sys
  severity: Critical
  gracePeriod: 1m
  source:
    http: {url: "ADDRESS", items: self.stores, timeout: 2s}
  storeID: self.id
  expression: self.state == 'Up'
  message: "'store ' + self.id + ' is ' + self.state"
  snapshot: [{name: state, expression: self.state}, {name: capacity, expression: self.capacity}]
`

func (b *bench) stored(name string) *v1alpha1.Invariant {
	b.T.Helper()
	i := &v1alpha1.Invariant{}
	clitest.Must(b.T, b.API.Get(b.T.Context(), client.ObjectKey{Namespace: b.Namespace, Name: name}, i))
	return i
}

// applied makes an Invariant about the stores at an address that was checked a moment ago.
func (b *bench) applied(name, address string, change ...func(*v1alpha1.Invariant)) {
	b.T.Helper()
	b.Invariant(name, time.Second, append([]func(*v1alpha1.Invariant){func(i *v1alpha1.Invariant) {
		i.Spec.Source.HTTP = &v1alpha1.HTTPSource{URL: address, Items: "self.stores"}
		i.Spec.StoreID, i.Spec.Expression = "self.id", "self.state == 'Up'"
	}}, change...)...)
}
