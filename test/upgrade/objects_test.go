package upgrade

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
)

// objects are the tickets and Invariants of a site as the API server has them, by names such as ticket/seen-1.
type objects map[string]*unstructured.Unstructured

func (s *site) objects() objects {
	s.Helper()
	all := objects{}
	for _, kind := range []string{"Ticket", "Invariant"} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind + "List"))
		must(s.T, s.api.List(s.Context(), list, client.InNamespace(s.namespace)))
		for i := range list.Items {
			all[strings.ToLower(kind)+"/"+list.Items[i].GetName()] = &list.Items[i]
		}
	}
	return all
}

// until waits until nothing is wrong with the objects.
func (s *site) until(what string, wrong func(objects) string) {
	s.Helper()
	eventually(s.T, s.namespace+": "+what, func() string { return wrong(s.objects()) })
}

// ticket is an object as the typed client reads it; nil for an Invariant, which is read all the same.
func (o objects) ticket(name string) (*v1alpha1.Ticket, error) {
	content, err := o[name].MarshalJSON()
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(name, "ticket/") {
		return nil, json.Unmarshal(content, &v1alpha1.Invariant{})
	}
	ticket := &v1alpha1.Ticket{}
	return ticket, json.Unmarshal(content, ticket)
}

// wrong says what is not as wanted: which tickets there are, and their states.
func (o objects) wrong(want map[string]v1alpha1.TicketState) string {
	got := map[string]v1alpha1.TicketState{}
	for name := range o {
		ticket, err := o.ticket(name)
		if err != nil {
			return fmt.Sprintf("%s cannot be read: %v", name, err)
		}
		if ticket != nil {
			got[ticket.Name] = ticket.Status.State
		}
	}
	if !maps.Equal(got, want) {
		return fmt.Sprintf("tickets are %v, want %v", got, want)
	}
	return ""
}

// lacks says what an object lacks of what its status must say.
func (o objects) lacks(name string, words ...string) string {
	if o[name] == nil {
		return "there is no " + name
	}
	status, _ := json.Marshal(o[name].Object["status"])
	for _, word := range words {
		if !strings.Contains(string(status), word) {
			return fmt.Sprintf("%s lacks %s: %s", name, word, status)
		}
	}
	return ""
}

func (o objects) occurrences(name string) int64 {
	if o[name] == nil {
		return 0
	}
	n, _, _ := unstructured.NestedInt64(o[name].Object, "status", "occurrences")
	return n
}

func (o objects) versions() map[string]string {
	versions := map[string]string{}
	for name, object := range o {
		versions[name] = object.GetResourceVersion()
	}
	return versions
}

// goesOn are the fields that change while nothing happens: counters of what is seen again, and who saw it.
var goesOn = []string{".metadata.resourceVersion", ".metadata.managedFields", ".status.occurrences", ".status.lastSeenTime", ".status.lastCheckTime",
	".status.monitor", ".status.violations.occurrences", ".status.violations.lastSeenTime"}

// lost says what of before is not in after, or not the same there. What is only in after counts for nothing.
func lost(path string, before, after any) []string {
	if slices.Contains(goesOn, path) {
		return fell(path, before, after)
	}
	switch before := before.(type) {
	case map[string]any:
		after, _ := after.(map[string]any)
		var all []string
		for _, name := range slices.Sorted(maps.Keys(before)) {
			all = append(all, lost(path+"."+name, before[name], after[name])...)
		}
		return all
	case []any:
		after, _ := after.([]any)
		if len(after) != len(before) {
			return []string{fmt.Sprintf("%s was %v and is %v", path, before, after)}
		}
		var all []string
		for i := range before {
			all = append(all, lost(path, before[i], after[i])...)
		}
		return all
	}
	if !reflect.DeepEqual(before, after) {
		return []string{fmt.Sprintf("%s was %v and is %v", path, before, after)}
	}
	return nil
}

// fell says whether a counter or a time went back, or is gone.
func fell(path string, before, after any) []string {
	back := after == nil
	switch before := before.(type) {
	case int64:
		n, _ := after.(int64)
		back = n < before
	case string:
		s, _ := after.(string)
		back = strings.HasSuffix(path, "Time") && cmp.Less(s, before)
	}
	if back {
		return []string{fmt.Sprintf("%s was %v and is %v", path, before, after)}
	}
	return nil
}
