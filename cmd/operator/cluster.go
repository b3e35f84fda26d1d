package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"invariant.dev/operator/api/v1alpha1"
)

// needed is what the monitor must be allowed to do; without any of it, it would run and not do what it is for. The
// ClusterRole of config/rbac allows this and nothing else.
var needed = slices.Concat(
	rights(v1alpha1.GroupVersion.Group, "invariants", "", "get", "list", "watch"),
	rights(v1alpha1.GroupVersion.Group, "invariants", "status", "patch"),
	rights(v1alpha1.GroupVersion.Group, "tickets", "", "get", "list", "watch", "create", "delete"),
	rights(v1alpha1.GroupVersion.Group, "tickets", "status", "patch"),
	rights(eventsv1.GroupName, "events", "", "create", "patch"),
)

// rights are those to do each of the verbs.
func rights(group, resource, subresource string, verbs ...string) []authorizationv1.ResourceAttributes {
	all := make([]authorizationv1.ResourceAttributes, 0, len(verbs))
	for _, verb := range verbs {
		all = append(all, authorizationv1.ResourceAttributes{Group: group, Resource: resource, Subresource: subresource, Verb: verb})
	}
	return all
}

// checkCluster finds out whether the monitor can work in a cluster at all, and says what is missing.
func checkCluster(ctx context.Context, config *rest.Config, namespace string) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("use the cluster %s: %w", config.Host, err)
	}
	switch err := waitForCRDs(ctx, client.Discovery()); {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("the cluster %s does not know Invariants and Tickets: install their CRDs with make install, or kubectl apply -k config/crd", config.Host)
	case err != nil:
		return fmt.Errorf("reach the cluster %s: %w; is it running, and is this the right context?", config.Host, err)
	}
	missing, err := missingRights(ctx, client, namespace)
	if err != nil {
		return fmt.Errorf("ask the cluster %s what the monitor may do: %w", config.Host, err)
	}
	if len(missing) > 0 {
		return fmt.Errorf("the monitor may not %s: bind it to the ClusterRole operator-monitor of config/rbac", strings.Join(missing, ", "))
	}
	return nil
}

// whoAmI is who the API server takes the monitor for, for the commands that an admin is told; empty where it does not say.
func whoAmI(ctx context.Context, config *rest.Config) string {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return ""
	}
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return ""
	}
	return review.Status.UserInfo.Username
}

// crdsTimeout is how long CRDs that were just installed may take to be served.
const crdsTimeout = 5 * time.Second

// waitForCRDs waits until the API server serves both kinds.
func waitForCRDs(ctx context.Context, server discovery.DiscoveryInterface) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, crdsTimeout, true, func(context.Context) (bool, error) {
		_, last = server.ServerResourcesForGroupVersion(v1alpha1.GroupVersion.String())
		if apierrors.IsNotFound(last) {
			return false, nil
		}
		return true, last
	})
	if apierrors.IsNotFound(last) {
		return last
	}
	return err
}

// missingRights are those that the monitor needs and does not have.
func missingRights(ctx context.Context, client kubernetes.Interface, namespace string) ([]string, error) {
	var missing []string
	for _, attributes := range needed {
		attributes.Namespace = namespace
		review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &attributes},
		}, metav1.CreateOptions{})
		if err != nil {
			return nil, err
		}
		if !review.Status.Allowed {
			missing = append(missing, strings.TrimSuffix(attributes.Verb+" "+attributes.Resource+"/"+attributes.Subresource, "/"))
		}
	}
	return missing, nil
}
