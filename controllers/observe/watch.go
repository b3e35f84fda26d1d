package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"invariant.dev/operator/controllers/verdict"
)

const (
	// maxObjects is how many objects a watch holds.
	maxObjects = 10_000
	// answerPatience is how long the API server may take to answer a list or to begin a watch, before what is held counts as
	// out of date.
	answerPatience = 10 * time.Second
	// restartAfter is how long a watch that ended, because there was too much, is left alone before the next look begins it anew.
	restartAfter = 30 * time.Second
	// maxBackoff is the longest delay between two attempts to list and watch.
	maxBackoff = 10 * time.Second
)

// lastApplied is the annotation in which kubectl apply repeats the whole object.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// watchNumber tells watches of the same apart, one after the other.
var watchNumber atomic.Int64

// objectWatch holds the objects that one watch sees, and knows whether it still sees them.
type objectWatch struct {
	key      watchKey
	resource dynamic.ResourceInterface
	clock    clock.PassiveClock
	cancel   context.CancelFunc
	started  time.Time
	number   int64
	// turns are those of all lists, and namespace is whose Invariants this one is for.
	turns     *turns
	namespace string

	mu      sync.Mutex
	objects map[objectKey]*unstructured.Unstructured
	// memory is what the objects take, sizes what each does, and size all.
	memory *Lease
	sizes  map[objectKey]int64
	size   int64
	// coming is what a list takes that is under way.
	coming *Lease
	// changes counts what happened to objects.
	changes int64
	// listed: all objects have been seen once.
	listed bool
	// ended: there was too much, or nobody needs it any more, and it is over, since endedAt.
	ended   bool
	endedAt time.Time
	// asked is since when an answer of the API server is awaited, or where queued the turn to ask; zero: neither is.
	asked  time.Time
	queued bool
	// listFault and watchFault are why the last list and the last watch failed. A list that succeeds does not mend a watch.
	listFault, watchFault error
	// settled is closed when the first list has succeeded or failed.
	settled  chan struct{}
	readings []verdict.Reading
	readAt   int64
}

// objectKey is what an object is known by.
type objectKey struct{ namespace, name string }

// start begins a watch, whose objects take from the memory of a namespace's Invariants. It goes on until it is stopped.
func (o *Objects) start(key watchKey, namespace string) *objectWatch {
	// What goes wrong stands in the conditions of the Invariants.
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logr.Discard()))
	w := &objectWatch{key: key, clock: o.Clock, cancel: cancel, started: o.Clock.Now(), number: watchNumber.Add(1),
		objects: map[objectKey]*unstructured.Unstructured{}, sizes: map[objectKey]int64{},
		turns: o.turns, namespace: namespace, memory: o.memory.Lease(namespace, maxWatchedPerNamespace),
		coming: o.memory.Lease(namespace, maxWatchedPerNamespace), settled: make(chan struct{}), readAt: -1}
	w.resource = o.Client.Resource(key.resource)
	if key.namespace != "" {
		w.resource = o.Client.Resource(key.resource).Namespace(key.namespace)
	}
	reflector := cache.NewReflectorWithOptions(w, &unstructured.Unstructured{}, w, cache.ReflectorOptions{
		Name:            "observe",
		TypeDescription: key.String(),
		Logger:          ptr.To(logr.Discard()),
		Backoff:         &wait.Backoff{Duration: 500 * time.Millisecond, Cap: maxBackoff, Steps: 10, Factor: 2, Jitter: 0.5},
	})
	go reflector.RunWithContext(ctx)
	return w
}

func (w *objectWatch) stop() {
	w.cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finish()
}

// end ends a watch that sees too much. It is begun anew by a later look, in case there is less.
func (w *objectWatch) end(why error) {
	w.cancel()
	w.finish()
	w.listFault = why
	w.settle()
}

// finish holds nothing, now and later.
func (w *objectWatch) finish() {
	w.coming.Release()
	w.forget()
	w.ended, w.endedAt = true, w.clock.Now()
}

