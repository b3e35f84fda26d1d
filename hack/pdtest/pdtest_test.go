package pdtest

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// The files in testdata hold what PD's own code answered: BuildStoreInfo, its types and its renderer, run on the
// same stores.

// at is the moment of those answers.
var at = time.Unix(0, 1795675249215372249).UTC()

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// get is what PD answers to a GET.
func get(t *testing.T, p *PD, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	return w
}

func wantAnswer(t *testing.T, p *PD, path string, status int, contentType, body string) {
	t.Helper()
	w := get(t, p, path)
	if w.Code != status || w.Header().Get("Content-Type") != contentType {
		t.Errorf("GET %s: %d %s; want %d %s", path, w.Code, w.Header().Get("Content-Type"), status, contentType)
	}
	if got := w.Body.String(); got != body {
		t.Errorf("GET %s answers\n%s\nwant\n%s", path, got, body)
	}
}

// recorded is what PD's own code answered.
func recorded(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const jsonType = "application/json; charset=UTF-8"

func plain(id uint64) Store {
	name := "tikv-" + string(rune('0'+id))
	return Store{
		ID: id, Version: "8.5.4", Address: name + ":20160", PeerAddress: name + ":20160", StatusAddress: name + ":20180",
		GitHash: "a1b2c3", DeployPath: "/tikv", Started: time.Unix(1767225600, 0),
	}
}

func TestStoresInEveryStateAreListedAsPDsOwnCodeListsThem(t *testing.T) {
	c := &clock{}
	p := New(c.Now)
	one := plain(1)
	one.Labels = []Label{{"zone", "a"}, {"host", "<h1>&"}}
	one.RegionCount, one.RegionSize = 31, 2976
	four := plain(4)
	four.RegionCount, four.RegionSize = 31, 2976
	for _, s := range []Store{plain(6), one, four, plain(5), {ID: 7, Address: "tikv-7:20160"}} {
		p.Put(s)
	}
	c.set(at.Add(-31 * time.Minute))
	p.Heartbeat(5, Stats{})
	p.Heartbeat(6, Stats{})
	c.set(at.Add(-25 * time.Second))
	p.Heartbeat(4, Stats{RegionScore: 2976})
	c.set(at.Add(-3 * time.Second))
	p.Heartbeat(1, Stats{
		Capacity: 2000000000000, Available: 1400000000000, Used: 500 << 30, LeaderCount: 10, LeaderSize: 960, LearnerCount: 1,
		PendingPeerCount: 2, SlowScore: 1, SendingSnapCount: 1, IsBusy: true, RegionScore: 3542.750453008731,
	})
	p.SetState(6, Offline)
	c.set(at)
	wantAnswer(t, p, "/pd/api/v1/stores", http.StatusOK, jsonType, recorded(t, "stores.json"))

	for _, id := range []uint64{1, 4, 5, 6, 7} {
		p.SetState(id, Tombstone)
	}
	wantAnswer(t, p, "/pd/api/v1/stores", http.StatusOK, jsonType, recorded(t, "empty.json"))
}

func TestMembersAndTheirHealthAreListedAsPDsOwnCodeListsThem(t *testing.T) {
	p := New(time.Now)
	p.SetHealth("pd-2", false)
	wantAnswer(t, p, "/pd/api/v1/health", http.StatusOK, jsonType, recorded(t, "health.json"))
	wantAnswer(t, p, "/pd/api/v1/members", http.StatusOK, jsonType, recorded(t, "members.json"))
}

func TestWithoutBootstrapOrLeaderTheAnswersArePDsErrors(t *testing.T) {
	p := New(time.Now)
	wantAnswer(t, p, "/pd/api/v1/stores", http.StatusInternalServerError, jsonType, recorded(t, "not-bootstrapped.json"))
	p.LoseLeader()
	for _, path := range []string{"/pd/api/v1/stores", "/pd/api/v1/members"} {
		wantAnswer(t, p, path, http.StatusServiceUnavailable, "text/plain; charset=utf-8", "[PD:apiutil:ErrRedirectNoLeader]redirect finds no leader\n")
	}
	if w := get(t, p, "/pd/api/v1/health"); w.Code != http.StatusOK {
		t.Errorf("health answers %d without a leader; every member answers it by itself", w.Code)
	}
	p.ElectLeader()
	if w := get(t, p, "/pd/api/v1/members"); w.Code != http.StatusOK {
		t.Errorf("members answers %d with a leader", w.Code)
	}
}

func TestARestartLeavesOfAStoreWhatWasWrittenDown(t *testing.T) {
	c := &clock{now: at}
	p := New(c.Now)
	p.Put(plain(1))
	state := func() (string, string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		info := p.stores[0].info(c.Now())
		return info.Store.StateName, info.Status.Capacity.String()
	}
	want := func(when, name, capacity string) {
		t.Helper()
		if gotName, gotCapacity := state(); gotName != name || gotCapacity != capacity {
			t.Errorf("%s it is %s with %s; want %s with %s", when, gotName, gotCapacity, name, capacity)
		}
	}
	want("before its first heartbeat", "Down", "0B")
	for i := range 60 {
		c.set(at.Add(time.Duration(i) * 10 * time.Second))
		p.Heartbeat(1, Stats{Capacity: 1 << 40})
	}
	want("while it lives", "Up", "1TiB")
	p.Restart()
	want("after a restart", "Disconnected", "0B")
	p.Heartbeat(1, Stats{Capacity: 1 << 40})
	want("at its next heartbeat", "Up", "1TiB")
	c.set(c.Now().Add(time.Hour))
	p.Restart()
	want("when PD was away for an hour", "Down", "0B")
}

func TestSizesAreWrittenAsPDWritesThem(t *testing.T) {
	for size, want := range map[byteSize]string{
		0: "0B", 1: "1B", 100: "100B", 1023: "1023B", 1024: "1KiB", 1048535: "1024KiB", 1048576: "1MiB", 1048534056: "1000MiB",
		2000000000000: "1.819TiB", 1 << 62: "4EiB",
	} {
		if got := size.String(); got != want {
			t.Errorf("%d bytes are written %s, want %s", uint64(size), got, want)
		}
	}
}
