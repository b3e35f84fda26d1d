package observe

import (
	"io"
	"sync"
)

// What answers hold in memory together, in bytes, about: what a value takes once it is parsed is estimated. The monitor's
// Deployment has a limit of 1 GiB.
const (
	maxMemory          = 192 << 20
	maxNamespaceMemory = 80 << 20
	maxLookMemory      = 64 << 20
	// What watched objects take together is beside that.
	maxWatched             = 192 << 20
	maxWatchedPerNamespace = 128 << 20
	// valueBytes is what a parsed JSON value takes beside its text, and objectBytes what an object does, however few fields it
	// has. Measured with Go 1.26, whose maps begin with room for eight.
	valueBytes  = 64
	objectBytes = 352
)

// Budget is memory that namespaces share. No namespace can take so much of it that another has none. It may be used by many
// goroutines.
type Budget struct {
	total, perNamespace int64

	mu    sync.Mutex
	taken map[string]int64
	sum   int64
}

// NewBudget returns a Budget of so many bytes, and so many for each namespace.
func NewBudget(total, perNamespace int64) *Budget {
	return &Budget{total: total, perNamespace: perNamespace, taken: map[string]int64{}}
}

// Lease returns a part of the budget that a namespace may take up to a limit.
func (b *Budget) Lease(namespace string, limit int64) *Lease {
	return &Lease{budget: b, namespace: namespace, limit: limit}
}

// take takes n bytes for a namespace, or nothing and tells so.
func (b *Budget) take(namespace string, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sum+n > b.total || b.taken[namespace]+n > b.perNamespace {
		return false
	}
	b.sum += n
	b.taken[namespace] += n
	return true
}

func (b *Budget) give(namespace string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sum -= n
	if b.taken[namespace] -= n; b.taken[namespace] == 0 {
		delete(b.taken, namespace)
	}
}

// Lease is what one user holds of a Budget. It may be used by many goroutines.
type Lease struct {
	budget    *Budget
	namespace string
	limit     int64

	mu   sync.Mutex
	held int64
}

// Take takes n bytes more, or nothing and tells so.
func (l *Lease) Take(n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held+n > l.limit || !l.budget.take(l.namespace, n) {
		return false
	}
	l.held += n
	return true
}

// Give gives n bytes of it back.
func (l *Lease) Give(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.budget.give(l.namespace, n)
	l.held -= n
}

// Resize makes it n bytes in all, or leaves it as it is and tells so.
func (l *Lease) Resize(n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n <= l.held {
		l.budget.give(l.namespace, l.held-n)
	} else if n > l.limit || !l.budget.take(l.namespace, n-l.held) {
		return false
	}
	l.held = n
	return true
}

// Release gives all of it back. A nil Lease holds nothing.
func (l *Lease) Release() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.budget.give(l.namespace, l.held)
	l.held = 0
}

// readChunk is how much of an answer is read before the budget is asked again.
const readChunk = 32 << 10

// readAll reads at most limit bytes, and tells whether the lease had room for them.
func (l *Lease) readAll(r io.Reader, limit int64) (content []byte, room bool, err error) {
	r = io.LimitReader(r, limit)
	for {
		if len(content) == cap(content) {
			// One more than can be read, so that there is room to see the end.
			grown := make([]byte, len(content), min(max(readChunk, 2*cap(content)), int(limit)+1))
			if !l.Take(int64(cap(grown) - cap(content))) {
				return nil, false, nil
			}
			copy(grown, content)
			content = grown
		}
		n, err := r.Read(content[len(content):cap(content)])
		content = content[:len(content)+n]
		if err == io.EOF { //nolint:errorlint // what a Reader returns at its end
			return content, true, nil
		}
		if err != nil {
			return content, true, err
		}
	}
}
