package packs

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/pdtest"
)

// cluster is a PD, and the stores that send it heartbeats.
type cluster struct {
	*pdtest.PD
	// manifests are the Invariants of the pack that ask PD, with the address of this one.
	manifests string

	mu    sync.Mutex
	now   time.Time
	stats map[uint64]pdtest.Stats
}

// newCluster is a PD that no store knows yet.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{now: time.Now(), stats: map[uint64]pdtest.Stats{}}
	c.PD = pdtest.New(func() time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.now
	})
	server := httptest.NewServer(c.PD)
	t.Cleanup(server.Close)
	c.manifests = tikvAt(t, server.Listener.Addr().String())
	return c
}

// newTiKV is a cluster of three stores, 10 % of whose disks are used.
func newTiKV(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t)
	for id := uint64(1); id <= 3; id++ {
		address := fmt.Sprintf("tikv-%d", id)
		c.Put(pdtest.Store{
			ID: id, Version: "8.5.4", Address: address + ":20160", PeerAddress: address + ":20160", StatusAddress: address + ":20180",
			GitHash: "a1b2c3", Started: c.now.Add(-time.Hour), RegionCount: 30, RegionSize: 2880,
		})
		c.stats[id] = pdtest.Stats{Capacity: 2_000_000_000_000, Available: 1_800_000_000_000, Used: 190_000_000_000, LeaderCount: 10, LeaderSize: 960, SlowScore: 1}
	}
	c.live(time.Minute)
	return c
}

// live lets time pass, in which all stores but some send their heartbeats.
func (c *cluster) live(d time.Duration, silent ...uint64) {
	for range d / (10 * time.Second) {
		c.mu.Lock()
		c.now = c.now.Add(10 * time.Second)
		c.mu.Unlock()
		c.heartbeats(silent...)
	}
}

// heartbeats are those that all stores but some send now.
func (c *cluster) heartbeats(silent ...uint64) {
	for id, stats := range c.stats {
		alive := true
		for _, s := range silent {
			alive = alive && s != id
		}
		if alive {
			c.Heartbeat(id, stats)
		}
	}
}

// tikvAt are the Invariants of the pack that ask PD, in the overlay that the pack's comment shows, for a PD at
// that address.
func tikvAt(t *testing.T, address string) string {
	t.Helper()
	// The namespace of that overlay.
	must(t, plane.Namespace(t.Context(), "tikv-prod"))
	var asksPD []string
	for _, document := range documents(overlay(t, "tikv", "basic-pd.tikv-prod.svc:2379", address)) {
		if strings.Contains(document, "    http:") {
			asksPD = append(asksPD, document)
		}
	}
	return strings.Join(asksPD, "\n---\n")
}

func TestTheOverlayInTheCommentChangesAddressSystemAndNamespace(t *testing.T) {
	invariants := decode(t, tikvAt(t, "pd.example:2379"))
	if len(invariants) != 8 {
		t.Errorf("%d invariants ask PD, want 8", len(invariants))
	}
	for name, invariant := range invariants {
		address := invariant.Spec.Source.HTTP.URL
		if address == "" {
			address = invariant.Spec.Source.HTTP.Endpoints[0].URL
		}
		if !strings.HasPrefix(address, "http://pd.example:2379/pd/api/v1/") || invariant.Spec.System != "tikv-prod" || invariant.Namespace != "tikv-prod" {
			t.Errorf("%s is about %s in %s, at %s", name, invariant.Spec.System, invariant.Namespace, address)
		}
	}
}

func TestAClusterThatIsWellSatisfiesAll(t *testing.T) {
	wantLines(t, check(t, newTiKV(t).manifests))
}

func TestAStoreThatFallsSilentIsNotUp(t *testing.T) {
	c := newTiKV(t)
	c.live(30*time.Second, 2)
	r := check(t, c.manifests)
	wantLines(t, r, "store-up(2) Violated")
	if got := r.message("store-up", "2"); !strings.HasPrefix(got, "store 2 at tikv-2:20160 is Disconnected, and was last heard at 20") {
		t.Errorf("its message is %q", got)
	}
	c.live(30*time.Minute, 2)
	r = check(t, c.manifests)
	wantLines(t, r, "store-up(2) Violated")
	if got := r.message("store-up", "2"); !strings.HasPrefix(got, "store 2 at tikv-2:20160 is Down, ") {
		t.Errorf("its message is %q", got)
	}
	c.live(10 * time.Second)
	wantLines(t, check(t, c.manifests))
}

