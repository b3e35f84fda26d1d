package invariants

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli/clitest"
)

const printed = "invariant.operator.invariant.dev/"

func (b *bench) mutedUntil(name string) string {
	b.T.Helper()
	return b.stored(name).Annotations[v1alpha1.MuteUntilAnnotation]
}

func TestMuteSaysUntilWhenAndWhoAndUnmuteTakesItAway(t *testing.T) {
	b := newBench(t)
	b.applied("a", "http://pd:2379")
	b.Run("mute", "a", "--for", "2h").OK().Has(printed + "a muted until ")
	until, err := b.stored("a").MutedUntil()
	clitest.Must(t, err)
	if left := time.Until(until); left > 2*time.Hour || left < 2*time.Hour-time.Minute {
		t.Errorf("it is muted for %v, want 2h", left)
	}
	if by := b.stored("a").Annotations[v1alpha1.MuteByAnnotation]; by == "" {
		t.Error("nothing says who muted it")
	}
	end := time.Now().Add(48 * time.Hour).UTC().Format(time.RFC3339)
	b.Run("mute", "inv/a", "--until", end).OK().Printed(printed + "a muted until " + end + " instead of " + until.UTC().Format(time.RFC3339) + "\n")
	b.Run("mute", "a", "--until", end).OK().Printed(printed + "a already muted until " + end + "\n")
	b.Run("unmute", "a", "--dry-run=server").OK().Printed(printed + "a unmuted (server dry run)\n")
	if got := b.mutedUntil("a"); got != end {
		t.Errorf("after a dry run it is muted until %q", got)
	}
	b.Run("unmute", "a").OK().Printed(printed + "a unmuted\n")
	if annotations := b.stored("a").Annotations; len(annotations) != 0 {
		t.Errorf("annotations are left: %v", annotations)
	}
	b.Run("unmute", "a").OK().Printed(printed + "a not muted\n")
}

func TestMuteTakesASystemOrLabels(t *testing.T) {
	b := newBench(t)
	system := func(name, team string) func(*v1alpha1.Invariant) {
		return func(i *v1alpha1.Invariant) { i.Spec.System, i.Labels = name, map[string]string{"team": team} }
	}
	b.applied("a", "http://pd:2379", system("tikv", "storage"))
	b.applied("b", "http://pd:2379", system("tikv", "web"))
	b.applied("c", "http://pd:2379", system("", "storage"))
	muted := func() string {
		var names []string
		for _, name := range []string{"a", "b", "c"} {
			if b.mutedUntil(name) != "" {
				names = append(names, name)
			}
		}
		return strings.Join(names, " ")
	}
	for _, step := range []struct{ args, want string }{
		{"mute --system tikv --for 1h", "a b"},
		{"unmute -l team=web", "a"},
		// The namespace's name stands in for a system.
		{"mute --for 1h --system " + b.Namespace, "a c"},
		{"unmute -l team=storage", ""},
	} {
		b.Run(strings.Fields(step.args)...).OK()
		if got := muted(); got != step.want {
			t.Fatalf("after %s, %q are muted, want %q", step.args, got, step.want)
		}
	}
	if r := b.Run("mute", "--system", "nowhere", "--for", "1h"); r.Code != 0 || !strings.Contains(r.Err, "No invariants of the system nowhere") {
		t.Errorf("%v", r)
	}
}

func TestAMuteThatMakesNoSenseIsRefused(t *testing.T) {
	b := newBench(t)
	b.applied("a", "http://pd:2379")
	for args, says := range map[string]string{
		"mute a":                              "at least one of the flags in the group [for until] is required",
		"mute a --for 1h --until tomorrow":    "none of the others can be",
		"mute a --for 0s":                     "--for is 0s: it must be more than nothing",
		"mute a --for -1h":                    "it must be more than nothing",
		"mute a --for 721h":                   "spec.suspend",
		"mute a --for 2d":                     "unknown unit",
		"mute a --until tomorrow":             "it must be a time such as 2026-11-24T06:00:00Z",
		"mute a --until 2020-01-01T00:00:00Z": "which is over",
		"mute --for 1h":                       "which invariants?",
		"mute a --system s --for 1h":          "names and --system cannot be used together",
		"mute nowhere --for 1h":               "there is none of this name",
		"unmute":                              "which invariants?",
	} {
		t.Run(args, func(t *testing.T) { b.Run(strings.Fields(args)...).Failed(says) })
	}
	if got := b.mutedUntil("a"); got != "" {
		t.Errorf("it is muted until %s", got)
	}
}

func TestWhoMayNotMuteIsToldWhichRoleMay(t *testing.T) {
	b := newBench(t)
	b.applied("a", "http://pd:2379")
	_, kubeconfig, err := plane.User("watcher")
	clitest.Must(t, err)
	b.Grant("watcher", clitest.May("invariants", "get", "list"))
	somebody := b.Bench
	somebody.Kubeconfig = kubeconfig
	somebody.Run("mute", "a", "--for", "1h").Failed("such as the ClusterRole operator-invariant-editor")
}

func TestListShowsWhatIsViolatedFirst(t *testing.T) {
	b := newBench(t)
	satisfied := func(status metav1.ConditionStatus) func(*v1alpha1.Invariant) {
		return func(i *v1alpha1.Invariant) {
			i.Spec.System = "sys"
			i.Status.Conditions = []v1alpha1.Condition{{Type: v1alpha1.ConditionSatisfied, Status: status, Reason: "Test", LastTransitionTime: metav1.Now()}}
		}
	}
	b.condition("well", satisfied(metav1.ConditionTrue))
	b.condition("unknown", satisfied(metav1.ConditionUnknown))
	b.condition("violated", satisfied(metav1.ConditionFalse))
	b.applied("new", "http://pd:2379")
	if got := b.Run("list").OK().Rows(); got != "NAME violated unknown new well" {
		t.Errorf("the rows are %s", got)
	}
	if got := b.Run("list", "--system", "sys", "-o", "name").OK().Out; got != printed+"violated\n"+printed+"unknown\n"+printed+"well\n" {
		t.Errorf("of the system there are %q", got)
	}
	b.Run("list", "-o", "wide").OK().Has("MUTED-UNTIL")
}

// condition makes an Invariant with a status.
func (b *bench) condition(name string, change func(*v1alpha1.Invariant)) {
	b.T.Helper()
	b.applied(name, "http://pd:2379", func(i *v1alpha1.Invariant) { change(i) })
	i := b.stored(name)
	change(i)
	i.Status.LastCheckTime = clitest.Ago(time.Second)
	clitest.Must(b.T, b.API.Status().Update(b.T.Context(), i))
}
