package observe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/restmapper"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// kindRetry is for how long a kind is not looked for again that was not found, or whose objects were not where it said: looking costs
// the API server requests.
const kindRetry = 10 * time.Second

// KindFinder finds the resource of a kind. It is asked again only where what it said does not hold any more.
type KindFinder interface {
	RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error)
}

// KindsOf finds kinds by asking the API server for the one version that they are in. Mappers that know all versions let who looks for
// one wait for the API of another, and go on naming resources that are gone.
func KindsOf(client discovery.ServerResourcesInterfaceWithContext) KindFinder {
	return versionKinds{client}
}

type versionKinds struct {
	client discovery.ServerResourcesInterfaceWithContext
}

// RESTMapping finds the resource of a kind in the first of the versions.
func (v versionKinds) RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	gv := schema.GroupVersion{Group: kind.Group, Version: versions[0]}
	list, err := v.client.ServerResourcesForGroupVersionWithContext(context.Background(), gv.String())
	if apierrors.IsNotFound(err) {
		return nil, &meta.NoKindMatchError{GroupKind: kind, SearchedVersions: versions}
	}
	if err != nil {
		return nil, err
	}
	return restmapper.NewDiscoveryRESTMapper([]*restmapper.APIGroupResources{{
		Group:              metav1.APIGroup{Name: gv.Group, Versions: []metav1.GroupVersionForDiscovery{{GroupVersion: gv.String(), Version: gv.Version}}},
		VersionedResources: map[string][]metav1.APIResource{gv.Version: list.APIResources},
	}}).RESTMapping(kind, versions...)
}

// search is one for the resource of a kind.
type search struct {
	// late is closed when it takes longer than a look waits, and done when it is over; then there is what it found, and when.
	late, done chan struct{}
	at         time.Time
	mapping    *meta.RESTMapping
	err        error
}

func (s *search) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// errKindUnanswered is why a kind is not known whose search takes too long.
var errKindUnanswered = errors.New("no answer in time")

// run ends the search with what a finder finds. It knows no deadline, so that where looks end, the search goes on without them.
func (o *Objects) run(s *search, kind schema.GroupVersionKind) {
	late := time.AfterFunc(syncPatience, func() { close(s.late) })
	mapping, err := o.Kinds.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil && !late.Stop() && !meta.IsNoMatchError(err) {
		err = errKindUnanswered
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	s.at, s.mapping, s.err = o.Clock.Now(), mapping, err
	close(s.done)
}

// search is what is known of a kind, or the search for it that is under way.
func (o *Objects) search(kind schema.GroupVersionKind) *search {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.searches[kind]
	if s != nil && !o.worthRepeating(s) {
		return s
	}
	// What is left was looked for just now, or found: there are no more of them than Invariants, and kinds.
	maps.DeleteFunc(o.searches, func(_ schema.GroupVersionKind, s *search) bool { return o.worthRepeating(s) })
	if o.searches == nil {
		o.searches = map[schema.GroupVersionKind]*search{}
	}
	s = &search{late: make(chan struct{}), done: make(chan struct{})}
	o.searches[kind] = s
	go o.run(s, kind)
	return s
}

// worthRepeating tells whether a search found nothing, and not only just now.
func (o *Objects) worthRepeating(s *search) bool {
	return s.over() && s.err != nil && o.Clock.Since(s.at) >= kindRetry
}

// find finds the resource of a kind. For one that was found it does not wait, nor again for one that it has waited for.
func (o *Objects) find(ctx context.Context, kind schema.GroupVersionKind) (*meta.RESTMapping, error) {
	s := o.search(kind)
	if !s.over() {
		select {
		case <-s.done:
		case <-s.late:
		case <-ctx.Done():
		}
	}
	if !s.over() {
		return nil, errKindUnanswered
	}
	return s.mapping, s.err
}

// forgetKind has a kind looked for anew, where its objects are not found any more.
func (o *Objects) forgetKind(source *v1alpha1.KubernetesSource) {
	o.mu.Lock()
	defer o.mu.Unlock()
	kind := schema.FromAPIVersionAndKind(source.APIVersion, source.Kind)
	if s := o.searches[kind]; s != nil && s.over() && o.Clock.Since(s.at) >= kindRetry {
		delete(o.searches, kind)
	}
}

// mapping is the resource of a source's kind.
func (o *Objects) mapping(ctx context.Context, source *v1alpha1.KubernetesSource) (*meta.RESTMapping, *verdict.Fault) {
	gv, err := schema.ParseGroupVersion(source.APIVersion)
	if err != nil {
		return nil, invalidSource("apiVersion: %v", err)
	}
	mapping, err := o.find(ctx, gv.WithKind(source.Kind))
	if err == nil {
		return mapping, nil
	}
	fault := func(reason verdict.Reason, format string, args ...any) *verdict.Fault {
		return &verdict.Fault{Reason: reason, Message: "spec.source.kubernetes: " + fmt.Sprintf(format, args...)}
	}
	switch {
	case meta.IsNoMatchError(err):
		return nil, fault(verdict.NoSuchKind, "the cluster has no kind %s in %s; if it comes with a CRD, install that; kubectl api-resources has the kinds that there are",
			source.Kind, gv)
	case errors.Is(err, errKindUnanswered):
		return nil, fault(verdict.Timeout, "the API server did not say within %v whether it has the kind %s in %s", syncPatience, source.Kind, gv)
	}
	return nil, fault(verdict.Unreachable, "the API server does not say whether it has the kind %s in %s: %s", source.Kind, gv, apiServerTrouble(err))
}
