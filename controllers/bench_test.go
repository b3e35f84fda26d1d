package controllers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/ledger"
	"invariant.dev/operator/controllers/verdict"
)

// BenchmarkJudgeAndLedger measures a cycle of 1,000 stores and ten Invariants between its one GET and its writes.
// The figures are for one store and one Invariant.
func BenchmarkJudgeAndLedger(b *testing.B) {
	const stores, invariants = 1000, 10
	for _, state := range []string{"Up", "Down"} {
		b.Run("all "+state, func(b *testing.B) {
			program, err := judge.Compile(&v1alpha1.InvariantSpec{
				Source:     v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: "http://pd", Items: "self.stores"}},
				StoreID:    "string(self.store.id)",
				Expression: "self.store.state_name in ['Up', 'Offline']",
				Message:    "'store ' + string(self.store.id) + ' at ' + self.store.address + ' is ' + self.store.state_name",
			})
			must(b, err)
			observation := pdStores(stores, state)
			var judging, deciding time.Duration
			for b.Loop() {
				began := time.Now()
				policies := map[string]ledger.Invariant{}
				for i := range invariants {
					result := program.Judge(b.Context(), observation, start)
					name := fmt.Sprintf("inv-%d", i)
					policies[name] = ledger.Invariant{Name: name, Severity: v1alpha1.Warning, Judgement: &result.Judgement}
				}
				judged := time.Now()
				plan := ledger.Decide(ledger.Cycle{Now: start, Invariants: policies}, nil, nil)
				judging += judged.Sub(began)
				deciding += time.Since(judged)
				if want := map[string]int{"Up": 0, "Down": stores * invariants}[state]; len(plan.Open) != want {
					b.Fatalf("%d violations, want %d", len(plan.Open), want)
				}
			}
			per := float64(b.N) * stores * invariants
			b.ReportMetric(float64(judging.Nanoseconds())/per, "judge-ns/store")
			b.ReportMetric(float64(deciding.Nanoseconds())/per, "ledger-ns/store")
		})
	}
}

// BenchmarkFaultToTicket measures the time from a fault of a Kubernetes object to its ticket, at an interval of a second, on the real API
// server: 20 systems at a time, and what it reports is over all faults.
func BenchmarkFaultToTicket(b *testing.B) {
	const systems, faults = 20, 10
	namespace := fmt.Sprintf("bench-%d", namespaces.Add(1))
	must(b, plane.Namespace(b.Context(), namespace))
	api, err := client.NewWithWatch(plane.Config, client.Options{Scheme: testScheme(b)})
	must(b, err)
	for i := range systems {
		name := fmt.Sprintf("app-%d", i)
		labels := map[string]string{"app": name}
		must(b, api.Create(b.Context(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}, Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "main"}}}}}}))
		spec := v1alpha1.InvariantSpec{System: name, Interval: seconds(1)}
		replicated(&spec)
		spec.Source.Kubernetes.Selector = &metav1.LabelSelector{MatchLabels: labels}
		must(b, setReady(b.Context(), api, namespace, name, 1))
		must(b, api.Create(b.Context(), &v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: spec}))
	}
	startMonitor(b, DefaultInterval, DefaultWorkers, namespace)
	// What is measured is a monitor that runs, not one that starts.
	must(b, wait.PollUntilContextTimeout(b.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		var invariants v1alpha1.InvariantList
		if err := api.List(ctx, &invariants, client.InNamespace(namespace)); err != nil {
			return false, err
		}
		return !slices.ContainsFunc(invariants.Items, func(i v1alpha1.Invariant) bool {
			satisfied := v1alpha1.FindCondition(i.Status.Conditions, v1alpha1.ConditionSatisfied)
			return satisfied == nil || satisfied.Status != metav1.ConditionTrue
		}), nil
	}))
	var mu sync.Mutex
	var took []time.Duration
	for b.Loop() {
		var group errgroup.Group
		for i := range systems {
			name := fmt.Sprintf("app-%d", i)
			group.Go(func() error {
				for range faults {
					d, err := faultToTicket(b.Context(), api, namespace, name)
					if err != nil {
						return err
					}
					mu.Lock()
					took = append(took, d)
					mu.Unlock()
				}
				return nil
			})
		}
		must(b, group.Wait())
	}
	slices.Sort(took)
	b.ReportMetric(float64(len(took)), "faults")
	b.ReportMetric(took[len(took)/2].Seconds(), "p50-s")
	b.ReportMetric(took[len(took)*99/100].Seconds(), "p99-s")
	b.ReportMetric(took[len(took)-1].Seconds(), "max-s")
}

