package clitest

import (
	"fmt"
	"strings"
	"testing"
)

// Result is what a command printed, and its exit code.
type Result struct {
	T        *testing.T
	Command  string
	Out, Err string
	Code     int
}

// String is all of it, for the message of a test.
func (r Result) String() string {
	return fmt.Sprintf("%s\nexit code %d, stdout:\n%s\nstderr:\n%s", r.Command, r.Code, r.Out, r.Err)
}

// OK wants the command to have succeeded, with nothing to say on stderr.
func (r Result) OK() Result {
	r.T.Helper()
	if r.Code != 0 || r.Err != "" {
		r.T.Fatalf("want success and nothing on stderr: %v", r)
	}
	return r
}

// Printed wants all of stdout to be this.
func (r Result) Printed(want string) Result {
	r.T.Helper()
	if r.Out != want {
		r.T.Errorf("want stdout\n%s\ngot %v", want, r)
	}
	return r
}

// Warned wants success, and all of stderr to be this.
func (r Result) Warned(want string) Result {
	r.T.Helper()
	if r.Code != 0 || r.Err != want {
		r.T.Errorf("want success and stderr\n%s\ngot %v", want, r)
	}
	return r
}

// Failed wants exit code 1 and errors on stderr, one for each of the wanted, in this order, that contain them.
func (r Result) Failed(want ...string) Result {
	r.T.Helper()
	var errs []string
	for _, line := range strings.SplitAfter(r.Err, "\n") {
		if strings.HasPrefix(line, "error: ") || len(errs) == 0 {
			errs = append(errs, line)
		} else {
			errs[len(errs)-1] += line
		}
	}
	if r.Code != 1 || len(errs) != len(want) {
		r.T.Fatalf("want exit code 1 and %d errors: %v", len(want), r)
	}
	for i, message := range errs {
		if !strings.HasPrefix(message, "error: ") || !strings.Contains(message, want[i]) {
			r.T.Errorf("error %d does not say %q: %v", i+1, want[i], r)
		}
	}
	for _, never := range []string{"goroutine", "Usage:", "Flags:"} {
		if strings.Contains(r.Err+r.Out, never) {
			r.T.Errorf("more is shown than the error: %v", r)
		}
	}
	return r
}

// Has wants stdout to contain each of these.
func (r Result) Has(want ...string) Result {
	r.T.Helper()
	for _, w := range want {
		if !strings.Contains(r.Out, w) {
			r.T.Errorf("stdout does not contain %q: %v", w, r)
		}
	}
	return r
}

// Rows is the first words of the lines on stdout.
func (r Result) Rows() string {
	var rows []string
	for line := range strings.Lines(r.Out) {
		rows = append(rows, strings.Fields(line)[0])
	}
	return strings.Join(rows, " ")
}
