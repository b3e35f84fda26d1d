package history_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/test/chaos/history"
)

// start is when the histories here begin.
var start = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

// at is a moment of a history, in seconds after its start.
func at(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }

const grace = 10 * time.Second

var (
	up   = history.Place{Namespace: "ns", Invariant: "up", StoreID: "1"}
	fast = history.Place{Namespace: "ns", Invariant: "fast", StoreID: "1"}
	// whole is the source of up.
	whole = history.Place{Namespace: "ns", Invariant: "up"}
)

// story is a history that is being told: a monitor that is able all the time, and two Invariants.
type story struct {
	*history.History
	revision int64
	tickets  map[int]*v1alpha1.Ticket
	unable   func(time.Time)
}

func newStory() *story {
	s := &story{History: history.New(), tickets: map[int]*v1alpha1.Ticket{}}
	s.unable = s.Able("ns", at(0))
	s.Policy(history.Policy{Namespace: "ns", Invariant: "up", Interval: time.Second, UnobservableAfter: grace})
	s.Policy(history.Policy{Namespace: "ns", Invariant: "fast", Interval: time.Second, GracePeriod: grace})
	return s
}

// write writes a ticket as it is now.
func (s *story) write(n int, seconds float64) {
	s.revision++
	v := history.Version{Revision: s.revision, At: at(seconds), Namespace: "ns", Name: v1alpha1.TicketName("sys", n)}
	if t := s.tickets[n]; t != nil {
		v.Ticket = t.DeepCopy()
	}
	s.Write(v)
}

// open opens a ticket for a place, first seen at one time and opened at another.
func (s *story) open(n int, place history.Place, first, opened float64) *v1alpha1.Ticket {
	return s.openBy(n, place, 0, first, opened)
}

// openBy is open by a monitor whose clock is ahead by so many seconds.
func (s *story) openBy(n int, place history.Place, ahead, first, opened float64) *v1alpha1.Ticket {
	t := &v1alpha1.Ticket{Spec: v1alpha1.TicketSpec{System: "sys", OpenedTime: *v1alpha1.NewTime(at(opened + ahead)), Violations: []v1alpha1.Violation{{
		Invariant: place.Invariant, StoreID: place.StoreID, Reason: v1alpha1.Violated, FirstSeenTime: *v1alpha1.NewTime(at(first + ahead)),
	}}}, Status: v1alpha1.TicketStatus{State: v1alpha1.Open}}
	t.Namespace, t.Name = "ns", v1alpha1.TicketName("sys", n)
	s.tickets[n] = t
	s.write(n, opened)
	return t
}

// resolve resolves a ticket.
func (s *story) resolve(n int, seconds float64, reason v1alpha1.ResolutionReason) {
	t := s.tickets[n]
	t.Status.State = v1alpha1.Resolved
	t.Status.Resolution = &v1alpha1.Resolution{By: "monitor", Reason: reason, Time: v1alpha1.NewTime(at(seconds))}
	if reason == v1alpha1.Cleared {
		v := t.Spec.Violations[0]
		t.Status.Violations = []v1alpha1.ViolationStatus{{Invariant: v.Invariant, StoreID: v.StoreID, Reason: v.Reason, ClearedTime: v1alpha1.NewTime(at(seconds))}}
	}
	s.write(n, seconds)
}

// fault breaks a place for a while.
func (s *story) fault(place history.Place, from, to float64) {
	s.Begin(place, v1alpha1.Violated, at(from))(at(to))
}

// glimpse notes a place that may have been broken for a while, and certainly was in a part of it.
func (s *story) glimpse(place history.Place, from, to, certainFrom, certainTo float64) {
	s.Note(history.Fault{Place: place, Reason: v1alpha1.Violated, Span: history.Span{Start: at(certainFrom), End: at(certainTo)},
		Possible: history.Span{Start: at(from), End: at(to)}})
}

// act notes what a person did.
func (s *story) act(n int, kind history.ActKind, word string, seconds float64, err error) {
	s.Ask("ns", v1alpha1.TicketName("sys", n), kind, word, at(seconds))(err, at(seconds))
}

func (s *story) hold(n int, value string, seconds float64) {
	s.tickets[n].Annotations = map[string]string{v1alpha1.HoldAnnotation: value}
	s.write(n, seconds)
}

