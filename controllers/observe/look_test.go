package observe

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// recording is a server that answers JSON and keeps the requests.
func recording(t *testing.T, answer http.HandlerFunc) (address string, requests func() []*http.Request) {
	t.Helper()
	var lock sync.Mutex
	var got []*http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lock.Lock()
		got = append(got, r)
		lock.Unlock()
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []*http.Request {
		lock.Lock()
		defer lock.Unlock()
		return got
	}
}

func answerJSON(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `{"id": 1}`) }

func TestALookReadsEachAddressOnceHoweverManySpecsNameIt(t *testing.T) {
	t.Parallel()
	address, requests := recording(t, answerJSON)
	var specs []*v1alpha1.InvariantSpec
	for range 10 {
		specs = append(specs, urlSpec(address+"/a", plenty), endpointSpec(address+"/a", plenty), endpointSpec(address+"/b", plenty))
	}
	look := NewObserver(loopback).Look(t.Context(), system, specs)
	for _, spec := range specs {
		if o := look.Observation(spec); o.Fault != nil || len(o.Readings) != 1 {
			t.Errorf("the observation is %+v", o)
		}
	}
	if n := len(requests()); n != 2 {
		t.Errorf("%d requests for 2 addresses", n)
	}
}

func TestTheLongestTimeoutOfThoseWhoReadAnAddressApplies(t *testing.T) {
	t.Parallel()
	short, long := urlSpec("", patience), urlSpec("", plenty)
	address := answering(t, func(conn net.Conn, _ <-chan struct{}) {
		// The answer comes once the shorter timeout is over.
		<-time.After(2 * patience)
		withHead(conn, "\r\n{}")
	})
	short.Source.HTTP.URL, long.Source.HTTP.URL = address, address
	for _, specs := range [][]*v1alpha1.InvariantSpec{{short, long}, {long, short}} {
		if o := NewObserver(loopback).Look(t.Context(), system, specs).Observation(short); o.Fault != nil {
			t.Errorf("the shorter timeout applied: %v", o.Fault)
		}
	}
}

func TestARequestIsAPlainGETWithoutCredentialsOrCookies(t *testing.T) {
	t.Parallel()
	address, requests := recording(t, func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "1"})
		answerJSON(w, r)
	})
	g := NewObserver(loopback)
	for range 2 {
		observe(t.Context(), g, urlSpec(address, plenty))
	}
	if len(requests()) != 2 {
		t.Fatalf("%d requests, want 2", len(requests()))
	}
	for _, r := range requests() {
		if r.Method != http.MethodGet || r.ContentLength != 0 {
			t.Errorf("the request is %s with %d bytes", r.Method, r.ContentLength)
		}
		want := http.Header{"Accept": {"application/json, */*;q=0.5"}, "User-Agent": {"invariant-operator"}}
		if !reflect.DeepEqual(r.Header, want) {
			t.Errorf("the headers are %v, want %v", r.Header, want)
		}
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		address, requests := recording(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", status) })
		o := observe(t.Context(), NewObserver(loopback), urlSpec(address, plenty))
		if o.Fault == nil || o.Fault.Reason != verdict.HTTPStatus || len(requests()) != 1 {
			t.Errorf("%d: %v after %d requests", status, o.Fault, len(requests()))
		}
	}
}

func TestAProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	address, requests := recording(t, answerJSON)
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, address)
	}
	proxy, err := http.ProxyFromEnvironment(httptest.NewRequest(http.MethodGet, "http://stores.invalid/", nil))
	if want, _ := url.Parse(address); err != nil || proxy == nil || *proxy != *want {
		t.Fatalf("the environment names the proxy %v, %v: the test proves nothing", proxy, err)
	}
	o := observe(t.Context(), NewObserver(loopback), urlSpec("http://stores.invalid/", 3*time.Second))
	if o.Fault == nil || len(requests()) != 0 {
		t.Errorf("the proxy got %d requests, and the observation is %v", len(requests()), o.Fault)
	}
}

