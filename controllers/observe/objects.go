package observe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/clock"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// Labels with which an admin says what Invariants may see. ObservesLabel, on a namespace and with the value ObservesCluster, lets its
// Invariants see the objects of other namespaces and those that are in none. AggregateLabel, with the value "true", makes a
// ClusterRole part of what the monitor may read.
const (
	ObservesLabel   = "operator.invariant.dev/observes"
	ObservesCluster = "cluster"
	AggregateLabel  = "operator.invariant.dev/aggregate-to-monitor"
)

const (
	// syncPatience is how long a look waits for the first list of what nobody has watched before.
	syncPatience = 2 * time.Second
	// maxWatches is how many watches the Invariants of one namespace may need together.
	maxWatches = 100
)

// Objects reads Kubernetes objects from watches of its own: a look costs the API server nothing. Watches are shared, begin when
// a look first needs them, and end when no system needs them any more. It may be used by many goroutines.
type Objects struct {
	// Client lists and watches, as a user that may read no more than Invariants may.
	Client dynamic.Interface
	// Kinds finds the resource of a kind.
	Kinds KindFinder
	// Clock tells the time.
	Clock clock.PassiveClock
	// Unconfined: Invariants see all that the Client may read, wherever it is.
	Unconfined bool

	mu sync.Mutex
	// memory is what watched objects take, and those that are listed.
	memory *Budget
	// turns are those of lists.
	turns *turns
	// watches are those that run.
	watches map[watchKey]*objectWatch
	// needs are the watches that each source of a system needs.
	needs map[types.NamespacedName]map[string][]watchKey
	// searches are those for kinds: what was found, what was not found of late, and what is under way.
	searches map[schema.GroupVersionKind]*search
}

// watchKey is what one watch is of.
type watchKey struct {
	resource                      schema.GroupVersionResource
	namespace, selector, onlyName string
}

func (k watchKey) String() string {
	text := k.resource.GroupResource().String()
	if k.namespace != "" {
		text += " in namespace " + k.namespace
	}
	return text
}

// Observe reads what an Invariant of a system names, and goes on watching it until Keep says that nobody needs it. The readings are
// ordered by namespace and name, and must not be changed.
func (o *Objects) Observe(ctx context.Context, system types.NamespacedName, source *v1alpha1.KubernetesSource) verdict.Observation {
	keys, fault := o.resolve(ctx, system, source)
	if fault != nil {
		if fault.Reason == verdict.Forbidden {
			o.drop(system, source)
		}
		return verdict.Observation{Fault: fault}
	}
	watches, fault := o.use(system, fingerprint(source), keys)
	if fault != nil {
		return verdict.Observation{Fault: fault}
	}
	var seen verdict.Observation
	var versions []string
	for _, w := range watches {
		readings, version, fault := w.read(ctx)
		if fault != nil {
			if fault.Reason == verdict.NoSuchKind {
				o.forgetKind(source)
			}
			return verdict.Observation{Fault: fault}
		}
		seen.Readings = append(seen.Readings, readings...)
		versions = append(versions, version)
	}
	seen.Version = strings.Join(versions, ",")
	return seen
}

// Keep ends the watches that a system does not need for the sources that it still has.
func (o *Objects) Keep(system types.NamespacedName, sources []*v1alpha1.KubernetesSource) {
	o.mu.Lock()
	defer o.mu.Unlock()
	needs := o.needs[system]
	if len(needs) == 0 {
		return
	}
	kept := make(map[string]bool, len(sources))
	for _, source := range sources {
		kept[fingerprint(source)], kept[labelsFor(source)] = true, true
	}
	before := len(needs)
	for f := range needs {
		if !kept[f] {
			delete(needs, f)
		}
	}
	if len(needs) == before {
		return
	}
	if len(needs) == 0 {
		delete(o.needs, system)
	}
	o.stopUnneeded()
}

// drop ends the watches of a source that may not be seen any more.
func (o *Objects) drop(system types.NamespacedName, source *v1alpha1.KubernetesSource) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.needs[system], fingerprint(source))
	o.stopUnneeded()
}

// Watches is how many watches there are.
func (o *Objects) Watches() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.watches)
}

// fingerprint is the same for sources that name the same.
func fingerprint(source *v1alpha1.KubernetesSource) string {
	return fmt.Sprintf("%q %q %q %q", source.APIVersion, source.Kind, source.Namespaces, metav1.FormatLabelSelector(source.Selector))
}

// labelsFor stands for the labels that say whether a source may look elsewhere.
func labelsFor(source *v1alpha1.KubernetesSource) string { return "labels for " + fingerprint(source) }

