package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition types of an Invariant.
const (
	// ConditionReady is True while the spec is usable and its source answers.
	ConditionReady = "Ready"
	// ConditionSatisfied is True, False or Unknown: what the last check said.
	ConditionSatisfied = "Satisfied"
)

// OnAbsent says what becomes of a violated store that a good observation no longer lists.
// +kubebuilder:validation:Enum=Clear;Keep
type OnAbsent string

// What OnAbsent can be.
const (
	OnAbsentClear OnAbsent = "Clear"
	OnAbsentKeep  OnAbsent = "Keep"
)

// InvariantSpec says what must always be true of a system, and where to look.
// +kubebuilder:validation:XValidation:rule="has(self.system) == has(oldSelf.system) && (!has(self.system) || self.system == oldSelf.system)",message="system cannot change: its tickets are numbered by it. Create another Invariant with the new system and delete this one"
// +kubebuilder:validation:XValidation:rule="has(self.expression) || has(self.source.prometheus)",message="expression is missing: write a CEL condition that must be true of every store, such as self.status == 'Up'"
type InvariantSpec struct {
	// What this invariant says, in one sentence for people, such as "Every TiKV store is up."
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Description string `json:"description,omitempty"`

	// Where to read what to do when this is violated. Copied into the ticket.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	RunbookURL string `json:"runbookURL,omitempty"`

	// Labels put on the tickets that this invariant opens. Where the violations of one ticket disagree
	// about a label, the ticket goes without it.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317 && !format.qualifiedName().validate(k).hasValue())",message="each key must be a label name, such as team or example.com/team"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.labelValue().validate(self[k]).hasValue())",message="each value must be a label value: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
	Labels map[string]LabelValue `json:"labels,omitempty"`

	// The system that this is about: a TiKV cluster, an etcd cluster, the Deployments of a team. All that
	// breaks in one system in one cycle becomes one ticket, named by the system and a number.
	// Default: the name of the namespace (its first 40 characters). Cannot change.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="system must be a DNS label: lower-case letters, digits and '-', such as tikv-prod"
	System string `json:"system,omitempty"`

	// How bad a violation is: Critical, Warning (the default) or Info. A ticket has the worst severity of its violations.
	// +optional
	// +kubebuilder:default=Warning
	Severity Severity `json:"severity,omitempty"`

	// How often to check, from 1s to 24h. Default: the monitor's --interval, which is 30s.
	// Invariants of a system with the same interval are checked together, at the same moment.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="interval must be a duration from 1s to 24h, such as 30s"
	Interval *Duration `json:"interval,omitempty"`

	// A store must be violated for this long, such as 90s or 1h30m, before it counts and opens a ticket. Being well for less than
	// resolveAfter does not start it over; time in which the verdict is Unknown does not count.
	// Default 0s: the first check that sees it. At most 720h.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') && duration(self) <= duration('720h')",message="gracePeriod must be a duration of at most 720h, such as 1m"
	GracePeriod *Duration `json:"gracePeriod,omitempty"`

	// A store must be satisfied for this long before its violation counts as cleared.
	// Default 0s: the first check that says so. At most 720h.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') && duration(self) <= duration('720h')",message="resolveAfter must be a duration of at most 720h, such as 2m"
	ResolveAfter *Duration `json:"resolveAfter,omitempty"`

	// When the whole observation failed for this long, or the verdict on a store was Unknown for this long,
	// that is a violation of its own, with the reason Unobservable. It clears at the next observation that knows of every store.
	// Default 2m. At most 720h.
	// +optional
	// +kubebuilder:default="2m"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') && duration(self) <= duration('720h')",message="unobservableAfter must be a duration of at most 720h, such as 2m"
	UnobservableAfter *Duration `json:"unobservableAfter,omitempty"`

	// Fewer readings than this is no observation: the verdict is Unknown, because an empty list more often
	// means that the source lost its memory than that all stores are gone. Default 1; 0 for prometheus without an
	// expression, where no series means that all is well.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	MinStores *int32 `json:"minStores,omitempty"`

	// What becomes of a violated store that a good observation no longer lists. Clear: it counts as
	// satisfied. Keep: its ticket stays as it is. Default Clear; Keep for prometheus with an expression, because
	// a store that died has no series.
	// +optional
	OnAbsent OnAbsent `json:"onAbsent,omitempty"`

	// true: not checked, and its tickets are left as they are.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// When a violation that keeps coming back is called flapping. It still opens tickets.
	// Default: three times within 30 minutes.
	// +optional
	// +kubebuilder:default={threshold: 3, window: "30m"}
	Flapping *Flapping `json:"flapping,omitempty"`

	// Where to look: exactly one of http, prometheus and kubernetes.
	Source Source `json:"source"`

	// A CEL expression that gives the ID of the store that a reading is about, as a string, such as
	// string(self.store.id). self is the reading. Readings with the same ID are one store. Left out: one verdict about the system as a whole, and
	// in expression, message and snapshot, self is the list of all readings; but where prometheus has no expression, the labels
	// of each series are its ID.
	// An ID has at most 320 bytes; a longer or an empty one makes the verdict Unknown.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	StoreID string `json:"storeID,omitempty"`

	// A CEL expression that gives true when all is well, such as self.store.state_name == 'Up'. It has what
	// Kubernetes' own CEL has (optionals, quantity, url, ip, semver, regex, lists, sets), self for the
	// reading, oldSelf for the same store's reading in the previous good observation, and now for the time of the check. A store's
	// first reading, also after a restart of the monitor, gives no verdict where oldSelf is used. With prometheus it may be left
	// out: then each series that the query returns is a violation, as in an alerting rule. When it fails, the verdict is Unknown, not Violated;
	// for a field that may be missing write self.?field.orValue(0).
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16384
	Expression string `json:"expression,omitempty"`

	// A CEL expression that gives the violation's message, as a string, such as
	// 'store ' + string(self.store.id) + ' is ' + self.store.state_name. Cut at 1024 bytes.
	// Default: the description, or else the expression, or the query where there is none.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Message string `json:"message,omitempty"`

	// Evidence, taken once, when a violation opens a ticket: for the 20 worst violations of the ticket.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Snapshot []SnapshotSpec `json:"snapshot,omitempty"`
}

