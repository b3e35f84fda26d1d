package docs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/promtest"
)

// answer is what one address answers.
type answer struct {
	// Status is 200 unless it is another.
	Status int `json:"status"`
	// Body is JSON, and Text is none.
	Body json.RawMessage `json:"body"`
	Text string          `json:"text"`
	// Down: nobody answers.
	Down bool `json:"down"`
}

func (a answer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if a.Status != 0 {
		w.WriteHeader(a.Status)
	}
	_, _ = fmt.Fprint(w, string(a.Body), a.Text)
}

// sources stand in for the addresses of examples.
type sources struct {
	// names are the addresses that stand-ins stand in for.
	names map[string]string
	// gate is what https addresses ask for.
	gate *gate
}

func newSources(t *testing.T) *sources {
	t.Helper()
	return &sources{names: map[string]string{}, gate: newGate(t)}
}

// rename takes note of what stands in for an address.
func (s *sources) rename(address, standIn string) { s.names[standIn] = address }

// named is a text with the names that examples use.
func (s *sources) named(text string) string {
	for standIn, name := range s.names {
		text = strings.ReplaceAll(text, standIn, name)
	}
	return text
}

// serve starts what a proof says and puts the addresses into the source.
func (s *sources) serve(t *testing.T, source *v1alpha1.HTTPSource, p proof) {
	t.Helper()
	if source.URL != "" {
		source.URL = s.standIn(t, source.URL, answer{Body: p.Answer})
	}
	for i, endpoint := range source.Endpoints {
		a, said := p.Endpoints[endpoint.StoreID]
		if !said {
			t.Fatalf("it is not said what endpoint %s answers", endpoint.StoreID)
		}
		source.Endpoints[i].URL = s.standIn(t, endpoint.URL, a)
	}
}

// standIn starts a server for an address.
func (s *sources) standIn(t *testing.T, address string, a answer) string {
	t.Helper()
	u, err := url.Parse(address)
	must(t, err)
	var server *httptest.Server
	if u.Scheme == "https" {
		server = s.gate.serve(a)
	} else {
		server = httptest.NewServer(a)
	}
	if a.Down {
		server.Close()
	} else {
		t.Cleanup(server.Close)
	}
	name := u.Scheme + "://" + u.Host
	s.rename(name, server.URL)
	return server.URL + strings.TrimPrefix(address, name)
}

// gate lets in who shows a certificate and a token.
type gate struct {
	// certificate is the server's and the client's, which signs itself.
	certificate tls.Certificate
	mu          sync.Mutex
	token       string
}

func newGate(t *testing.T) *gate {
	t.Helper()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	return &gate{certificate: server.TLS.Certificates[0], token: "first"}
}

// ask makes it ask for another token.
func (g *gate) ask(token string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.token = token
}

func (g *gate) serve(a answer) *httptest.Server {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		switch {
		case len(r.TLS.PeerCertificates) != 1 || !r.TLS.PeerCertificates[0].Equal(g.certificate.Leaf):
			w.WriteHeader(http.StatusForbidden)
		case r.Header.Get("Authorization") != "Bearer "+g.token:
			w.WriteHeader(http.StatusUnauthorized)
		default:
			a.ServeHTTP(w, r)
		}
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{g.certificate}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	return server
}

// pem is the certificate and its key as a Secret has them.
func (g *gate) pem(t *testing.T) (certificate, key []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(g.certificate.PrivateKey)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.certificate.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// targets are what Prometheus scrapes, by their label instance.
var targets = []string{"tikv-1:20180", "tikv-2:20180", "tikv-3:20180"}

// scraped is a real Prometheus with targets that say what proofs say.
type scraped struct {
	*promtest.Prometheus

	mu sync.Mutex
	// metrics are those of the targets that answer, and scrapes how often they were asked.
	metrics map[string]string
	scrapes map[string]int
}

func newScraped(t *testing.T) *scraped {
	t.Helper()
	s := &scraped{scrapes: map[string]int{}}
	var scrapes []promtest.Scrape
	for i, name := range targets {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { s.serve(name, w) }))
		t.Cleanup(server.Close)
		scrapes = append(scrapes, promtest.Scrape{Job: fmt.Sprintf("tikv-%d", i+1), Targets: []string{strings.TrimPrefix(server.URL, "http://")},
			Labels: map[string]string{"instance": name, "job": "tikv"}, Interval: 200 * time.Millisecond})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p, err := promtest.Start(ctx, promtest.Options{Scrape: scrapes})
	must(t, err)
	t.Cleanup(func() { must(t, p.Stop()) })
	s.Prometheus = p
	return s
}

func (s *scraped) set(metrics map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metrics = metrics
}

// serve serves the metrics of a target. Buckets, which are counters, grow from scrape to scrape.
func (s *scraped) serve(target string, w http.ResponseWriter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, answers := s.metrics[target]
	if !answers {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	s.scrapes[target]++
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	for line := range strings.Lines(text) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.Contains(series, "_bucket") {
			number, _ := strconv.Atoi(value)
			value = strconv.Itoa(number * s.scrapes[target])
		}
		_, _ = fmt.Fprintf(w, "%s %s\n", series, value)
	}
}