// faultToTicket breaks a Deployment at a random moment, waits for its ticket and for the API server's word of it, mends it, and waits
// until the ticket is resolved.
func faultToTicket(ctx context.Context, api client.WithWatch, namespace, name string) (time.Duration, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(rand.N(time.Second)):
	}
	// Watched from before the fault, so that what is measured ends when the API server tells of the ticket.
	events, err := api.Watch(ctx, &v1alpha1.TicketList{}, client.InNamespace(namespace), client.MatchingFields{"spec.system": name})
	if err != nil {
		return 0, err
	}
	defer events.Stop()
	until := func(state v1alpha1.TicketState) bool {
		for event := range events.ResultChan() {
			if ticket, ok := event.Object.(*v1alpha1.Ticket); ok && event.Type != watch.Deleted && ticket.Status.State == state {
				return true
			}
		}
		return false
	}
	began := time.Now()
	if err := setReady(ctx, api, namespace, name, 0); err != nil {
		return 0, err
	}
	if !until(v1alpha1.Open) {
		return 0, errors.New("the watch of tickets ended")
	}
	took := time.Since(began)
	if err := setReady(ctx, api, namespace, name, 1); err != nil {
		return 0, err
	}
	if !until(v1alpha1.Resolved) {
		return 0, errors.New("the watch of tickets ended")
	}
	return took, nil
}

func setReady(ctx context.Context, api client.Client, namespace, name string, ready int) error {
	patch := fmt.Sprintf(`{"status":{"replicas":1,"readyReplicas":%d}}`, ready)
	return api.Status().Patch(ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}, client.RawPatch(types.MergePatchType, []byte(patch)))
}

func pdStores(n int, state string) verdict.Observation {
	list := make([]any, 0, n)
	for i := range n {
		list = append(list, map[string]any{"store": map[string]any{"id": int64(i), "address": fmt.Sprintf("tikv-%d:20160", i), "state_name": state}})
	}
	return verdict.Observation{Readings: []verdict.Reading{{Value: map[string]any{"stores": list}}}}
}

// BenchmarkUnchanged measures what judging 10,000 objects costs at first, when one of them has changed, and when none has, each for one
// object, and how often the first is the others.
func BenchmarkUnchanged(b *testing.B) {
	const objects = judge.MaxReadings
	spec := &v1alpha1.InvariantSpec{}
	replicated(spec)
	program, err := judge.Compile(spec)
	must(b, err)
	seen := verdict.Observation{}
	for i := range objects {
		seen.Readings = append(seen.Readings, verdict.Reading{Version: fmt.Sprintf("%d/1", i), Value: map[string]any{
			"metadata": map[string]any{"name": fmt.Sprintf("app-%d", i)}, "spec": map[string]any{"replicas": int64(1)}, "status": map[string]any{"readyReplicas": int64(1)}}})
	}
	var first, one, none time.Duration
	version := 0
	timed := func(past *judge.Past, took *time.Duration) {
		began := time.Now()
		if result := program.JudgeAfter(b.Context(), past, seen, start); len(result.Verdicts) != objects {
			b.Fatalf("%d verdicts", len(result.Verdicts))
		}
		*took += time.Since(began)
	}
	for b.Loop() {
		var past judge.Past
		version++
		seen.Version = fmt.Sprint(version)
		timed(&past, &first)
		version++
		seen.Version, seen.Readings[0].Version = fmt.Sprint(version), fmt.Sprintf("0/%d", version)
		timed(&past, &one)
		timed(&past, &none)
	}
	per := float64(b.N) * objects
	b.ReportMetric(float64(first.Nanoseconds())/per, "first-ns/object")
	b.ReportMetric(float64(one.Nanoseconds())/per, "one-changed-ns/object")
	b.ReportMetric(float64(none.Nanoseconds())/per, "unchanged-ns/object")
	b.ReportMetric(float64(first)/float64(one), "first/one-changed")
}
