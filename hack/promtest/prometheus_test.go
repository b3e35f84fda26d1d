package promtest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"k8s.io/apimachinery/pkg/util/wait"

	"invariant.dev/operator/hack/promtest"
)

// holder makes this test binary hold a Prometheus, say so, and wait to be killed.
const holder = "PROMTEST_HOLDER"

func TestMain(m *testing.M) {
	if os.Getenv(holder) != "" {
		_, err := promtest.Start(context.Background(), promtest.Options{})
		fmt.Println(err)
		select {}
	}
	os.Exit(m.Run())
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 30*time.Second, true,
		func(context.Context) (bool, error) { return done(), nil })
	if err != nil {
		t.Fatalf("waiting until %s: %v", what, err)
	}
}

// jobs scrapes the target as the job tikv.
func jobs(target *promtest.Target) []promtest.Scrape {
	return []promtest.Scrape{{Job: "tikv", Targets: []string{target.Address}, Interval: 200 * time.Millisecond}}
}

func store(id string) prometheus.Labels { return prometheus.Labels{"store": id} }

func TestItScrapesARealTargetAndAnswers(t *testing.T) {
	target := promtest.NewTarget(t)
	target.Gauge("store_up", store("1")).Set(1)
	target.Gauge("store_up", store("2")).Set(0)
	latency := target.Histogram("latency_seconds", store("1"), 0.5, 1)
	for range 10 {
		latency.Observe(0.75)
	}
	scrapes := jobs(target)
	scrapes[0].Labels = map[string]string{"cluster": "prod", "instance": "tikv-1"}
	p := promtest.Run(t, promtest.Options{Scrape: scrapes})

	series := p.WaitFor(t, `store_up == 1`, promtest.NotEmpty)
	want := model.Metric{"__name__": "store_up", "store": "1", "job": "tikv", "cluster": "prod", "instance": "tikv-1"}
	if len(series) != 1 || !series[0].Metric.Equal(want) {
		t.Errorf("got the series %v, want %v", series, want)
	}
	p.WaitFor(t, `histogram_quantile(0.5, sum by (le) (latency_seconds_bucket))`, promtest.Value(0.75))

	target.Gauge("store_up", store("2")).Set(1)
	p.WaitFor(t, `count(store_up == 1)`, promtest.Value(2))
	target.Registry.Unregister(target.Gauge("store_up", store("2")))
	p.WaitFor(t, `store_up{store="2"}`, promtest.Empty)
}

func TestSeriesOfADeadTargetGoStaleAndComeBack(t *testing.T) {
	target := promtest.NewTarget(t)
	target.Gauge("store_up", store("1")).Set(1)
	p := promtest.Run(t, promtest.Options{Scrape: jobs(target)})
	p.WaitFor(t, "store_up", promtest.Value(1))

	target.Stop()
	p.WaitFor(t, "store_up", promtest.Empty)
	p.WaitFor(t, "up", promtest.Value(0))

	target.Start()
	p.WaitFor(t, "store_up", promtest.Value(1))
}

func TestANativeHistogramIsStoredAsSuchWhereTheScrapeSaysSo(t *testing.T) {
	target := promtest.NewTarget(t)
	for _, seconds := range []float64{0.1, 0.1, 2} {
		target.NativeHistogram("latency_seconds", nil).Observe(seconds)
	}
	native, classic := jobs(target)[0], jobs(target)[0]
	native.Job, native.NativeHistograms = "native", true
	classic.Job = "classic"
	p := promtest.Run(t, promtest.Options{Scrape: []promtest.Scrape{native, classic}})

	histogram := p.WaitFor(t, `latency_seconds{job="native"}`, promtest.NotEmpty)[0].Histogram
	if histogram == nil || histogram.Count != 3 || len(histogram.Buckets) != 2 {
		t.Errorf("got the histogram %v, want three observations in two buckets", histogram)
	}
	p.WaitFor(t, `latency_seconds_count{job="classic"}`, promtest.Value(3))
	p.WaitFor(t, `{__name__=~"latency_seconds.*", job="classic", le!="+Inf"}`, func(series model.Vector) bool {
		return len(series) == 2 // _count and _sum
	})
}

