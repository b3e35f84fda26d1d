package gate

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// Link is a stretch of network that leads to one address: a proxy of TCP connections that can be cut. While it is cut, connections
// stay and new ones are taken, and nothing that is sent arrives before it is mended. Its methods may be called from several
// goroutines.
type Link struct {
	// Address is where the link begins.
	Address string

	listener    net.Listener
	network, to string
	// from tells who has made a connection, by its first request.
	from func(*http.Request) string

	mu sync.Mutex
	// cut are those whose connections are cut, "" for everybody's.
	cut map[string]bool
	// changed is closed, and made anew, when cut changes.
	changed     chan struct{}
	connections map[net.Conn]struct{}
	closed      bool
}

// NewLink makes a link to an address of a network, as in net.Dial. Where from is set, connections can be cut by who has made them: it is given the first request of
// each, which must be HTTP.
func NewLink(network, to string, from func(*http.Request) string) (*Link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("making a link to %s: %w", to, err)
	}
	l := &Link{Address: listener.Addr().String(), listener: listener, network: network, to: to, from: from,
		cut: map[string]bool{}, changed: make(chan struct{}), connections: map[net.Conn]struct{}{}}
	go l.accept()
	return l, nil
}

// Cut cuts the connections that somebody has made or makes, or all of them where from is empty.
func (l *Link) Cut(from string) { l.set(from, true) }

// Mend ends what Cut with the same name began.
func (l *Link) Mend(from string) { l.set(from, false) }

func (l *Link) set(from string, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut[from] = cut
	close(l.changed)
	l.changed = make(chan struct{})
}

// Close ends the link and its connections.
func (l *Link) Close() {
	_ = l.listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.connections {
		_ = c.Close()
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Link) accept() {
	for {
		c, err := l.listener.Accept()
		if err != nil {
			return
		}
		go l.serve(c)
	}
}

// serve carries one connection.
func (l *Link) serve(near net.Conn) {
	defer l.forget(near)
	if !l.keep(near) {
		return
	}
	first := bufio.NewReader(near)
	from := ""
	var begun bytes.Buffer
	if l.from != nil {
		// What a request's body holds need not be there yet: only its head is read.
		request, err := http.ReadRequest(bufio.NewReaderSize(io.TeeReader(oneByte{first}, &begun), 16))
		if err != nil {
			return
		}
		from = l.from(request)
	}
	if !l.pass(from) {
		return
	}
	far, err := net.Dial(l.network, l.to)
	if err != nil {
		return // which resets near, as a port does on which nobody listens
	}
	defer l.forget(far)
	if !l.keep(far) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.carry(far, io.MultiReader(&begun, first), from) })
	both.Go(func() { l.carry(near, far, from) })
	both.Wait()
}

// carry carries what is sent in one direction, as long as the link is not cut.
func (l *Link) carry(to net.Conn, reader io.Reader, from string) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := reader.Read(buffer)
		if !l.pass(from) {
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				_ = to.Close()
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				_ = to.(interface{ CloseWrite() error }).CloseWrite()
			} else {
				_ = to.Close()
			}
			return
		}
	}
}

// pass waits until what somebody sends passes, and tells whether the link is still there.
func (l *Link) pass(from string) bool {
	for {
		l.mu.Lock()
		cut, changed, closed := l.cut[""] || l.cut[from], l.changed, l.closed
		l.mu.Unlock()
		if closed || !cut {
			return !closed
		}
		<-changed
	}
}

func (l *Link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.connections[c] = struct{}{}
	return !l.closed
}

func (l *Link) forget(c net.Conn) {
	_ = c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.connections, c)
}

// oneByte reads one byte at a time, so that nothing is read that is not needed.
type oneByte struct{ io.Reader }

func (o oneByte) Read(b []byte) (int, error) { return o.Reader.Read(b[:1]) }
