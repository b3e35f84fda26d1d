package controlplane_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"invariant.dev/operator/hack/controlplane"
)

// holder makes this test binary hold a control plane, say so, and wait to be killed.
const holder = "CONTROLPLANE_TEST_HOLDER"

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	if os.Getenv(holder) != "" {
		c, err := controlplane.Start(context.Background(), controlplane.Options{})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(filepath.Dir(filepath.Dir(c.Kubeconfig)))
		select {}
	}
	os.Exit(m.Run())
}

func start(t *testing.T, o controlplane.Options) *controlplane.ControlPlane {
	t.Helper()
	c, err := controlplane.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func newClient(t *testing.T, config *rest.Config) client.Client {
	t.Helper()
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 30*time.Second, true,
		func(context.Context) (bool, error) { return done(), nil })
	if err != nil {
		t.Fatalf("waiting until %s: %v", what, err)
	}
}

// noted returns the process IDs of the programs of a control plane, by its directory.
func noted(t *testing.T, dir string) map[string]int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pids := map[string]int{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var pid int
		if _, err := fmt.Sscan(string(content), &pid); err != nil {
			t.Fatal(err)
		}
		pids[strings.TrimSuffix(filepath.Base(file), ".pid")] = pid
	}
	if len(pids) != 3 {
		t.Fatalf("%d programs run, want 3: %v", len(pids), pids)
	}
	return pids
}

func runs(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func directory(c *controlplane.ControlPlane) string { return filepath.Dir(filepath.Dir(c.Kubeconfig)) }

// children are the processes that this one has started and not yet seen end.
func children(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(files) == 0 {
		t.Fatalf("this test needs /proc: %v", err)
	}
	var left []string
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// The name stands in brackets and may hold anything; behind it come the state and the parent.
		_, rest, _ := strings.Cut(string(stat[strings.LastIndex(string(stat), ")")+1:]), " ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			left = append(left, string(stat))
		}
	}
	return strings.Join(left, "\n")
}

