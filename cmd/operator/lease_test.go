package main

import (
	"context"
	"slices"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/ptr"
)

// holderAfter lets "old" lead, does something to the Lease, ends "old" before it can know, and returns who has the Lease then.
func holderAfter(t *testing.T, meanwhile func(*coordinationv1.Lease)) string {
	t.Helper()
	clientset := fake.NewClientset()
	leases := clientset.CoordinationV1()
	lock := &lease{Interface: &resourcelock.LeaseLock{LeaseMeta: metav1.ObjectMeta{Namespace: "ns", Name: leaseName}, Client: leases,
		LockConfig: resourcelock.ResourceLockConfig{Identity: "old"}}}
	leads, stopped := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: time.Hour, RenewDeadline: 50 * time.Minute, RetryPeriod: 10 * time.Minute, ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) { close(leads) }, OnStoppedLeading: func() {}},
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { elector.Run(ctx); close(stopped) }()
	<-leads
	// It renews its lease once at once, and the clientset, unlike an API server, lets it do so whatever it has read.
	renewed := func(context.Context) (bool, error) {
		return slices.ContainsFunc(clientset.Actions(), func(a clienttesting.Action) bool { return a.GetVerb() == "update" }), nil
	}
	if err := wait.PollUntilContextTimeout(ctx, time.Millisecond, time.Minute, true, renewed); err != nil {
		t.Fatal(err)
	}
	current, err := leases.Leases("ns").Get(ctx, leaseName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	meanwhile(current)
	if _, err := leases.Leases("ns").Update(ctx, current, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-stopped
	after, err := leases.Leases("ns").Get(t.Context(), leaseName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ptr.Deref(after.Spec.HolderIdentity, "")
}

func TestALeaderThatLostItsLeaseLeavesItToItsSuccessor(t *testing.T) {
	if holder := holderAfter(t, func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = ptr.To("new") }); holder != "new" {
		t.Errorf("the Lease is %q's, which is not its successor", holder)
	}
}

func TestALeaderThatStopsGivesItsLeaseUp(t *testing.T) {
	if holder := holderAfter(t, func(*coordinationv1.Lease) {}); holder != "" {
		t.Errorf("the Lease is still %q's", holder)
	}
}
