package controllers

import (
	"fmt"
	"testing"
	"time"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/ledger"
	"invariant.dev/operator/controllers/verdict"
)

// BenchmarkJudgeAndLedger measures a cycle of 1,000 stores and ten Invariants between its one GET and its writes.
// The figures are for one store and one Invariant.
func BenchmarkJudgeAndLedger(b *testing.B) {
	const stores, invariants = 1000, 10
	for _, state := range []string{"Up", "Down"} {
		b.Run("all "+state, func(b *testing.B) {
			program, err := judge.Compile(&v1alpha1.InvariantSpec{
				Source:     v1alpha1.Source{HTTP: &v1alpha1.HTTPSource{URL: "http://pd", Items: "self.stores"}},
				StoreID:    "string(self.store.id)",
				Expression: "self.store.state_name in ['Up', 'Offline']",
				Message:    "'store ' + string(self.store.id) + ' at ' + self.store.address + ' is ' + self.store.state_name",
			})
			must(b, err)
			observation := pdStores(stores, state)
			var judging, deciding time.Duration
			for b.Loop() {
				began := time.Now()
				policies := map[string]ledger.Invariant{}
				for i := range invariants {
					result := program.Judge(b.Context(), observation, start)
					name := fmt.Sprintf("inv-%d", i)
					policies[name] = ledger.Invariant{Name: name, Severity: v1alpha1.Warning, Judgement: &result.Judgement}
				}
				judged := time.Now()
				plan := ledger.Decide(ledger.Cycle{Now: start, Invariants: policies}, nil, nil)
				judging += judged.Sub(began)
				deciding += time.Since(judged)
				if want := map[string]int{"Up": 0, "Down": stores * invariants}[state]; len(plan.Open) != want {
					b.Fatalf("%d violations, want %d", len(plan.Open), want)
				}
			}
			per := float64(b.N) * stores * invariants
			b.ReportMetric(float64(judging.Nanoseconds())/per, "judge-ns/store")
			b.ReportMetric(float64(deciding.Nanoseconds())/per, "ledger-ns/store")
		})
	}
}

func pdStores(n int, state string) verdict.Observation {
	list := make([]any, 0, n)
	for i := range n {
		list = append(list, map[string]any{"store": map[string]any{"id": int64(i), "address": fmt.Sprintf("tikv-%d:20160", i), "state_name": state}})
	}
	return verdict.Observation{Readings: []verdict.Reading{{Value: map[string]any{"stores": list}}}}
}
