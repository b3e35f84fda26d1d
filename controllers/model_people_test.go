package controllers

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
)

// acts is what a person may do now. Where all that is under way is about what the act does not touch, it can as well come later.
func (w *world) acts() []option {
	if w.left.acts == 0 {
		return nil
	}
	var all []option
	for _, act := range w.people {
		kind := ticketKind
		if strings.HasSuffix(act, "Invariant") {
			kind = invariantKind
		}
		busy := func(p *process) bool { return p.busy() }
		touches := func(p *process) bool { return p.busy() && p.waits.kind == kind }
		if slices.ContainsFunc(w.slots, busy) && !slices.ContainsFunc(w.slots, touches) {
			continue
		}
		of := w.server.objects
		if act == "create Invariant" {
			of = w.absent()
		}
		of.each(kind, func(o client.Object, _ uint64) {
			if name := act + " " + o.GetName(); !w.did[name] {
				if do := w.act(act, o); do != nil {
					all = append(all, option{"a person does " + name, func() {
						w.left.acts--
						w.did[name] = true
						w.reached[act]++
						do()
					}})
				}
			}
		})
	}
	return all
}

// absent is the Invariant where it was deleted.
func (w *world) absent() objects {
	if exists, _ := w.checked(); exists {
		return nil
	}
	return objects{{invariantKind, modelInvariant}: stored{object: w.invariant()}}
}

func (w *world) invariant() *v1alpha1.Invariant {
	spec := modelSpec
	if w.grace > 0 {
		spec.GracePeriod = &v1alpha1.Duration{Duration: metav1.Duration{Duration: w.grace}}
	}
	return &v1alpha1.Invariant{ObjectMeta: metav1.ObjectMeta{Namespace: modelNamespace, Name: modelInvariant, Generation: 1}, Spec: spec}
}

// act is what an act does to an object; nil where it makes no sense. No act may be refused, whatever the monitor writes.
func (w *world) act(act string, o client.Object) func() {
	ticket, _ := o.(*v1alpha1.Ticket)
	status := func(patch string) func() {
		return func() {
			object := &v1alpha1.Ticket{ObjectMeta: metav1.ObjectMeta{Name: o.GetName()}}
			w.try(w.server.patchStatus(nil, object, client.RawPatch(types.MergePatchType, []byte(patch))))
		}
	}
	switch act {
	case "delete ticket", "delete Invariant":
		return func() { w.server.remove(keyOf(o)) }
	case "create Invariant":
		return func() { w.try(w.server.create(nil, o)) }
	case "suspend Invariant":
		return func() {
			next := o.(*v1alpha1.Invariant).DeepCopy()
			// Its generation stays, or else each execution compiles it anew.
			next.Spec.Suspend = true
			w.server.put(nil, w.server.version(next))
		}
	case "hold", "unhold":
		if !ticket.IsOpen() || ticket.Held() == (act == "hold") {
			return nil
		}
		return func() {
			next := ticket.DeepCopy()
			next.Annotations = map[string]string{v1alpha1.HoldAnnotation: fmt.Sprint(act == "hold")}
			w.server.put(nil, w.server.version(next))
		}
	case "acknowledge":
		return status(`{"status":{"acknowledgement":{"by":"ana"}}}`)
	case "diagnose":
		if !ticket.IsOpen() {
			return status(`{"status":{"diagnosis":{"by":"bo","text":"the disk is full"}}}`)
		}
		return status(`{"status":{"state":"Diagnosed","diagnosis":{"by":"bo","text":"the disk is full"}}}`)
	case "resolve":
		if !ticket.IsOpen() {
			return nil
		}
		return status(`{"status":{"state":"Resolved","resolution":{"by":"ana"}}}`)
	}
	panic("nobody can " + act)
}
