package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/controlplane"
)

// asMonitor is a kubeconfig of the monitor's ServiceAccount, with the role that config/default gives it.
func asMonitor(t *testing.T) string {
	t.Helper()
	_, kubeconfig, err := plane.ServiceAccount(t.Context(), "operator-system", "operator-monitor")
	must(t, err)
	return kubeconfig
}

// ticketIn is the ticket of that name as kubectl shows it, or nil.
func ticketIn(t *testing.T, namespace, name string) *v1alpha1.Ticket {
	t.Helper()
	out := kubectl(t, "", "get", "ticket", "-n", namespace, name, "--ignore-not-found", "-o", "json")
	if out == "" {
		return nil
	}
	var ticket v1alpha1.Ticket
	must(t, json.Unmarshal([]byte(out), &ticket))
	return &ticket
}

func TestKubectlAloneTakesATicketThroughItsWholeLife(t *testing.T) {
	const ns = "life"
	must(t, plane.Namespace(t.Context(), ns))
	source := newSwitchable(t)
	startMonitor(t, asMonitor(t), "--namespace", ns, "--allow-address", "127.0.0.0/8")
	kubectl(t, fmt.Sprintf(storeUp, ns, source.server.URL), "apply", "-f", "-")
	ticket := func() *v1alpha1.Ticket { return ticketIn(t, ns, "sys-1") }
	say := func(status string) {
		t.Helper()
		kubectl(t, "", "patch", "ticket", "-n", ns, "sys-1", "--subresource=status", "--type=merge", "-p", `{"status":`+status+`}`)
	}
	refused := func(says string, args ...string) {
		t.Helper()
		_, _, err := controlplane.Kubectl(t.Context(), plane.Kubeconfig, "", append(args, "-n", ns)...)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("kubectl %v: %v; want it refused with %q", args, err, says)
		}
	}

	eventually(t, "it opens", func() bool { return ticket() != nil && ticket().Status.Occurrences > 1 })
	say(`{"acknowledgement":{"by":"ana","note":"on it"}}`)
	eventually(t, "it is acknowledged, with a time", func() bool {
		s := ticket().Status
		return s.State == v1alpha1.Acknowledged && s.Acknowledgement.Time != nil && s.Acknowledgement.By == "ana"
	})
	refused("somebody else has acknowledged the ticket", "patch", "ticket", "sys-1", "--subresource=status", "--type=merge", "-p", `{"status":{"acknowledgement":{"by":"bo"}}}`)
	kubectl(t, "", "annotate", "ticket", "-n", ns, "sys-1", "operator/hold=true", "operator/hold-note=collecting profiles")
	held := func(ticket *v1alpha1.Ticket, status string) bool {
		c := v1alpha1.FindCondition(ticket.Status.Conditions, v1alpha1.ConditionHeld)
		return c != nil && string(c.Status) == status
	}
	eventually(t, "it says that it is held", func() bool { return held(ticket(), "True") })
	source.set(true)
	eventually(t, "all has cleared", func() bool { return !ticket().Status.Violations[0].Active })
	say(`{"diagnosis":{"by":"ana","text":"the disk was full\nand nobody looked"}}`)
	eventually(t, "it is diagnosed, with a time", func() bool {
		s := ticket().Status
		return s.State == v1alpha1.Diagnosed && s.Diagnosis.Time != nil
	})
	refused("there is a diagnosis already", "patch", "ticket", "sys-1", "--subresource=status", "--type=merge", "-p", `{"status":{"diagnosis":{"by":"bo","text":"DNS"}}}`)
	refused("only goes forward", "patch", "ticket", "sys-1", "--subresource=status", "--type=merge", "-p", `{"status":{"state":"Open"}}`)
	refused("a ticket's spec is the record of what opened it", "patch", "ticket", "sys-1", "--type=merge", "-p", `{"spec":{"system":"other"}}`)
	if !ticket().IsOpen() {
		t.Fatal("it was resolved under a hold")
	}
	kubectl(t, "", "annotate", "ticket", "-n", ns, "sys-1", "operator/hold-")
	kubectl(t, "", "wait", "--timeout=1m", "--for=jsonpath={.status.state}=Resolved", "-n", ns, "ticket/sys-1")
	if r := ticket().Status.Resolution; r.Reason != v1alpha1.Cleared || r.By != "monitor" {
		t.Errorf("it is resolved as %+v, want Cleared by monitor", r)
	}
	say(`{"diagnosis":{"by":"agent","text":"a log was never rotated","time":null,"previous":[{"by":"ana","text":"the disk was full"}]}}`)
	if s := ticket().Status; s.State != v1alpha1.Resolved || s.Diagnosis.By != "agent" {
		t.Errorf("a resolved ticket takes a diagnosis and stays resolved, but got %+v", s)
	}
	eventually(t, "Events tell of all of it", func() bool {
		described := kubectl(t, "", "describe", "ticket", "-n", ns, "sys-1")
		for _, reason := range []string{"Opened", "Acknowledged", "Held", "Diagnosed", "Released", "Resolved"} {
			if !strings.Contains(described, "  "+reason+" ") {
				return false
			}
		}
		return true
	})
	source.set(false)
	eventually(t, "the next one opens and names it", func() bool {
		next := ticketIn(t, ns, "sys-2")
		return next != nil && next.Spec.Previous == "sys-1"
	})
	kubectl(t, "", "patch", "ticket", "-n", ns, "sys-2", "--subresource=status", "--type=merge", "-p", `{"status":{"state":"Resolved","resolution":{"by":"ana"}}}`)
	eventually(t, "what still fails opens again with its true age", func() bool {
		next := ticketIn(t, ns, "sys-3")
		return next != nil && next.Spec.Previous == "sys-2" && next.Spec.Violations[0].FirstSeenTime == ticketIn(t, ns, "sys-2").Spec.Violations[0].FirstSeenTime
	})
}
