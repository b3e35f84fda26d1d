package main

import (
	"context"
	"fmt"
)

// play tells the story. Each step says what it does, and does it with the commands that a user would type.
func play(ctx context.Context, s *stage) error {
	steps := []func(context.Context, *stage) error{
		writeDown, breakStore, watchOccurrences, hold, mend, release, breakAgain,
	}
	for _, step := range steps {
		if err := step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func writeDown(ctx context.Context, s *stage) error {
	s.say("Write down what must always be true of the etcd cluster (" + sample + "), and apply it.")
	return s.enter(ctx,
		"kubectl apply -f "+s.manifests,
		"kubectl wait --for=condition=Satisfied --timeout=30s invariants --all",
		"kubectl get invariants",
	)
}

func breakStore(ctx context.Context, s *stage) error {
	s.say("Break it: kill -9 a member. Two invariants break in the same cycle, and become one ticket.")
	if err := s.killMember(); err != nil {
		return err
	}
	return s.enter(ctx,
		"kubectl wait --for=create --timeout=30s ticket/etcd-1",
		"kubectl wait --for=jsonpath='{.status.occurrences}' --timeout=30s ticket/etcd-1",
		"kubectl get tickets",
		"kubectl operator tickets show etcd-1",
	)
}

func watchOccurrences(ctx context.Context, s *stage) error {
	s.say("While the fault lasts, every cycle counts it: no second ticket, one rising count.")
	return s.enter(ctx,
		"kubectl wait --for=jsonpath='{.status.occurrences}'=4 --timeout=30s ticket/etcd-1",
		"kubectl get tickets",
	)
}

func hold(ctx context.Context, s *stage) error {
	s.say("Somebody investigates, and holds the ticket.")
	return s.enter(ctx, "kubectl annotate ticket etcd-1 operator/hold=true")
}

func mend(ctx context.Context, s *stage) error {
	s.say("The member comes back. All has cleared, but a hold is a promise: the ticket stays open.")
	if err := s.startMember(ctx); err != nil {
		return err
	}
	return s.enter(ctx,
		"kubectl wait --for=condition=Satisfied --timeout=30s invariants --all",
		"kubectl wait --for=condition=Held --timeout=30s ticket/etcd-1",
		"kubectl operator tickets list",
	)
}

func release(ctx context.Context, s *stage) error {
	s.say("The investigation is over. At the next cycle the ticket resolves by itself.")
	return s.enter(ctx,
		"kubectl operator tickets unhold etcd-1",
		"kubectl wait --for=jsonpath='{.status.state}'=Resolved --timeout=30s ticket/etcd-1",
		"kubectl operator tickets list --state all",
	)
}

func breakAgain(ctx context.Context, s *stage) error {
	s.say("The member dies again: no cooldown, a new ticket, which names the one before it.")
	if err := s.killMember(); err != nil {
		return err
	}
	if err := s.enter(ctx,
		"kubectl wait --for=create --timeout=30s ticket/etcd-2",
		"kubectl wait --for=jsonpath='{.status.occurrences}' --timeout=30s ticket/etcd-2",
		"kubectl get tickets -o wide",
	); err != nil {
		return err
	}
	fmt.Println()
	return nil
}
