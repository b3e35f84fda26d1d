package invariants

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli/clitest"
	"invariant.dev/operator/hack/promtest"
)

const (
	allUp   = `{"stores":[{"id":"1","state":"Up"},{"id":"2","state":"Up"}]}`
	oneDown = `{"stores":[{"id":"1","state":"Up"},{"id":"2","state":"Down","capacity":"1.8TiB"}]}`
)

func TestCheckPrintsWhatATicketWouldCarryAndChangesNothing(t *testing.T) {
	b := newBench(t)
	r := ended(t, b.Run("check", "-f", file(t, source(t, oneDown))), 1)
	r.Has("Invariant:   "+b.Namespace+"/stores-up", "Verdict:     Violated: of 2 stores, 1 violated, 0 unknown, 1 satisfied",
		"the monitor opens a ticket once this has lasted for the gracePeriod of 1m0s",
		"2       Violated   store 2 is Down", "1       Satisfied\n",
		"Snapshot of 2:\n  state:      Down\n  capacity:   1.8TiB")
	if !strings.Contains(r.Err, "the monitor refuses http://127.0.0.1") || strings.Contains(r.Err, "error") {
		t.Errorf("want a warning that the monitor does not read loopback addresses, and no error: %v", r)
	}
	if strings.Index(r.Out, "Violated   store 2") > strings.Index(r.Out, "Satisfied\n") {
		t.Errorf("what is violated does not come first: %v", r)
	}
	var list v1alpha1.InvariantList
	clitest.Must(t, b.API.List(t.Context(), &list))
	for _, i := range list.Items {
		if i.Namespace == b.Namespace {
			t.Errorf("check made %s", i.Name)
		}
	}
}

func TestTheExitCodeOfCheckSaysWhatItFound(t *testing.T) {
	b := newBench(t)
	hang := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	large := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 9 << 10 {
			_, _ = w.Write(make([]byte, 1<<10))
		}
	})
	for name, test := range map[string]struct {
		args []string
		code int
		says string
	}{
		"all satisfied":           {[]string{"check", "-f", file(t, source(t, allUp))}, 0, "the monitor has nothing to do"},
		"one violated":            {[]string{"check", "-f", file(t, source(t, oneDown))}, 1, "store 2 is Down"},
		"at once":                 {[]string{"check", "-f", file(t, source(t, oneDown), "gracePeriod: 1m", "gracePeriod: 0s")}, 1, "opens a ticket at once"},
		"no answer in time":       {[]string{"check", "-f", file(t, hang, "timeout: 2s", "timeout: 100ms")}, 2, "Unknown, Timeout"},
		"nobody there":            {[]string{"check", "-f", file(t, "http://"+clitest.FreeAddress(t))}, 2, "Unknown, Unreachable"},
		"an answer too large":     {[]string{"check", "-f", file(t, large)}, 2, "Unknown, TooLarge"},
		"not JSON":                {[]string{"check", "-f", file(t, source(t, "<html>"))}, 2, "Unknown, InvalidBody"},
		"no stores":               {[]string{"check", "-f", file(t, source(t, `{"stores":[]}`))}, 2, "Unknown, NoStores"},
		"a field is missing":      {[]string{"check", "-f", file(t, source(t, `{"stores":[{"id":"1"}]}`))}, 2, "EvaluationFailed"},
		"CEL that does not parse": {[]string{"check", "-f", file(t, source(t, allUp), "self.state == 'Up'", "self.state ==")}, 2, "Unknown, InvalidExpression"},
		"muted": {[]string{"check", "-f", file(t, source(t, oneDown), "name: stores-up", "name: stores-up\n  annotations: {operator/mute-until: '"+
			time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+"'}")}, 1, "it is muted until"},
		"suspended": {[]string{"check", "-f", file(t, source(t, oneDown), "severity: Critical", "suspend: true")}, 1, "it is suspended"},
	} {
		t.Run(name, func(t *testing.T) {
			ended(t, b.Run(test.args...), test.code).Has(test.says)
		})
	}
}

