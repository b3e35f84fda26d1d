package cli

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"invariant.dev/operator/api/v1alpha1"
)

const (
	// heartbeat is how often the monitor writes lastCheckTime at the least.
	heartbeat = 5 * time.Minute
	// defaultInterval is the monitor's own default.
	defaultInterval = 30 * time.Second
)

// warnOfMonitor warns if an Invariant has not been checked for too long. Whoever may not list Invariants is not told.
func (c *Cluster) warnOfMonitor(ctx context.Context) {
	objects, err := Invariants.List(ctx, c, metav1.ListOptions{})
	if err != nil {
		return
	}
	now := time.Now()
	var worst string
	var longest time.Duration
	for i := range objects {
		invariant, err := Invariants.Decode(&objects[i])
		if err != nil {
			continue
		}
		if message, overdue := overdue(invariant, now); overdue > longest {
			worst, longest = message, overdue
		}
	}
	if longest > 0 {
		c.Warn("the monitor seems to be down: " + worst)
	}
}

// overdue says by how much the check of an Invariant is late, and in words since when. What is suspended or being
// deleted is never late.
func overdue(i *v1alpha1.Invariant, now time.Time) (message string, by time.Duration) {
	if i.Spec.Suspend || i.DeletionTimestamp != nil {
		return "", 0
	}
	limit := heartbeat + 2*i.Spec.Interval.Or(defaultInterval)
	name := i.Namespace + "/" + i.Name
	if checked := i.Status.LastCheckTime; checked != nil {
		age := now.Sub(checked.Go())
		return fmt.Sprintf("Invariant %s was last checked %s ago", name, duration.HumanDuration(age)), age - limit
	}
	age := now.Sub(i.CreationTimestamp.Time)
	return fmt.Sprintf("Invariant %s was created %s ago and never checked", name, duration.HumanDuration(age)), age - limit
}