// Flapping says when a violation that keeps coming back is called flapping: when it came back threshold times
// within window, and the last time is no longer than a window ago. It may be within one ticket or across several.
type Flapping struct {
	// How often it must come back: from 2 to 10. Default 3.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=10
	Threshold *int32 `json:"threshold,omitempty"`
	// Within how long, from 1m to 24h, such as 30m, which is the default. It ends once it has not come back for as long.
	// +optional
	// +kubebuilder:default="30m"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') && duration(self) >= duration('1m') && duration(self) <= duration('24h')",message="flapping.window must be a duration from 1m to 24h, such as 30m"
	Window *Duration `json:"window,omitempty"`
}

// LabelValue is the value of a label.
// +kubebuilder:validation:MaxLength=63
type LabelValue string

// Source says where readings come from.
// +kubebuilder:validation:XValidation:rule="[has(self.http), has(self.prometheus), has(self.kubernetes)].filter(x, x).size() == 1",message="exactly one source is needed: http, prometheus or kubernetes"
type Source struct {
	// Readings from an HTTP endpoint that answers JSON.
	// +optional
	HTTP *HTTPSource `json:"http,omitempty"`
	// Readings from a PromQL query: each series is one.
	// +optional
	Prometheus *PrometheusSource `json:"prometheus,omitempty"`
	// Readings from Kubernetes objects: each object is one.
	// +optional
	Kubernetes *KubernetesSource `json:"kubernetes,omitempty"`
}

