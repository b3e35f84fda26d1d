package controllers

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
)

// gate stands between the monitor's watches and the API server.
type gate struct {
	server *httptest.Server
	// pass lets a request through.
	pass http.HandlerFunc

	mu     sync.Mutex
	answer http.HandlerFunc
	// through ends the requests that are let through.
	through context.CancelFunc
	open    context.Context
}

// gate puts a gate before the API server for the watches of the bench's monitor, which begins anew.
func (b *bench) gate() *gate {
	b.t.Helper()
	upstream, err := url.Parse(b.objectsConfig.Host)
	must(b.t, err)
	transport, err := rest.TransportFor(b.objectsConfig)
	must(b.t, err)
	proxy := httputil.NewSingleHostReverseProxy(upstream)
	proxy.Transport, proxy.FlushInterval = transport, -1
	g := &gate{pass: proxy.ServeHTTP}
	g.open, g.through = context.WithCancel(context.Background())
	g.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		answer, open := g.answer, g.open
		g.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		stop := context.AfterFunc(open, cancel)
		defer stop()
		proxy.ServeHTTP(w, r.WithContext(ctx))
	}))
	b.t.Cleanup(func() { g.through(); g.server.CloseClientConnections(); g.server.Close() })
	b.objectsConfig = &rest.Config{Host: g.server.URL}
	b.restart()
	return g
}

// fail ends all connections and makes the API server answer like that; nil makes it well again.
func (g *gate) fail(answer http.HandlerFunc) {
	g.mu.Lock()
	g.answer = answer
	g.through()
	g.open, g.through = context.WithCancel(context.Background())
	g.mu.Unlock()
	g.server.CloseClientConnections()
}

// cyclesUntilNot runs cycles until an Invariant's Ready has another reason.
func (b *bench) cyclesUntilNot(name, reason string) {
	b.t.Helper()
	must(b.t, wait.PollUntilContextTimeout(b.ctx, 50*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		b.cycle()
		ready, _ := b.conditions(name)
		return ready.Reason != reason, nil
	}))
}
