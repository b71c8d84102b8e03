package invalidate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// scanCount is how many keys one SCAN looks at.
const scanCount = 1000

// walkAgainAfter is how long a pattern waits of which Redis does not allow a key to be deleted, or of which keys were
// moving from one master to another.
const walkAgainAfter = 5 * time.Second

// walkOver deletes what the patterns that wait match, all of them in one walk over the server's keys. The walk rests after
// each step for as long as the step took, so that it takes at most half of the server's time.
func (s *shard) walkOver(ctx context.Context) error {
	b := s.q.pending.take(s.lane, patterns)
	var refused map[rules.Target]error
	settled := !s.q.pending.moved(b)
	var err error
	if settled && len(b.targets) > 0 {
		refused, settled, err = s.walk(ctx, newWalk(s, b), b.slots)
	}
	if err != nil {
		s.q.pending.putBack(b)
		return err
	}
	if !settled || s.q.pending.moved(b) { // a key may have been moved behind the walk of another shard, or of this one
		s.q.pending.postpone(b, walkAgainAfter)
		return nil
	}
	return s.finish(b, refused, walkAgainAfter)
}

// walk is one pass over the keys of a server.
type walk struct {
	s          *shard   // whose keys they are
	batch      batch    // of the patterns
	keys, tags *matcher // nil: there are no such patterns
	match      string   // for Redis, what all of them begin with
	refused    map[rules.Target]error
	matched    int
}

func newWalk(s *shard, b batch) *walk {
	w := &walk{s: s, batch: b, refused: map[rules.Target]error{}}
	keys, tags := map[rules.Target]time.Duration{}, map[rules.Target]time.Duration{}
	var beginnings []string
	for t := range b.targets {
		if t.Kind == rules.TagPattern {
			tags[t] = 0
		} else {
			keys[t] = 0
		}
	}
	if len(keys) > 0 {
		w.keys = newMatcher(keys)
		beginnings = append(beginnings, w.keys.common)
		if s.q.opts.Read != nil {
			beginnings = append(beginnings, leasePrefix)
		}
	}
	if len(tags) > 0 {
		w.tags = newMatcher(tags)
		beginnings = append(beginnings, w.tags.common, movedPrefix)
	}
	common := beginnings[0]
	for _, b := range beginnings {
		common = commonBeginning(common, b)
	}
	w.match = rules.EscapeGlob(common) + "*"
	return w
}

// walk deletes what the patterns match, and returns those of which Redis does not allow a key to be deleted. After an
// error all are to be tried again, and so they are if in a Cluster the slots did not stay what they were at a time.
func (s *shard) walk(ctx context.Context, w *walk, at redisnode.SlotSet) (refused map[rules.Target]error, settled bool, err error) {
	settled = true
	look := func() error {
		if !s.cluster.is.Load() || !settled {
			return nil
		}
		settled, err = s.slotsStable(ctx, at)
		if err == nil && !settled {
			s.cluster.requestRefresh()
		}
		return err
	}
	if err := look(); err != nil {
		return nil, false, err
	}
	for cursor := uint64(0); ; {
		began := time.Now()
		keys, next, err := s.rdb.Scan(ctx, cursor, w.match, scanCount).Result()
		if err != nil {
			return nil, false, fmt.Errorf("SCAN: %w", err)
		}
		if err := w.step(ctx, keys); err != nil {
			return nil, false, err
		}
		if cursor = next; cursor == 0 {
			break
		}
		if err := rest(ctx, time.Since(began)); err != nil {
			return nil, false, err
		}
	}
	if err := look(); err != nil {
		return nil, false, err
	}
	s.answered()
	if s.q.opts.DryRun {
		s.q.opts.Log.Info("dry run: walked the keyspace", s.where(), zap.Int("matched", w.matched))
	}
	return w.refused, settled, nil
}

