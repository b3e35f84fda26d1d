package main

import "testing"

func TestEachGuardStandsWhereTheTableSays(t *testing.T) {
	for _, g := range guards {
		if _, err := g.overlay("../..", t.TempDir()); err != nil {
			t.Errorf("%s: %v", g.name, err)
		}
	}
}
