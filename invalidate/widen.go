package invalidate

import (
	"time"

	"pgevict/rules"
)

// boundLocked keeps what waits within its size: while it is too large, all the targets of the template that has the most in
// one group become one pattern, and until that is in flight, so do those that come.
func (p *pending) boundLocked() {
	for {
		total := 0
		at, most := p.routes.lanes[0], &p.routes.lanes[0].groups[0]
		for _, l := range p.routes.lanes {
			for g := range l.groups {
				w := &l.groups[g]
				total += len(w.targets)
				if len(w.targets) > len(most.targets) {
					at, most = l, w
				}
			}
		}
		if total <= p.limit {
			return
		}
		wide, oldest, n := collapse(most.targets)
		if n == 0 {
			return
		}
		p.observer.Widened(wide, n)
		patternsAt := at.patternsAt
		for _, l := range p.routes.lanesFor(wide) { // the slots of what waits here may be another's by now
			p.putLocked(l, wide, oldest, &most.oldest.mark)
			if p.groupOf(wide) == patterns {
				l.cover(map[rules.Target]bool{wide: true})
			}
		}
		if most == &at.groups[patterns] {
			at.patternsAt = patternsAt // since when what it was made of waits
		}
	}
}

// cover says that patterns wait for whatever is narrower.
func (l *lane) cover(patterns map[rules.Target]bool) {
	if l.covering == nil {
		l.covering = patterns
		return
	}
	for t := range patterns {
		l.covering[t] = true
	}
}

// collapse removes all the targets of the template that has the most, and returns the one that covers them, with the time of
// the oldest and how many they were; 0: no template has two.
func collapse(targets map[rules.Target]time.Duration) (wide rules.Target, oldest time.Duration, most int) {
	counts := map[rules.Target]int{}
	for t := range targets {
		counts[t.Widen()]++
	}
	most = 1
	for w, n := range counts {
		if n > most {
			wide, most = w, n
		}
	}
	if most == 1 {
		return wide, 0, 0
	}
	for t, added := range targets {
		if t.Widen() != wide {
			continue
		}
		delete(targets, t)
		if added != 0 && (oldest == 0 || added < oldest) {
			oldest = added
		}
	}
	return wide, oldest, most
}
