package main

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// lease is the Lease for which monitors stand, as an elector of client-go 0.37 uses it, but for two things.
//
// Only who has it can give it up: an elector that could not renew it in time reads it and gives it up, whoever has it by then, so that a
// leader that was paused would end its successor's.
//
// Who had it and reads that another has it stops at once: an elector would try for renewDeadline more to renew it, and lead meanwhile.
type lease struct {
	resourcelock.Interface
	// holder is who had it when it was last read or written.
	holder string
	// lost is told once when another has it.
	lost chan<- error
}

// newLease is the Lease in a namespace, for a candidate of that name, which no other may have.
func newLease(config *rest.Config, namespace, candidate string, recorder resourcelock.EventRecorder, lost chan<- error) (*lease, error) {
	lock, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, namespace, leaseName,
		resourcelock.ResourceLockConfig{Identity: candidate, EventRecorder: recorder}, config, renewDeadline)
	if err != nil {
		return nil, fmt.Errorf("stand for the Lease %s/%s: %w", namespace, leaseName, err)
	}
	return &lease{Interface: lock, lost: lost}, nil
}

// Get reads the Lease.
func (l *lease) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	if err == nil {
		if me := l.Identity(); l.holder == me && record.HolderIdentity != me && record.HolderIdentity != "" {
			select {
			case l.lost <- fmt.Errorf("the Lease %s is lost to %q", l.Describe(), record.HolderIdentity):
			default:
			}
		}
		l.holder = record.HolderIdentity
	}
	return record, raw, err
}

// Create takes the Lease where there is none.
func (l *lease) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.wrote(record, l.Interface.Create(ctx, record))
}

// Update takes or renews the Lease, or gives it up: then the record names nobody.
func (l *lease) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if record.HolderIdentity == "" && l.holder != l.Identity() {
		return fmt.Errorf("the Lease %s is not given up: %s has it by now", l.Describe(), l.holder)
	}
	return l.wrote(record, l.Interface.Update(ctx, record))
}

// wrote takes note of who has the Lease after it was written, unless err says that it was not.
func (l *lease) wrote(record resourcelock.LeaderElectionRecord, err error) error {
	if err == nil {
		l.holder = record.HolderIdentity
	}
	return err
}

// leaseEvents are the Events that say who leads. The recorder is there once the manager is.
type leaseEvents struct{ recorder events.EventRecorder }

// Eventf writes an Event about the Lease.
func (e *leaseEvents) Eventf(object runtime.Object, eventType, reason, note string, args ...any) {
	if e.recorder != nil {
		e.recorder.Eventf(object, nil, eventType, reason, "Elect", note, args...)
	}
}