// forget holds none of the objects that there were.
func (w *objectWatch) forget() {
	w.memory.Release()
	w.objects, w.sizes, w.size = map[objectKey]*unstructured.Unstructured{}, map[objectKey]int64{}, 0
	w.readings, w.readAt = nil, -1
	w.changes++
	w.listed = false
}

// worthRestarting tells whether the watch has ended by itself. One that only fails is tried again for ever, with delays that looks do
// not cut short: a hundred watches that may not be read would use up the requests of all others.
func (w *objectWatch) worthRestarting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended && w.clock.Since(w.endedAt) >= restartAfter
}

// read is what the watch sees, which is another whenever the version is; or why it sees nothing. For the first list it waits until ctx ends, but
// not again at every look.
func (w *objectWatch) read(ctx context.Context) ([]verdict.Reading, string, *verdict.Fault) {
	if patience := syncPatience - w.clock.Since(w.started); patience > 0 {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		select {
		case <-w.settled:
		case <-ctx.Done():
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if fault := w.blind(); fault != nil {
		return nil, "", fault
	}
	if w.readAt != w.changes {
		w.readings, w.readAt = w.sorted(), w.changes
	}
	return w.readings, fmt.Sprintf("%d.%d", w.number, w.changes), nil
}

// blind says why what is held is not what there is, or nil.
func (w *objectWatch) blind() *verdict.Fault {
	switch {
	case w.fault() != nil:
		return w.explain(w.fault())
	case w.overdue() && w.queued:
		return &verdict.Fault{Reason: verdict.NotSynced, Message: fmt.Sprintf("watch %s: other lists come first: the monitor reads one of a namespace, and %d of "+
			"all, at a time; a later check may have them", w.key, maxLists)}
	case w.overdue():
		return &verdict.Fault{Reason: verdict.Timeout, Message: fmt.Sprintf("watch %s: no answer of the API server within %v", w.key, answerPatience)}
	case !w.listed:
		return &verdict.Fault{Reason: verdict.NotSynced, Message: fmt.Sprintf("watch %s: the API server has not listed all of them yet; a later check may have them", w.key)}
	}
	return nil
}

// overdue tells whether something is awaited for so long that what is held may be out of date.
func (w *objectWatch) overdue() bool {
	return !w.asked.IsZero() && w.clock.Since(w.asked) > answerPatience
}

func (w *objectWatch) fault() error { return cmp.Or(w.listFault, w.watchFault) }

var (
	errTooMany  = errors.New("too many objects")
	errTooLarge = errors.New("objects too large")
	errNoList   = errors.New("an answer that is no list")
)

// isTooMuch tells whether that is why a list failed, which another just after it would too.
func isTooMuch(err error) bool {
	return errors.Is(err, errTooMany) || errors.Is(err, errTooLarge) || errors.Is(err, errPageTooLarge)
}

// explain says why the API server gives no objects, and what an admin can do about it.
func (w *objectWatch) explain(err error) *verdict.Fault {
	resource := w.key.resource.GroupResource()
	fault := func(reason verdict.Reason, format string, args ...any) *verdict.Fault {
		return &verdict.Fault{Reason: reason, Message: fmt.Sprintf("watch %s: ", w.key) + fmt.Sprintf(format, args...)}
	}
	switch {
	case errors.Is(err, errTooMany):
		return fault(verdict.TooLarge, "there are more than %d of them; a selector can name fewer", maxObjects)
	case errors.Is(err, errTooLarge):
		return fault(verdict.TooLarge, "together with what else is watched for this namespace, or for all, they take more memory than the monitor has for that; "+
			"a selector can name fewer")
	case errors.Is(err, errPageTooLarge):
		return fault(verdict.TooLarge, "the API server answers more than %d MiB although it is asked for one of them; a selector can leave out what is so large",
			maxPageBytes>>20)
	case apierrors.IsUnauthorized(err):
		return fault(verdict.Forbidden, "the API server does not take the monitor's credentials; they may have been revoked: restart the monitor")
	case apierrors.IsForbidden(err):
		return fault(verdict.Forbidden, "they may not be read. An admin of the cluster allows it to the monitor with: "+
			"kubectl create clusterrole operator-observes-%[1]s --verb=get,list,watch --resource=%[2]s && kubectl label clusterrole operator-observes-%[1]s %[3]s=true",
			resource.Resource, resource, AggregateLabel)
	case apierrors.IsNotFound(err):
		return fault(verdict.NoSuchKind, "the cluster has no such kind any more; if it came with a CRD, install that again")
	case apierrors.IsMethodNotSupported(err):
		return fault(verdict.NoSuchKind, "the API server cannot list and watch them")
	case apierrors.IsTooManyRequests(err), apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		return fault(verdict.Timeout, "the API server is too busy: it answers %s", apiServerTrouble(err))
	}
	return fault(verdict.Unreachable, "the API server does not answer as it should: %s", apiServerTrouble(err))
}

// apiServerTrouble says what is wrong with an answer of the API server, in words that are not of the answer.
func apiServerTrouble(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Code > 0 {
		return statusText(int(status.Status().Code))
	}
	reason, why := explain(err, fmt.Sprintf("no answer within %v", answerPatience))
	if reason == verdict.Unreachable && !isNetwork(err) {
		return "what it answers is not what it was asked for; something in between may answer in its place"
	}
	return why
}

// isNetwork tells whether an error is of the connection, and not of what came over it.
func isNetwork(err error) bool {
	var request *url.Error
	var network net.Error
	var errno syscall.Errno
	return errors.As(err, &request) || errors.As(err, &network) || errors.As(err, &errno) || errors.Is(err, io.EOF)
}

// sorted are the objects, ordered by namespace and name.
func (w *objectWatch) sorted() []verdict.Reading {
	objects := make([]*unstructured.Unstructured, 0, len(w.objects))
	for _, object := range w.objects {
		objects = append(objects, object)
	}
	slices.SortFunc(objects, func(a, b *unstructured.Unstructured) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	readings := make([]verdict.Reading, 0, len(objects))
	for _, object := range objects {
		readings = append(readings, verdict.Reading{Value: object.Object, Version: versionOf(object)})
	}
	return readings
}

// versionOf is another whenever the object is; empty where that cannot be told, as with some aggregated APIs.
func versionOf(object *unstructured.Unstructured) string {
	uid, version := string(object.GetUID()), object.GetResourceVersion()
	if uid == "" || version == "" {
		return ""
	}
	return uid + "/" + version
}

// trim drops what nobody judges.
func trim(object *unstructured.Unstructured) {
	unstructured.RemoveNestedField(object.Object, "metadata", "managedFields")
	unstructured.RemoveNestedField(object.Object, "metadata", "annotations", lastApplied)
}

// WatchWithContext watches for the reflector, and takes note of how that went.
func (w *objectWatch) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	w.ask(false)
	w.key.narrow(&options)
	events, err := w.resource.Watch(ctx, options)
	w.answered(&w.watchFault, err)
	if err != nil {
		return nil, err
	}
	o := &overheard{Interface: events, passed: make(chan watch.Event), stopped: make(chan struct{})}
	go o.pass(w.hear)
	return o, nil
}

// hear takes note of what a watch says, which may be that it ends: until the reflector has begun it anew, which may take maxBackoff,
// what is held is not what there is.
func (w *objectWatch) hear(event watch.Event) {
	if event.Type == watch.Error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.watchFault = apierrors.FromObject(event.Object)
	}
}

// overheard is a watch whose events are heard before they are passed on. It ends when it is stopped, which watch.Filter does not while
// an event waits for a reader who has gone.
type overheard struct {
	watch.Interface
	passed  chan watch.Event
	stopped chan struct{}
	stop    sync.Once
}

// pass passes on what comes, until the watch ends or is stopped.
func (o *overheard) pass(hear func(watch.Event)) {
	defer close(o.passed)
	for event := range o.Interface.ResultChan() {
		hear(event)
		select {
		case o.passed <- event:
		case <-o.stopped:
			return
		}
	}
}

// ResultChan is closed when the watch has ended.
func (o *overheard) ResultChan() <-chan watch.Event { return o.passed }

// Stop stops the watch. It may be called more than once.
func (o *overheard) Stop() {
	o.stop.Do(func() { close(o.stopped) })
	o.Interface.Stop()
}

// List is ListWithContext, for what knows no context.
func (w *objectWatch) List(options metav1.ListOptions) (runtime.Object, error) {
	return w.ListWithContext(context.Background(), options)
}

// Watch is WatchWithContext, for what knows no context.
func (w *objectWatch) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return w.WatchWithContext(context.Background(), options)
}

