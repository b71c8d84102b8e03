// Package invalidate makes Redis forget.
//
// What waits for Redis is a set of targets, not a queue: repeating, merging, reordering or widening them is always
// correct. So a batch that failed goes back into the set, and there is no order to repair.
package invalidate

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"pgevict/rules"
)

// Options say how a queue works. Gap, Observer and Log are required.
type Options struct {
	// MaxPending is how many targets may wait; beyond it they widen to patterns. Those that wait for their second delete
	// are counted apart, with the same bound.
	MaxPending int
	// AgainAfter is how long after its delete a target is deleted once more, against a reader that read Postgres before
	// the commit and fills after the delete; up to an eighth later. 0: never.
	AgainAfter time.Duration
	// Timeout is how long Redis may take to connect or to answer.
	Timeout time.Duration
	// DryRun logs what would be deleted, and deletes nothing.
	DryRun bool
	// Gap is called when Redis may have lost deletes; why is one of the Gap constants.
	Gap      func(why string)
	Observer Observer
	Log      *zap.Logger
}

// The reasons for a gap.
const (
	GapRollback = "redis_rollback" // Redis' data is older than what was written to it, or gone
	GapRestart  = "redis_restart"  // another Redis process answers, or one that cannot be told from another
)

// Observer is told what happens. Its methods must not wait.
type Observer interface {
	// Evicted tells how many keys of a rule were there and are gone.
	Evicted(rule string, keys int64)
	// Applied tells how long a target took from Add to Redis' answer.
	Applied(time.Duration)
	// Widened tells of targets of a rule that became one because too many waited.
	Widened(rule string, targets int)
	// Failed tells of an error of Redis; kind is one of a few fixed words.
	Failed(kind string)
	// Swept tells of a sweep that has been done.
	Swept()
	// Connected tells whether Redis answers.
	Connected(bool)
	// Canary tells how long a mark took from where it began, through Redis.
	Canary(time.Duration)
}

// Stats is a look at a queue.
type Stats struct {
	Pending   int       // targets that wait for Redis, or are on their way to it
	Again     int       // targets that wait for their second delete
	Connected bool      // Redis answered when it was last spoken to
	Canary    time.Time // when a mark last went through Redis; zero: never
	Position  time.Time // when the mark was sent below which everything has been applied; zero: none
}

// Queue is the set of targets that wait for Redis.
type Queue struct {
	Options
	rdb   *redis.Client
	epoch time.Time

	mu       sync.Mutex
	keys     waiting
	patterns waiting
	covered  map[rules.Target]bool // patterns that wait and stand for targets that were too many
	delayed  []*delayed
	mark     Mark // the latest
	markDue  bool // it has not been written
	stats    Stats
	said     map[string]time.Time // when an error of each kind was logged
	run      string               // the id of Redis' process; empty: none seen

	position position // of the goroutine that flushes alone
	refusing bool     // Redis refused keys of the last flush; of that goroutine as well
}

// Mark says that all changes up to a position of Postgres have been added.
type Mark struct {
	Position uint64
	Sent     time.Time // when the canary that tells began its way
}

// New gives a queue before the Redis at o. Add may be called at once; nothing is deleted before Run.
func New(o *redis.Options, options Options) *Queue {
	q := &Queue{Options: options, epoch: time.Now(), said: map[string]time.Time{}, position: newPosition()}
	q.keys.wake = make(chan struct{}, 1)
	q.patterns.wake = make(chan struct{}, 1)
	q.rdb = q.client(o)
	return q
}

// waiting is the targets of one kind that wait, and those on their way.
type waiting struct {
	// pending holds when each was added, as time since the queue's epoch; 0: it waits for its second delete.
	pending map[rules.Target]time.Duration
	since   since         // of pending
	flying  since         // of those on their way
	aloft   int           // how many are on their way
	sweep   bool          // pending holds a sweep
	wake    chan struct{} // holds one
}

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

