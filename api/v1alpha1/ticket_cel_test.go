package v1alpha1_test

import (
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"invariant.dev/operator/api/v1alpha1"
)

func violations(n int) []any {
	var list []any
	for i := range n {
		list = append(list, map[string]any{"invariant": "store-down", "storeID": fmt.Sprint(i), "reason": "Violated", "severity": "Critical", "firstSeenTime": "2026-11-24T03:00:00Z"})
	}
	return list
}

func TestATicketIsOpenAtOnce(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	for name, status := range map[string]any{"without-status": removed{}, "with-status": map[string]any{"state": "Resolved", "occurrences": int64(7)}} {
		created := object(t, namespace, ticketManifest, changes{"metadata.name": name, "status": status})
		must(t, c.Create(t.Context(), created))
		var ticket v1alpha1.Ticket
		must(t, c.Get(t.Context(), client.ObjectKeyFromObject(created), &ticket))
		if ticket.Status.State != v1alpha1.Open || ticket.Status.Occurrences != 0 {
			t.Errorf("%s: a ticket just created has the status %+v; want Open and nothing else", name, ticket.Status)
		}
	}
}

func TestABadTicketIsRefused(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	for name, test := range map[string]struct {
		changes changes
		says    string
	}{
		"without violations":       {changes{"spec.violations": []any{}}, "spec.violations in body should have at least 1 items"},
		"with 1001 violations":     {changes{"spec.violations": violations(1001)}, "spec.violations: Too many: 1001: must have at most 1000 items"},
		"of no system":             {changes{"spec.system": ""}, "spec.system in body should be at least 1 chars long"},
		"of a long system":         {changes{"spec.system": strings.Repeat("s", 41)}, "spec.system: Too long: may not be more than 40"},
		"without a time":           {changes{"spec.openedTime": removed{}}, "spec.openedTime: Required value"},
		"opened at a small t":      {changes{"spec.openedTime": "2026-11-24t03:00:00z"}, "spec.openedTime in body should match"},
		"opened on 30 February":    {changes{"spec.openedTime": "2026-02-30T03:00:00Z"}, "must be of type date-time"},
		"with an unknown reason":   {changes{"spec.violations": []any{map[string]any{"invariant": "i", "reason": "Broken", "severity": "Info", "firstSeenTime": "2026-11-24T03:00:00Z"}}}, `supported values: "Violated", "Unobservable"`},
		"with an unknown severity": {changes{"spec.violations": []any{map[string]any{"invariant": "i", "reason": "Violated", "severity": "Bad", "firstSeenTime": "2026-11-24T03:00:00Z"}}}, `supported values: "Critical", "Warning", "Info"`},
		"with a long message":      {changes{"spec.violations": []any{map[string]any{"invariant": "i", "reason": "Violated", "severity": "Info", "firstSeenTime": "2026-11-24T03:00:00Z", "message": strings.Repeat("x", 1025)}}}, "may not be more than 1024"},
		"without a batch key":      {changes{"spec.batchKey": removed{}}, "spec.batchKey: Required value"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRefused(t, c.Create(t.Context(), object(t, namespace, ticketManifest, test.changes), client.DryRunAll), test.says)
		})
	}
}

func TestATicketOfAThousandViolationsIsAdmitted(t *testing.T) {
	t.Parallel()
	must(t, newClient(t).Create(t.Context(), object(t, newNamespace(t), ticketManifest, changes{"spec.violations": violations(1000)}), client.DryRunAll))
}

func TestTheSpecOfATicketNeverChanges(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	ticket := object(t, namespace, ticketManifest, nil)
	must(t, c.Create(t.Context(), ticket))
	for name, changed := range map[string]changes{
		"another system":    {"spec.system": "etcd"},
		"another violation": {"spec.violations": violations(1)},
		"a previous ticket": {"spec.previous": "tikv-prod-16"},
		"another batch":     {"spec.batchKey": "tikv-prod-16"},
		"another open time": {"spec.openedTime": "2026-11-24T03:00:01Z"},
	} {
		next := ticket.DeepCopy()
		change(t, next, changed)
		err := c.Update(t.Context(), next)
		if err == nil {
			t.Errorf("%s was admitted", name)
			continue
		}
		wantRefused(t, err, "a ticket's spec is the record of what opened it and cannot change: write acknowledgement, diagnosis and resolution into its status")
	}
	next := ticket.DeepCopy()
	next.SetAnnotations(map[string]string{v1alpha1.HoldAnnotation: "true"})
	must(t, c.Update(t.Context(), next))
}

