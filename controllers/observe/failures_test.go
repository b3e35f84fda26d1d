package observe

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"invariant.dev/operator/controllers/verdict"
	"invariant.dev/operator/hack/faulty"
)

// secret stands in every answer below; no message may repeat it.
const secret = faulty.Secret

const answerHead = faulty.Head

func withHead(conn net.Conn, rest string) {
	_, _ = conn.Write([]byte(answerHead + rest))
}

func withStatus(status int) func(testing.TB) string {
	return func(tb testing.TB) string { return faulty.Status(tb, status) }
}

// answered is the address of a server that answers that after its head.
func answered(rest string) func(testing.TB) string {
	return func(tb testing.TB) string { return faulty.Saying(tb, answerHead+rest) }
}

// patience is the timeout of sources that are expected to use it up, and of all others.
const (
	patience = 100 * time.Millisecond
	plenty   = 30 * time.Second
)

func TestWhatANewcomerIsToldOfASourceThatFails(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		url     func(testing.TB) string
		timeout time.Duration
		reason  verdict.Reason
		message string
		status  int64
		answers bool
	}{
		"it never answers":             {faulty.Hanging, patience, verdict.Timeout, "it took the connection, but did not answer within 100ms", 0, false},
		"it answers headers and hangs": {faulty.HangingHalfWay, patience, verdict.Timeout, "the answer began, but was not whole within 100ms", 200, false},
		"it answers a byte at a time":  {faulty.Dripping, patience, verdict.Timeout, "the answer began, but was not whole within 100ms", 200, false},
		"it answers 500":               {withStatus(500), plenty, verdict.HTTPStatus, "500 Internal Server Error", 500, false},
		"it answers 503":               {withStatus(503), plenty, verdict.HTTPStatus, "503 Service Unavailable", 503, false},
		"it answers 404":               {withStatus(404), plenty, verdict.HTTPStatus, "404 Not Found", 404, false},
		"it answers 401":               {withStatus(401), plenty, verdict.HTTPStatus, "401 Unauthorized", 401, false},
		"it answers 301": {withStatus(301), plenty, verdict.HTTPStatus,
			"301 Moved Permanently; redirects are not followed: name the address that answers", 301, false},
		"it answers HTML":                    {faulty.HTML, plenty, verdict.InvalidBody, "the answer is not JSON but looks like HTML: is this the address of the API?", 200, true},
		"it answers nothing":                 {faulty.Empty, plenty, verdict.InvalidBody, "the answer is not JSON: it is empty", 200, true},
		"it answers half of a JSON":          {faulty.HalfAJSON, plenty, verdict.InvalidBody, "the answer is not JSON", 200, true},
		"it answers text":                    {faulty.Text, plenty, verdict.InvalidBody, "the answer is not JSON", 200, true},
		"it answers JSON and more":           {answered("\r\n{} " + secret), plenty, verdict.InvalidBody, "the answer is not JSON", 200, true},
		"it compresses":                      {faulty.GzipBomb, plenty, verdict.InvalidBody, "the answer is compressed, which was not asked for", 200, false},
		"it closes half way":                 {faulty.ShorterThanItSays, plenty, verdict.InvalidBody, "the answer ended half way", 200, false},
		"it closes half way through a chunk": {answered("Transfer-Encoding: chunked\r\n\r\n64\r\n" + secret), plenty, verdict.InvalidBody, "the answer ended half way", 200, false},
		"it closes before the last chunk":    {faulty.LackingTheLastChunk, plenty, verdict.InvalidBody, "the answer ended half way", 200, false},
		"its chunks are malformed":           {answered("Transfer-Encoding: chunked\r\n\r\n" + secret + "\r\n"), plenty, verdict.InvalidBody, "what answers there does not speak HTTP", 200, false},
		"it closes at once":                  {faulty.Closing, plenty, verdict.Unreachable, "the connection was closed without an answer", 0, false},
		"it resets the connection":           {faulty.Resetting, plenty, verdict.Unreachable, "connection reset by peer", 0, false},
		"it resets the connection half way": {func(tb testing.TB) string {
			return faulty.Answering(tb, func(conn net.Conn, _ <-chan struct{}) {
				withHead(conn, "Content-Length: 100\r\n\r\n"+secret)
				_ = conn.(*net.TCPConn).SetLinger(0)
			})
		}, plenty, verdict.Unreachable, "connection reset by peer", -1, false},
		"nobody listens":                         {faulty.Refusing, plenty, verdict.Unreachable, "connection refused", 0, false},
		"it does not speak HTTP":                 {faulty.NotHTTP, plenty, verdict.InvalidBody, "what answers there does not speak HTTP", 0, false},
		"its headers are malformed":              {answered(secret + "\r\n\r\n{}"), plenty, verdict.InvalidBody, "what answers there does not speak HTTP", 0, false},
		"its length is malformed":                {answered("Content-Length: " + secret + "\r\n\r\n{}"), plenty, verdict.InvalidBody, "what answers there does not speak HTTP", 0, false},
		"its encoding is unknown":                {answered("Transfer-Encoding: " + secret + "\r\n\r\n{}"), plenty, verdict.InvalidBody, "what answers there does not speak HTTP", 0, false},
		"its headers are huge":                   {faulty.HugeHeaders, plenty, verdict.TooLarge, "the headers of the answer are larger than 16 KiB", 0, false},
		"it speaks HTTP where HTTPS is expected": {faulty.WithoutTLS, plenty, verdict.Unreachable, "what answers there speaks HTTP without TLS: write http in place of https", 0, false},
		"its certificate is its own": {func(tb testing.TB) string {
			url, _ := faulty.TLS(tb, nil)
			return url
		}, plenty, verdict.Unreachable, "its certificate is signed by an authority that is not trusted", 0, false},
		"its port does not exist": {func(testing.TB) string { return "http://127.0.0.1:99999" }, plenty, verdict.Unreachable, "address 99999: invalid port", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := test.url(t)
			g := NewObserver(loopback)
			address := url + "/stores?token=" + secret
			// What follows says what to do about it: docs/source-failures.md has all of it.
			want := verdict.Fault{Reason: test.reason, Message: "GET " + url + "/stores: " + test.message}
			var told verdict.Fault
			for _, cycle := range []string{"first", "second"} {
				o := observe(t.Context(), g, urlSpec(address, test.timeout))
				switch {
				case o.Fault == nil || o.Fault.Reason != want.Reason || !strings.HasPrefix(o.Fault.Message, want.Message) || strings.Contains(o.Fault.Message, secret):
					t.Errorf("the %s cycle says\n%v, want\n%v", cycle, o.Fault, &want)
				case cycle == "second" && *o.Fault != told:
					t.Errorf("the second cycle says\n%v, the first\n%v", o.Fault, &told)
				case len(o.Readings) != 0:
					t.Errorf("a failed observation has the readings %v", o.Readings)
				default:
					told = *o.Fault
				}
			}
			wantReading(t, g, address, test.timeout, told, test.status, test.answers)
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
		"GET http://stores.invalid/: there is no host of that name":                                    true,
		"GET http://stores.invalid/: the name servers failed to say what address the host has":         true, // without a network
		"GET http://stores.invalid/: the name servers did not say within 3s what address the host has": true,
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
	if o.Fault == nil || o.Fault.Reason != verdict.TooLarge || o.Fault.Message != "GET "+url+": the answer is larger than 8 MiB: ask for less" {
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
