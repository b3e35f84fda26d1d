package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/observe"
	"invariant.dev/operator/controllers/verdict"
	"invariant.dev/operator/hack/faulty"
)

// kubernetesSection is what a real API server says.
func kubernetesSection() section {
	source := func(apiVersion, kind string, namespaces ...string) func(*scene) {
		return func(s *scene) { deployments(s, apiVersion, kind, namespaces...) }
	}
	judging := func(expression string) func(*scene) {
		return func(s *scene) {
			deployments(s, "apps/v1", "Deployment")
			s.deployment("web")
			s.spec.Expression = expression
		}
	}
	return section{
		title: "kubernetes: what is asked for",
		intro: "`apiVersion: apps/v1`, `kind: Deployment`, `storeID: self.metadata.name`, `expression: self.status.?readyReplicas.orValue(0) >= self.spec.replicas`. " +
			"The API server is a real one, and the monitor has the roles of `config/rbac`.",
		failures: []failure{
			{"no such kind: `kind: Deploymint`", source("apps/v1", "Deploymint")},
			{"no such version: `apiVersion: apps/v9`", source("apps/v9", "Deployment")},
			{"no such group: `apiVersion: cert-manager.io/v1`", source("cert-manager.io/v1", "Certificate")},
			{"a kind that the monitor may not read: `kind: ConfigMap`", source("v1", "ConfigMap")},
			{"`kind: Secret`", source("v1", "Secret")},
			{"a kind that cannot be listed, and a monitor that may list all: `kind: LocalSubjectAccessReview`", func(s *scene) {
				deployments(s, "authorization.k8s.io/v1", "LocalSubjectAccessReview")
				s.watchThrough(plane.Config)
			}},
			{"a kind in no namespace, without the admin's label: `kind: Node`", source("v1", "Node")},
			{"another namespace, without the admin's label", source("apps/v1", "Deployment", "kube-system")},
			{"all namespaces, without the admin's label", source("apps/v1", "Deployment", "*")},
			{"another namespace, which does not exist, with the label", func(s *scene) {
				s.observesCluster()
				deployments(s, "apps/v1", "Deployment", "no-such-namespace")
			}},
			{"a kind in no namespace, and a namespace", func(s *scene) {
				s.observesCluster()
				deployments(s, "v1", "Node", "kube-system")
			}},
			{"more than 100 watches: 100 namespaces, and the Invariant's own", func(s *scene) {
				s.observesCluster()
				var names []string
				for i := range 100 {
					names = append(names, fmt.Sprintf("team-%d", i))
				}
				deployments(s, "apps/v1", "Deployment", names...)
			}},
			{"a selector that selects nothing that could be", func(s *scene) {
				deployments(s, "apps/v1", "Deployment")
				s.spec.Source.Kubernetes.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: "Is", Values: []string{"web"}}}}
			}},
			{"no objects", source("apps/v1", "Deployment")},
			{"a field is not there", judging("self.status.readyReplicas >= self.spec.replicas")},
			{"a string where a number is needed", judging("self.metadata.name >= self.spec.replicas")},
			{"what is wrong is what the Invariant is about", judging("self.status.?readyReplicas.orValue(0) >= self.spec.replicas")},
		},
		notes: []string{"NaN, HTML, TLS, Secrets with credentials: the API server is the monitor's own, reached as the monitor reaches it."},
	}
}

