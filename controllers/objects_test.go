package controllers

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
	"invariant.dev/operator/hack/controlplane"
)

// replicated is an Invariant about Deployments: each has all of its replicas.
func replicated(s *v1alpha1.InvariantSpec) {
	s.Source = v1alpha1.Source{Kubernetes: &v1alpha1.KubernetesSource{APIVersion: "apps/v1", Kind: "Deployment"}}
	s.StoreID = "self.metadata.name"
	s.Expression = "self.?status.readyReplicas.orValue(0) >= self.spec.replicas"
	s.Message = "self.metadata.name + ' has ' + string(self.?status.readyReplicas.orValue(0)) + ' of ' + string(self.spec.replicas) + ' replicas'"
	s.Snapshot = nil
}

// about is an Invariant about all objects of a kind, wherever: each must have the annotation well.
func about(apiVersion, kind string, namespaces ...string) func(*v1alpha1.InvariantSpec) {
	return func(s *v1alpha1.InvariantSpec) {
		s.Source = v1alpha1.Source{Kubernetes: &v1alpha1.KubernetesSource{APIVersion: apiVersion, Kind: kind, Namespaces: namespaces}}
		s.StoreID, s.Message, s.Snapshot = "self.metadata.name", "", nil
		s.Expression = "self.metadata.?annotations.well.orValue('no') == 'yes'"
	}
}

// deployment makes a Deployment that wants one replica, or changes it; there is no controller to bring it about.
func (b *bench) deployment(name string, ready int32) {
	b.t.Helper()
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name, Labels: labels}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	d.Spec.Template.Labels = labels
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "main", Image: "main"}}
	must(b.t, client.IgnoreAlreadyExists(b.api.Create(b.ctx, d)))
	patch := fmt.Sprintf(`{"status":{"replicas":1,"readyReplicas":%d}}`, ready)
	must(b.t, b.api.Status().Patch(b.ctx, d, client.RawPatch(types.MergePatchType, []byte(patch))))
	b.untilSeen(&v1alpha1.KubernetesSource{APIVersion: "apps/v1", Kind: "Deployment"}, func(o verdict.Observation) bool {
		for _, r := range o.Readings {
			object := unstructured.Unstructured{Object: r.Value.(map[string]any)}
			seen, _, _ := unstructured.NestedInt64(object.Object, "status", "readyReplicas")
			if object.GetName() == name && seen == int64(ready) {
				return true
			}
		}
		return false
	})
}

// untilSeen waits until the monitor sees something of a source that some Invariant has; with none, nobody watches.
func (b *bench) untilSeen(source *v1alpha1.KubernetesSource, seen func(verdict.Observation) bool) {
	b.t.Helper()
	if b.objects.Watches() == 0 {
		return
	}
	must(b.t, wait.PollUntilContextTimeout(b.ctx, 5*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		return seen(b.objects.Observe(ctx, b.key(), source)), nil
	}))
}

// conditions are the reason and the message of Ready, and the status of Satisfied.
func (b *bench) conditions(name string) (ready *v1alpha1.Condition, satisfied metav1.ConditionStatus) {
	b.t.Helper()
	conditions := b.getInvariant(name).Status.Conditions
	return v1alpha1.FindCondition(conditions, v1alpha1.ConditionReady), v1alpha1.FindCondition(conditions, v1alpha1.ConditionSatisfied).Status
}

// cyclesUntil runs cycles until an Invariant's Ready has a reason, and returns its message. What becomes of rights and kinds takes
// the API server a moment.
func (b *bench) cyclesUntil(name, reason string) string {
	b.t.Helper()
	message := ""
	err := wait.PollUntilContextTimeout(b.ctx, 50*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		b.cycle()
		ready, _ := b.conditions(name)
		message = ready.Reason + ": " + ready.Message
		return ready.Reason == reason, nil
	})
	if err != nil {
		b.t.Fatalf("Ready is %s, want %s", message, reason)
	}
	return message
}

