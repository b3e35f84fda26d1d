// Package admission tests the policies of config/admission, which would change what the tests beside it see.
package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/hack/controlplane/controlplanetest"
)

var plane *controlplane.ControlPlane

func TestMain(m *testing.M) { controlplanetest.Main(m, &plane) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// user types kubectl in a namespace.
type user struct {
	t          *testing.T
	namespace  string
	kubeconfig string
}

func (u user) kubectl(args ...string) error {
	_, _, err := controlplane.Kubectl(u.t.Context(), u.kubeconfig, "", append(args, "-n", u.namespace)...)
	return err
}

// says writes into the status of the ticket.
func (u user) says(status string) error {
	return u.kubectl("patch", "ticket", "sys-1", "--subresource=status", "--type=merge", "-p", `{"status":`+status+`}`)
}

func (u user) annotates(kind, name string, annotations ...string) error {
	return u.kubectl(append([]string{"annotate", "--overwrite", kind, name}, annotations...)...)
}

// cluster is a namespace with a ticket and an Invariant in it, in a cluster with config/admission.
type cluster struct {
	t              *testing.T
	admin, ana, bo user
	monitor        client.Client
}

var namespaces atomic.Int32

func newCluster(t *testing.T) *cluster {
	t.Helper()
	ns := fmt.Sprintf("ns-%d", namespaces.Add(1))
	must(t, plane.Namespace(t.Context(), ns))
	must(t, plane.Namespace(t.Context(), "operator-system"))
	c := &cluster{t: t, admin: user{t, ns, plane.Kubeconfig}}
	for _, dir := range []string{"../../config/rbac", "../../config/admission"} {
		_, _, err := controlplane.Kubectl(t.Context(), plane.Kubeconfig, "", "apply", "-k", dir)
		must(t, err)
	}
	c.ana, c.bo = c.person("ana"), c.person("bo")
	config, _, err := plane.ServiceAccount(t.Context(), "operator-system", "operator-monitor")
	must(t, err)
	scheme := runtime.NewScheme()
	must(t, v1alpha1.AddToScheme(scheme))
	c.monitor, err = client.New(config, client.Options{Scheme: scheme})
	must(t, err)
	c.applied("ticket.yaml")
	c.applied("invariant.yaml")
	must(t, wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		// Each policy, once it is in force, makes one of these another.
		lie := c.ana.kubectl("patch", "ticket", "sys-1", "--subresource=status", "--type=merge", "--dry-run=server", "-p", `{"status":{"acknowledgement":{"note":"mine"}}}`)
		cleared := c.ana.kubectl("patch", "ticket", "sys-1", "--subresource=status", "--type=merge", "--dry-run=server", "-p", `{"status":{"state":"Resolved","resolution":{"by":"ana","reason":"Cleared"}}}`)
		return lie == nil && cleared != nil, nil
	}))
	return c
}

// person is somebody who may work on tickets and write Invariants.
func (c *cluster) person(name string) user {
	c.t.Helper()
	_, kubeconfig, err := plane.User(name)
	must(c.t, err)
	for _, role := range []string{"operator-ticket-responder", "operator-invariant-editor"} {
		must(c.t, c.admin.kubectl("create", "rolebinding", name+"-"+role, "--clusterrole="+role, "--user="+name))
	}
	return user{c.t, c.admin.namespace, kubeconfig}
}

func (c *cluster) applied(file string) {
	c.t.Helper()
	content, err := os.ReadFile("testdata/" + file)
	must(c.t, err)
	// kubectl may not see CRDs at once that were just installed.
	must(c.t, wait.PollUntilContextTimeout(c.t.Context(), 50*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		_, _, err := controlplane.Kubectl(c.t.Context(), plane.Kubeconfig, string(content), "apply", "-n", c.admin.namespace, "-f", "-")
		return err == nil, nil
	}))
}

// monitorSays writes into the status of the ticket as the monitor does.
func (c *cluster) monitorSays(status string) error {
	ticket := &v1alpha1.Ticket{ObjectMeta: metav1.ObjectMeta{Namespace: c.admin.namespace, Name: "sys-1"}}
	return c.monitor.Status().Patch(c.t.Context(), ticket, client.RawPatch(types.MergePatchType, []byte(`{"status":`+status+`}`)))
}

func (c *cluster) ticket() *v1alpha1.Ticket {
	c.t.Helper()
	var ticket v1alpha1.Ticket
	c.get(&ticket, "ticket", "sys-1")
	return &ticket
}

func (c *cluster) get(into any, kind, name string) {
	c.t.Helper()
	out, _, err := controlplane.Kubectl(c.t.Context(), plane.Kubeconfig, "", "get", kind, name, "-n", c.admin.namespace, "-o", "json")
	must(c.t, err)
	must(c.t, json.Unmarshal([]byte(out), into))
}

func refused(t *testing.T, err error, says string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("want it refused with %q, got %v", says, err)
	}
}

