// Package v1alpha1 is the API that users write and read: Invariants and Tickets.
// +kubebuilder:object:generate=true
// +groupName=operator.invariant.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is the API group and version of both kinds.
	GroupVersion = schema.GroupVersion{Group: "operator.invariant.dev", Version: "v1alpha1"}

	schemeBuilder = runtime.NewSchemeBuilder(func(s *runtime.Scheme) error {
		s.AddKnownTypes(GroupVersion, &Invariant{}, &InvariantList{}, &Ticket{}, &TicketList{})
		metav1.AddToGroupVersion(s, GroupVersion)
		return nil
	})

	// AddToScheme registers both kinds.
	AddToScheme = schemeBuilder.AddToScheme
)
