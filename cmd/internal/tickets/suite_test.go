package tickets

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli/clitest"
	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/hack/controlplane/controlplanetest"
)

var plane *controlplane.ControlPlane

func TestMain(m *testing.M) { controlplanetest.Main(m, &plane) }

// bench is a bench for the command tickets.
type bench struct{ clitest.Bench }

func newBench(t *testing.T) *bench {
	t.Helper()
	return &bench{clitest.NewBench(t, plane, newCommand)}
}

// ticket makes a ticket with one critical violation of store 3, as change makes it.
func (b *bench) ticket(name string, change ...func(*v1alpha1.Ticket)) *v1alpha1.Ticket {
	b.T.Helper()
	now := v1alpha1.NewTime(time.Now())
	t := &v1alpha1.Ticket{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: name},
		Spec: v1alpha1.TicketSpec{
			System:     "sys",
			BatchKey:   name,
			OpenedTime: *now,
			Violations: []v1alpha1.Violation{{Invariant: "store-down", StoreID: "3", Reason: v1alpha1.Violated,
				Severity: v1alpha1.Critical, Message: "store 3 is Down", FirstSeenTime: *now}},
		},
		Status: v1alpha1.TicketStatus{
			State: v1alpha1.Open, Severity: v1alpha1.Critical, Summary: "store-down(3)", Occurrences: 1,
			FirstSeenTime: now, LastSeenTime: now,
			Violations: []v1alpha1.ViolationStatus{{Invariant: "store-down", StoreID: "3", Reason: v1alpha1.Violated,
				Active: true, Occurrences: 1, LastSeenTime: now}},
		},
	}
	for _, c := range change {
		c(t)
	}
	status := t.Status
	clitest.Must(b.T, b.API.Create(b.T.Context(), t))
	t.Status = status
	clitest.Must(b.T, b.API.Status().Update(b.T.Context(), t))
	return t
}

func severity(s v1alpha1.Severity) func(*v1alpha1.Ticket) {
	return func(t *v1alpha1.Ticket) { t.Status.Severity = s }
}

// state is a ticket in a state, with the record that the API server wants with it.
func state(s v1alpha1.TicketState) func(*v1alpha1.Ticket) {
	return func(t *v1alpha1.Ticket) {
		t.Status.State = s
		switch s {
		case v1alpha1.Acknowledged:
			t.Status.Acknowledgement = &v1alpha1.Acknowledgement{By: "ana"}
		case v1alpha1.Diagnosed:
			t.Status.Diagnosis = &v1alpha1.Diagnosis{By: "ana", Text: "a switch"}
		case v1alpha1.Resolved:
			t.Status.Resolution = &v1alpha1.Resolution{By: "ana", Reason: v1alpha1.Manual}
		}
	}
}

func labeled(key, value string) func(*v1alpha1.Ticket) {
	return func(t *v1alpha1.Ticket) { t.Labels = map[string]string{key: value} }
}

func annotations(a map[string]string) func(*v1alpha1.Ticket) {
	return func(t *v1alpha1.Ticket) { t.Annotations = a }
}

// cleared is a ticket whose only violation has cleared.
func cleared(t *v1alpha1.Ticket) {
	t.Status.Violations[0].Active = false
	t.Status.Violations[0].ClearedTime = v1alpha1.NewTime(time.Now())
}

// stored is the ticket as it is now.
func (b *bench) stored(name string) *v1alpha1.Ticket {
	b.T.Helper()
	t := &v1alpha1.Ticket{}
	clitest.Must(b.T, b.API.Get(b.T.Context(), client.ObjectKey{Namespace: b.Namespace, Name: name}, t))
	return t
}

// nextSecond waits until the API server would note a later time than that of the ticket.
func (b *bench) nextSecond(t *v1alpha1.Ticket) {
	b.T.Helper()
	clitest.Must(b.T, wait.PollUntilContextTimeout(b.T.Context(), 10*time.Millisecond, 5*time.Second, true, func(context.Context) (bool, error) {
		return time.Now().Unix() > t.CreationTimestamp.Unix(), nil
	}))
}
