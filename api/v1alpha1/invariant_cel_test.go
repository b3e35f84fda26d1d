package v1alpha1_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/hack/controlplane"
)

func endpoints(n int) []any {
	var list []any
	for i := range n {
		list = append(list, map[string]any{"storeID": fmt.Sprint(i), "url": "http://etcd:2379/health"})
	}
	return list
}

func snapshots(names ...string) []any {
	var list []any
	for _, name := range names {
		list = append(list, map[string]any{"name": name, "expression": "self"})
	}
	return list
}

func labels(n int) map[string]any {
	m := map[string]any{}
	for i := range n {
		m[fmt.Sprintf("key-%d", i)] = "value"
	}
	return m
}

// sourceChange puts another source in the place of the manifest's.
func sourceChange(kind string, source, with map[string]any) changes {
	source = maps.Clone(source)
	maps.Copy(source, with)
	return changes{"spec.source": map[string]any{kind: source}}
}

const (
	exactlyOneSource  = "exactly one source is needed: http, prometheus or kubernetes"
	urlOrEndpoints    = "exactly one of url and endpoints is needed: url where one answer lists all stores, endpoints where each store answers for itself"
	urlForm           = "url must be like http://host:port/path"
	urlWithPassword   = "url must hold no user and no password"
	systemForm        = "system must be a DNS label: lower-case letters, digits and '-', such as tikv-prod"
	systemStays       = "system cannot change: its tickets are numbered by it. Create another Invariant with the new system and delete this one"
	labelKeys         = "each key must be a label name, such as team or example.com/team"
	labelValues       = "each value must be a label value: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
	onlyOverHTTPS     = "over http everyone on the way can read what it holds. If that is meant, set allowCredentialsOverHTTP: true"
	withOwnURL        = "secretRef and certSecretRef go with a url: the monitor's --prometheus-url gets none of them"
	starStandsForAll  = "* stands for all namespaces: name no other beside it"
	snapshotName      = "each key must be a name such as instance, of letters, digits and '_'; $storeID is always there"
	expressionMissing = "expression is missing: write a CEL condition that must be true of every store, such as self.status == 'Up'"
)