// HTTPSource gets readings over HTTP: either one url whose answer lists the stores, or an endpoint for each
// store. Requests are GET, follow no redirect and use no proxy. An answer of more than 8 MiB is refused.
// +kubebuilder:validation:XValidation:rule="has(self.url) != has(self.endpoints)",message="exactly one of url and endpoints is needed: url where one answer lists all stores, endpoints where each store answers for itself"
// +kubebuilder:validation:XValidation:rule="!has(self.items) || has(self.url)",message="items goes with url: it picks the readings out of its answer"
// +kubebuilder:validation:XValidation:rule="!has(self.secretRef) || (has(self.allowCredentialsOverHTTP) && self.allowCredentialsOverHTTP) || ((!has(self.url) || !self.url.startsWith('http:')) && (!has(self.endpoints) || self.endpoints.all(e, !e.url.startsWith('http:'))))",message="secretRef goes with https addresses: over http everyone on the way can read what it holds. If that is meant, set allowCredentialsOverHTTP: true"
type HTTPSource struct {
	// The address that answers for all stores, with a JSON body and a status from 200 to 299. Anything else
	// makes the verdict Unknown.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != ''",message="url must be like http://host:port/path"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[^/]*//[^/?#]*@')",message="url must hold no user and no password: whoever may read Invariants would read them"
	URL string `json:"url,omitempty"`

	// A CEL expression that gives the list of readings; self is the body, such as self.stores. At most
	// 10000 readings. Left out: the body is one reading.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Items string `json:"items,omitempty"`

	// An endpoint for each store, where each answers for itself. An endpoint that does not answer is a
	// reading too: self.storeID, self.ok (it answered with a status from 200 to 299), self.status (0
	// without an answer), self.body (parsed, where it is JSON, else its text) and self.error (empty, or
	// what went wrong).
	// +optional
	// +listType=map
	// +listMapKey=storeID
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	Endpoints []Endpoint `json:"endpoints,omitempty"`

	// How long an answer may take, its body included: from 100ms to 60s. Where several invariants of a
	// system read the same address in the same cycle, the longest applies. Default 5s.
	// +optional
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') && duration(self) >= duration('100ms') && duration(self) <= duration('60s')",message="timeout must be a duration from 100ms to 60s, such as 5s"
	Timeout *Duration `json:"timeout,omitempty"`

	Access `json:",inline"`
}

// Access is what a source wants to see before it answers.
type Access struct {
	// The Secret in this namespace with what to send: either username and password, or token, which goes as
	// "Authorization: Bearer". It is read at every check, so that a new one needs no restart. The monitor must be allowed to
	// read it: the condition Ready has the commands that allow it.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`

	// The Secret in this namespace with ca.crt, the authorities to trust in place of those of the monitor's image, and
	// tls.crt and tls.key, the certificate to show. Each half may be left out. Read at every check, like secretRef.
	// +optional
	CertSecretRef *SecretReference `json:"certSecretRef,omitempty"`

	// true: what secretRef holds may be sent to an http address, where everyone on the way can read it.
	// Default false: only over https.
	// +optional
	AllowCredentialsOverHTTP bool `json:"allowCredentialsOverHTTP,omitempty"`
}

// Endpoint is the address of one store.
type Endpoint struct {
	// The store that answers there.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=320
	StoreID string `json:"storeID"`
	// Its address, such as http://etcd-1:2379/health.
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != ''",message="url must be like http://host:port/path"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[^/]*//[^/?#]*@')",message="url must hold no user and no password: whoever may read Invariants would read them"
	URL string `json:"url"`
}