// delayed is a group of targets that goes back into the set later.
type delayed struct {
	targets map[rules.Target]time.Duration
	after   time.Duration // how long each waits at least
	open    time.Time     // until when others may join
	due     time.Time
	since   since // set for those that have never been applied
}

// Add puts targets into the set. It never waits for Redis, and never drops.
func (q *Queue) Add(targets ...rules.Target) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addAll(targets)
}

// Sweep puts the targets of a sweep into the set.
func (q *Queue) Sweep(targets ...rules.Target) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addAll(targets)
	if len(q.patterns.pending) > 0 {
		q.patterns.sweep = true
	} else {
		q.keys.sweep = true
	}
}

// Mark says that all changes up to a position have been added. The position is written once they are applied.
func (q *Queue) Mark(m Mark) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mark, q.markDue = m, true
	q.keys.signal()
}

// Stats gives a look at the queue.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.Pending = len(q.keys.pending) + q.keys.aloft + len(q.patterns.pending) + q.patterns.aloft
	for _, d := range q.delayed {
		if d.since.any {
			s.Pending += len(d.targets)
		} else {
			s.Again += len(d.targets)
		}
	}
	return s
}

// Run applies what waits until the context is done. What is on its way then is waited for, as long as Timeout allows,
// and goes back into the set if Redis does not answer.
func (q *Queue) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() {
		q.attempt(ctx, q.ping)
		q.loop(ctx, q.keys.wake, q.flush)
	})
	wg.Go(func() { q.loop(ctx, q.patterns.wake, q.pass) })
	wg.Wait()
}

// Drain applies what waits, once Run has returned and nothing is added any more, and writes the last position. Second
// deletes are not waited for. Its error says how much is left when the context is done.
func (q *Queue) Drain(ctx context.Context) error {
	defer func() { _ = q.rdb.Close() }() // nothing is left to do on it
	q.AgainAfter = 0
	q.release(true)
	q.attempt(ctx, q.flush)
	q.attempt(ctx, q.pass)
	q.attempt(ctx, func(ctx context.Context) error {
		q.mu.Lock()
		q.markDue = !q.mark.Sent.IsZero()
		q.mu.Unlock()
		return q.flush(ctx) // the position counts only what is applied
	})
	if n := q.Stats().Pending; n > 0 {
		return fmt.Errorf("stopped with %d targets that Redis did not take: the sweep of the next start covers them", n)
	}
	return nil
}

// loop takes a step whenever there is something to do.
func (q *Queue) loop(ctx context.Context, wake <-chan struct{}, step func(context.Context) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
			q.attempt(ctx, step)
		}
	}
}

// attempt takes a step, and takes it again until it succeeds or the context is done.
func (q *Queue) attempt(ctx context.Context, step func(context.Context) error) {
	for down := time.Now(); ctx.Err() == nil; {
		err := step(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			q.failed(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff(time.Since(down))):
		}
	}
}

// backoff is how long to wait before the next attempt: about an eighth of the outage so far, within 100 ms and 5 s.
func backoff(down time.Duration) time.Duration {
	d := min(max(down/8, 100*time.Millisecond), 5*time.Second)
	return d/2 + rand.N(d/2)
}

// The methods below are called with the lock held.

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
	w.since.add(q.mark)
	q.bound()
}

func (w *waiting) add(t rules.Target, added time.Duration) {
	if w.pending == nil {
		w.pending = map[rules.Target]time.Duration{}
	}
	if len(w.pending) == 0 {
		w.signal()
	}
	keep(w.pending, t, added)
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
	return targets, sweep
}

func (w *waiting) landed() { w.flying, w.aloft = since{}, 0 }

// putBack returns targets that were not applied to the set.
func (q *Queue) putBack(w *waiting, targets map[rules.Target]time.Duration, sweep bool) {
	if len(targets) > 0 {
		w.since.add(w.flying.mark)
		w.signal()
	}
	if len(targets) > len(w.pending) { // the smaller goes into the larger
		targets, w.pending = w.pending, targets
	}
	for t, added := range targets {
		w.add(t, added)
	}
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
