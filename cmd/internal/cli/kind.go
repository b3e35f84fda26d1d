package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/dynamic"

	"invariant.dev/operator/api/v1alpha1"
)

// Object is an object as Go reads it, such as *v1alpha1.Ticket.
type Object interface {
	metav1.Object
	runtime.Object
}

// Kind is a kind of object that commands are about: how it is called, how it is read and how it is written.
type Kind[T Object] struct {
	// plural is also the name of the resource.
	plural, singular, short string
	// one is the singular with its article.
	one string
	// name is what people call the name of an object, and example is such a name.
	name, example string
	// listAll is the verb that shows all objects there are.
	listAll string
	empty   func() T
}

// Tickets are what is broken.
var Tickets = Kind[*v1alpha1.Ticket]{
	plural: "tickets", singular: "ticket", short: "tkt", one: "a ticket",
	name: "ID", example: "tikv-prod-17",
	listAll: "list --state all",
	empty:   func() *v1alpha1.Ticket { return &v1alpha1.Ticket{} },
}

// Invariants are what must always be true.
var Invariants = Kind[*v1alpha1.Invariant]{
	plural: "invariants", singular: "invariant", short: "inv", one: "an invariant",
	name: "name", example: "store-down",
	listAll: "list",
	empty:   func() *v1alpha1.Invariant { return &v1alpha1.Invariant{} },
}

// ParseName reads the name of an object as somebody types it: NAME, or as it is printed,
// ticket.operator.invariant.dev/NAME. The kind may be its singular, plural or short name, without the group too.
func (k Kind[T]) ParseName(arg string) (string, error) {
	kind, name, found := strings.Cut(arg, "/")
	if !found {
		kind, name = k.plural, arg
	}
	kind = strings.TrimSuffix(kind, "."+v1alpha1.GroupVersion.Group)
	if name == "" || strings.Contains(name, "/") || !slices.Contains([]string{k.plural, k.singular, k.short}, kind) {
		return "", fmt.Errorf("%q is not the %s of %s, such as %s", arg, k.name, k.one, k.example)
	}
	return name, nil
}

// Decode reads what the API server sent.
func (k Kind[T]) Decode(sent *unstructured.Unstructured) (T, error) {
	object := k.empty()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(sent.Object, object); err != nil {
		return k.empty(), fmt.Errorf("read the %s %s/%s: %w", k.singular, sent.GetNamespace(), sent.GetName(), err)
	}
	return object, nil
}

func (k Kind[T]) in(c *Cluster, namespace string) dynamic.ResourceInterface {
	return c.dynamic.Resource(v1alpha1.GroupVersion.WithResource(k.plural)).Namespace(namespace)
}

// List returns all objects that match, in the namespaces that the command is about. It asks for them page by page.
func (k Kind[T]) List(ctx context.Context, c *Cluster, options metav1.ListOptions) ([]unstructured.Unstructured, error) {
	options.Limit = pageSize
	var all []unstructured.Unstructured
	err := resource.FollowContinue(&options, func(options metav1.ListOptions) (runtime.Object, error) {
		page, err := k.in(c, c.namespace).List(ctx, options)
		if err != nil {
			return nil, k.explainList(c, err)
		}
		all = append(all, page.Items...)
		return page, nil
	})
	return all, err
}

// Get returns the object of that name in the namespace that the command is about.
func (k Kind[T]) Get(ctx context.Context, c *Cluster, name string) (*unstructured.Unstructured, error) {
	object, err := k.in(c, c.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, k.explain(c, err, "get", k.plural, "read the "+k.singular+" "+name)
	}
	return object, nil
}

// Patch merges a change into an object, or into its subresource, and returns the object as it is then. dryRun is that
// of metav1.PatchOptions: with metav1.DryRunAll nothing is stored. It may be a conflict also where the change names no
// resource version: the API server gives up where others write all the time.
func (k Kind[T]) Patch(ctx context.Context, c *Cluster, object T, change any, dryRun []string, subresource ...string) (T, error) {
	body, err := json.Marshal(change)
	if err != nil {
		return k.empty(), fmt.Errorf("encode the change of the %s %s: %w", k.singular, object.GetName(), err)
	}
	options := metav1.PatchOptions{FieldManager: FieldManager, DryRun: dryRun}
	sent, err := k.in(c, object.GetNamespace()).Patch(ctx, object.GetName(), types.MergePatchType, body, options, subresource...)
	if err != nil {
		written := strings.Join(append([]string{k.plural}, subresource...), "/")
		return k.empty(), k.explain(c, err, "patch", written, "change the "+k.singular+" "+object.GetName())
	}
	return k.Decode(sent)
}
