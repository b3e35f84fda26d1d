package docs

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/observe"
	"invariant.dev/operator/controllers/verdict"
)

// proof is what a source says, and what an example says of it then.
type proof struct {
	// Answer is what the source's url answers.
	Answer json.RawMessage `json:"answer"`
	// Endpoints are what its endpoints answer.
	Endpoints map[string]answer `json:"endpoints"`
	// Metrics are what Prometheus scrapes of the targets that answer, by their names.
	Metrics map[string]string `json:"metrics"`
	// Objects are what the API server has.
	Objects []map[string]any `json:"objects"`
	// Query stands in place of the example's, and Without is taken out of it.
	Query   string `json:"query"`
	Without string `json:"without"`
	// Granted is how many commands are to be typed first, which messages name and the guide has, too.
	Granted int `json:"granted"`

	// Verdicts and Fault are what is said, and Snapshot the evidence that is taken.
	Verdicts map[string]string            `json:"verdicts"`
	Fault    string                       `json:"fault"`
	Snapshot map[string]map[string]string `json:"snapshot"`
}

// judgement is what is said of an observation.
type judgement struct {
	Verdicts map[string]string
	Fault    string
}

func readProofs(t *testing.T) map[string][]proof {
	t.Helper()
	content, err := os.ReadFile("testdata/proofs.yaml")
	must(t, err)
	var proofs map[string][]proof
	must(t, yaml.UnmarshalStrict(content, &proofs))
	return proofs
}

// bench is what judges examples as the monitor does, with the monitor's rights.
type bench struct {
	document   *document
	admin      client.Client
	observer   *observe.Observer
	prometheus *scraped
	sources    *sources
	// typed are the commands that were typed for a proof.
	typed map[string]bool
}

func newBench(t *testing.T) *bench {
	t.Helper()
	scheme := runtime.NewScheme()
	must(t, v1alpha1.AddToScheme(scheme))
	must(t, corev1.AddToScheme(scheme))
	admin, err := client.New(plane.Config, client.Options{Scheme: scheme})
	must(t, err)
	config, _, err := plane.ServiceAccount(t.Context(), "operator-system", "operator-monitor")
	must(t, err)
	live, err := client.New(config, client.Options{Scheme: scheme})
	must(t, err)
	b := &bench{document: readDocument(t), admin: admin, prometheus: newScraped(t), sources: newSources(t), typed: map[string]bool{}}
	b.observer = observe.NewObserver(observe.AddressPolicy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	b.observer.Identity = "system:serviceaccount:operator-system:operator-monitor"
	b.observer.PrometheusURL = b.prometheus.URL
	b.observer.Objects = newObjects(t, config)
	b.keepSecrets(t)
	b.observer.Secrets = func(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
		secret := &corev1.Secret{}
		return secret, live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, secret)
	}
	return b
}

func newObjects(t *testing.T, config *rest.Config) *observe.Objects {
	t.Helper()
	dynamicClient, err := dynamic.NewForConfig(config)
	must(t, err)
	kinds, err := discovery.NewDiscoveryClientForConfig(config)
	must(t, err)
	return &observe.Objects{Client: dynamicClient, Kinds: observe.KindsOf(kinds), Clock: testingclock.NewFakePassiveClock(moment)}
}

// applied is an example as the API server takes it, which is stored nowhere.
func (b *bench) applied(t *testing.T, manifest string) *v1alpha1.Invariant {
	t.Helper()
	object := &unstructured.Unstructured{}
	must(t, yaml.UnmarshalStrict([]byte(manifest), &object.Object))
	if object.GetNamespace() == "" {
		object.SetNamespace(namespace)
	}
	if object.GetKind() != "Invariant" || object.GetNamespace() != namespace {
		t.Fatalf("the example is %s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())
	}
	if err := b.admin.Create(t.Context(), object, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict)); err != nil {
		t.Fatalf("it does not apply: %v", err)
	}
	var invariant v1alpha1.Invariant
	must(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &invariant, true))
	return &invariant
}

