// Package programs finds programs and runs them beside this process, for the local control plane and Prometheus:
// none outlives it, not even a kill -9 of it.
package programs

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const module = "invariant.dev/operator"

// IsProgram says whether there is a file at path that can be run.
func IsProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// Root is where this repository is: where this file was compiled, or, for a program built with -trimpath, above
// the working directory.
func Root() (string, error) {
	var starts []string
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		starts = append(starts, filepath.Dir(file))
	}
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	for _, dir := range starts {
		for ; ; dir = filepath.Dir(dir) {
			if content, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil &&
				strings.HasPrefix(string(content), "module "+module+"\n") {
				return dir, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", fmt.Errorf("no directory above %s has the go.mod of %s: run this inside a clone of the repository",
		strings.Join(starts, " and "), module)
}
