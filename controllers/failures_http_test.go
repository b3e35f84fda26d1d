package controllers

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/observe"
	"invariant.dev/operator/hack/faulty"
)

func urlSection() section {
	return section{
		title: "http with url",
		intro: "`url: http://pd:2379/pd/api/v1/stores`, `items: self.stores`, `storeID: string(self.id)`, `expression: self.used < 70`. " +
			"The addresses are those of servers that are made to fail like that.",
		failures: append(overHTTP(storeList), []failure{
			{"answers JSON that is cut off", server(storeList, faulty.HalfAJSON)},
			{"answers an empty body", server(storeList, faulty.Empty)},
			{"answers HTML", server(storeList, faulty.HTML)},
			{"answers text", server(storeList, faulty.Text)},
			{"answers NaN, which JSON has not", body(storeList, `{"stores": [{"id": 1, "used": NaN}]}`)},
			{"answers more bytes than its `Content-Length`, which are ignored", func(s *scene) {
				server(storeList, func(tb testing.TB) string { return faulty.LongerThanItSays(tb, `{"stores": [{"id": 1, "used": 1}]}`) })(s)
				// Until net/http has seen them, the next look would take them for the beginning of its answer.
				s.between = func() { s.waitUntilLogged("a source sent more than one answer") }
			}},
			{"lists no stores", body(storeList, `{"stores": []}`)},
			{"lists fewer stores than `minStores: 3`", func(s *scene) {
				body(storeList, `{"stores": [{"id": 1, "used": 1}]}`)(s)
				s.spec.MinStores = new(int32(3))
			}},
			{"lists more than 10,000 stores", body(storeList, `{"stores": [`+strings.Repeat(`0,`, 10_000)+`0]}`)},
			{"`items` gives no list", body(storeList, `{"stores": "`+faulty.Secret+`"}`)},
			{"what `items` names is not there", body(storeList, `{"`+faulty.Secret+`": []}`)},
			{"a field of a store is not there", body(storeList, `{"stores": [{"id": 1}, {"id": 2, "used": 1}]}`)},
			{"a string where a number is needed", body(storeList, `{"stores": [{"id": 1, "used": "`+faulty.Secret+`"}, {"id": 2, "used": 1}]}`)},
			{"null where a number is needed", body(storeList, `{"stores": [{"id": 1, "used": null}, {"id": 2, "used": 1}]}`)},
			{"a store without an ID", body(storeList, `{"stores": [{"used": 1}, {"id": 2, "used": 1}]}`)},
		}...),
		notes: []string{
			"A partial answer that says so: there is no standard for that in HTTP and JSON. Write it into the expression, or use `minStores`.",
		},
	}
}

func endpointsSection() section {
	return section{
		title: "http with endpoints",
		intro: "Two endpoints, of which that of store 1 fails (over https, it is the only one); `storeID: self.storeID`, `expression: self.ok && self.body.health == 'true'`, " +
			"`message: \"self.ok ? 'not healthy' : self.error\"`. An endpoint that does not answer is a reading: the expression judges it, and here it is a " +
			"violation. What says nothing about the store, as that the monitor may not ask, is Unknown. After \"ticket\" stands what the ticket says.",
		failures: append(overHTTP(health), []failure{
			{"answers JSON that is cut off", server(health, faulty.HalfAJSON)},
			{"answers an empty body", server(health, faulty.Empty)},
			{"answers HTML", server(health, faulty.HTML)},
			{"answers text", server(health, faulty.Text)},
			{"answers JSON without the field", body(health, `{"`+faulty.Secret+`": 1}`)},
			{"answers JSON of another type", body(health, `["`+faulty.Secret+`"]`)},
			{"answers that it is not healthy", body(health, `{"health": "false", "reason": "`+faulty.Secret+`"}`)},
		}...),
		notes: []string{
			"An empty list: the endpoints are named in the Invariant.",
			"NaN: a body that is not JSON is text, as under \"answers text\".",
		},
	}
}

// storeList is a source that lists stores at an address.
func storeList(s *scene, address string) {
	s.spec = v1alpha1.InvariantSpec{
		Source:     v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: address + "/pd/api/v1/stores", Items: "self.stores"}},
		StoreID:    "string(self.id)",
		Expression: "self.used < 70",
	}
}

// health is a source whose first store is at an address. Where that speaks plain http there is a second store, which is well.
func health(s *scene, address string) {
	endpoints := []v1alpha1.Endpoint{{StoreID: "1", URL: address + "/health"}}
	if strings.HasPrefix(address, "http:") {
		endpoints = append(endpoints, v1alpha1.Endpoint{StoreID: "2", URL: faulty.Body(s, `{"health": "true"}`) + "/health"})
	}
	s.spec = v1alpha1.InvariantSpec{
		Source:     v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{Endpoints: endpoints}},
		StoreID:    "self.storeID",
		Expression: "self.ok && self.body.health == 'true'",
		Message:    "self.ok ? 'not healthy' : self.error",
	}
}

