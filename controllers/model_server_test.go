package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
)

// The API server of the model: as much of one as the write protocol leans on. It keeps resourceVersions, merges patches of
// statuses under an optimistic lock, refuses a name that is taken, and knows the rules that the CRD has for a ticket's life.

const modelNamespace = "model"

var modelSeed = maphash.MakeSeed()

// mix folds something into a hash.
func mix[T comparable](hash uint64, value T) uint64 {
	return maphash.Comparable(modelSeed, struct {
		hash  uint64
		value T
	}{hash, value})
}

type objectKey struct{ kind, name string }

const (
	ticketKind    = "Ticket"
	invariantKind = "Invariant"
)

// stored is an object as it is stored. It is never changed, only replaced.
type stored struct {
	object client.Object
	hash   uint64
}

// objects are all that is stored, or what a cache has of one kind.
type objects map[objectKey]stored

// hash is the same for the same objects, in whatever order they were written.
func (o objects) hash() (sum uint64) {
	for key, s := range o {
		sum += mix(s.hash, key)
	}
	return sum
}

// of are those of a kind.
func (o objects) of(kind string) objects {
	some := make(objects, len(o))
	for key, s := range o {
		if key.kind == kind {
			some[key] = s
		}
	}
	return some
}

// each calls do with each object of a kind, by name.
func (o objects) each(kind string, do func(client.Object, uint64)) {
	keys := make([]objectKey, 0, len(o))
	for key := range o {
		if key.kind == kind {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b objectKey) int { return compareNames(a.name, b.name) })
	for _, key := range keys {
		do(o[key].object, o[key].hash)
	}
}

func compareNames(a, b string) int {
	return v1alpha1.TicketNumber(testSystem, a) - v1alpha1.TicketNumber(testSystem, b)
}

// apiServer is the API server. An object's versions are counted for each name alone, so that writes to different objects lead
// to the same state in whatever order they come.
type apiServer struct {
	objects  objects
	versions map[objectKey]int
	// written is told of each write, before it counts; before or after may be nil.
	written func(writer *process, before, after client.Object)
	// merged are patches that were merged in this execution or an earlier one. What a process writes follows from what it
	// was told, and merging is half of the work.
	merged map[uint64]merged
}

type merged struct {
	stored
	err error
}

func (s *apiServer) clone() *apiServer {
	clone := *s
	clone.objects, clone.versions = maps.Clone(s.objects), maps.Clone(s.versions)
	clone.written = func(*process, client.Object, client.Object) {}
	return &clone
}

func keyOf(o client.Object) objectKey {
	if _, ticket := o.(*v1alpha1.Ticket); ticket {
		return objectKey{ticketKind, o.GetName()}
	}
	return objectKey{invariantKind, o.GetName()}
}

func (s *apiServer) tickets() (tickets []*v1alpha1.Ticket) {
	s.objects.each(ticketKind, func(o client.Object, _ uint64) { tickets = append(tickets, o.(*v1alpha1.Ticket)) })
	return tickets
}

// version gives an object that is to be stored its version. What changes nothing is no new one.
func (s *apiServer) version(o client.Object) stored {
	key := keyOf(o)
	hash := hashOf(o)
	if before, exists := s.objects[key]; !exists || hash != before.hash {
		o.SetResourceVersion(strconv.Itoa(s.versions[key] + 1))
		hash = hashOf(o)
	}
	return stored{o, hash}
}

func (s *apiServer) put(writer *process, next stored) {
	key := keyOf(next.object)
	s.written(writer, s.objects[key].object, next.object)
	s.versions[key], _ = strconv.Atoi(next.object.GetResourceVersion())
	s.objects[key] = next
}

func hashOf(o client.Object) uint64 {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return maphash.Bytes(modelSeed, text)
}

func (s *apiServer) remove(key objectKey) {
	s.written(nil, s.objects[key].object, nil)
	delete(s.objects, key)
}

func groupResource(key objectKey) schema.GroupResource {
	return schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: key.kind}
}

// get reads an object into another, whole or its metadata alone.
func (s *apiServer) get(key objectKey, into client.Object) (uint64, error) {
	found, exists := s.objects[key]
	if !exists {
		return 0, apierrors.NewNotFound(groupResource(key), key.name)
	}
	return found.hash, deepCopyInto(found.object, into)
}

func deepCopyInto(from, into client.Object) error {
	switch into := into.(type) {
	case *v1alpha1.Ticket:
		from.(*v1alpha1.Ticket).DeepCopyInto(into)
	case *v1alpha1.Invariant:
		from.(*v1alpha1.Invariant).DeepCopyInto(into)
	case *metav1.PartialObjectMetadata:
		into.ObjectMeta = metav1.ObjectMeta{Namespace: from.GetNamespace(), Name: from.GetName(), ResourceVersion: from.GetResourceVersion(), UID: from.GetUID()}
	default:
		return fmt.Errorf("the model has no %T", into)
	}
	return nil
}

