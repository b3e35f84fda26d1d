package judge

import (
	"fmt"

	"github.com/google/cel-go/common/types"

	"invariant.dev/operator/controllers/verdict"
)

// MaxPast is how many values the readings may have, about, that an Invariant with oldSelf keeps until its next check.
const MaxPast = 100_000

// A verdict that is kept takes as much memory as so many values, and one more for so many bytes of its text.
const (
	verdictValues = 3
	bytesPerValue = 96
)

// Past is what one Invariant's checks leave for the next: the readings of the last good observation, for oldSelf, and the verdicts
// on readings that have not changed since. The zero value is that of a first check. It is lost when the monitor restarts.
type Past struct {
	// readings are those of the last good observation, by store.
	readings map[string]any
	// values is how many values all of it has, about.
	values int
	// judged are the verdicts on readings that have a version.
	judged map[string]verdict.Verdict
	// version is that of the last observation, and result what was said of it.
	version string
	result  Result
}

// Values is how many values the past holds on to, about.
func (p *Past) Values() int {
	if p == nil {
		return 0
	}
	return p.values
}

// Forget makes the next check the first one. It tells whether that one has nothing to look back on then; else it only has to judge
// again what has not changed.
func (p *Past) Forget() (lost bool) {
	lost = p.readings != nil
	*p = Past{}
	return lost
}

// KeepBefore makes the next check compare these stores with what they were before this one, as it was compared.
func (p *Past) KeepBefore(before Past, storeIDs []string) {
	for _, storeID := range storeIDs {
		if reading, seen := before.readings[storeID]; seen && p.readings != nil {
			p.readings[storeID] = reading
		}
	}
}

// remember counts the readings that the next check may look back on, and refuses more than can be kept.
func (e *evaluator) remember(readings []verdict.Reading) *verdict.Fault {
	e.next.readings = make(map[string]any, len(readings))
	for _, r := range readings {
		e.next.values += int(deepSize(types.DefaultTypeAdapter.NativeToValue(r.Value))) //nolint:gosec // at most maxCallCost
		if e.next.values > MaxPast {
			e.next = Past{}
			return &verdict.Fault{Reason: verdict.TooLarge, Message: fmt.Sprintf("oldSelf: the readings have more than %d values, which is more than is kept until the next check; "+
				"let items, a query or a selector pick out less", MaxPast)}
		}
	}
	return nil
}

// keep keeps a store's reading for the next check, where that looks back.
func (e *evaluator) keep(storeID string, reading any) {
	if e.next.readings != nil {
		e.next.readings[storeID] = reading
	}
}

// keepBefore keeps what was seen last of a store that could not be seen now, so that the next reading is compared with that.
func (e *evaluator) keepBefore(storeID string) {
	if before, seen := e.past.readings[storeID]; seen {
		e.keep(storeID, before)
	}
}

// known is what was said of a version of a reading before.
func (e *evaluator) known(version string) (verdict.Verdict, bool) {
	if !e.lasting || version == "" {
		return verdict.Verdict{}, false
	}
	v, known := e.past.judged[version]
	if known {
		e.note(version, v)
	}
	return v, known
}

// note takes note of what is said of a version of a reading.
func (e *evaluator) note(version string, v verdict.Verdict) {
	if !e.lasting || version == "" || v.Fault != nil {
		return
	}
	if e.next.judged == nil {
		e.next.judged = map[string]verdict.Verdict{}
	}
	e.next.judged[version] = v
	e.next.values += verdictValues + (len(version)+len(v.StoreID)+len(v.Message))/bytesPerValue
}
