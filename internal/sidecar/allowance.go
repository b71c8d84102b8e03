package sidecar

import (
	"sync"
	"time"
)

// Whoever may write to Redis can have pgevict doubt it at each heartbeat. Doubts of one kind cost so many sweeps in a row, and
// then one each so often: whatever raises a doubt before that waits for the same sweep.
const (
	sweepsInARow = 2
	sweepEvery   = time.Minute
)

// allowances are what doubts of each kind may still cost. Kinds are few, so none is forgotten.
type allowances struct {
	mu sync.Mutex
	of map[string]*allowance
}

type allowance struct {
	left  float64   // sweeps; below 0: one that waits is paid for already
	at    time.Time // when that was so
	begin time.Time // when the latest sweep that had to wait begins
}

// claim returns how long the sweep for a doubt has to wait. One that waits already covers this doubt too.
func (a *allowances) claim(kind string, now time.Time) (wait time.Duration, covered bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.of[kind]
	if one == nil {
		one = &allowance{left: sweepsInARow, at: now}
		if a.of == nil {
			a.of = map[string]*allowance{}
		}
		a.of[kind] = one
	}
	if one.begin.After(now) {
		return one.begin.Sub(now), true
	}
	one.left = min(sweepsInARow, one.left+float64(now.Sub(one.at))/float64(sweepEvery))
	one.at = now
	if one.left < 1 {
		wait = time.Duration((1 - one.left) * float64(sweepEvery))
		one.begin = now.Add(wait)
	}
	one.left--
	return wait, false
}
