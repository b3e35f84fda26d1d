package tickets

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli/clitest"
)

func TestEveryCommandWarnsWhenTheMonitorSeemsToBeDown(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1", cleared)
	every := func(i *v1alpha1.Invariant, d time.Duration) {
		i.Spec.Interval = &v1alpha1.Duration{Duration: metav1.Duration{Duration: d}}
	}
	b.Invariant("fresh", 5*time.Minute)
	b.Invariant("rare", 12*time.Minute, func(i *v1alpha1.Invariant) { every(i, 5*time.Minute) })
	b.Invariant("suspended", time.Hour, func(i *v1alpha1.Invariant) { i.Spec.Suspend = true })
	b.Run("list").OK()

	b.Invariant("late", 7*time.Minute)
	b.Invariant("later", 12*time.Minute)
	warning := "Warning: the monitor seems to be down: Invariant " + b.Namespace + "/later was last checked 12m ago\n"
	b.Run("list").Warned(warning)
	b.Run("show", "sys-1").Warned(warning)
	b.Run("hold", "sys-1").Warned(warning)
	b.Run("unhold", "sys-1").Warned(warning)
	b.Run("resolve", "sys-1").Warned(warning)
	b.Run("list").Warned("No open tickets in " + b.Namespace + " namespace.\n" + warning)
	t.Run("also when the ticket is unknown", func(t *testing.T) {
		if r := b.Run("show", "sys-9"); !strings.Contains(r.Err, warning) {
			t.Errorf("%v", r)
		}
	})
	t.Run("in the namespaces that the command is about", func(t *testing.T) {
		other := newBench(t)
		other.ticket("sys-1")
		other.Run("list").OK()
		other.Run("list", "-A").Warned(warning)
	})
	t.Run("but not those who may not list Invariants", func(t *testing.T) {
		_, kubeconfig, err := plane.User("tickets-only")
		clitest.Must(t, err)
		b.Grant("tickets-only", clitest.May("tickets", "list"))
		restricted := *b
		restricted.Kubeconfig = kubeconfig
		restricted.Run("list", "--state", "all").OK()
	})
}