func TestTwoStoresThatAreDownMayBeTheQuorum(t *testing.T) {
	c := newTiKV(t)
	c.live(time.Minute, 2, 3)
	r := check(t, c.manifests)
	wantLines(t, r, "store-up(2) Violated", "store-up(3) Violated", "store-quorum() Violated")
	if got := r.message("store-quorum", ""); got != "2 of 3 stores are down: 2, 3" {
		t.Errorf("its message is %q", got)
	}
}

func TestAStoreThatIsTakenOutIsFineUntilItTakesADay(t *testing.T) {
	c := newTiKV(t)
	c.SetState(3, pdtest.Offline)
	wantLines(t, check(t, c.manifests), "store-leaves(3) Violated")
	c.live(time.Hour, 3)
	wantLines(t, check(t, c.manifests), "store-leaves(3) Violated")
	c.SetState(3, pdtest.Tombstone)
	wantLines(t, check(t, c.manifests))
	if grace := decode(t, c.manifests)["store-leaves"].Spec.GracePeriod.Or(0); grace < 24*time.Hour {
		t.Errorf("it counts after %v", grace)
	}
}

func TestAfterARestartOfPDNothingCountsBeforeTheNextHeartbeats(t *testing.T) {
	c := newTiKV(t)
	// So that PD has written down no heartbeat for minutes.
	c.live(4 * time.Minute)
	c.Restart()
	r := check(t, c.manifests)
	wantLines(t, r,
		"store-up(1) Violated", "store-up(2) Violated", "store-up(3) Violated", "store-quorum() Violated",
		"store-space(1) Unknown EvaluationFailed", "store-space(2) Unknown EvaluationFailed", "store-space(3) Unknown EvaluationFailed",
		"store-low-space(1) Unknown EvaluationFailed", "store-low-space(2) Unknown EvaluationFailed", "store-low-space(3) Unknown EvaluationFailed")
	invariants := decode(t, c.manifests)
	for _, i := range r.Items {
		// Heartbeats come every 10 seconds.
		patience := invariants[i.Name].Spec.GracePeriod.Or(0)
		if i.Truth == "Unknown" {
			patience = invariants[i.Name].Spec.UnobservableAfter.Or(2 * time.Minute)
		}
		if i.Truth != "Satisfied" && patience < 30*time.Second {
			t.Errorf("%s counts after %v, when a store may not yet have been heard", i.Name, patience)
		}
	}
	c.heartbeats()
	wantLines(t, check(t, c.manifests))
}

func TestDisksThatFillUpAreToldApart(t *testing.T) {
	c := newTiKV(t)
	used := func(id uint64, percent uint64) {
		stats := c.stats[id]
		stats.Available = stats.Capacity / 100 * (100 - percent)
		c.stats[id] = stats
	}
	used(1, 69)
	used(2, 71)
	used(3, 90)
	c.heartbeats()
	r := check(t, c.manifests)
	wantLines(t, r, "store-space(2) Violated", "store-space(3) Violated", "store-low-space(3) Violated")
	if got := r.message("store-space", "2"); got != "store 2 at tikv-2:20160 has 540.2GiB left of 1.819TiB" {
		t.Errorf("its message is %q", got)
	}
	if got := r.message("store-low-space", "3"); got != "store 3 at tikv-3:20160 has only 186.3GiB left of 1.819TiB" {
		t.Errorf("its message is %q", got)
	}
	// A disk that has nothing left is full, and not unknown.
	used(3, 100)
	c.heartbeats()
	wantLines(t, check(t, c.manifests), "store-space(2) Violated", "store-space(3) Violated", "store-low-space(3) Violated")
}

