package judge

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"invariant.dev/operator/controllers/verdict"
)

// Result is a judgement, and what it was made of.
type Result struct {
	verdict.Judgement
	// Violating are the readings of the violated stores, for their snapshots.
	Violating map[string]any
	// Built is how much memory they take beside what the source sent, in bytes, at most.
	Built int
}

// Judge says what an observation means at a moment, without knowing of any before it. It stops when ctx ends; then the verdict is
// Unknown, with the reason CostExceeded.
func (p *Program) Judge(ctx context.Context, o verdict.Observation, now time.Time) Result {
	return p.JudgeAfter(ctx, &Past{}, o, now)
}

// JudgeAfter is Judge after an earlier check by the same Program, whose past it carries on. What has not changed since then is
// not judged again, where the expressions do not depend on the time or on the reading before.
func (p *Program) JudgeAfter(ctx context.Context, past *Past, o verdict.Observation, now time.Time) Result {
	if o.Fault != nil {
		return failed(o.Fault)
	}
	lasting := !p.ages && !p.looksBack
	if lasting && o.Version != "" && o.Version == past.version {
		return past.result
	}
	e := &evaluator{ctx: ctx, now: types.Timestamp{Time: now}, past: past, next: Past{}, lasting: lasting}
	result := p.judge(e, o)
	switch {
	case result.Fault == nil:
		if lasting && o.Version != "" {
			// It holds on to the readings of violated stores, which is for nothing where it cannot be used again.
			e.next.version, e.next.result = o.Version, result
		}
		*past = e.next
	case e.next.readings != nil && e.exhausted == nil:
		// Seen, and not judged: the next check has something to look back on.
		*past = e.next
	}
	return result
}

func (p *Program) judge(e *evaluator, o verdict.Observation) Result {
	readings, built, fault := p.pick(e, o.Readings)
	if fault != nil {
		return failed(fault)
	}
	result := p.judgeAll(e, readings)
	if len(result.Violating) > 0 {
		result.Built = built
	}
	return result
}

// judgeAll judges the readings of a check.
func (p *Program) judgeAll(e *evaluator, readings []verdict.Reading) Result {
	if len(readings) > MaxReadings {
		return failed(tooManyReadings(len(readings)))
	}
	if len(readings) < p.minStores {
		return failed(tooFewReadings(len(readings), p.minStores))
	}
	if p.looksBack {
		if fault := e.remember(readings); fault != nil {
			return failed(fault)
		}
	}
	if p.storeID == nil && p.expression != nil {
		return p.judgeWhole(e, readings)
	}
	return p.judgeStores(e, readings)
}

func tooFewReadings(n, minStores int) *verdict.Fault {
	message := fmt.Sprintf("%d readings where minStores wants at least %d", n, minStores)
	if n == 0 {
		message += "; if having none is well, set minStores: 0"
	}
	return &verdict.Fault{Reason: verdict.NoStores, Message: message}
}

func tooManyReadings[N int | types.Int](n N) *verdict.Fault {
	return &verdict.Fault{Reason: verdict.TooLarge, Message: fmt.Sprintf("%d readings where a check takes at most %d", n, MaxReadings)}
}

func failed(fault *verdict.Fault) Result {
	return Result{Judgement: verdict.Judgement{Fault: fault}}
}

// pick applies items to a body that lists its stores, and says what it has built of that, in bytes.
func (p *Program) pick(e *evaluator, readings []verdict.Reading) (picked []verdict.Reading, built int, _ *verdict.Fault) {
	if p.items == nil || len(readings) != 1 {
		return readings, 0, nil
	}
	value, fault := e.eval(p.items, readings[0].Value, nil)
	if fault != nil {
		return nil, 0, fault
	}
	list, ok := value.(traits.Lister)
	if !ok {
		return nil, 0, &verdict.Fault{Reason: verdict.InvalidBody, Message: fmt.Sprintf("source.http.items gives %s where a list is needed", value.Type().TypeName())}
	}
	size, _ := list.Size().(types.Int)
	if size > MaxReadings {
		return nil, 0, tooManyReadings(size)
	}
	if built = builtSize(value); built > maxBuilt {
		return nil, 0, tooMuchBuilt()
	}
	picked = make([]verdict.Reading, 0, size)
	for it := list.Iterator(); it.HasNext() == types.True; {
		picked = append(picked, verdict.Reading{Value: it.Next()})
	}
	return picked, built, nil
}