func TestStopLeavesNothing(t *testing.T) {
	c := start(t, controlplane.Options{})
	dir := directory(c)
	pids := noted(t, dir)
	for name, pid := range pids {
		if !runs(pid) {
			t.Fatalf("%s (process %d) does not run", name, pid)
		}
	}

	// An open watch must not hold up the stop.
	config := rest.CopyConfig(c.Config)
	watching, err := client.NewWithWatch(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	watch, err := watching.Watch(t.Context(), &corev1.NamespaceList{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()

	began := time.Now()
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped within %s", time.Since(began).Round(time.Millisecond))
	if err := c.Stop(); err != nil {
		t.Errorf("the second Stop: %v", err)
	}
	for name, pid := range pids {
		if runs(pid) {
			t.Errorf("%s (process %d) still runs", name, pid)
		}
	}
	if left := children(t); left != "" {
		t.Errorf("processes left:\n%s", left)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory is left: %v", err)
	}
}

func TestKilledHolderLeavesNothing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), holder+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var dir string
	_, scanErr := fmt.Fscan(out, &dir)
	var pids map[string]int
	if scanErr == nil {
		pids = noted(t, dir)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // says that it was killed
	if scanErr != nil {
		t.Fatal(scanErr)
	}
	for name, pid := range pids {
		eventually(t, name+" is gone", func() bool { return !runs(pid) })
	}
	eventually(t, "the directory is gone", func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestTwoDoNotDisturbEachOther(t *testing.T) {
	one := start(t, controlplane.Options{})
	two := start(t, controlplane.Options{})
	if one.Config.Host == two.Config.Host {
		t.Fatalf("both are at %s", one.Config.Host)
	}
	if err := one.Namespace(t.Context(), "only-in-one"); err != nil {
		t.Fatal(err)
	}
	key := client.ObjectKey{Name: "only-in-one"}
	if err := newClient(t, one.Config).Get(t.Context(), key, &corev1.Namespace{}); err != nil {
		t.Error(err)
	}
	if err := newClient(t, two.Config).Get(t.Context(), key, &corev1.Namespace{}); !apierrors.IsNotFound(err) {
		t.Errorf("the second control plane says %v, want not found", err)
	}
	if err := one.Stop(); err != nil {
		t.Error(err)
	}
	if err := two.Namespace(t.Context(), "still-alive"); err != nil {
		t.Errorf("after the first was stopped: %v", err)
	}
}

func TestControlPlane(t *testing.T) {
	var log bytes.Buffer
	began := time.Now()
	c := start(t, controlplane.Options{Log: &log, APIServerArgs: map[string][]string{
		"max-requests-inflight": {"77"}, "v": {"1"}}})
	t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))
	admin := newClient(t, c.Config)

	t.Run("the CRDs are served once installed", func(t *testing.T) {
		for range 2 {
			if err := c.InstallCRDs(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		out, _, err := controlplane.Kubectl(t.Context(), c.Kubeconfig, "", "get", "invariants,tickets", "-A")
		if err != nil || out != "" {
			t.Errorf("kubectl get says %q, %v", out, err)
		}
	})

	t.Run("aggregated roles are filled", func(t *testing.T) {
		var view rbacv1.ClusterRole
		if err := admin.Get(t.Context(), client.ObjectKey{Name: "view"}, &view); err != nil {
			t.Fatal(err)
		}
		before := len(view.Rules)
		part := &rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: "part", Labels: map[string]string{"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
			Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"example.com"}, Resources: []string{"things"}, Verbs: []string{"get"}}},
		}
		if err := admin.Create(t.Context(), part); err != nil {
			t.Fatal(err)
		}
		eventually(t, "view has the rule", func() bool {
			return admin.Get(t.Context(), client.ObjectKey{Name: "view"}, &view) == nil && len(view.Rules) > before
		})
	})

	t.Run("a deleted namespace goes away and can be made again", func(t *testing.T) {
		if err := c.Namespace(t.Context(), "short-lived"); err != nil {
			t.Fatal(err)
		}
		if err := c.Namespace(t.Context(), "short-lived"); err != nil {
			t.Errorf("made twice: %v", err)
		}
		content := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "short-lived", Name: "content"}}
		if err := admin.Create(t.Context(), content); err != nil {
			t.Fatal(err)
		}
		if err := admin.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "short-lived"}}); err != nil {
			t.Fatal(err)
		}
		if err := c.Namespace(t.Context(), "short-lived"); err != nil {
			t.Fatal(err)
		}
		if err := admin.Get(t.Context(), client.ObjectKeyFromObject(content), content); !apierrors.IsNotFound(err) {
			t.Errorf("what was in the namespace: %v, want not found", err)
		}
	})

	t.Run("a user has its own name and rights", func(t *testing.T) {
		config, kubeconfig, err := c.User("ana", "storage")
		if err != nil {
			t.Fatal(err)
		}
		if err := newClient(t, config).List(t.Context(), &corev1.SecretList{}); !apierrors.IsForbidden(err) {
			t.Errorf("listing Secrets: %v, want forbidden", err)
		}
		out, _, err := controlplane.Kubectl(t.Context(), kubeconfig, "", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username} {.status.userInfo.groups}")
		if want := `ana ["storage","system:authenticated"]`; err != nil || out != want {
			t.Errorf("kubectl auth whoami says %q, %v, want %q", out, err, want)
		}
	})

	t.Run("a ServiceAccount has a token of its own", func(t *testing.T) {
		if _, _, err := c.ServiceAccount(t.Context(), "default", "robot"); err == nil || !strings.Contains(err.Error(), "create it first") {
			t.Errorf("without the ServiceAccount: %v", err)
		}
		robot := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "robot"}}
		if err := admin.Create(t.Context(), robot); err != nil {
			t.Fatal(err)
		}
		config, kubeconfig, err := c.ServiceAccount(t.Context(), "default", "robot")
		if err != nil {
			t.Fatal(err)
		}
		if err := newClient(t, config).List(t.Context(), &corev1.SecretList{}); !apierrors.IsForbidden(err) {
			t.Errorf("listing Secrets: %v, want forbidden", err)
		}
		out, _, err := controlplane.Kubectl(t.Context(), kubeconfig, "", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
		if want := "system:serviceaccount:default:robot"; err != nil || out != want {
			t.Errorf("kubectl auth whoami says %q, %v, want %q", out, err, want)
		}
	})

	t.Run("kubectl reads its standard input and says why it failed", func(t *testing.T) {
		manifest := `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": "from-stdin"}}`
		if _, _, err := controlplane.Kubectl(t.Context(), c.Kubeconfig, manifest, "apply", "-f", "-"); err != nil {
			t.Error(err)
		}
		_, stderr, err := controlplane.Kubectl(t.Context(), c.Kubeconfig, "", "get", "configmap", "absent")
		if err == nil || !strings.Contains(stderr, "NotFound") || !strings.Contains(err.Error(), "kubectl get configmap absent: exit status 1: Error from server (NotFound)") {
			t.Errorf("stderr %q, error %v", stderr, err)
		}
	})

	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"etcd-version", `FLAG: --max-requests-inflight="77"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log of the programs lacks %s", want)
		}
	}
}

func TestMissingBinary(t *testing.T) {
	t.Setenv("KUBEBUILDER_ASSETS", t.TempDir())
	_, err := controlplane.Start(t.Context(), controlplane.Options{})
	if err == nil || !strings.Contains(err.Error(), "the program etcd is not in") || !strings.Contains(err.Error(), "run make controlplane") {
		t.Errorf("got %v", err)
	}
	if left := children(t); left != "" {
		t.Errorf("processes left:\n%s", left)
	}
}

func TestFailedStart(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)

	t.Run("it says what the program printed", func(t *testing.T) {
		_, err := controlplane.Start(t.Context(), controlplane.Options{APIServerArgs: map[string][]string{"no-such-flag": {"1"}}})
		if err == nil || !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("it says that a port is taken", func(t *testing.T) {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = taken.Close() }()
		_, port, err := net.SplitHostPort(taken.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = controlplane.Start(t.Context(), controlplane.Options{APIServerArgs: map[string][]string{"secure-port": {port}}})
		if err == nil || strings.Count(err.Error(), "another program took its port") != 3 {
			t.Errorf("got %v, want three tries", err)
		}
	})
	t.Run("it ends with its context", func(t *testing.T) {
		for _, seen := range []string{"etcd-version", "Starting"} {
			ctx, cancel := context.WithCancel(t.Context())
			began := time.Now()
			_, err := controlplane.Start(ctx, controlplane.Options{Log: trigger{seen, cancel}})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("given up at %q: %v", seen, err)
			}
			t.Logf("given up at %q: returned after %s", seen, time.Since(began).Round(time.Millisecond))
		}
	})
	if left := children(t); left != "" {
		t.Errorf("processes left:\n%s", left)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

// trigger calls do when a text is printed.
type trigger struct {
	text string
	do   func()
}

func (w trigger) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(w.text)) {
		w.do()
	}
	return len(b), nil
}
