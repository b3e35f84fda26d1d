package ledger

import (
	"strings"
	"testing"

	"invariant.dev/operator/api/v1alpha1"
)

func TestAHoldIsMadeVisibleHoweverLongItsAnnotationsAre(t *testing.T) {
	ticket := &v1alpha1.Ticket{}
	ticket.Annotations = map[string]string{v1alpha1.HoldAnnotation: "true", v1alpha1.HoldByAnnotation: "ana" + strings.Repeat("ä", 32<<10)}
	status, _ := Tend(ticket, nil, epoch)
	held := v1alpha1.FindCondition(status.Conditions, v1alpha1.ConditionHeld)
	if held == nil || !strings.HasPrefix(held.Message, "kept open by ana") {
		t.Fatalf("the conditions are %+v", status.Conditions)
	}
	// The API server takes 32 KiB.
	if len(held.Message) > MaxMessage {
		t.Errorf("the message of the condition has %d bytes", len(held.Message))
	}
}
