package observe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"

	"invariant.dev/operator/controllers/verdict"
)

var notHTTP = regexp.MustCompile("malformed|Content-Length|transfer encoding|chunk")

// stage is how far a request has come.
type stage int32

// The stages, in their order.
const (
	connecting stage = iota
	lookingUp
	agreeing
	asking
	reading
)

// waitedFor says what a request waited for in vain.
func (s stage) waitedFor(timeout time.Duration) string {
	switch s {
	case lookingUp:
		return fmt.Sprintf("the name servers did not say within %v what address the host has", timeout)
	case connecting:
		return fmt.Sprintf("no connection within %v: the host may be down, or a firewall or NetworkPolicy may drop what is sent to it", timeout)
	case agreeing:
		return fmt.Sprintf("no agreement on TLS within %v: what answers there may not speak TLS", timeout)
	case reading:
		return fmt.Sprintf("the answer began, but was not whole within %v; if it is slow and not stuck, raise timeout", timeout)
	default:
		return fmt.Sprintf("it took the connection, but did not answer within %v; if it is slow and not stuck, raise timeout", timeout)
	}
}

// transportFault says in what way no whole answer came. Its words are the same in every cycle that the same happens
// (Go's own name the port that this end of the connection had), and hold nothing of what was answered (Go's own quote it).
func transportFault(target *url.URL, timeout time.Duration, at stage, err error) *verdict.Fault {
	reason, why := explain(err, at.waitedFor(timeout))
	var lookup *net.DNSError
	if errors.As(err, &lookup) && lookup.IsNotFound && !strings.Contains(target.Hostname(), ".") {
		why += "; the monitor is in a namespace of its own: write a Service as NAME.NAMESPACE"
	}
	return &verdict.Fault{Reason: reason, Message: fmt.Sprintf("GET %s: %s", shown(target), why)}
}

// explain says why there is no answer. late is what it says where that is for lack of time.
func explain(err error, late string) (verdict.Reason, string) {
	// Its text has the address in it, in which anything may stand.
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var refused *addressRefused
	var netError net.Error
	switch {
	case errors.As(err, &refused):
		return verdict.Forbidden, refused.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &netError) && netError.Timeout():
		return verdict.Timeout, late
	case errors.Is(err, io.ErrUnexpectedEOF):
		return verdict.InvalidBody, "the answer ended half way: its sender, or something in between, closed the connection"
	// The errors below have no type of their own.
	case strings.Contains(err.Error(), "response headers exceeded"):
		return verdict.TooLarge, fmt.Sprintf("the headers of the answer are larger than %d KiB: is this the right address?", maxHeaderBytes>>10)
	case notHTTP.MatchString(err.Error()):
		return verdict.InvalidBody, "what answers there does not speak HTTP: is this the right port?"
	}
	return verdict.Unreachable, unreachable(err)
}

// unreachable says why there is no connection, or none any more.
func unreachable(err error) string {
	var lookup *net.DNSError
	var errno syscall.Errno
	var operation *net.OpError
	switch {
	case errors.As(err, &lookup) && lookup.IsNotFound:
		return "there is no host of that name"
	case errors.As(err, &lookup):
		return "the name servers failed to say what address the host has"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: nothing listens on that port, or something in between refuses"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF):
		return "the connection was closed without an answer"
	case errors.Is(err, context.Canceled):
		return "the check was stopped"
	case errors.Is(err, http.ErrSchemeMismatch):
		return "what answers there speaks HTTP without TLS: write http in place of https"
	}
	if why := untrusted(err); why != "" {
		return why
	}
	if errors.As(err, &operation) && operation.Op == "remote error" {
		// An alert of TLS, which is one of few.
		why := "it broke TLS off: " + strings.TrimPrefix(operation.Err.Error(), "tls: ")
		if strings.Contains(why, "certificate") {
			why += "; what it wants to see goes under tls.crt and tls.key into the Secret that certSecretRef names"
		}
		return why
	}
	if errors.As(err, &operation) && operation.Op == "dial" {
		return operation.Err.Error()
	}
	return "the connection broke"
}

// untrusted says what is wrong with TLS, or nothing.
func untrusted(err error) string {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		other     *tls.CertificateVerificationError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &authority):
		return "its certificate is signed by an authority that is not trusted; where it should be, put that authority's certificate under ca.crt into the Secret that certSecretRef names"
	case errors.As(err, &name):
		return "its certificate is for another host name: ask it by a name that the certificate has"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired or is not valid yet: renew it"
	case errors.As(err, &invalid), errors.As(err, &other):
		return "its certificate is not valid"
	case errors.As(err, &record):
		return "what answers there does not speak TLS"
	}
	return ""
}
