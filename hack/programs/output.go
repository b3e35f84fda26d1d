package programs

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// Output keeps all that a program prints, for those who look at it while it runs. Its methods may be called from several goroutines.
type Output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(b)
}

// String is what was printed so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}

// Tail passes on what a program prints, and keeps the end of it. Its methods may be called from several goroutines.
type Tail struct {
	next io.Writer
	keep int

	mu   sync.Mutex
	last []byte
	// cut says that there was more before.
	cut bool
}

// NewTail returns a tail that passes on to next, and keeps that many bytes.
func NewTail(next io.Writer, keep int) *Tail { return &Tail{next: next, keep: keep} }

func (t *Tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, b...)
	if n := len(t.last); n > t.keep {
		t.last, t.cut = append([]byte(nil), t.last[n-t.keep:]...), true
	}
	return t.next.Write(b)
}

// String is the end of the output, in whole lines.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.last
	if _, rest, ok := bytes.Cut(last, []byte("\n")); t.cut && ok {
		last = rest
	}
	return strings.TrimSpace(string(last))
}

// Last is the end of the output as an error message says it.
func (t *Tail) Last() string {
	if last := t.String(); last != "" {
		return "its last output was\n" + last
	}
	return "it printed nothing"
}