func TestACheckThatCannotBeMadeEndsWithTwoAndSaysWhy(t *testing.T) {
	b := newBench(t)
	write := func(content string) string {
		path := filepath.Join(t.TempDir(), "file.yaml")
		clitest.Must(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	up := source(t, allUp)
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"no file":           {[]string{"-f", filepath.Join(t.TempDir(), "missing.yaml")}, "no such file"},
		"an empty file":     {[]string{"-f", write("")}, "there is no Invariant"},
		"tabs":              {[]string{"-f", write("a:\n\tb: c")}, "document 1: "},
		"something else":    {[]string{"-f", write("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")}, "there is no Invariant"},
		"an unknown field":  {[]string{"-f", file(t, up, "storeID:", "storeId:")}, "storeId"},
		"a refused field":   {[]string{"-f", file(t, up, "gracePeriod: 1m", "gracePeriod: 2d")}, "gracePeriod must be a duration"},
		"no such Invariant": {[]string{"nowhere"}, "there is none of this name"},
		"not a name":        {[]string{"ticket/a"}, "is not the name of an invariant"},
		"nothing to check":  {nil, "which invariants?"},
		"names and a file":  {[]string{"a", "-f", "b"}, "cannot be used together"},
		"an unknown flag":   {[]string{"--fast"}, "unknown flag: --fast"},
		"an unknown format": {[]string{"-f", file(t, up), "-o", "xml"}, "use one of wide, json, yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			r := ended(t, b.Run(append([]string{"check"}, test.args...)...), 2)
			if !strings.Contains(r.Err, "error: ") || !strings.Contains(r.Err, test.says) || strings.Contains(r.Err, "Usage:") {
				t.Errorf("want an error that says %q: %v", test.says, r)
			}
		})
	}
}

func TestCheckTakesWhatIsAppliedAndWhatStandsOnStandardInput(t *testing.T) {
	b := newBench(t)
	b.applied("down", source(t, oneDown))
	b.applied("up", source(t, allUp))
	ended(t, b.Run("check", "up"), 0)
	ended(t, b.Run("check", "up", "invariant/down"), 1).Has("/up\n", "/down\n")
	content, err := os.ReadFile(file(t, source(t, oneDown)))
	clitest.Must(t, err)
	b.Stdin = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n---\n" + string(content) + "\n---\n" + strings.ReplaceAll(string(content), "stores-up", "second")
	r := ended(t, b.Run("check", "-f", "-"), 1).Has("/stores-up", "/second")
	if !strings.Contains(r.Err, "ConfigMap other is not an Invariant") {
		t.Errorf("what was skipped is not named: %v", r)
	}
	b.Stdin = `{"apiVersion":"v1","kind":"List","items":[` + asJSON(t, b.stored("up")) + `]}`
	ended(t, b.Run("check", "-f", "-"), 0).Has("/up")
}

func asJSON(t *testing.T, i *v1alpha1.Invariant) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"apiVersion": v1alpha1.GroupVersion.String(), "kind": "Invariant",
		"metadata": map[string]any{"name": i.Name, "namespace": i.Namespace}, "spec": i.Spec})
	clitest.Must(t, err)
	return string(text)
}

func TestCheckGoesOnWhereTheAPIServerCannotBeAsked(t *testing.T) {
	b := newBench(t)
	manifest := file(t, source(t, oneDown))
	t.Run("it does not answer", func(t *testing.T) {
		r := ended(t, b.Anywhere("invariants", "--kubeconfig", b.Kubeconfig, "--server", "https://"+clitest.FreeAddress(t), "check", "-f", manifest), 1).Has("store 2 is Down")
		if !strings.Contains(r.Err, "the API server was not asked whether it takes stores-up") {
			t.Errorf("it is not said that nothing was validated: %v", r)
		}
	})
	t.Run("the user may not", func(t *testing.T) {
		_, kubeconfig, err := plane.User("checker")
		clitest.Must(t, err)
		somebody := b.Bench
		somebody.Kubeconfig = kubeconfig
		r := ended(t, somebody.Run("check", "-f", manifest), 1).Has("store 2 is Down")
		if !strings.Contains(r.Err, "you may not") || !strings.Contains(r.Err, "operator-invariant-editor") {
			t.Errorf("it is not said what is missing: %v", r)
		}
	})
	t.Run("a misspelt field is refused all the same", func(t *testing.T) {
		misspelt := file(t, source(t, allUp), "expression:", "expresion:")
		r := ended(t, b.Anywhere("invariants", "--server", "https://"+clitest.FreeAddress(t), "check", "-f", misspelt), 2)
		if !strings.Contains(r.Err, "expresion") {
			t.Errorf("the field is not named: %v", r)
		}
	})
}

