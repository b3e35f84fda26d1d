package packs

import (
	"fmt"
	"testing"
	"time"
)

// step is a status, and what an Invariant then says of the object: a message, or nothing where it is satisfied.
type step struct {
	status, invariant, message string
}

// steps makes an object in a namespace of its own, or in none, gives it one status after another, and has the program check
// an Invariant of a pack. Nobody else writes it: no controllers run here.
func steps(t *testing.T, packName, namespace, resource, name, manifest string, list []step) {
	t.Helper()
	must(t, plane.Namespace(t.Context(), namespace))
	kubectl(t, manifest, "create", "-f", "-", "-n", namespace)
	for _, s := range list {
		if s.status != "" {
			kubectl(t, "", "patch", resource, name, "-n", namespace, "--subresource=status", "--type=merge", "-p", `{"status":`+s.status+`}`)
		}
		r := check(t, named(t, packName, s.invariant), "-n", namespace)
		r.wantEvidence(t)
		if s.message == "" {
			wantLines(t, r)
			continue
		}
		wantLines(t, r, s.invariant+"("+name+") Violated")
		if got := r.message(s.invariant, name); got != s.message {
			t.Errorf("with the status %s, %s says %q; want %q", s.status, s.invariant, got, s.message)
		}
	}
}

const template = `{metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: "web:1"}]}}`

func TestADeploymentMustHaveItsReplicas(t *testing.T) {
	manifest := fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 3, selector: {matchLabels: {app: web}}, template: %s}}`, template)
	steps(t, "kubernetes", "of-three", "deployments", "web", manifest, []step{
		{"", "deployment-available", "no Pod of the Deployment web is available; it should have 3"},
		{"", "deployment-ready", "of the Deployment web, 0 Pods are ready and 0 up to date; it should have 3"},
		{`{"observedGeneration":1,"replicas":3,"updatedReplicas":3,"readyReplicas":3,"availableReplicas":3}`, "deployment-ready", ""},
		{"", "deployment-available", ""},
		{`{"readyReplicas":2,"availableReplicas":2,"unavailableReplicas":1}`, "deployment-ready", "of the Deployment web, 2 Pods are ready and 3 up to date; it should have 3"},
		{"", "deployment-available", ""},
		{`{"readyReplicas":3,"availableReplicas":3,"unavailableReplicas":null,"updatedReplicas":1}`, "deployment-ready", "of the Deployment web, 3 Pods are ready and 1 up to date; it should have 3"},
		{`{"updatedReplicas":3,"observedGeneration":0}`, "deployment-ready", "of the Deployment web, 3 Pods are ready and 3 up to date; it should have 3"},
	})
}

func TestADeploymentOfNoReplicasIsWell(t *testing.T) {
	manifest := fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: none}, spec: {replicas: 0, selector: {matchLabels: {app: web}}, template: %s}}`, template)
	steps(t, "kubernetes", "of-none", "deployments", "none", manifest, []step{
		{"", "deployment-available", ""},
		{`{"observedGeneration":1}`, "deployment-ready", ""},
	})
}

