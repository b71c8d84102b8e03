// Package invalidate makes Redis forget.
//
// What waits for Redis is a set of targets, not a queue: repeating, merging, reordering or widening them is always
// correct. So a batch that failed goes back into the set, and there is no order to repair.
package invalidate

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// Options say how a queue works. Gap, Observer and Log are required.
type Options struct {
	// MaxPending is how many targets may wait; beyond it they widen to patterns. Those that wait for their second delete
	// are counted apart, with the same bound. In a Cluster a pattern waits for each master.
	MaxPending int
	// AgainAfter is how long after its delete a target is deleted once more, against a reader that read Postgres before
	// the commit and fills after the delete; up to an eighth later. 0: never.
	AgainAfter time.Duration
	// Timeout is how long Redis may take to connect or to answer.
	Timeout time.Duration
	// DryRun logs what would be deleted, and deletes nothing.
	DryRun bool
	// Read reads what refreshed keys are to be, a value for each target; see Value. nil: such keys are deleted.
	Read func(ctx context.Context, targets []rules.Target) []Value
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
	// Evicted tells how many keys (and fields) of a rule were there and are gone.
	Evicted(rule string, keys int64)
	// Refreshed tells of keys of a rule that were read anew and set.
	Refreshed(rule string, keys int)
	// RefreshFailed tells of keys of a rule that were deleted since they could not be read.
	RefreshFailed(rule string, keys int)
	// Applied tells how long a target took from Add to Redis' answer.
	Applied(time.Duration)
	// Widened tells of targets of a rule that became one because too many waited.
	Widened(rule string, targets int)
	// Failed tells of an error of Redis; kind is one of a few fixed words.
	Failed(kind string)
	// Swept tells of a sweep that has been done.
	Swept()
	// Connected tells whether Redis answers, in a Cluster every master.
	Connected(bool)
	// Canary tells how long a mark took from where it began, through Redis, in a Cluster through one master.
	Canary(time.Duration)
}

// Stats is a look at a queue.
type Stats struct {
	Pending   int       // targets that wait for Redis, or are on their way to it
	Again     int       // targets that wait for their second delete
	Connected bool      // Redis answered when it was last spoken to, in a Cluster every master
	Canary    time.Time // when a mark last went through Redis, in a Cluster through every master; zero: never
	Position  time.Time // when the mark was sent below which everything has been applied; zero: none
}

// Queue is the set of targets that wait for Redis: those for each server that takes writes are in a shard of its own.
type Queue struct {
	Options
	redis *redis.UniversalOptions
	epoch time.Time
	id    string // of this process

	reload    chan struct{} // holds one: the masters are to be looked up
	inCluster atomic.Bool   // it is a Cluster; that is never taken back

	mu      sync.Mutex               // of the shards' targets too
	shards  []*shard                 // at least one
	parting []*shard                 // of servers that are masters no more, while something is on its way
	owner   *[redisnode.Slots]*shard // in a Cluster, once it is known
	era     uint64                   // of the Cluster's configuration, as far as it is known
	start   func(*shard)             // has a shard work; nil unless Run runs
	delayed []*delayed
	mark    Mark      // the latest
	reached time.Time // when the mark was sent below which everything has been applied
}

// Mark says that all changes up to a position of Postgres have been added.
type Mark struct {
	Position uint64
	Sent     time.Time // when the canary that tells began its way
}

// New gives a queue before the Redis at o: one server, or several of a Cluster, or the sentinels of a master with a name;
// one server turns out to be of a Cluster when it says so. Add may be called at once; nothing is deleted before Run.
func New(o *redis.UniversalOptions, options Options) *Queue {
	q := &Queue{Options: options, redis: o, epoch: time.Now(), id: rand.Text(), reload: make(chan struct{}, 1)}
	q.shards = []*shard{q.newShard("")}
	if o.MasterName == "" && len(o.Addrs) > 1 {
		q.inCluster.Store(true)
		q.lookUp()
	}
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
	for _, s := range q.shards {
		if w := &s.groups[patterns]; len(w.pending) > 0 {
			w.sweep = true
		} else {
			s.groups[exact].sweep = true
			s.groups[exact].signal()
		}
	}
}

// Mark says that all changes up to a position have been added. The position is written once they are applied.
func (q *Queue) Mark(m Mark) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mark = m
	for _, s := range q.shards {
		s.markDue = true
		s.groups[exact].signal()
	}
}

// Stats gives a look at the queue.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	stats := Stats{Connected: q.connected(), Position: q.reached, Canary: q.lastCanary()}
	for _, s := range slices.Concat(q.shards, q.parting) {
		for i := range s.groups {
			stats.Pending += len(s.groups[i].pending) + s.groups[i].aloft
		}
	}
	for _, d := range q.delayed {
		if d.since.any {
			stats.Pending += len(d.targets)
		} else {
			stats.Again += len(d.targets)
		}
	}
	return stats
}

// lastCanary is when a mark last went through every server. Called with the lock held.
func (q *Queue) lastCanary() time.Time {
	last := q.shards[0].canary
	for _, s := range q.shards {
		if s.canary.Before(last) {
			last = s.canary
		}
	}
	return last
}

// connected reports whether every server answers. Called with the lock held.
func (q *Queue) connected() bool {
	for _, s := range q.shards {
		if !s.answers {
			return false
		}
	}
	return true
}

// Run applies what waits until the context is done. What is on its way then is waited for, as long as Timeout allows,
// and goes back into the set if Redis does not answer.
func (q *Queue) Run(ctx context.Context) {
	var running sync.WaitGroup
	q.mu.Lock()
	q.start = func(s *shard) { running.Go(func() { s.work(ctx) }) }
	for _, s := range q.shards {
		q.start(s)
	}
	q.mu.Unlock()
	running.Go(func() { q.follow(ctx) })
	running.Wait()
	q.mu.Lock()
	q.start = nil
	q.mu.Unlock()
}

// Drain applies what waits, once Run has returned and nothing is added any more, and writes the last position. Second
// deletes are not waited for. Its error says how much is left when the context is done.
func (q *Queue) Drain(ctx context.Context) error {
	q.AgainAfter = 0
	q.release(true)
	each := func(do func(*shard)) {
		var all sync.WaitGroup
		for _, s := range q.shards {
			all.Go(func() { do(s) })
		}
		all.Wait()
	}
	defer each(func(s *shard) { _ = s.rdb.Close() }) // nothing is left to do on it
	each(func(s *shard) {
		for _, step := range s.steps() {
			s.attempt(ctx, step)
		}
	})
	q.release(true) // what was found to be another server's
	each(func(s *shard) {
		steps := s.steps()
		for _, step := range steps[1:] {
			s.attempt(ctx, step)
		}
		s.attempt(ctx, func(ctx context.Context) error {
			q.mu.Lock()
			s.markDue = !q.mark.Sent.IsZero()
			q.mu.Unlock()
			return s.flush(ctx) // the position counts only what is applied
		})
	})
	if n := q.Stats().Pending; n > 0 {
		return fmt.Errorf("stopped with %d targets that Redis did not take: the sweep of the next start covers them", n)
	}
	return nil
}
