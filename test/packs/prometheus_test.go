package packs

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"invariant.dev/operator/hack/promtest"
)

const scrapeInterval = 100 * time.Millisecond

func scrape(job string, targets ...string) promtest.Scrape {
	return promtest.Scrape{Job: job, Targets: targets, Interval: scrapeInterval}
}

func TestTheOverlayInTheCommentNamesAnotherPrometheus(t *testing.T) {
	for name, invariant := range decode(t, overlay(t, "prometheus")) {
		if got := invariant.Spec.Source.Prometheus.URL; got != "http://prometheus.monitoring.svc:9090" {
			t.Errorf("%s asks %s", name, got)
		}
	}
}

func TestAPrometheusThatIsWellSatisfiesAllUntilATargetDies(t *testing.T) {
	target := promtest.NewTarget(t)
	observed := promtest.Run(t, promtest.Options{Scrape: []promtest.Scrape{scrape("shop", target.Address)}})
	address := strings.TrimPrefix(observed.URL, "http://")
	observing := promtest.Run(t, promtest.Options{Scrape: []promtest.Scrape{scrape("prometheus", address), scrape("shop", target.Address)}})
	observing.WaitFor(t, `rate(prometheus_tsdb_head_samples_appended_total{type="float"}[5m]) > 0`, promtest.NotEmpty)
	observing.WaitFor(t, "up == 1", func(series model.Vector) bool { return len(series) == 2 })
	must(t, plane.Namespace(t.Context(), "monitoring"))
	wantLines(t, check(t, named(t, "prometheus"), "-n", "monitoring", "--prometheus-url", observing.URL))

	target.Stop()
	observing.WaitFor(t, "up == 0", promtest.NotEmpty)
	r := check(t, named(t, "prometheus"), "-n", "monitoring", "--prometheus-url", observing.URL)
	store := "shop/" + target.Address
	wantLines(t, r, "target-up("+store+") Violated")
	r.wantEvidence(t)
	if got := r.message("target-up", store); got != "Prometheus cannot scrape "+target.Address+" of shop" {
		t.Errorf("its message is %q", got)
	}
}

func TestOfAPrometheusThatNeverStoredASampleItIsUnknownWhetherItDoes(t *testing.T) {
	observed := promtest.Run(t, promtest.Options{})
	observing := promtest.Run(t, promtest.Options{Scrape: []promtest.Scrape{scrape("prometheus", strings.TrimPrefix(observed.URL, "http://"))}})
	observing.WaitFor(t, "prometheus_config_last_reload_successful", promtest.NotEmpty)
	must(t, plane.Namespace(t.Context(), "monitoring"))
	wantLines(t, check(t, named(t, "prometheus"), "-n", "monitoring", "--prometheus-url", observing.URL), "prometheus-ingests Unknown NoStores")
}

func TestAPrometheusThatNobodyScrapesIsUnknown(t *testing.T) {
	p := promtest.Run(t, promtest.Options{})
	must(t, plane.Namespace(t.Context(), "monitoring"))
	wantLines(t, check(t, named(t, "prometheus"), "-n", "monitoring", "--prometheus-url", p.URL),
		"prometheus-config Unknown NoStores", "prometheus-ingests Unknown NoStores")
}

// metricsOfTiKV are the names of those Invariants of the pack that ask Prometheus.
func metricsOfTiKV(t *testing.T) (names []string) {
	t.Helper()
	for name, invariant := range pack(t, "tikv") {
		if invariant.Spec.Source.Prometheus != nil {
			names = append(names, name)
		}
	}
	return names
}

// tikvTarget is a target with the metrics of a TiKV and a PD that are well.
type tikvTarget struct{ *promtest.Target }

func newTiKVTarget(t *testing.T) tikvTarget {
	t.Helper()
	target := tikvTarget{promtest.NewTarget(t)}
	for name, value := range map[string]float64{
		"tikv_server_memory_quota_bytes": 1000, "process_resident_memory_bytes": 500, "tikv_server_cpu_cores_quota": 4,
		"process_cpu_seconds_total": 10, "process_start_time_seconds": 1767225600, "pd_service_maxprocs": 4,
		"etcd_mvcc_db_total_size_in_bytes": 10, "etcd_server_quota_backend_bytes": 100,
	} {
		target.Gauge(name, nil).Set(value)
	}
	target.regions("miss", 0)
	target.regions("down", 0)
	target.regions("pending", 0)
	return target
}

