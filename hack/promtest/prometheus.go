// Package promtest runs a real Prometheus for tests: the program that make bin/prometheus builds, on a free loopback
// port, with targets that the tests set and stop.
package promtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	apiv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"invariant.dev/operator/hack/programs"
)

const (
	// startTimeout bounds how long Prometheus may take to be ready; it is long for the sake of busy machines.
	startTimeout = time.Minute
	pollInterval = 25 * time.Millisecond
)

// Options for Start. The zero value is a Prometheus that scrapes nothing and lets everybody in.
type Options struct {
	// Scrape says what to scrape.
	Scrape []Scrape
	// BasicAuth, if set, is asked of everybody who asks Prometheus for anything.
	BasicAuth *BasicAuth
	// TLS makes it serve https, with a certificate for 127.0.0.1 and localhost that CACert has signed.
	TLS bool
	// RequireClientCert makes it refuse whoever has no certificate that CACert has signed. It implies TLS.
	RequireClientCert bool
	// Features are names for --enable-feature.
	Features []string
	// Args are more flags, such as --query.timeout=1s.
	Args []string
	// Log gets its output. Default: discarded; the end of it is in the error of a failed start.
	Log io.Writer
}

// BasicAuth is a user of basic authentication.
type BasicAuth struct{ Username, Password string }

// Prometheus is a running Prometheus. Its methods may be called from several goroutines.
type Prometheus struct {
	// URL is its address, such as http://127.0.0.1:34567.
	URL string
	// CACert is the CA certificate that signed its certificate, in PEM. Empty without Options.TLS.
	CACert []byte
	// ClientCert and ClientKey are what a client may identify itself with, in PEM. Empty without Options.TLS.
	ClientCert, ClientKey []byte

	dir       string
	guard     *programs.Guard
	process   *programs.Process
	transport http.RoundTripper
	api       apiv1.API

	stop    sync.Once
	stopErr error
}

// Binary returns the path of the program: $PROMETHEUS, else bin/prometheus of this repository. If it is missing, the
// error says how to build it.
func Binary() (string, error) {
	if path := os.Getenv("PROMETHEUS"); path != "" {
		if !programs.IsProgram(path) {
			return "", fmt.Errorf("no program is at %s, which PROMETHEUS names: unset PROMETHEUS and run make bin/prometheus", path)
		}
		return filepath.Abs(path)
	}
	root, err := programs.Root()
	if err != nil {
		return "", fmt.Errorf("finding the program prometheus: %w", err)
	}
	path := filepath.Join(root, "bin", "prometheus")
	if !programs.IsProgram(path) {
		return "", fmt.Errorf("no program is at %s: run make bin/prometheus", path)
	}
	return path, nil
}

// Run is Start for one test, which fails if Prometheus does not start or stop. It is stopped when the test ends.
func Run(tb testing.TB, o Options) *Prometheus {
	tb.Helper()
	p, err := Start(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return p
}

// Start starts a Prometheus and returns when it is ready to answer; what it scrapes comes in a moment later, see
// WaitFor. ctx bounds the start alone; Stop ends what is running. Many can run at once. Whatever ends this process,
// kill -9 included, a helper process then kills Prometheus and removes its files.
func Start(ctx context.Context, o Options) (*Prometheus, error) {
	binary, err := Binary()
	if err != nil {
		return nil, fmt.Errorf("starting Prometheus: %w", err)
	}
	dir, err := os.MkdirTemp("", "prometheus-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for Prometheus: %w", err)
	}
	p := &Prometheus{dir: dir}
	if err := p.start(ctx, binary, o); err != nil {
		return nil, errors.Join(fmt.Errorf("starting Prometheus: %w", err), p.Stop())
	}
	return p, nil
}

func (p *Prometheus) start(ctx context.Context, binary string, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var err error
	if p.guard, err = programs.StartGuard(p.dir); err != nil {
		return err
	}
	tlsConfig, err := p.configure(o)
	if err != nil {
		return err
	}
	output := &listening{next: o.Log, address: make(chan string, 1)}
	if p.process, err = programs.Start(p.dir, "prometheus", binary, output, p.args(o)...); err != nil {
		return err
	}
	select {
	case address := <-output.address:
		p.URL = scheme(o) + "://" + address
	case <-p.process.Ended():
		return p.process.Check()
	case <-ctx.Done():
		return fmt.Errorf("waiting until it listens: %w", context.Cause(ctx))
	}
	p.transport = &authenticated{o.BasicAuth, &http.Transport{TLSClientConfig: tlsConfig}}
	client, err := api.NewClient(api.Config{Address: p.URL, RoundTripper: p.transport})
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	p.api = apiv1.NewAPI(client)
	return p.waitReady(ctx)
}

func scheme(o Options) string {
	if o.TLS || o.RequireClientCert {
		return "https"
	}
	return "http"
}

func (p *Prometheus) args(o Options) []string {
	args := []string{
		"--config.file=" + filepath.Join(p.dir, configFile),
		"--web.config.file=" + filepath.Join(p.dir, webConfigFile),
		"--storage.tsdb.path=" + filepath.Join(p.dir, "data"),
		// The system chooses the port, and nobody can take it before Prometheus does. The log says which.
		"--web.listen-address=127.0.0.1:0",
		"--log.format=json",
		// Without this, the first scrape waits for five seconds.
		"--scrape.discovery-reload-interval=10ms",
	}
	if len(o.Features) > 0 {
		args = append(args, "--enable-feature="+strings.Join(o.Features, ","))
	}
	return append(args, o.Args...)
}

func (p *Prometheus) waitReady(ctx context.Context) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		if err := p.process.Check(); err != nil {
			return false, err
		}
		last = p.ready(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting until it is ready: %w", errors.Join(err, last))
	}
	return nil
}

func (p *Prometheus) ready(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/-/ready", http.NoBody)
	if err != nil {
		return err
	}
	response, err := p.Client().Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", request.URL, response.Status)
	}
	return nil
}

// Client returns an HTTP client that Prometheus lets in: it trusts its certificate, and has the user's name and
// password and a client certificate where they are asked for.
func (p *Prometheus) Client() *http.Client { return &http.Client{Transport: p.transport} }

// API returns a client of its HTTP API that it lets in.
func (p *Prometheus) API() apiv1.API { return p.api }

// Stop ends it and removes its files. It may be called more than once, and returns the same then.
func (p *Prometheus) Stop() error {
	p.stop.Do(func() {
		var errs []error
		if p.transport != nil {
			p.Client().CloseIdleConnections()
		}
		if p.process != nil {
			errs = append(errs, p.process.Stop())
		}
		// What is removed first, the guard cannot kill: the IDs may be others' by now.
		errs = append(errs, os.RemoveAll(p.dir))
		if p.guard != nil {
			errs = append(errs, p.guard.Dismiss())
		}
		if err := errors.Join(errs...); err != nil {
			p.stopErr = fmt.Errorf("stopping Prometheus: %w", err)
		}
	})
	return p.stopErr
}

// authenticated adds a user's name and password to each request.
type authenticated struct {
	user *BasicAuth
	next *http.Transport
}

func (a *authenticated) RoundTrip(request *http.Request) (*http.Response, error) {
	if a.user != nil {
		request = request.Clone(request.Context())
		request.SetBasicAuth(a.user.Username, a.user.Password)
	}
	return a.next.RoundTrip(request)
}

func (a *authenticated) CloseIdleConnections() { a.next.CloseIdleConnections() }

// listening passes on the log of Prometheus, and sends the first address that it says it listens on.
type listening struct {
	next    io.Writer
	address chan string

	line []byte
	seen bool
}

func (l *listening) Write(b []byte) (int, error) {
	for rest := b; !l.seen && len(rest) > 0; {
		part, after, ended := bytes.Cut(rest, []byte("\n"))
		l.line, rest = append(l.line, part...), after
		if ended {
			l.look()
			l.line = l.line[:0]
		}
	}
	if l.next == nil {
		return len(b), nil
	}
	return l.next.Write(b)
}

func (l *listening) look() {
	var entry struct{ Msg, Address string }
	// A line that is no JSON is not of the log.
	if err := json.Unmarshal(l.line, &entry); err == nil && entry.Msg == "Listening on" && entry.Address != "" {
		l.seen = true
		l.address <- entry.Address
	}
}