func TestALookEndsSoonAfterItsContext(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 200)
	address := answering(t, func(_ net.Conn, release <-chan struct{}) { asked <- struct{}{}; <-release })
	var specs []*v1alpha1.InvariantSpec
	for i := range 100 {
		specs = append(specs, urlSpec(fmt.Sprintf("%s/%d", address, i), time.Hour))
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		NewObserver(loopback).Look(ctx, system, specs)
	}()
	<-asked
	cancel()
	select {
	case <-ended:
	case <-time.After(plenty):
		t.Fatal("the look still waits for its sources")
	}
}

func TestNumbersKeepTheirDigits(t *testing.T) {
	t.Parallel()
	for written, want := range map[string]any{
		"9007199254740993":       int64(9007199254740993),
		"9223372036854775807":    int64(9223372036854775807),
		"-9223372036854775808":   int64(-9223372036854775808),
		"9223372036854775808":    float64(1 << 63), // an unsigned number of 64 bits above the signed ones: digits are lost
		"18446744073709551615":   float64(1 << 64),
		"1.0":                    float64(1),
		"1e3":                    float64(1000),
		"7":                      int64(7),
		`"18446744073709551615"`: "18446744073709551615",
	} {
		o := observe(t.Context(), NewObserver(loopback), urlSpec(saying(t, answerHead+"\r\n"+written), plenty))
		if o.Fault != nil || !reflect.DeepEqual(o.Readings, []verdict.Reading{{Value: want}}) {
			t.Errorf("%s is read as %#v, want %#v", written, o, want)
		}
	}
}

func TestAnEndpointsReadingHasItsBodyParsedOrAsText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		answer string
		want   map[string]any
	}{
		{answerHead + "\r\n{\"health\":\"true\"}", map[string]any{"storeID": "1", "ok": true, "status": int64(200), "body": map[string]any{"health": "true"}, "error": ""}},
		{answerHead + "\r\nok\n", map[string]any{"storeID": "1", "ok": true, "status": int64(200), "body": "ok\n", "error": ""}},
		{answerHead + "Content-Length: 0\r\n\r\n", map[string]any{"storeID": "1", "ok": true, "status": int64(200), "body": "", "error": ""}},
		{"HTTP/1.1 204 No Content\r\n\r\n", map[string]any{"storeID": "1", "ok": true, "status": int64(204), "body": "", "error": ""}},
		{"HTTP/1.1 503 No\r\n\r\n{\"health\":\"false\"}", map[string]any{"storeID": "1", "ok": false, "status": int64(503), "body": map[string]any{"health": "false"},
			"error": "HTTPStatus: GET ADDRESS: 503 Service Unavailable"}},
	} {
		address := saying(t, test.answer)
		test.want["error"] = strings.Replace(test.want["error"].(string), "ADDRESS", address, 1)
		o := observe(t.Context(), NewObserver(loopback), endpointSpec(address, plenty))
		if o.Fault != nil || !reflect.DeepEqual(o.Readings, []verdict.Reading{{Value: test.want}}) {
			t.Errorf("after %q the observation is\n%+v, want\n%+v", test.answer, o, test.want)
		}
	}
}

func TestAnEndpointThatPolicyRefusesSaysNothingOfItsStore(t *testing.T) {
	t.Parallel()
	address, requests := recording(t, answerJSON)
	o := observe(t.Context(), NewObserver(AddressPolicy{}), endpointSpec(address, plenty))
	if o.Fault != nil || len(o.Readings) != 1 || o.Readings[0].Fault == nil || o.Readings[0].Fault.Reason != verdict.Forbidden {
		t.Errorf("the observation is %+v; want a reading that must not be judged", o)
	}
	if len(requests()) != 0 {
		t.Error("the address was read")
	}
}