func TestAStoreThatSaysItIsSlowIs(t *testing.T) {
	c := newTiKV(t)
	slow := c.stats[1]
	slow.SlowScore, slow.IsBusy = 80, true
	c.stats[1] = slow
	c.heartbeats()
	r := check(t, c.manifests)
	wantLines(t, r, "store-slow(1) Violated")
	if got := r.message("store-slow", "1"); got != "store 1 at tikv-1:20160 has a slow score of 80" {
		t.Errorf("its message is %q", got)
	}
}

func TestWithoutALeaderOfPDItIsSaidOnceAndStoresAreUnknown(t *testing.T) {
	c := newTiKV(t)
	c.LoseLeader()
	r := check(t, c.manifests)
	wantLines(t, r, "pd-has-leader(pd) Violated", "store-up Unknown HTTPStatus", "store-quorum Unknown HTTPStatus",
		"store-space Unknown HTTPStatus", "store-low-space Unknown HTTPStatus", "store-slow Unknown HTTPStatus", "store-leaves Unknown HTTPStatus")
	if got := r.message("pd-has-leader", "pd"); got != "PD has no leader" {
		t.Errorf("its message is %q", got)
	}
	var soon []string
	for name, invariant := range decode(t, c.manifests) {
		if strings.HasPrefix(name, "store-") && invariant.Spec.UnobservableAfter.Or(2*time.Minute) < time.Hour {
			soon = append(soon, name)
		}
	}
	if len(soon) != 1 || soon[0] != "store-up" {
		t.Errorf("after minutes, %v say that they see no stores; want store-up alone", soon)
	}
	c.ElectLeader()
	c.heartbeats()
	wantLines(t, check(t, c.manifests))
}

func TestAClusterThatIsNotBootstrappedHasNoStoresToJudge(t *testing.T) {
	wantLines(t, check(t, newCluster(t).manifests), "store-up Unknown HTTPStatus", "store-quorum Unknown HTTPStatus",
		"store-space Unknown HTTPStatus", "store-low-space Unknown HTTPStatus", "store-slow Unknown HTTPStatus", "store-leaves Unknown HTTPStatus")
}

func TestAMemberOfPDThatIsNotWellIsNamed(t *testing.T) {
	c := newTiKV(t)
	c.SetHealth("pd-2", false)
	r := check(t, c.manifests)
	wantLines(t, r, "pd-member-healthy(pd-2) Violated")
	if got := r.message("pd-member-healthy", "pd-2"); got != "PD member pd-2 is not healthy" {
		t.Errorf("its message is %q", got)
	}
}

func TestAPDThatIsGoneHasNoLeader(t *testing.T) {
	server := httptest.NewServer(nil)
	address := server.Listener.Addr().String()
	server.Close()
	r := check(t, tikvAt(t, address))
	if got := r.message("pd-has-leader", "pd"); !strings.HasPrefix(got, "PD does not answer: Unreachable: ") {
		t.Errorf("its message is %q", got)
	}
}

func TestViolationsOfStoresBringTheirEvidence(t *testing.T) {
	c := newTiKV(t)
	stats := c.stats[1]
	stats.Available, stats.SlowScore = 1<<30, 100
	c.stats[1] = stats
	c.SetState(3, pdtest.Offline)
	c.SetHealth("pd-1", false)
	c.live(time.Minute, 2)
	taken := map[string]v1alpha1.SnapshotValue{}
	r := check(t, c.manifests)
	r.wantEvidence(t)
	for _, i := range r.Items {
		for _, s := range i.Stores {
			for _, value := range s.Snapshot {
				taken[i.Name+" "+value.Name] = value
			}
		}
	}
	for what, want := range map[string]string{
		"store-up version":        "8.5.4",
		"store-up regions":        `{"leaders":10,"regions":30}`,
		"store-low-space regions": "30",
		"store-space disk":        `{"available":"1GiB","capacity":"1.819TiB","used by TiKV":"177GiB"}`,
		"store-slow load":         `{"busy":false,"leaders":10,"receiving snapshots":0,"sending snapshots":0}`,
		"pd-member-healthy urls":  "http://pd-1:2379",
	} {
		if got := taken[what].Value; got != want {
			t.Errorf("%s is %q, want %q", what, got, want)
		}
	}
}
