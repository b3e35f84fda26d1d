package promtest

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Target is a server whose metrics Prometheus scrapes. Its methods may be called from several goroutines.
type Target struct {
	// Address is its host:port, for Scrape.Targets.
	Address string
	// Registry holds its metrics: register more than the methods make, and unregister what is to vanish.
	Registry *prometheus.Registry

	tb      testing.TB
	stopped atomic.Bool
}

// NewTarget starts a target on a free loopback port, without any metrics. It ends with the test.
func NewTarget(tb testing.TB) *Target {
	tb.Helper()
	t := &Target{Registry: prometheus.NewRegistry(), tb: tb}
	metrics := promhttp.HandlerFor(t.Registry, promhttp.HandlerOpts{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if t.stopped.Load() {
			panic(http.ErrAbortHandler) // which closes the connection
		}
		metrics.ServeHTTP(w, r)
	})
	server := httptest.NewServer(mux)
	tb.Cleanup(server.Close)
	t.Address = strings.TrimPrefix(server.URL, "http://")
	return t
}

// Stop makes the target hang up on every scrape, as a process does that dies: from the next one on it is down (up is
// 0) and its series are stale. It keeps its port, so that nobody else is scraped in its place and Start brings it back.
func (t *Target) Stop() { t.stopped.Store(true) }

// Start makes a stopped target answer again, with the same metrics.
func (t *Target) Start() { t.stopped.Store(false) }

// Gauge returns the gauge of that name and labels, and makes it if there is none. Gauges of one name have the same
// names of labels.
func (t *Target) Gauge(name string, labels prometheus.Labels) prometheus.Gauge {
	t.tb.Helper()
	return register(t, prometheus.NewGauge(prometheus.GaugeOpts{Name: name, ConstLabels: labels}))
}

// Histogram returns the classic histogram of that name and labels with those upper bounds of its buckets, and makes
// it if there is none.
func (t *Target) Histogram(name string, labels prometheus.Labels, buckets ...float64) prometheus.Histogram {
	t.tb.Helper()
	return register(t, prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, ConstLabels: labels, Buckets: buckets}))
}

// NativeHistogram returns the native histogram of that name and labels, and makes it if there is none. Each bucket is
// at most a tenth wider than the one below it. It needs Scrape.NativeHistograms.
func (t *Target) NativeHistogram(name string, labels prometheus.Labels) prometheus.Histogram {
	t.tb.Helper()
	return register(t, prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: name, ConstLabels: labels, NativeHistogramBucketFactor: 1.1}))
}

// register registers the metric, or returns the one that is registered already.
func register[M prometheus.Collector](t *Target, metric M) M {
	t.tb.Helper()
	err := t.Registry.Register(metric)
	if err == nil {
		return metric
	}
	if registered := (prometheus.AlreadyRegisteredError{}); errors.As(err, &registered) {
		if same, ok := registered.ExistingCollector.(M); ok {
			return same
		}
	}
	t.tb.Fatalf("making a metric of the target %s: %v", t.Address, err)
	return metric
}