// list adds the objects of a kind that a field selector picks to a list, whole or their metadata alone.
func (s *apiServer) list(kind string, list client.ObjectList, selector fields.Selector) (seen uint64, err error) {
	s.objects.each(kind, func(o client.Object, hash uint64) {
		if !selector.Matches(selectable(o)) {
			return
		}
		switch list := list.(type) {
		case *v1alpha1.TicketList:
			list.Items, seen = append(list.Items, *o.(*v1alpha1.Ticket).DeepCopy()), mix(seen, hash)
		case *metav1.PartialObjectMetadataList:
			item := metav1.PartialObjectMetadata{}
			err = deepCopyInto(o, &item)
			list.Items, seen = append(list.Items, item), mix(seen, item.Name+" "+item.ResourceVersion)
		default:
			err = fmt.Errorf("the model does not list %T", list)
		}
	})
	return seen, err
}

// selectable are the fields of an object that a selector can name.
func selectable(o client.Object) fields.Set {
	if ticket, is := o.(*v1alpha1.Ticket); is {
		return fields.Set{"spec.system": ticket.Spec.System, "status.state": string(ticket.Status.State)}
	}
	return fields.Set{"spec.system": o.(*v1alpha1.Invariant).Spec.System}
}

// create stores a new object, whose status is the default.
func (s *apiServer) create(writer *process, o client.Object) error {
	key := keyOf(o)
	if _, taken := s.objects[key]; taken {
		return apierrors.NewAlreadyExists(groupResource(key), key.name)
	}
	next := o.DeepCopyObject().(client.Object)
	next.SetUID(types.UID(fmt.Sprint(key.kind, "/", key.name, "/", s.versions[key])))
	if ticket, is := next.(*v1alpha1.Ticket); is {
		ticket.Status = v1alpha1.TicketStatus{State: v1alpha1.Open}
	}
	s.put(writer, s.version(next))
	return deepCopyInto(next, o)
}

// patchStatus merges a patch into the status of what is stored. A resourceVersion in it must be that of what is stored.
func (s *apiServer) patchStatus(writer *process, o client.Object, patch client.Patch) error {
	key := keyOf(o)
	found, exists := s.objects[key]
	if !exists {
		return apierrors.NewNotFound(groupResource(key), key.name)
	}
	told := mix(mix(found.hash, key), fmt.Sprint(patch))
	if writer != nil {
		told = mix(mix(found.hash, key), writer.history)
	}
	m, known := s.merged[told]
	if !known {
		if m.object, m.err = merge(key, found.object, o, patch); m.err == nil {
			m.stored = s.version(m.object)
		}
	}
	s.merged[told] = m
	if m.err != nil {
		return m.err
	}
	s.put(writer, m.stored)
	return deepCopyInto(m.object, o)
}

// merge is an object after a patch of its status.
func merge(key objectKey, stored, o client.Object, patch client.Patch) (client.Object, error) {
	data, err := patch.Data(o)
	if err != nil {
		return nil, err
	}
	var merge struct {
		Metadata struct{ ResourceVersion string } `json:"metadata"`
		Status   map[string]any                   `json:"status"`
	}
	if err := json.Unmarshal(data, &merge); err != nil {
		return nil, err
	}
	if version := merge.Metadata.ResourceVersion; version != "" && version != stored.GetResourceVersion() {
		return nil, apierrors.NewConflict(groupResource(key), key.name, errors.New("it has been modified"))
	}
	next := stored.DeepCopyObject().(client.Object)
	switch next := next.(type) {
	case *v1alpha1.Ticket:
		if err = mergeInto(&next.Status, merge.Status); err == nil {
			if next.Status.Resolution != nil && next.Status.Resolution.Reason == "" {
				next.Status.Resolution.Reason = v1alpha1.Manual
			}
			err = lifecycle(stored.(*v1alpha1.Ticket).Status, next.Status)
		}
	case *v1alpha1.Invariant:
		err = mergeInto(&next.Status, merge.Status)
	}
	if err != nil {
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: key.kind}, key.name, field.ErrorList{field.Invalid(nil, nil, err.Error())})
	}
	return next, nil
}

// mergeInto merges a JSON merge patch into a status.
func mergeInto[Status any](status *Status, patch map[string]any) error {
	text, err := json.Marshal(status)
	if err != nil {
		return err
	}
	whole := map[string]any{}
	if err := json.Unmarshal(text, &whole); err != nil {
		return err
	}
	mergeMap(whole, patch)
	if text, err = json.Marshal(whole); err != nil {
		return err
	}
	*status = *new(Status)
	return json.Unmarshal(text, status)
}

func mergeMap(whole, patch map[string]any) {
	for name, value := range patch {
		part, isMap := value.(map[string]any)
		under, wasMap := whole[name].(map[string]any)
		switch {
		case value == nil:
			delete(whole, name)
		case isMap && wasMap:
			mergeMap(under, part)
		default:
			whole[name] = value
		}
	}
}

