// Package verdict holds the words in which sources, the judge and the ledger speak to each other: what a check
// said of each store, and why it could not say more.
package verdict

import "slices"

// Truth is what an invariant says of a store.
type Truth int

// The three truths. Unknown is the zero value: what nobody has said is not known.
const (
	Unknown Truth = iota
	Satisfied
	Violated
)

func (t Truth) String() string {
	switch t {
	case Satisfied:
		return "Satisfied"
	case Violated:
		return "Violated"
	default:
		return "Unknown"
	}
}

// Reason says in one word why something is Unknown. It is also the reason of an Invariant's condition.
type Reason string

// The reasons. There are no others, so that people can alert on them.
const (
	Timeout           Reason = "Timeout"
	Unreachable       Reason = "Unreachable"
	HTTPStatus        Reason = "HTTPStatus"
	TooLarge          Reason = "TooLarge"
	InvalidBody       Reason = "InvalidBody"
	NotANumber        Reason = "NotANumber"
	NoStores          Reason = "NoStores"
	Partial           Reason = "Partial"
	Forbidden         Reason = "Forbidden"
	InvalidSecret     Reason = "InvalidSecret"
	NoSuchKind        Reason = "NoSuchKind"
	NotSynced         Reason = "NotSynced"
	InvalidExpression Reason = "InvalidExpression"
	EvaluationFailed  Reason = "EvaluationFailed"
	CostExceeded      Reason = "CostExceeded"
	FirstReading      Reason = "FirstReading"
)

// Fault is why nothing can be said: of a store, or of all of them.
type Fault struct {
	Reason Reason
	// Message says what was being done to what, and what went wrong, for a person. It holds nothing of what
	// a source answered.
	Message string
}

func (f *Fault) Error() string { return string(f.Reason) + ": " + f.Message }

// MaxMessage is the length of a violation's message, in bytes: what the API server takes in a ticket.
const MaxMessage = 1024

// Verdict is what an invariant says of one store.
type Verdict struct {
	StoreID string
	Truth   Truth
	// Message is the violation's message, of at most MaxMessage. Empty unless Violated.
	Message string
	// Fault is why the truth is Unknown. Nil unless Unknown.
	Fault *Fault
}

// Judgement is what one check of one invariant said.
type Judgement struct {
	// Fault, if not nil, says why the whole observation failed. Then there are no verdicts.
	Fault *Fault
	// Verdicts has one entry for each store.
	Verdicts []Verdict
	// Incomplete: some readings were of stores that could not be told. Then no store counts as absent.
	Incomplete bool
}

// Truth of the whole: Violated if a store is, else Unknown if one is or the observation failed, else Satisfied.
func (j *Judgement) Truth() Truth {
	switch {
	case j.Fault != nil:
		return Unknown
	case slices.ContainsFunc(j.Verdicts, func(v Verdict) bool { return v.Truth == Violated }):
		return Violated
	case slices.ContainsFunc(j.Verdicts, func(v Verdict) bool { return v.Truth == Unknown }):
		return Unknown
	default:
		return Satisfied
	}
}

// Stores are the IDs of the stores of which the judgement says that.
func (j *Judgement) Stores(truth Truth) []string {
	var stores []string
	for _, v := range j.Verdicts {
		if v.Truth == truth {
			stores = append(stores, v.StoreID)
		}
	}
	return stores
}

// FirstFault is why the whole is Unknown, or else the first store that is; nil if nothing is.
func (j *Judgement) FirstFault() *Fault {
	if j.Fault != nil {
		return j.Fault
	}
	for _, v := range j.Verdicts {
		if v.Fault != nil {
			return v.Fault
		}
	}
	return nil
}
