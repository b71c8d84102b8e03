package invalidate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"pgevict/invalidate/redisnode"

	"github.com/redis/go-redis/v9"
)

// PositionPrefix begins the key under which a process keeps its position. No pattern deletes such a key.
const PositionPrefix = "pgevict:position:"

// positionTTL is how long the position of a process that is gone stays in Redis.
const positionTTL = 7 * 24 * time.Hour

// marker is the key that this process writes to a server to learn whether that still has what was written before, and what
// it wrote there. Each process has keys of its own, so what comes back must be what it wrote last: several sidecars never
// hide a rollback from one another. In a Cluster each master has one, in a slot that it serves.
type marker struct {
	mu          sync.Mutex // the goroutine that flushes writes it, and a new master looks at it
	key         string     // empty: none yet
	sent, acked uint64     // numbers of the latest write that was sent, and that was acknowledged
}

// writePosition adds the write of the position to a pipeline, and returns what to call once that has been executed. The
// position counts the keys on their way as deleted, unless some are known to be refused; ahead says that some then were.
// The error is that of Redis, which has been taken note of.
func (s *shard) writePosition(ctx context.Context, pipe redis.Pipeliner, refused bool) (written func(ahead bool) error) {
	safe, latest := s.q.pending.through(s.lane, refused)
	key, sent, acked := s.nextWrite()
	var reply *redis.StatusCmd
	if s.q.opts.DryRun {
		reply = pipe.Ping(ctx)
	} else {
		value := fmt.Sprintf("%s %d %d", s.q.id, sent, safe.Position)
		reply = pipe.SetArgs(ctx, key, value, redis.SetArgs{Get: true, TTL: positionTTL})
	}
	return func(ahead bool) error {
		before, err := reply.Result()
		vouches := refused || !ahead
		if err != nil && !errors.Is(err, redis.Nil) {
			err = fmt.Errorf("write the position, %s*: %w", PositionPrefix, err)
			s.failed(err)
			s.cluster.requestRefresh()
			vouches = false
			if addr, moved := redis.IsMovedError(err); moved {
				slot := redisnode.SlotOf(key)
				s.cluster.setOwner(slot, addr)
				if !s.q.pending.ownedBy(s.lane, slot) { // so it needs another slot, which is known by now
					s.q.pending.requestMark(s.lane)
				}
			}
			if !redis.IsOOMError(err) { // a Redis that is full still deletes, so the way to it is whole
				return err
			}
		} else if !s.q.opts.DryRun {
			if !expected(before, s.q.id, sent, acked) {
				s.q.opts.Log.Warn("Redis went back in time or lost its data, so deletes may be undone")
				s.q.opts.Gap(GapRollback)
				vouches = false
			}
			s.acknowledged(key, sent)
		}
		s.q.opts.RedisObserver.Canary(time.Since(latest.Sent))
		s.health.canaryWent(time.Now())
		if vouches {
			s.q.reached(safe)
		}
		return nil
	}
}

// nextWrite returns the key for the position and the number of its next write, with that of the last that was acknowledged.
// If there is no key, or it is another server's by now, there is a new one.
func (s *shard) nextWrite() (key string, sent, acked uint64) {
	s.marker.mu.Lock()
	defer s.marker.mu.Unlock()
	m := &s.marker
	if m.key == "" || !s.q.pending.ownedBy(s.lane, redisnode.SlotOf(m.key)) {
		m.key, m.sent, m.acked = PositionPrefix+s.q.id, 0, 0
		if slot, ok := s.q.pending.aSlotOf(s.lane); ok {
			m.key += ":{" + redisnode.SlotTag(slot) + "}"
		}
	}
	m.sent++
	return m.key, m.sent, m.acked
}

func (s *shard) acknowledged(key string, sent uint64) {
	s.marker.mu.Lock()
	defer s.marker.mu.Unlock()
	if s.marker.key == key {
		s.marker.acked = sent
	}
}

// inheritPosition has a new master go on with the position of one that is gone, if it has the slot: what it answers tells
// whether it has heard of all that the other acknowledged.
func (s *shard) inheritPosition(gone []*shard) {
	for _, g := range gone {
		g.marker.mu.Lock()
		key, sent, acked := g.marker.key, g.marker.sent, g.marker.acked
		g.marker.mu.Unlock()
		if key != "" && s.q.pending.ownedBy(s.lane, redisnode.SlotOf(key)) {
			s.marker.key, s.marker.sent, s.marker.acked = key, sent, acked
			return
		}
	}
}

// expected reports whether a value is what was written last. A write of which the reply was lost may have been it.
func expected(value, id string, sent, acked uint64) bool {
	if acked == 0 {
		return true
	}
	fields := strings.Fields(value)
	if len(fields) != 3 || fields[0] != id {
		return false
	}
	number, err := strconv.ParseUint(fields[1], 10, 64)
	return err == nil && acked <= number && number < sent
}
