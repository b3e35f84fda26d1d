package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/hack/promtest"
)

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: %s}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: main}]}
`

const observed = `
apiVersion: operator.invariant.dev/v1alpha1
kind: Invariant
metadata: {name: replicas, namespace: NS}
spec:
  system: apps
  interval: 1s
  source: {kubernetes: {apiVersion: apps/v1, kind: Deployment}}
  storeID: self.metadata.name
  expression: self.?status.readyReplicas.orValue(0) >= self.spec.replicas
---
apiVersion: operator.invariant.dev/v1alpha1
kind: Invariant
metadata: {name: scraped, namespace: NS}
spec:
  system: metrics
  interval: 1s
  source: {prometheus: {query: up == 0}}
---
apiVersion: operator.invariant.dev/v1alpha1
kind: Invariant
metadata: {name: locked, namespace: NS}
spec:
  system: locked
  interval: 1s
  source: {http: {url: "https://127.0.0.1:1/", secretRef: {name: auth}}}
  expression: self[0].ok
`

// The roles, the flags and the messages are those that somebody has who installs config/default.
func TestAsInstalledTheMonitorSeesObjectsAndPrometheusAndSaysWhatItMayNotRead(t *testing.T) {
	const ns = "sources"
	must(t, plane.Namespace(t.Context(), ns))
	target := promtest.NewTarget(t)
	p := promtest.Run(t, promtest.Options{Scrape: []promtest.Scrape{{Job: "store", Targets: []string{target.Address}}}})
	p.WaitFor(t, "up", promtest.Value(1))
	kubectl(t, fmt.Sprintf(deployment, ns), "apply", "-f", "-")
	kubectl(t, strings.ReplaceAll(observed, "NS", ns), "apply", "-f", "-")
	startMonitor(t, asMonitor(t), "--namespace", ns, "--allow-address", "127.0.0.0/8", "--prometheus-url", p.URL)

	state := func(ticket string) string {
		return kubectl(t, "", "get", "ticket", "-n", ns, ticket, "--ignore-not-found", "-o", "jsonpath={.status.state} {.spec.violations[*].storeID}")
	}
	eventually(t, "a Deployment short of replicas opens a ticket", func() bool { return state("apps-1") == "Open web" })
	kubectl(t, "", "patch", "deployment", "-n", ns, "web", "--subresource=status", "--type=merge", "-p", `{"status":{"replicas":1,"readyReplicas":1}}`)
	eventually(t, "it resolves", func() bool { return state("apps-1") == "Resolved web" })

	target.Stop()
	eventually(t, "a target that is down opens a ticket", func() bool { return strings.HasPrefix(state("metrics-1"), `Open instance="`) })
	target.Start()
	eventually(t, "it resolves", func() bool { return strings.HasPrefix(state("metrics-1"), "Resolved") })

	ready := func() string {
		return kubectl(t, "", "get", "invariant", "-n", ns, "locked", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].reason}: {.status.conditions[?(@.type=="Ready")].message}`)
	}
	eventually(t, "the Secret may not be read", func() bool { return strings.HasPrefix(ready(), "Forbidden: Secret auth may not be read.") })
	_, told, _ := strings.Cut(ready(), "with: ")
	for command := range strings.SplitSeq(told, " && ") {
		if _, _, err := controlplane.Kubectl(t.Context(), plane.Kubeconfig, "", strings.Fields(strings.TrimPrefix(command, "kubectl "))...); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
	}
	eventually(t, "it may, and there is none", func() bool { return strings.HasPrefix(ready(), "InvalidSecret: Secret auth: there is no such Secret") })
}

// The rules have the traits of those that come with TiKV and PD: a label level, labels that are no labels here, templates.
const rules = `
groups:
- name: alert.rules
  interval: 1s
  rules:
  - alert: Store_down
    expr: (sum(pd_store_status{type="store_down_count"}) by (instance) > 0) and (sum(etcd_server_is_leader) by (instance) > 0)
    for: 1s
    labels: {env: ENV_LABELS_ENV, level: emergency, expr: 'sum(pd_store_status{type="store_down_count"}) > 0'}
    annotations: {description: 'cluster: ENV_LABELS_ENV, instance: {{ $labels.instance }}, values: {{ $value }}', value: '{{ $value }}', summary: a store is down}
  - alert: Space_used
    expr: sum(pd_store_status{type="storage_size"}) / sum(pd_store_status{type="storage_capacity"}) * 100 > 80
    keep_firing_for: 1s
    labels: {level: warning}
    annotations: {summary: 'used: {{ $value | printf "%.1f" }} %'}
  - alert: No_leader
    expr: absent(etcd_server_is_leader == 1)
    labels: {level: critical}
`

func TestImportedAlertsThatFireAlsoClear(t *testing.T) {
	const ns = "imported"
	must(t, plane.Namespace(t.Context(), ns))
	target := promtest.NewTarget(t)
	gauge := func(kind string) prometheus.Gauge {
		return target.Gauge("pd_store_status", prometheus.Labels{"type": kind})
	}
	down, used, capacity := gauge("store_down_count"), gauge("storage_size"), gauge("storage_capacity")
	leads := target.Gauge("etcd_server_is_leader", nil)
	capacity.Set(100)
	leads.Set(1)
	p := promtest.Run(t, promtest.Options{Scrape: []promtest.Scrape{{Job: "pd", Targets: []string{target.Address}, Labels: map[string]string{"instance": "pd-1"}}}})
	p.WaitFor(t, "sum(etcd_server_is_leader)", promtest.Value(1))

	file := filepath.Join(t.TempDir(), "rules.yml")
	must(t, os.WriteFile(file, []byte(rules), 0o600))
	manifests, err := exec.CommandContext(t.Context(), filepath.Join(bin, "operator"), "invariants", "import", "-f", file, "--severity-label", "level", "-n", ns).Output()
	must(t, err)
	kubectl(t, string(manifests), "apply", "-f", "-")
	startMonitor(t, asMonitor(t), "--namespace", ns, "--allow-address", "127.0.0.0/8", "--prometheus-url", p.URL)

	// violations are those of the open tickets that have not cleared, with their messages.
	violations := func() string {
		return kubectl(t, "", "get", "tickets", "-n", ns, "--field-selector", "status.state!=Resolved", "-o", "jsonpath={range .items[*]}{.status.summary};{end}")
	}
	satisfied := func() string {
		return kubectl(t, "", "get", "invariants", "-n", ns, "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Satisfied")].status}`)
	}
	eventually(t, "all is well at first", func() bool { return satisfied() == "True True True" && violations() == "" })
	for _, alert := range []struct {
		name       string
		fire, mend func()
	}{
		{"store-down", func() { down.Set(1) }, func() { down.Set(0) }},
		{"space-used", func() { used.Set(91) }, func() { used.Set(50) }},
		{"no-leader", func() { leads.Set(0) }, func() { leads.Set(1) }},
	} {
		alert.fire()
		eventually(t, alert.name+" fires", func() bool { return strings.HasPrefix(violations(), alert.name) })
		alert.mend()
		eventually(t, alert.name+" clears", func() bool { return violations() == "" })
	}
	messages := kubectl(t, "", "get", "tickets", "-n", ns, "-o", "jsonpath={.items[*].spec.violations[*].message}")
	for _, want := range []string{"cluster: ENV_LABELS_ENV, instance: pd-1, values: 1", "used: 91.0 %"} {
		if !strings.Contains(messages, want) {
			t.Errorf("no message is %q: %s", want, messages)
		}
	}
}
