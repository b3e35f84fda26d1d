// Package pdtest is an HTTP server for tests that answers as TiKV's PD does, byte for byte.
//
// It has what Invariants read: GET /pd/api/v1/stores, /pd/api/v1/health and /pd/api/v1/members. What it knows of a
// store comes about as in PD: by the heartbeats that it hears, and less of it after a restart. The comments name the
// files of github.com/tikv/pd that it follows, as they were in August 2026 (commit a186e0cc61de). PD writes times in
// the time zone of its machine; that of this one is UTC.
package pdtest

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// PD is a PD server. Create it with New. Its methods may be called while it answers.
type PD struct {
	mux *http.ServeMux

	mu           sync.Mutex
	now          func() time.Time
	bootstrapped bool
	noLeader     bool
	unhealthy    map[string]bool
	stores       []*store
}

// New returns the PD of a cluster that no TiKV has bootstrapped yet, of three members that are well, of which pd-1 leads.
// It takes the time from now.
func New(now func() time.Time) *PD {
	p := &PD{mux: http.NewServeMux(), now: now, unhealthy: map[string]bool{}}
	p.mux.HandleFunc("GET /pd/api/v1/stores", p.byLeader(p.getStores))
	p.mux.HandleFunc("GET /pd/api/v1/members", p.byLeader(p.getMembers))
	p.mux.HandleFunc("GET /pd/api/v1/health", p.getHealth)
	return p
}

// ServeHTTP answers as PD does.
func (p *PD) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// LoseLeader leaves PD without a leader: what only the leader may answer, nobody does.
func (p *PD) LoseLeader() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noLeader = true
}

// ElectLeader ends what LoseLeader began. The new leader is a restarted one as far as stores go: see Restart.
func (p *PD) ElectLeader() {
	p.Restart()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noLeader = false
}

// SetHealth says whether the member pd-0, pd-1 or pd-2 is well.
func (p *PD) SetHealth(name string, healthy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unhealthy[name] = !healthy
}

// byLeader answers what only the leader may: any other member passes such requests on to it. Without a leader, PD says
// so after waiting for one for 3 seconds; here it says so at once (redirector.ServeHTTP and waitForLeader of
// pkg/utils/apiutil/serverapi/middleware.go).
func (p *PD) byLeader(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		noLeader := p.noLeader
		p.mu.Unlock()
		if noLeader {
			http.Error(w, "[PD:apiutil:ErrRedirectNoLeader]redirect finds no leader", http.StatusServiceUnavailable)
			return
		}
		next(w, r)
	}
}

// getStores lists the stores that are not Tombstone, in no order (storesHandler.GetAllStores of server/api/store.go). Of a
// cluster that is not bootstrapped it says so (clusterMiddleware.middleware of server/api/middleware.go).
func (p *PD) getStores(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.bootstrapped {
		writeJSON(w, http.StatusInternalServerError, "[PD:cluster:ErrNotBootstrapped]TiKV cluster not bootstrapped, please start TiKV first")
		return
	}
	infos := storesInfo{Stores: []storeInfo{}}
	for _, s := range p.stores {
		if s.State != Tombstone {
			infos.Stores = append(infos.Stores, s.info(p.now()))
		}
	}
	infos.Count = len(infos.Stores)
	writeJSON(w, http.StatusOK, infos)
}

// getHealth says which members answer a ping (healthHandler.GetHealthStatus of server/api/health.go). Every member answers it
// by itself, without asking the leader.
func (p *PD) getHealth(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	healths := []health{}
	for _, m := range theMembers() {
		healths = append(healths, health{m.Name, m.MemberID, m.ClientURLs, !p.unhealthy[m.Name]})
	}
	writeJSON(w, http.StatusOK, healths)
}

// getMembers lists the members and says who leads (memberHandler.GetMembers of server/api/member.go).
func (p *PD) getMembers(w http.ResponseWriter, _ *http.Request) {
	list := theMembers()
	writeJSON(w, http.StatusOK, members{
		Header: header{ClusterID: 7460000000000000001}, Members: list, Leader: &list[1], EtcdLeader: &list[1]})
}

// theMembers have IDs that no int64 holds: PD's are random 64-bit numbers.
func theMembers() []member {
	var list []member
	for i, name := range []string{"pd-0", "pd-1", "pd-2"} {
		list = append(list, member{
			Name:          name,
			MemberID:      1<<63 + uint64(i),
			PeerURLs:      []string{"http://" + name + ":2380"},
			ClientURLs:    []string{"http://" + name + ":2379"},
			DeployPath:    "/pd",
			BinaryVersion: "v8.5.4",
			GitHash:       "d4e5f6",
		})
	}
	return list
}

// writeJSON writes what render.New(render.Options{IndentJSON: true}) of unrolled/render does, which PD answers with (server/api/router.go). PD
// compresses nothing.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
