package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
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