func TestADeploymentThatAsksForNoNumberHasOneReplica(t *testing.T) {
	manifest := fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: one}, spec: {selector: {matchLabels: {app: web}}, template: %s}}`, template)
	steps(t, "kubernetes", "of-one", "deployments", "one", manifest, []step{
		{`{"observedGeneration":1}`, "deployment-ready", "of the Deployment one, 0 Pods are ready and 0 up to date; it should have 1"},
		{`{"replicas":1,"updatedReplicas":1,"readyReplicas":1,"availableReplicas":1}`, "deployment-ready", ""},
	})
}

func TestAStatefulSetMustHaveItsReplicas(t *testing.T) {
	manifest := fmt.Sprintf(`{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {replicas: 2, serviceName: db, selector: {matchLabels: {app: web}}, template: %s}}`, template)
	steps(t, "kubernetes", "stateful", "statefulsets", "db", manifest, []step{
		{"", "statefulset-ready", "0 Pods of the StatefulSet db are ready; it should have 2"},
		{`{"observedGeneration":1,"replicas":2,"readyReplicas":1}`, "statefulset-ready", "1 Pods of the StatefulSet db are ready; it should have 2"},
		{`{"readyReplicas":2}`, "statefulset-ready", ""},
	})
}

func TestADaemonSetMustBeReadyOnEveryNodeItIsFor(t *testing.T) {
	manifest := fmt.Sprintf(`{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent}, spec: {selector: {matchLabels: {app: web}}, template: %s}}`, template)
	const counts = `"currentNumberScheduled":3,"numberMisscheduled":0,"desiredNumberScheduled":3`
	steps(t, "kubernetes", "daemons", "daemonsets", "agent", manifest, []step{
		{"", "daemonset-ready", "0 Pods of the DaemonSet agent are ready, on 0 nodes that should have one"},
		{`{"observedGeneration":1,` + counts + `,"numberReady":2}`, "daemonset-ready", "2 Pods of the DaemonSet agent are ready, on 3 nodes that should have one"},
		{`{"numberReady":3}`, "daemonset-ready", ""},
		{`{"currentNumberScheduled":0,"desiredNumberScheduled":0,"numberReady":0}`, "daemonset-ready", ""},
	})
}

func TestAJobThatFailedIsNamedWithItsReason(t *testing.T) {
	const manifest = `{apiVersion: batch/v1, kind: Job, metadata: {name: migrate}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: job, image: "job:1"}]}}}}`
	const failed = `{"startTime":"2026-11-24T05:00:00Z","failed":7,"conditions":[` +
		`{"type":"FailureTarget","status":"True","lastTransitionTime":"2026-11-24T05:10:00Z","reason":"BackoffLimitExceeded","message":"Job has reached the specified backoff limit"},` +
		`{"type":"Failed","status":"True","lastTransitionTime":"2026-11-24T05:10:00Z","reason":"BackoffLimitExceeded","message":"Job has reached the specified backoff limit"}]}`
	steps(t, "kubernetes", "jobs", "jobs", "migrate", manifest, []step{
		{"", "job-succeeds", ""},
		{`{"startTime":"2026-11-24T05:00:00Z","active":1}`, "job-succeeds", ""},
		{`{"active":0}`, "job-succeeds", ""},
		{failed, "job-succeeds", "the Job migrate has failed: BackoffLimitExceeded Job has reached the specified backoff limit"},
	})
	const owned = `{apiVersion: batch/v1, kind: Job, metadata: {name: nightly-1, ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: nightly, uid: "1"}]}, ` +
		`spec: {template: {spec: {restartPolicy: Never, containers: [{name: job, image: "job:1"}]}}}}`
	steps(t, "kubernetes", "jobs-of-cronjobs", "jobs", "nightly-1", owned, []step{{failed, "job-succeeds", ""}})
}

func TestTheLastRunOfACronJobMustHaveSucceeded(t *testing.T) {
	const manifest = `{apiVersion: batch/v1, kind: CronJob, metadata: {name: nightly}, spec: {schedule: "0 3 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: job, image: "job:1"}]}}}}}}`
	steps(t, "kubernetes", "cronjobs", "cronjobs", "nightly", manifest, []step{
		{"", "cronjob-succeeds", ""},
		{`{"lastScheduleTime":"2026-11-23T03:00:00Z"}`, "cronjob-succeeds", "the CronJob nightly ran at 2026-11-23T03:00:00Z and last succeeded at no time"},
		{`{"lastSuccessfulTime":"2026-11-23T03:04:05Z"}`, "cronjob-succeeds", ""},
		{`{"lastScheduleTime":"2026-11-24T03:00:00Z"}`, "cronjob-succeeds", "the CronJob nightly ran at 2026-11-24T03:00:00Z and last succeeded at 2026-11-23T03:04:05Z"},
	})
	kubectl(t, "", "patch", "cronjob", "nightly", "-n", "cronjobs", "--type=merge", "-p", `{"spec":{"suspend":true}}`)
	wantLines(t, check(t, named(t, "kubernetes", "cronjob-succeeds"), "-n", "cronjobs"))
}

func TestANamespaceWithNoWorkloadsIsWell(t *testing.T) {
	must(t, plane.Namespace(t.Context(), "empty"))
	wantLines(t, check(t, named(t, "kubernetes"), "-n", "empty"))
}

func TestAClaimMustGetAndKeepItsVolume(t *testing.T) {
	const manifest = `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 10Gi}}}}`
	steps(t, "kubernetes", "claims", "persistentvolumeclaims", "data", manifest, []step{
		{"", "volume-bound", "the claim data has no volume; it asks for 10Gi"},
		{"", "volume-kept", ""},
		{`{"phase":"Bound"}`, "volume-bound", ""},
		{`{"phase":"Lost"}`, "volume-kept", "the claim data has lost its volume "},
		{"", "volume-bound", ""},
	})
}

func TestANodeMustBeReadyAndShortOfNothing(t *testing.T) {
	const manifest = `{apiVersion: v1, kind: Node, metadata: {name: node-1}, spec: {taints: [{key: dedicated, value: db, effect: NoSchedule}]}}`
	condition := func(kind, status string) string {
		return fmt.Sprintf(`{"type":%q,"status":%q,"reason":"Kubelet%s","message":"because"}`, kind, status, kind)
	}
	steps(t, "kubernetes-cluster", "nodes", "nodes", "node-1", manifest, []step{
		{"", "node-ready", "the node node-1 is not ready: "},
		{"", "node-pressure", ""},
		{`{"conditions":[` + condition("Ready", "True") + `,` + condition("DiskPressure", "False") + `]}`, "node-ready", ""},
		{"", "node-pressure", ""},
		{`{"conditions":[` + condition("Ready", "Unknown") + `]}`, "node-ready", "the node node-1 is not ready: KubeletReady because"},
		{`{"conditions":[` + condition("Ready", "True") + `,` + condition("DiskPressure", "True") + `,` + condition("PIDPressure", "True") + `]}`,
			"node-pressure", "the node node-1 has DiskPressure, PIDPressure"},
	})
}

func TestAVolumeMustNotHaveFailed(t *testing.T) {
	const manifest = `{apiVersion: v1, kind: PersistentVolume, metadata: {name: pv-1}, spec: {capacity: {storage: 10Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /tmp/pv-1}}}`
	steps(t, "kubernetes-cluster", "volumes", "persistentvolumes", "pv-1", manifest, []step{
		{"", "persistentvolume-well", ""},
		{`{"phase":"Failed","message":"the disk is still attached"}`, "persistentvolume-well", "the volume pv-1 has failed: the disk is still attached"},
		{`{"phase":"Available"}`, "persistentvolume-well", ""},
	})
}

// certificates is the shape of cert-manager's Certificates, as far as the API server must know it.
const certificates = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: certificates.cert-manager.io}
spec:
  group: cert-manager.io
  names: {kind: Certificate, plural: certificates, singular: certificate, listKind: CertificateList}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

