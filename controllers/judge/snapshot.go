package judge

import (
	"context"
	"fmt"
	"time"

	"github.com/google/cel-go/common/types"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers/verdict"
)

// maxQuery is the length of a query with its values in it, in bytes.
const maxQuery = 64 << 10

// Ask asks a PromQL query and returns what it gives, as text.
type Ask func(ctx context.Context, query string) (string, *verdict.Fault)

// Snapshot takes the evidence of one violated store. A piece that fails carries its error. What takes no asking comes first, so that an
// answer that does not come costs nothing else.
func (p *Program) Snapshot(ctx context.Context, storeID string, reading any, now time.Time, ask Ask) []v1alpha1.SnapshotValue {
	if len(p.snapshot) == 0 {
		return nil
	}
	e := &evaluator{ctx: ctx, now: types.Timestamp{Time: now}, past: &Past{}}
	values := make([]v1alpha1.SnapshotValue, len(p.snapshot))
	for _, asked := range []bool{false, true} {
		for i, s := range p.snapshot {
			if asked == (s.query != nil) {
				values[i] = s.value(e, storeID, reading, ask)
			}
		}
	}
	return values
}

// value is one piece of evidence, or why there is none.
func (s evidence) value(e *evaluator, storeID string, reading any, ask Ask) v1alpha1.SnapshotValue {
	text, truncated, fault := s.take(e, storeID, reading, ask)
	if fault != nil {
		return v1alpha1.SnapshotValue{Name: s.name, Error: clip(fault.Message)}
	}
	return v1alpha1.SnapshotValue{Name: s.name, Value: text, Truncated: truncated}
}

// take takes one piece of evidence.
func (s evidence) take(e *evaluator, storeID string, reading any, ask Ask) (text string, truncated bool, _ *verdict.Fault) {
	if s.expression != nil {
		value, fault := e.eval(s.expression, reading, nil)
		if fault != nil {
			return "", false, fault
		}
		text, truncated = encode(value)
		return text, truncated, nil
	}
	filled, fault := s.fill(e, storeID, reading)
	if fault != nil {
		return "", false, fault
	}
	if text, fault = ask(e.ctx, filled); fault != nil {
		return "", false, fault
	}
	return verdict.Truncate(text, maxSnapshot), len(text) > maxSnapshot, nil
}

// fill puts the store's values into the query.
func (s evidence) fill(e *evaluator, storeID string, reading any) (string, *verdict.Fault) {
	values := map[string]string{storeIDName: storeID}
	for name, expression := range s.with {
		value, fault := e.eval(expression, reading, nil)
		if fault != nil {
			return "", fault
		}
		text, ok := value.(types.String)
		if !ok {
			return "", evaluationFailed(expression.field, fmt.Sprintf("it gives %s where a string is needed: write string(...) around it", value.Type().TypeName()))
		}
		values[name] = string(text)
	}
	filled := s.query.fill(values)
	if len(filled) > maxQuery {
		return "", evaluationFailed("snapshot "+s.name, fmt.Sprintf("the query is longer than %d KiB with its values in it", maxQuery>>10))
	}
	return filled, nil
}