func TestManyEndpointsAreReadAtOnce(t *testing.T) {
	t.Parallel()
	const together = 8
	var waiting atomic.Int32
	all := make(chan struct{})
	address, _ := recording(t, func(w http.ResponseWriter, r *http.Request) {
		if waiting.Add(1) == together {
			close(all)
		}
		select {
		case <-all:
			answerJSON(w, r)
		case <-r.Context().Done():
		}
	})
	spec := urlSpec("", plenty)
	spec.Source.HTTP.URL = ""
	for i := range together {
		spec.Source.HTTP.Endpoints = append(spec.Source.HTTP.Endpoints, v1alpha1.Endpoint{StoreID: fmt.Sprint(i), URL: fmt.Sprintf("%s/%d", address, i)})
	}
	for i, reading := range observe(t.Context(), NewObserver(loopback), spec).Readings {
		self := reading.Value.(map[string]any)
		if self["storeID"] != fmt.Sprint(i) || self["ok"] != true {
			t.Errorf("endpoint %d: %v", i, self)
		}
	}
}

func TestASourceThatIsNotHTTPSaysSo(t *testing.T) {
	t.Parallel()
	spec := &v1alpha1.InvariantSpec{Source: v1alpha1.Source{Prometheus: &v1alpha1.PrometheusSource{Query: "up"}}}
	if o := observe(t.Context(), NewObserver(AddressPolicy{}), spec); o.Fault == nil || o.Fault.Reason != verdict.InvalidExpression {
		t.Errorf("the observation is %+v", o)
	}
}

func TestAnAddressThatThereWasNoTimeToAskSaysNothing(t *testing.T) {
	t.Parallel()
	well, _ := recording(t, answerJSON)
	hangs := answering(t, func(_ net.Conn, release <-chan struct{}) { <-release })
	var specs []*v1alpha1.InvariantSpec
	for i := range maxAtOnce {
		specs = append(specs, endpointSpec(fmt.Sprintf("%s/%d", hangs, i), 30*patience), endpointSpec(fmt.Sprintf("%s/%d", well, i), 30*patience))
		specs = append(specs, endpointSpec(fmt.Sprintf("%s/b%d", hangs, i), 30*patience))
	}
	look := NewObserver(loopback).Look(t.Context(), system, specs)
	unasked := 0
	for _, spec := range specs {
		endpoint := spec.Source.HTTP.Endpoints[0]
		r := look.Observation(spec).Readings[0]
		switch ok := r.Value.(map[string]any)["ok"]; {
		case r.Fault != nil:
			unasked++
		case ok != strings.HasPrefix(endpoint.URL, well):
			t.Errorf("%s: ok is %v", endpoint.URL, ok)
		}
	}
	if unasked == 0 || unasked > len(specs)-maxAtOnce {
		t.Errorf("%d of %d could not be asked", unasked, len(specs))
	}
}

func TestASecretIsReadWithinTheLongestTimeoutOfThoseWhoNeedIt(t *testing.T) {
	t.Parallel()
	address, _ := recording(t, answerJSON)
	observer := NewObserver(loopback)
	observer.Secrets = func(ctx context.Context, _, name string) (*corev1.Secret, error) {
		// It comes once the shorter timeout is over.
		select {
		case <-time.After(20 * patience):
			return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string][]byte{"token": []byte("t")}}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	long := urlSpec(address, plenty)
	specs := []*v1alpha1.InvariantSpec{long}
	for i := range 20 {
		specs = append(specs, urlSpec(fmt.Sprintf("%s/%d", address, i), 10*patience))
	}
	for _, spec := range specs {
		spec.Source.HTTP.SecretRef, spec.Source.HTTP.AllowCredentialsOverHTTP = &v1alpha1.SecretReference{Name: "auth"}, true
	}
	look := observer.Look(t.Context(), system, specs)
	for _, spec := range specs {
		if o := look.Observation(spec); o.Fault != nil {
			t.Errorf("with a timeout of %v: %v", TimeoutOf(spec), o.Fault)
		}
	}
}
