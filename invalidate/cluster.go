package invalidate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"pgevict/invalidate/redisnode"
)

// errCluster ends the talk to a server that was taken for a single one.
var errCluster = errors.New("it is a Cluster")

// lookAgain is how often the masters of a Cluster are looked up though nothing seems to be wrong.
const lookAgain = 30 * time.Second

// cluster is the servers that take writes: one, until it turns out to be of a Cluster, and then all its masters.
type cluster struct {
	q       *Queue
	redis   *redis.UniversalOptions
	refresh chan struct{} // holds one: the masters are to be looked up
	is      atomic.Bool   // it is a Cluster; that is never taken back

	mu          sync.Mutex // of what follows; may be taken with the queue's held, and that of pending with it
	shards      map[string]*shard
	configEpoch uint64 // of the Cluster's configuration, as far as it is known
}

func newCluster(o *redis.UniversalOptions, q *Queue) *cluster {
	c := &cluster{q: q, redis: o, refresh: make(chan struct{}, 1)}
	only := q.pending.routes.lanes[0]
	c.shards = map[string]*shard{only.addr: newShard(q, c, only)}
	if o.MasterName == "" && len(o.Addrs) > 1 {
		c.is.Store(true)
		c.requestRefresh()
	}
	return c
}

// options returns those for one server.
func (c *cluster) options(addr string) *redis.Options {
	o := redisnode.FailFast(c.redis, "pgevict", c.q.opts.Timeout).Simple()
	o.Addr = addr
	return o
}

// all returns the shards of all servers that take writes.
func (c *cluster) all() []*shard {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.shards))
}

// health reports whether every server answers, and when a mark last went through every one.
func (c *cluster) health() (connected bool, canary time.Time) {
	connected = true
	for i, s := range c.all() {
		answers, last := s.health.look()
		connected = connected && answers
		if i == 0 || last.Before(canary) {
			canary = last
		}
	}
	return connected, canary
}

// shardOf returns the shard of the server that has a slot; of one that nobody serves, any, which will say so.
func (c *cluster) shardOf(slot int) *shard {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shards[c.q.pending.laneOf(slot).addr]
}

// requestRefresh asks for the masters of a Cluster to be looked up.
func (c *cluster) requestRefresh() {
	if !c.is.Load() {
		return
	}
	select {
	case c.refresh <- struct{}{}:
	default: // that has been asked for
	}
}

// setOwner takes note of where a slot was said to be served, which only a Cluster says.
func (c *cluster) setOwner(slot int, addr string) {
	c.is.Store(true)
	c.requestRefresh()
	c.q.pending.setOwner(slot, addr)
}

// follow keeps to the masters of a Cluster, if it is one, until the context is done.
func (c *cluster) follow(ctx context.Context) {
	known := slices.Clone(c.redis.Addrs) // where to ask
	for said := (logLimiter{}); ; {
		timer := time.NewTimer(lookAgain)
		select {
		case <-ctx.Done():
		case <-c.refresh:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		if !c.is.Load() {
			continue
		}
		t, err := c.discover(ctx, known)
		if err == nil {
			c.apply(t)
			known = slices.Compact(slices.Sorted(slices.Values(slices.Concat(c.redis.Addrs, t.Nodes()))))
		} else if said.allow("discover") {
			c.q.opts.Log.Warn("cannot look up the masters of the Cluster, will try again", zap.Error(err))
		}
		select { // many shards may ask for it at once
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// discover asks servers, in a random order, until one answers that does not know less than is known already. If all know
// less, the one that knows most is believed: a Cluster that was made anew counts from the beginning.
func (c *cluster) discover(ctx context.Context, known []string) (redisnode.Topology, error) {
	known = slices.Clone(known)
	rand.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
	c.mu.Lock()
	epoch := c.configEpoch
	c.mu.Unlock()
	var errs []error
	var best redisnode.Topology
	for _, addr := range known {
		t, err := redisnode.Ask(ctx, c.options(addr))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", addr, err))
		case t.Epoch >= epoch:
			return t, nil
		case best.Masters == nil || t.Epoch > best.Epoch:
			best = t
		}
	}
	if best.Masters == nil {
		return best, errors.Join(errs...)
	}
	return best, nil
}

// apply makes a shard for each new master, and ends those of servers that are masters no more. A new master may be a replica
// that never heard of the last deletes, so it is a gap.
func (c *cluster) apply(t redisnode.Topology) {
	_, canary := c.health()
	c.q.mu.Lock() // so that Run starts each shard once
	c.mu.Lock()
	first := c.shards[""] != nil
	c.configEpoch = t.Epoch
	came, went := c.q.pending.reroute(t.Masters)
	var ended []*shard
	for _, l := range went {
		ended = append(ended, c.shards[l.addr])
		delete(c.shards, l.addr)
	}
	for _, l := range came {
		s := newShard(c.q, c, l)
		s.health.canaryWent(canary)
		s.inheritPosition(ended)
		c.shards[l.addr] = s
		if c.q.start != nil {
			c.q.start(s)
		}
	}
	c.mu.Unlock()
	c.q.mu.Unlock()
	for _, s := range ended {
		s.end()
	}
	if len(came) == 0 {
		return
	}
	c.q.opts.Log.Info("found the masters of the Cluster", zap.Strings("masters", slices.Sorted(maps.Keys(t.Masters))))
	if !first {
		c.q.opts.Log.Warn("a server has become a master, and may not have heard of all deletes")
		c.q.gap(GapRestart)
	}
}