// IsWatchListSemanticsUnSupported keeps the reflector from a list that comes as a watch: it has no bounds.
func (w *objectWatch) IsWatchListSemanticsUnSupported() bool { return true }

// ask takes note that an answer of the API server is awaited, or where queued the turn to ask.
func (w *objectWatch) ask(queued bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queued = queued
	// What is held goes out of date from the first page of another list, not from its last.
	if w.asked.IsZero() || !w.listed {
		w.asked = w.clock.Now()
	}
}

func (w *objectWatch) answered(fault *error, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked, *fault = time.Time{}, err
	if err != nil {
		w.settle()
	}
}

// settle ends the waiting for the first list.
func (w *objectWatch) settle() {
	select {
	case <-w.settled:
	default:
		close(w.settled)
	}
}

// Replace takes a list of all objects from the reflector.
func (w *objectWatch) Replace(list []any, _ string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return nil
	}
	w.forget()
	// What the list took is theirs now.
	w.memory, w.coming = w.coming, w.memory
	for _, object := range list {
		w.put(object)
	}
	if !w.memory.Resize(w.size) {
		w.end(errTooLarge)
		return nil
	}
	w.listed = true
	w.settle()
	return nil
}

// Add takes a new object from the reflector.
func (w *objectWatch) Add(object any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return nil
	}
	w.changes++
	w.put(object)
	if !w.memory.Resize(w.size) {
		w.end(errTooLarge)
	} else if len(w.objects) > maxObjects {
		w.end(errTooMany)
	}
	return nil
}

