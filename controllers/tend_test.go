package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"invariant.dev/operator/api/v1alpha1"
)

// wantEvents wants the Events since the last call to begin with these words, in any order.
func (b *bench) wantEvents(want ...string) {
	b.t.Helper()
	got := b.events.since()
	slices.Sort(got)
	slices.Sort(want)
	matches := func(w, g string) bool { return strings.HasPrefix(g, w) }
	if !slices.EqualFunc(want, got, matches) {
		b.t.Errorf("Events are\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// broken is a bench with a ticket for store 1, which the Events so far have told of.
func broken(t *testing.T) *bench {
	b := newBench(t)
	b.invariant("store-up")
	b.source.set("1", "Down")
	b.cycle()
	b.wantTickets(v1alpha1.Open)
	b.events.since()
	return b
}

// today sets the clock to when the API server's objects are made, so that what a restarted monitor finds is older than it.
func (b *bench) today() {
	b.clock.SetTime(time.Now().Add(time.Minute))
}

func TestWhatSomebodyWritesWithAPlainPatchBecomesAWholeRecord(t *testing.T) {
	for name, test := range map[string]struct {
		patch string
		state v1alpha1.TicketState
		whole func(v1alpha1.TicketStatus) bool
	}{
		"an acknowledgement": {`{"acknowledgement":{"by":"ana"}}`, v1alpha1.Acknowledged, func(s v1alpha1.TicketStatus) bool { return s.Acknowledgement.Time != nil }},
		"a diagnosis":        {`{"diagnosis":{"by":"ana","text":"the disk is full"}}`, v1alpha1.Diagnosed, func(s v1alpha1.TicketStatus) bool { return s.Diagnosis.Time != nil }},
		"a resolution": {`{"state":"Resolved","resolution":{"by":"ana"}}`, v1alpha1.Resolved, func(s v1alpha1.TicketStatus) bool {
			return s.Resolution.Time != nil && s.Resolution.Reason == v1alpha1.Manual
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := broken(t)
			must(t, b.patchStatus("sys-1", test.patch))
			b.tend()
			if status := b.wantTickets(test.state)[0].Status; !test.whole(status) {
				t.Errorf("the record is not whole: %+v", status)
			}
		})
	}
}

func TestAHoldIsSeenBeforeTheNextCycle(t *testing.T) {
	t.Parallel()
	b := broken(t)
	b.annotate("sys-1", v1alpha1.HoldByAnnotation, "ana")
	b.annotate("sys-1", v1alpha1.HoldNoteAnnotation, "collecting profiles")
	b.annotate("sys-1", v1alpha1.HoldAnnotation, "true")
	b.tend()
	held := func() metav1.ConditionStatus {
		c := v1alpha1.FindCondition(b.list()[0].Status.Conditions, v1alpha1.ConditionHeld)
		if c == nil {
			return ""
		}
		return c.Status
	}
	if held() != metav1.ConditionTrue {
		t.Errorf("the ticket does not say that it is held: %s", b.dump())
	}
	b.wantEvents("sys-1 Held: kept open by ana: collecting profiles")
	b.annotate("sys-1", v1alpha1.HoldAnnotation, "false")
	b.tend()
	if held() != metav1.ConditionFalse {
		t.Errorf("the ticket says that it is held: %s", b.dump())
	}
	b.wantEvents("sys-1 Released")
}

func TestEventsTellOnceWhatPeopleDid(t *testing.T) {
	t.Parallel()
	b := broken(t)
	for _, step := range []struct {
		patch string
		event string
	}{
		{`{"acknowledgement":{"by":"ana","note":"on it"}}`, "sys-1 Acknowledged: by ana: on it"},
		{`{"acknowledgement":{"by":"bo","takenFrom":"ana","note":null,"time":null}}`, "sys-1 Acknowledged: by bo, taken over from ana"},
		{`{"diagnosis":{"by":"agent","text":"the disk is full"}}`, "sys-1 Diagnosed: by agent"},
		{`{"state":"Resolved","resolution":{"by":"bo","note":"disk replaced"}}`, "sys-1 Resolved: Manual, by bo: disk replaced"},
		{`{"diagnosis":{"by":"bo","text":"the fan","time":null,"previous":[{"by":"agent","text":"the disk is full"}]}}`, "sys-1 Diagnosed: by bo"},
	} {
		must(t, b.patchStatus("sys-1", step.patch))
		b.tend()
		b.tend()
		b.wantEvents(step.event)
	}
	b.today()
	b.restart()
	b.tend()
	b.wantEvents()
}

func TestEventsTellOnceWhatBecomesOfATicketAndItsInvariant(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.cycle()
	b.wantEvents()
	b.source.set("1", "Down")
	b.cycle()
	b.wantEvents("sys-1 Opened: store-up(1)", "store-up Violated: violated by 1")
	b.cycle()
	b.cycle()
	b.wantEvents()
	b.source.set("1", "Up")
	b.cycle()
	b.wantEvents("sys-1 Resolved: Cleared, by monitor", "store-up AllSatisfied")
	b.source.fail(answers(503))
	b.cycle()
	b.cycle()
	b.wantEvents("store-up HTTPStatus: ")
	b.source.fail(nil)
	b.cycle()
	b.wantEvents("store-up Answering", "store-up AllSatisfied")
	b.source.set("1", "Down")
	b.cycle()
	b.wantEvents("sys-2 Opened: store-up(1); the ticket before it is sys-1", "store-up Violated")
}

func TestEventsTellOfAMuteAndOfOneThatMutesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	b.cycle()
	mute := func(value string) {
		invariant := b.getInvariant("store-up")
		invariant.Annotations = map[string]string{v1alpha1.MuteUntilAnnotation: value, v1alpha1.MuteByAnnotation: "ana"}
		must(t, b.api.Update(b.ctx, invariant))
		b.cycle()
		b.cycle()
	}
	mute("tomorrow")
	b.wantEvents("store-up MuteIgnored: the annotation operator/mute-until mutes nothing")
	until := b.clock.Now().Add(3 * time.Minute).UTC().Format(time.RFC3339)
	mute(until)
	b.wantEvents("store-up Muted: opens no ticket until " + until + ", by ana")
	for range 6 {
		b.cycle()
	}
	b.wantEvents("store-up Unmuted")
}

func TestFlappingIsToldOnceAndEndsOnAResolvedTicketToo(t *testing.T) {
	t.Parallel()
	b := broken(t)
	for i := range 3 {
		b.source.set("1", "Up")
		b.cycle()
		b.source.set("1", "Down")
		b.events.since()
		if i == 2 {
			// What flaps is decided by the tickets alone.
			b.restart()
		}
		b.cycle()
	}
	b.wantEvents("sys-4 Opened", "sys-4 Flapping: keeps coming back: store-up(1)", "store-up Violated")
	b.cycle()
	b.wantEvents()
	b.source.set("1", "Up")
	b.cycle()
	ticket := b.wantTickets(v1alpha1.Resolved, v1alpha1.Resolved, v1alpha1.Resolved, v1alpha1.Resolved)[3]
	if c := v1alpha1.FindCondition(ticket.Status.Conditions, v1alpha1.ConditionFlapping); !isTrue(c) || ticket.Spec.Previous != "sys-3" {
		t.Errorf("want a flapping ticket that names sys-3 as the one before it: %s", b.dump())
	}
	b.events.since()
	b.clock.Step(v1alpha1.DefaultFlappingWindow)
	b.tend()
	ticket = b.tickets()[3]
	if c := v1alpha1.FindCondition(ticket.Status.Conditions, v1alpha1.ConditionFlapping); isTrue(c) || ticket.Status.Violations[0].Flapping {
		t.Errorf("it still flaps after the window has passed: %s", b.dump())
	}
	b.wantEvents("sys-4 Settled")
}

func TestRetentionRemovesWhatWasResolvedLongAgoAndNothingElse(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up")
	// The first is held, the third was resolved by hand, and with it one whose violation no check has found mended since.
	for i := range 5 {
		b.source.set(fmt.Sprint(i), "Down")
		b.cycle()
		if i == 2 {
			must(t, b.patchStatus("sys-3", `{"state":"Resolved","resolution":{"by":"ana"}}`))
			b.invariant("paused", func(s *v1alpha1.InvariantSpec) { s.Suspend = true })
			must(t, b.api.Create(b.ctx, b.leftViolated("sys-20")))
			must(t, b.patchStatus("sys-20", `{"state":"Resolved","resolution":{"by":"ana"}}`))
		}
		b.source.set(fmt.Sprint(i), "Up")
		b.cycle()
	}
	b.annotate("sys-1", v1alpha1.HoldAnnotation, "true")
	names := func() string {
		var names []string
		for _, ticket := range b.tickets() {
			names = append(names, ticket.Name)
		}
		return strings.Join(names, " ")
	}
	before := names()
	b.today()
	b.clock.Step(DefaultTicketRetention - 5*time.Minute)
	b.tend()
	if got := names(); got != before {
		t.Fatalf("before the retention is over, %s are left of %s", got, before)
	}
	b.clock.Step(time.Hour)
	b.tend()
	if got, want := names(), "sys-1 sys-20 sys-22"; got != want {
		t.Errorf("after the retention there are %s of %s, want %s", got, before, want)
	}
	b.annotate("sys-1", v1alpha1.HoldAnnotation, "")
	// The first time says that it is no longer held; that is written before anything else.
	b.tend()
	b.tend()
	if got, want := names(), "sys-20 sys-22"; got != want {
		t.Errorf("after the hold there are %s, want %s", got, want)
	}
}

// leftViolated is a ticket for a violation of an Invariant that is suspended.
func (b *bench) leftViolated(name string) *v1alpha1.Ticket {
	now := v1alpha1.NewTime(b.clock.Now())
	return &v1alpha1.Ticket{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name}, Spec: v1alpha1.TicketSpec{
		System: testSystem, BatchKey: name, OpenedTime: *now, Violations: []v1alpha1.Violation{
			{Invariant: "paused", StoreID: "1", Reason: v1alpha1.Violated, Severity: v1alpha1.Info, FirstSeenTime: *now}}}}
}

func TestRetentionNeverRemovesAnOpenTicket(t *testing.T) {
	t.Parallel()
	b := broken(t)
	b.source.set("2", "Down")
	b.cycle()
	b.today()
	b.clock.Step(2 * DefaultTicketRetention)
	b.tend()
	b.wantTickets(v1alpha1.Open, v1alpha1.Open)
}

func TestATicketThatFlappingNeedsOutlivesTheRetention(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.invariant("store-up", func(s *v1alpha1.InvariantSpec) { s.Flapping = &v1alpha1.Flapping{Window: seconds(24 * 3600)} })
	for range 2 {
		b.source.set("1", "Down")
		b.cycle()
		b.source.set("1", "Up")
		b.cycle()
	}
	b.tender.Retention = time.Hour
	b.today()
	b.clock.Step(23 * time.Hour)
	b.tend()
	b.wantTickets(v1alpha1.Resolved, v1alpha1.Resolved)
	b.clock.Step(2 * time.Hour)
	b.tend()
	if got := b.wantTickets(v1alpha1.Resolved)[0].Name; got != "sys-2" {
		t.Errorf("%s is left, want the newest", got)
	}
}

func TestTheNewestTicketStaysWhenTheCacheHasANewerOneThatIsGone(t *testing.T) {
	t.Parallel()
	b := brokenAgain(t, 1)
	b.tender.Live = b.liveWithout("sys-2")
	b.tend()
	b.wantTickets(v1alpha1.Resolved, v1alpha1.Open)
}

func TestATicketGoesWhenTheNextWasRemovedAMomentBefore(t *testing.T) {
	t.Parallel()
	b := brokenAgain(t, 2)
	b.tender.Live = b.liveWithout("sys-2")
	_, err := b.tender.Reconcile(b.ctx, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: b.namespace, Name: "sys-1"}})
	must(t, err)
	if got := b.wantTickets(v1alpha1.Resolved, v1alpha1.Open)[0].Name; got != "sys-2" {
		t.Errorf("%s is left, want that the first is removed", got)
	}
}