func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// step deletes those of some keys that a pattern matches. What may be a tag's set is read as that before it is deleted.
func (w *walk) step(ctx context.Context, keys []string) error {
	stale := map[kind][]string{}
	var sets []*tagReading
	seen := map[string]bool{} // a set and the one beside it are one
	for _, key := range keys {
		key, beside, ok := w.application(key)
		if !ok || seen[key] {
			continue
		}
		var tag, pattern rules.Target
		isTag, isKey := false, false
		if w.tags != nil {
			tag, isTag = w.tags.match(key)
		}
		if w.keys != nil && !beside {
			pattern, isKey = w.keys.match(key)
		}
		switch {
		case isTag && isKey:
			sets = append(sets, w.reading(pattern, tag, key, true))
		case isTag:
			sets = append(sets, w.reading(tag, tag, key, false))
		case isKey && w.s.q.tags.matches(key):
			tag, _ = w.s.q.tags.match(key)
			sets = append(sets, w.reading(pattern, tag, key, true))
		case isKey:
			w.add(stale, pattern, key)
		}
		seen[key] = isTag || isKey
	}
	if err := w.s.readTags(ctx, w.batch, sets); err != nil {
		return err
	}
	for _, r := range sets {
		w.matched++
		if r.noSet && r.deletes {
			w.add(stale, r.target, r.set.Key)
		}
		switch {
		case r.err != nil:
			w.refused[r.target] = r.err // it holds up no other pattern
		case r.full:
			w.s.q.pending.setAside(w.batch, r.target, r.set, walkAgainAfter)
		case !r.read():
			w.s.q.pending.setAside(w.batch, r.target, r.set, 0)
		}
	}
	return w.delete(ctx, stale)
}

// application returns the key of the application that a key stands for: itself, the one of a refresh that may be under way,
// or the set beside which there are claims. It is not ok if it is another key of pgevict's own.
func (w *walk) application(key string) (of string, beside, ok bool) {
	if !strings.HasPrefix(key, rules.Own) {
		return key, false, true
	}
	if of, ok := w.s.cluster.companionOf(movedPrefix, key); ok {
		return of, true, true
	}
	of, ok = w.s.cluster.companionOf(leasePrefix, key)
	return of, false, ok && w.s.q.opts.Read != nil
}

func (w *walk) reading(t, tag rules.Target, set string, deletes bool) *tagReading {
	r := w.s.newReading(t, tag.AsTag(set))
	r.deletes = deletes
	return r
}

func (w *walk) add(stale map[kind][]string, pattern rules.Target, key string) {
	k := kind{of: pattern}
	if w.s.cluster.is.Load() {
		k.slot = redisnode.SlotOf(key)
	}
	stale[k] = append(stale[k], key)
}

// delete deletes keys that are no sets of a tag.
func (w *walk) delete(ctx context.Context, stale map[kind][]string) error {
	var commands []command
	for k, keys := range stale {
		w.matched += len(keys)
		for part := range slices.Chunk(keys, keysPerCommand) {
			c := command{of: k.of, args: make([]any, 1, 1+len(part)), targets: []rules.Target{k.of}}
			for i := range part {
				c.args = append(c.args, &part[i])
			}
			commands = append(commands, c)
		}
	}
	if err := w.s.send(ctx, commands, func(redis.Pipeliner) {}); err != nil {
		return err
	}
	for i := range commands {
		c := &commands[i]
		switch err := c.refusal(); {
		case err == nil:
		case redisnode.IsDenied(err): // that one key must not be deleted says nothing about other keys
			w.refused[c.of] = err
		case redisnode.Redirected(err): // they are another server's by now, which is not to hold up this one
			for _, key := range c.keys() {
				w.s.learnOwner(key, err)
				w.s.q.pending.setAside(w.batch, c.of, c.of.AsKey(key), 0)
			}
		default:
			return err
		}
	}
	return nil
}

// slotsStable reports whether the server serves the same slots as at some time before, and no key is about to move from or
// to it.
func (s *shard) slotsStable(ctx context.Context, at redisnode.SlotSet) (bool, error) {
	nodes, err := s.rdb.ClusterNodes(ctx).Result()
	if err != nil {
		return false, fmt.Errorf("CLUSTER NODES: %w", err)
	}
	now, moving, err := redisnode.ReadMyself(nodes)
	return err == nil && len(moving) == 0 && now == at, err
}