func TestABadInvariantIsRefusedWithWhatToWriteInstead(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	prometheus := func(with map[string]any) changes {
		return sourceChange("prometheus", map[string]any{"query": "up"}, with)
	}
	kubernetes := func(with map[string]any) changes {
		return sourceChange("kubernetes", map[string]any{"apiVersion": "apps/v1", "kind": "Deployment"}, with)
	}
	secret := map[string]any{"name": "pd"}
	query := func(with map[string]any) changes {
		return changes{"spec.snapshot": []any{map[string]any{"name": "p99", "query": "up", "with": with}}}
	}
	refused := map[string]struct {
		changes changes
		says    []string
	}{
		"no source":              {changes{"spec.source": map[string]any{}}, []string{"spec.source", exactlyOneSource}},
		"source left out":        {changes{"spec.source": removed{}}, []string{"spec.source: Required value"}},
		"two sources":            {changes{"spec.source.prometheus": map[string]any{"query": "up"}}, []string{exactlyOneSource}},
		"url and endpoints":      {changes{"spec.source.http.endpoints": endpoints(1)}, []string{urlOrEndpoints}},
		"no url and no endpoint": {changes{"spec.source.http": map[string]any{}}, []string{urlOrEndpoints}},
		"items with endpoints": {changes{"spec.source.http": map[string]any{"endpoints": endpoints(1), "items": "self"}},
			[]string{"items goes with url: it picks the readings out of its answer"}},
		"an empty list of endpoints": {changes{"spec.source.http": map[string]any{"endpoints": []any{}}}, []string{"should have at least 1 items"}},
		"101 endpoints":              {changes{"spec.source.http": map[string]any{"endpoints": endpoints(101)}}, []string{"spec.source.http.endpoints: Too many: 101: must have at most 100 items"}},
		"two endpoints of one store": {changes{"spec.source.http": map[string]any{"endpoints": append(endpoints(1), endpoints(1)...)}},
			[]string{`spec.source.http.endpoints[1]: Duplicate value: {"storeID":"0"}`}},
		"an endpoint without a store": {changes{"spec.source.http": map[string]any{"endpoints": []any{map[string]any{"storeID": "", "url": "http://etcd"}}}},
			[]string{"storeID in body should be at least 1 chars long"}},
		"an endpoint that is no URL": {changes{"spec.source.http": map[string]any{"endpoints": []any{map[string]any{"storeID": "1", "url": "etcd:2379"}}}},
			[]string{"spec.source.http.endpoints[0].url", urlForm}},
		"an endpoint with a password": {changes{"spec.source.http": map[string]any{"endpoints": []any{map[string]any{"storeID": "1", "url": "http://a:b@etcd"}}}},
			[]string{urlWithPassword}},
		"a url without a scheme":   {changes{"spec.source.http.url": "pd:2379/pd/api/v1/stores"}, []string{"spec.source.http.url", urlForm}},
		"a file url":               {changes{"spec.source.http.url": "file:///etc/passwd"}, []string{urlForm}},
		"an ftp url":               {changes{"spec.source.http.url": "ftp://pd/stores"}, []string{urlForm}},
		"a url without a host":     {changes{"spec.source.http.url": "http:///stores"}, []string{urlForm}},
		"a url with a port alone":  {changes{"spec.source.http.url": "http://:2379/stores"}, []string{urlForm}},
		"an empty url":             {changes{"spec.source.http.url": ""}, []string{urlForm}},
		"a url with a password":    {changes{"spec.source.http.url": "http://root:secret@pd:2379/"}, []string{urlWithPassword}},
		"a url with a user":        {changes{"spec.source.http.url": "https://root@pd:2379/"}, []string{urlWithPassword}},
		"a url of 2049 characters": {changes{"spec.source.http.url": "http://pd/" + strings.Repeat("x", 2039)}, []string{"Too long: may not be more than 2048"}},
		"a Secret over http":       {changes{"spec.source.http.secretRef": secret}, []string{onlyOverHTTPS}},
		"a Secret to endpoints": {changes{"spec.source.http": map[string]any{"endpoints": endpoints(3), "secretRef": secret}},
			[]string{onlyOverHTTPS}},
		"a Secret over http, not meant": {changes{"spec.source.http.secretRef": secret, "spec.source.http.allowCredentialsOverHTTP": false}, []string{onlyOverHTTPS}},
		"a Secret to Prometheus":        {prometheus(map[string]any{"url": "http://prometheus", "secretRef": secret}), []string{onlyOverHTTPS}},
		"a Secret to the default":       {prometheus(map[string]any{"secretRef": secret, "allowCredentialsOverHTTP": true}), []string{withOwnURL}},
		"a certificate to the default":  {prometheus(map[string]any{"certSecretRef": secret}), []string{withOwnURL}},
		"a Prometheus that is no URL":   {prometheus(map[string]any{"url": "prometheus:9090"}), []string{"url must be like http://prometheus:9090"}},
		"a Prometheus with a password":  {prometheus(map[string]any{"url": "http://a:b@prometheus"}), []string{urlWithPassword}},
		"a Prometheus with a query":     {prometheus(map[string]any{"url": "http://prometheus/?query=up"}), []string{"url must have no query"}},
		"an empty query":                {prometheus(map[string]any{"query": ""}), []string{"query in body should be at least 1 chars long"}},
		"Secrets as objects":            {kubernetes(map[string]any{"apiVersion": "v1", "kind": "Secret"}), []string{"Secrets are never read as objects"}},
		"an apiVersion that is none":    {kubernetes(map[string]any{"apiVersion": "apps/v1/deployments"}), []string{"apiVersion must be like v1 or apps/v1"}},
		"a kind that is none":           {kubernetes(map[string]any{"kind": "deployments.apps"}), []string{"kind must be the kind as in a manifest, such as Deployment"}},
		"a namespace that is none":      {kubernetes(map[string]any{"namespaces": []any{"Prod"}}), []string{"each must be the name of a namespace, or * for all"}},
		"all namespaces and one":        {kubernetes(map[string]any{"namespaces": []any{"*", "prod"}}), []string{starStandsForAll}},
		"a kubernetes source, no expression": {changes{"spec.source": map[string]any{"kubernetes": map[string]any{"apiVersion": "apps/v1", "kind": "Deployment"}}, "spec.expression": removed{}},
			[]string{expressionMissing}},
		"no expression":              {changes{"spec.expression": removed{}}, []string{expressionMissing}},
		"an empty expression":        {changes{"spec.expression": ""}, []string{"spec.expression in body should be at least 1 chars long"}},
		"a huge expression":          {changes{"spec.expression": strings.Repeat("x", 16385)}, []string{"spec.expression: Too long: may not be more than 16384"}},
		"a system in capitals":       {changes{"spec.system": "TiKV"}, []string{systemForm}},
		"a system with a dot":        {changes{"spec.system": "tikv.prod"}, []string{systemForm}},
		"a system that ends in -":    {changes{"spec.system": "tikv-"}, []string{systemForm}},
		"an empty system":            {changes{"spec.system": ""}, []string{systemForm}},
		"a system of 41 characters":  {changes{"spec.system": strings.Repeat("s", 41)}, []string{"spec.system: Too long: may not be more than 40"}},
		"a severity in lower case":   {changes{"spec.severity": "critical"}, []string{`Unsupported value: "critical": supported values: "Critical", "Warning", "Info"`}},
		"an onAbsent that is none":   {changes{"spec.onAbsent": "Ignore"}, []string{`Unsupported value: "Ignore": supported values: "Clear", "Keep"`}},
		"a label key with a blank":   {changes{"spec.labels": map[string]any{"my team": "storage"}}, []string{labelKeys}},
		"a label key without a name": {changes{"spec.labels": map[string]any{"example.com/": "storage"}}, []string{labelKeys}},
		"a label value with a blank": {changes{"spec.labels": map[string]any{"team": "storage people"}}, []string{labelValues}},
		"a label value ending in -":  {changes{"spec.labels": map[string]any{"team": "storage-"}}, []string{labelValues}},
		"a long label value":         {changes{"spec.labels": map[string]any{"team": strings.Repeat("x", 64)}}, []string{"spec.labels.team: Too long: may not be more than 63"}},
		"17 labels":                  {changes{"spec.labels": labels(17)}, []string{"spec.labels: Too many: 17: must have at most 16 items"}},
		"minStores below 0":          {changes{"spec.minStores": int64(-1)}, []string{"minStores in body should be greater than or equal to 0"}},
		"minStores above a check":    {changes{"spec.minStores": int64(10001)}, []string{"minStores in body should be less than or equal to 10000"}},
		"a snapshot of nothing":      {changes{"spec.snapshot": []any{map[string]any{"name": "capacity"}}}, []string{"exactly one of expression and query is needed"}},
		"a snapshot of both": {changes{"spec.snapshot": []any{map[string]any{"name": "capacity", "expression": "self", "query": "up"}}},
			[]string{"exactly one of expression and query is needed"}},
		"with over the store's ID":    {query(map[string]any{"storeID": "self.id"}), []string{snapshotName}},
		"with a name that is no name": {query(map[string]any{"in-stance": "self.id"}), []string{snapshotName}},
		"with an empty expression":    {query(map[string]any{"instance": ""}), []string{"should be at least 1 chars long"}},
		"with without a query": {changes{"spec.snapshot": []any{map[string]any{"name": "capacity", "expression": "self", "with": map[string]any{"x": "self"}}}},
			[]string{"with goes with query: it fills in its $names"}},
		"a snapshot without a name":   {changes{"spec.snapshot": snapshots("")}, []string{"spec.snapshot[0].name in body should be at least 1 chars long"}},
		"two snapshots with one name": {changes{"spec.snapshot": snapshots("capacity", "capacity")}, []string{`spec.snapshot[1]: Duplicate value: {"name":"capacity"}`}},
		"17 snapshots":                {changes{"spec.snapshot": snapshots(strings.Split("a b c d e f g h i j k l m n o p q", " ")...)}, []string{"spec.snapshot: Too many: 17: must have at most 16 items"}},
	}
	for name, test := range refused {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRefused(t, c.Create(t.Context(), object(t, namespace, invariantManifest, test.changes), client.DryRunAll), test.says...)
		})
	}
}

