package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/test/chaos/gate"
)

// ticketsIn are the tickets of a namespace.
func ticketsIn(t *testing.T, namespace string) []v1alpha1.Ticket {
	t.Helper()
	var list v1alpha1.TicketList
	must(t, json.Unmarshal([]byte(kubectl(t, "", "get", "tickets", "-n", namespace, "-o", "json")), &list))
	return list.Items
}

// wantOneOpenTicketForEach wants no violation to be held by two open tickets.
func wantOneOpenTicketForEach(t *testing.T, tickets []v1alpha1.Ticket) {
	t.Helper()
	holder := map[string]string{}
	for _, ticket := range tickets {
		if !ticket.IsOpen() {
			continue
		}
		for _, v := range ticket.Spec.Violations {
			key := v.Invariant + "/" + v.StoreID
			if other := holder[key]; other != "" {
				t.Fatalf("%s and %s both hold %s", other, ticket.Name, key)
			}
			holder[key] = ticket.Name
		}
	}
}

func TestTwoMonitorsWithoutLeaderElectionOpenOneTicketForAViolation(t *testing.T) {
	const ns = "twins"
	must(t, plane.Namespace(t.Context(), ns))
	source := newSwitchable(t)
	source.set(true)
	kubectl(t, fmt.Sprintf(storeUp, ns, source.server.URL), "apply", "-f", "-")
	for _, name := range []string{"one", "other"} {
		startMonitorNamed(t, name, asMonitor(t), "--namespace", ns, "--allow-address", "127.0.0.0/8")
	}
	const rounds = 5
	for round := 1; round <= rounds; round++ {
		source.set(false)
		eventually(t, "a ticket opens", func() bool {
			ticket := ticketIn(t, ns, v1alpha1.TicketName("sys", round))
			return ticket != nil && ticket.Status.Occurrences > 2
		})
		wantOneOpenTicketForEach(t, ticketsIn(t, ns))
		source.set(true)
		eventually(t, "it resolves", func() bool { return !ticketIn(t, ns, v1alpha1.TicketName("sys", round)).IsOpen() })
	}
	tickets := ticketsIn(t, ns)
	for _, ticket := range tickets {
		seen := ticket.Status.LastSeenTime.Go().Sub(ticket.Status.FirstSeenTime.Go()).Seconds() + 1
		if got := float64(ticket.Status.Occurrences); got > seen {
			t.Errorf("%s counts %v cycles of a second in %v seconds", ticket.Name, got, seen)
		}
	}
	if len(tickets) != rounds {
		t.Errorf("%d rounds made %d tickets", rounds, len(tickets))
	}
}

// holdAnAnswer opens a gate to the API server that holds one answer back until it is let go.
func holdAnAnswer(t *testing.T, holds func(*http.Request) bool) (g *gate.Gate, held, letGo chan struct{}) {
	t.Helper()
	g, err := gate.New(plane.Config)
	must(t, err)
	t.Cleanup(g.Close)
	held, letGo = make(chan struct{}), make(chan struct{})
	var once sync.Once
	g.Disturb(func(r *http.Request) *gate.Disturbance {
		if !holds(r) {
			return nil
		}
		return &gate.Disturbance{After: func() { once.Do(func() { close(held); <-letGo }) }}
	})
	return g, held, letGo
}

// asMonitorThrough is a kubeconfig of the monitor at home in its own namespace, which leads through the gate.
func asMonitorThrough(t *testing.T, g *gate.Gate) string {
	t.Helper()
	config, _, err := plane.ServiceAccount(t.Context(), "operator-system", "operator-monitor")
	must(t, err)
	kubeconfig, err := g.Kubeconfig(t.TempDir(), "operator-system", config.BearerToken)
	must(t, err)
	return kubeconfig
}

func TestALeaderThatIsWokenInTheMiddleOfOpeningOpensNothingTwice(t *testing.T) {
	for name, holds := range map[string]func(*http.Request) bool{
		// It has read that nothing is open, and was about to create the ticket.
		"after it looked for open tickets": func(r *http.Request) bool {
			return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/tickets") && strings.Contains(r.URL.RawQuery, "status.state")
		},
		// It has created the ticket, and does not know it yet.
		"after it created the ticket": func(r *http.Request) bool {
			return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/tickets")
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns := "woken-" + strings.Fields(name)[2]
			must(t, plane.Namespace(t.Context(), ns))
			source := newSwitchable(t)
			source.set(true)
			kubectl(t, fmt.Sprintf(storeUp, ns, source.server.URL), "apply", "-f", "-")
			g, held, letGo := holdAnAnswer(t, holds)
			flags := []string{"--namespace", ns, "--allow-address", "127.0.0.0/8"}
			old, _ := startMonitorNamed(t, "old", asMonitorThrough(t, g), flags...)
			eventually(t, "the old leader checks", func() bool {
				return kubectl(t, "", "get", "invariant", "-n", ns, "store-up", "-o", "jsonpath={.status.lastCheckTime}") != ""
			})
			source.set(false)
			<-held
			must(t, old.Pause())
			startMonitorNamed(t, "new", asMonitor(t), flags...)
			eventually(t, "the new leader counts", func() bool {
				tickets := ticketsIn(t, ns)
				return len(tickets) == 1 && tickets[0].Status.Occurrences > 2
			})
			before := ticketsIn(t, ns)[0]
			close(letGo)
			must(t, old.Resume())
			eventually(t, "both count", func() bool { return ticketsIn(t, ns)[0].Status.Occurrences > before.Status.Occurrences+3 })
			tickets := ticketsIn(t, ns)
			wantOneOpenTicketForEach(t, tickets)
			if len(tickets) != 1 {
				t.Errorf("there are %d tickets for one violation", len(tickets))
			}
			if got, want := tickets[0].Spec.Violations, before.Spec.Violations; len(got) != 1 || got[0].FirstSeenTime != want[0].FirstSeenTime {
				t.Errorf("the ticket is about %+v, want %+v", got, want)
			}
		})
	}
}

func TestALeaderThatReadsThatAnotherLeadsStopsAtOnce(t *testing.T) {
	const ns, lease = "deposed", "operator-monitor.operator.invariant.dev"
	must(t, plane.Namespace(t.Context(), ns))
	g, err := gate.New(plane.Config)
	must(t, err)
	t.Cleanup(g.Close)
	leader, log := startMonitor(t, asMonitorThrough(t, g), "--namespace", ns, "--leader-elect")
	holder := func() string {
		return kubectl(t, "", "get", "lease", "-n", "operator-system", lease, "--ignore-not-found", "-o", "jsonpath={.spec.holderIdentity}")
	}
	eventually(t, "it leads", func() bool { return holder() != "" })
	kubectl(t, "", "patch", "lease", "-n", "operator-system", lease, "--type=merge", "-p", `{"spec":{"holderIdentity":"another"}}`)
	select {
	case <-leader.Ended():
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
	// An elector that only failed to renew it would say that the election is lost, renewDeadline later.
	if want := "run the monitor: the Lease operator-system/" + lease + ` is lost to "another"`; !strings.Contains(log.String(), want) {
		t.Errorf("it does not say %s", want)
	}
	if got := holder(); got != "another" {
		t.Errorf("the Lease is %q's", got)
	}
}
