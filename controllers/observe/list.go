package observe

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// ListWithContext lists for the reflector, and takes note of how that went.
func (w *objectWatch) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	w.key.narrow(&options)
	w.listAnew()
	list, err := w.list(ctx, options)
	if isTooMuch(err) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.end(err)
		return nil, err
	}
	w.answered(&w.listFault, err)
	if err != nil {
		w.coming.Release()
		return nil, err
	}
	return list, nil
}

// listAnew makes room for a list. What was held before goes first where it is out of date: it is shown to nobody.
func (w *objectWatch) listAnew() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.coming.Release()
	if w.fault() != nil {
		w.forget()
	}
}

// list lists what there is now, page by page, and no more than may be held.
func (w *objectWatch) list(ctx context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	// With a limit, a version does not mean "at least as new" but "exactly as old".
	options.Limit, options.ResourceVersion, options.ResourceVersionMatch = firstPage, "", ""
	turn := &turn{turns: w.turns, namespace: w.namespace}
	defer turn.end()
	all := &unstructured.UnstructuredList{}
	for range maxPages {
		page, err := w.page(ctx, turn, &options)
		if err != nil {
			return nil, err
		}
		came := memoryOfAll(page)
		trimAll(page)
		if err := w.expect(memoryOfAll(page)); err != nil {
			return nil, err
		}
		all.Object, all.Items = page.Object, append(all.Items, page.Items...)
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return all, nil
		}
		if len(all.Items) >= maxObjects {
			return nil, errTooMany
		}
		if came < maxPageBytes/4 {
			options.Limit = min(2*options.Limit, maxPage)
		}
	}
	return nil, errTooMany
}

// page lists a page when it is its turn, and one with fewer objects where it is too large.
func (w *objectWatch) page(ctx context.Context, turn *turn, options *metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	for {
		// What an admin's labels are asked of is one object.
		if w.key.onlyName == "" {
			w.ask(true)
			if err := turn.take(ctx); err != nil {
				return nil, err
			}
		}
		// Each page is an answer of its own.
		w.ask(false)
		page, err := w.resource.List(ctx, *options)
		if err == nil {
			err = notAList(page)
		}
		if !errors.Is(err, errPageTooLarge) || options.Limit <= 1 {
			return page, err
		}
		options.Limit /= 2
	}
}

// notAList is an error where an answer is no list, though it came with a status of success: what has no items would be taken for a list of
// none.
func notAList(page *unstructured.UnstructuredList) error {
	if page.GetKind() == "Status" {
		return apierrors.FromObject(&unstructured.Unstructured{Object: page.Object})
	}
	if _, found := page.Object["metadata"]; !found {
		return errNoList
	}
	return nil
}

// expect takes the memory for a page of a list. Where there is too little beside the objects of the list before, these go first: they
// are out of date.
func (w *objectWatch) expect(size int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ended:
		return context.Canceled
	case w.coming.Take(size):
		return nil
	}
	w.forget()
	if !w.coming.Take(size) {
		return errTooLarge
	}
	return nil
}

func memoryOfAll(page *unstructured.UnstructuredList) (size int64) {
	for i := range page.Items {
		size += memoryOf(page.Items[i].Object)
	}
	return size
}

func trimAll(page *unstructured.UnstructuredList) {
	for i := range page.Items {
		trim(&page.Items[i])
	}
}
