package controllers

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/ledger"
	"invariant.dev/operator/controllers/verdict"
)

// heartbeatWrite is how often an Invariant's lastCheckTime is written when nothing else changes.
const heartbeatWrite = 5 * time.Minute

// maxConditionMessage keeps a condition's message readable, in bytes.
const maxConditionMessage = 1024

// Reasons of conditions that are not Unknown for a fault.
const (
	reasonAnswering    = "Answering"
	reasonAllSatisfied = "AllSatisfied"
	reasonViolated     = "Violated"
	reasonSuspended    = "Suspended"
)

// unwritten is what is still to be written into an Invariant's status.
type unwritten struct {
	invariant *v1alpha1.Invariant
	status    v1alpha1.InvariantStatus
	fresh     freshness
}

// report notes what the cycle saw for the Invariants' statuses, and counts it in their metrics and the tally. A status that is not
// written in time is noted anew by a later cycle.
func (r *CycleReconciler) report(s *scope, c ledger.Cycle, results map[string]judge.Result, fresh freshness) {
	for name, invariant := range s.invariants {
		r.announceMute(s.checks[name], invariant, c.Now)
		result, judged := results[name]
		if !judged && !invariant.Spec.Suspend {
			continue
		}
		status := nextStatus(invariant, &result.Judgement, s.memory[name], c.Now)
		r.count(s, c.Invariants[name], &result.Judgement, c.Now)
		delete(s.unwritten, name)
		if worthWriting(invariant.Status, status) {
			s.unwritten[name] = unwritten{invariant, status, fresh}
		}
	}
	r.tally.keep(s.key, s.invariants)
}

// reportTime is how long a worker writes statuses of one system before it turns to others: when all Invariants of many systems turn at
// once, what they say must not keep the rest waiting.
const reportTime = 50 * time.Millisecond

// writeReports writes statuses for as long as it is this system's turn, and tells whether some are left. Those that keep what is inside a
// grace period come first.
func (r *CycleReconciler) writeReports(ctx context.Context, log logr.Logger, s *scope) (left bool) {
	began := r.Clock.Now()
	for _, name := range slices.SortedFunc(maps.Keys(s.unwritten), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(s.unwritten[b].status.Pending), len(s.unwritten[a].status.Pending)), cmp.Compare(a, b))
	}) {
		if r.Clock.Since(began) >= reportTime {
			return true
		}
		u := s.unwritten[name]
		delete(s.unwritten, name)
		if u.fresh.check() != nil {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, u.fresh.left())
		err := r.patchStatus(limited, u.invariant, u.status)
		cancel()
		switch {
		case err == nil:
			r.announceConditions(u.invariant, u.status)
		case !isConflict(err):
			log.Error(err, "report not written")
		}
	}
	return false
}

// nextStatus is the status of an Invariant after a check, or while it is suspended.
func nextStatus(invariant *v1alpha1.Invariant, j *verdict.Judgement, memory ledger.Memory, now time.Time) v1alpha1.InvariantStatus {
	status := *invariant.Status.DeepCopy()
	status.ObservedGeneration = invariant.Generation
	status.System = invariant.SystemName()
	ready, satisfied := conditions(invariant, j, now)
	for _, condition := range []metav1.Condition{ready, satisfied} {
		condition.ObservedGeneration = invariant.Generation
		condition.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
		condition.Message = verdict.Truncate(condition.Message, maxConditionMessage)
		v1alpha1.SetCondition(&status.Conditions, condition)
	}
	if invariant.Spec.Suspend {
		return status
	}
	status.LastCheckTime = v1alpha1.NewTime(now)
	if j.Fault == nil {
		status.Stores = ptr.To(int32(len(j.Verdicts)))                    //nolint:gosec // at most judge.MaxReadings
		status.Violating = ptr.To(int32(len(j.Stores(verdict.Violated)))) //nolint:gosec // at most judge.MaxReadings
	}
	memory.Record(&status)
	return status
}

