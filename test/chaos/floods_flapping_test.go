package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"invariant.dev/operator/api/v1alpha1"
)

// floodOfFlaps lets one store flap for as long as there is time, in tickets of its own and within one that stays open.
func floodOfFlaps(s *stage) {
	t := s.tolled()
	across := s.systemOf(&system{namespace: s.space("across"), name: "across", interval: interval, aspects: aspects[:1]}, 1)
	within := s.systemOf(&system{namespace: s.space("within"), name: "within", interval: interval, aspects: []aspect{{name: "slow", resolveAfter: shortOr(5*time.Second, 20*time.Second)}}}, 1)
	across.monitored()
	within.monitored()
	t.start()
	if *long {
		s.flapAtRandom(across, within, 12*time.Minute)
	} else {
		s.flapInTurn(across, within, v1alpha1.DefaultFlappingThreshold+1)
	}
	across.heal()
	s.eventually("what flapped in tickets of its own is resolved", 10*time.Second, func() bool { return len(across.open()) == 0 })
	flaps := s.everyFlapHasItsTicket(across) + s.everyFlapIsCounted(within)
	if n := t.vitals().sum("operator_violations_flapping"); n < 1 {
		s.Errorf("the metric of violations that flap is %v while one does", n)
	}
	if !strings.Contains(t.monitor.log.String(), "Ticket flapping") {
		s.Error("the log says nothing of flapping")
	}
	facts := []string{fmt.Sprintf("%d flaps", flaps), s.eventsOf(flaps, across, within)}
	within.heal()
	s.settled(busy, append(facts, t.paid()...)...)
}

// flapAtRandom turns the stores of two systems again and again.
func (s *stage) flapAtRandom(across, within *system, lasts time.Duration) {
	rng := s.fork()
	for end := time.Now().Add(lasts); time.Now().Before(end) && wait(s.ctx, between(rng, 1100*time.Millisecond, 4*time.Second)); {
		across.turn(across.aspects[0], "1")
		within.turn(within.aspects[0], "1")
	}
}

// flapInTurn turns the stores of two systems as soon as their tickets say how they are, so many times.
func (s *stage) flapInTurn(across, within *system, times int) {
	for flap := range times {
		across.turn(across.aspects[0], "1")
		within.turn(within.aspects[0], "1")
		s.eventually("both tickets say that the store is ill", time.Minute, func() bool {
			return len(across.open()) == 1 && slices.ContainsFunc(within.entries(), func(e v1alpha1.ViolationStatus) bool { return e.Active && int(e.Recurrences) == flap })
		})
		across.turn(across.aspects[0], "1")
		within.turn(within.aspects[0], "1")
		s.eventually("both tickets say that the store is well", time.Minute, func() bool {
			return len(across.open()) == 0 && slices.ContainsFunc(within.entries(), func(e v1alpha1.ViolationStatus) bool { return e.SatisfiedSinceTime != nil })
		})
	}
}

// entries are what open tickets say of their violations.
func (y *system) entries() (entries []v1alpha1.ViolationStatus) {
	for _, ticket := range y.open() {
		entries = append(entries, ticket.Status.Violations...)
	}
	return entries
}

// everyFlapHasItsTicket wants a ticket for each time that a look saw the store broken anew, and that each says what it has to say of
// flapping and no more.
func (s *stage) everyFlapHasItsTicket(y *system) int {
	tickets, sights := y.tickets(), y.sightsOf()
	if len(tickets) != sights {
		s.Errorf("%d tickets opened for %d flaps that looks saw", len(tickets), sights)
	}
	for i, ticket := range tickets {
		s.flappingIsNoted(ticket, i)
	}
	return sights
}

// everyFlapIsCounted wants that one ticket counts each time that a look saw the store broken anew.
func (s *stage) everyFlapIsCounted(y *system) int {
	tickets, sights := y.tickets(), y.sightsOf()
	if len(tickets) != 1 {
		s.Errorf("%d tickets opened for what never cleared, want one", len(tickets))
		return sights
	}
	s.eventually("every flap is counted", 5*time.Second, func() bool {
		return int(y.tickets()[0].Status.Violations[0].Recurrences) == sights-1
	})
	s.flappingIsNoted(y.tickets()[0], sights-1)
	return sights
}

func (y *system) sightsOf() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.sights[y.place(y.aspects[0], "1")]
}

// flappingIsNoted wants that a ticket says that it is flapping where its violation came back as often as the default threshold, and
// that it remembers no more than it may.
func (s *stage) flappingIsNoted(t *v1alpha1.Ticket, recurrences int) {
	e := t.Status.Violations[0]
	condition := v1alpha1.FindCondition(t.Status.Conditions, v1alpha1.ConditionFlapping)
	if flapping := recurrences >= v1alpha1.DefaultFlappingThreshold; e.Flapping != flapping || (condition != nil && condition.Status == "True") != flapping {
		s.Errorf("%s came back %d times, and says flapping: %v, %+v", t.Name, recurrences, e.Flapping, condition)
	}
	if remembered := max(len(t.Spec.Violations[0].RecurredTimes), len(e.RecurredTimes)); remembered > 10 || remembered < min(recurrences, 10) {
		s.Errorf("%s remembers %d of %d times that it came back, want at most ten", t.Name, remembered, recurrences)
	}
}

// eventsOf tells how many Events the flaps of systems left, and wants that one says flapping and that they are no flood: opened,
// flapping and resolved of each ticket, and two of the Invariant.
func (s *stage) eventsOf(flaps int, systems ...*system) string {
	api, err := kubernetes.NewForConfig(s.plane.Config)
	must(s, err)
	total := 0
	for _, y := range systems {
		list, err := api.EventsV1().Events(y.namespace).List(s.ctx, metav1.ListOptions{})
		must(s, err)
		events := slices.DeleteFunc(list.Items, func(e eventsv1.Event) bool {
			return e.Regarding.Name != y.aspects[0].name && v1alpha1.TicketNumber(y.name, e.Regarding.Name) == 0
		})
		if !slices.ContainsFunc(events, func(e eventsv1.Event) bool { return e.Reason == "Flapping" }) {
			s.Errorf("no Event of %s says flapping", y.name)
		}
		total += len(events)
	}
	if most := 5*flaps + 10; total > most {
		s.Errorf("%d flaps left %d Events, want at most %d", flaps, total, most)
	}
	return fmt.Sprintf("%d Events", total)
}