// PrometheusSource gets readings from an instant query, by GET, of the API of Prometheus or of what speaks like it (Thanos, Mimir,
// VictoriaMetrics). Follows no redirect and uses no proxy. An answer of more than 8 MiB is refused. A value that is NaN is
// Unknown, as is a native histogram: take histogram_quantile of it. A warning of the API (the data may be partial) makes all
// of it Unknown.
// +kubebuilder:validation:XValidation:rule="!has(self.secretRef) || (has(self.allowCredentialsOverHTTP) && self.allowCredentialsOverHTTP) || (has(self.url) && !self.url.startsWith('http:'))",message="secretRef goes with a url of its own that is https: over http everyone on the way can read what it holds. If that is meant, set allowCredentialsOverHTTP: true"
// +kubebuilder:validation:XValidation:rule="has(self.url) || (!has(self.secretRef) && !has(self.certSecretRef))",message="secretRef and certSecretRef go with a url: the monitor's --prometheus-url gets none of them"
type PrometheusSource struct {
	// The address of the Prometheus-compatible API, such as http://prometheus:9090, to which /api/v1/query is added.
	// Default: the monitor's --prometheus-url.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != ''",message="url must be like http://prometheus:9090"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[^/]*//[^/?#]*@')",message="url must hold no user and no password: whoever may read Invariants would read them"
	// +kubebuilder:validation:XValidation:rule="!self.contains('?') && !self.contains('#')",message="url must have no query: it is the address of the API, to which /api/v1/query is added"
	URL string `json:"url,omitempty"`
	// The PromQL query, evaluated at the moment of the check. Each series is a reading: self.value (double) and self.labels (map
	// of strings). A scalar is one reading without labels. At most 10000 series.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16384
	Query string `json:"query"`
	// How long an answer may take: from 100ms to 60s. Default 5s.
	// +optional
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') && duration(self) >= duration('100ms') && duration(self) <= duration('60s')",message="timeout must be a duration from 100ms to 60s, such as 5s"
	Timeout *Duration `json:"timeout,omitempty"`
	Access  `json:",inline"`
}

// KubernetesSource gets readings from objects in the API server, of any kind that the cluster's admin lets the monitor read, but
// for Secrets. They are watched, so that looking at them costs the API server nothing. What is in metadata.managedFields and the
// annotation kubectl.kubernetes.io/last-applied-configuration is left out.
// +kubebuilder:validation:XValidation:rule="self.apiVersion != 'v1' || self.kind != 'Secret'",message="Secrets are never read as objects: what they hold would stand in messages and tickets"
type KubernetesSource struct {
	// The API version of the objects, such as apps/v1.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="apiVersion must be like v1 or apps/v1"
	APIVersion string `json:"apiVersion"`
	// The kind of the objects, such as Deployment.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z][A-Za-z0-9]*$')",message="kind must be the kind as in a manifest, such as Deployment"
	Kind string `json:"kind"`
	// Which of them. Default: all.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
	// The namespaces to look in, or ["*"] for all. Default: the Invariant's own. Others, and kinds that are in no namespace, only
	// where the cluster's admin labelled the Invariant's namespace with operator.invariant.dev/observes=cluster.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.all(n, n == '*' || n.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))",message="each must be the name of a namespace, or * for all"
	// +kubebuilder:validation:XValidation:rule="!self.exists(n, n == '*') || self.size() == 1",message="* stands for all namespaces: name no other beside it"
	Namespaces []string `json:"namespaces,omitempty"`
}