func TestACertificateMustBeReadyAndNotExpireWithinAWeek(t *testing.T) {
	kubectl(t, certificates, "apply", "-f", "-")
	kubectl(t, "", "wait", "--for=condition=Established", "crd/certificates.cert-manager.io")
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	soon := at(6 * 24 * time.Hour)
	const manifest = `{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: www}, spec: {secretName: www, dnsNames: [www.example.com], issuerRef: {name: acme}}}`
	steps(t, "cert-manager", "certificates", "certificates", "www", manifest, []step{
		{"", "certificate-ready", "the certificate www is not ready: "},
		{"", "certificate-fresh", ""},
		{`{"conditions":[{"type":"Ready","status":"False","message":"Issuing certificate as Secret does not exist"}]}`,
			"certificate-ready", "the certificate www is not ready: Issuing certificate as Secret does not exist"},
		{"", "certificate-fresh", ""},
		{`{"conditions":[{"type":"Ready","status":"True"}],"notAfter":"` + at(8*24*time.Hour) + `"}`, "certificate-ready", ""},
		{"", "certificate-fresh", ""},
		{`{"renewalTime":"2026-01-01T00:00:00Z","notAfter":"` + soon + `"}`, "certificate-fresh", "the certificate www expires at " + soon},
		{`{"notAfter":"2026-01-01T00:00:00Z"}`, "certificate-fresh", "the certificate www expires at 2026-01-01T00:00:00Z"},
	})
}