func TestAnInvariantAtTheLimitsIsAdmitted(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	for name, changes := range map[string]changes{
		"as it is":                     {},
		"without a system":             {"spec.system": removed{}},
		"a system of 40 characters":    {"spec.system": strings.Repeat("s", 40)},
		"a system of one digit":        {"spec.system": "1"},
		"100 endpoints":                {"spec.source.http": map[string]any{"endpoints": endpoints(100)}},
		"https":                        {"spec.source.http.url": "https://pd:2379/pd/api/v1/stores?state=0&at=a@b"},
		"an IPv6 address":              {"spec.source.http.url": "http://[2001:db8::1]:2379/health"},
		"an @ in the path":             {"spec.source.http.url": "http://pd:2379/user@example"},
		"without items and storeID":    {"spec.source.http.items": removed{}, "spec.storeID": removed{}},
		"16 labels":                    {"spec.labels": labels(16)},
		"a label with a prefix":        {"spec.labels": map[string]any{"example.com/team": "storage_1.2"}},
		"an empty label":               {"spec.labels": map[string]any{"team": ""}},
		"minStores 0":                  {"spec.minStores": int64(0)},
		"minStores 10000":              {"spec.minStores": int64(10000)},
		"16 snapshots":                 {"spec.snapshot": snapshots(strings.Split("a b c d e f g h i j k l m n o p", " ")...)},
		"onAbsent Keep":                {"spec.onAbsent": "Keep"},
		"severity Info":                {"spec.severity": "Info"},
		"an expression of 16384 bytes": {"spec.expression": strings.Repeat("x", 16384)},
		"prometheus":                   sourceChange("prometheus", map[string]any{"query": "up"}, nil),
		"prometheus without an expression": {"spec.source": map[string]any{"prometheus": map[string]any{"query": "up == 0"}},
			"spec.expression": removed{}, "spec.storeID": removed{}},
		"prometheus with all it needs": sourceChange("prometheus", map[string]any{"query": "up"}, map[string]any{"url": "https://prometheus/path",
			"secretRef": map[string]any{"name": "a"}, "certSecretRef": map[string]any{"name": "b"}}),
		"kubernetes": sourceChange("kubernetes", map[string]any{"apiVersion": "v1", "kind": "Pod"}, nil),
		"a kind of a group with a dash": sourceChange("kubernetes", map[string]any{"apiVersion": "cert-manager.io/v1", "kind": "Certificate"},
			map[string]any{"namespaces": []any{"*"}}),
		"a Secret over https": {"spec.source.http.url": "https://pd:2379", "spec.source.http.secretRef": map[string]any{"name": "pd"}},
		"certificates":        {"spec.source.http.url": "https://pd:2379", "spec.source.http.certSecretRef": map[string]any{"name": "pd"}},
		"a Secret over http that may": {"spec.source.http.secretRef": map[string]any{"name": "pd"},
			"spec.source.http.allowCredentialsOverHTTP": true},
		"a snapshot query": {"spec.snapshot": []any{map[string]any{"name": "p99", "query": "up", "with": map[string]any{"instance": "self.address"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			must(t, c.Create(t.Context(), object(t, namespace, invariantManifest, changes), client.DryRunAll))
		})
	}
}

func TestADurationOutsideItsBoundsIsRefusedWithThem(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	longest := "must be a duration of at most 720h, such as"
	for _, field := range []struct {
		path, says string
		good, bad  []string
	}{
		{"spec.interval", "interval must be a duration from 1s to 24h, such as 30s", []string{"1s", "1000ms", "30s", "1h30m", "24h"}, []string{"0s", "500ms", "999ms", "25h", "24h1ms"}},
		{"spec.gracePeriod", "gracePeriod " + longest + " 1m", []string{"0s", "1ms", "720h"}, []string{"721h", "720h1s"}},
		{"spec.resolveAfter", "resolveAfter " + longest + " 2m", []string{"0s", "720h"}, []string{"721h"}},
		{"spec.unobservableAfter", "unobservableAfter " + longest + " 2m", []string{"0s", "720h"}, []string{"721h"}},
		{"spec.source.http.timeout", "timeout must be a duration from 100ms to 60s, such as 5s", []string{"100ms", "1m", "60s"}, []string{"0s", "99ms", "61s", "1h"}},
	} {
		t.Run(field.path, func(t *testing.T) {
			t.Parallel()
			for _, value := range field.good {
				if err := c.Create(t.Context(), object(t, namespace, invariantManifest, changes{field.path: value}), client.DryRunAll); err != nil {
					t.Errorf("%q is refused: %v", value, err)
				}
			}
			malformed := []string{"", "30", "5 min", "1d", "-5s", "+5s", "1.5h", "s", "99999h", "99999999999h", "1h1h1h1h1h", "５s", "5s\n", "1us", "PT5S"}
			for _, value := range append(field.bad, malformed...) {
				wantRefused(t, c.Create(t.Context(), object(t, namespace, invariantManifest, changes{field.path: value}), client.DryRunAll), field.path, field.says)
			}
			wantRefused(t, c.Create(t.Context(), object(t, namespace, invariantManifest, changes{field.path: strings.Repeat("1h", 17)}), client.DryRunAll), "may not be more than 32")
			wantRefused(t, c.Create(t.Context(), object(t, namespace, invariantManifest, changes{field.path: int64(30)}), client.DryRunAll), "must be of type string")
		})
	}
}

func TestTheSystemOfAnInvariantCannotChange(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	for name, test := range map[string]struct{ before, after any }{
		"to another":   {"tikv-prod", "tikv-test"},
		"to nothing":   {"tikv-prod", removed{}},
		"from nothing": {removed{}, "tikv-prod"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			invariant := object(t, namespace, invariantManifest, changes{"metadata.name": strings.ReplaceAll(name, " ", "-"), "spec.system": test.before})
			must(t, c.Create(t.Context(), invariant))
			change(t, invariant, changes{"spec.severity": "Critical"})
			must(t, c.Update(t.Context(), invariant))
			change(t, invariant, changes{"spec.system": test.after})
			wantRefused(t, c.Update(t.Context(), invariant), systemStays)
		})
	}
}

func TestWhatAnInvariantLeavesOutHasItsDefault(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	invariant := object(t, namespace, invariantManifest, nil)
	must(t, c.Create(t.Context(), invariant))
	var got v1alpha1.Invariant
	must(t, c.Get(t.Context(), client.ObjectKeyFromObject(invariant), &got))
	spec := got.Spec
	if spec.Severity != v1alpha1.Warning ||
		spec.Source.HTTP.Timeout.Or(0) != 5*time.Second || spec.UnobservableAfter.Or(0) != v1alpha1.DefaultUnobservableAfter {
		t.Errorf("severity %q, timeout %v, unobservableAfter %v; want Warning, 5s, 2m",
			spec.Severity, spec.Source.HTTP.Timeout, spec.UnobservableAfter)
	}
	if spec.MinStores != nil || spec.Interval != nil || spec.GracePeriod != nil || spec.ResolveAfter != nil || spec.OnAbsent != "" || spec.Suspend {
		t.Errorf("what the monitor decides is written into the spec: %+v", spec)
	}
}

func TestKubectlRefusesAMisspeltField(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	manifest := strings.Replace(invariantManifest, "expression:", "expresion:", 1)
	_, _, err := controlplane.Kubectl(t.Context(), plane.Kubeconfig, manifest, "apply", "-n", namespace, "-f", "-")
	wantRefused(t, err, `unknown field "spec.expresion"`)
}

func TestKubectlSaysWhatToWriteInABadManifest(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	manifest := strings.Replace(invariantManifest, "system: tikv-prod", "interval: 5 min", 1)
	_, _, err := controlplane.Kubectl(t.Context(), plane.Kubeconfig, manifest, "apply", "-n", namespace, "-f", "-")
	wantRefused(t, err, "spec.interval", "interval must be a duration from 1s to 24h, such as 30s")
	if strings.Contains(err.Error(), "evaluating rule") {
		t.Errorf("the answer speaks of the API server's insides: %v", err)
	}
}
