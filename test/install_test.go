package test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/client-go/rest"

	"invariant.dev/operator/hack/controlplane"
)

func TestTheMonitorRunsUnderTheDeploymentsServiceAccountAndFlags(t *testing.T) {
	var deployment appsv1.Deployment
	must(t, json.Unmarshal([]byte(kubectl(t, "", "get", "deployment", "-n", "operator-system", "operator-monitor", "-o", "json")), &deployment))
	pod := deployment.Spec.Template.Spec
	config, kubeconfig, err := plane.ServiceAccount(t.Context(), "operator-system", pod.ServiceAccountName)
	must(t, err)
	_, _, err = controlplane.Kubectl(t.Context(), kubeconfig, "", "config", "set-context", "--current", "--namespace=operator-system")
	must(t, err)

	metrics, probes := freeAddress(t), freeAddress(t)
	var flags []string
	for _, arg := range pod.Containers[0].Args[1:] {
		arg = strings.ReplaceAll(arg, "metrics-bind-address=:8443", "metrics-bind-address="+metrics)
		flags = append(flags, strings.ReplaceAll(arg, "health-probe-bind-address=:8081", "health-probe-bind-address="+probes))
	}
	monitor, log := startMonitor(t, kubeconfig, append(flags, "--allow-address=127.0.0.0/8")...)

	eventually(t, "the monitor is ready", func() bool { return status(t, http.DefaultClient, "http://"+probes+"/readyz") == http.StatusOK })
	must(t, plane.Namespace(t.Context(), "install"))
	source := newSwitchable(t)
	kubectl(t, fmt.Sprintf(storeUp, "install", source.server.URL), "apply", "-f", "-")
	state := func(ticket string) string {
		return kubectl(t, "", "get", "ticket", "-n", "install", ticket, "--ignore-not-found", "-o", "jsonpath={.status.state}")
	}
	eventually(t, "a ticket opens", func() bool { return state("sys-1") == "Open" })
	eventually(t, "it is seen again", func() bool {
		return kubectl(t, "", "get", "ticket", "-n", "install", "sys-1", "-o", "jsonpath={.status.occurrences}") >= "2"
	})
	eventually(t, "Events tell of it", func() bool {
		return strings.Contains(kubectl(t, "", "get", "events", "-n", "install", "-o", "jsonpath={.items[*].reason}"), "Opened")
	})
	wantMetrics(t, config, "https://"+metrics+"/metrics")
	source.set(true)
	eventually(t, "it resolves", func() bool { return state("sys-1") == "Resolved" })
	if strings.Contains(log.String(), "forbidden") {
		t.Errorf("the monitor was refused something:\n%s", log)
	}

	holder := func() string {
		return kubectl(t, "", "get", "lease", "-n", "operator-system", "operator-monitor.operator.invariant.dev", "-o", "jsonpath={.spec.holderIdentity}")
	}
	if holder() == "" {
		t.Error("nobody holds the lease while the monitor runs")
	}
	stopsWithin(t, monitor, syscall.SIGTERM)
	if held := holder(); held != "" {
		t.Errorf("%s still holds the lease after a clean stop", held)
	}
}

func status(t *testing.T, c *http.Client, url string) int {
	t.Helper()
	response, err := c.Get(url)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode
}

// wantMetrics wants the metrics served to those who may read them, and to nobody else.
func wantMetrics(t *testing.T, monitor *rest.Config, url string) {
	t.Helper()
	anyone := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	if got := status(t, anyone, url); got != http.StatusUnauthorized {
		t.Errorf("metrics answer %d to anyone, want 401", got)
	}
	if got, _ := scrape(t, anyone, url, monitor.BearerToken); got != http.StatusForbidden {
		t.Errorf("metrics answer %d to an account without the role, want 403", got)
	}
	kubectl(t, "", "create", "serviceaccount", "-n", "install", "prometheus")
	kubectl(t, "", "create", "clusterrolebinding", "prometheus", "--clusterrole=operator-metrics-reader", "--serviceaccount=install:prometheus")
	reader, _, err := plane.ServiceAccount(t.Context(), "install", "prometheus")
	must(t, err)
	var body string
	eventually(t, "metrics are served to an account with the role", func() bool {
		var got int
		got, body = scrape(t, anyone, url, reader.BearerToken)
		return got == http.StatusOK
	})
	for _, want := range []string{
		`operator_tickets{namespace="install",severity="Critical",state="Open",system="sys"} 1`,
		`operator_checks_total{namespace="install",outcome="Violated",system="sys"}`,
		"operator_cycle_duration_seconds_count", "operator_cycle_lateness_seconds_count",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
}

func scrape(t *testing.T, c *http.Client, url, token string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	must(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := c.Do(request)
	must(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return response.StatusCode, string(body)
}

// stopsWithin wants a clean stop within five seconds.
func stopsWithin(t *testing.T, monitor *controlplane.Program, signal syscall.Signal) {
	t.Helper()
	must(t, monitor.Signal(signal))
	select {
	case <-monitor.Ended():
		if err := monitor.Err(); err != nil {
			t.Errorf("after %v the monitor ended with %v, want exit code 0", signal, err)
		}
	case <-time.After(5 * time.Second):
		t.Errorf("five seconds after %v the monitor still runs", signal)
	}
}

func TestTheMonitorStopsCleanlyInTheMiddleOfASlowCheck(t *testing.T) {
	for i, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			ns := fmt.Sprintf("slow-%d", i)
			must(t, plane.Namespace(t.Context(), ns))
			asked := make(chan struct{}, 100)
			source := hanging(t, asked)
			kubectl(t, fmt.Sprintf(storeUp, ns, source), "apply", "-f", "-")
			monitor, _ := startMonitor(t, asMonitor(t), "--namespace", ns, "--allow-address", "127.0.0.0/8")
			select {
			case <-asked:
			case <-time.After(time.Minute):
				t.Fatal("the monitor did not ask the source")
			}
			stopsWithin(t, monitor, signal)
		})
	}
}