// obey does what a message tells an admin to do, which stands behind "with: ".
func (b *bench) obey(message string) {
	b.t.Helper()
	_, command, told := strings.Cut(message, "with: ")
	if !told {
		b.t.Fatalf("it tells nobody what to do: %s", message)
	}
	kubectl, err := controlplane.Binary("kubectl")
	must(b.t, err)
	shell := exec.CommandContext(b.ctx, "sh", "-c", command)
	shell.Env = append(os.Environ(), "KUBECONFIG="+plane.Kubeconfig, "PATH="+filepath.Dir(kubectl)+":"+os.Getenv("PATH"))
	if out, err := shell.CombinedOutput(); err != nil {
		b.t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

func TestAnObjectThatBreaksOpensATicketWhichResolvesWhenItIsMended(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.deployment("web", 1)
	b.deployment("api", 1)
	b.invariant("replicas", replicated)
	b.reconcile()
	b.wantTickets()
	b.deployment("web", 0)
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Open)[0]
	if v := ticket.Spec.Violations; len(v) != 1 || v[0].StoreID != "web" || v[0].Message != "web has 0 of 1 replicas" {
		t.Errorf("the violations are %+v", v)
	}
	b.deployment("web", 1)
	b.cycle()
	b.wantTickets(v1alpha1.Resolved)
	if stores := b.getInvariant("replicas").Status.Stores; *stores != 2 {
		t.Errorf("%d stores, want 2", *stores)
	}
}

func TestAnObjectThatIsDeletedClearsUnlessOnAbsentSaysKeep(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.deployment("web", 0)
	b.invariant("clear", replicated, func(s *v1alpha1.InvariantSpec) { s.MinStores = new(int32) })
	b.invariant("keep", replicated, func(s *v1alpha1.InvariantSpec) { s.MinStores, s.OnAbsent = new(int32), v1alpha1.OnAbsentKeep })
	b.reconcile()
	b.wantTickets(v1alpha1.Open)
	must(t, b.api.Delete(b.ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "web"}}))
	b.untilSeen(&v1alpha1.KubernetesSource{APIVersion: "apps/v1", Kind: "Deployment"}, func(o verdict.Observation) bool { return len(o.Readings) == 0 })
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Open)[0]
	for _, v := range ticket.Status.Violations {
		if v.Active != (v.Invariant == "keep") {
			t.Errorf("%s: active is %v", v.Invariant, v.Active)
		}
	}
}

func TestASelectorNamesWhichObjectsAreMeant(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.deployment("web", 0)
	b.deployment("api", 0)
	b.invariant("replicas", replicated, func(s *v1alpha1.InvariantSpec) {
		s.Source.Kubernetes.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"web"}}}}
	})
	b.invariant("wrong", replicated, func(s *v1alpha1.InvariantSpec) {
		s.Source.Kubernetes.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Like", Values: []string{"w"}}}}
	})
	b.reconcile()
	if v := b.wantTickets(v1alpha1.Open)[0].Spec.Violations; len(v) != 1 || v[0].StoreID != "web" {
		t.Errorf("the violations are %+v", v)
	}
	if ready, _ := b.conditions("wrong"); ready.Reason != string(verdict.InvalidExpression) || !strings.Contains(ready.Message, "spec.source.kubernetes.selector: ") {
		t.Errorf("a selector that is none: %+v", ready)
	}
}

// newKind installs a CRD for a namespaced kind, and returns what creates an object of it.
func (b *bench) newKind(kind string) (create func(name string)) {
	b.t.Helper()
	create, _ = b.newKindNamed(kind, strings.ToLower(kind)+"s")
	return create
}

// newKindNamed is newKind with the name of the resource; remove removes the CRD and waits until it is gone.
func (b *bench) newKindNamed(kind, plural string) (create func(name string), remove func()) {
	b.t.Helper()
	crd := &unstructured.Unstructured{}
	crd.SetAPIVersion("apiextensions.k8s.io/v1")
	crd.SetKind("CustomResourceDefinition")
	crd.SetName(plural + ".example.com")
	crd.Object["spec"] = map[string]any{
		"group": "example.com", "scope": "Namespaced",
		"names": map[string]any{"kind": kind, "plural": plural},
		"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true, "schema": map[string]any{
			"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}},
	}
	must(b.t, b.api.Create(b.ctx, crd))
	b.t.Cleanup(func() { _ = b.api.Delete(context.Background(), crd) })
	create = func(name string) {
		b.t.Helper()
		objects := &unstructured.Unstructured{Object: map[string]any{}}
		objects.SetGroupVersionKind(schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: kind})
		objects.SetName(name)
		resource := schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: plural}
		admin, err := dynamic.NewForConfig(plane.Config)
		must(b.t, err)
		must(b.t, wait.PollUntilContextTimeout(b.ctx, 20*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
			_, err := admin.Resource(resource).Namespace(b.namespace).Create(ctx, objects, metav1.CreateOptions{})
			return err == nil, nil
		}))
	}
	return create, func() {
		b.t.Helper()
		must(b.t, b.api.Delete(b.ctx, crd))
		must(b.t, wait.PollUntilContextTimeout(b.ctx, 20*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
			return apierrors.IsNotFound(b.api.Get(ctx, client.ObjectKeyFromObject(crd), crd.DeepCopy())), nil
		}))
	}
}

