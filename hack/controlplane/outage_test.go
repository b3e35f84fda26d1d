package controlplane_test

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/hack/controlplane"
)

func TestOutages(t *testing.T) {
	c := start(t, controlplane.Options{})
	admin := newClient(t, c.Config)
	if err := admin.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "robot"}}); err != nil {
		t.Fatal(err)
	}
	robotConfig, _, err := c.ServiceAccount(t.Context(), "default", "robot")
	if err != nil {
		t.Fatal(err)
	}
	robot := newClient(t, robotConfig)
	note := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "note"}, Data: map[string]string{"text": "kept"}}
	if err := admin.Create(t.Context(), note); err != nil {
		t.Fatal(err)
	}
	for _, outage := range []struct {
		name       string
		begin, end func() error
	}{
		{"a killed API server", c.KillAPIServer, func() error { return c.StartAPIServer(t.Context()) }},
		{"a stopped API server", c.StopAPIServer, func() error { return c.StartAPIServer(t.Context()) }},
		{"an API server that hangs", c.PauseAPIServer, c.ResumeAPIServer},
		{"a killed etcd", c.KillEtcd, func() error { return c.StartEtcd(t.Context()) }},
	} {
		t.Run(outage.name+" answers nobody, and everybody afterwards", func(t *testing.T) {
			if err := outage.begin(); err != nil {
				t.Fatal(err)
			}
			if err := write(t, admin, note, 500*time.Millisecond); err == nil {
				t.Error("a write succeeded meanwhile")
			}
			began := time.Now()
			if err := outage.end(); err != nil {
				t.Fatal(err)
			}
			t.Logf("back after %s", time.Since(began).Round(time.Millisecond))
			eventually(t, "the administrator can write", func() bool { return write(t, admin, note, 5*time.Second) == nil })
			if note.Data["text"] != "kept" {
				t.Errorf("what was stored is now %v", note.Data)
			}
			if _, _, err := controlplane.Kubectl(t.Context(), c.Kubeconfig, "", "get", "configmap", "note", "-n", "default"); err != nil {
				t.Error(err)
			}
			if err := robot.Get(t.Context(), client.ObjectKeyFromObject(note), &corev1.ConfigMap{}); !apierrors.IsForbidden(err) {
				t.Errorf("the token of a ServiceAccount is not taken any more: %v", err)
			}
		})
	}
	t.Run("the controllers go on", func(t *testing.T) {
		if err := c.Namespace(t.Context(), "after"); err != nil {
			t.Fatal(err)
		}
		if err := admin.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "after"}}); err != nil {
			t.Fatal(err)
		}
		if err := c.Namespace(t.Context(), "after"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("an API server that is down cannot be paused", func(t *testing.T) {
		if err := c.KillAPIServer(); err != nil {
			t.Fatal(err)
		}
		if err := c.PauseAPIServer(); err == nil {
			t.Error("some process is paused")
		}
		if err := c.StartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("it is no error to end an outage that there is not", func(t *testing.T) {
		for _, start := range []func(context.Context) error{c.StartAPIServer, c.StartEtcd} {
			if err := start(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	if err := c.PauseAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := c.KillEtcd(); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(); err != nil {
		t.Errorf("stopping it during an outage: %v", err)
	}
	if left := children(t); left != "" {
		t.Errorf("processes left:\n%s", left)
	}
}

// write writes to an object, and gives up after a while.
func write(t *testing.T, c client.Client, object client.Object, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	patch := `{"metadata":{"annotations":{"at":"` + time.Now().Format(time.RFC3339Nano) + `"}}}`
	return c.Patch(ctx, object, client.RawPatch("application/merge-patch+json", []byte(patch)))
}
