// Package gate stands between a monitor and the API server, as the network does: it can lose, delay and refuse what passes, and
// say when something passes.
package gate

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Disturbance is what becomes of a request.
type Disturbance struct {
	// Delay is how long it takes to reach the API server.
	Delay time.Duration
	// Before is called before the API server gets it.
	Before func()
	// Until, if set, keeps it under way until it is closed. It arrives even if its sender has given up meanwhile.
	Until <-chan struct{}
	// Answer, if set, answers in the API server's place, which never gets it.
	Answer http.HandlerFunc
	// After is called once the API server has done it, and before the monitor knows.
	After func()
	// LoseRequest cuts the connection before the API server gets it, LoseAnswer afterwards.
	LoseRequest, LoseAnswer bool
}

// Gate is a proxy to the API server. Its methods may be called from several goroutines.
type Gate struct {
	server *httptest.Server

	mu sync.Mutex
	// open is closed while everything passes.
	open    chan struct{}
	disturb func(*http.Request) *Disturbance
	// requests counts what came, by method.
	requests map[string]int
	// underWay are those that came and are not yet answered in full.
	underWay map[*http.Request]struct{}
}

// New opens a gate to the API server of that configuration.
func New(config *rest.Config) (*Gate, error) {
	upstream, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("opening a gate to %s: %w", config.Host, err)
	}
	anonymous := rest.AnonymousClientConfig(config)
	// A connection for each: a request that hangs holds up no other.
	anonymous.NextProtos = []string{"http/1.1"}
	transport, err := rest.TransportFor(anonymous)
	if err != nil {
		return nil, fmt.Errorf("opening a gate to %s: %w", config.Host, err)
	}
	g := &Gate{open: make(chan struct{}), requests: map[string]int{}, underWay: map[*http.Request]struct{}{}}
	close(g.open)
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(upstream) },
		Transport:     transport,
		FlushInterval: -1,
		ModifyResponse: func(response *http.Response) error {
			d, _ := response.Request.Context().Value(disturbance{}).(*Disturbance)
			if d == nil {
				return nil
			}
			if d.After != nil {
				d.After()
			}
			if d.LoseAnswer {
				panic(http.ErrAbortHandler)
			}
			return nil
		},
		// As a network does that leads to nobody.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     log.New(io.Discard, "", 0),
	}
	// Without TLS, client-go sends no token.
	g.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serve(proxy, w, r) }))
	g.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	g.server.StartTLS()
	return g, nil
}

type disturbance struct{}

func (g *Gate) serve(proxy *httputil.ReverseProxy, w http.ResponseWriter, r *http.Request) {
	d := g.arrive(r)
	defer g.leave(r)
	if d == nil {
		d = &Disturbance{}
	}
	ctx := context.WithValue(r.Context(), disturbance{}, d)
	if d.Until != nil || (g.closed() && r.Method != http.MethodGet) {
		// A packet that is under way when the network fails arrives in the end, even if its sender has given up.
		ctx = context.WithoutCancel(ctx)
		whole, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(whole))
	}
	g.pass(ctx)
	select {
	case <-time.After(d.Delay):
	case <-ctx.Done():
	}
	if d.Before != nil {
		d.Before()
	}
	if d.Until != nil {
		<-d.Until
	}
	if d.LoseRequest || ctx.Err() != nil {
		panic(http.ErrAbortHandler)
	}
	if d.Answer != nil {
		d.Answer(w, r)
		return
	}
	proxy.ServeHTTP(&held{w, g, ctx}, r.WithContext(ctx))
}

func (g *Gate) arrive(r *http.Request) *Disturbance {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests[r.Method]++
	g.underWay[r] = struct{}{}
	if g.disturb == nil {
		return nil
	}
	return g.disturb(r)
}

func (g *Gate) leave(r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.underWay, r)
}

// Disturb decides for each request what becomes of it from now on; nil: it passes. The function is called for one request at a time.
func (g *Gate) Disturb(decide func(*http.Request) *Disturbance) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.disturb = decide
}

// Requests is how many requests came so far, by method.
func (g *Gate) Requests() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	requests := make(map[string]int, len(g.requests))
	for method, n := range g.requests {
		requests[method] = n
	}
	return requests
}

// Watches is how many watches are open.
func (g *Gate) Watches() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	watches := 0
	for r := range g.underWay {
		if r.URL.Query().Get("watch") == "true" {
			watches++
		}
	}
	return watches
}

// Cut lets nothing pass in either direction, and tells nobody: what is sent hangs until Mend.
func (g *Gate) Cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

// Mend ends what Cut began.
func (g *Gate) Mend() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

// Sever ends all connections at once.
func (g *Gate) Sever() { g.server.CloseClientConnections() }

// Close closes the gate for good.
func (g *Gate) Close() {
	g.Disturb(nil)
	g.Mend()
	g.server.CloseClientConnections()
	g.server.Close()
}

func (g *Gate) closed() bool {
	select {
	case <-g.way():
		return false
	default:
		return true
	}
}

func (g *Gate) way() chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// pass waits until the gate is open.
func (g *Gate) pass(ctx context.Context) {
	select {
	case <-g.way():
	case <-ctx.Done():
	}
}

// held is an answer that passes only while the gate is open.
type held struct {
	http.ResponseWriter
	gate *Gate
	ctx  context.Context
}

func (h *held) Write(b []byte) (int, error) {
	h.gate.pass(h.ctx)
	return h.ResponseWriter.Write(b)
}

// Unwrap lets the proxy flush.
func (h *held) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// Kubeconfig writes a kubeconfig that leads through the gate with a token, into that directory, and returns its path. Its context's
// namespace is the monitor's own.
func (g *Gate) Kubeconfig(dir, namespace, token string) (string, error) {
	const entry = "gate"
	path := filepath.Join(dir, "kubeconfig")
	config := clientcmdapi.NewConfig()
	config.Clusters[entry] = &clientcmdapi.Cluster{
		Server:                   g.server.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.server.Certificate().Raw}),
	}
	config.AuthInfos[entry] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts[entry] = &clientcmdapi.Context{Cluster: entry, AuthInfo: entry, Namespace: namespace}
	config.CurrentContext = entry
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("writing the kubeconfig of a gate: %w", err)
	}
	return path, nil
}

// IsWrite tells whether a request writes tickets or Invariants.
func IsWrite(r *http.Request) bool {
	return r.Method != http.MethodGet && strings.HasPrefix(r.URL.Path, "/apis/operator.invariant.dev/")
}
