package observe

import (
	"context"
	"sync"
	"time"
)

const (
	// maxLists is how many lists are under way at a time, of different namespaces: what an answer takes while it is read is in no budget.
	maxLists = 2
	// turnPatience is how long a list may wait for the API server before another may begin as well.
	turnPatience = 2 * time.Second
)

// turns lets the lists of a namespace take turns, and the namespaces.
type turns struct {
	all chan struct{}

	mu sync.Mutex
	// namespaces are those with lists under way or waiting.
	namespaces map[string]*queue
}

// queue is that of one namespace's lists. Only its first waits among those of all, so that many lists of one namespace are before no
// other's.
type queue struct {
	first   chan struct{}
	members int
}

func newTurns() *turns {
	return &turns{all: make(chan struct{}, maxLists), namespaces: map[string]*queue{}}
}

// enter waits for the turn of a list, until ctx ends.
func (t *turns) enter(ctx context.Context, namespace string) error {
	q := t.join(namespace)
	select {
	case q.first <- struct{}{}:
	case <-ctx.Done():
		t.quit(namespace)
		return ctx.Err()
	}
	select {
	case t.all <- struct{}{}:
		return nil
	case <-ctx.Done():
		<-q.first
		t.quit(namespace)
		return ctx.Err()
	}
}

// leave ends the turn of a list.
func (t *turns) leave(namespace string) {
	<-t.all
	t.mu.Lock()
	q := t.namespaces[namespace]
	t.mu.Unlock()
	<-q.first
	t.quit(namespace)
}

func (t *turns) join(namespace string) *queue {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.namespaces[namespace]
	if q == nil {
		q = &queue{first: make(chan struct{}, 1)}
		t.namespaces[namespace] = q
	}
	q.members++
	return q
}

func (t *turns) quit(namespace string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.namespaces[namespace]
	if q.members--; q.members == 0 {
		delete(t.namespaces, namespace)
	}
}

// turn is that of one list. It is used by one goroutine.
type turn struct {
	turns     *turns
	namespace string
	// patience ends it while the API server is silent.
	patience *time.Timer
}

// take waits for the turn, unless it still is this list's.
func (t *turn) take(ctx context.Context) error {
	if t.patience != nil && t.patience.Stop() {
		t.patience.Reset(turnPatience)
		return nil
	}
	t.patience = nil
	if err := t.turns.enter(ctx, t.namespace); err != nil {
		return err
	}
	t.patience = time.AfterFunc(turnPatience, func() { t.turns.leave(t.namespace) })
	return nil
}

// end ends the turn, unless it has ended by itself.
func (t *turn) end() {
	if t.patience != nil && t.patience.Stop() {
		t.turns.leave(t.namespace)
	}
}
