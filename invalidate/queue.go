package invalidate

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"pgevict/rules"
)

// Options say how a queue works. The functions, the observers and Log are required, but for Read.
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
	// Tags are those of the rules, as wide as they get: whatever else such a set is, a key of a pattern or a member of
	// another, it is not deleted before its members were read.
	Tags []rules.Target
	// Gap is called when Redis may have lost deletes; why is one of the Gap constants. Sweeping is called when a sweep begins
	// to wait for Redis, and Swept when all that did have been done; both must not wait.
	Gap      func(why string)
	Sweeping func()
	Swept    func()

	Observer        Observer
	RefreshObserver RefreshObserver
	RedisObserver   RedisObserver
	Log             *zap.Logger
}

// The reasons for a gap.
const (
	GapRollback = "redis_rollback" // Redis' data is older than what was written to it, or gone
	GapRestart  = "redis_restart"  // another Redis process answers
	GapUnknown  = "redis_unknown"  // a new connection, and it cannot be told whether another Redis process answers there
)

// Stats is a look at a queue.
type Stats struct {
	Pending        int       // targets that wait for Redis, or are on their way to it
	SecondDeletes  int       // targets that wait for their second delete
	Connected      bool      // Redis answered when it was last spoken to, in a Cluster every master
	Canary         time.Time // when a mark last went through Redis, in a Cluster through every master; zero: never
	AppliedThrough time.Time // when the mark was sent below which everything has been applied; zero: none
}

// Mark says that all changes up to a position of Postgres have been added.
type Mark struct {
	Position uint64
	Sent     time.Time // when the canary that tells began its way
	Canary   string    // names that canary to whoever hears the same ones; empty: nobody does. See Queue.Forget
}

// Queue is the targets that wait for Redis, and what applies them there: a shard for each server that takes writes.
type Queue struct {
	opts    Options
	id      string   // of this process
	tags    *matcher // of the sets that are tags of the rules; nil: none
	pending *pending
	cluster *cluster

	mu             sync.Mutex   // of what follows; never taken with that of pending held
	start          func(*shard) // has a shard work; nil unless Run runs
	appliedThrough time.Time    // when the mark was sent below which everything has been applied
}

// New returns a queue before the Redis at o: one server, or several of a Cluster, or the sentinels of a master with a name;
// one server turns out to be of a Cluster when it says so. Add may be called at once; nothing is deleted before Run.
func New(o *redis.UniversalOptions, options Options) *Queue {
	q := &Queue{opts: options, id: rand.Text(), tags: tagMatcher(options.Tags), pending: newPending(&options)}
	q.cluster = newCluster(o, q)
	return q
}

// Add has targets wait. It never waits for Redis, and never drops.
func (q *Queue) Add(targets ...rules.Target) { q.pending.add(targets) }

// Sweep has the targets of a sweep wait.
func (q *Queue) Sweep(targets ...rules.Target) { q.pending.sweep(targets) }

// SweepLater has the targets of a sweep wait after a while, or when the queue is drained. Until then they count as not applied.
func (q *Queue) SweepLater(after time.Duration, targets ...rules.Target) {
	q.pending.sweepLater(after, targets)
}

// Mark says that all changes up to a position have been added. The position is written once they are applied.
func (q *Queue) Mark(m Mark) { q.pending.setMark(m) }

// Hold keeps all that waits, and all that is added, from being applied, until Release: for one that stands by while another
// queue applies the same changes. Marks are written as ever, and count what is held as not applied.
func (q *Queue) Hold() { q.pending.hold() }

// Forget says that the other has applied all that came before a canary: what came here since an earlier one alone, and not
// after it again, is held no longer.
func (q *Queue) Forget(canary string) { q.pending.forget(canary) }

// Release ends Hold: what is held is applied.
func (q *Queue) Release() { q.pending.release() }

// Stats returns a look at the queue.
func (q *Queue) Stats() Stats {
	var stats Stats
	stats.Pending, stats.SecondDeletes = q.pending.count()
	stats.Connected, stats.Canary = q.cluster.health()
	q.mu.Lock()
	defer q.mu.Unlock()
	stats.AppliedThrough = q.appliedThrough
	return stats
}

// Run applies what waits until the context is done. What is on its way then is waited for, as long as Timeout allows,
// and waits again if Redis does not answer.
func (q *Queue) Run(ctx context.Context) {
	var running sync.WaitGroup
	q.mu.Lock()
	q.start = func(s *shard) { running.Go(func() { s.work(ctx) }) }
	for _, s := range q.cluster.all() {
		q.start(s)
	}
	q.mu.Unlock()
	running.Go(func() { q.cluster.follow(ctx) })
	running.Wait()
	q.mu.Lock()
	q.start = nil
	q.mu.Unlock()
}

// lastPositionTime is how long the last position may take to be written. Nothing depends on it.
const lastPositionTime = time.Second

// Drain applies what waits, once Run has returned and nothing is added any more, and writes the last position, if Redis
// answers. Second deletes are not waited for. Its error says how much is left when the context is done.
func (q *Queue) Drain(ctx context.Context) error {
	q.pending.endSecondDeletes()
	shards := q.cluster.all()
	each := func(do func(*shard)) {
		var all sync.WaitGroup
		for _, s := range shards {
			all.Go(func() { do(s) })
		}
		all.Wait()
	}
	defer each(func(s *shard) { _ = s.rdb.Close() })    // nothing is left to do on it
	each(func(s *shard) { q.pending.takeMark(s.lane) }) // which is for the end
	// What was found to be another server's, or to be a member of a tag, takes more than one turn, and a large tag many; so does
	// what Redis refuses, but a turn in which nothing else was applied is the last, unless it is the first.
	for turn, before := 0, 0; ctx.Err() == nil; turn++ {
		each(func(s *shard) {
			for _, step := range s.steps() {
				s.attempt(ctx, step)
			}
		})
		q.pending.endSecondDeletes()
		left, _ := q.pending.count()
		now := q.pending.progress()
		if left == 0 || turn > 0 && now == before {
			break
		}
		before = now
	}
	ctx, cancel := context.WithTimeout(ctx, lastPositionTime)
	defer cancel()
	each(func(s *shard) {
		if answers, _ := s.health.look(); answers {
			s.attempt(ctx, func(ctx context.Context) error {
				q.pending.returnMark(s.lane)
				return s.flush(ctx) // the position counts only what is applied
			})
		}
	})
	if n := q.Stats().Pending; n > 0 {
		return fmt.Errorf("stopped with %d targets that Redis did not take: the sweep of the next start covers them", n)
	}
	return nil
}

// gap says that Redis may have lost deletes.
func (q *Queue) gap(why string) {
	q.pending.doubt()
	q.opts.Gap(why)
}

// reached takes note of the mark below which everything has been applied.
func (q *Queue) reached(m Mark) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.appliedThrough = m.Sent
}
