// Package observe reads sources: it turns what an Invariant's spec names into readings.
package observe

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"invariant.dev/operator/controllers/verdict"
)

// Limits of one answer.
const (
	// MaxBodyBytes is how large the body of an answer may be.
	MaxBodyBytes = 8 << 20
	// maxValues is how many values the body may have, about: what they take in memory is not bounded by their text.
	maxValues      = 500_000
	maxHeaderBytes = 64 << 10
)

// Getter gets answers over HTTP. It may be used by many goroutines.
type Getter struct {
	client *http.Client
}

// NewGetter returns a Getter that dials only what the policy admits. Its requests are GET, follow no redirect, use no
// proxy, and ask for no compression, so that the size of an answer is what it says.
func NewGetter(policy AddressPolicy) *Getter {
	dialer := &net.Dialer{ControlContext: policy.control}
	return &Getter{client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeaderBytes,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        5 * time.Minute,
		},
	}}
}

// answer is what one address answered.
type answer struct {
	// fault says why there is no whole answer with a status from 200 to 299.
	fault *verdict.Fault
	// status is 0 where there was no answer.
	status int
	body   []byte

	parsed, valid bool
	value         any
}

// get gets one address. The timeout covers all of it.
func (g *Getter) get(ctx context.Context, address string, timeout time.Duration) *answer {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return &answer{fault: &verdict.Fault{Reason: verdict.Unreachable, Message: "the address of the source is not a URL"}}
	}
	request.Header.Set("Accept", "application/json, */*;q=0.5")
	request.Header.Set("User-Agent", "invariant-operator")
	response, err := g.client.Do(request)
	if err != nil {
		return &answer{fault: transportFault(address, timeout, err)}
	}
	defer func() { _ = response.Body.Close() }()
	a := &answer{status: response.StatusCode}
	if a.body, err = io.ReadAll(io.LimitReader(response.Body, MaxBodyBytes+1)); err != nil {
		a.fault = transportFault(address, timeout, err)
		return a
	}
	a.fault = a.refuse(address, response.Header)
	return a
}

// refuse says what is wrong with an answer that came, or nil.
func (a *answer) refuse(address string, header http.Header) *verdict.Fault {
	tooLarge := ""
	if len(a.body) > MaxBodyBytes {
		tooLarge = fmt.Sprintf("is larger than %d MiB", MaxBodyBytes>>20)
	} else if values(a.body) > maxValues {
		tooLarge = fmt.Sprintf("has more than %d values", maxValues)
	}
	if tooLarge != "" {
		a.body = nil
	}
	switch {
	case a.status >= 300 && a.status < 400:
		return &verdict.Fault{Reason: verdict.HTTPStatus,
			Message: fmt.Sprintf("GET %s: %s; redirects are not followed: name the address that answers", shown(address), statusText(a.status))}
	case a.status < 200 || a.status > 299:
		return &verdict.Fault{Reason: verdict.HTTPStatus, Message: fmt.Sprintf("GET %s: %s", shown(address), statusText(a.status))}
	case tooLarge != "":
		return &verdict.Fault{Reason: verdict.TooLarge, Message: fmt.Sprintf("GET %s: the answer %s", shown(address), tooLarge)}
	case header.Get("Content-Encoding") != "":
		return &verdict.Fault{Reason: verdict.InvalidBody, Message: fmt.Sprintf("GET %s: the answer is compressed, which was not asked for", shown(address))}
	}
	return nil
}

// values is at least how many values a JSON text has: parsed, each takes up to some hundred bytes.
func values(body []byte) int {
	count := 0
	for _, c := range body {
		switch c {
		case ',', '[', '{':
			count++
		}
	}
	return count
}

func statusText(status int) string {
	return fmt.Sprintf("%d %s", status, http.StatusText(status))
}

// shown is an address without what may be secret in it.
func shown(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "the source"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}
