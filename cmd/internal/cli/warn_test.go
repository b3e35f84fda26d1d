package cli

import (
	"regexp"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
)

func TestAnInvariantIsOverdueAfterFiveMinutesAndTwoIntervals(t *testing.T) {
	now := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	at := func(ago time.Duration) *v1alpha1.Time { return v1alpha1.NewTime(now.Add(-ago)) }
	minute := &v1alpha1.Duration{Duration: metav1.Duration{Duration: time.Minute}}
	for name, c := range map[string]struct {
		created, checked time.Duration
		interval         *v1alpha1.Duration
		want             string
	}{
		"checked, just in time":                {created: time.Hour, checked: 6 * time.Minute},
		"checked, too late":                    {time.Hour, 6*time.Minute + time.Second, nil, "^Invariant ns/i was last checked 6m1s ago$"},
		"a longer interval, just in time":      {time.Hour, 7 * time.Minute, minute, ""},
		"a longer interval, too late":          {time.Hour, 7*time.Minute + time.Second, minute, "^Invariant ns/i was last checked 7m1s ago$"},
		"never checked, just in time":          {created: 6 * time.Minute},
		"never checked, too late":              {created: 12 * time.Minute, want: "^Invariant ns/i was created 12m ago and never checked$"},
		"never checked, the clock being early": {created: -time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			i := &v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "i", CreationTimestamp: at(c.created).Time}}
			i.Spec.Interval = c.interval
			if c.checked != 0 {
				i.Status.LastCheckTime = at(c.checked)
			}
			message, by := overdue(i, now)
			if late := by > 0; late != (c.want != "") || late && !regexp.MustCompile(c.want).MatchString(message) {
				t.Errorf("late by %v: %s", by, message)
			}
		})
	}
}