// brokenAgain has an open ticket, and so many resolved ones whose time has come.
func brokenAgain(t *testing.T, times int) *bench {
	b := broken(t)
	for range times {
		b.source.set("1", "Up")
		b.cycle()
		b.source.set("1", "Down")
		b.cycle()
	}
	b.today()
	b.clock.Step(2 * DefaultTicketRetention)
	b.settle()
	return b
}

// liveWithout reads from the API server as if it no longer had a ticket, which the cache still has.
func (b *bench) liveWithout(ticket string) client.Reader {
	return interceptor.NewClient(watching{b.live}, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if key.Name == ticket {
				return apierrors.NewNotFound(v1alpha1.GroupVersion.WithResource("tickets").GroupResource(), key.Name)
			}
			return c.Get(ctx, key, o, opts...)
		},
	})
}

func TestATicketIsKeptForEverWhereTheRetentionIsNought(t *testing.T) {
	t.Parallel()
	b := broken(t)
	b.source.set("1", "Up")
	b.cycle()
	b.source.set("1", "Down")
	b.cycle()
	b.tender.Retention = 0
	b.today()
	b.clock.Step(100 * DefaultTicketRetention)
	b.tend()
	b.wantTickets(v1alpha1.Resolved, v1alpha1.Open)
}

func TestAHoldPlacedAMomentBeforeTheRemovalWins(t *testing.T) {
	t.Parallel()
	b := broken(t)
	b.source.set("1", "Up")
	b.cycle()
	b.source.set("1", "Down")
	b.cycle()
	b.today()
	b.clock.Step(2 * DefaultTicketRetention)
	b.settle()
	stale := b.tickets()[0]
	b.annotate(stale.Name, v1alpha1.HoldAnnotation, "true")
	must(t, b.tender.remove(b.ctx, &stale))
	b.tend()
	b.wantTickets(v1alpha1.Resolved, v1alpha1.Open)
}

