package controllers

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"invariant.dev/operator/api/v1alpha1"
)

var (
	checks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "operator_checks_total",
		Help: "Checks of Invariants, by outcome: Satisfied, Violated or Unknown.",
	}, []string{"namespace", "system", "outcome"})
	cycleDuration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "operator_cycle_duration_seconds",
		Help:    "How long cycles take from the end of their look at the sources to their last write.",
		Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	})
	cycleLateness = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "operator_cycle_lateness_seconds",
		Help:    "How long after their tick cycles begin.",
		Buckets: []float64{.001, .005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	})
	cyclesSkipped = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "operator_cycles_skipped_total",
		Help: "Cycles that were not run to their end: busy (too many looks at sources under way), stale (observed too long ago to be written), write (not all was written), read (the API server did not say what must be known first), panic.",
	}, []string{"reason"})
	flappingDesc = prometheus.NewDesc("operator_violations_flapping", "Violations of open tickets that keep coming back.", []string{"namespace", "system", "invariant"}, nil)
	ticketsDesc  = prometheus.NewDesc("operator_tickets", "Tickets that there are.", []string{"namespace", "system", "state", "severity"}, nil)
)

func init() {
	metrics.Registry.MustRegister(checks, cycleDuration, cycleLateness, cyclesSkipped)
}

func forgetMetrics(system types.NamespacedName) {
	checks.DeletePartialMatch(prometheus.Labels{"namespace": system.Namespace, "system": system.Name})
}

// scrapeTimeout is how long counting the tickets in the cache may take.
const scrapeTimeout = 5 * time.Second

// TicketCollector counts the tickets in the cache whenever it is asked, so that the figure needs no bookkeeping and
// survives restarts.
type TicketCollector struct {
	// Reader reads from the cache.
	Reader client.Reader
}

// Describe implements prometheus.Collector.
func (TicketCollector) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- ticketsDesc
	descriptions <- flappingDesc
}

// Collect implements prometheus.Collector.
func (c TicketCollector) Collect(collected chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	var tickets v1alpha1.TicketList
	if err := c.Reader.List(ctx, &tickets, client.UnsafeDisableDeepCopy); err != nil {
		collected <- prometheus.NewInvalidMetric(ticketsDesc, err)
		return
	}
	type labels struct{ namespace, system, state, severity string }
	counts := map[labels]int{}
	flapping := map[[3]string]int{}
	for i := range tickets.Items {
		t := &tickets.Items[i]
		counts[labels{t.Namespace, t.Spec.System, string(t.Status.State), string(t.Status.Severity)}]++
		for _, v := range t.Status.Violations {
			if v.Flapping && t.IsOpen() {
				flapping[[3]string{t.Namespace, t.Spec.System, v.Invariant}]++
			}
		}
	}
	for l, n := range counts {
		collected <- prometheus.MustNewConstMetric(ticketsDesc, prometheus.GaugeValue, float64(n), l.namespace, l.system, l.state, l.severity)
	}
	for l, n := range flapping {
		collected <- prometheus.MustNewConstMetric(flappingDesc, prometheus.GaugeValue, float64(n), l[:]...)
	}
}