func TestAKindThatComesBackAsAnotherResourceIsSeenThere(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("gears", about("example.com/v1", "Gear"), func(s *v1alpha1.InvariantSpec) { s.UnobservableAfter = seconds(86400) })
	for _, plural := range []string{"gears", "gearwheels"} {
		create, remove := b.newKindNamed("Gear", plural)
		create("one")
		message := b.cyclesUntil("gears", string(verdict.Forbidden))
		if !strings.Contains(message, "watch "+plural+".example.com in namespace "+b.namespace+": they may not be read.") {
			t.Errorf("as %s, the message is %s", plural, message)
		}
		b.obey(message)
		b.cyclesUntil("gears", reasonAnswering)
		remove()
		b.cyclesUntil("gears", string(verdict.NoSuchKind))
	}
}

func TestAKindThatIsMissingOrMayNotBeReadIsSeenOnceItMay(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("gadgets", about("example.com/v1", "Gadget"), func(s *v1alpha1.InvariantSpec) { s.UnobservableAfter = seconds(86400) })
	b.reconcile()
	want := "spec.source.kubernetes: the cluster has no kind Gadget in example.com/v1; if it comes with a CRD, install that; kubectl api-resources has the kinds that there are"
	if ready, satisfied := b.conditions("gadgets"); ready.Reason != string(verdict.NoSuchKind) || ready.Message != want || satisfied != metav1.ConditionUnknown {
		t.Errorf("a kind that does not exist: %+v, %s", ready, satisfied)
	}
	create := b.newKind("Gadget")
	create("one")
	message := b.cyclesUntil("gadgets", string(verdict.Forbidden))
	if !strings.Contains(message, "watch gadgets.example.com in namespace "+b.namespace+": they may not be read.") {
		t.Errorf("the message is %s", message)
	}
	b.wantTickets()
	b.obey(message)
	b.cyclesUntil("gadgets", reasonAnswering)
	if v := b.wantTickets(v1alpha1.Open)[0].Spec.Violations; len(v) != 1 || v[0].StoreID != "one" {
		t.Errorf("the violations are %+v", v)
	}
}

