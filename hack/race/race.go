// Package race tells tests whether the race detector watches them, and has it watch the programs that they build too.
package race

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// BuildFlags are the flags with which go build has a program watched as this one is.
func BuildFlags() []string {
	if Enabled {
		return []string{"-race"}
	}
	return nil
}

// Watch has each program that is started from now on write the races it is found in into dir, instead of among its output,
// where nobody would look.
func Watch(dir string) error {
	if !Enabled {
		return nil
	}
	return os.Setenv("GORACE", os.Getenv("GORACE")+" log_path="+filepath.Join(dir, "race"))
}

// Found returns an error with the races that were written into dir.
func Found(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "race.*"))
	if err != nil {
		return err
	}
	var found []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		found = append(found, fmt.Errorf("a program that the tests ran has a data race:\n%s", text))
	}
	return errors.Join(found...)
}
