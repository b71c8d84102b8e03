package invalidate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// shard is one server that takes writes, and what applies there the targets of its lane: a goroutine for each group, so that
// a walk holds up no key. A server that is away holds up no other.
type shard struct {
	q       *Queue   // whose it is: its options, and what waits
	cluster *cluster // of which it is a master; the way to what turns out to be another's
	lane    *lane
	rdb     *redis.Client
	health  health
	marker  marker

	ended atomic.Bool   // the server is a master no more
	stop  chan struct{} // closed then

	refusing bool // it refused targets of the last flush; of the goroutine that flushes alone
}

func newShard(q *Queue, c *cluster, l *lane) *shard {
	s := &shard{q: q, cluster: c, lane: l, stop: make(chan struct{})}
	s.rdb = s.client()
	return s
}

func (s *shard) client() *redis.Client {
	o := redisnode.FailFast(s.cluster.redis, "pgevict", s.q.opts.Timeout)
	// Few are ever in use. But once as many dials as this have failed, the pool dials just once a second, which would
	// make us late when Redis is back.
	o.PoolSize = 1000
	o.OnConnect = s.onConnect
	if o.MasterName != "" {
		return redis.NewFailoverClient(o.Failover())
	}
	one := o.Simple()
	if s.lane.addr != "" {
		one.Addr = s.lane.addr
	}
	return redis.NewClient(one)
}

// onConnect looks whether it is still the same Redis process that answers. One that has restarted, or another that took
// its place, may lack what the first acknowledged.
func (s *shard) onConnect(ctx context.Context, conn *redis.Conn) error {
	info, err := conn.Info(ctx).Result()
	if err != nil && !redis.IsPermissionError(err) {
		return fmt.Errorf("INFO: %w", err)
	}
	if redisnode.Mode(info) == "sentinel" {
		return nil // the client asks them who is the master
	}
	c, clustered, alone := s.cluster, redisnode.IsCluster(info), s.lane.addr == ""
	if alone && c.is.Load() && !clustered && info != "" {
		return errors.New("several addr= in REDIS_URL mean a Cluster, and this server is of none")
	}
	if clustered && c.redis.MasterName != "" {
		return errors.New("the master that the sentinels name is of a Cluster: name its servers in REDIS_URL, without master_name=")
	}
	if alone && clustered {
		if c.redis.DB != 0 {
			return errors.New("it is a Cluster, which has database 0 alone, and REDIS_URL names another")
		}
		c.is.Store(true)
		c.requestRefresh()
		return errCluster
	}
	run := redisnode.InfoField(info, "run_id")
	before := s.health.meet(run)
	switch {
	case before == "" || run != "" && run == before:
	case run == "":
		if s.health.news(GapUnknown) {
			s.q.opts.Log.Warn("a new connection to Redis may be to another process than before, which cannot be told, so deletes may be lost",
				s.where(), zap.Bool("info_allowed", err == nil))
		}
		s.q.gap(GapUnknown)
	default:
		s.q.opts.Log.Warn("another Redis process answers, so deletes may be lost", s.where())
		s.q.gap(GapRestart)
	}
	return nil
}

// steps are what takes what waits in each group, and applies it.
func (s *shard) steps() [groups]func(context.Context) error {
	return [groups]func(context.Context) error{exact: s.flush, patterns: s.walkOver, tags: s.dropTags, refreshes: s.refresh, members: s.deleteMembers}
}

// work applies what waits until the context is done, or the server is no master any more.
func (s *shard) work(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	for g, step := range s.steps() {
		all.Go(func() {
			if group(g) == exact {
				s.attempt(ctx, s.ping)
			}
			for {
				select {
				case <-ctx.Done():
					return
				case <-s.lane.wake(group(g)):
					s.attempt(ctx, step)
				}
			}
		})
	}
	all.Wait()
}

// end has the work end. What is in flight comes back as an error.
func (s *shard) end() {
	s.ended.Store(true)
	close(s.stop)
	_ = s.rdb.Close() // nothing is left to do on it
}

// attempt takes a step, and takes it again until it succeeds or the context is done.
func (s *shard) attempt(ctx context.Context, step func(context.Context) error) {
	for down := time.Now(); ctx.Err() == nil; {
		err := step(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil && !errors.Is(err, errCluster) {
			s.failed(err)
		}
		s.cluster.requestRefresh()
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

// ping finds out whether Redis answers, before there is anything to tell it.
func (s *shard) ping(ctx context.Context) error {
	return s.send(ctx, nil, func(pipe redis.Pipeliner) { pipe.Ping(ctx) })
}

// finish ends a batch that was applied, but for what Redis refused. If that is all of it, it waits again, and it is an error;
// but not patterns, since a walk is too dear to be tried again at once.
func (s *shard) finish(b batch, refused map[rules.Target]error, retry time.Duration) error {
	var refusal error
	for _, refusal = range refused {
		break
	}
	if refusal != nil && b.group != patterns && len(refused) == len(b.targets) {
		s.q.pending.putBack(b)
		return refusal
	}
	if refusal != nil {
		s.failed(refusal)
	}
	s.q.pending.done(b, refused, retry)
	return nil
}
