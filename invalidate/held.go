package invalidate

import (
	"time"

	"pgevict/rules"
)

// generation is what came between two marks while the set is held. A target that comes again is in a later one as well, so
// whoever forgets what came before a mark forgets what came last before it.
type generation struct {
	targets  map[rules.Target]time.Duration
	covering map[rules.Target]bool // those that stand for targets that were too many
	oldest   watermark
	sweep    bool
	until    string    // the canary that ended it; empty: none
	applied  time.Time // when it was forgotten: then it is kept for its second deletes alone
}

// generations are the oldest first. The last takes what comes, so there is always one.
type generations []*generation

// mostGenerations bounds how many are kept apart. What is merged is forgotten later than it could be.
const mostGenerations = 64

func newGeneration() *generation {
	return &generation{targets: map[rules.Target]time.Duration{}, covering: map[rules.Target]bool{}}
}

func (all generations) last() *generation { return all[len(all)-1] }

// put has a target wait in the last.
func (all generations) put(t rules.Target, added time.Duration, m *Mark) {
	g := all.last()
	if g.covering[t.Widen()] {
		t = t.Widen()
	}
	keep(g.targets, t, added)
	if added != 0 {
		g.oldest.lower(m)
	}
}

// end has what comes from now on be told apart from what came before a canary.
func (all *generations) end(canary string) {
	all.last().until = canary
	*all = append(*all, newGeneration())
	if len(*all) > mostGenerations {
		all.mergeOldest()
	}
}

// forget takes note that somebody else has applied all that came before a canary, if it came here.
func (all generations) forget(canary string, now time.Time) {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].until != canary || canary == "" {
			continue
		}
		for _, g := range all[:i+1] {
			if g.applied.IsZero() {
				g.applied, g.oldest, g.sweep = now, watermark{}, false
			}
		}
		return
	}
}

// dropApplied drops what was applied so long ago that its second delete would have come.
func (all *generations) dropApplied(secondAfter time.Duration, now time.Time) {
	for len(*all) > 0 && !(*all)[0].applied.IsZero() && now.Sub((*all)[0].applied) >= secondAfter+secondAfter/8 {
		*all = (*all)[1:]
	}
	if len(*all) == 0 {
		*all = append(*all, newGeneration())
	}
}

// bound keeps all within a number of targets: first by telling fewer generations apart, then by widening.
func (all *generations) bound(limit int, widened func(rules.Target, int)) {
	for {
		total := 0
		for _, g := range *all {
			total += len(g.targets)
		}
		switch {
		case total <= limit:
			return
		case len(*all) > 1:
			all.mergeOldest()
			continue
		}
		g := all.last()
		wide, oldest, n := collapse(g.targets)
		if n == 0 {
			return
		}
		widened(wide, n)
		keep(g.targets, wide, oldest)
		g.covering[wide] = true
	}
}

// mergeOldest makes the two oldest one, which is forgotten with the younger of them. That one was forgotten already makes
// nothing of the other so.
func (all *generations) mergeOldest() {
	a, b := (*all)[0], (*all)[1]
	*all = (*all)[1:]
	if !a.applied.IsZero() && b.applied.IsZero() {
		for t := range a.targets {
			keep(b.targets, t, 0)
		}
		return
	}
	b.targets = merge(a.targets, b.targets)
	if a.oldest.ok {
		b.oldest.lower(&a.oldest.mark)
	}
	b.sweep = b.sweep || a.sweep
	for t := range a.covering {
		b.covering[t] = true
	}
}

// hold keeps what has been added and not been applied, and what is added from now on, from being taken. What is in flight
// goes on, and is held if it is put back.
func (p *pending) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		return
	}
	p.held = generations{newGeneration()}
	for _, l := range p.routes.lanes {
		for g := range l.groups {
			w := &l.groups[g]
			for t, added := range w.targets {
				p.routeLocked(t, added, &w.oldest.mark)
			}
			if w.sweep {
				p.sweepLocked()
			}
			if group(g) == members {
				claims := l.claims
				l.claims = nil
				p.giveUpClaimsLocked(l, claims, w.oldest.mark)
			}
			w.targets, w.oldest, w.sweep = nil, watermark{}, false
		}
		l.covering = nil
	}
	p.returnLocked(func(d *delayed) bool { return d.held.ok })
}

// forget says that somebody else has applied all that came before a canary. A canary that did not come here, or not since
// the set is held, is none: nothing is forgotten. The second deletes of what is forgotten are kept until they have become
// pointless, since whoever applied the first may be gone before.
func (p *pending) forget(canary string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		p.held.forget(canary, time.Now())
		p.held.dropApplied(p.secondAfter, time.Now())
	}
}

// release has all that is held wait where it may be taken from: what was forgotten as well, if its second delete is due yet.
func (p *pending) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		return
	}
	p.held.dropApplied(p.secondAfter, time.Now())
	held := p.held
	p.held = nil
	for _, g := range held {
		mark := p.mark
		if g.oldest.ok {
			mark = g.oldest.mark
		}
		for t, added := range g.targets {
			if !g.applied.IsZero() {
				added = 0
			}
			p.routeLocked(t, added, &mark)
		}
		if g.sweep {
			p.sweepLocked()
		}
	}
}
