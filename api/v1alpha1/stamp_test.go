package v1alpha1_test

import (
	"reflect"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
)

func TestWordsTakeATicketToTheStateThatGoesWithThemAndHaveATime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	acknowledged := &v1alpha1.Acknowledgement{By: "ana"}
	diagnosed := &v1alpha1.Diagnosis{By: "bo", Text: "the disk is full"}
	resolved := &v1alpha1.Resolution{By: "carl"}
	for _, test := range []struct {
		name string
		in   v1alpha1.TicketStatus
		want v1alpha1.TicketState
	}{
		{"nothing is said", v1alpha1.TicketStatus{State: v1alpha1.Open}, v1alpha1.Open},
		{"acknowledged", v1alpha1.TicketStatus{State: v1alpha1.Open, Acknowledgement: acknowledged}, v1alpha1.Acknowledged},
		{"diagnosed without an acknowledgement", v1alpha1.TicketStatus{State: v1alpha1.Open, Diagnosis: diagnosed}, v1alpha1.Diagnosed},
		{"diagnosed after an acknowledgement", v1alpha1.TicketStatus{State: v1alpha1.Acknowledged, Acknowledgement: acknowledged, Diagnosis: diagnosed}, v1alpha1.Diagnosed},
		{"acknowledged after a diagnosis", v1alpha1.TicketStatus{State: v1alpha1.Diagnosed, Acknowledgement: acknowledged, Diagnosis: diagnosed}, v1alpha1.Diagnosed},
		{"diagnosed when it was resolved", v1alpha1.TicketStatus{State: v1alpha1.Resolved, Diagnosis: diagnosed, Resolution: resolved}, v1alpha1.Resolved},
		{"resolved ahead of time", v1alpha1.TicketStatus{State: v1alpha1.Open, Resolution: resolved}, v1alpha1.Resolved},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			status := *test.in.DeepCopy()
			status.Stamp(now)
			if status.State != test.want {
				t.Errorf("the state is %s, want %s", status.State, test.want)
			}
			if a := status.Acknowledgement; a != nil && !a.Time.Go().Equal(now) {
				t.Errorf("the acknowledgement is of %v, want %v", a.Time, now)
			}
			if d := status.Diagnosis; d != nil && !d.Time.Go().Equal(now) {
				t.Errorf("the diagnosis is of %v, want %v", d.Time, now)
			}
			if r := status.Resolution; r != nil && !r.Time.Go().Equal(now) {
				t.Errorf("the resolution is of %v, want %v", r.Time, now)
			}
			again := *status.DeepCopy()
			again.Stamp(now.Add(time.Hour))
			if !reflect.DeepEqual(again, status) {
				t.Errorf("a whole record is changed:\n%+v\n%+v", status, again)
			}
		})
	}
}
