package v1alpha1_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"invariant.dev/operator/api/v1alpha1"
)

// fuzzSeed is fixed, so that what fails fails again.
const fuzzSeed = 20261124

// fuzzer writes objects of one kind into one namespace, byte by byte as it wants them, and reads them with the typed
// client, as the monitor does.
type fuzzer struct {
	t         *testing.T
	namespace string
	typed     client.Client
	raw       *http.Client
	resource  string
	// serial numbers the objects; the last one is fresh while no status was admitted in it.
	serial   int
	fresh    bool
	tried    int64
	admitted []write
}

func newFuzzer(t *testing.T, namespace string, typed client.Client, kind string) *fuzzer {
	t.Helper()
	raw, err := rest.HTTPClientFor(plane.Config)
	must(t, err)
	return &fuzzer{t: t, namespace: namespace, typed: typed, raw: raw, resource: strings.ToLower(kind) + "s"}
}

// send sends a request and tells whether it was admitted.
func (f *fuzzer) send(method, name, contentType string, body []byte) bool {
	address := fmt.Sprintf("%s/apis/%s/namespaces/%s/%s%s?fieldValidation=Ignore", strings.TrimSuffix(plane.Config.Host, "/"), v1alpha1.GroupVersion, f.namespace, f.resource, name)
	request, err := http.NewRequestWithContext(f.t.Context(), method, address, bytes.NewReader(body))
	must(f.t, err)
	request.Header.Set("Content-Type", contentType)
	response, err := f.raw.Do(request)
	must(f.t, err)
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	must(f.t, err)
	if response.StatusCode >= 500 && !bytes.Contains(answer, []byte("etcdserver: request is too large")) {
		f.t.Errorf("the API server failed on %s %s: %s", method, clipped(body), answer)
	}
	return response.StatusCode < 300
}

func clipped(b []byte) string { return fmt.Sprintf("%.300q", b) }

// write is what was admitted into one object.
type write struct{ name, path, token string }

// settle requires that the typed client lists all that was admitted, and that the monitor can ask it its questions. What
// hides the others is named.
func (f *fuzzer) settle() {
	f.t.Helper()
	listed, err := f.list()
	for _, w := range f.admitted {
		if err != nil {
			if _, err := f.list(client.MatchingFields{"metadata.name": w.name}); err != nil {
				f.t.Errorf("%s of %s = %.200s was admitted, and hides every object of the kind from the typed client: %v", w.path, f.resource, w.token, err)
			}
		} else if !listed[w.name] {
			f.t.Errorf("%s of %s = %.200s was admitted and is not listed", w.path, f.resource, w.token)
		}
	}
}

func (f *fuzzer) list(options ...client.ListOption) (names map[string]bool, err error) {
	names = map[string]bool{}
	options = append(options, client.InNamespace(f.namespace))
	if f.resource == "tickets" {
		var tickets v1alpha1.TicketList
		err = f.typed.List(f.t.Context(), &tickets, options...)
		for _, ticket := range tickets.Items {
			names[ticket.Name] = true
			_, _, _ = ticket.Held(), ticket.IsOpen(), ticket.Number()
		}
		return names, err
	}
	var invariants v1alpha1.InvariantList
	err = f.typed.List(f.t.Context(), &invariants, options...)
	for _, invariant := range invariants.Items {
		names[invariant.Name] = true
		_, _ = invariant.MutedUntil()
		_ = invariant.SystemName()
	}
	return names, err
}

// try writes an object that is the sample but for the token at the path: spec and metadata by creating it, the status by
// the status subresource.
func (f *fuzzer) try(sample map[string]any, path, token string) {
	f.t.Helper()
	f.tried++
	full := runtime.DeepCopyJSON(sample)
	put(full, strings.Split(path, "."), json.RawMessage(token))
	status := full["status"]
	delete(full, "status")
	inStatus := path == "status" || strings.HasPrefix(path, "status.")
	if !inStatus || !f.fresh {
		f.serial++
		full["metadata"].(map[string]any)["name"] = f.name()
		admitted := f.send(http.MethodPost, "", runtime.ContentTypeJSON, marshal(full))
		f.fresh = admitted && inStatus
		if inStatus && !admitted {
			f.t.Fatalf("the sample of %s is refused", f.resource)
		}
		if admitted && !inStatus {
			f.admitted = append(f.admitted, write{f.name(), path, token})
		}
	}
	if inStatus && f.send(http.MethodPatch, "/"+f.name()+"/status", "application/merge-patch+json", marshal(map[string]any{"status": status})) {
		f.fresh = false
		f.admitted = append(f.admitted, write{f.name(), path, token})
	}
}

func (f *fuzzer) name() string { return fmt.Sprintf("fuzz-%d", f.serial) }

