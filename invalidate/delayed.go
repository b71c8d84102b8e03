package invalidate

import (
	"maps"
	"time"

	"pgevict/rules"
)

// retryAfter is how long a target waits that Redis refused by itself, while it took others.
const retryAfter = time.Second

// delayed is a group of targets that come back into the lanes later: those that Redis refused, and second deletes.
type delayed struct {
	lane    *lane // nil: each into that where it is to be applied then
	group   group
	targets map[rules.Target]time.Duration
	after   time.Duration // how long each waits at least
	open    time.Time     // until when others may join
	due     time.Time
	held    watermark // not of second deletes, which have been applied once
	sweep   bool      // a sweep is among them
}

// joinBelow is how small a group must be to be merged with another. A large one costs more to merge than to keep.
const joinBelow = 1024

// delayLocked has targets of one group come back after a while, or up to an eighth of it later, so that few groups wait
// however many there are. The map is the delayed group's from then on.
func (p *pending) delayLocked(l *lane, g group, targets map[rules.Target]time.Duration, after time.Duration, held watermark) {
	if len(targets) == 0 {
		return
	}
	now := time.Now()
	for _, d := range p.delayed {
		if d.lane == l && d.group == g && d.after == after && d.held.ok == held.ok && now.Before(d.open) &&
			min(len(targets), len(d.targets)) < joinBelow {
			d.targets = merge(d.targets, targets)
			if held.ok {
				d.held.lower(&held.mark)
			}
			p.boundDelayedLocked()
			return
		}
	}
	slack := after / 8
	p.delayed = append(p.delayed, &delayed{lane: l, group: g, targets: targets, after: after, open: now.Add(slack), due: now.Add(after + slack), held: held})
	time.AfterFunc(after+slack, p.returnDue)
	p.boundDelayedLocked()
}

// sweepLater has the targets of a sweep come into the lanes after a while.
func (p *pending) sweepLater(after time.Duration, targets []rules.Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	added := max(time.Since(p.started), 1)
	by := map[group]map[rules.Target]time.Duration{patterns: {}} // whose end is that of the sweep
	for _, t := range targets {
		g := p.groupOf(t)
		if by[g] == nil {
			by[g] = map[rules.Target]time.Duration{}
		}
		by[g][t] = added
	}
	due := time.Now().Add(after)
	for g, targets := range by {
		p.delayed = append(p.delayed, &delayed{group: g, targets: targets, after: after, due: due, held: watermark{p.mark, true}, sweep: g == patterns})
	}
	time.AfterFunc(after, p.returnDue)
	p.boundDelayedLocked()
}

// returnDue has the groups that are due come back.
func (p *pending) returnDue() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.returnLocked(func(d *delayed) bool { return !now.Before(d.due) })
}

// endSecondDeletes gives up the second deletes, those as well that wait in the lanes again, and has every other delayed
// group come back at once.
func (p *pending) endSecondDeletes() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.secondAfter = 0
	second := func(_ rules.Target, added time.Duration) bool { return added == 0 }
	for _, l := range p.routes.lanes {
		for g := range l.groups {
			maps.DeleteFunc(l.groups[g].targets, second)
		}
	}
	for _, d := range p.delayed {
		if !d.held.ok {
			clear(d.targets)
		}
	}
	p.returnLocked(func(*delayed) bool { return true })
}

// returnLocked has the groups come back of which that is true.
func (p *pending) returnLocked(due func(*delayed) bool) {
	all := p.delayed
	p.delayed = nil
	sweep := false
	for _, d := range all {
		if !due(d) {
			p.delayed = append(p.delayed, d)
			continue
		}
		sweep = sweep || d.sweep
		held := p.mark
		if d.held.ok {
			held = d.held.mark
		}
		if d.lane == nil || d.lane.retired || p.held != nil {
			for t, added := range d.targets {
				p.routeLocked(t, added, &held)
			}
			continue
		}
		w := &d.lane.groups[d.group]
		if d.group == patterns && len(w.targets) == 0 {
			d.lane.patternsAt = d.lane.changes
		}
		w.merge(d.targets, &held)
	}
	if sweep {
		p.sweepLocked()
	}
	p.boundLocked()
}

// boundDelayedLocked keeps the delayed groups within the bound, by widening in the largest.
func (p *pending) boundDelayedLocked() {
	for {
		total, largest := 0, p.delayed[0]
		for _, d := range p.delayed {
			total += len(d.targets)
			if len(d.targets) > len(largest.targets) {
				largest = d
			}
		}
		if total <= p.limit {
			return
		}
		wide, oldest, n := collapse(largest.targets)
		if n == 0 {
			return
		}
		p.observer.Widened(wide, n)
		keep(p.unplacedLocked(largest, p.groupOf(wide)).targets, wide, oldest)
	}
}

// unplacedLocked returns the delayed group of a kind that is due with another, and of which each target goes where it is to be
// applied then: the slots of what became a pattern may be another's.
func (p *pending) unplacedLocked(d *delayed, g group) *delayed {
	for _, other := range p.delayed {
		if other.lane == nil && other.group == g && other.due.Equal(d.due) && other.held == d.held {
			return other
		}
	}
	other := *d
	other.lane, other.group, other.targets, other.sweep = nil, g, map[rules.Target]time.Duration{}, false
	p.delayed = append(p.delayed, &other)
	return &other
}