// lifecycle is what the rules of the CRD say of a change of status, as far as the monitor or a person of the model could
// break it.
func lifecycle(before, after v1alpha1.TicketStatus) error {
	switch moved := before.State != after.State; {
	case !before.State.CanBecome(after.State):
		return errors.New("the state only goes forward")
	case moved && after.State == v1alpha1.Resolved && after.Resolution == nil:
		return errors.New("resolved by nobody")
	case before.Resolution == nil && after.Resolution != nil && after.State != v1alpha1.Resolved:
		return errors.New("a resolution goes with the state Resolved")
	case before.Acknowledgement != nil && (after.Acknowledgement == nil || after.Acknowledgement.By != before.Acknowledgement.By):
		return errors.New("an acknowledgement stays")
	case before.Diagnosis != nil && (after.Diagnosis == nil || after.Diagnosis.Text != before.Diagnosis.Text):
		return errors.New("a diagnosis stays")
	case before.Resolution != nil && (after.Resolution == nil || after.Resolution.By != before.Resolution.By || after.Resolution.Reason != before.Resolution.Reason):
		return errors.New("a resolution is written once")
	}
	return nil
}

// modelIndexes are the indexes that the cycle gives its cache.
type modelIndexes map[objectKey]client.IndexerFunc

// IndexField implements client.FieldIndexer.
func (i modelIndexes) IndexField(_ context.Context, o client.Object, field string, extract client.IndexerFunc) error {
	i[objectKey{keyOf(o).kind, field}] = extract
	return nil
}

// modelClient is how a process reaches the world: reads from its cache, and writes. Each call waits for the scheduler.
type modelClient struct {
	client.Client // what the protocol does not use
	p             *process
}

// List reads from the cache, which the scheduler may first have caught up with the API server.
func (c modelClient) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	kind := ticketKind
	if _, invariants := list.(*v1alpha1.InvariantList); invariants {
		kind = invariantKind
	}
	return c.p.ask(call{name: "reads its cache of " + kind + "s", does: cachedRead, kind: kind}, func() error {
		selector := (&client.ListOptions{}).ApplyOptions(opts).FieldSelector.Requirements()[0]
		extract := c.p.world.indexes[objectKey{kind, selector.Field}]
		c.p.cache[kind].each(kind, func(o client.Object, hash uint64) {
			if !slices.Contains(extract(o), selector.Value) {
				return
			}
			c.p.history = mix(c.p.history, hash)
			switch list := list.(type) {
			case *v1alpha1.TicketList:
				list.Items = append(list.Items, *o.(*v1alpha1.Ticket))
			case *v1alpha1.InvariantList:
				list.Items = append(list.Items, *o.(*v1alpha1.Invariant))
			}
		})
		return nil
	})
}

// Create implements client.Client.
func (c modelClient) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	return c.p.ask(call{name: "creates " + o.GetName(), does: write, kind: ticketKind}, func() error { return c.p.world.server.create(c.p, o) })
}

// Status implements client.Client.
func (c modelClient) Status() client.SubResourceWriter { return modelStatus{p: c.p} }

type modelStatus struct {
	client.SubResourceWriter
	p *process
}

// Patch implements client.SubResourceWriter.
func (s modelStatus) Patch(_ context.Context, o client.Object, patch client.Patch, _ ...client.SubResourcePatchOption) error {
	c := call{name: "patches the status of " + o.GetName(), does: write, kind: keyOf(o).kind}
	return s.p.ask(c, func() error { return s.p.world.server.patchStatus(s.p, o, patch) })
}

// modelReader reads from the API server.
type modelReader struct{ p *process }

// Get implements client.Reader.
func (r modelReader) Get(_ context.Context, name client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	return r.p.ask(call{name: "reads " + name.Name, does: liveRead, kind: ticketKind}, func() error {
		hash, err := r.p.world.server.get(objectKey{ticketKind, name.Name}, into)
		ticket, whole := into.(*v1alpha1.Ticket)
		// One that is open and was not listed so has the name of one that is gone.
		r.p.gone = r.p.gone || (err != nil && name.Name == r.p.newest) || (err == nil && whole && ticket.IsOpen())
		r.p.history = mix(r.p.history, hash)
		return err
	})
}

// List implements client.Reader.
func (r modelReader) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	names, isNames := list.(*metav1.PartialObjectMetadataList)
	what, kind := "lists the open tickets", ticketKind
	switch {
	case isNames && names.Kind == invariantKind+"List":
		what, kind = "lists the Invariants", invariantKind
	case isNames:
		what = "lists the numbers of all tickets"
	}
	return r.p.ask(call{name: what, does: liveRead, kind: kind}, func() error {
		hash, err := r.p.world.server.list(kind, list, (&client.ListOptions{}).ApplyOptions(opts).FieldSelector)
		r.p.history = mix(r.p.history, hash)
		switch {
		case kind == invariantKind:
			r.p.missed = r.p.missed || len(names.Items) == 0
		case isNames:
			r.p.freed, r.p.gone, r.p.newest = false, false, ""
			if listed := len(names.Items); listed > 0 {
				r.p.newest = names.Items[listed-1].Name
			}
		}
		return err
	})
}