func TestConditionsThatSomebodyFilledTheListWithKeepNoHoldFromBeingSeen(t *testing.T) {
	t.Parallel()
	b := broken(t)
	var others []string
	for i := range 16 {
		others = append(others, fmt.Sprintf(`{"type":"Other%d","status":"True","reason":"Test","message":"","lastTransitionTime":"2026-11-24T03:00:00Z"}`, i))
	}
	must(t, b.patchStatus("sys-1", `{"conditions":[`+strings.Join(others, ",")+`]}`))
	b.annotate("sys-1", v1alpha1.HoldAnnotation, "true")
	b.cycle()
	if c := v1alpha1.FindCondition(b.tickets()[0].Status.Conditions, v1alpha1.ConditionHeld); !isTrue(c) {
		t.Errorf("the hold is not seen: %s", b.dump())
	}
}

func TestAConditionThatMadeRoomForAnotherIsNotSaidToBeOver(t *testing.T) {
	t.Parallel()
	b := broken(t)
	conditions := []string{`{"type":"Flapping","status":"True","reason":"Recurring","message":"","lastTransitionTime":"2026-11-24T03:00:00Z"}`}
	for i := range 15 {
		conditions = append(conditions, fmt.Sprintf(`{"type":"Other%d","status":"True","reason":"Test","message":"","lastTransitionTime":"2026-11-24T03:00:00Z"}`, i))
	}
	must(t, b.patchStatus("sys-1", `{"conditions":[`+strings.Join(conditions, ",")+`]}`))
	b.annotate("sys-1", v1alpha1.HoldAnnotation, "true")
	b.tend()
	b.wantEvents("sys-1 Held")
}