func TestRule11WhatIsElsewhereIsSeenOnlyWhereAnAdminSaidSo(t *testing.T) {
	t.Parallel()
	other := newBench(t)
	other.deployment("theirs", 0)
	for name, source := range map[string]func(*v1alpha1.InvariantSpec){
		"the objects of another namespace":    about("apps/v1", "Deployment", other.namespace),
		"those of one's own and another's":    func(s *v1alpha1.InvariantSpec) { about("apps/v1", "Deployment", other.namespace, "default")(s) },
		"the objects of all namespaces":       about("apps/v1", "Deployment", "*"),
		"objects that are in no namespace":    about("v1", "Namespace"),
		"the same, with all namespaces named": about("v1", "Namespace", "*"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.invariant("elsewhere", source)
			b.reconcile()
			ready, _ := b.conditions("elsewhere")
			want := fmt.Sprintf("spec.source.kubernetes: Invariants of namespace %[1]s see the objects of %[1]s only. An admin of the cluster lets them see all with: "+
				"kubectl label namespace %[1]s operator.invariant.dev/observes=cluster", b.namespace)
			if ready.Reason != string(verdict.Forbidden) || ready.Message != want {
				t.Fatalf("Ready is %+v", ready)
			}
			b.wantTickets()
			if others := b.objects.Watches(); others != 1 {
				t.Errorf("%d watches, want one: of its own namespace's labels", others)
			}

			b.obey(ready.Message)
			b.cyclesUntil("elsewhere", reasonAnswering)
			b.wantTickets(v1alpha1.Open)
			must(t, b.api.Patch(b.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.namespace}},
				client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"operator.invariant.dev/observes":null}}}`))))
			b.cyclesUntil("elsewhere", string(verdict.Forbidden))
			b.wantTickets(v1alpha1.Open)
			if n := b.objects.Watches(); n != 1 {
				t.Errorf("%d watches go on once the label is gone, want that of the labels alone", n)
			}
			must(t, b.api.Delete(b.ctx, &v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "elsewhere"}}))
			b.cycle()
			if left := b.objects.Watches(); left != 0 {
				t.Errorf("%d watches go on after their last Invariant", left)
			}
		})
	}
}

func TestRule11SecretsAreNotReadAsObjectsWhateverARoleAllows(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.letSecretsBeRead()
	b.secret("password", map[string]string{"token": "s3cr3t"})
	must(t, b.live.List(b.ctx, &corev1.SecretList{}, client.InNamespace(b.namespace)))
	// kind: Secret is refused by the API server already; the API server's mapper also knows this spelling.
	b.invariant("secrets", about("v1", "secret"), func(s *v1alpha1.InvariantSpec) { s.Message = "string(self.data)" })
	b.reconcile()
	ready, _ := b.conditions("secrets")
	if ready.Reason != string(verdict.Forbidden) || ready.Message != "spec.source.kubernetes: Secrets are never read as objects: what they hold would stand in messages and tickets" {
		t.Errorf("Ready is %+v", ready)
	}
	if n := b.objects.Watches(); n != 0 {
		t.Errorf("%d watches", n)
	}
}

func TestWatchesAreSharedAndEndWithTheLastInvariantThatNeedsThem(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.deployment("web", 1)
	b.invariant("one", replicated)
	b.invariant("two", replicated)
	b.invariant("three", about("apps/v1", "StatefulSet"), func(s *v1alpha1.InvariantSpec) { s.MinStores = new(int32) })
	remove := func(name string) {
		must(t, b.api.Delete(b.ctx, &v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name}}))
	}
	for _, step := range []struct {
		what    string
		do      func()
		watches int
	}{
		{"three Invariants about two kinds", func() {}, 2},
		{"one of two that share a watch is deleted", func() { remove("one") }, 2},
		{"the other is suspended", func() {
			two := b.getInvariant("two")
			two.Spec.Suspend = true
			must(t, b.api.Update(b.ctx, two))
		}, 1},
		{"the last is deleted", func() { remove("three") }, 0},
	} {
		step.do()
		b.cycle()
		if n := b.objects.Watches(); n != step.watches {
			t.Errorf("%s: %d watches, want %d", step.what, n, step.watches)
		}
	}
}

func TestIdleCyclesCostTheAPIServerNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.deployment("web", 1)
	b.invariant("replicas", replicated, func(s *v1alpha1.InvariantSpec) { s.Interval = seconds(1) })
	b.reconcile()
	b.settle()
	before := b.requests.Load()
	for range 100 {
		b.clock.Step(time.Second)
		b.reconcileNow()
	}
	if got := b.requests.Load() - before; got != 0 {
		t.Errorf("100 idle cycles cost %d requests", got)
	}
	if checked := b.getInvariant("replicas").Status.LastCheckTime; b.clock.Since(checked.Go()) < 90*time.Second {
		t.Errorf("the cycles wrote %v", checked)
	}
	// They did look.
	b.deployment("web", 0)
	b.clock.Step(time.Second)
	b.reconcile()
	b.wantTickets(v1alpha1.Open)
}

func TestABrokenWatchIsUnknownAndRecoversByItself(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]http.HandlerFunc{
		"the API server answers 500":     answers(http.StatusInternalServerError),
		"the API server is busy":         answers(http.StatusTooManyRequests),
		"the API server is not there":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"the monitor lost its rights":    answers(http.StatusForbidden),
		"the API server answers garbage": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			gate := b.gate()
			b.deployment("web", 0)
			b.invariant("replicas", replicated, func(s *v1alpha1.InvariantSpec) { s.UnobservableAfter = seconds(86400) })
			b.reconcile()
			b.wantTickets(v1alpha1.Open)
			gate.fail(fail)
			b.cyclesUntilNot("replicas", reasonAnswering)
			// The object is mended, and nobody sees it.
			patch := client.RawPatch(types.MergePatchType, []byte(`{"status":{"readyReplicas":1}}`))
			must(t, b.api.Status().Patch(b.ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "web"}}, patch))
			b.cycle()
			b.wantTickets(v1alpha1.Open)
			if _, satisfied := b.conditions("replicas"); satisfied != metav1.ConditionUnknown {
				t.Errorf("Satisfied is %s while the watch is broken", satisfied)
			}
			gate.fail(nil)
			b.cyclesUntil("replicas", reasonAnswering)
			b.cycle()
			b.wantTickets(v1alpha1.Resolved)
		})
	}
}

func TestAnAPIServerThatBeganAnewIsSeenAsItIsNow(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	gate := b.gate()
	b.deployment("web", 0)
	b.invariant("replicas", replicated)
	b.reconcile()
	b.wantTickets(v1alpha1.Open)
	// An API server that has just begun knows of no change before, and ends a watch that asks for one.
	began, oldest := make(chan struct{}), 0
	gate.fail(func(w http.ResponseWriter, r *http.Request) {
		<-began
		if from, _ := strconv.Atoi(r.FormValue("resourceVersion")); r.FormValue("watch") != "" && from < oldest {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}}`))
			return
		}
		gate.pass(w, r)
	})
	web := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "web"}}
	must(t, b.api.Status().Patch(b.ctx, web, client.RawPatch(types.MergePatchType, []byte(`{"status":{"readyReplicas":1}}`))))
	oldest, err := strconv.Atoi(web.ResourceVersion)
	must(t, err)
	close(began)
	must(t, wait.PollUntilContextTimeout(b.ctx, 50*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		b.cycle()
		return b.list()[0].Status.State == v1alpha1.Resolved, nil
	}))
}