func TestWhoWroteAWordIsWhoItIsByWhateverTheySay(t *testing.T) {
	c := newCluster(t)
	must(t, c.ana.says(`{"acknowledgement":{"by":"the president","note":"mine"}}`))
	must(t, c.bo.says(`{"diagnosis":{"text":"the disk is full"}}`))
	if s := c.ticket().Status; s.Acknowledgement.By != "ana" || s.Diagnosis.By != "bo" {
		t.Errorf("acknowledged by %s and diagnosed by %s, want ana and bo", s.Acknowledgement.By, s.Diagnosis.By)
	}
	// Whoever writes something else leaves their names as they are, and so does the monitor.
	must(t, c.bo.says(`{"summary":"s"}`))
	must(t, c.monitorSays(`{"occurrences":7}`))
	if s := c.ticket().Status; s.Acknowledgement.By != "ana" || s.Diagnosis.By != "bo" || s.Occurrences != 7 {
		t.Errorf("the names have changed: %+v", s)
	}
	refused(t, c.bo.says(`{"acknowledgement":{"by":"ana","note":"not mine"}}`), "somebody else has acknowledged the ticket")
	must(t, c.bo.says(`{"acknowledgement":{"takenFrom":"ana"}}`))
	refused(t, c.ana.says(`{"diagnosis":{"by":"bo","text":"it was DNS"}}`), "there is a diagnosis already")
	must(t, c.ana.says(`{"state":"Resolved","resolution":{"by":"monitor","note":"done"}}`))
	if s := c.ticket().Status; s.Acknowledgement.By != "bo" || s.Resolution.By != "ana" || s.Resolution.Reason != v1alpha1.Manual {
		t.Errorf("acknowledged by %s and resolved by %s", s.Acknowledgement.By, s.Resolution.By)
	}
}

func TestWhoPlacedAHoldIsWhoItIsBy(t *testing.T) {
	c := newCluster(t)
	by := func() string { return c.ticket().Annotations[v1alpha1.HoldByAnnotation] }
	must(t, c.ana.annotates("ticket", "sys-1", "operator/hold=true", "operator/hold-by=the president"))
	if by() != "ana" {
		t.Errorf("held by %q, want ana", by())
	}
	must(t, c.bo.annotates("ticket", "sys-1", "operator/hold-by=bo"))
	must(t, c.bo.annotates("ticket", "sys-1", "operator/hold-note=a word"))
	if by() != "ana" {
		t.Errorf("after others wrote, it is held by %q, want ana", by())
	}
	must(t, c.bo.annotates("ticket", "sys-1", "operator/hold=until monday"))
	if by() != "bo" {
		t.Errorf("held by %q, want bo, who changed the hold", by())
	}
	must(t, c.ana.annotates("ticket", "sys-1", "operator/hold-"))
	if _, found := c.ticket().Annotations[v1alpha1.HoldByAnnotation]; found {
		t.Errorf("it is still said to be held by %q", by())
	}
}

func TestWhoMutedAnInvariantIsWhoItIsBy(t *testing.T) {
	c := newCluster(t)
	by := func() string {
		var i v1alpha1.Invariant
		c.get(&i, "invariant", "store-up")
		return i.Annotations[v1alpha1.MuteByAnnotation]
	}
	must(t, c.ana.annotates("invariant", "store-up", "operator/mute-until=2030-01-01T00:00:00Z", "operator/mute-by=bo"))
	if by() != "ana" {
		t.Errorf("muted by %q, want ana", by())
	}
	must(t, c.bo.annotates("invariant", "store-up", "operator/mute-until-"))
	if by() != "" {
		t.Errorf("it is still said to be muted by %q", by())
	}
}

func TestNobodyButAPersonEndsAHeldTicketAndNobodyButTheMonitorSaysThatAllHasCleared(t *testing.T) {
	c := newCluster(t)
	const cleared = `{"state":"Resolved","resolution":{"by":"monitor","reason":"Cleared"}}`
	refused(t, c.ana.says(cleared), "only the monitor resolves a ticket with the reason Cleared: leave resolution.reason out")
	for _, hold := range []string{"true", "ana", " Yes "} {
		must(t, c.ana.annotates("ticket", "sys-1", "operator/hold="+hold))
		refused(t, c.monitorSays(cleared), "somebody holds the ticket")
	}
	must(t, c.ana.annotates("ticket", "sys-1", "operator/hold= False "))
	must(t, c.monitorSays(cleared))
	if r := c.ticket().Status.Resolution; r.By != "monitor" || r.Reason != v1alpha1.Cleared {
		t.Errorf("it is resolved as %+v", r)
	}
}

func TestAPersonResolvesWhatIsHeld(t *testing.T) {
	c := newCluster(t)
	must(t, c.ana.annotates("ticket", "sys-1", "operator/hold=true"))
	must(t, c.bo.says(`{"state":"Resolved","resolution":{}}`))
	if r := c.ticket().Status.Resolution; r.By != "bo" || r.Reason != v1alpha1.Manual {
		t.Errorf("it is resolved as %+v", r)
	}
}
