package controllers

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/ptr"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
	"invariant.dev/operator/hack/promtest"
)

// scraped is a real Prometheus that scrapes two stores.
type scraped struct {
	*promtest.Prometheus
	one, two     *promtest.Target
	used1, used2 prometheus.Gauge
}

func newScraped(t *testing.T) *scraped {
	t.Helper()
	s := &scraped{one: promtest.NewTarget(t), two: promtest.NewTarget(t)}
	s.used1, s.used2 = s.one.Gauge("used_ratio", nil), s.two.Gauge("used_ratio", nil)
	s.Prometheus = promtest.Run(t, promtest.Options{Scrape: []promtest.Scrape{
		{Job: "one", Targets: []string{s.one.Address}, Labels: map[string]string{"instance": `tikv-"1"`}, Interval: 100 * time.Millisecond},
		{Job: "two", Targets: []string{s.two.Address}, Labels: map[string]string{"instance": "tikv-2"}, Interval: 100 * time.Millisecond},
	}})
	s.set(t, 0.5, 0.5)
	return s
}

// set sets what the stores have used, and waits until Prometheus knows.
func (s *scraped) set(t *testing.T, one, two float64) {
	t.Helper()
	s.used1.Set(one)
	s.used2.Set(two)
	s.WaitFor(t, `used_ratio{job="one"}`, promtest.Value(one))
	s.WaitFor(t, `used_ratio{job="two"}`, promtest.Value(two))
}

// querying is an Invariant about a query.
func querying(url, query string, change ...func(*v1alpha1.InvariantSpec)) func(*v1alpha1.InvariantSpec) {
	return func(s *v1alpha1.InvariantSpec) {
		s.Source = v1alpha1.Source{Prometheus: &v1alpha1.PrometheusSource{URL: url, Query: query}}
		s.StoreID, s.Expression, s.Message, s.Snapshot = "self.labels.instance", "self.value <= 0.8", "self.labels.instance + ' is at ' + string(self.value)", nil
		for _, c := range change {
			c(s)
		}
	}
}

// alerting is an Invariant in the style of an alerting rule.
func alerting(url, query string) func(*v1alpha1.InvariantSpec) {
	return querying(url, query, func(s *v1alpha1.InvariantSpec) { s.StoreID, s.Expression, s.Message = "", "", "" })
}

func TestEachSeriesOfAQueryIsAStoreAndIsJudged(t *testing.T) {
	t.Parallel()
	p, b := newScraped(t), newBench(t)
	b.prometheusURL = p.URL
	b.restart()
	b.invariant("disk-used", querying("", "used_ratio"))
	b.reconcile()
	b.wantTickets()
	p.set(t, 0.9, 0.5)
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Open)[0]
	if v := ticket.Spec.Violations; len(v) != 1 || v[0].StoreID != `tikv-"1"` || v[0].Message != `tikv-"1" is at 0.9` {
		t.Errorf("the violations are %+v", v)
	}
	p.set(t, 0.7, 0.5)
	b.cycle()
	b.wantTickets(v1alpha1.Resolved)
}

func TestAStoreThatDiesDoesNotResolveItsOwnTicket(t *testing.T) {
	t.Parallel()
	p, b := newScraped(t), newBench(t)
	b.invariant("disk-used", querying(p.URL, "used_ratio"))
	b.invariant("disk-used-alert", alerting(p.URL, "used_ratio > 0.8"))
	b.reconcile()
	p.set(t, 0.9, 0.5)
	b.cycle()
	b.wantTickets(v1alpha1.Open)
	p.one.Stop()
	p.WaitFor(t, `used_ratio{job="one"}`, promtest.Empty)
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Open)[0]
	for _, v := range ticket.Status.Violations {
		// An alert is over when its series is; that is what alerting rules do.
		if v.Active != (v.Invariant == "disk-used") {
			t.Errorf("%s: active is %v", v.Invariant, v.Active)
		}
	}
	p.one.Start()
	p.set(t, 0.4, 0.5)
	b.cycle()
	b.wantTickets(v1alpha1.Resolved)
}

func TestWithoutAnExpressionEachSeriesIsAViolationWhileItLasts(t *testing.T) {
	t.Parallel()
	p, b := newScraped(t), newBench(t)
	b.invariant("disk-used", alerting(p.URL, "used_ratio > 0.8"))
	b.reconcile()
	if ready, satisfied := b.conditions("disk-used"); ready.Reason != reasonAnswering || satisfied != "True" {
		t.Errorf("no series is well, but: %+v, %s", ready, satisfied)
	}
	p.set(t, 0.9, 0.95)
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Open)[0]
	var stores []string
	for _, v := range ticket.Spec.Violations {
		stores = append(stores, v.StoreID)
	}
	slices.Sort(stores)
	if want := []string{`instance="tikv-2",job="two"`, `instance="tikv-\"1\"",job="one"`}; !slices.Equal(stores, want) {
		t.Errorf("the stores are %q, want %q", stores, want)
	}
	p.set(t, 0.5, 0.95)
	b.cycle()
	b.wantTickets(v1alpha1.Open)
	p.set(t, 0.5, 0.5)
	b.cycle()
	b.wantTickets(v1alpha1.Resolved)
}

