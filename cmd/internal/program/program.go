// Package program is what the programs of this repository have in common: how they begin, and how they end.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/klog/v2"

	"invariant.dev/operator/cmd/internal/terminal"
)

// NewRoot returns the root command of the program called name. Errors are left to Run.
func NewRoot(name, short, version string) *cobra.Command {
	root := &cobra.Command{
		Use:           name,
		Short:         short,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if strings.Contains(err.Error(), `unknown unit "d"`) {
			err = fmt.Errorf("%w: write days as hours, such as 72h", err)
		}
		return fmt.Errorf("%w\nSee '%s --help' for usage", err, cmd.CommandPath())
	})
	return root
}

// quiet discards the log of the libraries underneath, once: the errors say it again. A command that wants it sets it.
var quiet = sync.OnceFunc(func() { klog.SetLogger(logr.Discard()) })

// Run runs the program until it is done, or asked to end by SIGINT or SIGTERM, and returns its exit code: 0, or
// 1 after it wrote what failed to errOut, unless the error has another code: see WithExitCode. A second signal ends the process at once.
func Run(root *cobra.Command, errOut io.Writer) int {
	quiet()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code := 1
	if coded := (*exitError)(nil); errors.As(err, &coded) {
		code, err = coded.code, coded.error
	}
	if err == nil {
		return code
	}
	for _, err := range each(err) {
		_, _ = fmt.Fprintln(errOut, "error:", terminal.Block(err.Error()))
	}
	return code
}

// exitError is an error that says with which code the program ends.
type exitError struct {
	error
	code int
}

func (e *exitError) Unwrap() error { return e.error }

// WithExitCode makes the program end with that code, after it wrote err, if that is not nil, to its error output.
func WithExitCode(code int, err error) error { return &exitError{error: err, code: code} }

// each is the errors that one error gathers.
func each(err error) []error {
	// One inside another error stays there, with what that says of it.
	if gathered, ok := err.(utilerrors.Aggregate); ok { //nolint:errorlint
		return utilerrors.Flatten(gathered).Errors()
	}
	return []error{err}
}
