package packs

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"invariant.dev/operator/hack/controlplane"
)

// startEtcd starts an etcd of one member with a quota, and returns its address.
func startEtcd(t *testing.T, quotaBytes int) string {
	t.Helper()
	path, err := controlplane.Binary("etcd")
	must(t, err)
	client, peer := freeAddress(t), freeAddress(t)
	program, err := plane.StartProgram("etcd-"+strings.ReplaceAll(client, ":", "-"), path, io.Discard,
		"--data-dir", filepath.Join(t.TempDir(), "etcd"), "--unsafe-no-fsync", fmt.Sprintf("--quota-backend-bytes=%d", quotaBytes),
		"--listen-client-urls", "http://"+client, "--advertise-client-urls", "http://"+client,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer)
	must(t, err)
	t.Cleanup(func() { _ = program.Kill() })
	must(t, wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		if response, err := http.Get("http://" + client + "/health"); err == nil {
			return response.StatusCode == http.StatusOK, response.Body.Close()
		}
		return false, nil
	}))
	return client
}

// freeAddress is a loopback address on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// etcdAt are the Invariants of the pack, for members at these addresses.
func etcdAt(t *testing.T, one, two, three string) string {
	t.Helper()
	return strings.NewReplacer("etcd-1:2379", one, "etcd-2:2379", two, "etcd-3:2379", three).Replace(kubectl(t, "", "kustomize", filepath.Join(samples, "etcd")))
}

func TestAnEtcdThatIsWellSatisfiesAll(t *testing.T) {
	address := startEtcd(t, 2<<30)
	wantLines(t, check(t, etcdAt(t, address, address, address)))
}

func TestAnEtcdWhoseDatabaseHasLittleRoomLeftIsNamed(t *testing.T) {
	// A new database has 20 KiB.
	full, well := startEtcd(t, 24<<10), startEtcd(t, 2<<30)
	r := check(t, etcdAt(t, well, full, well))
	wantLines(t, r, "db-size(2) Violated")
	if got := r.message("db-size", "2"); got != "the database of member 2 has used over 80 % of its quota" {
		t.Errorf("its message is %q", got)
	}
	r.wantEvidence(t)
}

func TestOfAnEtcdMemberThatDoesNotAnswerTheSizeIsUnknown(t *testing.T) {
	address := startEtcd(t, 2<<30)
	wantLines(t, check(t, etcdAt(t, address, address, freeAddress(t))),
		"member-up(3) Violated", "member-has-leader(3) Violated", "db-size(3) Unknown EvaluationFailed")
}

func TestTheOverlayInTheCommentChangesTheAddressOfAMember(t *testing.T) {
	for name, invariant := range decode(t, overlay(t, "etcd")) {
		if got := invariant.Spec.Source.HTTP.Endpoints[0].URL; !strings.HasPrefix(got, "http://etcd-0.etcd.etcd.svc:2379/") {
			t.Errorf("%s reads member 1 at %s", name, got)
		}
	}
}
