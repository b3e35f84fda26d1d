package tickets

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
)

// invariant makes an Invariant that was last checked that long ago.
func (b *bench) invariant(name string, checked time.Duration, change ...func(*v1alpha1.Invariant)) {
	b.t.Helper()
	i := &v1alpha1.Invariant{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name},
		Spec: v1alpha1.InvariantSpec{
			Source:     v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: "http://pd:2379/stores"}},
			Expression: "true",
		},
	}
	for _, c := range change {
		c(i)
	}
	must(b.t, b.api.Create(b.t.Context(), i))
	b.t.Cleanup(func() { must(b.t, b.api.Delete(context.WithoutCancel(b.t.Context()), i)) })
	i.Status.LastCheckTime = ago(checked)
	must(b.t, b.api.Status().Update(b.t.Context(), i))
}

// grant lets a user do things in the bench's namespace.
func (b *bench) grant(user string, rules ...rbacv1.PolicyRule) {
	b.t.Helper()
	meta := metav1.ObjectMeta{Namespace: b.namespace, Name: user}
	must(b.t, b.api.Create(b.t.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: rules}))
	must(b.t, b.api.Create(b.t.Context(), &rbacv1.RoleBinding{ObjectMeta: meta,
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}}}))
}

func may(resource string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{resource}, Verbs: verbs}
}

func TestEveryCommandWarnsWhenTheMonitorSeemsToBeDown(t *testing.T) {
	b := newBench(t)
	b.ticket("sys-1", cleared)
	every := func(i *v1alpha1.Invariant, d time.Duration) {
		i.Spec.Interval = &v1alpha1.Duration{Duration: metav1.Duration{Duration: d}}
	}
	b.invariant("fresh", 5*time.Minute)
	b.invariant("rare", 12*time.Minute, func(i *v1alpha1.Invariant) { every(i, 5*time.Minute) })
	b.invariant("suspended", time.Hour, func(i *v1alpha1.Invariant) { i.Spec.Suspend = true })
	b.run("list").ok()

	b.invariant("late", 7*time.Minute)
	b.invariant("later", 12*time.Minute)
	warning := "Warning: the monitor seems to be down: Invariant " + b.namespace + "/later was last checked 12m ago\n"
	b.run("list").warned(warning)
	b.run("show", "sys-1").warned(warning)
	b.run("hold", "sys-1").warned(warning)
	b.run("unhold", "sys-1").warned(warning)
	b.run("resolve", "sys-1").warned(warning)
	b.run("list").warned("No open tickets in " + b.namespace + " namespace.\n" + warning)
	t.Run("also when the ticket is unknown", func(t *testing.T) {
		if r := b.run("show", "sys-9"); !strings.Contains(r.err, warning) {
			t.Errorf("%v", r)
		}
	})
	t.Run("in the namespaces that the command is about", func(t *testing.T) {
		other := newBench(t)
		other.ticket("sys-1")
		other.run("list").ok()
		other.run("list", "-A").warned(warning)
	})
	t.Run("but not those who may not list Invariants", func(t *testing.T) {
		_, kubeconfig, err := plane.User("tickets-only")
		must(t, err)
		b.grant("tickets-only", may("tickets", "list"))
		restricted := *b
		restricted.kubeconfig = kubeconfig
		restricted.run("list", "--state", "all").ok()
	})
}

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
