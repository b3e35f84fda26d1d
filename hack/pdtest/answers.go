package pdtest

import (
	"encoding/json"
	"fmt"
	"time"
)

// The answers, with the fields of PD's own types, in their order and with their omitempty.

// metaStore is metapb.Store of pingcap/kvproto with what response.MetaStore (pkg/response/store.go) adds.
type metaStore struct {
	ID             uint64  `json:"id,omitempty"`
	Address        string  `json:"address,omitempty"`
	State          State   `json:"state,omitempty"`
	Labels         []Label `json:"labels,omitempty"`
	Version        string  `json:"version,omitempty"`
	PeerAddress    string  `json:"peer_address,omitempty"`
	StatusAddress  string  `json:"status_address,omitempty"`
	GitHash        string  `json:"git_hash,omitempty"`
	StartTimestamp int64   `json:"start_timestamp,omitempty"`
	DeployPath     string  `json:"deploy_path,omitempty"`
	LastHeartbeat  int64   `json:"last_heartbeat,omitempty"`
	NodeState      int     `json:"node_state,omitempty"`
	StateName      string  `json:"state_name"`
}

// storeStatus is response.StoreStatus (pkg/response/store.go), without the fields that tests have no use for and that PD
// leaves out when they are zero.
type storeStatus struct {
	Capacity         byteSize  `json:"capacity"`
	Available        byteSize  `json:"available"`
	UsedSize         byteSize  `json:"used_size"`
	LeaderCount      int       `json:"leader_count"`
	LeaderWeight     float64   `json:"leader_weight"`
	LeaderScore      float64   `json:"leader_score"`
	LeaderSize       int64     `json:"leader_size"`
	RegionCount      int       `json:"region_count"`
	RegionWeight     float64   `json:"region_weight"`
	RegionScore      float64   `json:"region_score"`
	RegionSize       int64     `json:"region_size"`
	LearnerCount     int       `json:"learner_count,omitempty"`
	PendingPeerCount int       `json:"pending_peer_count,omitempty"`
	SlowScore        uint64    `json:"slow_score,omitempty"`
	SendingSnapCount uint32    `json:"sending_snap_count,omitempty"`
	IsBusy           bool      `json:"is_busy,omitempty"`
	StartTS          time.Time `json:"start_ts"`
	LastHeartbeatTS  time.Time `json:"last_heartbeat_ts"`
	Uptime           duration  `json:"uptime,omitempty"`
}

// storeInfo is response.StoreInfo, and storesInfo response.StoresInfo (pkg/response/store.go).
type storeInfo struct {
	Store  metaStore   `json:"store"`
	Status storeStatus `json:"status"`
}

type storesInfo struct {
	Count  int         `json:"count"`
	Stores []storeInfo `json:"stores"`
}

// health is api.Health (server/api/health.go).
type health struct {
	Name       string   `json:"name"`
	MemberID   uint64   `json:"member_id"`
	ClientURLs []string `json:"client_urls"`
	Health     bool     `json:"health"`
}

// member is pdpb.Member, header pdpb.ResponseHeader, and members pdpb.GetMembersResponse of pingcap/kvproto.
type member struct {
	Name          string   `json:"name,omitempty"`
	MemberID      uint64   `json:"member_id,omitempty"`
	PeerURLs      []string `json:"peer_urls,omitempty"`
	ClientURLs    []string `json:"client_urls,omitempty"`
	DeployPath    string   `json:"deploy_path,omitempty"`
	BinaryVersion string   `json:"binary_version,omitempty"`
	GitHash       string   `json:"git_hash,omitempty"`
}

type header struct {
	ClusterID uint64 `json:"cluster_id,omitempty"`
}

type members struct {
	Header     header   `json:"header"`
	Members    []member `json:"members,omitempty"`
	Leader     *member  `json:"leader,omitempty"`
	EtcdLeader *member  `json:"etcd_leader,omitempty"`
}

// byteSize is a size in bytes, written as typeutil.ByteSize (pkg/utils/typeutil/size.go) writes it, which is BytesSize of
// docker/go-units: four significant digits and a binary unit, such as 1.819TiB.
type byteSize uint64

func (b byteSize) String() string {
	size, unit := float64(b), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for size >= 1024 && unit < len(units)-1 {
		size /= 1024
		unit++
	}
	return fmt.Sprintf("%.4g%s", size, units[unit])
}

func (b byteSize) MarshalJSON() ([]byte, error) { return json.Marshal(b.String()) }

// duration is written as typeutil.Duration (pkg/utils/typeutil/duration.go) writes it, such as 1h2m3.5s.
type duration time.Duration

func (d duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }
