package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// requestTimeout is how long the API server may take for a request that is no watch. A cycle whose write is never answered would be the
// last of its system; what is given up after it was done, the next cycle finds done.
const requestTimeout = 15 * time.Second

// pings are how client-go finds out that nobody is at the other end of a connection: by asking after so many seconds of silence, and
// waiting so many for an answer. Its own 30 and 15 leave watches, and all that they bring, standing still for 45 s.
var pings = map[string]string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "10", "HTTP2_PING_TIMEOUT_SECONDS": "5"}

// noticeDeadConnections makes clients that are made from now on ping, unless the environment says how.
func noticeDeadConnections() error {
	var errs []error
	for name, seconds := range pings {
		errs = append(errs, os.Setenv(name, cmp.Or(os.Getenv(name), seconds)))
	}
	return errors.Join(errs...)
}

// bounded ends each request that is no watch after that time, its answer included.
func bounded(timeout time.Duration) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper { return &boundedTripper{next, timeout} }
}

type boundedTripper struct {
	next    http.RoundTripper
	timeout time.Duration
}

// RoundTrip sends a request.
func (b *boundedTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Query().Has("watch") {
		return b.next.RoundTrip(r)
	}
	why := fmt.Errorf("no answer of the API server within %s", b.timeout)
	ctx, cancel := context.WithTimeoutCause(r.Context(), b.timeout, why)
	response, err := b.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		defer cancel()
		if r.Context().Err() == nil && ctx.Err() != nil {
			err = errors.Join(why, err)
		}
		return nil, err
	}
	response.Body = &boundedBody{response.Body, cancel}
	return response, nil
}

// WrappedRoundTripper is what it wraps, for client-go.
func (b *boundedTripper) WrappedRoundTripper() http.RoundTripper { return b.next }

// boundedBody ends the time of a request with its answer.
type boundedBody struct {
	io.ReadCloser
	end context.CancelFunc
}

// Close closes the body.
func (b *boundedBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// patient sends nothing again before the time that the API server asked for with Retry-After. client-go waits too, but only within one
// request: the next cycle, and whoever else writes to the same ticket, would come too soon.
func patient(next http.RoundTripper) http.RoundTripper {
	return &patientTripper{next: next, notBefore: map[string]time.Time{}}
}

type patientTripper struct {
	next http.RoundTripper

	mu sync.Mutex
	// notBefore is when what was refused may come again, by method and path.
	notBefore map[string]time.Time
}

// RoundTrip sends a request when it may be sent.
func (p *patientTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	what := r.Method + " " + r.URL.Path
	if err := p.wait(r.Context(), what); err != nil {
		return nil, err
	}
	response, err := p.next.RoundTrip(r)
	if err == nil && (response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= http.StatusInternalServerError) {
		if seconds, err := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 16); err == nil {
			p.refused(what, time.Duration(seconds)*time.Second)
		}
	}
	return response, err
}

func (p *patientTripper) wait(ctx context.Context, what string) error {
	for {
		p.mu.Lock()
		patience := time.Until(p.notBefore[what])
		p.mu.Unlock()
		if patience <= 0 {
			return nil
		}
		select {
		case <-time.After(patience):
		case <-ctx.Done():
			return fmt.Errorf("the API server asked for %s of patience: %w", patience.Round(time.Second), ctx.Err())
		}
	}
}

func (p *patientTripper) refused(what string, patience time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(p.notBefore, func(_ string, notBefore time.Time) bool { return notBefore.Before(now) })
	p.notBefore[what] = now.Add(patience)
}

// WrappedRoundTripper is what it wraps, for client-go.
func (p *patientTripper) WrappedRoundTripper() http.RoundTripper { return p.next }