func TestEveryExampleSaysWhatItIsMeantToSay(t *testing.T) {
	b := newBench(t)
	proofs := readProofs(t)
	for _, example := range b.document.blocks {
		if example.language != "yaml" {
			continue
		}
		invariant := b.applied(t, example.text)
		cases, found := proofs[invariant.Name]
		delete(proofs, invariant.Name)
		t.Run(invariant.Name, func(t *testing.T) {
			if !found {
				t.Fatal("it has no proof, or there are two by that name")
			}
			b.prove(t, invariant, cases)
		})
	}
	t.Run("a new token needs no restart", b.proveRotation)
	for name := range proofs {
		t.Errorf("there is no example %s", name)
	}
}

// prove proves one example.
func (b *bench) prove(t *testing.T, invariant *v1alpha1.Invariant, proofs []proof) {
	program, err := judge.Compile(&invariant.Spec)
	if err != nil {
		t.Fatal(err)
	}
	var past judge.Past
	for n, p := range proofs {
		t.Run(fmt.Sprint(n+1), func(t *testing.T) {
			spec := b.set(t, invariant, p)
			var (
				// What the check before left is there for each try.
				next   judge.Past
				said   judgement
				result judge.Result
			)
			clear(b.typed)
			eventually(t, func() string {
				next = past
				result = b.look(t, invariant, program, &next, spec)
				if p.Granted > 0 && result.Fault != nil && result.Fault.Reason == verdict.Forbidden {
					b.grant(t, result.Fault)
				}
				said = b.said(result)
				if said.Fault != p.Fault || !maps.Equal(said.Verdicts, p.Verdicts) {
					return fmt.Sprintf("it says\n%v\nand not\n%v", said, judgement{p.Verdicts, p.Fault})
				}
				return ""
			})
			past = next
			if len(b.typed) != p.Granted {
				t.Errorf("%d commands granted what was needed, and not %d", len(b.typed), p.Granted)
			}
			b.wantEvidence(t, invariant, program, spec, result, p)
			b.wantQuoted(t, said)
		})
	}
	wantBoth(t, invariant, proofs)
}

// look looks at the source as it is now, and judges it.
func (b *bench) look(t *testing.T, invariant *v1alpha1.Invariant, program *judge.Program, past *judge.Past, spec *v1alpha1.InvariantSpec) judge.Result {
	t.Helper()
	seen := b.observer.Look(t.Context(), systemOf(invariant), []*v1alpha1.InvariantSpec{spec})
	defer seen.Release()
	return program.JudgeAfter(t.Context(), past, seen.Observation(spec), moment)
}

func systemOf(invariant *v1alpha1.Invariant) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: invariant.SystemName()}
}

// grant types the commands that a fault names, which the guide must have, too.
func (b *bench) grant(t *testing.T, fault *verdict.Fault) {
	t.Helper()
	_, commands, found := strings.Cut(fault.Message, "with: ")
	if !found {
		t.Fatalf("the message has no commands: %s", fault.Message)
	}
	for command := range strings.SplitSeq(commands, " && ") {
		if b.typed[command] {
			continue
		}
		b.typed[command] = true
		if !strings.Contains(b.document.text, "$ "+command+"\n") {
			t.Errorf("the guide does not have the command %s", command)
		}
		if _, code := shell(t, "", command); code != 0 {
			t.Fatalf("%s ends with %d", command, code)
		}
	}
}

// said is what is said, in the words of proofs.
func (b *bench) said(r judge.Result) judgement {
	if r.Fault != nil {
		return judgement{Fault: b.sources.named(r.Fault.Error())}
	}
	said := judgement{Verdicts: map[string]string{}}
	for _, v := range r.Verdicts {
		switch v.Truth {
		case verdict.Satisfied:
			said.Verdicts[v.StoreID] = v.Truth.String()
		case verdict.Violated:
			said.Verdicts[v.StoreID] = b.sources.named(v.Truth.String() + ": " + v.Message)
		default:
			said.Verdicts[v.StoreID] = b.sources.named(v.Truth.String() + ": " + v.Fault.Error())
		}
	}
	return said
}