// judgeWhole gives one verdict over all readings.
func (p *Program) judgeWhole(e *evaluator, readings []verdict.Reading) Result {
	values := make([]any, 0, len(readings))
	for _, r := range readings {
		if r.Fault != nil {
			e.keepBefore("")
			return failed(r.Fault)
		}
		values = append(values, r.Value)
	}
	v := p.verdictOn(e, "", values)
	e.keep("", values)
	if v.Fault != nil {
		return failed(v.Fault)
	}
	result := Result{Judgement: verdict.Judgement{Verdicts: []verdict.Verdict{v}}}
	if v.Truth == verdict.Violated {
		result.Violating = map[string]any{"": values}
	}
	return result
}

// judgeStores gives a verdict on each store. Readings with the same ID are one store: Violated if any is, else Unknown
// if any is.
func (p *Program) judgeStores(e *evaluator, readings []verdict.Reading) Result {
	stores := make(map[string]verdict.Verdict, len(readings))
	result := Result{Violating: map[string]any{}}
	for _, r := range readings {
		v := p.judgeReading(e, r)
		if e.exhausted != nil {
			return failed(e.exhausted)
		}
		storeID := v.StoreID
		result.Incomplete = result.Incomplete || (storeID == "" && p.storeID != nil)
		before, again := stores[storeID]
		if again && rank(before) <= rank(v) {
			continue
		}
		stores[storeID] = v
		if v.Truth == verdict.Violated {
			result.Violating[storeID] = r.Value
		}
	}
	for _, v := range stores {
		result.Verdicts = append(result.Verdicts, v)
	}
	slices.SortFunc(result.Verdicts, func(a, b verdict.Verdict) int { return cmp.Compare(a.StoreID, b.StoreID) })
	return result
}

// judgeReading gives a verdict on one reading, or takes that on the same one before.
func (p *Program) judgeReading(e *evaluator, r verdict.Reading) verdict.Verdict {
	if v, known := e.known(r.Version); known {
		return v
	}
	storeID, fault := p.storeIDOf(e, r.Value)
	v := verdict.Verdict{StoreID: storeID, Fault: cmp.Or(r.Fault, fault)}
	if v.Fault != nil {
		e.keepBefore(storeID)
		return v
	}
	v = p.verdictOn(e, storeID, r.Value)
	e.keep(storeID, r.Value)
	e.note(r.Version, v)
	return v
}

// rank orders what readings of the same store say: the lowest holds.
func rank(v verdict.Verdict) int {
	return slices.Index([]verdict.Truth{verdict.Violated, verdict.Unknown, verdict.Satisfied}, v.Truth)
}

// storeIDOf is the ID of the store that a reading is about. Where it cannot be told, it is empty and there is a fault.
func (p *Program) storeIDOf(e *evaluator, reading any) (string, *verdict.Fault) {
	if p.storeID == nil {
		return labelsID(reading), nil
	}
	value, fault := e.eval(p.storeID, reading, nil)
	if fault != nil {
		fault.Message += p.itemsHint(fault.Message)
		return "", fault
	}
	id, ok := value.(types.String)
	switch {
	case !ok:
		return "", evaluationFailed("storeID", fmt.Sprintf("it gives %s where a string is needed: write string(...) around it", value.Type().TypeName()))
	case id == "":
		return "", evaluationFailed("storeID", "it gives an empty string")
	case len(id) > MaxStoreID:
		return "", evaluationFailed("storeID", fmt.Sprintf("it gives %d bytes where at most %d are taken", len(id), MaxStoreID))
	}
	return strings.ToValidUTF8(string(id), "�"), nil
}

