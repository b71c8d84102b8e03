package invalidate

import (
	"strings"
	"sync"
	"time"

	"pgevict/rules"
)

// pending is the targets that wait, and what has become of those that were taken. It speaks to no Redis: whoever does takes a
// batch, and says afterwards that it is done, or puts it back. The life of a target is told in doc.go.
//
// What holds at any time, with the lock held: a target that has been added and not been applied is in one place (it waits in a
// lane, is in flight from there, is delayed, or is held), as itself or as a wider one that covers it; and that place holds a
// mark that is not later than the latest was when it was added. So what [pending.through] returns is never ahead of it.
type pending struct {
	limit      int      // how many may wait, and how many may wait for their second delete
	refreshing bool     // keys with a refresh are read anew rather than deleted
	tags       *matcher // of the sets that are tags of the rules; nil: none
	observer   Observer
	sweeping   func()
	swept      func()
	started    time.Time // what the times of targets count from

	mu          sync.Mutex      // of all below, and of the lanes
	secondAfter time.Duration   // how long after its delete a target is deleted once more; 0: never
	mark        Mark            // the latest
	routes      routes          // to the lanes of the servers that take writes
	retiring    []*lane         // of servers that are masters no more, while something is in flight from there
	delayed     []*delayed      // what comes back into the lanes later
	claims      map[claim]*lane // where the members wait or are in flight; nil: they are gone, and the claim is to be released
	held        generations     // what came while nothing may be taken; nil: it may be
	applied     int             // how many targets, and members of tags, have been
	doubts      int             // how often a server may have gone back in time
}

func newPending(o *Options) *pending {
	return &pending{limit: o.MaxPending, refreshing: o.Read != nil, tags: tagMatcher(o.Tags), claims: map[claim]*lane{}, observer: o.Observer, sweeping: o.Sweeping, swept: o.Swept, started: time.Now(),
		secondAfter: o.AgainAfter, routes: routes{lanes: []*lane{newLane("")}}}
}

func (p *pending) groupOf(t rules.Target) group {
	switch t.Kind {
	case rules.Pattern, rules.TagPattern:
		return patterns
	case rules.Tag:
		return tags
	case rules.Field:
		return exact
	case rules.Key:
		switch {
		case t.MayBeTag() && p.tags.matches(t.Key): // it is to be read as a set before it is deleted
			return tags
		case p.refreshing && t.Refreshed():
			return refreshes
		}
	}
	return exact
}

// add puts targets where they are to be applied.
func (p *pending) add(targets []rules.Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addAllLocked(targets)
}

func (p *pending) addAllLocked(targets []rules.Target) {
	now := max(time.Since(p.started), 1)
	for _, t := range targets {
		p.routeLocked(t, now, &p.mark)
	}
}

// sweep puts the targets of a sweep where they are to be applied, and has its end told. One without targets ends as well.
func (p *pending) sweep(targets []rules.Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addAllLocked(targets)
	p.sweepLocked()
}

// sweepLocked has the end of what waits now be told as that of a sweep.
func (p *pending) sweepLocked() {
	if p.held != nil {
		p.held.last().sweep = true
		return
	}
	p.sweeping()
	for _, l := range p.routes.lanes {
		if w := &l.groups[patterns]; len(w.targets) > 0 {
			w.sweep = true
		} else {
			l.groups[exact].sweep = true
			l.groups[exact].signal()
		}
	}
}

// setMark takes note that all changes up to a mark have been added, and has every lane pass it on.
func (p *pending) setMark(m Mark) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mark = m
	if p.held != nil && m.Canary != "" {
		p.held.dropApplied(p.secondAfter, time.Now())
		p.held.end(m.Canary)
	}
	for _, l := range p.routes.lanes {
		l.requestMark()
	}
}

// requestMark has the latest mark passed on behind what is taken next.
func (p *pending) requestMark(l *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.requestMark()
}

// routeLocked puts a target into the lane where it is to be applied: a pattern as a rule into all of them.
func (p *pending) routeLocked(t rules.Target, added time.Duration, m *Mark) {
	switch {
	case strings.HasPrefix(t.Key, rules.Own): // as a row's value has it: nothing of pgevict's own is deleted
		return
	case p.held != nil:
		p.held.put(t, added, m)
		p.held.bound(p.limit, p.observer.Widened)
		return
	case p.routes.owners == nil:
		p.putLocked(p.routes.lanes[0], t, added, m)
	default:
		for _, l := range p.routes.lanesFor(t) {
			p.putLocked(l, t, added, m)
		}
	}
	p.boundLocked()
}

// putLocked has a target wait in a lane.
func (p *pending) putLocked(l *lane, t rules.Target, added time.Duration, m *Mark) {
	if len(l.covering) > 0 && l.covering[t.Widen()] {
		t = t.Widen() // which may wait for its second delete alone, and now waits for its first
	}
	g := p.groupOf(t)
	w := &l.groups[g]
	if w.targets == nil {
		w.targets = make(map[rules.Target]time.Duration, w.room)
	}
	if len(w.targets) == 0 {
		w.signal()
		if g == patterns {
			l.patternsAt = l.changes
		}
	}
	keep(w.targets, t, added)
	w.oldest.lower(m) // of many that come, no later mark is before the first
}

