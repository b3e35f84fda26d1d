package test

import (
	"fmt"
	"strings"
	"testing"

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