// apiServerSection is what becomes of a look when the API server fails.
func apiServerSection() section {
	// before fails from the first; after, once the objects have been seen.
	before := func(fail fault) func(*scene) {
		return func(s *scene) {
			deployments(s, "apps/v1", "Deployment")
			s.deployment("web")
			proxy := s.proxy()
			s.watchThrough(proxy.config())
			// It knows the kind from before.
			s.observer.Objects.(*observe.Objects).Kinds = s.cast.mapper
			fail(proxy)
		}
	}
	after := func(fail fault) func(*scene) {
		return func(s *scene) {
			before(func(*apiProxy) {})(s)
			s.waitUntil("the objects are seen", func(j *verdict.Judgement) bool { return j.Fault == nil })
			proxy := s.proxies[0]
			fail(proxy)
			proxy.server.CloseClientConnections()
			s.waitUntil("the watch is known to be broken", func(j *verdict.Judgement) bool { return j.Fault != nil })
		}
	}
	// later looks that long after the API server was asked for the first time.
	later := func(d time.Duration, stage func(*scene)) func(*scene) {
		return func(s *scene) {
			stage(s)
			ctx, cancel := context.WithCancel(s.Context())
			go func() { defer cancel(); <-s.proxies[0].asked }()
			s.observer.Objects.Observe(ctx, s.key(), s.spec.Source.Kubernetes)
			s.clock.Step(d)
		}
	}
	answering := func(answer answer) fault { return func(p *apiProxy) { p.fails(answer) } }
	kinds := func(fail fault) func(*scene) {
		return func(s *scene) {
			deployments(s, "apps/v1", "Deployment")
			proxy := s.proxy()
			s.watchThrough(proxy.config())
			fail(proxy)
		}
	}
	return section{
		title: "kubernetes: the API server",
		intro: "The same source, read through a proxy that misbehaves in front of the real API server.",
		failures: []failure{
			{"refuses the connection", before((*apiProxy).refuse)},
			{"resets the connection, again and again", later(3*time.Second, before(answering(resets)))},
			{"has not answered after 3 s: not synced yet", later(3*time.Second, before(answering(hangs)))},
			{"has not answered after 11 s", later(11*time.Second, before(answering(hangs)))},
			{"has answered half of the list after 11 s", later(11*time.Second, before(answering(hangsHalfWay)))},
			{"answers half of the list", before(answering(cutsOff))},
			{"answers 401: the monitor's token is no longer valid", before(answering(answersStatus(401)))},
			{"answers 403", before(answering(answersStatus(403)))},
			{"answers 404: the kind is gone", before(answering(answersStatus(404)))},
			{"answers 429", before(answering(answersStatus(429)))},
			{"answers 500", before(answering(answersStatus(500)))},
			{"answers 503", before(answering(answersStatus(503)))},
			{"answers 504", before(answering(answersStatus(504)))},
			{"answers 500 with HTML, as a load balancer does", before(answering(answersHTML(500)))},
			{"answers 200 with HTML", before(answering(answersHTML(200)))},
			{"answers 200 with a failure in place of a list", before(answering(answersText(`{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","code":503}`)))},
			{"answers 200 with something that is no list", before(answering(answersText(`{"kind":"Something","apiVersion":"v1"}`)))},
			{"lists more than 10,000 objects", before(answering(listsTooMany))},
			{"answers more than 8 MiB to a list of one object", func(s *scene) {
				before(answering(listsTooLarge))(s)
				s.waitUntil("the list was asked for with ever fewer objects", func(j *verdict.Judgement) bool {
					return j.Fault != nil && j.Fault.Reason == verdict.TooLarge
				})
			}},
			{"refuses the connection when it is asked what kinds it has", kinds((*apiProxy).refuse)},
			{"answers 500 when it is asked what kinds it has", kinds(answering(answersStatus(500)))},
			{"does not answer when it is asked what kinds it has", kinds(answering(hangs))},
			{"breaks the watch after it had synced, and refuses the connection", after((*apiProxy).refuse)},
			{"breaks the watch after it had synced, and answers 500", after(answering(answersStatus(500)))},
			{"breaks the watch after it had synced, and answers 429", after(answering(answersStatus(429)))},
			{"breaks the watch after it had synced, and the right to read is gone", after(answering(answersStatus(403)))},
			{"breaks the watch after it had synced, and has not answered after 11 s", func(s *scene) {
				before(func(*apiProxy) {})(s)
				s.waitUntil("the objects are seen", func(j *verdict.Judgement) bool { return j.Fault == nil })
				proxy := s.proxies[0]
				proxy.fails(hangs)
				proxy.server.CloseClientConnections()
				<-proxy.asked
				s.clock.Step(11 * time.Second)
			}},
		},
	}
}

// deployments is a source of objects.
func deployments(s *scene, apiVersion, kind string, namespaces ...string) {
	s.spec = v1alpha1.InvariantSpec{
		Source:     v1alpha1.Source{Kubernetes: &v1alpha1.KubernetesSource{APIVersion: apiVersion, Kind: kind, Namespaces: namespaces}},
		StoreID:    "self.metadata.name",
		Expression: "self.status.?readyReplicas.orValue(0) >= self.spec.replicas",
		Message:    "'no ready replicas'",
	}
}

