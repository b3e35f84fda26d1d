package chaos

import (
	"fmt"
	"net"
	"net/http"
	"sync/atomic"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/rest"

	"invariant.dev/operator/hack/controlplane"
)

// vitals are what a process takes of a machine.
type vitals struct {
	Memory, Heap      float64 // bytes: resident, and in use on the heap
	Live              float64 // bytes: what the last garbage collection left of the heap
	Goroutines, Files float64
	CPU               float64 // seconds so far
	Requests          float64 // to the API server so far
	Series            float64 // of metrics
	families          map[string]*dto.MetricFamily
}

// metricsHosts counts the addresses at which monitors serve their metrics.
var metricsHosts atomic.Int32

// metricsFlag makes a monitor serve its metrics at a free address, which readVitals asks. Each has a loopback address of its own: of
// those that run beside each other, none takes a port that another has chosen and does not use yet.
func (s *stage) metricsFlag() (flag, address string) {
	s.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.1.%d:0", metricsHosts.Add(1)))
	must(s, err)
	defer func() { _ = l.Close() }()
	return "--metrics-bind-address=" + l.Addr().String(), l.Addr().String()
}

// scraper makes an account that may read metrics, and returns a client with its rights.
func (s *stage) scraper() *http.Client {
	s.Helper()
	for _, args := range [][]string{
		{"create", "serviceaccount", "scraper", "-n", s.name},
		{"create", "clusterrolebinding", s.name, "--clusterrole=operator-metrics-reader", "--serviceaccount=" + s.name + ":scraper"},
	} {
		must(s, s.plane.Namespace(s.ctx, s.name))
		_, _, err := controlplane.Kubectl(s.ctx, s.plane.Kubeconfig, "", args...)
		must(s, err)
	}
	config, _, err := s.plane.ServiceAccount(s.ctx, s.name, "scraper")
	must(s, err)
	client, err := rest.HTTPClientFor(&rest.Config{BearerToken: config.BearerToken, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	must(s, err)
	return client
}

// readVitals asks a monitor for its metrics.
func readVitals(scraper *http.Client, address string) (v vitals, err error) {
	response, err := scraper.Get("https://" + address + "/metrics")
	if err != nil {
		return v, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return v, fmt.Errorf("the metrics at %s: %s", address, response.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if v.families, err = parser.TextToMetricFamilies(response.Body); err != nil {
		return v, err
	}
	v.Memory, v.Heap = v.sum("process_resident_memory_bytes"), v.sum("go_memstats_heap_inuse_bytes")
	// The next collection comes when the heap has grown by so many percent.
	v.Live = v.sum("go_memstats_next_gc_bytes") / (1 + v.sum("go_gc_gogc_percent")/100)
	for _, family := range v.families {
		v.Series += float64(len(family.GetMetric()))
	}
	v.Goroutines, v.Files = v.sum("go_goroutines"), v.sum("process_open_fds")
	v.CPU, v.Requests = v.sum("process_cpu_seconds_total"), v.sum("rest_client_requests_total")
	return v, nil
}

// sum is the sum of all series of a gauge or counter.
func (v vitals) sum(name string) float64 {
	sum := 0.0
	for _, m := range v.families[name].GetMetric() {
		sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	return sum
}
