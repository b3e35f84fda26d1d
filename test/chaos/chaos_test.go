// Package chaos disturbs the monitor as the world does, and checks the history of what it wrote against an independent record of what
// was true.
package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"invariant.dev/operator/hack/controlplane"
	"invariant.dev/operator/test/installed"
)

var (
	long  = flag.Bool("long", false, "the long form, which takes hours; else one that takes seconds")
	lasts = flag.Duration("for", 0, "how long the long form of what lasts a while takes; 0: its own time")
	seed  = flag.Uint64("seed", 0, "repeats the choices of an earlier run; 0: new ones")
)

var (
	plane *controlplane.ControlPlane
	bin   string
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Scenarios that run beside each other mostly wait for cycles: more of them than there are processors.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	if *long {
		// Somebody runs it by hand, on a machine that has nothing else to do.
		busy.Late = 1500 * time.Millisecond
	}
	installed.Main(m, installed.Options{Root: "../..", Programs: []string{"cmd/operator"}, Plane: &plane, Bin: &bin, After: table.print})
}

// shortOr is the first of two values in the short form, and the second in the long one.
func shortOr[T any](short, longForm T) T {
	if *long {
		return longForm
	}
	return short
}

// beside lets the short form of a scenario run beside the others. In the long form each has the machine for itself.
func beside(t *testing.T) {
	t.Helper()
	if !*long {
		t.Parallel()
	}
}

// dice makes the choices of a scenario. The seed that repeats them is logged.
func dice(t *testing.T) *rand.Rand {
	t.Helper()
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano()) % 1e9
	}
	t.Logf("-seed=%d", s)
	return rand.New(rand.NewPCG(s, uint64(len(t.Name()))))
}

// between is a random duration.
func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64(most-least)+1))
}

// wait waits, or until the scenario ends.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// results are what the scenarios measured, printed at the end of the long form.
type results struct {
	mu   sync.Mutex
	rows [][]string
}

var table results

// add adds what a scenario did and measured, in the order in which it is to be read.
func (r *results) add(scenario string, took time.Duration, facts ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, []string{scenario, took.Round(time.Second).String(), strings.Join(facts, ", ")})
}

func (r *results) print() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !*long {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "SCENARIO\tTOOK\tWHAT HAPPENED")
	for _, row := range r.rows {
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush()
}