// wantEvidence requires the evidence that a ticket would have.
func (b *bench) wantEvidence(t *testing.T, invariant *v1alpha1.Invariant, program *judge.Program, spec *v1alpha1.InvariantSpec, r judge.Result, p proof) {
	t.Helper()
	ask := func(ctx context.Context, query string) (string, *verdict.Fault) {
		return b.observer.Ask(ctx, systemOf(invariant), spec, query)
	}
	for store, want := range p.Snapshot {
		eventually(t, func() string {
			got := map[string]string{}
			for _, s := range program.Snapshot(t.Context(), store, r.Violating[store], moment, ask) {
				if got[s.Name] = s.Value; s.Error != "" {
					got[s.Name] = "error: " + s.Error
				}
			}
			// Prometheus gives series in any order.
			for name, text := range got {
				got[name] = strings.Join(slices.Sorted(strings.SplitSeq(text, "\n")), "\n")
			}
			if !maps.Equal(got, want) {
				return fmt.Sprintf("the evidence of store %s is\n%q\nand not\n%q", store, got, want)
			}
			return ""
		})
	}
}

// wantQuoted requires that the guide has the message of each fault, or names its reason.
func (b *bench) wantQuoted(t *testing.T, said judgement) {
	t.Helper()
	texts := []string{said.Fault}
	for _, text := range said.Verdicts {
		if fault, unknown := strings.CutPrefix(text, "Unknown: "); unknown {
			texts = append(texts, fault)
		}
	}
	for _, text := range texts {
		reason, message, _ := strings.Cut(text, ": ")
		if text != "" && !strings.Contains(b.document.text, message) && !strings.Contains(b.document.text, "`"+reason+"`") {
			t.Errorf("the guide does not have\n%s", text)
		}
	}
}

// wantBoth requires that an example is seen satisfied and violated.
func wantBoth(t *testing.T, invariant *v1alpha1.Invariant, proofs []proof) {
	t.Helper()
	seen := map[string]bool{}
	for _, p := range proofs {
		if p.Fault == "" && len(p.Verdicts) == 0 {
			seen["Satisfied"] = true // as where nothing is listed, and nothing need be
		}
		for _, v := range p.Verdicts {
			word, _, _ := strings.Cut(v, ":")
			seen[word] = true
		}
	}
	if !seen["Satisfied"] || !seen["Violated"] {
		t.Errorf("%s is proved %v only", invariant.Name, slices.Sorted(maps.Keys(seen)))
	}
}

// set makes the sources say what a proof says, and returns the example's spec with their addresses.
func (b *bench) set(t *testing.T, invariant *v1alpha1.Invariant, p proof) *v1alpha1.InvariantSpec {
	t.Helper()
	spec := invariant.Spec.DeepCopy()
	if p.Metrics != nil {
		b.prometheus.set(p.Metrics)
	}
	switch {
	case spec.Source.HTTP != nil:
		b.sources.serve(t, spec.Source.HTTP, p)
	case spec.Source.Prometheus != nil:
		b.sources.rename(spec.Source.Prometheus.URL, b.prometheus.URL)
		spec.Source.Prometheus.URL = b.prometheus.URL
		if p.Query != "" {
			spec.Source.Prometheus.Query = p.Query
		}
		spec.Source.Prometheus.Query = strings.ReplaceAll(spec.Source.Prometheus.Query, p.Without, "")
	}
	for _, fields := range p.Objects {
		b.create(t, &unstructured.Unstructured{Object: runtime.DeepCopyJSON(fields)})
	}
	return spec
}

// create creates an object with its status, which goes when the test ends.
func (b *bench) create(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	mapping, err := b.admin.RESTMapper().RESTMapping(object.GroupVersionKind().GroupKind(), object.GroupVersionKind().Version)
	must(t, err)
	if object.GetNamespace() == "" && mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		object.SetNamespace(namespace)
	}
	status := object.Object["status"]
	must(t, b.admin.Create(t.Context(), object))
	t.Cleanup(func() {
		must(t, b.admin.Delete(context.WithoutCancel(t.Context()), object, client.GracePeriodSeconds(0)))
	})
	if status != nil {
		object.Object["status"] = status
		must(t, b.admin.Status().Update(t.Context(), object))
	}
}
