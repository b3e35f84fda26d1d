// Guards removes the guards that keep the rules, one by one, and wants a test to turn red for each.
//
// It changes no file: the compiler is given another content for one, with -overlay. It exits with 1 if a test stayed green, and with 2
// if a guard is no longer where the table says.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"invariant.dev/operator/hack/programs"
)

// guard is a piece of the product without which some rule would not hold.
type guard struct {
	// name says what it does, and rule which rule of the product it keeps.
	name, rule string
	// file holds it; without is what is left of old when it is gone. old stands there once.
	file, old, without string
	// pkg and test are the test that must turn red.
	pkg, test string
}

var (
	errGreen = errors.New("the test stays green without it")
	errGone  = errors.New("the guard is not there")
)

func main() {
	run := flag.String("run", "", "only the guards whose name matches this regular expression")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := removeAll(ctx, *run); err != nil {
		fmt.Fprintln(os.Stderr, "make guards:", err)
		if errors.Is(err, errGone) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

// removeAll removes each guard in turn, and says of each what happened.
func removeAll(ctx context.Context, run string) error {
	matches, err := regexp.Compile(run)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	root, err := programs.Root()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "guards-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var errs []error
	for _, g := range guards {
		if !matches.MatchString(g.name) {
			continue
		}
		began := time.Now()
		red, err := g.remove(ctx, root, dir)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", g.name, err)
			errs = append(errs, err)
			fmt.Printf("GREEN  %v\n", err)
			continue
		}
		fmt.Printf("red    %s: %s: %s %s (%s)\n", g.rule, g.name, g.pkg, red, time.Since(began).Round(time.Second))
	}
	return errors.Join(errs...)
}

// failed finds the first test that failed.
var failed = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)

// remove runs the guard's test without the guard, and returns the test that failed.
func (g guard) remove(ctx context.Context, root, dir string) (red string, err error) {
	overlay, err := g.overlay(root, dir)
	if err != nil {
		return "", err
	}
	args := []string{"test", "-count=1", "-timeout=10m", "-run", g.test, g.pkg}
	if g.pkg == ledger {
		// What fails here is no find to be kept.
		args = append(args, "-rapid.nofailfile")
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	// In the environment it also reaches the programs that tests build.
	cmd.Env = append(os.Environ(), "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return "", errGreen
	}
	found := failed.FindSubmatch(out)
	if found == nil {
		return "", fmt.Errorf("no test ran: %w: %s", err, out)
	}
	return string(found[1]), nil
}

// overlay writes the file without the guard, and what tells the compiler to read it.
func (g guard) overlay(root, dir string) (path string, err error) {
	file := filepath.Join(root, g.file)
	content, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(content), g.old); n != 1 {
		return "", fmt.Errorf("%w: %s has %q %d times", errGone, g.file, g.old, n)
	}
	changed := filepath.Join(dir, "changed.go")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(content), g.old, g.without, 1)), 0o600); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {file: changed}})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, replace, 0o600)
}
