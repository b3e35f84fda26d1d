package history

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"invariant.dev/operator/api/v1alpha1"
)

// TicketsPrefix is where the API server stores tickets, by namespace and name.
const TicketsPrefix = "/registry/operator.invariant.dev/tickets/"

// Recorder reads every version of every ticket from etcd. It goes on where it was when etcd is back after an outage.
type Recorder struct {
	// Etcd is the client that it reads with; others may use it too.
	Etcd *clientv3.Client

	history *History
	prefix  string
	cancel  context.CancelFunc
	done    chan struct{}
	err     error
}

// Record begins to record what is written from now on into a history, from the etcd at a Unix socket: all tickets of the namespaces
// whose names begin with a prefix.
func Record(ctx context.Context, h *History, socket, namespaces string) (*Recorder, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"unix://" + socket}, DialTimeout: 10 * time.Second, Logger: zap.NewNop(),
		DialKeepAliveTime: time.Second, DialKeepAliveTimeout: 2 * time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("reading etcd at %s: %w", socket, err)
	}
	prefix := TicketsPrefix + namespaces
	now, err := client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return nil, fmt.Errorf("reading etcd at %s: %w", socket, err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &Recorder{Etcd: client, history: h, prefix: prefix, cancel: cancel, done: make(chan struct{})}
	go r.run(ctx, now.Header.Revision+1)
	return r, nil
}

// Stop ends the recording, and says whether a version was missed.
func (r *Recorder) Stop() error {
	r.cancel()
	<-r.done
	if err := r.Etcd.Close(); r.err == nil {
		return err
	}
	return r.err
}

func (r *Recorder) run(ctx context.Context, from int64) {
	defer close(r.done)
	for ctx.Err() == nil {
		watchCtx, end := context.WithCancel(ctx)
		for response := range r.Etcd.Watch(watchCtx, r.prefix, clientv3.WithPrefix(), clientv3.WithRev(from)) {
			if response.CompactRevision > 0 {
				r.err = fmt.Errorf("the versions before revision %d were removed before they were read", response.CompactRevision)
				end()
				return
			}
			for _, event := range response.Events {
				if err := r.note(event); err != nil {
					r.err = err
				}
				from = max(from, event.Kv.ModRevision+1)
			}
		}
		end()
	}
}

func (r *Recorder) note(event *clientv3.Event) error {
	namespace, name, _ := strings.Cut(strings.TrimPrefix(string(event.Kv.Key), TicketsPrefix), "/")
	v := Version{Revision: event.Kv.ModRevision, At: time.Now(), Namespace: namespace, Name: name}
	if event.Type != clientv3.EventTypeDelete {
		v.Ticket = &v1alpha1.Ticket{}
		if err := json.Unmarshal(event.Kv.Value, v.Ticket); err != nil {
			return fmt.Errorf("reading %s at revision %d: %w", event.Kv.Key, event.Kv.ModRevision, err)
		}
		// The API server adds what is left out when it reads.
		v.Ticket.Status.State = cmp.Or(v.Ticket.Status.State, v1alpha1.Open)
	}
	r.history.Write(v)
	return nil
}