// asking makes a scene's source one that reads an address.
type asking func(s *scene, address string)

// server is a failure of the server at the source's address.
func server(ask asking, address func(testing.TB) string) func(*scene) {
	return func(s *scene) {
		ask(s, address(s))
		s.timeout(plenty)
	}
}

// body is a source that answers that.
func body(ask asking, answer string) func(*scene) {
	return server(ask, func(tb testing.TB) string { return faulty.Body(tb, answer) })
}

// hanging is a server whose answer does not come in time.
func hanging(ask asking, address func(testing.TB) string) func(*scene) {
	return func(s *scene) {
		ask(s, address(s))
		s.timeout(patience)
	}
}

func (s *scene) timeout(d time.Duration) {
	timeout := &v1alpha1.Duration{Duration: metav1.Duration{Duration: d}}
	if s.spec.Source.HTTP != nil {
		s.spec.Source.HTTP.Timeout = timeout
	} else {
		s.spec.Source.Prometheus.Timeout = timeout
	}
}

// access is what the source wants to see.
func (s *scene) access() *v1alpha1.Access {
	if s.spec.Source.HTTP != nil {
		return &s.spec.Source.HTTP.Access
	}
	return &s.spec.Source.Prometheus.Access
}

func at(address string) func(testing.TB) string { return func(testing.TB) string { return address } }

func status(code int) func(testing.TB) string {
	return func(tb testing.TB) string { return faulty.Status(tb, code) }
}

// overHTTP are the failures of whatever is read over HTTP.
func overHTTP(ask asking) []failure {
	failures := []failure{
		{"refuses the connection", server(ask, faulty.Refusing)},
		{"resets the connection", server(ask, faulty.Resetting)},
		{"closes the connection", server(ask, faulty.Closing)},
		{"does not answer (`timeout: 100ms`)", hanging(ask, faulty.Hanging)},
		{"answers headers and a part of the body, and hangs", hanging(ask, faulty.HangingHalfWay)},
		{"answers a byte at a time", hanging(ask, faulty.Dripping)},
		{"drops what is sent to it (`timeout: 100ms`)", hanging(ask, faulty.Dropping)},
		{"has a name that does not exist, in one word", server(ask, at("http://pd:2379"))},
		{"has a name that does not exist", server(ask, at("http://pd.tikv:2379"))},
		{"has a name that the name server fails on", server(ask, at("http://pd."+failingName+":2379"))},
		{"has a name that the name server says nothing about", hanging(ask, at("http://pd."+silentName+":2379"))},
		{"answers 400", server(ask, status(400))},
		{"answers 401", server(ask, status(401))},
		{"answers 401 to what `secretRef` holds", func(s *scene) {
			server(ask, status(401))(s)
			s.secret("pd-auth", map[string]string{"token": faulty.Secret})
			s.access().SecretRef = &v1alpha1.SecretReference{Name: "pd-auth"}
			s.access().AllowCredentialsOverHTTP = true
		}},
		{"answers 403", server(ask, status(403))},
		{"answers 404", server(ask, status(404))},
		{"answers 429", server(ask, status(429))},
		{"answers 500", server(ask, status(500))},
		{"answers 503", server(ask, status(503))},
		{"redirects", server(ask, status(301))},
		{"ends before its `Content-Length`", server(ask, faulty.ShorterThanItSays)},
		{"ends before its last chunk", server(ask, faulty.LackingTheLastChunk)},
		{"answers more than 8 MiB", server(ask, faulty.TooLarge)},
		{"answers more than 500,000 values", server(ask, faulty.TooManyValues)},
		{"answers more than 16 KiB of headers", server(ask, faulty.HugeHeaders)},
		{"answers a gzip bomb", server(ask, faulty.GzipBomb)},
		{"does not speak HTTP", server(ask, faulty.NotHTTP)},
		{"is at an address that may not be read", func(s *scene) {
			server(ask, status(200))(s)
			s.observer.Policy = observe.AddressPolicy{}
		}},
	}
	return append(append(failures, overTLS(ask)...), withSecrets(ask)...)
}

