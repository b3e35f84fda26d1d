package observe

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"invariant.dev/operator/controllers/verdict"
)

var discard = log.New(io.Discard, "", 0)

// secret stands in every answer below; no message may repeat it.
const secret = "s3cr3t"

const answerHead = "HTTP/1.1 200 OK\r\nX-Note: " + secret + "\r\n"

func withHead(conn net.Conn, rest string) {
	_, _ = conn.Write([]byte(answerHead + rest))
}

func withStatus(t *testing.T, status int) string {
	return saying(t, fmt.Sprintf("HTTP/1.1 %d %s\r\nLocation: /%s\r\nContent-Length: 6\r\n\r\n%s", status, secret, secret, secret))
}

func closedPort(t *testing.T) string {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	return server.URL
}

// patience is the timeout of sources that are expected to use it up, and of all others.
const (
	patience = 100 * time.Millisecond
	plenty   = 30 * time.Second
)

func TestWhatANewcomerIsToldOfASourceThatFails(t *testing.T) {
	t.Parallel()
	tooLong := strings.Repeat("x", maxHeaderBytes)
	for name, test := range map[string]struct {
		url     func(t *testing.T) string
		timeout time.Duration
		reason  verdict.Reason
		message string
		status  int64
		answers bool
	}{
		"it never answers": {func(t *testing.T) string {
			return answering(t, func(_ net.Conn, release <-chan struct{}) { <-release })
		}, patience, verdict.Timeout, "no whole answer within 100ms", 0, false},
		"it answers headers and hangs": {func(t *testing.T) string {
			return answering(t, func(conn net.Conn, release <-chan struct{}) {
				withHead(conn, "Content-Length: 100\r\n\r\n"+secret)
				<-release
			})
		}, patience, verdict.Timeout, "no whole answer within 100ms", 200, false},
		"it answers a byte at a time": {func(t *testing.T) string {
			return answering(t, func(conn net.Conn, release <-chan struct{}) {
				withHead(conn, "Content-Length: 1000000\r\n\r\n")
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-release:
						return
					case <-tick.C:
						if _, err := conn.Write([]byte(" ")); err != nil {
							return
						}
					}
				}
			})
		}, patience, verdict.Timeout, "no whole answer within 100ms", 200, false},
		"it answers 500": {func(t *testing.T) string { return withStatus(t, 500) }, plenty, verdict.HTTPStatus, "500 Internal Server Error", 500, false},
		"it answers 503": {func(t *testing.T) string { return withStatus(t, 503) }, plenty, verdict.HTTPStatus, "503 Service Unavailable", 503, false},
		"it answers 404": {func(t *testing.T) string { return withStatus(t, 404) }, plenty, verdict.HTTPStatus, "404 Not Found", 404, false},
		"it answers 401": {func(t *testing.T) string { return withStatus(t, 401) }, plenty, verdict.HTTPStatus, "401 Unauthorized", 401, false},
		"it answers 301": {func(t *testing.T) string { return withStatus(t, 301) }, plenty, verdict.HTTPStatus,
			"301 Moved Permanently; redirects are not followed: name the address that answers", 301, false},
		"it answers HTML": {func(t *testing.T) string {
			return saying(t, answerHead+"\r\n \n<!DOCTYPE html><html>"+secret+"</html>")
		}, plenty, verdict.InvalidBody, "the answer is not JSON but looks like HTML: is this the address of the API?", 200, true},
		"it answers nothing": {func(t *testing.T) string {
			return saying(t, answerHead+"Content-Length: 0\r\n\r\n")
		}, plenty, verdict.InvalidBody, "the answer is not JSON: it is empty", 200, true},
		"it answers half of a JSON": {func(t *testing.T) string {
			return saying(t, answerHead+"\r\n{\"note\": \""+secret)
		}, plenty, verdict.InvalidBody, "the answer is not JSON", 200, true},
		"it answers text": {func(t *testing.T) string {
			return saying(t, answerHead+"\r\n"+secret)
		}, plenty, verdict.InvalidBody, "the answer is not JSON", 200, true},
		"it answers JSON and more": {func(t *testing.T) string {
			return saying(t, answerHead+"\r\n{} "+secret)
		}, plenty, verdict.InvalidBody, "the answer is not JSON", 200, true},
		"it compresses": {func(t *testing.T) string {
			return saying(t, answerHead+"Content-Encoding: gzip\r\n\r\n\x1f\x8b"+secret)
		}, plenty, verdict.InvalidBody, "the answer is compressed, which was not asked for", 200, false},
		"it closes half way": {func(t *testing.T) string {
			return saying(t, answerHead+"Content-Length: 100\r\n\r\n"+secret)
		}, plenty, verdict.InvalidBody, "the answer ended half way", 200, false},
		"it closes half way through a chunk": {func(t *testing.T) string {
			return saying(t, answerHead+"Transfer-Encoding: chunked\r\n\r\n64\r\n"+secret)
		}, plenty, verdict.InvalidBody, "the answer ended half way", 200, false},
		"it closes before the last chunk": {func(t *testing.T) string {
			return saying(t, answerHead+"Transfer-Encoding: chunked\r\n\r\n6\r\n"+secret+"\r\n")
		}, plenty, verdict.InvalidBody, "the answer ended half way", 200, false},
		"its chunks are malformed": {func(t *testing.T) string {
			return saying(t, answerHead+"Transfer-Encoding: chunked\r\n\r\n"+secret+"\r\n")
		}, plenty, verdict.InvalidBody, "what answers there does not speak HTTP", 200, false},
		"it closes at once": {func(t *testing.T) string {
			return saying(t, "")
		}, plenty, verdict.Unreachable, "the connection was closed without an answer", 0, false},
		"it resets the connection": {func(t *testing.T) string {
			return answering(t, func(conn net.Conn, _ <-chan struct{}) { _ = conn.(*net.TCPConn).SetLinger(0) })
		}, plenty, verdict.Unreachable, "connection reset by peer", 0, false},
		"it resets the connection half way": {func(t *testing.T) string {
			return answering(t, func(conn net.Conn, _ <-chan struct{}) {
				withHead(conn, "Content-Length: 100\r\n\r\n"+secret)
				_ = conn.(*net.TCPConn).SetLinger(0)
			})
		}, plenty, verdict.Unreachable, "connection reset by peer", -1, false},
		"nobody listens": {closedPort, plenty, verdict.Unreachable, "connection refused", 0, false},
		"it does not speak HTTP": {func(t *testing.T) string {
			return saying(t, "SSH-2.0-"+secret+"\r\n")
		}, plenty, verdict.InvalidBody, "what answers there does not speak HTTP", 0, false},
		"its headers are malformed": {func(t *testing.T) string {
			return saying(t, answerHead+secret+"\r\n\r\n{}")
		}, plenty, verdict.InvalidBody, "what answers there does not speak HTTP", 0, false},
		"its length is malformed": {func(t *testing.T) string {
			return saying(t, answerHead+"Content-Length: "+secret+"\r\n\r\n{}")
		}, plenty, verdict.InvalidBody, "what answers there does not speak HTTP", 0, false},
		"its encoding is unknown": {func(t *testing.T) string {
			return saying(t, answerHead+"Transfer-Encoding: "+secret+"\r\n\r\n{}")
		}, plenty, verdict.InvalidBody, "what answers there does not speak HTTP", 0, false},
		"its headers are huge": {func(t *testing.T) string {
			return saying(t, answerHead+"X-Long: "+tooLong+"\r\n\r\n{}")
		}, plenty, verdict.TooLarge, "the headers of the answer are larger than 64 KiB", 0, false},
		"it speaks HTTP where HTTPS is expected": {func(t *testing.T) string {
			server := httptest.NewServer(http.NotFoundHandler())
			t.Cleanup(server.Close)
			return strings.Replace(server.URL, "http", "https", 1)
		}, plenty, verdict.Unreachable, "what answers there speaks HTTP without TLS: write http in place of https", 0, false},
		"its certificate is its own": {func(t *testing.T) string {
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.Config.ErrorLog = discard
			server.StartTLS()
			t.Cleanup(server.Close)
			return server.URL
		}, plenty, verdict.Unreachable, "its certificate is signed by an authority that is not trusted here", 0, false},
		"its port does not exist": {func(*testing.T) string { return "http://127.0.0.1:99999" }, plenty, verdict.Unreachable, "address 99999: invalid port", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := test.url(t)
			g := NewObserver(loopback)
			address := url + "/stores?token=" + secret
			want := verdict.Fault{Reason: test.reason, Message: "GET " + url + "/stores: " + test.message}
			for _, cycle := range []string{"first", "second"} {
				o := observe(t.Context(), g, urlSpec(address, test.timeout))
				switch {
				case o.Fault == nil || *o.Fault != want:
					t.Errorf("the %s cycle says\n%v, want\n%v", cycle, o.Fault, &want)
				case len(o.Readings) != 0:
					t.Errorf("a failed observation has the readings %v", o.Readings)
				}
			}
			wantReading(t, g, address, test.timeout, want, test.status, test.answers)
		})
	}
}