// deployment makes a Deployment in the scene's namespace. Nothing runs it.
func (s *scene) deployment(name string) {
	s.Helper()
	labels := map[string]string{"app": name}
	must(s, s.cast.api.Create(s.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name, Annotations: map[string]string{"note": faulty.Secret}},
		Spec: appsv1.DeploymentSpec{Replicas: ptr.To(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web"}}}}},
	}))
}

// observesCluster labels the scene's namespace as an admin of the cluster does.
func (s *scene) observesCluster() {
	s.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, observe.ObservesLabel, observe.ObservesCluster)
	must(s, s.cast.api.Patch(s.Context(), namespace, client.RawPatch("application/merge-patch+json", []byte(patch))))
}

// watchThrough makes the observer read objects as that.
func (s *scene) watchThrough(config *rest.Config) {
	s.Helper()
	objects := newObjects(s.T, config, s.clock)
	s.Cleanup(func() { objects.Keep(s.key(), nil) })
	s.observer.Objects = objects
}

// answer is what the proxy answers in place of the API server.
type answer func(http.ResponseWriter, *http.Request)

// fault makes a proxy misbehave.
type fault func(*apiProxy)

// apiProxy stands in front of the real API server, as the monitor, and lets all through until it is told to fail.
type apiProxy struct {
	server *httptest.Server
	answer atomic.Pointer[answer]
	// asked is sent to when it is asked while it fails.
	asked chan struct{}
}

func (s *scene) proxy() *apiProxy {
	s.Helper()
	target, err := url.Parse(s.cast.config.Host)
	must(s, err)
	transport, err := rest.TransportFor(s.cast.config)
	must(s, err)
	quiet := log.New(io.Discard, "", 0)
	through := &httputil.ReverseProxy{Transport: transport, ErrorLog: quiet, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	p := &apiProxy{asked: make(chan struct{}, 1)}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer := p.answer.Load(); answer != nil {
			select {
			case p.asked <- struct{}{}:
			default:
			}
			(*answer)(w, r)
			return
		}
		through.ServeHTTP(w, r)
	}))
	p.server.Config.ErrorLog = quiet
	p.server.Start()
	s.Cleanup(func() { p.server.CloseClientConnections(); p.server.Close() })
	s.proxies = append(s.proxies, p)
	return p
}

func (p *apiProxy) config() *rest.Config { return &rest.Config{Host: p.server.URL, QPS: -1} }

func (p *apiProxy) client(s *scene) client.Client {
	s.Helper()
	c, err := client.New(p.config(), client.Options{Scheme: testScheme(s), Mapper: s.cast.mapper})
	must(s, err)
	return c
}

// fails answers that from now on.
func (p *apiProxy) fails(a answer) { p.answer.Store(&a) }

// refuse refuses connections from now on.
func (p *apiProxy) refuse() {
	_ = p.server.Listener.Close()
	p.server.CloseClientConnections()
}

func hangs(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func resets(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
}

const halfAList = `{"kind": "DeploymentList", "apiVersion": "apps/v1", "items": [{"metadata": {"name": "` + faulty.Secret + `"}}`

func hangsHalfWay(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, halfAList)
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func cutsOff(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, halfAList)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// answersText answers 200 with some JSON.
func answersText(text string) answer {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, text)
	}
}

func listsTooMany(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, strings.Replace(halfAList, `"items"`, `"metadata": {"resourceVersion": "1", "continue": "`+faulty.Secret+`"}, "items"`, 1)+"]}")
}

func listsTooLarge(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, halfAList+"]"+strings.Repeat(" ", observe.MaxBodyBytes)+"}")
}

// answersStatus answers as the API server does.
func answersStatus(code int) answer {
	reasons := map[int]metav1.StatusReason{401: metav1.StatusReasonUnauthorized, 403: metav1.StatusReasonForbidden, 404: metav1.StatusReasonNotFound,
		429: metav1.StatusReasonTooManyRequests, 500: metav1.StatusReasonInternalError, 503: metav1.StatusReasonServiceUnavailable, 504: metav1.StatusReasonTimeout}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
			Message: faulty.Secret, Reason: reasons[code], Code: int32(code)}) //nolint:gosec // a status
	}
}

func answersHTML(code int) answer {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "<html>"+faulty.Secret+"</html>")
	}
}