func TestEvidenceIsAskedOfPrometheusOnceWhenATicketOpens(t *testing.T) {
	t.Parallel()
	p, b := newScraped(t), newBench(t)
	b.prometheusURL = p.URL
	b.restart()
	b.invariant("disk-used", querying(p.URL, "used_ratio", func(s *v1alpha1.InvariantSpec) {
		s.Snapshot = []v1alpha1.SnapshotSpec{
			{Name: "own", Query: `used_ratio{instance="$storeID"}`},
			{Name: "pattern", Query: `used_ratio{instance=~'$storeID|x', job=~"$job.*"}`, With: map[string]v1alpha1.CELString{"job": "self.labels.job"}},
			{Name: "all", Query: "sort_desc(sum by (instance) (used_ratio))"},
			{Name: "none", Query: "absent_metric"},
			{Name: "wrong", Query: "rate(used_ratio)"},
			{Name: "not-text", Query: `used_ratio{instance="$v"}`, With: map[string]v1alpha1.CELString{"v": "self.value"}},
			{Name: "value", Expression: "self.value"},
		}
	}))
	b.invariant("store-up", func(s *v1alpha1.InvariantSpec) {
		s.Snapshot = []v1alpha1.SnapshotSpec{{Name: "used", Query: `used_ratio{instance="tikv-$storeID"}`}}
	})
	b.reconcile()
	p.set(t, 0.9, 0.25)
	b.source.set("2", "Down")
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Open)[0]
	want := map[string]string{
		"own": "0.9", "pattern": "0.9", "all": `{instance="tikv-\"1\""} 0.9` + "\n" + `{instance="tikv-2"} 0.25`, "value": "0.9", "used": "0.25",
		"none":     "error: the query gives nothing: absent_metric",
		"wrong":    `error: Prometheus cannot read it as PromQL: 1:6: parse error: expected type range vector in call to function "rate", got instant vector`,
		"not-text": "error: snapshot not-text.with.v: it gives double where a string is needed: write string(...) around it",
	}
	for _, v := range ticket.Spec.Violations {
		for _, piece := range v.Snapshot {
			got := piece.Value
			if piece.Error != "" {
				got = "error: " + piece.Error
			}
			if got != want[piece.Name] {
				t.Errorf("%s is %q, want %q", piece.Name, got, want[piece.Name])
			}
			delete(want, piece.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("the evidence lacks %v", want)
	}
}

func TestAPrometheusThatHangsHoldsUpATicketForFiveSecondsAtMost(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	asked := make(chan struct{}, 1000)
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(release); hanging.Close() })
	b := newBench(t)
	b.prometheusURL = hanging.URL
	b.restart()
	b.invariant("store-up", func(s *v1alpha1.InvariantSpec) {
		s.Snapshot = []v1alpha1.SnapshotSpec{{Name: "a", Query: "up"}, {Name: "b", Query: "up"}, {Name: "state", Expression: "self.state"}}
	})
	b.reconcile()
	for i := range 100 {
		b.source.set(string(rune('a'+i/26))+string(rune('a'+i%26)), "Down")
	}
	began := time.Now()
	b.cycle()
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("the cycle took %v", took)
	}
	ticket := b.wantTickets(v1alpha1.Open)[0]
	if n := len(ticket.Spec.Violations); n != 100 {
		t.Errorf("%d violations, want 100", n)
	}
	evident := 0
	for _, v := range ticket.Spec.Violations {
		if len(v.Snapshot) > 0 {
			evident++
		}
	}
	if evident != maxEvidence {
		t.Errorf("%d violations have evidence, want %d", evident, maxEvidence)
	}
	if n := len(asked); n == 0 || n > 2*maxEvidence {
		t.Errorf("%d queries for 100 violations", n)
	}
	// Whose queries are the first to be asked is nobody's business.
	if !slices.ContainsFunc(ticket.Spec.Violations[:maxEvidence], func(v v1alpha1.Violation) bool {
		return strings.Contains(v.Snapshot[0].Error, "did not answer within")
	}) {
		t.Errorf("no evidence says that Prometheus did not answer: %+v", ticket.Spec.Violations[:maxEvidence])
	}
	for _, v := range ticket.Spec.Violations[:maxEvidence] {
		if piece := v.Snapshot[2]; piece.Name != "state" || piece.Value != "Down" {
			t.Errorf("what no query is needed for is %+v", piece)
		}
	}
}

