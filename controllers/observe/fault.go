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

// transportFault says in what way no whole answer came. Its words are the same in every cycle that the same happens
// (Go's own name the port that this end of the connection had), and hold nothing of what was answered (Go's own quote it).
func transportFault(address string, timeout time.Duration, err error) *verdict.Fault {
	reason, why := explain(timeout, err)
	return &verdict.Fault{Reason: reason, Message: fmt.Sprintf("GET %s: %s", shown(address), why)}
}

func explain(timeout time.Duration, err error) (verdict.Reason, string) {
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
		return verdict.Timeout, fmt.Sprintf("no whole answer within %v", timeout)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return verdict.InvalidBody, "the answer ended half way"
	// The errors below have no type of their own.
	case strings.Contains(err.Error(), "response headers exceeded"):
		return verdict.TooLarge, fmt.Sprintf("the headers of the answer are larger than %d KiB", maxHeaderBytes>>10)
	case notHTTP.MatchString(err.Error()):
		return verdict.InvalidBody, "what answers there does not speak HTTP"
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
		return "the name of the host cannot be looked up"
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
		return "it broke TLS off: " + strings.TrimPrefix(operation.Err.Error(), "tls: ")
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
		alert     tls.AlertError
	)
	switch {
	case errors.As(err, &authority):
		return "its certificate is signed by an authority that is not trusted here"
	case errors.As(err, &name):
		return "its certificate is for another host name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired or is not valid yet"
	case errors.As(err, &invalid), errors.As(err, &other):
		return "its certificate is not valid"
	case errors.As(err, &record):
		return "what answers there does not speak TLS"
	case errors.As(err, &alert):
		return alert.Error()
	}
	return ""
}
