package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"invariant.dev/operator/hack/controlplane"
)

// person is somebody with a role of config/rbac in one namespace, who types commands.
type person struct {
	t          *testing.T
	namespace  string
	kubeconfig string
}

func newPerson(t *testing.T, name, namespace, role string) person {
	t.Helper()
	_, kubeconfig, err := plane.User(name)
	must(t, err)
	kubectl(t, "", "create", "rolebinding", name, "-n", namespace, "--clusterrole="+role, "--user="+name)
	return person{t, namespace, kubeconfig}
}

// types types a command: kubectl, or kubectl operator.
func (p person) types(line string) (string, error) {
	p.t.Helper()
	words := strings.Fields(line)
	if words[0] == "kubectl" {
		out, errOut, err := controlplane.Kubectl(p.t.Context(), p.kubeconfig, "", append(words[1:], "-n", p.namespace)...)
		return out + errOut, err
	}
	cmd := exec.CommandContext(p.t.Context(), filepath.Join(bin, "kubectl-operator"), append(words, "-n", p.namespace)...)
	cmd.Env = append(os.Environ(), controlplane.Env(p.kubeconfig)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func (p person) may(lines ...string) {
	p.t.Helper()
	for _, line := range lines {
		if out, err := p.types(line); err != nil {
			p.t.Errorf("%s: %v: %s", line, err, out)
		}
	}
}

// mayNot wants each command refused, with words that say what is missing.
func (p person) mayNot(says string, lines ...string) {
	p.t.Helper()
	for _, line := range lines {
		out, err := p.types(line)
		if err == nil {
			p.t.Errorf("%s is not refused: %s", line, out)
			continue
		}
		if !strings.Contains(out+err.Error(), says) {
			p.t.Errorf("%s: the error does not say %q: %s %v", line, says, out, err)
		}
	}
}

const ticketManifest = `
apiVersion: operator.invariant.dev/v1alpha1
kind: Ticket
metadata: {name: NAME, namespace: NAMESPACE}
spec:
  system: sys
  batchKey: NAME
  openedTime: "2026-11-24T03:00:00Z"
  violations: [{invariant: store-up, reason: Violated, severity: Critical, firstSeenTime: "2026-11-24T03:00:00Z"}]
`

func makeTicket(t *testing.T, namespace, name string) {
	t.Helper()
	kubectl(t, strings.NewReplacer("NAMESPACE", namespace, "NAME", name).Replace(ticketManifest), "create", "-f", "-")
}

// What one can do on a ticket, with kubectl and with the plugin. IDs are those of other tickets, so that each is new.
const (
	kubectlWrites = `kubectl patch ticket a-1 --subresource=status --type=merge -p {"status":{"acknowledgement":{"by":"me"}}}
kubectl patch ticket a-1 --subresource=status --type=merge -p {"status":{"diagnosis":{"by":"me","text":"full"}}}
kubectl annotate ticket a-1 operator/hold=true
kubectl annotate ticket a-1 operator/hold-
kubectl label ticket a-1 team=storage
kubectl patch ticket a-1 --subresource=status --type=merge -p {"status":{"state":"Resolved","resolution":{"by":"me"}}}`
	pluginWrites = `tickets ack a-2 --note mine
tickets diagnose a-2 --text full
tickets hold a-2 --note mine
tickets unhold a-2
tickets resolve a-2`
	looks = `kubectl get tickets
kubectl describe ticket a-1
tickets list
tickets list -o wide
tickets show a-1`
	beyond = `kubectl delete ticket a-1
kubectl create -f testdata/ticket.yaml
kubectl annotate invariant store-up operator/mute-until=2030-01-01T00:00:00Z
kubectl delete invariant store-up
invariants mute store-up --for 1h`
)

func lines(text string) []string { return strings.Split(text, "\n") }

func TestPeopleCanDoWhatTheirRoleSaysAndNothingElse(t *testing.T) {
	for _, ns := range []string{"roles", "roles-other"} {
		must(t, plane.Namespace(t.Context(), ns))
		source := newSwitchable(t)
		kubectl(t, strings.NewReplacer("%s", ns, "%q", `"`+source.server.URL+`"`).Replace(storeUp), "apply", "-f", "-")
		makeTicket(t, ns, "a-1")
		makeTicket(t, ns, "a-2")
	}
	t.Run("ticket-viewer", func(t *testing.T) {
		p := newPerson(t, "viewer", "roles", "operator-ticket-viewer")
		p.may(lines(looks)...)
		p.mayNot(`User "viewer" cannot patch resource "tickets`, lines(kubectlWrites)...)
		// What is not held needs no write to be unheld.
		p.mayNot("operator-ticket-responder", lines(strings.Replace(pluginWrites, "tickets unhold a-2\n", "", 1))...)
		p.mayNot("cannot", lines(beyond)...)
	})
	t.Run("ticket-responder", func(t *testing.T) {
		p := newPerson(t, "responder", "roles", "operator-ticket-responder")
		p.may(lines(looks)...)
		p.may(lines(kubectlWrites)...)
		p.may(lines(pluginWrites)...)
		p.mayNot("cannot", lines(beyond)...)
		p.mayNot("a ticket's spec is the record of what opened it", `kubectl patch ticket a-1 --type=merge -p {"spec":{"system":"other"}}`)
		p.mayNot("only goes forward", `kubectl patch ticket a-1 --subresource=status --type=merge -p {"status":{"state":"Open"}}`)
		elsewhere := p
		elsewhere.namespace = "roles-other"
		elsewhere.mayNot(`in the namespace "roles-other"`, lines(looks)...)
		elsewhere.mayNot(`in the namespace "roles-other"`, lines(kubectlWrites)...)
		if by := ticketIn(t, "roles", "a-2").Status.Resolution.By; by != "responder" {
			t.Errorf("the ticket is resolved by %q", by)
		}
	})
	t.Run("invariant-viewer", func(t *testing.T) {
		p := newPerson(t, "reader", "roles", "operator-invariant-viewer")
		p.may("kubectl get invariants", "invariants list", "invariants list -o wide")
		p.mayNot("operator-invariant-editor", "invariants mute store-up --for 1h")
		p.mayNot("cannot", "kubectl get tickets", "kubectl delete invariant store-up")
	})
	t.Run("invariant-editor", func(t *testing.T) {
		p := newPerson(t, "author", "roles", "operator-invariant-editor")
		p.may("invariants list", "invariants mute store-up --for 1h", "invariants unmute store-up",
			"kubectl annotate invariant store-up operator/mute-until=2030-01-01T00:00:00Z")
		p.mayNot("cannot", "kubectl get tickets", "kubectl annotate ticket a-1 operator/hold=true",
			`kubectl patch invariant store-up --subresource=status --type=merge -p {"status":{"stores":1}}`)
	})
	t.Run("the cluster's own view, edit and admin", func(t *testing.T) {
		makeTicket(t, "roles", "b-1")
		onlooker := newPerson(t, "onlooker", "roles", "view")
		editor := newPerson(t, "editor", "roles", "edit")
		admin := newPerson(t, "owner", "roles", "admin")
		eventually(t, "the roles are aggregated", func() bool {
			_, err := admin.types("kubectl auth can-i delete tickets.operator.invariant.dev")
			return err == nil
		})
		onlooker.may("tickets list", "invariants list")
		onlooker.mayNot("cannot patch", "kubectl annotate ticket b-1 operator/hold=true")
		editor.may("tickets ack b-1", "invariants mute store-up --for 1h")
		editor.mayNot("cannot delete", "kubectl delete ticket b-1")
		admin.may("kubectl delete ticket b-1")
	})
}
