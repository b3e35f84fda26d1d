// Command demo shows the whole loop on real parts: a Kubernetes control plane, an etcd cluster as the observed system, the
// monitor, and the commands that a user types. It ends what it started, also after Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := run(ctx, os.Getenv("KEEP") != "" && os.Getenv("KEEP") != "0")
	if ctx.Err() != nil {
		fmt.Println("\nInterrupted. Nothing is left running.")
		os.Exit(130)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// run sets the stage, plays the story, and clears the stage.
func run(ctx context.Context, keep bool) (err error) {
	s, err := setStage(ctx)
	if s != nil {
		defer func() { err = errors.Join(err, s.clear()) }()
	}
	if err != nil {
		return err
	}
	if err := play(ctx, s); err != nil {
		return err
	}
	if keep {
		s.handOver(ctx)
		return nil
	}
	fmt.Println("\nTo keep all of this running and play with it: make demo KEEP=1")
	return nil
}