func (t tikvTarget) regions(kind string, count float64) {
	t.Gauge("pd_regions_status", prometheus.Labels{"type": kind + "-peer-region-count"}).Set(count)
}

func TestTheMetricsOfATiKVThatIsIdleSatisfyAll(t *testing.T) {
	target := newTiKVTarget(t)
	p := promtest.Run(t, promtest.Options{Scrape: []promtest.Scrape{scrape("tikv", target.Address)}})
	p.WaitFor(t, "rate(process_cpu_seconds_total[2m])", promtest.NotEmpty)
	must(t, plane.Namespace(t.Context(), "tikv"))
	wantLines(t, check(t, named(t, "tikv", metricsOfTiKV(t)...), "-n", "tikv", "--prometheus-url", p.URL))
}

func TestTheMetricsOfATiKVInTroubleAreToldByInstance(t *testing.T) {
	target := newTiKVTarget(t)
	p := promtest.Run(t, promtest.Options{Scrape: []promtest.Scrape{scrape("tikv", target.Address)}})
	slow := func(name string, labels prometheus.Labels, value float64) func() {
		histogram := target.Histogram(name, labels, 0.01, 0.1, 1, 10, 1000, 10000)
		return func() { histogram.Observe(value) }
	}
	rising := []func(){
		slow("tikv_grpc_msg_duration_seconds", prometheus.Labels{"type": "kv_get"}, 0.5),
		slow("tikv_storage_engine_async_request_duration_seconds", prometheus.Labels{"type": "write"}, 5),
		slow("tikv_raftstore_append_log_duration_seconds", nil, 5),
		slow("tikv_raftstore_apply_log_duration_seconds", nil, 5),
		slow("tikv_raftstore_log_lag", nil, 9000),
		slow("etcd_disk_wal_fsync_duration_seconds", nil, 5),
		slow("pd_client_request_handle_requests_duration_seconds", prometheus.Labels{"type": "tso"}, 0.5),
		func() { target.Gauge("tikv_critical_error_total", prometheus.Labels{"type": "corruption"}).Inc() },
		func() { target.Gauge("tikv_channel_full_total", prometheus.Labels{"type": "store"}).Inc() },
		func() {
			target.Gauge("tikv_engine_write_stall", prometheus.Labels{"db": "kv", "type": "write_stall_max"}).Inc()
		},
		func() {
			target.Gauge("tikv_server_report_failure_msg_total", prometheus.Labels{"type": "unreachable", "store_id": "3"}).Add(10000)
		},
		func() { target.Gauge("pd_tso_events", prometheus.Labels{"type": "system_time_slow"}).Inc() },
		func() { target.Gauge("process_start_time_seconds", nil).Inc() },
		func() { target.Gauge("process_cpu_seconds_total", nil).Add(1000) },
	}
	target.Gauge("process_resident_memory_bytes", nil).Set(801)
	target.Gauge("etcd_mvcc_db_total_size_in_bytes", nil).Set(81)
	target.regions("miss", 101)
	target.regions("down", 1)
	target.regions("pending", 101)
	// Each is scraped before it rises again, so that Prometheus sees it rise.
	for round := range 4 {
		for _, rise := range rising {
			rise()
		}
		p.WaitFor(t, "changes(process_start_time_seconds[30m])", promtest.Value(float64(round)))
	}
	must(t, plane.Namespace(t.Context(), "tikv"))
	r := check(t, named(t, "tikv", metricsOfTiKV(t)...), "-n", "tikv", "--prometheus-url", p.URL)
	want := []string{
		"store-reachable(3) Violated", "regions-miss-peers(miss-peer-region-count) Violated",
		"regions-down-peers(down-peer-region-count) Violated", "regions-pending-peers(pending-peer-region-count) Violated",
	}
	for _, name := range []string{
		"grpc-latency", "storage-write-latency", "raft-log-lag", "tikv-critical-errors", "tikv-accepts-requests", "tikv-write-stall",
		"tikv-memory", "tikv-cpu", "tikv-restarts", "pd-etcd-space", "pd-etcd-fsync", "pd-tso-latency", "pd-clock",
	} {
		want = append(want, name+"("+target.Address+") Violated")
	}
	wantLines(t, r, want...)
	r.wantEvidence(t)
	if got := r.message("tikv-memory", target.Address); got != target.Address+" takes 80 % of its memory" {
		t.Errorf("its message is %q", got)
	}
}
