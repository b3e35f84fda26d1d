package upgrade

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/hack/programs"
)

// site is a namespace with systems in all states, which a monitor of its own watches.
type site struct {
	*testing.T
	namespace string
	// end is how its monitors end.
	end     func(*controlplane.Program) error
	source  *httptest.Server
	api     client.Client
	monitor *controlplane.Program

	mu sync.Mutex
	// down are the stores that are down, by system.
	down map[string][]string
}

func newSite(t *testing.T, namespace string, end func(*controlplane.Program) error) *site {
	t.Helper()
	s := &site{T: t, namespace: namespace, end: end, down: map[string][]string{}}
	must(t, plane.Namespace(t.Context(), namespace))
	s.source = httptest.NewServer(http.HandlerFunc(s.answer))
	t.Cleanup(s.source.Close)
	var err error
	s.api, err = client.New(plane.Config, client.Options{})
	must(t, err)
	return s
}

// answer answers for the system of a path: its two stores. A system that is blind does not.
func (s *site) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	down := s.down[strings.TrimPrefix(r.URL.Path, "/")]
	if len(down) == 1 && down[0] == "blind" {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	type store struct {
		ID string `json:"id"`
		Up bool   `json:"up"`
	}
	stores := []store{{"1", true}, {"2", true}}
	for i := range stores {
		for _, id := range down {
			stores[i].Up = stores[i].Up && id != stores[i].ID
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"stores": stores})
}

// set sets which stores of a system are down.
func (s *site) set(system string, down ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down[system] = down
}

// start starts the monitor that is built in bin.
func (s *site) start(name, bin string) {
	s.Helper()
	_, kubeconfig, err := plane.ServiceAccount(s.Context(), "operator-system", "operator-monitor")
	must(s.T, err)
	log := &programs.Output{}
	s.monitor, err = plane.StartProgram(s.namespace+"-"+name, filepath.Join(bin, "operator"), log,
		"monitor", "--kubeconfig", kubeconfig, "--namespace", s.namespace, "--allow-address", "127.0.0.0/8")
	must(s.T, err)
	monitor := s.monitor
	s.Cleanup(func() {
		_ = monitor.Kill()
		if s.Failed() {
			s.Logf("the log of the %s monitor of %s:\n%s", name, s.namespace, log)
		}
	})
}

// invariant is a manifest for a system of two stores, both of which must be up.
func (s *site) invariant(name, system, more string) string {
	return fmt.Sprintf(`---
apiVersion: operator.invariant.dev/v1alpha1
kind: Invariant
metadata: {name: %s, namespace: %s}
spec:
  system: %s
  interval: 1s
  severity: Critical
  source: {http: {url: %q, items: self.stores}}
  storeID: self.id
  expression: self.up
%s
`, name, s.namespace, system, s.source.URL+"/"+system, more)
}

// say writes to a ticket's status as a person does.
func (s *site) say(ticket, status string) {
	s.Helper()
	must(s.T, s.api.Status().Patch(s.Context(), s.named(ticket), client.RawPatch(types.MergePatchType, []byte(`{"status":`+status+`}`))))
}

// annotate sets an annotation of a ticket, or removes it where the value is empty.
func (s *site) annotate(ticket, key, value string) {
	s.Helper()
	annotations := map[string]any{key: value}
	if value == "" {
		annotations[key] = nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": annotations}})
	must(s.T, err)
	must(s.T, s.api.Patch(s.Context(), s.named(ticket), client.RawPatch(types.MergePatchType, patch)))
}

func (s *site) named(ticket string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Ticket"))
	object.SetNamespace(s.namespace)
	object.SetName(ticket)
	return object
}

// fill has the monitor that runs bring about all that an upgrade must keep.
func (s *site) fill() {
	s.Helper()
	kubectl(s.T, s.invariant("seen", "seen", "")+
		s.invariant("words", "words", "")+
		s.invariant("held", "held", "")+
		s.invariant("done", "done", "")+
		s.invariant("manual", "manual", "")+
		s.invariant("mixed", "mixed", "")+
		s.invariant("mixed-later", "mixed", "  gracePeriod: 1h")+
		s.invariant("grace", "grace", "  gracePeriod: 1h")+
		s.invariant("slow", "slow", "  resolveAfter: 1h")+
		s.invariant("blind", "blind", "  unobservableAfter: 1h")+
		strings.Replace(s.invariant("muted", "muted", ""), "metadata: {", "metadata: {annotations: {operator/mute-until: \""+time.Now().Add(24*time.Hour).UTC().Format(time.RFC3339)+"\"}, ", 1),
		"apply", "-f", "-")
	s.until("all Invariants are checked", func(o objects) string {
		for name := range o {
			if unchecked := o.lacks(name, `"lastCheckTime"`); unchecked != "" {
				return unchecked
			}
		}
		return ""
	})
	for _, system := range []string{"seen", "words", "held", "done", "manual", "mixed", "grace", "slow", "muted"} {
		s.set(system, "1")
	}
	s.set("blind", "blind")
	s.until("tickets open", func(o objects) string {
		return o.wrong(map[string]v1alpha1.TicketState{"seen-1": "Open", "words-1": "Open", "held-1": "Open", "done-1": "Open", "manual-1": "Open", "mixed-1": "Open", "slow-1": "Open"})
	})
	s.say("words-1", `{"acknowledgement":{"by":"ana","note":"on it"}}`)
	s.say("words-1", `{"diagnosis":{"by":"ana","text":"a disk was full"}}`)
	s.say("words-1", `{"diagnosis":{"by":"bo","text":"a log was never rotated","time":null,"previous":[{"by":"ana","text":"a disk was full"}]}}`)
	s.say("manual-1", `{"state":"Resolved","resolution":{"by":"ana","note":"not now"}}`)
	s.annotate("held-1", v1alpha1.HoldAnnotation, "collecting profiles")
	s.until("the hold is seen", func(o objects) string { return o.lacks("ticket/held-1", `"type":"Held"`) })
	for _, system := range []string{"held", "done", "slow"} {
		s.set(system)
	}
	s.until("all is as an upgrade may find it", func(o objects) string {
		return o.wrong(settled) +
			o.lacks("ticket/held-1", `"clearedTime"`) +
			o.lacks("ticket/manual-1", `"clearedReason":"Duplicate"`) +
			o.lacks("ticket/mixed-1", `"pending":true`) +
			o.lacks("ticket/slow-1", `"satisfiedSinceTime"`) +
			o.lacks("invariant/grace", `"pending"`, `"sinceTime"`) +
			o.lacks("invariant/blind", `"unknownSinceTime"`) +
			o.lacks("invariant/muted", `"violating":1`) +
			o.lacks("invariant/held", `"violating":0`) +
			o.lacks("invariant/done", `"violating":0`) +
			o.lacks("invariant/slow", `"violating":0`)
	})
}

// settled are all tickets, once the site is filled.
var settled = map[string]v1alpha1.TicketState{"seen-1": "Open", "words-1": "Diagnosed", "held-1": "Open", "done-1": "Resolved",
	"manual-1": "Resolved", "manual-2": "Open", "mixed-1": "Open", "slow-1": "Open"}
