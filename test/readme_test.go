package test

import (
	"os"
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