func TestWithoutAnyPrometheusAnInvariantSaysSo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("disk-used", alerting("", "up == 0"))
	b.reconcile()
	want := "spec.source.prometheus.url: it is missing, and the monitor has no --prometheus-url to take instead: set one of them"
	if ready, _ := b.conditions("disk-used"); ready.Reason != string(verdict.InvalidExpression) || ready.Message != want {
		t.Errorf("Ready is %+v", ready)
	}
}

func TestCredentialsAreReadLiveAndRotatedWithoutARestart(t *testing.T) {
	t.Parallel()
	p := promtest.Run(t, promtest.Options{TLS: true, BasicAuth: &promtest.BasicAuth{Username: "monitor", Password: "s3cr3t"}})
	b := newBench(t)
	b.invariant("one", alerting(p.URL, "vector(0) > 1"), func(s *v1alpha1.InvariantSpec) {
		s.Source.Prometheus.SecretRef = &v1alpha1.SecretReference{Name: "auth"}
		s.Source.Prometheus.CertSecretRef = &v1alpha1.SecretReference{Name: "tls"}
	})
	wantReady := func(reason verdict.Reason, message string) string {
		t.Helper()
		b.cycle()
		ready, _ := b.conditions("one")
		if ready.Reason != string(reason) || !strings.Contains(ready.Message, message) {
			t.Errorf("Ready is %s: %s; want %s: %s", ready.Reason, ready.Message, reason, message)
		}
		if strings.Contains(ready.Message, "s3cr3t") {
			t.Errorf("the password stands in %s", ready.Message)
		}
		return ready.Message
	}
	b.obey(wantReady(verdict.Forbidden, "Secret auth may not be read. Who may read it allows it with: "))
	b.cyclesUntil("one", string(verdict.InvalidSecret))
	wantReady(verdict.InvalidSecret, "Secret auth: there is no such Secret in namespace "+b.namespace)
	b.secret("auth", map[string]string{"user": "monitor"})
	wantReady(verdict.InvalidSecret, "Secret auth: it has neither token nor username and password")
	b.secret("auth", map[string]string{"username": "monitor", "password": "wrong-s3cr3t\n"})
	b.obey(wantReady(verdict.Forbidden, "Secret tls may not be read. Who may read it allows it with: "))
	b.secret("tls", map[string]string{"ca.crt": "s3cr3t"})
	b.cyclesUntil("one", string(verdict.InvalidSecret))
	wantReady(verdict.InvalidSecret, "Secret tls: what is under ca.crt is no certificate in PEM")
	b.secret("tls", map[string]string{"ca.crt": string(p.CACert)})
	wantReady(verdict.HTTPStatus, "401 Unauthorized")
	b.secret("auth", map[string]string{"username": "monitor", "password": "s3cr3t\n"})
	wantReady(reasonAnswering, "")
	b.secret("auth", map[string]string{"token": "s3cr3t"})
	wantReady(verdict.InvalidSecret, "Secret auth: it has both token and username: one of them is needed")
}

func TestAClientCertificateIsShownWhereOneIsAskedFor(t *testing.T) {
	t.Parallel()
	p := promtest.Run(t, promtest.Options{RequireClientCert: true})
	b := newBench(t)
	b.letSecretsBeRead()
	b.invariant("one", alerting(p.URL, "vector(0) > 1"), func(s *v1alpha1.InvariantSpec) {
		s.Source.Prometheus.CertSecretRef = &v1alpha1.SecretReference{Name: "tls"}
	})
	for _, step := range []struct {
		data   map[string]string
		reason string
		says   string
	}{
		{map[string]string{"x": "y"}, string(verdict.InvalidSecret), "Secret tls: it has neither ca.crt nor tls.crt and tls.key"},
		{map[string]string{"ca.crt": string(p.CACert)}, string(verdict.Unreachable), "certificate required"},
		{map[string]string{"ca.crt": string(p.CACert), "tls.crt": string(p.ClientCert)}, string(verdict.InvalidSecret), "what is under tls.crt and tls.key is no certificate in PEM with its key"},
		{map[string]string{"ca.crt": string(p.CACert), "tls.crt": string(p.ClientCert), "tls.key": string(p.ClientKey)}, reasonAnswering, ""},
		{map[string]string{"ca.crt": string(p.ClientCert), "tls.crt": string(p.ClientCert), "tls.key": string(p.ClientKey)}, string(verdict.Unreachable), "authority that is not trusted"},
	} {
		b.replaceSecret("tls", step.data)
		b.cycle()
		if ready, _ := b.conditions("one"); ready.Reason != step.reason || !strings.Contains(ready.Message, step.says) {
			t.Errorf("with %d keys, Ready is %s: %s; want %s: %s", len(step.data), ready.Reason, ready.Message, step.reason, step.says)
		}
	}
}