func TestWhatPeopleWroteOnATicketStays(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	for name, test := range map[string]struct {
		write, erase []string
		says         string
		rewrite      string
	}{
		"an acknowledgement can be taken over and not removed": {
			[]string{`{"acknowledgement":{"by":"ana"}}`}, []string{`{"acknowledgement":null}`},
			"an acknowledgement stays on its ticket", `{"acknowledgement":{"by":"bo","takenFrom":"ana","note":"mine now"}}`},
		"a diagnosis can be replaced and not removed": {
			[]string{`{"diagnosis":{"by":"ana","text":"the disk is full"}}`}, []string{`{"diagnosis":null}`},
			"a diagnosis stays on its ticket: write a better one in its place",
			`{"diagnosis":{"by":"ana","text":"the fan is broken","previous":[{"by":"ana","text":"the disk is full"}]}}`},
		"a resolution is written once": {
			[]string{`{"state":"Resolved","resolution":{"by":"ana","reason":"Manual"}}`},
			[]string{`{"resolution":null}`, `{"resolution":{"by":"bo"}}`, `{"resolution":{"reason":"Cleared"}}`, `{"resolution":{"note":"again"}}`},
			"a resolution is written once", `{"resolution":{"by":"ana","reason":"Manual"}}`},
		"a state cannot be taken away": {
			[]string{entering[v1alpha1.Acknowledged]}, []string{`{"state":null}`}, "a ticket's state only goes forward", entering[v1alpha1.Diagnosed]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ticket := object(t, namespace, ticketManifest, changes{"metadata.name": strings.ReplaceAll(name, " ", "-")})
			must(t, c.Create(t.Context(), ticket))
			for _, patch := range test.write {
				must(t, patchStatus(t.Context(), c, ticket, patch))
			}
			for _, patch := range test.erase {
				wantRefused(t, patchStatus(t.Context(), c, ticket, patch), test.says)
			}
			must(t, patchStatus(t.Context(), c, ticket, test.rewrite))
		})
	}
}

func TestAResolvedTicketTakesADiagnosis(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	ticket := object(t, namespace, ticketManifest, nil)
	must(t, c.Create(t.Context(), ticket))
	must(t, patchStatus(t.Context(), c, ticket, `{"state":"Resolved","resolution":{"by":"ana"}}`))
	must(t, patchStatus(t.Context(), c, ticket, `{"diagnosis":{"by":"ana","text":"the disk was full"}}`))
	var got v1alpha1.Ticket
	must(t, c.Get(t.Context(), client.ObjectKeyFromObject(ticket), &got))
	if got.Status.Resolution.Reason != v1alpha1.Manual {
		t.Errorf("a person's resolution has the reason %q, want Manual", got.Status.Resolution.Reason)
	}
}

func TestAnAcknowledgementIsTakenOverOnlyFromWhomItNames(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	ticket := object(t, namespace, ticketManifest, nil)
	must(t, c.Create(t.Context(), ticket))
	says := "somebody else has acknowledged the ticket: to take it over, write who has it into acknowledgement.takenFrom"
	for _, step := range []struct{ patch, refused string }{
		{`{"acknowledgement":{"by":"ana"}}`, ""},
		{`{"acknowledgement":{"by":"ana","note":"a word more"}}`, ""},
		{`{"acknowledgement":{"by":"bo"}}`, says},
		{`{"acknowledgement":{"by":"bo","takenFrom":"carl"}}`, says},
		{`{"acknowledgement":{"by":"bo","takenFrom":"ana"}}`, ""},
		// What stands there from the last time does not do for the next.
		{`{"acknowledgement":{"by":"carl"}}`, says},
		{`{"acknowledgement":{"by":"ana"}}`, "takenFrom names somebody else"},
		{`{"acknowledgement":{"by":"ana","takenFrom":"bo"}}`, ""},
	} {
		err := patchStatus(t.Context(), c, ticket, step.patch)
		if step.refused == "" {
			must(t, err)
			continue
		}
		wantRefused(t, err, step.refused)
	}
}