// answers is the status of what Prometheus answers to that client.
func answers(t *testing.T, client *http.Client, url string) (string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	client.CloseIdleConnections()
	return response.Status, response.Body.Close()
}

func TestBasicAuthIsAskedFor(t *testing.T) {
	user := &promtest.BasicAuth{Username: "ana", Password: "not: a secret"}
	p := promtest.Run(t, promtest.Options{BasicAuth: user})
	url := p.URL + "/api/v1/query?query=1"
	if status, err := answers(t, http.DefaultClient, url); err != nil || status != "401 Unauthorized" {
		t.Errorf("without a password: %s, %v", status, err)
	}
	if status, err := answers(t, p.Client(), url); err != nil || status != "200 OK" {
		t.Errorf("with the password: %s, %v", status, err)
	}
	p.WaitFor(t, "vector(1)", promtest.Value(1))
}

// holding is a client that trusts the CA in PEM and has that certificate, if any.
func holding(t *testing.T, ca, cert, key []byte) *http.Client {
	t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(ca) {
		t.Fatalf("no certificate in %q", ca)
	}
	if cert != nil {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
}

func TestItServesHTTPS(t *testing.T) {
	p := promtest.Run(t, promtest.Options{TLS: true})
	var unknown x509.UnknownAuthorityError
	if status, err := answers(t, http.DefaultClient, p.URL+"/-/ready"); !errors.As(err, &unknown) {
		t.Errorf("to a client that does not know its CA: %s, %v", status, err)
	}
	for _, url := range []string{p.URL, strings.Replace(p.URL, "127.0.0.1", "localhost", 1)} {
		if status, err := answers(t, holding(t, p.CACert, nil, nil), url+"/-/ready"); err != nil || status != "200 OK" {
			t.Errorf("%s to a client that knows its CA: %s, %v", url, status, err)
		}
	}
	p.WaitFor(t, "vector(1)", promtest.Value(1))
}

func TestAClientCertificateIsAskedFor(t *testing.T) {
	p := promtest.Run(t, promtest.Options{RequireClientCert: true})
	status, err := answers(t, holding(t, p.CACert, nil, nil), p.URL+"/-/ready")
	if err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %s, %v", status, err)
	}
	status, err = answers(t, holding(t, p.CACert, p.ClientCert, p.ClientKey), p.URL+"/-/ready")
	if err != nil || status != "200 OK" {
		t.Errorf("with the certificate: %s, %v", status, err)
	}
	p.WaitFor(t, "vector(1)", promtest.Value(1))
}

func TestFeaturesAreEnabled(t *testing.T) {
	const experimental = `sort_by_label(vector(1), "a")`
	p := promtest.Run(t, promtest.Options{Features: []string{"promql-experimental-functions", "extra-scrape-metrics"}})
	p.WaitFor(t, experimental, promtest.Value(1))
	plain := promtest.Run(t, promtest.Options{})
	if value, _, err := plain.API().Query(t.Context(), experimental, time.Now()); err == nil {
		t.Errorf("without the feature: %v", value)
	}
}

// failing is a test that notes that it failed and why.
type failing struct {
	testing.TB
	why string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.why = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// failure runs what is to fail a test, and returns why it failed.
func failure(t *testing.T, do func(testing.TB)) string {
	t.Helper()
	f := &failing{TB: t}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		do(f)
	}()
	<-ended
	return f.why
}