// wantReading requires that the same failure of a store's own endpoint is a reading of that store. A body that is not
// JSON is no failure there.
func wantReading(t *testing.T, g *Observer, address string, d time.Duration, fault verdict.Fault, status int64, answers bool) {
	t.Helper()
	o := observe(t.Context(), g, endpointSpec(address, d))
	if o.Fault != nil || len(o.Readings) != 1 || o.Readings[0].Fault != nil {
		t.Fatalf("an endpoint that fails is %+v; want a reading", o)
	}
	self := o.Readings[0].Value.(map[string]any)
	wantError := fault.Error()
	if answers {
		wantError = ""
	}
	if self["storeID"] != "1" || self["ok"] != answers || self["error"] != wantError || (status >= 0 && self["status"] != status) {
		t.Errorf("self is %v; want ok %v, status %d, error %q", self, answers, status, wantError)
	}
}

func TestAHostThatDoesNotExistIsUnreachable(t *testing.T) {
	t.Parallel()
	o := observe(t.Context(), NewObserver(AddressPolicy{}), urlSpec("http://stores.invalid/", 3*time.Second))
	told := map[string]bool{
		"GET http://stores.invalid/: there is no host of that name":            true,
		"GET http://stores.invalid/: the name of the host cannot be looked up": true, // without a network
		"GET http://stores.invalid/: no whole answer within 3s":                true,
	}
	if o.Fault == nil || !told[o.Fault.Message] {
		t.Errorf("the observation is %v", o.Fault)
	}
}