func TestCheckPrintsAReportForPrograms(t *testing.T) {
	b := newBench(t)
	for _, format := range []string{"json", "yaml"} {
		r := ended(t, b.Run("check", "-f", file(t, source(t, oneDown)), "-o", format), 1)
		if format == "yaml" {
			r.Has("truth: Violated", "storeID: \"2\"")
			continue
		}
		var got report
		clitest.Must(t, json.Unmarshal([]byte(r.Out), &got))
		if len(got.Items) != 1 || got.Items[0].Name != "stores-up" || got.Items[0].System != "sys" || len(got.Items[0].Stores) != 2 ||
			got.Items[0].Stores[0].Message != "store 2 is Down" || got.Items[0].Stores[0].Snapshot[1].Value != "1.8TiB" || got.CheckedTime == nil {
			t.Errorf("the report is %+v", got)
		}
	}
}

func TestNothingThatASourceAnswersReachesTheTerminalUnescaped(t *testing.T) {
	b := newBench(t)
	hostile, err := json.Marshal("\x1b]0;pwned\x07\u202e")
	clitest.Must(t, err)
	body := fmt.Sprintf(`{"stores":[{"id":%s,"state":%s,"capacity":%s}]}`, hostile, hostile, hostile)
	r := ended(t, b.Run("check", "-f", file(t, source(t, body))), 1)
	if strings.ContainsAny(r.Out+r.Err, "\x1b\x07\u202e") {
		t.Errorf("escape sequences are printed: %q", r.Out)
	}
	r.Has(`\x1b]0;pwned\a\u202e`)
}

func TestManySatisfiedStoresAreCounted(t *testing.T) {
	b := newBench(t)
	var stores []string
	for i := range 50 {
		stores = append(stores, fmt.Sprintf(`{"id":"%d","state":"Up"}`, i))
	}
	manifest := file(t, source(t, `{"stores":[`+strings.Join(stores, ",")+`]}`))
	ended(t, b.Run("check", "-f", manifest), 0).Has("and 40 more that are satisfied: -o wide lists them")
	if r := ended(t, b.Run("check", "-f", manifest, "-o", "wide"), 0); strings.Count(r.Out, "Satisfied\n") != 50 {
		t.Errorf("-o wide does not list all: %v", r)
	}
}

func TestAnAddressOfTheClusterIsPointedToTheMonitorsPod(t *testing.T) {
	for address, is := range map[string]bool{
		"http://pd.tikv-prod:2379/stores": true, "http://pd:2379": true, "http://pd.tikv-prod.svc.cluster.local:2379": true,
		"http://10.0.0.1:80": false, "http://pd.example.com": false, "http://[::1]:80": false,
	} {
		if isOfCluster(address) != is {
			t.Errorf("%s looks like an address of the cluster: want %v", address, is)
		}
	}
}

const replicated = `apiVersion: operator.invariant.dev/v1alpha1
kind: Invariant
metadata: {name: replicas}
spec:
  source: {kubernetes: {apiVersion: apps/v1, kind: Deployment}}
  storeID: self.metadata.name
  expression: self.?status.readyReplicas.orValue(0) >= self.spec.replicas
`