// resolve finds out what to watch for a source, and whether a system's Invariants may see it.
func (o *Objects) resolve(ctx context.Context, system types.NamespacedName, source *v1alpha1.KubernetesSource) ([]watchKey, *verdict.Fault) {
	selector, err := metav1.LabelSelectorAsSelector(source.Selector)
	if err != nil {
		return nil, invalidSource("selector: %v", err)
	}
	if source.Selector == nil {
		selector = nil
	}
	mapping, fault := o.mapping(ctx, source)
	if fault != nil {
		return nil, fault
	}
	if mapping.Resource.GroupResource() == (schema.GroupResource{Resource: "secrets"}) {
		return nil, &verdict.Fault{Reason: verdict.Forbidden,
			Message: "spec.source.kubernetes: Secrets are never read as objects: what they hold would stand in messages and tickets"}
	}
	namespaces, elsewhere := source.Namespaces, false
	switch {
	case mapping.Scope.Name() == meta.RESTScopeNameRoot:
		if len(namespaces) > 0 && !slices.Contains(namespaces, "*") {
			return nil, invalidSource("namespaces: objects of kind %s are in no namespace: leave it out", source.Kind)
		}
		namespaces, elsewhere = []string{metav1.NamespaceAll}, true
	case len(namespaces) == 0:
		namespaces = []string{system.Namespace}
	case slices.Contains(namespaces, "*"):
		namespaces, elsewhere = []string{metav1.NamespaceAll}, true
	default:
		elsewhere = slices.ContainsFunc(namespaces, func(n string) bool { return n != system.Namespace })
	}
	if elsewhere && !o.Unconfined {
		if fault := o.admitted(ctx, system, source); fault != nil {
			return nil, fault
		}
	}
	keys := make([]watchKey, 0, len(namespaces))
	for _, namespace := range slices.Sorted(slices.Values(namespaces)) {
		key := watchKey{resource: mapping.Resource, namespace: namespace}
		if selector != nil {
			key.selector = selector.String()
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func invalidSource(format string, args ...any) *verdict.Fault {
	return &verdict.Fault{Reason: verdict.InvalidExpression, Message: "spec.source.kubernetes." + fmt.Sprintf(format, args...)}
}

// admitted tells whether an admin let the Invariants of a namespace look outside it.
func (o *Objects) admitted(ctx context.Context, system types.NamespacedName, source *v1alpha1.KubernetesSource) *verdict.Fault {
	key := watchKey{resource: schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, onlyName: system.Namespace}
	watches, fault := o.use(system, labelsFor(source), []watchKey{key})
	if fault != nil {
		return fault
	}
	readings, _, fault := watches[0].read(ctx)
	if fault != nil {
		return fault
	}
	for _, reading := range readings {
		if labelOf(reading.Value, ObservesLabel) == ObservesCluster {
			return nil
		}
	}
	return &verdict.Fault{Reason: verdict.Forbidden, Message: fmt.Sprintf("spec.source.kubernetes: Invariants of namespace %[1]s see the objects of "+
		"%[1]s only. An admin of the cluster lets them see all with: kubectl label namespace %[1]s %[2]s=%[3]s", system.Namespace, ObservesLabel, ObservesCluster)}
}

func labelOf(object any, label string) string {
	fields, _ := object.(map[string]any)
	metadata, _ := fields["metadata"].(map[string]any)
	labels, _ := metadata["labels"].(map[string]any)
	value, _ := labels[label].(string)
	return value
}

// use takes note that a system needs watches for something, and starts those that do not run.
func (o *Objects) use(system types.NamespacedName, what string, keys []watchKey) ([]*objectWatch, *verdict.Fault) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.watches == nil {
		o.watches, o.needs = map[watchKey]*objectWatch{}, map[types.NamespacedName]map[string][]watchKey{}
		o.memory, o.turns = NewBudget(maxWatched, maxWatchedPerNamespace), newTurns()
	}
	changed := !slices.Equal(o.needs[system][what], keys)
	if changed && o.tooMany(system.Namespace, keys) {
		return nil, &verdict.Fault{Reason: verdict.TooLarge, Message: fmt.Sprintf("spec.source.kubernetes: the Invariants of namespace %s need more than %d watches "+
			"together; use fewer selectors, kinds or namespaces, or namespaces: [\"*\"]", system.Namespace, maxWatches)}
	}
	if changed {
		if o.needs[system] == nil {
			o.needs[system] = map[string][]watchKey{}
		}
		o.needs[system][what] = keys
		o.stopUnneeded()
	}
	watches := make([]*objectWatch, 0, len(keys))
	for _, key := range keys {
		w := o.watches[key]
		if w == nil || w.worthRestarting() {
			if w != nil {
				w.stop()
			}
			w = o.start(key, system.Namespace)
			o.watches[key] = w
		}
		watches = append(watches, w)
	}
	return watches, nil
}

// tooMany tells whether the systems of a namespace would need too many watches with these.
func (o *Objects) tooMany(namespace string, keys []watchKey) bool {
	needed := o.needed(func(system types.NamespacedName) bool { return system.Namespace == namespace })
	return needed.Insert(keys...).Len() > maxWatches
}

// stopUnneeded ends the watches that no system needs.
func (o *Objects) stopUnneeded() {
	needed := o.needed(func(types.NamespacedName) bool { return true })
	for key, w := range o.watches {
		if !needed.Has(key) {
			w.stop()
			delete(o.watches, key)
		}
	}
}

// needed are the watches that some systems need.
func (o *Objects) needed(of func(system types.NamespacedName) bool) sets.Set[watchKey] {
	needed := sets.New[watchKey]()
	for system, needs := range o.needs {
		if !of(system) {
			continue
		}
		for _, keys := range needs {
			needed.Insert(keys...)
		}
	}
	return needed
}

// narrow makes a list or a watch select what the key says.
func (k watchKey) narrow(options *metav1.ListOptions) {
	options.LabelSelector = k.selector
	if k.onlyName != "" {
		options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, k.onlyName).String()
	}
}
