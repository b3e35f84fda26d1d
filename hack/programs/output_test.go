package programs_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"invariant.dev/operator/hack/programs"
)

func TestATailKeepsTheEndInWholeLines(t *testing.T) {
	var all strings.Builder
	tail := programs.NewTail(&all, 20)
	if got := tail.Last(); got != "it printed nothing" {
		t.Errorf("before anything is printed: %q", got)
	}
	for i := range 9 {
		_, _ = fmt.Fprintf(tail, "line %d\n", i)
	}
	if got, want := tail.String(), "line 7\nline 8"; got != want {
		t.Errorf("kept %q, want %q", got, want)
	}
	if got := strings.Count(all.String(), "\n"); got != 9 {
		t.Errorf("passed on %d lines, want 9", got)
	}
}

func TestATailThatHasRoomKeepsTheFirstLineToo(t *testing.T) {
	tail := programs.NewTail(io.Discard, 100)
	_, _ = fmt.Fprint(tail, "first\nsecond\n")
	if got, want := tail.Last(), "its last output was\nfirst\nsecond"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
