// Package observe reads sources: it turns what an Invariant's spec names into readings.
package observe

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
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
	maxHeaderBytes = 16 << 10
	// requestBytes is what a request takes while its answer is awaited and read: the buffers of its connection, and what headers of that
	// length take once they are parsed, however short each is.
	requestBytes = 128 << 10
)

// maxClients is how many certificates have connections of their own at a time; maxIdle is how many of them may be idle for each, and
// maxIdlePlain how many of those without a certificate. An idle connection takes some 20 KiB, and with TLS more.
const (
	maxClients   = 128
	maxIdle      = 32
	maxIdlePlain = 1024
)

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
	// request is what was asked, and target where.
	request request
	target  *url.URL
	// fault says why there is no whole answer with a status from 200 to 299.
	fault *verdict.Fault
	// unasked: the fault is not the address's; it was not asked, or not heard out.
	unasked bool
	// status is 0 where there was no answer.
	status  int
	content []byte
	// lease is what the answer may take.
	lease *Lease

	parsed, valid bool
	value         any
	// written is the body as text, once somebody needs that, and seen what it says as a whole.
	written *string
	seen    *verdict.Observation
}

// newClientCache keeps a client for each certificate that sources show or trust, so that connections are used again.
func newClientCache() *lru.Cache {
	return lru.NewWithEvictionFunc(maxClients, func(_ lru.Key, client any) { client.(*http.Client).CloseIdleConnections() })
}

// noIdentity is that of sources that trust what this machine does, and show nothing.
var noIdentity [sha256.Size]byte

// client is the client for what a source trusts and shows. nil roots are those of this machine.
func (o *Observer) client(identity [sha256.Size]byte, roots *x509.CertPool, certificates []tls.Certificate) *http.Client {
	if client, found := o.clients.Get(identity); found {
		return client.(*http.Client)
	}
	dialer := &net.Dialer{ControlContext: o.Policy.control, Resolver: o.resolver}
	idle := maxIdlePlain
	if identity != noIdentity {
		idle = maxIdle
	}
	client := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: certificates},
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeaderBytes,
			MaxIdleConns:           idle,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        5 * time.Minute,
		},
	}
	o.clients.Add(identity, client)
	return client
}

// get gets one address. The timeout is the address's; a Secret, which others may need too, may take until ctx ends.
func (o *Observer) get(ctx context.Context, keys *keyring, r request, timeout time.Duration, lease *Lease) *answer {
	a := &answer{request: r, lease: lease}
	var err error
	if a.target, err = r.target(timeout); err != nil {
		return a.refused(&verdict.Fault{Reason: verdict.Unreachable, Message: "the address of the source is not a URL"})
	}
	var at atomic.Int32
	sent, err := http.NewRequestWithContext(tracing(ctx, &at), http.MethodGet, a.target.String(), http.NoBody)
	if err != nil {
		return a.refused(&verdict.Fault{Reason: verdict.Unreachable, Message: "the address of the source is not a URL"})
	}
	sent.Header.Set("Accept", "application/json, */*;q=0.5")
	sent.Header.Set("User-Agent", "invariant-operator")
	client, fault := keys.unlock(ctx, r, sent)
	if fault != nil {
		return a.refused(fault)
	}
	if !lease.Take(requestBytes) {
		return a.refused(tooMuchTogether(a.target))
	}
	defer lease.Give(requestBytes)
	late := isLate(ctx, timeout)
	ctx, cancel := context.WithTimeout(sent.Context(), timeout)
	defer cancel()
	response, err := client.Do(sent.WithContext(ctx))
	if err != nil {
		return a.broken(timeout, late, stage(at.Load()), err)
	}
	defer func() { _ = response.Body.Close() }()
	a.status = response.StatusCode
	encoding := response.Header.Get("Content-Encoding")
	response.Header = nil // it may be larger than the body, which may be long in coming
	content, room, err := lease.readAll(response.Body, MaxBodyBytes+1)
	a.content = content
	switch {
	case err != nil:
		return a.broken(timeout, late, reading, err)
	case !room || !lease.Take(parsedBytes(content)):
		a.content = nil
		return a.refused(tooMuchTogether(a.target))
	default:
		a.fault = a.refuse(encoding)
	}
	return a
}

// isLate tells whether an address has less than nine tenths of its timeout left, because it had to wait for a place or a Secret.
func isLate(ctx context.Context, timeout time.Duration) bool {
	end, limited := ctx.Deadline()
	return limited && time.Until(end) < timeout/10*9
}

// broken is an answer that did not come, or not whole.
func (a *answer) broken(timeout time.Duration, late bool, at stage, err error) *answer {
	fault := transportFault(a.target, timeout, at, err)
	switch {
	case fault.Reason == verdict.Forbidden:
		return a.refused(fault)
	case fault.Reason == verdict.Timeout && late:
		return a.refused(a.faulty(verdict.Timeout, "no whole answer in the time that was left for it, after waiting for a place or a Secret"))
	}
	a.fault = fault
	return a
}

