package cli

import (
	"strings"
	"testing"
)

func TestANameIsReadAsItIsTypedOrPrinted(t *testing.T) {
	for arg, want := range map[string]string{
		"sys-1":                                  "sys-1 sys-1",
		"ticket/sys-1":                           "sys-1 -",
		"tickets/sys-1":                          "sys-1 -",
		"tkt/sys-1":                              "sys-1 -",
		"ticket.operator.invariant.dev/sys-1":    "sys-1 -",
		"tickets.operator.invariant.dev/sys-1":   "sys-1 -",
		"invariant/down":                         "- down",
		"invariants/down":                        "- down",
		"inv/down":                               "- down",
		"invariant.operator.invariant.dev/down":  "- down",
		"invariants.operator.invariant.dev/down": "- down",
		"pod/down":                               "- -",
		"invariants.other.dev/down":              "- -",
		"invariant/":                             "- -",
		"ticket/invariant/down":                  "- -",
		"":                                       "- -",
	} {
		ticket, ticketErr := Tickets.ParseName(arg)
		invariant, invariantErr := Invariants.ParseName(arg)
		if ticketErr != nil {
			ticket = "-"
		}
		if invariantErr != nil {
			invariant = "-"
		}
		if got := ticket + " " + invariant; got != want {
			t.Errorf("%q: got %s, want %s", arg, got, want)
		}
	}
	t.Run("and an error says what would be one", func(t *testing.T) {
		_, err := Invariants.ParseName("pod/down")
		if err == nil || !strings.HasPrefix(err.Error(), `"pod/down" is not the name of an invariant, such as `) {
			t.Error(err)
		}
	})
}