// conditions say what a check said.
func conditions(invariant *v1alpha1.Invariant, j *verdict.Judgement, now time.Time) (ready, satisfied metav1.Condition) {
	ready = metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: reasonAnswering, Message: "the source answers"}
	if http := invariant.Spec.Source.HTTP; http != nil && len(http.Endpoints) > 0 {
		ready.Message = "each endpoint answers for itself, and the expression judges whether it does"
	}
	satisfied = metav1.Condition{Type: v1alpha1.ConditionSatisfied, Status: metav1.ConditionTrue, Reason: reasonAllSatisfied, Message: "all is well"}
	switch {
	case invariant.Spec.Suspend:
		ready.Status, ready.Reason, ready.Message = metav1.ConditionUnknown, reasonSuspended, "not checked while spec.suspend is true"
		satisfied.Status, satisfied.Reason, satisfied.Message = ready.Status, ready.Reason, ready.Message
	case j.Fault != nil && j.Fault.Reason == verdict.FirstReading:
		satisfied.Status, satisfied.Reason, satisfied.Message = metav1.ConditionUnknown, string(j.Fault.Reason), j.Fault.Message
	case j.Fault != nil:
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, string(j.Fault.Reason), j.Fault.Message
		satisfied.Status, satisfied.Reason, satisfied.Message = metav1.ConditionUnknown, ready.Reason, ready.Message
	case j.Truth() == verdict.Violated:
		satisfied.Status, satisfied.Reason, satisfied.Message = metav1.ConditionFalse, reasonViolated, violatedMessage(j)+mutedNote(invariant, now)
	case j.Truth() == verdict.Unknown:
		fault := j.FirstFault()
		satisfied.Status, satisfied.Reason = metav1.ConditionUnknown, string(fault.Reason)
		satisfied.Message = fmt.Sprintf("unknown of %s: %s", ledger.StoreList(j.Stores(verdict.Unknown)), fault.Message)
		// That there is nothing yet to compare with is no fault of the spec or the source.
		if len(j.Stores(verdict.Unknown)) == len(j.Verdicts) && fault.Reason != verdict.FirstReading {
			ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, satisfied.Reason, satisfied.Message
		}
	}
	return ready, satisfied
}

// mutedNote says that a violation opens no ticket, where somebody muted it.
func mutedNote(invariant *v1alpha1.Invariant, now time.Time) string {
	until, err := invariant.MutedUntil()
	if err != nil || !now.Before(until) {
		return ""
	}
	return "; muted until " + until.UTC().Format(time.RFC3339) + ": opens no ticket"
}

func violatedMessage(j *verdict.Judgement) string {
	message := "violated by " + ledger.StoreList(j.Stores(verdict.Violated))
	if unknown := j.Stores(verdict.Unknown); len(unknown) > 0 {
		message += fmt.Sprintf("; unknown of %s: %s", ledger.StoreList(unknown), j.FirstFault().Message)
	}
	return message
}

// worthWriting tells whether a status says anything new, or the last one is old.
func worthWriting(before, after v1alpha1.InvariantStatus) bool {
	if age := after.LastCheckTime.Go().Sub(before.LastCheckTime.Go()); age >= heartbeatWrite || age <= -heartbeatWrite {
		return true
	}
	after.LastCheckTime = before.LastCheckTime
	return !equality.Semantic.DeepEqual(before, after)
}

func (r *CycleReconciler) patchStatus(ctx context.Context, invariant *v1alpha1.Invariant, status v1alpha1.InvariantStatus) error {
	next := invariant.DeepCopy()
	next.Status = status
	err := r.Client.Status().Patch(ctx, next, client.MergeFromWithOptions(invariant, client.MergeFromWithOptimisticLock{}))
	if err != nil {
		return fmt.Errorf("write the status of Invariant %s/%s: %w", invariant.Namespace, invariant.Name, err)
	}
	return nil
}

// announceMute says once of each annotation that it mutes, or that it mutes nothing, and when it has ended.
func (r *CycleReconciler) announceMute(c *check, invariant *v1alpha1.Invariant, now time.Time) {
	value := invariant.Annotations[v1alpha1.MuteUntilAnnotation]
	until, err := invariant.MutedUntil()
	muted, changed := err == nil && now.Before(until), value != c.mute
	switch {
	case err != nil && changed:
		r.announcer().event(invariant, muteIgnoredAnnouncement(err))
	case muted && (changed || !c.muted):
		r.announcer().event(invariant, mutedAnnouncement(until, invariant.Annotations[v1alpha1.MuteByAnnotation]))
	case c.muted && !muted:
		r.announcer().event(invariant, unmutedAnnouncement())
	}
	c.mute, c.muted = value, muted
}

// announceConditions says what has become of an Invariant. That all is well from the first is no news, and a fault that is
// the reason of both conditions is told once.
func (r *CycleReconciler) announceConditions(invariant *v1alpha1.Invariant, status v1alpha1.InvariantStatus) {
	told := ""
	for _, conditionType := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionSatisfied} {
		before, after := v1alpha1.FindCondition(invariant.Status.Conditions, conditionType), v1alpha1.FindCondition(status.Conditions, conditionType)
		if (before == nil && isTrue(after)) || (before != nil && before.Status == after.Status && before.Reason == after.Reason) || after.Message == told {
			continue
		}
		told = after.Message
		r.announcer().event(invariant, conditionAnnouncement(after))
	}
}

func (r *CycleReconciler) announcer() announcer { return announcer{events: r.Recorder, log: r.Log} }

// count counts a check, in the metrics and in the tally.
func (r *CycleReconciler) count(s *scope, policy ledger.Invariant, j *verdict.Judgement, now time.Time) {
	if policy.Judgement == nil {
		return
	}
	checks.WithLabelValues(s.key.Namespace, s.key.Name, j.Truth().String()).Inc()
	r.tally.set(s.key, policy.Name, checked{
		truth:      j.Truth(),
		violations: s.memory[policy.Name].Violations(policy, now),
		muted:      policy.Muted,
	})
}
