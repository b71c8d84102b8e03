package invalidate

import (
	"maps"
	"time"

	"pgevict/rules"
)

// retryAfter is how long a target waits that Redis refused by itself, while it took others.
const retryAfter = time.Second

// delay puts targets back into the set after a while, or up to an eighth of it later, so that few groups wait however
// many there are: the second deletes are such targets, and so, with the mark that they hold back, are those that Redis
// refused. Called with the lock held; the map is the queue's from then on.
func (q *Queue) delay(targets map[rules.Target]time.Duration, after time.Duration, held since) {
	if len(targets) == 0 {
		return
	}
	now := time.Now()
	for _, d := range q.delayed {
		if d.after == after && d.since.any == held.any && now.Before(d.open) {
			d.join(targets, held)
			q.boundDelayed()
			return
		}
	}
	slack := after / 8
	q.delayed = append(q.delayed, &delayed{targets, after, now.Add(slack), now.Add(after + slack), held})
	time.AfterFunc(after+slack, func() { q.release(false) })
	q.boundDelayed()
}

// join merges the smaller map into the larger, so that a large batch costs next to nothing.
func (d *delayed) join(targets map[rules.Target]time.Duration, held since) {
	if len(targets) > len(d.targets) {
		targets, d.targets = d.targets, targets
	}
	for t, added := range targets {
		keep(d.targets, t, added)
	}
	if held.any {
		d.since.add(held.mark)
	}
}

// release puts the groups that are due back into the set: when all is set, every group that has never been applied, and
// the second deletes are given up, those as well that wait in the set again.
func (q *Queue) release(all bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if all {
		again := func(_ rules.Target, added time.Duration) bool { return added == 0 }
		maps.DeleteFunc(q.keys.pending, again)
		maps.DeleteFunc(q.patterns.pending, again)
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
		for t, added := range d.targets {
			q.add(t, added)
			if d.since.any {
				q.waiting(t.Kind).since.add(d.since.mark)
			}
		}
	}
	clear(q.delayed[len(kept):])
	q.delayed = kept
}

// boundDelayed keeps the groups within the bound, by widening in the largest. Called with the lock held.
func (q *Queue) boundDelayed() {
	for {
		total, largest := 0, q.delayed[0].targets
		for _, d := range q.delayed {
			total += len(d.targets)
			if len(d.targets) > len(largest) {
				largest = d.targets
			}
		}
		if total <= q.MaxPending {
			return
		}
		wide, oldest, ok := q.collapse(largest)
		if !ok {
			return
		}
		largest[wide] = oldest
	}
}
