package promtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	apiv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"k8s.io/apimachinery/pkg/util/wait"
)

// waitTimeout bounds how long WaitFor waits.
const waitTimeout = 30 * time.Second

// NotEmpty says whether there is any series.
func NotEmpty(series model.Vector) bool { return len(series) > 0 }

// Empty says whether there is no series.
func Empty(series model.Vector) bool { return len(series) == 0 }

// Value returns what says whether there is just one series and its value is want.
func Value(want float64) func(model.Vector) bool {
	return func(series model.Vector) bool { return len(series) == 1 && float64(series[0].Value) == want }
}

// WaitFor asks an instant query, which must give a vector, until done says yes to the answer, and returns that answer.
// The test fails if that takes more than 30 seconds, and at once if the query is wrong or Prometheus has ended.
func (p *Prometheus) WaitFor(tb testing.TB, query string, done func(model.Vector) bool) model.Vector {
	tb.Helper()
	var last model.Vector
	var lastErr error
	err := wait.PollUntilContextTimeout(tb.Context(), pollInterval, waitTimeout, true, func(ctx context.Context) (bool, error) {
		series, err := p.vector(ctx, query)
		if err != nil && ctx.Err() == nil {
			if hopeless := p.hopeless(err); hopeless != nil {
				return false, hopeless
			}
			lastErr = err
			return false, nil
		}
		if err == nil {
			last, lastErr = series, nil
		}
		return err == nil && done(series), nil
	})
	if err != nil {
		tb.Fatalf("waiting for the answer to %s: %v; the last one was\n%v", query, errors.Join(err, lastErr), last)
	}
	return last
}

func (p *Prometheus) vector(ctx context.Context, query string) (model.Vector, error) {
	value, _, err := p.api.Query(ctx, query, time.Now())
	if err != nil {
		return nil, err
	}
	series, ok := value.(model.Vector)
	if !ok {
		return nil, &apiv1.Error{Type: apiv1.ErrBadData, Msg: fmt.Sprintf("the answer is a %s, not a vector", value.Type())}
	}
	return series, nil
}

// hopeless returns an error if asking again cannot help.
func (p *Prometheus) hopeless(err error) error {
	var answer *apiv1.Error
	if errors.As(err, &answer) && (answer.Type == apiv1.ErrBadData || answer.Type == apiv1.ErrExec) {
		return answer
	}
	select {
	case <-p.process.Ended():
		return errors.New("Prometheus has ended")
	default:
		return nil
	}
}
