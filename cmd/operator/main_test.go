package main

import "testing"

func TestTheProgramHasAllItsCommands(t *testing.T) {
	for _, words := range [][]string{{"monitor"}, {"tickets", "list"}, {"ticket", "show"}, {"tkt", "resolve"}, {"tickets", "ack"}, {"tickets", "diagnose"}, {"inv", "check"}, {"invariants", "mute"}} {
		root := newRootCommand()
		if cmd, rest, err := root.Find(words); err != nil || len(rest) > 0 || cmd == root {
			t.Errorf("operator %v: %v", words, err)
		}
	}
}