func TestRule11ASecretIsOneOfTheInvariantsOwnNamespace(t *testing.T) {
	t.Parallel()
	other, b := newBench(t), newBench(t)
	other.letSecretsBeRead()
	b.letSecretsBeRead()
	other.secret("auth", map[string]string{"token": "theirs"})
	var sent []string
	b.source.fail(func(w http.ResponseWriter, r *http.Request) { sent = append(sent, r.Header.Get("Authorization")) })
	b.invariant("one", func(s *v1alpha1.InvariantSpec) {
		s.Source.HTTP.SecretRef, s.Source.HTTP.AllowCredentialsOverHTTP = &v1alpha1.SecretReference{Name: "auth"}, true
	})
	b.reconcile()
	if ready, _ := b.conditions("one"); ready.Reason != string(verdict.InvalidSecret) || len(sent) != 0 {
		t.Errorf("Ready is %+v, and %q was sent", ready, sent)
	}
	b.secret("auth", map[string]string{"token": "ours\n"})
	b.cycle()
	if !slices.Equal(sent, []string{"Bearer ours"}) {
		t.Errorf("%q was sent", sent)
	}
}

func TestAnInvariantWithoutASeriesIsUnknownUnlessMinStoresIsNone(t *testing.T) {
	t.Parallel()
	p, b := newScraped(t), newBench(t)
	b.invariant("some", querying(p.URL, "absent_metric"))
	b.invariant("none", querying(p.URL, "absent_metric", func(s *v1alpha1.InvariantSpec) { s.MinStores = ptr.To(int32(0)) }))
	b.invariant("idle", querying(p.URL, "used_ratio / 0 * 0"))
	b.reconcile()
	for name, want := range map[string]string{"some": string(verdict.NoStores), "none": reasonAnswering, "idle": string(verdict.NotANumber)} {
		if ready, _ := b.conditions(name); ready.Reason != want {
			t.Errorf("%s: Ready is %+v, want %s", name, ready, want)
		}
	}
	b.wantTickets()
}

func TestRule11TheMonitorsOwnTokenGoesToNobody(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if b.objectsConfig.BearerToken == "" {
		t.Fatal("this test needs a monitor that has a token")
	}
	b.prometheusURL = b.source.server.URL
	b.restart()
	var mu sync.Mutex
	asked := 0
	b.source.fail(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		for name, values := range r.Header {
			if name == "Authorization" || strings.Contains(strings.Join(values, " "), b.objectsConfig.BearerToken) {
				t.Errorf("%s is sent to %s", name, r.URL)
			}
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		w.WriteHeader(http.StatusUnauthorized)
	})
	b.invariant("http", func(s *v1alpha1.InvariantSpec) { s.Source.HTTP.URL += "/http" })
	b.invariant("prometheus", alerting("", "up == 0"))
	b.reconcile()
	b.cycle()
	if asked != 4 {
		t.Errorf("the source was asked %d times, want 4", asked)
	}
}

func TestEvidenceWaitsNoLongerThanFiveSecondsWhateverTheSourceMayTake(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("query") == "used" {
			_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"instance":"1"},"value":[1,"0.9"]}]}}`))
			return
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(release); p.Close() })
	b := newBench(t)
	b.invariant("disk-used", querying(p.URL, "used", func(s *v1alpha1.InvariantSpec) {
		s.Source.Prometheus.Timeout = seconds(60)
		s.Snapshot = []v1alpha1.SnapshotSpec{{Name: "more", Query: "up"}}
	}))
	began := time.Now()
	b.reconcile()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the cycle took %v", took)
	}
	if piece := b.wantTickets(v1alpha1.Open)[0].Spec.Violations[0].Snapshot[0]; piece.Error == "" {
		t.Errorf("the evidence is %+v", piece)
	}
}

func TestEvidenceThatIsSlowLeavesTimeToOpenTheTicket(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		const step = 50 * time.Millisecond
		for ticker := time.NewTicker(step); ; {
			select {
			case <-ticker.C:
				b.clock.Step(step)
			case <-r.Context().Done():
				ticker.Stop()
				return
			}
		}
	}))
	t.Cleanup(func() { hanging.CloseClientConnections(); hanging.Close() })
	b.prometheusURL = hanging.URL
	b.restart()
	b.invariant("store-up", func(s *v1alpha1.InvariantSpec) {
		s.Interval, s.Source.HTTP.Timeout = seconds(1), seconds(2)
		s.Snapshot = []v1alpha1.SnapshotSpec{{Name: "a", Query: "up"}}
	})
	b.source.set("1", "Down")
	b.reconcile()
	if piece := b.wantTickets(v1alpha1.Open)[0].Spec.Violations[0].Snapshot[0]; piece.Error == "" {
		t.Errorf("the evidence is %+v", piece)
	}
}
