package observe

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/lru"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// DefaultTimeout is how long an answer may take where an Invariant does not say.
const DefaultTimeout = 5 * time.Second

// maxAtOnce is how many addresses one look reads at the same time: more than one Invariant can name.
const maxAtOnce = 128

// Observer reads sources. It may be used by many goroutines.
type Observer struct {
	// Policy says which addresses may be dialled.
	Policy AddressPolicy
	// PrometheusURL is asked where an Invariant names no Prometheus; empty: there is none.
	PrometheusURL string
	// Secrets reads the Secrets that sources name. Where it is nil, NoSecrets says why they are not read.
	Secrets   SecretReader
	NoSecrets string
	// Objects reads Kubernetes objects.
	Objects ObjectReader
	// Identity is the name of the user that Secrets and Objects are read as, for the commands that an admin is told; it
	// may be empty.
	Identity string

	// resolver is nil for that of this machine.
	resolver *net.Resolver
	clients  *lru.Cache
	silent   silentAPIs
	memory   *Budget
}

// ObjectReader reads the objects that an Invariant of a system names.
type ObjectReader interface {
	Observe(ctx context.Context, system types.NamespacedName, source *v1alpha1.KubernetesSource) verdict.Observation
}

// NewObserver returns an Observer that dials only what the policy admits. Its requests are GET, follow no redirect, use no
// proxy, and ask for no compression, so that the size of an answer is what it says.
func NewObserver(policy AddressPolicy) *Observer {
	return &Observer{Policy: policy, clients: newClientCache(), memory: NewBudget(maxMemory, maxNamespaceMemory)}
}

// TimeoutOf is how long the answers of a spec's source may take.
func TimeoutOf(spec *v1alpha1.InvariantSpec) time.Duration {
	switch {
	case spec.Source.HTTP != nil:
		return spec.Source.HTTP.Timeout.Or(DefaultTimeout)
	case spec.Source.Prometheus != nil:
		return spec.Source.Prometheus.Timeout.Or(DefaultTimeout)
	default:
		return syncPatience
	}
}

// Look is one look at the sources of a cycle: each address is read once, however many Invariants read it, so that
// they judge the same moment.
type Look struct {
	answers map[request]*answer
	objects map[*v1alpha1.KubernetesSource]verdict.Observation
	lease   *Lease
	// prometheusURL is the Observer's.
	prometheusURL string
}

// Look reads all that the specs of a system name. It takes as long as the slowest of it, and ends early when ctx does;
// what it returns then is of no use. It must be released when it is no longer used.
func (o *Observer) Look(ctx context.Context, system types.NamespacedName, specs []*v1alpha1.InvariantSpec) Look {
	look := Look{answers: map[request]*answer{}, objects: map[*v1alpha1.KubernetesSource]verdict.Observation{},
		lease: o.memory.Lease(system.Namespace, maxLookMemory), prometheusURL: o.PrometheusURL}
	timeouts, longest := map[request]time.Duration{}, time.Duration(0)
	for _, spec := range specs {
		for _, r := range look.requests(spec) {
			timeouts[r] = max(timeouts[r], TimeoutOf(spec))
			longest = max(longest, timeouts[r])
			look.answers[r] = nil
		}
	}
	objectsCtx, cancelObjects := context.WithTimeout(ctx, syncPatience)
	defer cancelObjects()
	// Waiting for a place is part of it, so that many slow addresses take no longer than one.
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	keys := o.keyring(system.Namespace, look.lease)
	type got struct {
		request request
		answer  *answer
	}
	results := make(chan got, len(timeouts))
	var group errgroup.Group
	group.SetLimit(maxAtOnce + 1)
	group.Go(func() error {
		o.lookAtObjects(objectsCtx, system, specs, look.objects)
		return nil
	})
	for r, timeout := range timeouts {
		group.Go(func() error {
			results <- got{r, o.get(ctx, keys, r, timeout, look.lease)}
			return nil
		})
	}
	_ = group.Wait()
	close(results)
	for r := range results {
		look.answers[r.request] = r.answer
	}
	return look
}