func TestWaitingFailsAtOnceWhereItIsInVain(t *testing.T) {
	p := promtest.Run(t, promtest.Options{})
	for _, c := range []struct{ name, query, want string }{
		{"a query that does not parse", "up >", "parse error"},
		{"a query that cannot be executed", `label_replace(vector(1), "a", "b", "c", "(")`, "invalid regular expression"},
		{"a query that gives no vector", "1", "the answer is a scalar, not a vector"},
	} {
		t.Run(c.name, func(t *testing.T) {
			why := failure(t, func(tb testing.TB) { p.WaitFor(tb, c.query, promtest.NotEmpty) })
			if !strings.Contains(why, c.want) || !strings.Contains(why, c.query) {
				t.Errorf("it fails with %q, which does not say %q", why, c.want)
			}
		})
	}
	t.Run("a Prometheus that has ended", func(t *testing.T) {
		if err := p.Stop(); err != nil {
			t.Fatal(err)
		}
		why := failure(t, func(tb testing.TB) { p.WaitFor(tb, "up", promtest.NotEmpty) })
		if !strings.Contains(why, "Prometheus has ended") {
			t.Errorf("it fails with %q", why)
		}
	})
}

func TestStopLeavesNothing(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	p := promtest.Run(t, promtest.Options{Scrape: jobs(promtest.NewTarget(t))})
	p.WaitFor(t, "up", promtest.Value(1))
	pid := noted(t, temp)
	for range 2 {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
	if runs(pid) {
		t.Errorf("the process %d still runs", pid)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

// noted is the process ID of the Prometheus whose files are in a directory in temp.
func noted(t *testing.T, temp string) (pid int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(temp, "prometheus-*", "prometheus.pid"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%d programs are noted, want 1: %v", len(files), err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(content), &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

func runs(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestAKilledHolderLeavesNothing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), holder+"=1", "TMPDIR="+temp)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // says that it was killed
	var said string
	_, scanErr := fmt.Fscanln(out, &said)
	var pid int
	if scanErr == nil && said == "<nil>" {
		pid = noted(t, temp)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if pid == 0 {
		t.Fatalf("the holder said %q, %v", said, scanErr)
	}
	eventually(t, "Prometheus is gone", func() bool { return !runs(pid) })
	eventually(t, "its files are gone", func() bool {
		left, err := os.ReadDir(temp)
		return err == nil && len(left) == 0
	})
}

func TestAFailedStartSaysWhyAndLeavesNothing(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	fails := func(t *testing.T, o promtest.Options, want string) {
		t.Helper()
		p, err := promtest.Start(t.Context(), o)
		if err == nil {
			_ = p.Stop()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that says %q", err, want)
		}
	}
	t.Run("it says what Prometheus printed", func(t *testing.T) {
		fails(t, promtest.Options{Args: []string{"--no-such-flag"}}, "unknown long flag '--no-such-flag'")
	})
	t.Run("it says so where Prometheus has only printed something", func(t *testing.T) {
		fails(t, promtest.Options{Args: []string{"--version"}}, "prometheus ended (exit status 0) before it was ready")
	})
	t.Run("it says what is wrong with a job", func(t *testing.T) {
		twice := []promtest.Scrape{{Job: "tikv"}, {Job: "tikv"}}
		fails(t, promtest.Options{Scrape: twice}, "multiple scrape configs with job name")
	})
	t.Run("it says how often a target can be scraped", func(t *testing.T) {
		often := []promtest.Scrape{{Job: "tikv", Interval: time.Millisecond}}
		if err := promtest.Run(t, promtest.Options{Scrape: often}).Stop(); err != nil {
			t.Error(err)
		}
		often[0].Interval = 999 * time.Microsecond
		fails(t, promtest.Options{Scrape: often}, "does not scrape more often than every 1ms")
	})
	t.Run("it ends with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := promtest.Start(ctx, promtest.Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("it says how to build a missing program", func(t *testing.T) {
		t.Setenv("PROMETHEUS", filepath.Join(temp, "absent"))
		fails(t, promtest.Options{}, "run make bin/prometheus")
	})
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
}
