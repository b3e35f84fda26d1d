package v1alpha1_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
)

var states = []v1alpha1.TicketState{v1alpha1.Open, v1alpha1.Acknowledged, v1alpha1.Diagnosed, v1alpha1.Resolved}

// entering is a patch that takes a ticket to a state, with what must be said with it.
var entering = map[v1alpha1.TicketState]string{
	v1alpha1.Open:         `{"state":"Open"}`,
	v1alpha1.Acknowledged: `{"state":"Acknowledged","acknowledgement":{"by":"ana"}}`,
	v1alpha1.Diagnosed:    `{"state":"Diagnosed","diagnosis":{"by":"ana","text":"the disk is full"}}`,
	v1alpha1.Resolved:     `{"state":"Resolved","resolution":{"by":"ana"}}`,
}

// patchStatus merges a patch into the status of an object, as kubectl patch --subresource=status does.
func patchStatus(ctx context.Context, c client.Client, o client.Object, patch string) error {
	return c.Status().Patch(ctx, o, client.RawPatch(types.MergePatchType, []byte(`{"status":`+patch+`}`)))
}

func TestTheAPIServerAndCanBecomeAgreeOnEveryStepOfATicket(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	for i, from := range states {
		for j, to := range states {
			t.Run(fmt.Sprintf("from %s to %s", from, to), func(t *testing.T) {
				t.Parallel()
				may := j >= i
				if got := from.CanBecome(to); got != may {
					t.Errorf("%s.CanBecome(%s) is %v, and the order of the states says %v", from, to, got, may)
				}
				ticket := object(t, namespace, ticketManifest, changes{"metadata.name": fmt.Sprintf("tikv-prod-%d", 10*i+j)})
				must(t, c.Create(t.Context(), ticket))
				must(t, patchStatus(t.Context(), c, ticket, entering[from]))
				err := patchStatus(t.Context(), c, ticket, entering[to])
				if may {
					must(t, err)
					return
				}
				wantRefused(t, err, "a ticket's state only goes forward: Open, Acknowledged, Diagnosed, Resolved",
					"the monitor opens a new ticket by itself")
			})
		}
	}
}

func TestAStateThatDoesNotExistIsNeitherReachedNorLeft(t *testing.T) {
	t.Parallel()
	for _, state := range states {
		if state.CanBecome("Closed") || v1alpha1.TicketState("Closed").CanBecome(state) || state.CanBecome("") {
			t.Errorf("a ticket can go between %s and a state that does not exist", state)
		}
	}
}

func TestATicketIsOpenInEveryStateButResolved(t *testing.T) {
	t.Parallel()
	for _, state := range states {
		ticket := v1alpha1.Ticket{Status: v1alpha1.TicketStatus{State: state}}
		if ticket.IsOpen() != (state != v1alpha1.Resolved) {
			t.Errorf("a ticket that is %s: IsOpen says %v", state, ticket.IsOpen())
		}
	}
}

func TestAHoldIsAnyValueButFalseNoZeroOrNothing(t *testing.T) {
	t.Parallel()
	for value, held := range map[string]bool{
		"true": true, "True": true, "yes": true, "1": true, "ana": true, "until monday": true, "00": true, "\u00a0x": true,
		"false": false, "False": false, "FALSE": false, "no": false, "No": false, "0": false, "": false, " ": false, " false\n": false, "\t": false,
	} {
		ticket := v1alpha1.Ticket{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.HoldAnnotation: value}}}
		if ticket.Held() != held {
			t.Errorf("%s=%q: Held is %v, want %v", v1alpha1.HoldAnnotation, value, ticket.Held(), held)
		}
	}
	if (&v1alpha1.Ticket{}).Held() {
		t.Error("a ticket without the annotation is held")
	}
}

func TestTheSystemIsTheSpecsOrElseTheNamespaceCutToALabelThatFits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ namespace, spec, want string }{
		{"tikv-prod", "", "tikv-prod"},
		{"tikv-prod", "etcd", "etcd"},
		{strings.Repeat("n", 63), "", strings.Repeat("n", 40)},
		{strings.Repeat("n", 39) + "-rest", "", strings.Repeat("n", 39)},
		{strings.Repeat("n", 36) + "----" + "rest", "", strings.Repeat("n", 36)},
		{strings.Repeat("n", 40), "", strings.Repeat("n", 40)},
	} {
		invariant := v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Namespace: test.namespace}, Spec: v1alpha1.InvariantSpec{System: test.spec}}
		if got := invariant.SystemName(); got != test.want {
			t.Errorf("namespace %q, spec.system %q: the system is %q, want %q", test.namespace, test.spec, got, test.want)
		}
	}
}

