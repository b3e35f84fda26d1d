package observe

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// system is the one that all specs are of.
var system = types.NamespacedName{Namespace: "tikv-prod", Name: "tikv"}

var loopback = AddressPolicy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}

// answering is the address of a server that does with each request's connection what it is told, and then closes it.
// release is closed when the test ends.
func answering(t *testing.T, do func(conn net.Conn, release <-chan struct{})) string {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	t.Cleanup(func() { close(release); _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					do(conn, release)
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// saying is the address of a server that answers these bytes and closes.
func saying(t *testing.T, answer string) string {
	t.Helper()
	return answering(t, func(conn net.Conn, _ <-chan struct{}) { _, _ = conn.Write([]byte(answer)) })
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