// SecretReference names a Secret in the Invariant's namespace.
type SecretReference struct {
	// The name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// SnapshotSpec is one piece of evidence.
// +kubebuilder:validation:XValidation:rule="has(self.expression) != has(self.query)",message="exactly one of expression and query is needed"
// +kubebuilder:validation:XValidation:rule="!has(self.with) || has(self.query)",message="with goes with query: it fills in its $names"
type SnapshotSpec struct {
	// What the ticket calls it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// A CEL expression over self and now. A value that is not a string is written as JSON; cut at 1024 bytes.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Expression string `json:"expression,omitempty"`
	// A PromQL query, asked of the source's Prometheus or else of the monitor's --prometheus-url. In its quoted strings, $storeID
	// stands for the store's ID, $name for what with says; $$ for a $. They are quoted, in a regular expression too.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16384
	Query string `json:"query,omitempty"`
	// CEL expressions over self and now whose strings stand in query in place of $name, such as {instance: self.store.address}.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.matches('^[a-zA-Z_][a-zA-Z0-9_]{0,62}$') && k != 'storeID')",message="each key must be a name such as instance, of letters, digits and '_'; $storeID is always there"
	With map[string]CELString `json:"with,omitempty"`
}

// CELString is a CEL expression that gives a string.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=4096
type CELString string

// InvariantStatus is what the monitor saw last.
type InvariantStatus struct {
	// The generation of the spec that was checked last.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// The system that it is about: spec.system, or what stands in for it.
	// +optional
	// +kubebuilder:validation:MaxLength=40
	System string `json:"system,omitempty"`
	// Ready: the spec is usable and its source answers. Satisfied: what the last check said, naming the
	// first five stores. Reasons of what could not be judged: Timeout, Unreachable, HTTPStatus, TooLarge,
	// InvalidBody, NotANumber, NoStores, Partial, Forbidden, InvalidSecret, NoSuchKind, NotSynced, InvalidExpression,
	// EvaluationFailed, CostExceeded, FirstReading. Both are Unknown, with the reason Suspended, while spec.suspend is true.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []Condition `json:"conditions,omitempty"`
	// When it was last checked. Written when something changed, and at least every five minutes, or at every check where the interval
	// is longer.
	// +optional
	LastCheckTime *Time `json:"lastCheckTime,omitempty"`
	// How many stores the last good observation had.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Stores *int32 `json:"stores,omitempty"`
	// How many stores the last good observation found violated, those in their grace period included.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Violating *int32 `json:"violating,omitempty"`
	// Stores that are violated and that no ticket counts yet, or whose verdict is Unknown, grouped by their times:
	// kept here so that a restart of the monitor starts no grace period over.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Pending []PendingStores `json:"pending,omitempty"`
	// How many stores did not fit into pending: after a restart of the monitor, their grace periods start over.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	PendingTruncated int32 `json:"pendingTruncated,omitempty"`
	// Since when the whole observation has failed.
	// +optional
	UnknownSinceTime *Time `json:"unknownSinceTime,omitempty"`
}

// PendingStores are stores with the same times.
type PendingStores struct {
	// When they were first seen violated. Left out for stores that are only Unknown.
	// +optional
	FirstSeenTime *Time `json:"firstSeenTime,omitempty"`
	// What the grace period is measured from: the first time, plus the time that was Unknown since.
	// +optional
	SinceTime *Time `json:"sinceTime,omitempty"`
	// Since when they have been satisfied again, for less than resolveAfter.
	// +optional
	SatisfiedSinceTime *Time `json:"satisfiedSinceTime,omitempty"`
	// Since when their verdict has been Unknown.
	// +optional
	UnknownSinceTime *Time `json:"unknownSinceTime,omitempty"`
	// Their IDs; an empty one stands for the system as a whole.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10000
	// +kubebuilder:validation:items:MaxLength=320
	StoreIDs []string `json:"storeIDs,omitempty"`
}

// Invariant is a statement that must always be true of a system. The monitor checks it every interval; what
// breaks becomes a Ticket.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=inv,categories=operator
// +kubebuilder:selectablefield:JSONPath=`.spec.system`
// +kubebuilder:printcolumn:name="System",type=string,JSONPath=`.status.system`
// +kubebuilder:printcolumn:name="Severity",type=string,JSONPath=`.spec.severity`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Satisfied",type=string,JSONPath=`.status.conditions[?(@.type=="Satisfied")].status`
// +kubebuilder:printcolumn:name="Stores",type=integer,JSONPath=`.status.stores`
// +kubebuilder:printcolumn:name="Violating",type=integer,JSONPath=`.status.violating`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Satisfied")].reason`
// +kubebuilder:printcolumn:name="Interval",type=string,priority=1,JSONPath=`.spec.interval`
// +kubebuilder:printcolumn:name="Reported",type=date,priority=1,JSONPath=`.status.lastCheckTime`
// +kubebuilder:printcolumn:name="Muted-Until",type=string,priority=1,JSONPath=`.metadata.annotations.operator/mute-until`
// +kubebuilder:printcolumn:name="Description",type=string,priority=1,JSONPath=`.spec.description`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Invariant struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What must be true, and where to look.
	Spec InvariantSpec `json:"spec"`
	// What the monitor saw last.
	// +optional
	Status InvariantStatus `json:"status,omitempty"`
}

// InvariantList is a list of Invariants.
// +kubebuilder:object:root=true
type InvariantList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Invariant `json:"items"`
}