// verdictOn judges one reading.
func (p *Program) verdictOn(e *evaluator, storeID string, reading any) verdict.Verdict {
	before, seen := e.past.readings[storeID]
	if p.expression == nil {
		return verdict.Verdict{StoreID: storeID, Truth: verdict.Violated, Message: p.messageOf(e, reading, before)}
	}
	if p.looksBack && !seen {
		return verdict.Verdict{StoreID: storeID, Fault: &verdict.Fault{Reason: verdict.FirstReading,
			Message: "oldSelf: this is the first reading, so there is none to compare it with; the next check has one"}}
	}
	value, fault := e.eval(p.expression, reading, before)
	if fault != nil {
		fault.Message += missingFieldHint(fault.Message, p.expression.source) + p.shapeHint(fault.Message)
		return verdict.Verdict{StoreID: storeID, Fault: fault}
	}
	switch value {
	case types.True:
		return verdict.Verdict{StoreID: storeID, Truth: verdict.Satisfied}
	case types.False:
		return verdict.Verdict{StoreID: storeID, Truth: verdict.Violated, Message: p.messageOf(e, reading, before)}
	}
	return verdict.Verdict{StoreID: storeID, Fault: evaluationFailed("expression",
		fmt.Sprintf("it gives %s where true or false is needed: compare it with something", value.Type().TypeName()))}
}

// shapeHint says what self is, where an expression takes a list for one of its readings.
func (p *Program) shapeHint(message string) string {
	if p.storeID == nil && strings.Contains(message, "unsupported index type 'string' in list") {
		return "; without storeID, self is the list of all readings"
	}
	return ""
}

// itemsHint says what a reading is, where the ID of a store is looked for in an answer as a whole.
func (p *Program) itemsHint(message string) string {
	if p.wholeAnswer && (strings.Contains(message, "no such key") || strings.Contains(message, "unsupported index type 'string' in list")) {
		return "; without source.http.items, the whole answer is one reading"
	}
	return ""
}

// messageOf is a violation's message, no longer than a ticket takes it: there may be ten thousand of them.
func (p *Program) messageOf(e *evaluator, reading, before any) string {
	return verdict.Truncate(p.wholeMessage(e, reading, before), verdict.MaxMessage)
}

// wholeMessage is the message before it is cut. One that fails does not unmake the violation.
func (p *Program) wholeMessage(e *evaluator, reading, before any) string {
	if p.message == nil {
		return p.fallback
	}
	value, fault := e.eval(p.message, reading, before)
	text, ok := value.(types.String)
	switch {
	case fault != nil:
		return p.fallback + " (" + fault.Message + ")"
	case !ok:
		return p.fallback + " (message: it gives " + value.Type().TypeName() + " where a string is needed)"
	}
	return strings.ToValidUTF8(string(text), "�")
}

// evaluator evaluates within the cost and the time of one check.
type evaluator struct {
	ctx  context.Context
	now  types.Timestamp
	cost uint64
	// exhausted is set once the check has used up its cost or its time; nothing is evaluated after that.
	exhausted *verdict.Fault
	// past is what the checks before left, and next what this one leaves.
	past *Past
	next Past
	// lasting: what is said of a reading holds for as long as it does not change.
	lasting bool
}

func (e *evaluator) eval(x *expression, self, before any) (ref.Val, *verdict.Fault) {
	if e.exhausted != nil {
		return nil, e.exhausted
	}
	value, details, err := x.program.ContextEval(e.ctx, map[string]any{nameSelf: self, nameOldSelf: before, nameNow: e.now})
	if details != nil && details.ActualCost() != nil {
		e.cost += *details.ActualCost()
	}
	switch {
	case e.ctx.Err() != nil:
		e.exhausted = &verdict.Fault{Reason: verdict.CostExceeded, Message: x.field + ": the check ran out of time"}
		return nil, e.exhausted
	case e.cost > maxCheckCost:
		e.exhausted = tooMuchToCompute(x)
		return nil, e.exhausted
	case isCostLimit(err):
		return nil, tooMuchToCompute(x)
	case err != nil:
		return nil, evaluationFailed(x.field, withoutData(err.Error(), x.source)+overloadHint(err.Error()))
	}
	return value, nil
}

