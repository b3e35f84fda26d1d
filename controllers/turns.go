package controllers

import "sync"

// turns shares the workers between namespaces: judging takes time, and whoever has many systems whose expressions are expensive
// must not keep the others waiting. The zero value is ready.
type turns struct {
	mu      sync.Mutex
	running map[string]int
}

// begin takes a worker for a namespace, unless it has half of them already; then it returns false.
func (t *turns) begin(namespace string, workers int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[namespace] >= max(1, workers/2) {
		return false
	}
	if t.running == nil {
		t.running = map[string]int{}
	}
	t.running[namespace]++
	return true
}

func (t *turns) end(namespace string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[namespace]--; t.running[namespace] == 0 {
		delete(t.running, namespace)
	}
}
