package invalidate

import (
	"time"

	"pgevict/rules"
)

// What stands in this file is called with the queue's lock held.

// waiting is the targets of one group that wait, and those on their way.
type waiting struct {
	// pending holds when each was added, as time since the queue's epoch; 0: it waits for its second delete.
	pending  map[rules.Target]time.Duration
	since    since         // of pending
	flying   since         // of those on their way
	aloft    int           // how many are on their way
	sweep    bool          // pending holds a sweep
	sweeping bool          // those on their way do
	room     int           // for how many pending is made
	wake     chan struct{} // holds one
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

func (q *Queue) addAll(targets []rules.Target) {
	now := max(time.Since(q.epoch), 1)
	for _, t := range targets {
		q.route(t, now, q.mark)
	}
}

// route puts a target into the set of the shard where it is to be applied: a pattern as a rule into all of them.
func (q *Queue) route(t rules.Target, added time.Duration, m Mark) {
	if q.owner == nil {
		q.shards[0].add(t, added, m)
	} else {
		for _, s := range q.homes(t) {
			s.add(t, added, m)
		}
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

// merge adds targets, with the mark that they hold back; the map is the set's from then on. No targets hold back none, since
// nobody would be woken for them.
func (w *waiting) merge(targets map[rules.Target]time.Duration, held Mark) {
	if len(targets) > 0 {
		w.since.add(held)
	}
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

// take empties what waits; until it has landed or is put back, it is on its way.
func (w *waiting) take() (targets map[rules.Target]time.Duration) {
	targets = w.pending
	w.flying, w.aloft, w.sweeping = w.since, len(targets), w.sweep
	w.pending, w.since, w.sweep = nil, since{}, false
	w.room = min(len(targets), mostRoom) // the next is as a rule about as large
	return targets
}

func (w *waiting) landed() { w.flying, w.aloft, w.sweeping = since{}, 0, false }

// bound keeps the set within its size: while it is too large, all the targets of the template that has the most become
// one pattern, and until that is on its way, so do those that come.
func (q *Queue) bound() {
	for {
		total := 0
		shard, most := q.shards[0], &q.shards[0].groups[0]
		for _, s := range q.shards {
			for i := range s.groups {
				w := &s.groups[i]
				total += len(w.pending)
				if len(w.pending) > len(most.pending) {
					shard, most = s, w
				}
			}
		}
		if total <= q.MaxPending {
			return
		}
		wide, oldest, ok := q.collapse(most.pending)
		if !ok {
			return
		}
		at := shard.slotsAt
		for _, s := range q.homes(wide) { // the slots of what waits here may be another's by now
			s.add(wide, oldest, most.since.mark)
			if s.groupOf(wide) == patterns {
				s.cover(wide)
			}
		}
		if most == &shard.groups[patterns] {
			shard.slotsAt = at
		}
	}
}

// cover says that a pattern waits for whatever is narrower.
func (s *shard) cover(patterns ...rules.Target) {
	if s.covered == nil {
		s.covered = map[rules.Target]bool{}
	}
	for _, t := range patterns {
		s.covered[t] = true
	}
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