// Update takes a changed object from the reflector.
func (w *objectWatch) Update(object any) error { return w.Add(object) }

// Delete takes from the reflector that an object is gone.
func (w *objectWatch) Delete(object any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if gone, ok := object.(*unstructured.Unstructured); ok && !w.ended {
		w.leave(objectKey{gone.GetNamespace(), gone.GetName()})
		w.changes++
	}
	return nil
}

// Resync is part of what a reflector writes to.
func (w *objectWatch) Resync() error { return nil }

// put holds an object without what nobody judges. The memory for it is not taken yet.
func (w *objectWatch) put(object any) {
	kept, ok := object.(*unstructured.Unstructured)
	if !ok {
		return
	}
	trim(kept)
	key, size := objectKey{kept.GetNamespace(), kept.GetName()}, memoryOf(kept.Object)
	w.size += size - w.sizes[key]
	w.objects[key], w.sizes[key] = kept, size
}

// leave holds an object no longer.
func (w *objectWatch) leave(key objectKey) {
	w.size -= w.sizes[key]
	w.memory.Resize(w.size)
	delete(w.objects, key)
	delete(w.sizes, key)
}

// memoryOf is what a JSON value takes in memory, in bytes, about.
func memoryOf(value any) int64 {
	size := int64(valueBytes)
	switch v := value.(type) {
	case string:
		size += int64(len(v))
	case map[string]any:
		for name, field := range v {
			size += int64(len(name)) + memoryOf(field)
		}
	case []any:
		for _, item := range v {
			size += memoryOf(item)
		}
	}
	return size
}

var (
	_ cache.ListerWatcher            = &objectWatch{}
	_ cache.ListerWatcherWithContext = &objectWatch{}
	_ cache.ReflectorStore           = &objectWatch{}
)