// marshal writes JSON around tokens without a look into them.
func marshal(value any) []byte {
	switch v := value.(type) {
	case json.RawMessage:
		return v
	case map[string]any:
		var fields [][]byte
		for _, key := range slices.Sorted(maps.Keys(v)) {
			fields = append(fields, append([]byte(strconv.Quote(key)+":"), marshal(v[key])...))
		}
		return slices.Concat([]byte("{"), bytes.Join(fields, []byte(",")), []byte("}"))
	case []any:
		var items [][]byte
		for _, item := range v {
			items = append(items, marshal(item))
		}
		return slices.Concat([]byte("["), bytes.Join(items, []byte(",")), []byte("]"))
	}
	encoded, _ := json.Marshal(value)
	return encoded
}

// step goes one field down, into the first item of a list and the first value of a map.
func step(in any, field string) (any, bool) {
	name := strings.TrimRight(field, "[]{}")
	m, _ := in.(map[string]any)
	value, found := m[name]
	for rest := field[len(name):]; found && rest != ""; rest = rest[2:] {
		switch v := value.(type) {
		case []any:
			value, found = v[0], len(v) > 0
		case map[string]any:
			value, found = v["key"]
		default:
			found = false
		}
	}
	return value, found
}

func holds(in any, path string) bool {
	for _, field := range strings.Split(path, ".") {
		var found bool
		if in, found = step(in, field); !found {
			return false
		}
	}
	return true
}

func put(in any, path []string, token json.RawMessage) {
	for ; len(path) > 1; path = path[1:] {
		in, _ = step(in, path[0])
	}
	name, isItem := strings.CutSuffix(path[0], "[]")
	name, isValue := strings.CutSuffix(name, "{}")
	m := in.(map[string]any)
	switch {
	case isItem:
		m[name].([]any)[0] = token
	case isValue:
		m[name].(map[string]any)["key"] = token
	default:
		m[name] = token
	}
}

// readSamples are objects that together have every field of the kind.
func readSamples(t *testing.T, kind string) []map[string]any {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", strings.ToLower(kind)+"-full.yaml"))
	must(t, err)
	var samples []map[string]any
	for _, document := range strings.Split(string(content), "\n---\n") {
		asJSON, err := yaml.YAMLToJSON([]byte(document))
		must(t, err)
		var sample map[string]any
		must(t, json.Unmarshal(asJSON, &sample))
		samples = append(samples, sample)
	}
	return samples
}

func TestWhateverTheAPIServerAdmitsTheTypedClientReads(t *testing.T) {
	t.Parallel()
	t.Logf("seed %d", fuzzSeed)
	var tried, admitted atomic.Int64
	t.Cleanup(func() {
		t.Logf("%d values, %d admitted", tried.Load(), admitted.Load())
		if admitted.Load() == 0 {
			t.Error("nothing was admitted: the fuzz proves nothing")
		}
	})
	for _, kind := range readCRDs(t) {
		typed, samples := newClient(t), readSamples(t, kind.name)
		run := func(name string, fuzz func(f *fuzzer)) {
			t.Run(kind.name+" "+name, func(t *testing.T) {
				t.Parallel()
				f := newFuzzer(t, newNamespace(t), typed, kind.name)
				fuzz(f)
				f.settle()
				tried.Add(f.tried)
				admitted.Add(int64(len(f.admitted)))
			})
		}
		kind.walk(func(path string, s *schema) {
			if path == "apiVersion" || path == "kind" || path == "metadata" {
				return
			}
			run(path, func(f *fuzzer) {
				at := slices.IndexFunc(samples, func(sample map[string]any) bool { return holds(sample, path) })
				if at < 0 {
					f.t.Fatal("no sample has this field: add it to testdata")
				}
				hash := fnv.New64()
				_, _ = hash.Write([]byte(kind.name + path))
				for _, token := range tokensFor(s, rand.New(rand.NewPCG(fuzzSeed, hash.Sum64()))) {
					f.try(samples[at], path, token)
				}
			})
		})
		for _, key := range []string{v1alpha1.HoldAnnotation, v1alpha1.HoldNoteAnnotation, v1alpha1.MuteUntilAnnotation, "", "a b", "operator/"} {
			run(fmt.Sprintf("label and annotation %q", key), func(f *fuzzer) {
				for _, token := range slices.Concat(wrongTokens, textTokens, timeTokens) {
					f.try(samples[0], "metadata.annotations", fmt.Sprintf("{%q:%s}", key, token))
				}
				for _, token := range wrongTokens {
					f.try(samples[0], "metadata.labels", fmt.Sprintf("{%q:%s}", key, token))
				}
			})
		}
	}
}

func TestTheSamplesOfTheFuzzAreAdmittedWhole(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"Invariant", "Ticket"} {
		f := newFuzzer(t, newNamespace(t), newClient(t), kind)
		sample := readSamples(t, kind)[0]
		f.try(sample, "status", string(marshal(sample["status"])))
		if len(f.admitted) != 1 {
			t.Errorf("the sample of %s is refused: the fuzz would prove nothing", kind)
		}
	}
}