func TestAnAnswerIsReadUpToItsLimitAndNoFurther(t *testing.T) {
	t.Parallel()
	const size = 100 << 20
	var written atomic.Int64
	done := make(chan struct{})
	url := answering(t, func(conn net.Conn, _ <-chan struct{}) {
		defer close(done)
		withHead(conn, fmt.Sprintf("Content-Length: %d\r\n\r\n", size))
		for chunk := []byte(strings.Repeat("x", 64<<10)); written.Load() < size; {
			n, err := conn.Write(chunk)
			written.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	o := observe(t.Context(), NewObserver(loopback), urlSpec(url, plenty))
	if o.Fault == nil || o.Fault.Reason != verdict.TooLarge || o.Fault.Message != "GET "+url+": the answer is larger than 8 MiB" {
		t.Errorf("the observation is %v", o.Fault)
	}
	<-done
	// Beyond what was read, the kernel takes some into its buffers.
	if written.Load() > MaxBodyBytes+24<<20 {
		t.Errorf("%d MiB of the answer were taken", written.Load()>>20)
	}
}

func TestAnAnswerOfExactlyTheLimitIsRead(t *testing.T) {
	t.Parallel()
	body := `"` + strings.Repeat("x", MaxBodyBytes-2) + `"`
	url := saying(t, answerHead+fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))+body)
	if o := observe(t.Context(), NewObserver(loopback), urlSpec(url, plenty)); o.Fault != nil || len(o.Readings) != 1 {
		t.Errorf("an answer of %d bytes: %v", len(body), o.Fault)
	}
}
