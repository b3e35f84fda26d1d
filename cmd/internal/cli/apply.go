package cli

import (
	"context"
	"errors"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Validate has the API server say what it would make of a manifest, with defaults filled in, without storing it. An error is
// what kubectl apply would say. unasked tells that the API server could not be asked, or may not be: because it does not
// answer, has no such kind or namespace, or does not let the user.
func (k Kind[T]) Validate(ctx context.Context, c *Cluster, manifest *unstructured.Unstructured) (object T, unasked bool, _ error) {
	options := metav1.ApplyOptions{FieldManager: FieldManager, Force: true, DryRun: []string{metav1.DryRunAll}}
	sent, err := k.in(c, manifest.GetNamespace()).Apply(ctx, manifest.GetName(), manifest, options)
	if err != nil {
		unreachable := (*url.Error)(nil)
		unasked = errors.As(err, &unreachable) || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err)
		return k.empty(), unasked, k.explain(c, err, "patch", k.plural, "validate the "+k.singular+" "+manifest.GetName())
	}
	object, err = k.Decode(sent)
	return object, false, err
}

// Namespace is the namespace that the command is about; empty: all.
func (c *Cluster) Namespace() string { return c.namespace }
