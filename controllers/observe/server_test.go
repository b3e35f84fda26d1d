package observe

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
	"invariant.dev/operator/hack/faulty"
)

// system is the one that all specs are of.
var system = types.NamespacedName{Namespace: "tikv-prod", Name: "tikv"}

var loopback = AddressPolicy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}

// answering is faulty.Answering, of which most tests here make their servers.
func answering(t *testing.T, do func(conn net.Conn, release <-chan struct{})) string {
	t.Helper()
	return faulty.Answering(t, do)
}

// saying is the address of a server that answers these bytes and closes.
func saying(t *testing.T, answer string) string {
	t.Helper()
	return faulty.Saying(t, answer)
}

func timeout(d time.Duration) *v1alpha1.Duration {
	return &v1alpha1.Duration{Duration: metav1.Duration{Duration: d}}
}

func urlSpec(url string, d time.Duration) *v1alpha1.InvariantSpec {
	return &v1alpha1.InvariantSpec{Source: v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: url, Timeout: timeout(d)}}}
}

func endpointSpec(url string, d time.Duration) *v1alpha1.InvariantSpec {
	return &v1alpha1.InvariantSpec{Source: v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{Endpoints: []v1alpha1.Endpoint{{StoreID: "1", URL: url}}, Timeout: timeout(d)}}}
}

func observe(ctx context.Context, g *Observer, spec *v1alpha1.InvariantSpec) verdict.Observation {
	return g.Look(ctx, system, []*v1alpha1.InvariantSpec{spec}).Observation(spec)
}