// take takes all that waits in a group of a lane. One batch of each is in flight at a time.
func (p *pending) take(l *lane, g group) batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &l.groups[g]
	b := batch{lane: l, group: g, targets: w.targets, slots: l.slots, patternsAt: l.patternsAt, doubts: p.doubts}
	switch g {
	case patterns:
		b.covering, l.covering = l.covering, nil
	case members:
		n := min(len(l.claims), membersPerBatch)
		b.claims, l.claims = l.claims[:n:n], l.claims[n:]
		w.flying, w.inFlight = w.oldest, n
		if len(l.claims) > 0 { // which hold back the mark as well, and are the next batch
			w.signal()
			return b
		}
	case exact, tags, refreshes, groups:
	}
	w.flying, w.inFlight, w.sweeping = w.oldest, len(b.targets)+len(b.claims), w.sweep
	w.targets, w.oldest, w.sweep = nil, watermark{}, false
	w.room = min(len(b.targets), mostRoom) // the next is as a rule about as large
	return b
}

// moved reports whether the slots of the server have changed since the first pattern of a batch came.
func (p *pending) moved(b batch) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return b.patternsAt != b.lane.changes
}

// takeMark reports whether the latest mark is to be passed on behind the exact targets that are taken next.
func (p *pending) takeMark(l *lane) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := l.markDue
	l.markDue = false
	return due
}

// returnMark has the latest mark, if there is one, passed on with what is taken next; nobody is woken for it.
func (p *pending) returnMark(l *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.markDue = !p.mark.Sent.IsZero()
}

// done takes note that a batch has been applied, but for some targets that are to be tried again after a while, on whichever
// server they are then. What was applied for the first time is to be deleted once more.
func (p *pending) done(b batch, refused map[rules.Target]error, retry time.Duration) {
	later := make(map[rules.Target]time.Duration, len(refused))
	for t := range refused {
		later[t] = b.targets[t]
		delete(b.targets, t)
	}
	now, applied := time.Since(p.started), len(b.targets)
	for t, added := range b.targets { // without the lock: it takes a while
		if added == 0 {
			delete(b.targets, t) // this was the second
			continue
		}
		p.observer.Applied(t, now-added)
		b.targets[t] = 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied += applied
	if p.secondAfter > 0 {
		p.delayLocked(b.lane, b.group, b.targets, p.secondAfter, watermark{})
	}
	p.delayLocked(nil, b.group, later, retry, b.waiting().flying)
	p.landLocked(b)
}

// postpone has all targets of a batch be tried again after a while, on whichever server they are then.
func (p *pending) postpone(b batch, after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delayLocked(nil, b.group, b.targets, after, b.waiting().flying)
	p.landLocked(b)
}

// putBack has all targets of a batch wait again, in the lane that they came from unless that is retired.
func (p *pending) putBack(b batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := b.waiting()
	if b.lane.retired || p.held != nil {
		for t, added := range b.targets {
			p.routeLocked(t, added, &w.flying.mark)
		}
		p.giveUpClaimsLocked(b.lane, b.claims, w.flying.mark)
		if w.sweeping {
			p.sweepLocked()
		}
	} else {
		w.merge(b.targets, &w.flying.mark)
		if len(b.claims) > 0 {
			b.lane.claims = append(b.claims, b.lane.claims...)
			w.oldest.lower(&w.flying.mark)
			w.signal()
		}
		w.sweep = w.sweep || w.sweeping
		if b.group == patterns {
			b.lane.cover(b.covering)
			b.lane.patternsAt = b.patternsAt // the earlier of the two
		}
	}
	w.sweeping = false // it has not ended, but is to be done again
	p.landLocked(b)
	p.boundLocked()
}

// landLocked ends what a batch has in flight, and tells of a sweep that has ended with it.
func (p *pending) landLocked(b batch) {
	w := b.waiting()
	swept := w.sweeping
	w.flying, w.inFlight, w.sweeping = watermark{}, 0, false
	p.forgetRetiredLocked()
	if !swept {
		return
	}
	for _, l := range p.routes.lanes {
		for g := range l.groups {
			if w := &l.groups[g]; w.sweep || w.sweeping {
				return
			}
		}
	}
	p.swept()
}

// through returns the latest mark below which everything is applied once the exact targets in flight from a lane are, or
// without those if some were refused.
func (p *pending) through(l *lane, refused bool) (safe, latest Mark) {
	p.mu.Lock()
	defer p.mu.Unlock()
	safe = p.mark
	hold := func(held watermark) {
		if held.ok && held.mark.Sent.Before(safe.Sent) {
			safe = held.mark
		}
	}
	for other := range p.everyLane {
		for g := range other.groups {
			w := &other.groups[g]
			hold(w.oldest)
			if other != l || group(g) != exact || refused {
				hold(w.flying)
			}
		}
	}
	for _, d := range p.delayed {
		hold(d.held)
	}
	for _, g := range p.held {
		hold(g.oldest)
	}
	return safe, p.mark
}

// everyLane yields the lanes of servers that take writes, and of those that did.
func (p *pending) everyLane(yield func(*lane) bool) {
	for _, lanes := range [...][]*lane{p.routes.lanes, p.retiring} {
		for _, l := range lanes {
			if !yield(l) {
				return
			}
		}
	}
}

// progress returns a number that grows with each target, and each member of a tag, that is applied.
func (p *pending) progress() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.applied
}

// count returns how many targets wait or are in flight, and how many wait for their second delete.
func (p *pending) count() (waiting, second int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.everyLane {
		for g := range l.groups {
			waiting += len(l.groups[g].targets) + l.groups[g].inFlight
		}
		waiting += len(l.claims) + len(l.releases) + l.releasing
	}
	for _, d := range p.delayed {
		if d.held.ok {
			waiting += len(d.targets)
		} else {
			second += len(d.targets)
		}
	}
	for _, g := range p.held {
		if g.applied.IsZero() {
			waiting += len(g.targets)
		} else {
			second += len(g.targets)
		}
	}
	return waiting, second
}