// lookAtObjects reads the Kubernetes objects that the specs name, at the same time, so that what is waited for takes no time from the rest.
func (o *Observer) lookAtObjects(ctx context.Context, system types.NamespacedName, specs []*v1alpha1.InvariantSpec, seen map[*v1alpha1.KubernetesSource]verdict.Observation) {
	var mu sync.Mutex
	var looks sync.WaitGroup
	for _, spec := range specs {
		source := spec.Source.Kubernetes
		if source == nil || o.Objects == nil {
			continue
		}
		looks.Go(func() {
			observation := o.Objects.Observe(ctx, system, source)
			mu.Lock()
			defer mu.Unlock()
			seen[source] = observation
		})
	}
	looks.Wait()
}

// Hold takes room for so many bytes that were made of what the look saw, until its Release, or nothing and tells so.
func (l Look) Hold(bytes int64) bool { return bytes == 0 || l.lease.Take(bytes) }

// Release gives back the memory that the look holds.
func (l Look) Release() { l.lease.Release() }

// requests are what a spec's source asks for.
func (l Look) requests(spec *v1alpha1.InvariantSpec) []request {
	switch {
	case spec.Source.HTTP != nil:
		return httpRequests(spec.Source.HTTP)
	case spec.Source.Prometheus != nil:
		if r, fault := queryRequest(spec.Source.Prometheus, l.prometheusURL); fault == nil {
			return []request{r}
		}
	}
	return nil
}

// Observation is what the look saw for a spec that was given to it.
func (l Look) Observation(spec *v1alpha1.InvariantSpec) verdict.Observation {
	switch source := spec.Source; {
	case source.HTTP != nil:
		return l.http(source.HTTP)
	case source.Prometheus != nil:
		r, fault := queryRequest(source.Prometheus, l.prometheusURL)
		if fault != nil {
			return verdict.Observation{Fault: fault}
		}
		return l.answers[r].whole(l.answers[r].samples)
	case source.Kubernetes != nil:
		if seen, looked := l.objects[source.Kubernetes]; looked {
			return seen
		}
	}
	return verdict.Observation{Fault: &verdict.Fault{Reason: verdict.InvalidExpression,
		Message: "spec.source: there is no source that can be observed here"}}
}

// httpRequests are the addresses of an http source.
func httpRequests(source *v1alpha1.HTTPSource) []request {
	if source.URL != "" {
		return []request{newRequest(source.URL, source.Access)}
	}
	list := make([]request, 0, len(source.Endpoints))
	for _, endpoint := range source.Endpoints {
		list = append(list, newRequest(endpoint.URL, source.Access))
	}
	return list
}

// http is what was seen of an http source.
func (l Look) http(source *v1alpha1.HTTPSource) verdict.Observation {
	if source.URL != "" {
		a := l.answers[newRequest(source.URL, source.Access)]
		return a.whole(a.body)
	}
	o := verdict.Observation{Readings: make([]verdict.Reading, 0, len(source.Endpoints))}
	for _, endpoint := range source.Endpoints {
		o.Readings = append(o.Readings, l.answers[newRequest(endpoint.URL, source.Access)].reading(endpoint))
	}
	return o
}

// body is the answer of an address that speaks for all stores.
func (a *answer) body() verdict.Observation {
	if a.fault != nil {
		return verdict.Observation{Fault: a.fault}
	}
	if !a.parse() {
		return verdict.Observation{Fault: a.notJSON()}
	}
	return verdict.Observation{Readings: []verdict.Reading{{Value: a.value}}}
}

// reading is what is known of a store that answers for itself: that it does not answer is a reading too. That the monitor
// could not ask says nothing about the store.
func (a *answer) reading(endpoint v1alpha1.Endpoint) verdict.Reading {
	value := map[string]any{
		"storeID": endpoint.StoreID,
		"ok":      a.fault == nil,
		"status":  int64(a.status),
		"body":    nil,
		"error":   "",
	}
	if a.fault != nil {
		value["error"] = a.fault.Error()
	}
	if a.parse() {
		value["body"] = a.value
	} else if a.content != nil {
		text, room := a.text()
		if !room {
			return verdict.Reading{Value: value, Fault: tooMuchTogether(a.target)}
		}
		value["body"] = text
	}
	if a.unasked {
		return verdict.Reading{Value: value, Fault: a.fault}
	}
	return verdict.Reading{Value: value}
}

// looksLike guesses what a body is that is not JSON.
func looksLike(body []byte) string {
	for _, c := range body {
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case '<':
			return " but looks like HTML: is this the address of the API?"
		}
		return ""
	}
	return ": it is empty"
}
