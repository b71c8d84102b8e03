package invalidate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"go.uber.org/zap"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// errCluster ends the talk to a server that was taken for a single one.
var errCluster = errors.New("it is a Cluster")

// lookAgain is how often the masters of a Cluster are looked up though nothing seems to be wrong.
const lookAgain = 30 * time.Second

// lookUp asks for the masters of a Cluster to be looked up.
func (q *Queue) lookUp() {
	if !q.inCluster.Load() {
		return
	}
	select {
	case q.reload <- struct{}{}:
	default: // that has been asked for
	}
}

// follow keeps to the masters of a Cluster, if it is one, until the context is done.
func (q *Queue) follow(ctx context.Context) {
	known := slices.Clone(q.redis.Addrs) // where to ask
	for said := (time.Time{}); ; {
		timer := time.NewTimer(lookAgain)
		select {
		case <-ctx.Done():
		case <-q.reload:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		if !q.inCluster.Load() {
			continue
		}
		t, err := q.discover(ctx, known)
		if err == nil {
			q.reshape(t)
			known = slices.Compact(slices.Sorted(slices.Values(slices.Concat(q.redis.Addrs, t.Nodes()))))
		} else if time.Since(said) > time.Minute {
			said = time.Now()
			q.Log.Warn("cannot look up the masters of the Cluster, will try again", zap.Error(err))
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
func (q *Queue) discover(ctx context.Context, known []string) (redisnode.Topology, error) {
	known = slices.Clone(known)
	rand.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
	q.mu.Lock()
	era := q.era
	q.mu.Unlock()
	var errs []error
	var best redisnode.Topology
	for _, addr := range known {
		t, err := redisnode.Ask(ctx, q.options(addr))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", addr, err))
		case t.Epoch >= era:
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

// reshape makes a shard for each new master, and has those of servers that are masters no more give what waits for them
// to the others. A new master may be a replica that never heard of the last deletes, so it is a gap.
func (q *Queue) reshape(t redisnode.Topology) {
	q.mu.Lock()
	first, canary := q.owner == nil, q.lastCanary()
	before := map[string]*shard{}
	for _, s := range q.shards {
		before[s.addr] = s
	}
	q.era = t.Epoch
	q.owner = new([redisnode.Slots]*shard)
	q.shards = nil
	var came, went []*shard
	moved := false
	for _, addr := range slices.Sorted(maps.Keys(t.Masters)) {
		s := before[addr]
		if s == nil {
			s = q.newShard(addr)
			s.markDue, s.canary = !q.mark.Sent.IsZero(), canary
			came = append(came, s)
		}
		delete(before, addr)
		moved = moved || s.slots != t.Masters[addr].Slots
		s.slots = t.Masters[addr].Slots
		for slot := range redisnode.Slots {
			if s.slots.Has(slot) {
				q.owner[slot] = s
			}
		}
		q.shards = append(q.shards, s)
	}
	for _, s := range before {
		went = append(went, s)
		q.leave(s)
	}
	for _, d := range q.delayed {
		if moved && d.group == patterns { // of which keys may be elsewhere now
			d.shard = nil
		}
	}
	for _, s := range came {
		q.adopt(s, went)
		s.groups[exact].signal()
		if q.start != nil {
			q.start(s)
		}
	}
	q.mu.Unlock()
	for _, s := range went {
		_ = s.rdb.Close() // what is on its way comes back as an error
	}
	if len(came) == 0 {
		return
	}
	q.Log.Info("found the masters of the Cluster", zap.Strings("masters", slices.Sorted(maps.Keys(t.Masters))))
	if !first {
		q.Log.Warn("a server has become a master, and may not have heard of all deletes")
		q.Gap(GapRestart)
	}
}

// leave has a shard give what waits for it to the others, and end. Called with the lock held.
func (q *Queue) leave(s *shard) {
	s.gone = true
	s.stop()
	if q.start != nil {
		q.parting = append(q.parting, s)
	}
	for g := range s.groups {
		w := &s.groups[g]
		if w.sweep {
			for _, other := range q.shards {
				other.groups[g].sweep = true
				other.groups[g].signal()
			}
		}
		targets, held := w.pending, w.since.mark
		w.pending, w.since, w.sweep = nil, since{}, false
		for t, added := range targets {
			q.route(t, added, held)
		}
	}
}

// homes gives the shards where a target is to be applied. Called with the lock held.
func (q *Queue) homes(t rules.Target) []*shard {
	if t.Kind != rules.Pattern && t.Kind != rules.TagPattern {
		return []*shard{q.serving(redisnode.SlotOf(t.Key))}
	}
	if slot, ok := redisnode.PinnedSlot(t.Key); ok {
		return []*shard{q.serving(slot)}
	}
	return q.shards
}

// serving gives the shard of a slot; of one that nobody serves, any, which will say so. Called with the lock held.
func (q *Queue) serving(slot int) *shard {
	if q.owner == nil {
		return q.shards[0]
	}
	if s := q.owner[slot]; s != nil {
		return s
	}
	return q.shards[0]
}

// learn takes note of where a slot was said to be served, which only a Cluster says.
func (q *Queue) learn(slot int, addr string) {
	q.inCluster.Store(true)
	q.lookUp()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.owner == nil {
		return
	}
	for _, s := range q.shards {
		if s.addr == addr {
			q.owner[slot] = s
		}
	}
}

// settled reports whether the server serves the same slots as at some time before, and no key is about to move from or
// to it.
func (s *shard) settled(ctx context.Context, at redisnode.SlotSet) (bool, error) {
	nodes, err := s.rdb.ClusterNodes(ctx).Result()
	if err != nil {
		return false, fmt.Errorf("CLUSTER NODES: %w", err)
	}
	now, moving, err := redisnode.ReadMyself(nodes)
	return err == nil && len(moving) == 0 && now == at, err
}