func tooMuchToCompute(x *expression) *verdict.Fault {
	return &verdict.Fault{Reason: verdict.CostExceeded, Message: x.field + ": too much to compute in one check; look at fewer stores, or at less of each"}
}

// plainErrors are what errors of CEL say without quoting a reading. A quotation follows in some: a key, what is no number, no
// address, no regular expression.
var plainErrors = regexp.MustCompile(`^(?:` + strings.Join([]string{
	`no such overload.*`, `(?:division|modulus) by zero`, `(?:unsigned )?(?:integer|duration|timestamp) overflow`, `NaN values cannot be ordered`,
	`index out of (?:bounds|range): -?\d+`, `index '-?\d+' out of range in list size '\d+'`, `invalid substring range\. start: -?\d+, end: -?\d+`,
	`cannot slice\(.*`, `lists\.range: .*`, `\w+ called on empty list`, `optional\.none\(\) dereference`, `cannot convert value to integer`, `range error converting .* to \w+`,
	`(?:unexpected )?type conversion error from '[\w.]+' to '[\w.]+'`, `[\w ]*parse error during conversion from string`, `invalid UTF-8 in bytes, cannot convert to string`,
	`unsupported index (?:type '[\w.]+' in list|value)`, `unsupported comprehension range type`, `cannot initialize optional (?:list element|entry)`,
	`unrecognized formatting clause`, `index \d+ out of range`, `(?:couldn't|could not|cannot) convert`, `no formatting function for [\w.]+`, `unexpected end of string`,
	`could not find end of precision specifier`, `timezone offset minutes out of range`, `short version cannot contain PreRelease/Build meta data`,
	`IP Address`, `Illegal regex`, "error parsing regexp: [^`]*[^`: ]", `unknown time zone`, `insert failed: key`, `join: invalid input`, `quantities must match the regular expression '[^']*'`, `no such key`, `internal error: runtime error: .*`,
}, "|") + `)`)

// withoutData cuts what an error of CEL quotes of a reading: only the author's own words may reach a message.
func withoutData(message, source string) string {
	if _, key, missing := strings.Cut(message, "no such key: "); missing && strings.Contains(source, key) {
		return message
	}
	if plain := plainErrors.FindString(message); plain != "" {
		return plain
	}
	return "it cannot be evaluated"
}

// overloadHint says what to do about a value of another type than was thought.
func overloadHint(message string) string {
	if !strings.Contains(message, "no such overload") {
		return ""
	}
	return "; where a value has another type, convert it with string(), int() or double()"
}

func evaluationFailed(field, why string) *verdict.Fault {
	return &verdict.Fault{Reason: verdict.EvaluationFailed, Message: clip(field + ": " + why)}
}

// maxFaultMessage keeps what an expression says of the data it failed on short.
const maxFaultMessage = 256

func clip(s string) string {
	if len(s) > maxFaultMessage {
		s = s[:maxFaultMessage]
	}
	return strings.ToValidUTF8(s, "�")
}

var missingKey = regexp.MustCompile(`no such key: ([A-Za-z_][A-Za-z0-9_]*)$`)

// missingFieldHint says what to write where a field may be missing: the optional form of what the expression has.
func missingFieldHint(message, source string) string {
	key := missingKey.FindStringSubmatch(message)
	if key == nil {
		return ""
	}
	access := regexp.MustCompile(`([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)\.` + key[1] + `\b`).FindStringSubmatch(source)
	if access == nil {
		return ""
	}
	return fmt.Sprintf("; where it may be missing write %s.?%s.orValue(0), with the value to assume in place of 0", access[1], key[1])
}