// overTLS are the failures of whatever is read over TLS.
func overTLS(ask asking) []failure {
	return []failure{
		{"speaks http where https is asked", server(ask, faulty.WithoutTLS)},
		{"speaks https where http is asked", server(ask, func(tb testing.TB) string {
			url, _ := faulty.TLS(tb, nil)
			return "http" + strings.TrimPrefix(url, "https")
		})},
		{"does not answer where TLS is spoken", hanging(ask, faulty.HangingTLS)},
		{"shows a certificate of an authority that is not trusted", server(ask, func(tb testing.TB) string {
			url, _ := faulty.TLS(tb, nil)
			return url
		})},
		{"shows a certificate of another authority than `ca.crt`", trusting(ask, func(tb testing.TB) (string, []byte) {
			url, _ := faulty.TLS(tb, nil)
			_, other := faulty.TLS(tb, nil)
			return url, other
		})},
		{"shows a certificate for another name", trusting(ask, func(tb testing.TB) (string, []byte) {
			url, authority := faulty.TLS(tb, nil)
			return strings.Replace(url, "127.0.0.1", "localhost", 1), authority
		})},
		{"shows a certificate that has expired", trusting(ask, faulty.Expired)},
		{"wants to see a certificate", trusting(ask, func(tb testing.TB) (string, []byte) {
			return faulty.TLS(tb, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })
		})},
		{"speaks TLS 1.1 at most", trusting(ask, func(tb testing.TB) (string, []byte) {
			return faulty.TLS(tb, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })
		})},
	}
}

// trusting reads a server over TLS, and trusts an authority.
func trusting(ask asking, serve func(testing.TB) (url string, authority []byte)) func(*scene) {
	return func(s *scene) {
		url, authority := serve(s)
		server(ask, at(url))(s)
		s.secret("pd-tls", map[string]string{"ca.crt": string(authority)})
		s.access().CertSecretRef = &v1alpha1.SecretReference{Name: "pd-tls"}
	}
}

// withSecrets are the failures of Secrets. None of the sources is asked.
func withSecrets(ask asking) []failure {
	credentials := func(arrange func(s *scene)) func(*scene) {
		return func(s *scene) {
			server(ask, at("https://127.0.0.1:2379"))(s)
			s.access().SecretRef = &v1alpha1.SecretReference{Name: "pd-auth"}
			arrange(s)
		}
	}
	holding := func(data map[string]string) func(*scene) {
		return credentials(func(s *scene) { s.secret("pd-auth", data) })
	}
	certificates := func(data map[string]string) func(*scene) {
		return func(s *scene) {
			server(ask, at("https://127.0.0.1:2379"))(s)
			s.access().CertSecretRef = &v1alpha1.SecretReference{Name: "pd-tls"}
			s.secret("pd-tls", data)
		}
	}
	return []failure{
		{"the Secret does not exist", credentials(func(s *scene) { s.mayRead("pd-auth") })},
		{"the monitor may not read the Secret", credentials(func(s *scene) {
			s.hiddenSecret(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "pd-auth"}, StringData: map[string]string{"token": faulty.Secret}})
		})},
		{"the API server refuses the connection when it is asked for the Secret", credentials(func(s *scene) {
			proxy := s.proxy()
			s.readSecretsWith(proxy.client(s))
			proxy.refuse()
		})},
		{"the API server does not answer when it is asked for the Secret", credentials(func(s *scene) {
			proxy := s.proxy()
			s.readSecretsWith(proxy.client(s))
			proxy.fails(hangs)
			s.timeout(patience)
		})},
		{"the API server answers 500 when it is asked for the Secret", credentials(func(s *scene) {
			proxy := s.proxy()
			s.readSecretsWith(proxy.client(s))
			proxy.fails(answersStatus(500))
		})},
		{"the Secret has none of the keys", holding(map[string]string{"passwd": faulty.Secret})},
		{"the Secret has a token and a username", holding(map[string]string{"token": faulty.Secret, "username": faulty.Secret})},
		{"the Secret's token has a blank in it", holding(map[string]string{"token": "Bearer " + faulty.Secret})},
		{"the Secret holds a ServiceAccount's token", credentials(func(s *scene) {
			s.mayRead("pd-auth")
			s.hiddenSecret(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "pd-auth", Annotations: map[string]string{corev1.ServiceAccountNameKey: "default"}},
				Type: corev1.SecretTypeServiceAccountToken, StringData: map[string]string{"token": faulty.Secret}})
		})},
		{"credentials over http", credentials(func(s *scene) {
			ask(s, "http://127.0.0.1:2379")
			s.access().SecretRef = &v1alpha1.SecretReference{Name: "pd-auth"}
		})},
		{"credentials over HTTP, spelt so that the API server takes it", credentials(func(s *scene) {
			ask(s, "HTTP://127.0.0.1:2379")
			s.access().SecretRef = &v1alpha1.SecretReference{Name: "pd-auth"}
		})},
		{"certificates over http", func(s *scene) {
			server(ask, at("http://127.0.0.1:2379"))(s)
			s.access().CertSecretRef = &v1alpha1.SecretReference{Name: "pd-tls"}
		}},
		{"the Secret has no certificates", certificates(map[string]string{"cert": faulty.Secret})},
		{"the Secret's `ca.crt` is no certificate", certificates(map[string]string{"ca.crt": faulty.Secret})},
		{"the Secret's `tls.crt` has no `tls.key`", certificates(map[string]string{"tls.crt": faulty.Secret})},
	}
}