// manifest writes a manifest and returns its path.
func manifest(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "invariant.yaml")
	clitest.Must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestCheckReadsObjectsAndSecretsAsWhoeverTypesIt(t *testing.T) {
	b := newBench(t)
	labels := map[string]string{"app": "web"}
	clitest.Must(t, b.API.Create(t.Context(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: "web"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "main"}}}}}}))
	ended(t, b.Run("check", "-f", manifest(t, replicated)), 1).Has("web     Violated", "Source:      Deployment of apps/v1")
	ended(t, b.Run("check", "-f", manifest(t, strings.ReplaceAll(replicated, "Deployment", "Gadget"))), 2).Has("NoSuchKind", "kubectl api-resources")
	r := ended(t, b.Run("check", "-f", manifest(t, strings.ReplaceAll(replicated, "kind: Deployment", `kind: Deployment, namespaces: ["*"]`))), 1)
	if !strings.Contains(r.Err, "kubectl label namespace "+b.Namespace+" operator.invariant.dev/observes=cluster") {
		t.Errorf("want a warning that the monitor sees no other namespace: %v", r)
	}

	clitest.Must(t, b.API.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: "auth"}, StringData: map[string]string{"token": "s3cr3t"}}))
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer s3cr3t" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = w.Write([]byte(allUp))
	})
	ended(t, b.Run("check", "-f", file(t, address, "timeout: 2s", "timeout: 2s, secretRef: {name: auth}, allowCredentialsOverHTTP: true")), 0)
	ended(t, b.Run("check", "-f", file(t, address)), 2).Has("401 Unauthorized")
	ended(t, b.Run("check", "-f", file(t, address, "timeout: 2s", "timeout: 2s, secretRef: {name: none}, allowCredentialsOverHTTP: true")), 2).Has("Secret none: there is no such Secret")
}

func TestCheckAsksThePrometheusThatItIsTold(t *testing.T) {
	b := newBench(t)
	p := promtest.Run(t, promtest.Options{})
	alert := manifest(t, `apiVersion: operator.invariant.dev/v1alpha1
kind: Invariant
metadata: {name: alert}
spec:
  source: {prometheus: {query: 'label_replace(vector(5), "store", "7", "", "")'}}
  snapshot: [{name: twice, query: '2 * vector(21) + 0 * count(up{store=~"$storeID"} or vector(1))'}]
`)
	ended(t, b.Run("check", "-f", alert), 2).Has("the monitor has no --prometheus-url")
	ended(t, b.Run("check", "-f", alert, "--prometheus-url", p.URL), 1).Has(`store="7"`, "twice:", "42")
}

func TestCheckSaysThatOneReadingIsNoTransition(t *testing.T) {
	b := newBench(t)
	path := file(t, source(t, allUp), "self.state == 'Up'", "self.state == oldSelf.state")
	ended(t, b.Run("check", "-f", path), 2).Has("FirstReading: oldSelf", "the monitor gives a verdict from its second check on")
}

func TestCheckSendsCredentialsForAnAppliedInvariantOnlyWhereItIsTold(t *testing.T) {
	b := newBench(t)
	var sent atomic.Value
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		sent.Store(r.Header.Get("Authorization"))
		_, _ = w.Write([]byte(allUp))
	})
	clitest.Must(t, b.API.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: "auth"}, StringData: map[string]string{"token": "s3cr3t"}}))
	b.applied("stores-up", address, func(i *v1alpha1.Invariant) {
		i.Spec.Source.HTTP.SecretRef, i.Spec.Source.HTTP.AllowCredentialsOverHTTP = &v1alpha1.SecretReference{Name: "auth"}, true
	})
	ended(t, b.Run("check", "stores-up"), 2).Has("InvalidSecret", "whoever wrote the invariant has chosen, so only with --send-credentials")
	if got := sent.Load(); got != nil {
		t.Errorf("%q was sent", got)
	}
	ended(t, b.Run("check", "stores-up", "--send-credentials"), 0)
	if got := sent.Load(); got != "Bearer s3cr3t" {
		t.Errorf("%q was sent", got)
	}
}
