package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hopelessError is one that every further request would meet too.
type hopelessError struct{ error }

func (e hopelessError) Unwrap() error { return e.error }

// explain says of an error of the API server what was being done, and what there is to do about it. verb and
// resource are what must be allowed for it.
func (c *Cluster) explain(err error, verb, resource, doing string) error {
	var unreachable *url.Error
	switch {
	case errors.Is(err, context.Canceled):
		return hopelessError{fmt.Errorf("%s: interrupted", doing)}
	case errors.As(err, &unreachable):
		return hopelessError{fmt.Errorf("%s: the API server %s does not answer: %w; is the cluster running, and is this the right one? "+
			"See KUBECONFIG, --kubeconfig and --context", doing, c.host, unreachable.Err)}
	case apierrors.IsUnauthorized(err):
		return hopelessError{fmt.Errorf("%s: the API server %s does not know you: %w; renew the credentials in your kubeconfig", doing, c.host, err)}
	case apierrors.IsForbidden(err):
		return hopelessError{fmt.Errorf("%s: you may not: %w%s", doing, err, c.advise(err, verb, resource))}
	case isResourceMissing(err):
		return hopelessError{fmt.Errorf("%s: the CRDs are not installed in the cluster %s: run make install or kubectl apply -k config/crd, "+
			"or name another cluster with KUBECONFIG, --kubeconfig or --context", doing, c.host)}
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}

// explain is Cluster.explain for what is done to an object of the kind.
func (k Kind[T]) explain(c *Cluster, err error, verb, resource, doing string) error {
	if apierrors.IsNotFound(err) && !isResourceMissing(err) {
		return &missingError{fmt.Sprintf("%s: there is none of this name %s; %s %s shows all there are", doing, c.where(), c.Command, k.listAll), err}
	}
	return c.explain(err, verb, resource, doing)
}

func (k Kind[T]) explainList(c *Cluster, err error) error {
	return c.explain(err, "list", k.plural, "list the "+k.plural+" "+c.where())
}

// isResourceMissing tells an API server that knows no such resource from one that knows no such object.
func isResourceMissing(err error) bool {
	return apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// advise says which permission is missing.
func (c *Cluster) advise(err error, verb, resource string) string {
	if strings.Contains(err.Error(), "cannot impersonate") {
		return "; leave out --as, or ask for a role that may impersonate others"
	}
	if suggestion := role(verb, resource); suggestion != "" {
		return fmt.Sprintf("; ask for a role that may %s %s %s, such as the ClusterRole %s", verb, resource, c.where(), suggestion)
	}
	return fmt.Sprintf("; ask for a role that may %s %s", verb, resource)
}

// role is the ClusterRole of config/rbac that is made for whoever does this; empty if there is none.
func role(verb, resource string) string {
	resource, _, _ = strings.Cut(resource, "/")
	roles := map[string]struct{ read, write string }{
		Tickets.plural:    {"operator-ticket-viewer", "operator-ticket-responder"},
		Invariants.plural: {"operator-invariant-viewer", "operator-invariant-editor"},
	}[resource]
	switch verb {
	case "get", "list", "watch":
		return roles.read
	default:
		return roles.write
	}
}

// missingError says that there is no object of a name. What the API server said of it is inside.
type missingError struct {
	message string
	cause   error
}

func (e *missingError) Error() string { return e.message }

func (e *missingError) Unwrap() error { return e.cause }
