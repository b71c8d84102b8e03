// Package invalidate makes Redis forget.
//
// What waits for Redis is a set of targets, not a queue: repeating, merging, reordering or widening them is always
// correct. So a batch that failed goes back into the set, and there is no order to repair.
package invalidate

import (
	"context"
	"fmt"
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
