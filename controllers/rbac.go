package controllers

// What the monitor may do in a cluster: config/rbac/role.yaml is generated from these lines. It writes nothing but
// tickets, the status of both kinds and Events, and it cannot read Secrets. It deletes tickets after --ticket-retention.

// +kubebuilder:rbac:groups=operator.invariant.dev,resources=invariants,verbs=get;list;watch
// +kubebuilder:rbac:groups=operator.invariant.dev,resources=invariants/status,verbs=patch
// +kubebuilder:rbac:groups=operator.invariant.dev,resources=tickets,verbs=get;list;watch;create;delete
// +kubebuilder:rbac:groups=operator.invariant.dev,resources=tickets/status,verbs=patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
