// Package history reads the history of this repository: what was released, and what came before.
package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Clone is a clone of the repository, or a copy of its files without a history.
type Clone struct {
	// Dir is its root.
	Dir string
}

// Commit is the commit of a name, such as a tag or HEAD~1. The error says that there is none.
func (c Clone) Commit(ctx context.Context, name string) (string, error) {
	commit, err := c.Git(ctx, "rev-parse", "--verify", "--quiet", name+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("there is no commit or tag %s in this clone", name)
	}
	return commit, nil
}

// Release is the tag of the last release up to a commit, such as v1.2.3: what clusters run. It is empty where nothing was
// released, or where there is no history to know it from.
func (c Clone) Release(ctx context.Context, commit string) string {
	tag, err := c.Git(ctx, "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", commit)
	if err != nil {
		return ""
	}
	return tag
}

// Describe names a commit for a person.
func (c Clone) Describe(ctx context.Context, commit string) string {
	name, err := c.Git(ctx, "log", "-1", "--format=%h (%s)", commit)
	if err != nil {
		return commit
	}
	return name
}

// Git runs git in the clone and returns what it printed, without the space around it.
func (c Clone) Git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = c.Dir
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), errors.Join(err, context.Cause(ctx), errors.New(strings.TrimSpace(errOut.String()))))
	}
	return strings.TrimSpace(string(out)), nil
}
