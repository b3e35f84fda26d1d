package controllers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/faulty"
	"invariant.dev/operator/hack/promtest"
)

const queryRow = "`expression: self.value < 100.0`"

// prometheusSection is what has nothing to do with the query.
func prometheusSection(t *testing.T) section {
	guarded := promtest.Run(t, promtest.Options{TLS: true, BasicAuth: &promtest.BasicAuth{Username: "ana", Password: faulty.Secret}})
	known := func(password string) func(*scene) {
		return func(s *scene) {
			server(up, at(guarded.URL))(s)
			s.secret("prometheus-tls", map[string]string{"ca.crt": string(guarded.CACert)})
			s.access().CertSecretRef = &v1alpha1.SecretReference{Name: "prometheus-tls"}
			if password == "" {
				return
			}
			s.secret("prometheus-auth", map[string]string{"username": "ana", "password": password})
			s.access().SecretRef = &v1alpha1.SecretReference{Name: "prometheus-auth"}
		}
	}
	result := func(kind, result string) func(*scene) {
		return body(up, fmt.Sprintf(`{"status":"success","data":{"resultType":%q,"result":%s},"note":%q}`, kind, result, faulty.Secret))
	}
	return section{
		title: "prometheus: the API",
		intro: "`query: up`, " + queryRow + ". The first four lines are of a real Prometheus, the rest of servers that are made to fail like that.",
		failures: append([]failure{
			{"a real Prometheus whose authority is not trusted", server(up, at(guarded.URL))},
			{"a real Prometheus that is asked without credentials", known("")},
			{"a real Prometheus that is shown a wrong password", known("wrong-" + faulty.Secret)},
			{"a real Prometheus that is asked over http and speaks https", server(up, at("http"+strings.TrimPrefix(guarded.URL, "https")))},
		}, append(overHTTP(up), []failure{
			{"answers JSON that is cut off", server(up, faulty.HalfAJSON)},
			{"answers an empty body", server(up, faulty.Empty)},
			{"answers HTML", server(up, faulty.HTML)},
			{"answers text", server(up, faulty.Text)},
			{"answers JSON that is not of a Prometheus API", body(up, `{"stores": ["`+faulty.Secret+`"]}`)},
			{"answers a kind of result that Prometheus has not", result("streams", `[{"stream":{"store":"`+faulty.Secret+`"},"values":[["1","x"]]}]`)},
			{"answers a vector that is none", result("vector", `[{"metric":{},"value":"`+faulty.Secret+`"}]`)},
			{"answers a value that is no number", result("vector", `[{"metric":{},"value":[1,"`+faulty.Secret+`"]}]`)},
			{"there is no address: no `url`, and no `--prometheus-url`", func(s *scene) { s.spec = upSpec("") }},
		}...)...),
	}
}

// promQLSection is what the query does, in a real Prometheus.
func promQLSection(t *testing.T) section {
	target := promtest.NewTarget(t)
	for i := range 10_001 {
		target.Registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "region_size", ConstLabels: prometheus.Labels{"region": fmt.Sprint(i)}}))
	}
	target.NativeHistogram("latency_seconds", prometheus.Labels{"note": faulty.Secret}).Observe(1)
	target.Gauge("used_ratio", prometheus.Labels{"store": "1", "note": faulty.Secret}).Set(0.5)
	target.Gauge("used_ratio", prometheus.Labels{"store": "2", "note": faulty.Secret}).Set(0.5)
	p := promtest.Run(t, promtest.Options{
		Scrape: []promtest.Scrape{{Job: "tikv", Targets: []string{target.Address}, NativeHistograms: true, Labels: map[string]string{"instance": "tikv-1"}, Interval: time.Second}},
		Args:   []string{"--query.max-samples=20000"},
	})
	impatient := promtest.Run(t, promtest.Options{Args: []string{"--query.timeout=50ms"}})
	p.WaitFor(t, "count(region_size)", func(v model.Vector) bool { return len(v) == 1 && v[0].Value == 10_001 })
	of := func(p *promtest.Prometheus, query string) failure {
		return failure{"`" + query + "`", func(s *scene) {
			server(up, at(p.URL))(s)
			s.spec.Source.Prometheus.Query = query
		}}
	}
	named := func(what string, f failure) failure { return failure{what + ": " + f.what, f.stage} }
	alert := func(f failure) func(*scene) {
		return func(s *scene) {
			f.stage(s)
			s.spec.Expression, s.spec.StoreID = "", ""
		}
	}
	return section{
		title: "prometheus: the query",
		intro: queryRow + ", asked of a real Prometheus.",
		failures: []failure{
			named("does not parse", of(p, "up >")),
			named("names no function", of(p, "ratee(up[1m])")),
			named("cannot be evaluated", of(p, "used_ratio * on() used_ratio")),
			named("loads more samples than `--query.max-samples`", of(p, "count_over_time(vector(1)[1000000s:1s])")),
			named("takes longer than `--query.timeout`", of(impatient, "max_over_time(sum_over_time(vector(1)[10000s:1s])[10000s:1s])")),
			named("gives a matrix", of(p, "up[5m]")),
			named("gives a string", of(p, `"up"`)),
			named("gives a native histogram", of(p, "latency_seconds")),
			named("gives NaN", of(p, "0 * vector(0) / 0")),
			named("gives NaN for one store of two", of(p, `used_ratio * (used_ratio{store="1"} - 0.5) / 0 or used_ratio`)),
			named("gives +Inf, which is a number", of(p, "vector(1) / 0")),
			named("gives a scalar, which is one reading", of(p, "1")),
			named("gives no series", of(p, "up{job=\"pd\"}")),
			{"gives no series, and there is no `expression`: `up == 0`", alert(of(p, "up == 0"))},
			{"gives a native histogram, and there is no `expression`: `sum by (job) (latency_seconds)`", alert(of(p, "sum by (job) (latency_seconds)"))},
			named("gives more than 10,000 series", of(p, "region_size")),
			named("gives a warning: the result may be partial", of(p, "quantile(2, used_ratio)")),
			named("mixes histograms and numbers, which is a warning", of(p, `sum({__name__=~"used_ratio|latency_seconds"})`)),
		},
		notes: []string{"A string where a number is needed: the value of a series is always a number."},
	}
}

// up asks a Prometheus which targets are up.
func up(s *scene, address string) { s.spec = upSpec(address) }

func upSpec(address string) v1alpha1.InvariantSpec {
	return v1alpha1.InvariantSpec{
		Source:     v1alpha1.Source{Prometheus: &v1alpha1.PrometheusSource{URL: address, Query: "up"}},
		StoreID:    "self.labels.?store.orValue('all')",
		Expression: "self.value < 100.0",
	}
}