func TestADiagnosisIsReplacedOnlyByOneThatKeepsIt(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	ticket := object(t, namespace, ticketManifest, nil)
	must(t, c.Create(t.Context(), ticket))
	must(t, patchStatus(t.Context(), c, ticket, `{"state":"Diagnosed","diagnosis":{"by":"ana","text":"the disk is full"}}`))
	for name, patch := range map[string]string{
		"nothing is kept":       `{"diagnosis":{"by":"bo","text":"the fan is broken"}}`,
		"under another's name":  `{"diagnosis":{"by":"bo","text":"the disk is full"}}`,
		"kept as somebody's":    `{"diagnosis":{"by":"bo","text":"the fan is broken","previous":[{"by":"bo","text":"the disk is full"}]}}`,
		"another text is kept":  `{"diagnosis":{"by":"bo","text":"the fan is broken","previous":[{"by":"ana","text":"all is well"}]}}`,
		"by its author as well": `{"diagnosis":{"by":"ana","text":"the fan is broken"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			wantRefused(t, patchStatus(t.Context(), c, ticket.DeepCopy(), patch), "there is a diagnosis already: to replace it, keep it as the first of diagnosis.previous")
		})
	}
	var now v1alpha1.Ticket
	must(t, c.Get(t.Context(), client.ObjectKeyFromObject(ticket), &now))
	texts := []string{"é" + strings.Repeat("日本語", 21_000), "the fan is broken", "it was DNS", "it was not DNS"}
	for _, text := range texts {
		now.Status.Diagnosis = now.Status.Diagnosis.Replace(v1alpha1.Diagnosis{By: "bo", Text: text})
		must(t, c.Status().Update(t.Context(), &now))
	}
	previous := now.Status.Diagnosis.Previous
	if len(previous) != 3 || previous[0].Text != "it was DNS" || previous[1].Text != "the fan is broken" || !previous[2].Truncated ||
		len(previous[2].Text) > 8<<10 || !strings.HasPrefix(texts[0], previous[2].Text) {
		t.Errorf("want the last three diagnoses that were replaced, the first 8 KiB of each, got %.200v", previous)
	}
}

func TestAResolutionCanBeGivenItsTimeAndNothingElse(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	ticket := object(t, namespace, ticketManifest, nil)
	must(t, c.Create(t.Context(), ticket))
	must(t, patchStatus(t.Context(), c, ticket, entering[v1alpha1.Resolved]))
	must(t, patchStatus(t.Context(), c, ticket, `{"resolution":{"time":"2026-11-24T03:00:00Z"}}`))
	for _, patch := range []string{`{"resolution":{"time":"2026-11-24T03:00:01Z"}}`, `{"resolution":{"time":null}}`} {
		wantRefused(t, patchStatus(t.Context(), c, ticket, patch), "a resolution is written once")
	}
}

func TestABadStatusOfATicketIsRefused(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	ticket := object(t, namespace, ticketManifest, nil)
	must(t, c.Create(t.Context(), ticket))
	for patch, says := range map[string]string{
		`{"state":"Closed"}`:                                               `supported values: "Open", "Acknowledged", "Diagnosed", "Resolved"`,
		`{"severity":"Fatal"}`:                                             `supported values: "Critical", "Warning", "Info"`,
		`{"occurrences":-1}`:                                               "should be greater than or equal to 0",
		`{"occurrences":2147483648}`:                                       "should be less than or equal to 2147483647",
		`{"occurrences":1.5}`:                                              "must be of type integer",
		`{"diagnosis":{"by":"ana","text":""}}`:                             "should be at least 1 chars long",
		`{"diagnosis":{"text":"full"}}`:                                    "status.diagnosis.by: Required value",
		`{"acknowledgement":{"note":"on it"}}`:                             "status.acknowledgement.by: Required value",
		`{"acknowledgement":{"by":""}}`:                                    "should be at least 1 chars long",
		`{"acknowledgement":{"by":"ana","takenFrom":"ana"}}`:               "takenFrom names somebody else",
		`{"state":"Acknowledged"}`:                                         "say who acknowledges the ticket: write acknowledgement.by with the state",
		`{"state":"Diagnosed"}`:                                            "say what the matter is: write diagnosis.by and diagnosis.text with the state",
		`{"state":"Resolved"}`:                                             "say who resolves the ticket: write resolution.by with the state",
		`{"state":"Resolved","resolution":{"note":"done"}}`:                "status.resolution.by: Required value",
		`{"resolution":{"by":"ana"}}`:                                      "a resolution goes with the state Resolved: write both",
		`{"diagnosis":{"by":"ana"}}`:                                       "status.diagnosis.text: Required value",
		`{"resolution":{"reason":"Bored"}}`:                                `supported values: "Cleared", "Manual", "InvariantDeleted", "Duplicate"`,
		`{"acknowledgement":{"note":"` + strings.Repeat("x", 4097) + `"}}`: "may not be more than 4096",
		`{"diagnosis":{"text":"` + strings.Repeat("x", 65537) + `"}}`:      "may not be more than 65536",
		`{"lastSeenTime":"2026-11-24t03:00:00z"}`:                          "should match",
	} {
		t.Run(patch[:min(len(patch), 60)], func(t *testing.T) {
			t.Parallel()
			wantRefused(t, patchStatus(t.Context(), c, ticket.DeepCopy(), patch), says)
		})
	}
}

func TestTicketsAreSelectedByTheirSystemStateAndSeverity(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	for name, patch := range map[string]string{"tikv-1": `{"state":"Resolved","resolution":{"by":"ana"},"severity":"Critical"}`, "tikv-2": `{"severity":"Critical"}`, "etcd-1": `{"severity":"Info"}`} {
		ticket := object(t, namespace, ticketManifest, changes{"metadata.name": name, "spec.system": strings.Split(name, "-")[0]})
		must(t, c.Create(t.Context(), ticket))
		must(t, patchStatus(t.Context(), c, ticket, patch))
	}
	for selector, want := range map[string]string{
		"status.state!=Resolved":                    "etcd-1 tikv-2",
		"status.state=Resolved":                     "tikv-1",
		"spec.system=tikv":                          "tikv-1 tikv-2",
		"spec.system=tikv,status.state!=Resolved":   "tikv-2",
		"status.severity=Critical":                  "tikv-1 tikv-2",
		"status.state!=Resolved,status.state!=Open": "",
	} {
		var tickets v1alpha1.TicketList
		must(t, c.List(t.Context(), &tickets, client.InNamespace(namespace), &client.ListOptions{Raw: fieldSelector(selector)}))
		var names []string
		for _, ticket := range tickets.Items {
			names = append(names, ticket.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("--field-selector %s selects %q, want %q", selector, got, want)
		}
		if got := kubectlNames(t, namespace, "tickets", selector); got != want {
			t.Errorf("kubectl get tickets --field-selector %s shows %q, want %q", selector, got, want)
		}
	}
}

func TestInvariantsAreSelectedByTheirSystem(t *testing.T) {
	t.Parallel()
	namespace, c := newNamespace(t), newClient(t)
	for name, system := range map[string]any{"a": "tikv", "b": "etcd", "c": removed{}} {
		must(t, c.Create(t.Context(), object(t, namespace, invariantManifest, changes{"metadata.name": name, "spec.system": system})))
	}
	for selector, want := range map[string]string{"spec.system=tikv": "a", "spec.system!=tikv": "b c", "spec.system=": "c"} {
		if got := kubectlNames(t, namespace, "invariants", selector); got != want {
			t.Errorf("kubectl get invariants --field-selector %s shows %q, want %q", selector, got, want)
		}
	}
}
