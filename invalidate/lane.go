package invalidate

import (
	"time"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// lane is the targets that wait for one server.
type lane struct {
	addr    string // of the server, in a Cluster; else empty
	groups  [groups]waiting
	markDue bool // the latest mark has not been passed on
	retired bool // the server is no master any more: what comes back from it goes to the others

	// Patterns that wait and stand for targets that were too many: what they cover needs no place of its own. A pattern that
	// is in flight covers nothing that comes, since that may be behind the walk.
	covering map[rules.Target]bool

	slots   redisnode.SlotSet // that the server has, as far as is known
	changes int               // how often they have changed
	// The changes when the first of the patterns that wait came. If there were more since, a walk may miss a key that went
	// from a server still to be walked to one that has been.
	patternsAt int

	claims    []claimed // members that wait to be deleted on the server
	claiming  int       // how many, with those in flight
	landed    time.Time // when the last of them were done
	releases  []claim   // on members that are gone, to be released on the server
	releasing int       // how many are about to be
}

// waiting is the targets of one group that wait in a lane, and those in flight from there.
type waiting struct {
	// targets holds when each was added, as time since the start; 0: it waits for its second delete.
	targets  map[rules.Target]time.Duration
	oldest   watermark // of targets
	sweep    bool      // a sweep is among them
	inFlight int       // how many were taken and have neither been done nor been put back
	flying   watermark // of those
	sweeping bool      // a sweep is among those
	room     int       // for how many targets is made next time
	wake     chan struct{}
}

// mostRoom bounds how much memory an empty set keeps after a large one.
const mostRoom = 1 << 15

// watermark is the mark after which the oldest of some targets came, so the one that they hold back.
type watermark struct {
	mark Mark
	ok   bool // there is any
}

// lower takes note of a target that came after a mark.
func (w *watermark) lower(m *Mark) {
	if !w.ok || m.Sent.Before(w.mark.Sent) {
		*w = watermark{*m, true}
	}
}

// group is what is applied in the same way, by a goroutine of its own.
type group int

const (
	exact     group = iota // keys and fields, which one command deletes
	patterns               // of keys and of tags, for which the keyspace is walked over
	tags                   // sets of which the members go too
	refreshes              // keys that are read anew
	members                // of tags: keys that were taken out of a set
	groups
)

func newLane(addr string) *lane {
	l := &lane{addr: addr}
	for g := range l.groups {
		l.groups[g].wake = make(chan struct{}, 1)
	}
	return l
}

// wake is sent to when something has come to wait in a group, or there is a mark to be passed on behind the exact one.
func (l *lane) wake(g group) <-chan struct{} { return l.groups[g].wake }

// requestMark has the latest mark passed on behind what is taken next.
func (l *lane) requestMark() {
	l.markDue = true
	l.groups[exact].signal()
}

// keep adds a target with the time of the first that still waits for its first delete: a second delete never hides that.
func keep(targets map[rules.Target]time.Duration, t rules.Target, added time.Duration) {
	if have := targets[t]; have == 0 || 0 < added && added < have {
		targets[t] = added
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

// merge has targets wait, with the mark that they hold back; the map is the group's from then on. No targets hold back none,
// since nobody would be woken for them.
func (w *waiting) merge(targets map[rules.Target]time.Duration, held *Mark) {
	if len(targets) > 0 {
		w.oldest.lower(held)
	}
	w.targets = merge(w.targets, targets)
	if len(w.targets) > 0 {
		w.signal()
	}
}

func (w *waiting) signal() {
	select {
	case w.wake <- struct{}{}:
	default: // it is awake already
	}
}

// batch is the targets of a group that were taken from a lane. It ends with done, postpone or putBack, and then the map is no
// longer the taker's.
type batch struct {
	lane    *lane
	group   group
	targets map[rules.Target]time.Duration
	claims  []claimed         // of members, instead of targets
	doubts  int               // how often a server may have gone back in time before
	slots   redisnode.SlotSet // those that the server has

	patternsAt int // as that of the lane, and so is this
	covering   map[rules.Target]bool
}

func (b batch) waiting() *waiting { return &b.lane.groups[b.group] }
