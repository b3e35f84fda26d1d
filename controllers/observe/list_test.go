package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"invariant.dev/operator/controllers/verdict"
)

// What client-go does with errors is sleep, by a clock that it shares between the tests, whose clocks differ.
func init() { utilruntime.ErrorHandlers = nil }

// listing is a dynamic client whose lists are answered by a function, a page at a time.
type listing struct {
	dynamic.NamespaceableResourceInterface
	list    func(ctx context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error)
	watched chan *watch.FakeWatcher
}

func newListing(list func(ctx context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error)) *listing {
	return &listing{list: list, watched: make(chan *watch.FakeWatcher, 1000)}
}

// Resource is the same whatever is asked for.
func (l *listing) Resource(schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return l
}

// Namespace is the same whatever is asked for.
func (l *listing) Namespace(string) dynamic.ResourceInterface { return l }

// List answers a page.
func (l *listing) List(ctx context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	return l.list(ctx, options)
}

// Watch begins a watch.
func (l *listing) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	w := watch.NewFake()
	l.watched <- w
	return w, nil
}

// hang answers nothing.
func hang(ctx context.Context, _ metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// page is one of some objects of so many bytes each, and whether another follows.
func page(options metav1.ListOptions, objects, size int, more bool) *unstructured.UnstructuredList {
	list := &unstructured.UnstructuredList{Object: map[string]any{"metadata": map[string]any{"resourceVersion": "7"}}}
	number := 0
	_, _ = fmt.Sscan(options.Continue, &number)
	for i := range objects {
		list.Items = append(list.Items, *object(fmt.Sprintf("%d-%d", number, i), size))
	}
	if more {
		list.SetContinue(fmt.Sprint(number + 1))
	}
	return list
}

// pages answers so many pages of such objects.
func pages(count, objects, size int) func(context.Context, metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	return func(_ context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error) {
		return page(options, objects, size, options.Continue != fmt.Sprint(count-1) && count > 1), nil
	}
}

const (
	kibibyte = 1 << 10
	mebibyte = 1 << 20
)

// listed is a cluster whose watched objects may take so much memory together and for a namespace.
func listed(client dynamic.Interface, total, perNamespace int64) *Objects {
	return &Objects{Client: client, Clock: clock.RealClock{}, memory: NewBudget(total, perNamespace), turns: newTurns(), watches: map[watchKey]*objectWatch{}}
}

// begin begins to watch the pods of a namespace that have a label, until the test ends.
func begin(t *testing.T, o *Objects, namespace string, label int) *objectWatch {
	t.Helper()
	w := o.start(watchKey{resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, namespace: namespace, selector: fmt.Sprintf("app=%d", label)}, namespace)
	t.Cleanup(w.stop)
	return w
}

// reasonOf is why a watch sees nothing, or that it sees.
func reasonOf(w *objectWatch) verdict.Reason {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, fault := w.read(ctx); fault != nil {
		return fault.Reason
	}
	return ""
}

// all is what is taken of a budget.
func (b *Budget) all() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sum
}

// It is alone, because it looks at the memory of all.
func TestWhatListsUnderWayHoldIsTakenFromTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perNamespace = 16 * mebibyte
		// Each list has three pages of 25 objects, some 9 MiB, when the API server stops answering.
		var handed atomic.Int64
		o := listed(newListing(func(ctx context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error) {
			if options.Continue == "3" {
				return hang(ctx, options)
			}
			handed.Add(25 * 128 * kibibyte)
			return page(options, 25, 128*kibibyte, true), nil
		}), 3*perNamespace/2, perNamespace)
		before := heap()
		for i := range 10 {
			begin(t, o, "tikv-prod", i)
		}
		synctest.Wait()
		if handed, taken := handed.Load(), o.memory.all(); handed > taken || taken > perNamespace {
			t.Errorf("with ten lists under way, %d KiB of objects have come and %d KiB are taken", handed/kibibyte, taken/kibibyte)
		}
		// However long the API server is silent.
		for range 30 {
			time.Sleep(time.Second)
			synctest.Wait()
			if held, taken := heap()-before, o.memory.all(); held > taken+2*mebibyte || taken > perNamespace {
				t.Fatalf("%d MiB are held by lists under way, and %d MiB taken", held/mebibyte, taken/mebibyte)
			}
		}
	})
}

func TestAListThatIsTooLargeOrTooManyEndsItsWatchAndIsNotTriedAgainByItself(t *testing.T) {
	t.Parallel()
	for name, list := range map[string]func(context.Context, metav1.ListOptions) (*unstructured.UnstructuredList, error){
		"objects too large": pages(100, 25, 128*kibibyte),
		"too many objects":  pages(maxObjects/25+1, 25, 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var begun atomic.Int64
				o := listed(newListing(func(ctx context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error) {
					if options.Continue == "" {
						begun.Add(1)
					}
					return list(ctx, options)
				}), maxWatched, maxWatchedPerNamespace)
				w := begin(t, o, "tikv-prod", 0)
				synctest.Wait()
				if reason := reasonOf(w); reason != verdict.TooLarge || w.worthRestarting() {
					t.Errorf("the reason is %q, and it is begun anew at once: %v", reason, w.worthRestarting())
				}
				time.Sleep(10 * time.Minute)
				if n := begun.Load(); n != 1 || !w.worthRestarting() {
					t.Errorf("ten minutes later it was listed %d times, and a look begins it anew: %v", n, w.worthRestarting())
				}
				wantFree(t, o.memory)
			})
		})
	}
}

