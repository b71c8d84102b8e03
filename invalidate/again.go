package invalidate

import (
	"maps"
	"time"

	"pgevict/rules"
)

// retryAfter is how long a target waits that Redis refused by itself, while it took others.
const retryAfter = time.Second

// delayed is a group of targets that goes back into the set later.
type delayed struct {
	shard   *shard // nil: each into that where it is to be applied then
	group   group
	targets map[rules.Target]time.Duration
	after   time.Duration // how long each waits at least
	open    time.Time     // until when others may join
	due     time.Time
	since   since // set for those that have never been applied
}

// joinBelow is how small a group must be to be merged with another. A large one costs more to merge than to keep.
const joinBelow = 1024

// delay puts targets of one group back into the set after a while, or up to an eighth of it later, so that few groups
// wait however many there are: the second deletes are such targets, and so, with the mark that they hold back, are those
// that Redis refused. Called with the lock held; the map is the queue's from then on.
func (q *Queue) delay(s *shard, g group, targets map[rules.Target]time.Duration, after time.Duration, held since) {
	if len(targets) == 0 {
		return
	}
	now := time.Now()
	for _, d := range q.delayed {
		if d.shard == s && d.group == g && d.after == after && d.since.any == held.any && now.Before(d.open) &&
			min(len(targets), len(d.targets)) < joinBelow {
			d.targets = merge(d.targets, targets)
			if held.any {
				d.since.add(held.mark)
			}
			q.boundDelayed()
			return
		}
	}
	slack := after / 8
	q.delayed = append(q.delayed, &delayed{s, g, targets, after, now.Add(slack), now.Add(after + slack), held})
	time.AfterFunc(after+slack, func() { q.release(false) })
	q.boundDelayed()
}

// release puts the groups that are due back into the set: when all is set, every group that has never been applied, and
// the second deletes are given up, those as well that wait in the set again.
func (q *Queue) release(all bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if all {
		again := func(_ rules.Target, added time.Duration) bool { return added == 0 }
		for _, s := range q.shards {
			for g := range s.groups {
				maps.DeleteFunc(s.groups[g].pending, again)
			}
		}
	}
	now := time.Now()
	kept := q.delayed[:0]
	for _, d := range q.delayed {
		if all && !d.since.any {
			continue
		}
		if !all && now.Before(d.due) {
			kept = append(kept, d)
			continue
		}
		held := q.mark
		if d.since.any {
			held = d.since.mark
		}
		q.giveBack(d, held)
	}
	clear(q.delayed[len(kept):])
	q.delayed = kept
	q.bound()
}

func (q *Queue) giveBack(d *delayed, held Mark) {
	if d.shard == nil || d.shard.gone {
		for t, added := range d.targets {
			q.route(t, added, held)
		}
		return
	}
	w := &d.shard.groups[d.group]
	if d.group == patterns && len(w.pending) == 0 {
		d.shard.slotsAt = d.shard.slots
	}
	w.merge(d.targets, held)
}

// boundDelayed keeps the groups within the bound, by widening in the largest. Called with the lock held.
func (q *Queue) boundDelayed() {
	for {
		total, largest := 0, q.delayed[0]
		for _, d := range q.delayed {
			total += len(d.targets)
			if len(d.targets) > len(largest.targets) {
				largest = d
			}
		}
		if total <= q.MaxPending {
			return
		}
		wide, oldest, ok := q.collapse(largest.targets)
		if !ok {
			return
		}
		keep(q.unplaced(largest, q.groupOf(wide)).targets, wide, oldest)
	}
}

// unplaced gives the group of a kind that is due with a group, and of which each target goes where it is to be applied then:
// the slots of what became a pattern may be another's.
func (q *Queue) unplaced(d *delayed, g group) *delayed {
	for _, other := range q.delayed {
		if other.shard == nil && other.group == g && other.due.Equal(d.due) && other.since == d.since {
			return other
		}
	}
	other := *d
	other.shard, other.group, other.targets = nil, g, map[rules.Target]time.Duration{}
	q.delayed = append(q.delayed, &other)
	return &other
}
