package observe

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// DefaultTimeout is how long an answer may take where an Invariant does not say.
const DefaultTimeout = 5 * time.Second

// maxAtOnce is how many addresses one look reads at the same time: more than one Invariant can name.
const maxAtOnce = 128

// TimeoutOf is how long the answers of a spec's source may take.
func TimeoutOf(spec *v1alpha1.InvariantSpec) time.Duration {
	if spec.Source.HTTP == nil {
		return 0
	}
	return spec.Source.HTTP.Timeout.Or(DefaultTimeout)
}

// Look is one look at the sources of a cycle: each address is read once, however many Invariants read it, so that
// they judge the same moment.
type Look struct {
	answers map[string]*answer
}

// Look reads all addresses that the specs name. It takes as long as the slowest of them, and ends early when ctx does;
// what it returns then is of no use.
func (g *Getter) Look(ctx context.Context, specs []*v1alpha1.InvariantSpec) Look {
	look := Look{answers: map[string]*answer{}}
	timeouts, longest := map[string]time.Duration{}, time.Duration(0)
	for _, spec := range specs {
		for _, address := range addresses(spec) {
			timeouts[address] = max(timeouts[address], TimeoutOf(spec))
			longest = max(longest, timeouts[address])
			look.answers[address] = nil
		}
	}
	// Waiting for a place is part of it, so that many slow addresses take no longer than one.
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	type got struct {
		address string
		answer  *answer
	}
	results := make(chan got, len(timeouts))
	var group errgroup.Group
	group.SetLimit(maxAtOnce)
	for address, timeout := range timeouts {
		group.Go(func() error {
			results <- got{address, g.get(ctx, address, timeout)}
			return nil
		})
	}
	_ = group.Wait()
	close(results)
	for r := range results {
		look.answers[r.address] = r.answer
	}
	return look
}

// addresses are what a spec's source reads.
func addresses(spec *v1alpha1.InvariantSpec) []string {
	source := spec.Source.HTTP
	if source == nil {
		return nil
	}
	if source.URL != "" {
		return []string{source.URL}
	}
	list := make([]string, 0, len(source.Endpoints))
	for _, endpoint := range source.Endpoints {
		list = append(list, endpoint.URL)
	}
	return list
}

// Observation is what the look saw for a spec that was given to it.
func (l Look) Observation(spec *v1alpha1.InvariantSpec) verdict.Observation {
	source := spec.Source.HTTP
	switch {
	case source == nil:
		return verdict.Observation{Fault: &verdict.Fault{Reason: verdict.InvalidExpression,
			Message: "spec.source: this version of the monitor observes http only"}}
	case source.URL != "":
		return l.answers[source.URL].observation(source.URL)
	}
	o := verdict.Observation{Readings: make([]verdict.Reading, 0, len(source.Endpoints))}
	for _, endpoint := range source.Endpoints {
		o.Readings = append(o.Readings, l.answers[endpoint.URL].reading(endpoint))
	}
	return o
}

// observation is the answer of an address that speaks for all stores.
func (a *answer) observation(address string) verdict.Observation {
	if a.fault != nil {
		return verdict.Observation{Fault: a.fault}
	}
	if !a.parse() {
		return verdict.Observation{Fault: &verdict.Fault{Reason: verdict.InvalidBody,
			Message: fmt.Sprintf("GET %s: the answer is not JSON%s", shown(address), looksLike(a.body))}}
	}
	return verdict.Observation{Readings: []verdict.Reading{{Value: a.value}}}
}

// reading is what is known of a store that answers for itself: that it does not answer is a reading too. An address
// that the monitor may not read says nothing about the store.
func (a *answer) reading(endpoint v1alpha1.Endpoint) verdict.Reading {
	value := map[string]any{
		"storeID": endpoint.StoreID,
		"ok":      a.fault == nil,
		"status":  int64(a.status),
		"body":    nil,
		"error":   "",
	}
	if a.fault != nil {
		value["error"] = a.fault.Error()
	}
	if a.parse() {
		value["body"] = a.value
	} else if a.body != nil {
		value["body"] = string(a.body)
	}
	if a.fault != nil && a.fault.Reason == verdict.Forbidden {
		return verdict.Reading{Value: value, Fault: a.fault}
	}
	return verdict.Reading{Value: value}
}

// parse parses the body once, and tells whether it is JSON.
func (a *answer) parse() bool {
	if !a.parsed {
		a.parsed = true
		a.valid = a.body != nil && utiljson.Unmarshal(a.body, &a.value) == nil
	}
	return a.valid
}

// looksLike guesses what a body is that is not JSON.
func looksLike(body []byte) string {
	for _, c := range body {
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case '<':
			return " but looks like HTML: is this the address of the API?"
		}
		return ""
	}
	return ": it is empty"
}