func TestAListAnewIsNotRefusedForTheSakeOfWhatItReplaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const perNamespace = 16 * mebibyte
		var list atomic.Value
		list.Store(pages(4, 25, 128*kibibyte))
		client := newListing(func(ctx context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error) {
			return list.Load().(func(context.Context, metav1.ListOptions) (*unstructured.UnstructuredList, error))(ctx, options)
		})
		o := listed(client, 2*perNamespace, perNamespace)
		w := begin(t, o, "tikv-prod", 0)
		synctest.Wait()
		// expire ends what the API server tells, so that all is listed anew.
		expire := func() {
			expired := apierrors.NewResourceExpired("too old resource version").Status()
			(<-client.watched).Error(&expired)
			time.Sleep(time.Minute)
		}
		for round := range 3 {
			if reason := reasonOf(w); reason != "" || len(w.objects) != 100 {
				t.Fatalf("round %d: %d objects are seen, reason %q", round, len(w.objects), reason)
			}
			if taken := o.memory.all(); taken < 100*128*kibibyte || taken > 101*128*kibibyte {
				t.Fatalf("round %d: %d KiB are taken", round, taken/kibibyte)
			}
			expire()
		}
		list.Store(pages(6, 25, 128*kibibyte))
		expire()
		if reason := reasonOf(w); reason != verdict.TooLarge {
			t.Errorf("with more than there is room for, the reason is %q", reason)
		}
		wantFree(t, o.memory)
	})
}

func TestListsThatHangKeepNeitherTheirNamespaceNorOthersFromListing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newListing(func(ctx context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error) {
			if options.LabelSelector != "app=0" {
				return hang(ctx, options)
			}
			return pages(2, 25, 1)(ctx, options)
		})
		o := listed(client, maxWatched, maxWatchedPerNamespace)
		var well []*objectWatch
		for _, namespace := range []string{"hostile-1", "hostile-2", "hostile-3", "tikv-prod"} {
			for i := range 5 {
				if namespace != "tikv-prod" {
					begin(t, o, namespace, i+1)
				}
			}
			synctest.Wait()
			well = append(well, begin(t, o, namespace, 0))
		}
		synctest.Wait()
		time.Sleep(5 * time.Second)
		if reason := reasonOf(well[3]); reason != "" {
			t.Errorf("after 5 s, the objects of a namespace without any such list are not seen: %s", reason)
		}
		time.Sleep(time.Minute)
		for _, w := range well {
			if reason := reasonOf(w); reason != "" {
				t.Errorf("after a minute, those of %s are not: %s", w.key, reason)
			}
		}
	})
}

func TestAPageThatIsTooLargeIsAskedForWithFewerObjects(t *testing.T) {
	t.Parallel()
	// The API server has twenty objects of 1 MiB, and then a thousand of a few bytes.
	const large, small = 20, 1000
	var largest, answers atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("watch") != "" {
			<-r.Context().Done()
			return
		}
		from, _ := strconv.Atoi(r.FormValue("continue"))
		limit, _ := strconv.Atoi(r.FormValue("limit"))
		to := min(from+limit, large+small)
		list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "v1", "kind": "PodList", "metadata": map[string]any{"resourceVersion": "7"}}}
		for i := from; i < to; i++ {
			item := object(fmt.Sprint(i), 1)
			if i < large {
				// What nobody judges is read all the same.
				item.SetAnnotations(map[string]string{lastApplied: strings.Repeat("x", mebibyte)})
			}
			item.SetAPIVersion("v1")
			item.SetKind("Pod")
			list.Items = append(list.Items, *item)
		}
		if to < large+small {
			list.SetContinue(strconv.Itoa(to))
		}
		answers.Add(1)
		largest.Store(max(largest.Load(), int64(to-from)))
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list.UnstructuredContent())
	}))
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL, QPS: -1}
	config.Wrap(BoundedLists)
	client, err := dynamic.NewForConfig(config)
	must(t, err)
	w := begin(t, listed(client, maxWatched, maxWatchedPerNamespace), "tikv-prod", 0)
	t.Cleanup(server.CloseClientConnections)
	<-w.settled
	if reason := reasonOf(w); reason != "" || len(w.objects) != large+small {
		t.Errorf("%d objects are seen, reason %q: %v", len(w.objects), reason, w.listFault)
	}
	if n := answers.Load(); largest.Load() < 4*firstPage || n > 20 {
		t.Errorf("%d answers, and the largest has %d objects", n, largest.Load())
	}
}