func TestAnAPIServerThatDoesNotAnswerIsUnknown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	gate := b.gate()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	gate.fail(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	b.invariant("replicas", replicated)
	b.reconcile()
	if ready, _ := b.conditions("replicas"); ready.Reason != string(verdict.NotSynced) {
		t.Errorf("before the first list, Ready is %+v", ready)
	}
	b.cycle()
	// The first tick may be a moment away.
	b.cycle()
	if ready, satisfied := b.conditions("replicas"); ready.Reason != string(verdict.Timeout) || satisfied != metav1.ConditionUnknown {
		t.Errorf("half a minute and more later, Ready is %+v and Satisfied %s", ready, satisfied)
	}
	gate.fail(nil)
}

func TestAWatchThatIsRefusedIsNotTriedAnewByEachLook(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	gate := b.gate()
	var requests atomic.Int64
	gate.fail(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		answers(http.StatusForbidden)(w, r)
	})
	b.invariant("replicas", replicated)
	b.reconcile()
	began := time.Now()
	for range 50 {
		b.cycle()
	}
	// The delays between attempts begin at half a second.
	if n, most := requests.Load(), int64(time.Since(began)/(500*time.Millisecond))+2; n > most {
		t.Errorf("%d requests in %v, want at most %d", n, time.Since(began), most)
	}
}

func TestANamespaceCannotHaveTheMonitorWatchWithoutEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for i := range 101 {
		b.invariant(fmt.Sprintf("inv-%d", i), about("apps/v1", "Deployment"), func(s *v1alpha1.InvariantSpec) {
			s.MinStores = new(int32)
			s.Source.Kubernetes.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"n": fmt.Sprint(i)}}
		})
	}
	refused := func() (n int) {
		for i := range 101 {
			if ready, _ := b.conditions(fmt.Sprintf("inv-%d", i)); ready.Reason == string(verdict.TooLarge) {
				n++
			}
		}
		return n
	}
	// One look may not have the time to start them all.
	for looks := 0; looks < 20 && b.objects.Watches() < 100; looks++ {
		b.cycle()
	}
	b.cycle()
	if n := b.objects.Watches(); n != 100 || refused() != 1 {
		t.Errorf("%d watches, and %d Invariants refused; want 100 and 1", n, refused())
	}
}

func TestMoreObjectsThanOneAnswerHoldsAreAllSeen(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const claims = 1001
	var group errgroup.Group
	group.SetLimit(16)
	for i := range claims {
		group.Go(func() error {
			return b.api.Create(b.ctx, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: fmt.Sprintf("claim-%d", i)},
				Spec: corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}})
		})
	}
	must(t, group.Wait())
	b.invariant("claims", about("v1", "PersistentVolumeClaim"), func(s *v1alpha1.InvariantSpec) { s.Expression = "self.?status.phase.orValue('') != 'Lost'" })
	b.reconcile()
	if ready, satisfied := b.conditions("claims"); satisfied != "True" {
		t.Errorf("Ready is %+v, and Satisfied %s", ready, satisfied)
	}
	if stores := b.getInvariant("claims").Status.Stores; stores == nil || *stores != claims {
		t.Errorf("it saw %d stores, want %d", ptr.Deref(stores, 0), claims)
	}
}
