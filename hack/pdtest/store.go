package pdtest

import "time"

// State is metapb.StoreState of pingcap/kvproto: what PD wants of a store.
type State int

// The states. PD lists no store that is Tombstone.
const (
	Up State = iota
	Offline
	Tombstone
)

// String is what state_name says, where nothing else is to be said.
func (s State) String() string {
	return [...]string{"Up", "Offline", "Tombstone"}[s]
}

// How PD calls stores that are Up but silent (pkg/core/store.go, and MaxStoreDownTime of pkg/schedule/config/config.go).
const (
	disconnectedAfter = 20 * time.Second
	downAfter         = 30 * time.Minute
	// persistEvery is how often PD writes down when it last heard a store: that is all a restart leaves of heartbeats.
	persistEvery = 5 * time.Minute
)

// Label is where a store is.
type Label struct {
	Key   string `json:"key,omitempty"`
	Value string `json:"value,omitempty"`
}

// Store is what PD remembers of a store over a restart.
type Store struct {
	ID            uint64
	State         State
	Labels        []Label
	Version       string
	Address       string
	PeerAddress   string
	StatusAddress string
	GitHash       string
	DeployPath    string
	Started       time.Time
	// Regions are persisted, too; the scores are those that PD computes from it all.
	RegionCount int
	RegionSize  int64
}

// Stats are what a heartbeat tells of a store, and what PD learns from the heartbeats of its regions. Sizes of
// disks are in bytes, others in MiB.
type Stats struct {
	Capacity, Available, Used      uint64
	LeaderCount                    int
	LeaderSize                     int64
	LearnerCount, PendingPeerCount int
	SlowScore                      uint64
	SendingSnapCount               uint32
	IsBusy                         bool
	RegionScore                    float64
}

type store struct {
	Store
	stats         Stats
	lastHeartbeat time.Time
	// written is the heartbeat that a restart leaves, and writtenAt when this process wrote one down.
	written, writtenAt time.Time
}

// Put registers a store, as TiKV does when it starts; the first bootstraps the cluster. Until its first heartbeat, the
// store reads Down.
func (p *PD) Put(s Store) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bootstrapped = true
	p.stores = append(p.stores, &store{Store: s})
}

// Heartbeat is what a living store sends every 10 seconds.
func (p *PD) Heartbeat(id uint64, stats Stats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.find(id); s != nil {
		s.stats, s.lastHeartbeat = stats, p.now()
		if s.lastHeartbeat.Sub(s.writtenAt) > persistEvery {
			s.written, s.writtenAt = s.lastHeartbeat, s.lastHeartbeat
		}
	}
}

// SetState says what is wanted of a store: Offline takes it out of the cluster, Tombstone is the end of that.
func (p *PD) SetState(id uint64, state State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.find(id); s != nil {
		s.State = state
	}
}

// Restart forgets what PD keeps in memory alone: the stores' statistics, and heartbeats within the last five minutes. Until
// its next heartbeat, a living store reads Disconnected, with 0B of everything.
func (p *PD) Restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.stores {
		s.stats, s.lastHeartbeat, s.writtenAt = Stats{RegionScore: float64(s.RegionSize)}, s.written, time.Time{}
	}
}

func (p *PD) find(id uint64) *store {
	for _, s := range p.stores {
		if s.ID == id {
			return s
		}
	}
	return nil
}

// info is BuildStoreInfo (pkg/response/store.go).
func (s *store) info(now time.Time) storeInfo {
	return storeInfo{
		Store: metaStore{
			ID:             s.ID,
			Address:        s.Address,
			State:          s.State,
			Labels:         s.Labels,
			Version:        s.Version,
			PeerAddress:    s.PeerAddress,
			StatusAddress:  s.StatusAddress,
			GitHash:        s.GitHash,
			StartTimestamp: s.started().Unix(),
			DeployPath:     s.DeployPath,
			LastHeartbeat:  s.heard().UnixNano(),
			NodeState:      s.nodeState(),
			StateName:      s.stateName(now),
		},
		Status: storeStatus{
			Capacity:         byteSize(s.stats.Capacity),
			Available:        byteSize(s.stats.Available),
			UsedSize:         byteSize(s.stats.Used),
			LeaderCount:      s.stats.LeaderCount,
			LeaderWeight:     1,
			LeaderScore:      float64(s.stats.LeaderCount),
			LeaderSize:       s.stats.LeaderSize,
			RegionCount:      s.RegionCount,
			RegionWeight:     1,
			RegionScore:      s.stats.RegionScore,
			RegionSize:       s.RegionSize,
			LearnerCount:     s.stats.LearnerCount,
			PendingPeerCount: s.stats.PendingPeerCount,
			SlowScore:        s.stats.SlowScore,
			SendingSnapCount: s.stats.SendingSnapCount,
			IsBusy:           s.stats.IsBusy,
			StartTS:          s.started(),
			LastHeartbeatTS:  s.heard(),
			Uptime:           duration(max(0, s.heard().Sub(s.started()))),
		},
	}
}

// heard is when PD heard the store last, and started when the store said it did: 1970 where neither is known.
func (s *store) heard() time.Time { return since1970(s.lastHeartbeat) }

func (s *store) started() time.Time { return since1970(s.Started).Truncate(time.Second) }

func since1970(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return t.UTC()
}

// nodeState is metapb.NodeState: Serving, Removing or Removed, and Preparing for a store that was never heard.
func (s *store) nodeState() int {
	switch {
	case s.State == Offline:
		return 2
	case s.State == Tombstone:
		return 3
	case s.lastHeartbeat.IsZero():
		return 0
	}
	return 1
}

// stateName is more than the state where a store that is Up has not been heard for a while.
func (s *store) stateName(now time.Time) string {
	silent := now.Sub(s.heard())
	switch {
	case s.State != Up:
		return s.State.String()
	case silent > downAfter:
		return "Down"
	case silent > disconnectedAfter:
		return "Disconnected"
	}
	return s.State.String()
}