func TestATicketThatIsOpenedUnderTheNameOfADeletedOneHasWordsOfItsOwn(t *testing.T) {
	t.Parallel()
	for name, again := range map[string][]string{"not yet any": nil, "the same": {"sys-1 Acknowledged: by ana"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := broken(t)
			acknowledge := func() {
				must(t, b.patchStatus("sys-1", `{"acknowledgement":{"by":"ana","time":"2026-11-24T03:00:00Z"}}`))
			}
			acknowledge()
			b.tend()
			b.wantEvents("sys-1 Acknowledged: by ana")
			// It is tended again only when the other is there.
			must(t, b.api.Delete(b.ctx, &b.list()[0]))
			b.reconcileNext()
			b.wantTickets(v1alpha1.Open)
			if again != nil {
				acknowledge()
			}
			b.tend()
			b.wantEvents(append(again, "sys-1 Opened")...)
		})
	}
}

func TestWordsThatACacheHasAgainAfterItWentBackInTimeAreNotAnnouncedAgain(t *testing.T) {
	r := &TicketReconciler{Clock: testingclock.NewFakeClock(start)}
	r.init()
	ticket := &v1alpha1.Ticket{ObjectMeta: metav1.ObjectMeta{Name: "sys-1", UID: "1", CreationTimestamp: metav1.NewTime(start)}}
	announced := 0
	for _, says := range []string{"", "ana", "", "ana"} {
		if before, now := r.remember(ticket, words{acknowledged: says}); now.acknowledged != before.acknowledged {
			announced++
		}
	}
	if announced != 1 {
		t.Errorf("announced %d times, want once", announced)
	}
}
