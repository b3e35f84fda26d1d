// Package observe reads sources: it turns what an Invariant's spec names into readings.
package observe

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/utils/lru"

	"invariant.dev/operator/api/v1alpha1"
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

// maxClients is how many certificates have connections of their own at a time.
const maxClients = 256

// request is what one address is asked for, and with which Secrets. Two that are equal have the same answer.
type request struct {
	url                string
	secret, certSecret string
	overHTTP           bool
	// query, if not empty, is PromQL that the address is asked as a Prometheus API.
	query string
}

func newRequest(address string, access v1alpha1.Access) request {
	r := request{url: address, overHTTP: access.AllowCredentialsOverHTTP}
	if access.SecretRef != nil {
		r.secret = access.SecretRef.Name
	}
	if access.CertSecretRef != nil {
		r.certSecret = access.CertSecretRef.Name
	}
	return r
}

// answer is what one address answered.
type answer struct {
	// address is what was asked.
	address string
	// fault says why there is no whole answer with a status from 200 to 299.
	fault *verdict.Fault
	// unasked: the fault is not the address's; it was not asked, or not heard out.
	unasked bool
	// status is 0 where there was no answer.
	status  int
	content []byte

	parsed, valid bool
	value         any
}

// newClientCache keeps a client for each certificate that sources show or trust, so that connections are used again.
func newClientCache() *lru.Cache {
	return lru.NewWithEvictionFunc(maxClients, func(_ lru.Key, client any) { client.(*http.Client).CloseIdleConnections() })
}

// client is the client for what a source trusts and shows. nil roots are those of this machine.
func (o *Observer) client(identity [sha256.Size]byte, roots *x509.CertPool, certificates []tls.Certificate) *http.Client {
	if client, found := o.clients.Get(identity); found {
		return client.(*http.Client)
	}
	dialer := &net.Dialer{ControlContext: o.Policy.control, Resolver: o.resolver}
	client := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: certificates},
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeaderBytes,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        5 * time.Minute,
		},
	}
	o.clients.Add(identity, client)
	return client
}

// get gets one address. The timeout is the address's; a Secret, which others may need too, may take until ctx ends.
func (o *Observer) get(ctx context.Context, keys *keyring, r request, timeout time.Duration, lease *Lease) *answer {
	a := &answer{address: r.url}
	target, err := r.target(timeout)
	if err != nil {
		return a.refused(&verdict.Fault{Reason: verdict.Unreachable, Message: "the address of the source is not a URL"})
	}
	sent, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return a.refused(&verdict.Fault{Reason: verdict.Unreachable, Message: "the address of the source is not a URL"})
	}
	sent.Header.Set("Accept", "application/json, */*;q=0.5")
	sent.Header.Set("User-Agent", "invariant-operator")
	client, fault := keys.unlock(ctx, r, sent)
	if fault != nil {
		return a.refused(fault)
	}
	late := isLate(ctx, timeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	response, err := client.Do(sent.WithContext(ctx))
	if err != nil {
		return a.broken(timeout, late, err)
	}
	defer func() { _ = response.Body.Close() }()
	a.status = response.StatusCode
	content, room, err := lease.readAll(response.Body, MaxBodyBytes+1)
	a.content = content
	switch {
	case err != nil:
		return a.broken(timeout, late, err)
	case !room || !lease.Take(valueBytes*int64(min(values(content), maxValues))):
		a.content = nil
		return a.refused(tooMuchTogether(r.url))
	default:
		a.fault = a.refuse(response.Header)
	}
	return a
}

// isLate tells whether an address has less than nine tenths of its timeout left, because it had to wait for a place or a Secret.
func isLate(ctx context.Context, timeout time.Duration) bool {
	end, limited := ctx.Deadline()
	return limited && time.Until(end) < timeout/10*9
}

// broken is an answer that did not come, or not whole.
func (a *answer) broken(timeout time.Duration, late bool, err error) *answer {
	fault := transportFault(a.address, timeout, err)
	switch {
	case fault.Reason == verdict.Forbidden:
		return a.refused(fault)
	case fault.Reason == verdict.Timeout && late:
		return a.refused(&verdict.Fault{Reason: verdict.Timeout, Message: fmt.Sprintf("GET %s: no whole answer in the time that was left for it", shown(a.address))})
	}
	a.fault = fault
	return a
}

// refused is an answer that says nothing about the address.
func (a *answer) refused(fault *verdict.Fault) *answer {
	a.fault, a.unasked = fault, true
	return a
}

func tooMuchTogether(address string) *verdict.Fault {
	return &verdict.Fault{Reason: verdict.TooLarge, Message: fmt.Sprintf("GET %s: together with what else is read for this system or namespace "+
		"at this moment, the answer is more than the monitor holds; read less, or from fewer addresses", shown(address))}
}

// refuse says what is wrong with an answer that came, or nil.
func (a *answer) refuse(header http.Header) *verdict.Fault {
	tooLarge := ""
	if len(a.content) > MaxBodyBytes {
		tooLarge = fmt.Sprintf("is larger than %d MiB", MaxBodyBytes>>20)
	} else if values(a.content) > maxValues {
		tooLarge = fmt.Sprintf("has more than %d values", maxValues)
	}
	if tooLarge != "" {
		a.content = nil
	}
	switch {
	case a.status >= 300 && a.status < 400:
		return &verdict.Fault{Reason: verdict.HTTPStatus,
			Message: fmt.Sprintf("GET %s: %s; redirects are not followed: name the address that answers", shown(a.address), statusText(a.status))}
	case a.status < 200 || a.status > 299:
		return &verdict.Fault{Reason: verdict.HTTPStatus, Message: fmt.Sprintf("GET %s: %s", shown(a.address), statusText(a.status))}
	case tooLarge != "":
		return &verdict.Fault{Reason: verdict.TooLarge, Message: fmt.Sprintf("GET %s: the answer %s", shown(a.address), tooLarge)}
	case header.Get("Content-Encoding") != "":
		return &verdict.Fault{Reason: verdict.InvalidBody, Message: fmt.Sprintf("GET %s: the answer is compressed, which was not asked for", shown(a.address))}
	}
	return nil
}

// parse parses the body once, and tells whether it is JSON.
func (a *answer) parse() bool {
	if !a.parsed {
		a.parsed = true
		a.valid = a.content != nil && utiljson.Unmarshal(a.content, &a.value) == nil
	}
	return a.valid
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
