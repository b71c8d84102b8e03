package sidecar

import (
	"testing"
	"time"
)

// TestDoubtsCostABoundedNumberOfSweeps raises a doubt each second for an hour. However often it comes, no doubt waits for its
// sweep for longer than the pause between two, and other kinds wait for nothing.
func TestDoubtsCostABoundedNumberOfSweeps(t *testing.T) {
	t.Parallel()
	var a allowances
	start := time.Now()
	sweeps := 0
	var begins time.Time
	for second := range 3600 {
		now := start.Add(time.Duration(second) * time.Second)
		wait, covered := a.claim("forged", now)
		if wait < 0 || wait > sweepEvery {
			t.Fatalf("after %d s a doubt waits for %v", second, wait)
		}
		if covered != begins.After(now) || covered && !now.Add(wait).Equal(begins) {
			t.Fatalf("after %d s: covered %t, though the sweep that waits begins %v later", second, covered, begins.Sub(now))
		}
		if !covered {
			sweeps++
			begins = now.Add(wait)
		}
		if second < sweepsInARow && wait > 0 {
			t.Errorf("doubt %d waits for %v", second, wait)
		}
	}
	if most := sweepsInARow + int(time.Hour/sweepEvery); sweeps > most || sweeps < most-3 {
		t.Errorf("%d sweeps in an hour", sweeps)
	}
	if wait, covered := a.claim("other", start); wait != 0 || covered {
		t.Errorf("another kind waits for %v", wait)
	}
	if wait, covered := a.claim("forged", start.Add(3*time.Hour)); wait != 0 || covered {
		t.Errorf("after hours of calm a doubt waits for %v", wait)
	}
}
