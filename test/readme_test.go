package test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestTheInvariantsOfTheReadmeApply(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	must(t, err)
	applied := 0
	for i, block := range strings.Split(string(readme), "```") {
		manifest, isYAML := strings.CutPrefix(block, "yaml\n")
		if i%2 == 0 || !isYAML || !strings.Contains(manifest, "kind: Invariant") {
			continue
		}
		kubectl(t, manifest, "apply", "--dry-run=server", "-f", "-")
		applied++
	}
	if applied == 0 {
		t.Error("the README has no Invariant")
	}
}

// statusPatch is what is written to the status of a ticket, as the documents and alerts show it.
var statusPatch = regexp.MustCompile(`-p\s+'(\{"status":.*?\})'`)

func TestEveryPatchThatTheDocumentsAndAlertsShowIsTaken(t *testing.T) {
	kubectl(t, `{apiVersion: v1, kind: Namespace, metadata: {name: shown}}`, "apply", "-f", "-")
	makeTicket(t, "shown", "a-1")
	for _, file := range []string{"../README.md", "../docs/tickets.md", "../config/prometheus/rules.yaml"} {
		text, err := os.ReadFile(file)
		must(t, err)
		patches := statusPatch.FindAllStringSubmatch(string(text), -1)
		if len(patches) == 0 {
			t.Errorf("%s shows no patch", file)
		}
		for _, patch := range patches {
			kubectl(t, "", "patch", "ticket", "a-1", "-n", "shown", "--subresource=status", "--type=merge", "--dry-run=server", "-p", patch[1])
		}
	}
}