func TestEachRuleIsSeenToBeBroken(t *testing.T) {
	for rule, stories := range map[string]map[string]func(*story){
		"": {
			"a fault is seen, held, diagnosed, released and resolves": func(s *story) {
				s.fault(up, 10, 30)
				ticket := s.open(1, up, 11, 11)
				s.act(1, history.Hold, "true", 12, nil)
				s.hold(1, "true", 12)
				ticket.Status.State, ticket.Status.Diagnosis = v1alpha1.Diagnosed, &v1alpha1.Diagnosis{By: "ana", Text: "disk"}
				s.act(1, history.Diagnose, "disk", 13, nil)
				s.write(1, 13)
				s.act(1, history.Unhold, "", 40, nil)
				s.hold(1, "", 40)
				s.resolve(1, 41, v1alpha1.Cleared)
			},
			"a fault shorter than its grace period": func(s *story) { s.fault(fast, 10, 15) },
			"a fault that no monitor could see":     func(s *story) { s.unable(at(9)); s.fault(up, 10, 30) },
			"a fault that the source hides for a while": func(s *story) {
				s.fault(up, 10, 30)
				s.Begin(whole, v1alpha1.Unobservable, at(9))(at(19))
				s.open(1, up, 20, 20)
				s.resolve(1, 31, v1alpha1.Cleared)
			},
			"a fault that is seen when the writes of the look before it are given up": func(s *story) {
				s.Policy(history.Policy{Namespace: "ns", Invariant: "up", Interval: time.Second, Timeout: 3 * time.Second})
				s.Hanging("ns", at(9))(at(15))
				s.Hindered("ns", at(9))(at(15))
				s.fault(up, 10, 30)
				s.open(1, up, 16, 17)
				s.resolve(1, 31, v1alpha1.Cleared)
			},
			"a ticket that arrives when its fault is over": func(s *story) {
				s.fault(up, 10, 13)
				s.unable(at(11))
				s.Delayed("ns", at(11), at(25))
				s.open(1, up, 11, 25)
				s.resolve(1, 26, v1alpha1.Cleared)
			},
			"a ticket that arrives when its fault is over and another has begun": func(s *story) {
				s.fault(up, 10, 13)
				s.unable(at(11))
				s.Delayed("ns", at(11), at(25))
				s.fault(up, 24.5, 60)
				s.open(1, up, 11, 25)
				s.resolve(1, 25.2, v1alpha1.Cleared)
				s.Able("ns", at(24))
				s.open(2, up, 26, 26)
				s.resolve(2, 61, v1alpha1.Cleared)
			},
			"a ticket of a clock that ran ahead, resolved by hand after one that had its name was deleted": func(s *story) {
				s.fault(fast, 2, 30)
				s.open(1, fast, 3, 13)
				s.act(1, history.Delete, "", 20, nil)
				delete(s.tickets, 1)
				s.write(1, 20)
				s.Clock("ns", time.Minute, at(31))
				s.fault(up, 34, 36)
				s.openBy(1, up, 60, 35, 35)
				s.Clock("ns", 0, at(40))
				s.fault(up, 50, 100)
				s.resolve(1, 70, v1alpha1.Manual)
				s.open(2, up, 71, 71)
				s.resolve(2, 101, v1alpha1.Cleared)
			},
			"a fault that only may have been there": func(s *story) { s.glimpse(fast, 10, 60, 10, 10) },
			"a fault that may have been there before it was seen, and was well for a moment meanwhile": func(s *story) {
				s.glimpse(fast, 10, 60, 30, 50)
				s.open(1, fast, 11, 21)
				s.resolve(1, 22, v1alpha1.Cleared)
				s.open(2, fast, 25, 35)
				s.resolve(2, 61, v1alpha1.Cleared)
			},
			"a fault that goes on in the ticket after a resolve by hand": func(s *story) {
				s.fault(up, 10, 30)
				s.open(1, up, 11, 11)
				s.resolve(1, 15, v1alpha1.Manual)
				s.open(2, up, 11, 16)
				s.resolve(2, 31, v1alpha1.Cleared)
			},
			"a ticket that is noticed when the clock has been set back": func(s *story) {
				s.Policy(history.Policy{Namespace: "ns", Invariant: "fast", Interval: time.Second, GracePeriod: 2 * time.Second})
				s.fault(fast, 10, 30)
				s.Clock("ns", -3*time.Second, at(13.01))
				s.open(1, fast, 11, 13.05)
				s.resolve(1, 31, v1alpha1.Cleared)
			},
			"a first-seen time that, by a later clock, lies in a fault of then": func(s *story) {
				s.fault(up, 10, 12)
				s.open(1, up, 11, 11)
				s.Clock("ns", -time.Minute, at(60))
				s.fault(up, 61, 100)
				s.resolve(1, 70, v1alpha1.Manual)
				s.openBy(2, up, -60, 71, 71)
				s.resolve(2, 101, v1alpha1.Cleared)
			},
			"a ticket of a clock that ran ahead, resolved by hand while something of it is broken again": func(s *story) {
				s.Clock("ns", time.Minute, at(5))
				s.fault(up, 10, 12)
				s.openBy(1, up, 60, 11, 11)
				s.Clock("ns", 0, at(20))
				s.fault(up, 30, 100)
				s.resolve(1, 50, v1alpha1.Manual)
				s.open(2, up, 51, 51)
				s.resolve(2, 101, v1alpha1.Cleared)
			},
		},
		"one open ticket per violation key": {"two monitors open one each": func(s *story) {
			s.fault(up, 10, 30)
			s.open(1, up, 11, 11)
			s.open(2, up, 11, 11.1)
			s.resolve(2, 12, v1alpha1.Duplicate)
			s.resolve(1, 31, v1alpha1.Cleared)
		}},
		"a ticket's number is used once": {"an older number comes after a newer": func(s *story) {
			s.fault(up, 10, 30)
			s.fault(up, 50, 70)
			s.open(2, up, 11, 11)
			s.resolve(2, 31, v1alpha1.Cleared)
			s.open(1, up, 51, 51)
			s.resolve(1, 71, v1alpha1.Cleared)
		}},
		"no ticket without a fault": {
			"nothing was wrong": func(s *story) { s.open(1, up, 11, 11); s.resolve(1, 12, v1alpha1.Cleared) },
			"none was possible": func(s *story) {
				s.glimpse(up, 20, 30, 22, 28)
				s.open(1, up, 11, 11)
				s.resolve(1, 31, v1alpha1.Cleared)
			},
			"all was well for a long": func(s *story) { s.fault(up, 10, 30); s.open(1, up, 11, 60); s.resolve(1, 61, v1alpha1.Cleared) },
		},
		"every fault has its ticket": {
			"no ticket at all":                func(s *story) { s.fault(up, 10, 30) },
			"no ticket as soon as it is seen": func(s *story) { s.fault(up, 10, 15) },
			"no ticket while it is sure":      func(s *story) { s.glimpse(up, 10, 60, 20, 40) },
			"it stands in a ticket as cleared": func(s *story) {
				s.fault(up, 10, 30)
				s.open(1, up, 11, 11)
				s.resolve(1, 31, v1alpha1.Cleared)
				s.fault(up, 50, 70)
			},
		},
		"one ticket per fault": {"it resolves and opens again while it lasts": func(s *story) {
			s.fault(up, 10, 30)
			s.open(1, up, 11, 11)
			s.resolve(1, 15, v1alpha1.InvariantDeleted)
			s.open(2, up, 11, 16)
			s.resolve(2, 31, v1alpha1.Cleared)
		}},
		"a grace period neither ends early nor starts over": {
			"it counts too early": func(s *story) {
				s.fault(fast, 10, 60)
				s.open(1, fast, 11, 14)
				s.resolve(1, 61, v1alpha1.Cleared)
			},
			"it is said to be first seen long after it broke": func(s *story) {
				s.fault(up, 10, 60)
				s.open(1, up, 30, 30)
				s.resolve(1, 61, v1alpha1.Cleared)
			},
			"it counts too early by any clock": func(s *story) {
				s.Clock("ns", -2*time.Second, at(5))
				s.fault(fast, 10, 60)
				s.openBy(1, fast, -2, 11, 14)
				s.resolve(1, 61, v1alpha1.Cleared)
			},
			"it is said to be first seen long after it broke, by any clock": func(s *story) {
				s.Clock("ns", -2*time.Second, at(5))
				s.fault(up, 10, 60)
				s.openBy(1, up, -2, 30, 30)
				s.resolve(1, 61, v1alpha1.Cleared)
			},
			"its grace period was started over": func(s *story) {
				s.fault(fast, 10, 60)
				s.open(1, fast, 11, 45)
				s.resolve(1, 61, v1alpha1.Cleared)
			},
		},
		"only an observation clears": {"it clears while the source is silent": func(s *story) {
			s.fault(up, 10, 30)
			s.Begin(whole, v1alpha1.Unobservable, at(15))(at(24))
			s.open(1, up, 11, 11)
			s.resolve(1, 23, v1alpha1.Cleared)
		}},
		"what has cleared resolves": {"a ticket is left open": func(s *story) { s.fault(up, 10, 30); s.open(1, up, 11, 11) }},
		"a hold is a promise": {"the monitor resolves under it": func(s *story) {
			s.fault(up, 10, 30)
			s.open(1, up, 11, 11)
			s.act(1, history.Hold, "true", 12, nil)
			s.hold(1, "true", 12)
			s.resolve(1, 31, v1alpha1.Cleared)
		}},
		"a person's words survive": {"a hold is dropped": func(s *story) {
			s.fault(up, 10, 30)
			s.open(1, up, 11, 11)
			s.act(1, history.Hold, "true", 12, nil)
			s.hold(1, "true", 12)
			s.hold(1, "", 20)
			s.resolve(1, 31, v1alpha1.Cleared)
		}, "a diagnosis is dropped": func(s *story) {
			s.fault(up, 10, 30)
			ticket := s.open(1, up, 11, 11)
			ticket.Status.Diagnosis = &v1alpha1.Diagnosis{By: "ana", Text: "disk"}
			s.act(1, history.Diagnose, "disk", 13, nil)
			s.write(1, 13)
			ticket.Status.Diagnosis = nil
			s.resolve(1, 31, v1alpha1.Cleared)
		}},
		"what was confirmed is done": {"an acknowledgement is nowhere": func(s *story) {
			s.fault(up, 10, 30)
			s.open(1, up, 11, 11)
			s.act(1, history.Acknowledge, "mine", 12, nil)
			s.resolve(1, 31, v1alpha1.Cleared)
		}},
		"the monitor's writes make no person's fail": {"a hold meets a conflict": func(s *story) {
			s.fault(up, 10, 30)
			s.open(1, up, 11, 11)
			s.act(1, history.Hold, "true", 12, apierrors.NewConflict(schema.GroupResource{}, "sys-1", errors.New("changed")))
			s.resolve(1, 31, v1alpha1.Cleared)
		}},
		"a state never goes back": {"from acknowledged to open": func(s *story) {
			s.fault(up, 10, 30)
			ticket := s.open(1, up, 11, 11)
			ticket.Status.State = v1alpha1.Acknowledged
			s.write(1, 12)
			ticket.Status.State = v1alpha1.Open
			s.write(1, 13)
			s.resolve(1, 31, v1alpha1.Cleared)
		}},
		"a cycle counts once": {"more occurrences than seconds": func(s *story) {
			s.fault(up, 10, 30)
			ticket := s.open(1, up, 11, 11)
			ticket.Status.Occurrences, ticket.Status.LastSeenTime = 9, v1alpha1.NewTime(at(13))
			s.write(1, 13)
			s.resolve(1, 31, v1alpha1.Cleared)
		}},
		"no ticket is lost": {"an open ticket goes": func(s *story) {
			s.fault(up, 10, 30)
			s.open(1, up, 11, 11)
			delete(s.tickets, 1)
			s.write(1, 29)
		}},
	} {
		for name, tell := range stories {
			t.Run(fmt.Sprintf("%s: %s", rule, name), func(t *testing.T) {
				s := newStory()
				tell(s)
				broken := map[string]bool{}
				for _, breach := range s.Check(at(200), history.Tolerance{Early: time.Second, Late: 2 * time.Second}) {
					t.Log(breach)
					broken[breach.Rule] = true
				}
				if broken[rule] != (rule != "") || (rule == "" && len(broken) > 0) {
					t.Errorf("want %q broken, got %v", rule, broken)
				}
			})
		}
	}
}
