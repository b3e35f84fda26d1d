package race

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const racing = `package main

func main() {
	n, done := 0, make(chan struct{})
	go func() { n++; close(done) }()
	n++
	<-done
	println(n)
}
`

func TestARaceOfAProgramThatATestRunsIsFoundWhereTheTestsAreWatched(t *testing.T) {
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "main")
	if err := os.WriteFile(source, []byte(racing), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", slices.Concat([]string{"build", "-o", program}, BuildFlags(), []string{source})...).CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	t.Setenv("GORACE", "")
	if err := Watch(dir); err != nil {
		t.Fatal(err)
	}
	// With a race it ends with an exit code of its own.
	_ = exec.CommandContext(t.Context(), program).Run()
	err := Found(dir)
	if found := err != nil && strings.Contains(err.Error(), "WARNING: DATA RACE"); found != Enabled {
		t.Errorf("found is %v, and the race detector is on is %v: %v", found, Enabled, err)
	}
}