// refused is an answer that says nothing about the address.
func (a *answer) refused(fault *verdict.Fault) *answer {
	a.fault, a.unasked = fault, true
	return a
}

func tooMuchTogether(target *url.URL) *verdict.Fault {
	return &verdict.Fault{Reason: verdict.TooLarge, Message: fmt.Sprintf("GET %s: together with what else is read for this system or namespace "+
		"at this moment, the answer is more than the monitor holds; read less, or from fewer addresses", shown(target))}
}

// refuse says what is wrong with an answer that came, or nil.
func (a *answer) refuse(encoding string) *verdict.Fault {
	tooLarge := ""
	if len(a.content) > MaxBodyBytes {
		tooLarge = fmt.Sprintf("is larger than %d MiB: ask for less", MaxBodyBytes>>20)
	} else if values(a.content) > maxValues {
		tooLarge = fmt.Sprintf("has more than %d values: ask for less", maxValues)
	}
	if tooLarge != "" {
		a.content = nil
	}
	switch {
	case a.status < 200 || a.status > 299:
		return a.faulty(verdict.HTTPStatus, "%s%s", statusText(a.status), a.statusHint())
	case tooLarge != "":
		return a.faulty(verdict.TooLarge, "the answer %s", tooLarge)
	case encoding != "":
		return a.faulty(verdict.InvalidBody, "the answer is compressed, which was not asked for: its server, or a proxy before it, must not do so")
	}
	return nil
}

// faulty is a fault of the answer.
func (a *answer) faulty(reason verdict.Reason, why string, args ...any) *verdict.Fault {
	return &verdict.Fault{Reason: reason, Message: fmt.Sprintf("GET %s: ", shown(a.target)) + fmt.Sprintf(why, args...)}
}

// statusHint says what to do about a status that is no success, where the status tells.
func (a *answer) statusHint() string {
	denied := a.status == http.StatusUnauthorized || a.status == http.StatusForbidden
	switch {
	case a.status >= 300 && a.status < 400:
		return "; redirects are not followed: name the address that answers"
	case denied && a.request.secret == "":
		return "; if it wants credentials, name a Secret that has them in secretRef"
	case denied:
		return fmt.Sprintf("; the credentials in Secret %s may not read this", a.request.secret)
	case a.status == http.StatusNotFound && a.request.query != "":
		return ": is this the address of a Prometheus API?"
	case a.status == http.StatusNotFound:
		return ": is the path right?"
	case a.status == http.StatusBadRequest && a.target.Scheme == "http":
		return "; if it speaks TLS, write https"
	}
	return ""
}

// tracing is a context whose request notes how far it has come.
func tracing(ctx context.Context, at *atomic.Int32) context.Context {
	reach := func(s stage) { at.Store(int32(s)) }
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { reach(lookingUp) },
		DNSDone:           func(httptrace.DNSDoneInfo) { reach(connecting) },
		TLSHandshakeStart: func() { reach(agreeing) },
		GotConn:           func(httptrace.GotConnInfo) { reach(asking) },
	})
}

// parse parses the body once, and tells whether it is JSON.
func (a *answer) parse() bool {
	if !a.parsed {
		a.parsed = true
		a.valid = a.content != nil && utiljson.Unmarshal(a.content, &a.value) == nil
	}
	return a.valid
}

// text is the body as text, made once, and whether there is room for it.
func (a *answer) text() (string, bool) {
	if a.written == nil {
		text := strings.ToValidUTF8(string(a.content), "�")
		if !a.lease.Take(int64(len(text))) {
			return "", false
		}
		a.written = &text
	}
	return *a.written, true
}

// whole is what the answer says as a whole, found out once: what many Invariants ask for is held once.
func (a *answer) whole(find func() verdict.Observation) verdict.Observation {
	if a.seen == nil {
		seen := find()
		a.seen = &seen
	}
	return *a.seen
}

// notJSON says why the body is not JSON, in words that are not of the body.
func (a *answer) notJSON() *verdict.Fault {
	var syntax *json.SyntaxError
	why := looksLike(a.content)
	if err := json.Unmarshal(a.content, new(json.RawMessage)); why == "" && errors.As(err, &syntax) {
		why = fmt.Sprintf(": what stands at byte %d cannot stand there", syntax.Offset)
		if int(syntax.Offset) >= len(a.content) {
			why = ": it ends half way"
		}
	}
	return a.faulty(verdict.InvalidBody, "the answer is not JSON%s", why)
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

// parsedBytes is what a JSON text takes once it is parsed, beside itself. One with too many values is not parsed.
func parsedBytes(body []byte) int64 {
	all, objects := values(body), bytes.Count(body, []byte("{"))
	if all > maxValues {
		return 0
	}
	return int64(valueBytes*(all-objects) + objectBytes*objects)
}

func statusText(status int) string {
	return fmt.Sprintf("%d %s", status, http.StatusText(status))
}

// shown is an address without what may be secret in it.
func shown(u *url.URL) string {
	plain := *u
	plain.User, plain.RawQuery, plain.ForceQuery, plain.Fragment = nil, "", false, ""
	return plain.String()
}