func TestOnlyASystemsOwnNumberedNamesHaveANumber(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]int{
		"tikv-17": 17, "tikv-1": 1, "tikv-2147483648": 2147483648,
		"tikv-": 0, "tikv": 0, "tikv-017": 0, "tikv-+17": 0, "tikv--17": 0, "tikv-17a": 0, "tikv-prod-17": 0, "etcd-17": 0, "tikv-１７": 0,
		"tikv-99999999999999999999": 0,
	} {
		if got := v1alpha1.TicketNumber("tikv", name); got != number {
			t.Errorf("the number of %q in the system tikv is %d, want %d", name, got, number)
		}
	}
	if name := v1alpha1.TicketName("tikv-2", 17); name != "tikv-2-17" || v1alpha1.TicketNumber("tikv-2", name) != 17 || v1alpha1.TicketNumber("tikv", name) != 0 {
		t.Errorf("%q is not number 17 of tikv-2 alone", name)
	}
}

func TestAMuteEndsAtAnRFC3339TimeAndNothingElseMutes(t *testing.T) {
	t.Parallel()
	muted := func(value string) (time.Time, error) {
		return (&v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.MuteUntilAnnotation: value}}}).MutedUntil()
	}
	want := time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC)
	for _, value := range []string{"2026-11-24T06:00:00Z", "2026-11-24T07:00:00+01:00", "2026-11-24T06:00:00.000Z"} {
		if until, err := muted(value); err != nil || !until.Equal(want) {
			t.Errorf("muted until %q is read as %v, %v", value, until, err)
		}
	}
	for _, value := range []string{"2h", "tomorrow", "2026-11-24", "2026-11-24 06:00:00Z", "2026-11-24T06:00:00", "2026-02-30T06:00:00Z", "2026-11-24T24:00:00Z", "true", "\x00"} {
		until, err := muted(value)
		if err == nil || !until.IsZero() || !strings.Contains(err.Error(), "mutes nothing") || !strings.Contains(err.Error(), "2026-11-24T06:00:00Z") {
			t.Errorf("muted until %q: %v, %v; want an error that says what to write", value, until, err)
		}
	}
	if until, err := muted(""); err != nil || !until.IsZero() {
		t.Errorf("an empty annotation: %v, %v; want no mute and no error", until, err)
	}
	if until, err := (&v1alpha1.Invariant{}).MutedUntil(); err != nil || !until.IsZero() {
		t.Errorf("no annotation: %v, %v; want no mute and no error", until, err)
	}
}

func TestWhatAnInvariantDoesNotSayGoesByItsSource(t *testing.T) {
	alert := v1alpha1.InvariantSpec{Source: v1alpha1.Source{Prometheus: &v1alpha1.PrometheusSource{Query: "up == 0"}}}
	query := v1alpha1.InvariantSpec{Source: v1alpha1.Source{Prometheus: &v1alpha1.PrometheusSource{Query: "up"}}, Expression: "self.value == 1.0"}
	plain := v1alpha1.InvariantSpec{Source: v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: "http://pd"}}, Expression: "self.ok"}
	told := v1alpha1.InvariantSpec{Source: query.Source, Expression: query.Expression, MinStores: ptr.To(int32(7)), OnAbsent: v1alpha1.OnAbsentClear}
	for _, test := range []struct {
		name      string
		spec      v1alpha1.InvariantSpec
		minStores int
		onAbsent  v1alpha1.OnAbsent
	}{
		{"an alert: no series, all is well", alert, 0, v1alpha1.OnAbsentClear},
		{"a query: a dead store has no series", query, 1, v1alpha1.OnAbsentKeep},
		{"another source: what is not listed is gone", plain, 1, v1alpha1.OnAbsentClear},
		{"what it does say", told, 7, v1alpha1.OnAbsentClear},
	} {
		if minStores, onAbsent := test.spec.MinStoresOrDefault(), test.spec.OnAbsentOrDefault(); minStores != test.minStores || onAbsent != test.onAbsent {
			t.Errorf("%s: minStores %d, onAbsent %s; want %d, %s", test.name, minStores, onAbsent, test.minStores, test.onAbsent)
		}
	}
}
