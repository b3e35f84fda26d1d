// Command compat fails where the CRDs of the work tree are not backward compatible with those of the version before: where objects that
// clusters hold, or manifests that users keep, would be refused or mean something else. make verify runs it.
//
//	compat [-from REF]
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"invariant.dev/operator/hack/history"
	"invariant.dev/operator/hack/programs"
)

func main() {
	from := flag.String("from", "", "the commit or tag to compare with (default: the last tag, else where this branch left main, else the last commit with other CRDs)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code, err := run(ctx, *from, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "compat:", err)
		code = 1
	}
	os.Exit(code)
}

func run(ctx context.Context, from string, out io.Writer) (code int, err error) {
	root, err := programs.Root()
	if err != nil {
		return 0, err
	}
	accepted, err := os.ReadFile(root + "/hack/compat/accepted.txt")
	if err != nil {
		return 0, fmt.Errorf("read which changes are accepted: %w", err)
	}
	return check(ctx, clone{history.Clone{Dir: root}}, from, parseAccepted(string(accepted)), out)
}

// check compares, says with what, and returns the exit code.
func check(ctx context.Context, c clone, from string, accepted map[string]bool, out io.Writer) (code int, err error) {
	before, err := c.previous(ctx, from)
	if err != nil {
		return 0, err
	}
	if before.commit == "" {
		_, err := fmt.Fprintf(out, "CRDs NOT compared with those of the version before: %s\n", before.why)
		return 0, err
	}
	older, err := c.crdsOf(ctx, before.commit)
	if err != nil {
		return 0, err
	}
	newer, err := c.crds()
	if err != nil {
		return 0, err
	}
	found, err := compareAll(older, newer)
	if err != nil {
		return 0, err
	}
	refused, unused := sift(found, accepted)
	for _, line := range unused {
		if _, err := fmt.Fprintf(out, "no change is like this line of hack/compat/accepted.txt any more; remove it: %s\n", line); err != nil {
			return 0, err
		}
	}
	if len(refused) == 0 {
		_, err := fmt.Fprintf(out, "CRDs are backward compatible with those of %s%s\n", before.why, acceptedToo(len(found)))
		return 0, err
	}
	_, err = fmt.Fprintf(out, `The CRDs are not backward compatible with those of %s.
Objects that clusters hold, or manifests that users keep, would be refused or mean something else:
  %s
Leave what was there as it was: add a field that may be left out, loosen a bound, write a new CEL rule over oldSelf so that it binds
changes alone, or serve a new version beside the old one. Where such a change is meant and harms nobody, copy its line into
hack/compat/accepted.txt, with the reason after a #.
`, before.why, strings.Join(refused, "\n  "))
	return 1, err
}

func acceptedToo(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %d changes that are not are accepted in hack/compat/accepted.txt", n)
}

// parseAccepted reads the findings that are accepted: one a line, as they are printed, each with its reason after " # ".
func parseAccepted(text string) map[string]bool {
	accepted := map[string]bool{}
	for line := range strings.Lines(text) {
		finding, _, _ := strings.Cut(line, " # ")
		if finding = strings.TrimSpace(finding); finding != "" && !strings.HasPrefix(finding, "#") {
			accepted[finding] = true
		}
	}
	return accepted
}

// sift returns the findings that are not accepted, and what is accepted and not found.
func sift(found []string, accepted map[string]bool) (refused, unused []string) {
	seen := map[string]bool{}
	for _, finding := range found {
		seen[finding] = true
		if !accepted[finding] {
			refused = append(refused, finding)
		}
	}
	for finding := range accepted {
		if !seen[finding] {
			unused = append(unused, finding)
		}
	}
	return refused, sorted(unused)
}
