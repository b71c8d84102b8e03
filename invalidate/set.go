package invalidate

import (
	"maps"
	"time"

	"pgevict/rules"
)

// What stands in this file is called with the queue's lock held.

// waiting is the targets of one kind that wait, and those on their way.
type waiting struct {
	// pending holds when each was added, as time since the queue's epoch; 0: it waits for its second delete.
	pending map[rules.Target]time.Duration
	since   since         // of pending
	flying  since         // of those on their way
	aloft   int           // how many are on their way
	sweep   bool          // pending holds a sweep
	room    int           // for how many pending is made
	wake    chan struct{} // holds one
}

// mostRoom bounds how much memory an empty set keeps after a large one.
const mostRoom = 1 << 15

// since is the mark after which the oldest of some targets came, so the mark that they do not hold back.
type since struct {
	mark Mark
	any  bool
}

func (s *since) add(m Mark) {
	if !s.any || m.Sent.Before(s.mark.Sent) {
		*s = since{m, true}
	}
}

func (q *Queue) waiting(k rules.Kind) *waiting {
	if k == rules.Pattern {
		return &q.patterns
	}
	return &q.keys
}

func (q *Queue) addAll(targets []rules.Target) {
	now := max(time.Since(q.epoch), 1)
	for _, t := range targets {
		q.add(t, now)
	}
}

func (q *Queue) add(t rules.Target, added time.Duration) {
	if len(q.covered) > 0 && q.covered[t.Widen()] {
		t = t.Widen() // which may wait for its second delete alone, and now waits for its first
	}
	w := q.waiting(t.Kind)
	w.add(t, added)
	if !w.since.any {
		w.since.add(q.mark) // no later mark is before it
	}
	q.bound()
}

func (w *waiting) add(t rules.Target, added time.Duration) {
	if w.pending == nil {
		w.pending = make(map[rules.Target]time.Duration, w.room)
	}
	if len(w.pending) == 0 {
		w.signal()
	}
	keep(w.pending, t, added)
}

// merge adds targets; the map is the set's from then on.
func (w *waiting) merge(targets map[rules.Target]time.Duration) {
	w.pending = merge(w.pending, targets)
	if len(w.pending) > 0 {
		w.signal()
	}
}

// merge puts the smaller of two maps into the larger.
func merge(a, b map[rules.Target]time.Duration) map[rules.Target]time.Duration {
	if len(a) < len(b) {
		a, b = b, a
	}
	for t, added := range b {
		keep(a, t, added)
	}
	return a
}

// keep adds a target with the time of the first that still waits for its first delete.
func keep(targets map[rules.Target]time.Duration, t rules.Target, added time.Duration) {
	if have := targets[t]; have == 0 || 0 < added && added < have {
		targets[t] = added
	}
}

func (w *waiting) signal() {
	select {
	case w.wake <- struct{}{}:
	default: // it is awake already
	}
}

// take empties what waits; until landed or putBack says how it went, it is on its way.
func (w *waiting) take() (targets map[rules.Target]time.Duration, sweep bool) {
	targets, sweep = w.pending, w.sweep
	w.flying, w.aloft = w.since, len(targets)
	w.pending, w.since, w.sweep = nil, since{}, false
	w.room = min(len(targets), mostRoom) // the next is as a rule about as large
	return targets, sweep
}

func (w *waiting) landed() { w.flying, w.aloft = since{}, 0 }

// putBack returns targets that were not applied to the set.
func (q *Queue) putBack(w *waiting, targets map[rules.Target]time.Duration, sweep bool) {
	if len(targets) > 0 {
		w.since.add(w.flying.mark)
	}
	w.merge(targets)
	w.sweep = w.sweep || sweep
	w.landed()
	q.bound()
}

// bound keeps the set within its size: while it is too large, all the targets of the template that has the most become
// one pattern, and until that is on its way, so do those that come.
func (q *Queue) bound() {
	for len(q.keys.pending)+len(q.patterns.pending) > q.MaxPending {
		w := &q.keys
		if len(q.patterns.pending) > len(q.keys.pending) {
			w = &q.patterns
		}
		wide, oldest, ok := q.collapse(w.pending)
		if !ok {
			return
		}
		q.patterns.add(wide, oldest)
		q.patterns.since.add(w.since.mark)
		q.cover(map[rules.Target]bool{wide: true})
	}
}

// cover says which patterns wait for whatever is narrower.
func (q *Queue) cover(patterns map[rules.Target]bool) {
	if q.covered == nil {
		q.covered = map[rules.Target]bool{}
	}
	maps.Copy(q.covered, patterns)
}

// collapse removes from a group all the targets of the template that has the most, and gives the one that covers them,
// with the time of the oldest. It is not ok if no template has two.
func (q *Queue) collapse(targets map[rules.Target]time.Duration) (wide rules.Target, oldest time.Duration, ok bool) {
	counts := map[rules.Target]int{}
	for t := range targets {
		counts[t.Widen()]++
	}
	most := 1
	for w, n := range counts {
		if n > most {
			wide, most = w, n
		}
	}
	if most == 1 {
		return wide, 0, false
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
	q.Observer.Widened(wide.Rule(), most)
	return wide, oldest, true
}
