package invalidate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgevict/invalidate/redisnode"

	"github.com/redis/go-redis/v9"
)

// PositionPrefix begins the key under which a process keeps its position. No pattern deletes such a key.
const PositionPrefix = "pgevict:position:"

// positionTTL is how long the position of a process that is gone stays in Redis.
const positionTTL = 7 * 24 * time.Hour

// position is what this process writes to a server to learn whether that still has what was written before. Each process
// has keys of its own, so what comes back must be what it wrote last: several sidecars never hide a rollback from one
// another. In a Cluster each master has one, in a slot that it serves. Only the goroutine that flushes writes it.
type position struct {
	key         string // empty: none yet
	sent, acked uint64 // numbers of the latest write that was sent, and that was acknowledged
}

// writePosition adds the write of the position to a pipeline, and gives what to call once that has been executed. The
// position counts the keys on their way as deleted, unless some are known to be refused; ahead says that some then were.
// The error is that of Redis, which has been taken note of.
func (s *shard) writePosition(ctx context.Context, pipe redis.Pipeliner, refused bool) (written func(ahead bool) error) {
	s.mu.Lock()
	latest, safe := s.mark, s.safe(refused)
	s.place()
	s.position.sent++
	p := s.position
	s.mu.Unlock()
	var reply *redis.StatusCmd
	if s.DryRun {
		reply = pipe.Ping(ctx)
	} else {
		value := fmt.Sprintf("%s %d %d", s.id, p.sent, safe.Position)
		reply = pipe.SetArgs(ctx, p.key, value, redis.SetArgs{Get: true, TTL: positionTTL})
	}
	return func(ahead bool) error {
		before, err := reply.Result()
		vouches := refused || !ahead
		if err != nil && !errors.Is(err, redis.Nil) {
			err = fmt.Errorf("write the position, %s*: %w", PositionPrefix, err)
			s.failed(err)
			s.lookUp()
			vouches = false
			if addr, moved := redis.IsMovedError(err); moved {
				s.learn(redisnode.SlotOf(p.key), addr)
				s.reposition()
			}
			if !redis.IsOOMError(err) { // a Redis that is full still deletes, so the way to it is whole
				return err
			}
		} else if !s.DryRun {
			if !p.expected(s.id, before) {
				s.Log.Warn("Redis went back in time or lost its data, so deletes may be undone")
				s.Gap(GapRollback)
				vouches = false
			}
			p.acked = p.sent
			s.acknowledge(p)
		}
		s.Observer.Canary(time.Since(latest.Sent))
		s.mu.Lock()
		defer s.mu.Unlock()
		s.canary = time.Now()
		if vouches {
			s.reached = safe.Sent
		}
		return nil
	}
}

// reposition has the position written once more if it needs another slot, which is known by now.
func (s *shard) reposition() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != nil && s.owner[redisnode.SlotOf(s.position.key)] != s {
		s.markDue = true
		s.groups[exact].signal()
	}
}

func (s *shard) acknowledge(p position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.position = p
}

// place finds a key for the position, if there is none or it is another server's by now. Called with the lock held.
func (s *shard) place() {
	if s.position.key != "" && (s.owner == nil || s.owner[redisnode.SlotOf(s.position.key)] == s) {
		return
	}
	s.position = position{key: PositionPrefix + s.id}
	if s.owner == nil {
		return
	}
	for slot := range redisnode.Slots {
		if s.owner[slot] == s {
			s.position.key += ":{" + redisnode.SlotTag(slot) + "}"
			return
		}
	}
}

// adopt gives a new master the position of one that is gone, if it has the slot: what it answers tells whether it has
// heard of all that the other acknowledged. Called with the lock held.
func (q *Queue) adopt(s *shard, gone []*shard) {
	for _, g := range gone {
		if g.position.key != "" && q.owner[redisnode.SlotOf(g.position.key)] == s {
			s.position = g.position
			return
		}
	}
}

// expected reports whether a value is what was written last. A write of which the reply was lost may have been it.
func (p *position) expected(id, value string) bool {
	if p.acked == 0 {
		return true
	}
	fields := strings.Fields(value)
	if len(fields) != 3 || fields[0] != id {
		return false
	}
	number, err := strconv.ParseUint(fields[1], 10, 64)
	return err == nil && p.acked <= number && number < p.sent
}

// safe is the latest mark below which everything is applied once the keys on their way to the shard are, or without those
// if some were refused. Called with the lock held.
func (s *shard) safe(refused bool) Mark {
	oldest := s.mark
	hold := func(held since) {
		if held.any && held.mark.Sent.Before(oldest.Sent) {
			oldest = held.mark
		}
	}
	for _, other := range slices.Concat(s.shards, s.parting) {
		for g := range other.groups {
			w := &other.groups[g]
			hold(w.since)
			if other != s || group(g) != exact || refused {
				hold(w.flying)
			}
		}
	}
	for _, d := range s.delayed {
		hold(d.since)
	}
	return oldest
}
