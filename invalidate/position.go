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
	"go.uber.org/zap"
)

// PositionPrefix begins the key under which a process keeps its position. No pattern deletes such a key.
const PositionPrefix = "pgevict:position:"

// positionTTL is how long the position of a process that is gone stays in Redis, and endingTTL how long a key of one that is
// there does after it has been given up.
const (
	positionTTL = 7 * 24 * time.Hour
	endingTTL   = time.Minute
)

// marker is where this process writes its position to a server, to learn whether that still has what was written before. Each
// process has keys of its own, so what a key holds must be what was written to it last: several sidecars never hide a rollback
// from one another. In a Cluster each master has one, in a slot that it serves.
//
// A write of which the reply was lost may be executed at any time yet: after a link was dark for a while, what was sent
// before arrives behind what was sent on another connection since. So no write follows to the place of such a one, but for
// those that find out whether it holds what was acknowledged there, or later. Once that is known nobody looks at it any more.
type marker struct {
	mu     sync.Mutex // the goroutine that flushes writes it, and a new master looks at it
	number uint64     // of the latest write
	lost   bool       // its reply was lost, or has not come yet
	place  place      // where it went
	before place      // of the latest acknowledged write, if it went elsewhere
	ending string     // a key that nobody looks at any more
	places int        // how many there have been
}

// place is a key for the position.
type place struct {
	key   string // empty: none
	acked uint64 // the number of the latest write to it that was acknowledged; 0: none was
}

// lacks reports whether a value is older than what was acknowledged there. Next is the number of the write that returned it.
func (p place) lacks(value, id string, next uint64) bool {
	if p.acked == 0 {
		return false
	}
	fields := strings.Fields(value)
	if len(fields) != 3 || fields[0] != id {
		return true
	}
	number, err := strconv.ParseUint(fields[1], 10, 64)
	return err != nil || number < p.acked || number >= next
}

// positionWrite is a write of the position on its way.
type positionWrite struct {
	number        uint64
	place, before place
	ending        string
	replies       []positionReply
}

// positionReply is what was at a place before the write.
type positionReply struct {
	place
	*redis.StatusCmd
}

// next returns the next write. If there is no place, or its slot is another server's by now, there is a new one.
func (m *marker) next(id string, p *pending, l *lane) positionWrite {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.place.key == "" || !p.ownedBy(l, redisnode.SlotOf(m.place.key)):
		m.place, m.before, m.ending = place{key: m.name(id, p, l)}, place{}, ""
	case m.lost:
		if m.place.acked > 0 {
			m.before = m.place
		}
		m.places++
		m.place = place{key: m.name(id, p, l)}
	}
	m.number++
	m.lost = true
	return positionWrite{number: m.number, place: m.place, before: m.before, ending: m.ending}
}

// name names a new key for the position of a process.
func (m *marker) name(id string, p *pending, l *lane) string {
	key := PositionPrefix + id
	if m.places > 0 {
		key += ":" + strconv.Itoa(m.places)
	}
	if slot, ok := p.aSlotOf(l); ok {
		key += ":{" + redisnode.SlotTag(slot) + "}"
	}
	return key
}

// answered takes note that the reply to a write has come, and whether that was executed.
func (m *marker) answered(w positionWrite, executed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.number != w.number || m.place.key != w.place.key { // it has been given to a new master meanwhile
		return
	}
	m.lost = false
	if executed {
		m.place.acked, m.before, m.ending = w.number, place{}, w.before.key
	}
}

// inherit goes on where another has ended, on a server that has the slot.
func (m *marker) inherit(from *marker) {
	m.number, m.lost, m.place, m.before, m.ending, m.places = from.number, from.lost, from.place, from.before, from.ending, from.places
}

// addTo adds the write to a pipeline. Behind it each key holds its number.
func (w *positionWrite) addTo(ctx context.Context, pipe redis.Pipeliner, id string, position uint64) {
	value := fmt.Sprintf("%s %d %d", id, w.number, position)
	set := func(at place, ttl time.Duration) {
		w.replies = append(w.replies, positionReply{at, pipe.SetArgs(ctx, at.key, value, redis.SetArgs{Get: true, TTL: ttl})})
	}
	if w.before.key != "" {
		set(w.before, positionTTL)
	}
	if w.ending != "" {
		set(place{key: w.ending}, endingTTL)
	}
	set(w.place, positionTTL)
}

// outcome returns what a place had that lacks what was acknowledged there, if one does, or the error of a reply.
func (w *positionWrite) outcome(id string) (lacking place, found string, err error) {
	for _, r := range w.replies {
		value, err := r.Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return place{}, "", err
		}
		if lacking.key == "" && r.lacks(value, id, w.number) {
			lacking, found = r.place, value
		}
	}
	return lacking, found, nil
}

// writePosition adds the write of the position to a pipeline, and returns what to call once that has been executed. The
// position counts the keys on their way as deleted, unless some are known to be refused; ahead says that some then were.
// The error is that of Redis, which has been taken note of.
func (s *shard) writePosition(ctx context.Context, pipe redis.Pipeliner, refused bool) (written func(ahead bool) error) {
	safe, latest := s.q.pending.through(s.lane, refused)
	write := s.marker.next(s.q.id, s.q.pending, s.lane)
	if s.q.opts.DryRun {
		write.replies = []positionReply{{StatusCmd: pipe.Ping(ctx)}}
	} else {
		write.addTo(ctx, pipe, s.q.id, safe.Position)
	}
	return func(ahead bool) error {
		lacking, found, err := write.outcome(s.q.id)
		s.marker.answered(write, err == nil)
		vouches := refused || !ahead
		if err != nil {
			err = fmt.Errorf("write the position, %s*: %w", PositionPrefix, err)
			s.failed(err)
			s.cluster.requestRefresh()
			vouches = false
			if addr, moved := redis.IsMovedError(err); moved {
				slot := redisnode.SlotOf(write.place.key)
				s.cluster.setOwner(slot, addr)
				if !s.q.pending.ownedBy(s.lane, slot) { // so it needs another slot, which is known by now
					s.q.pending.requestMark(s.lane)
				}
			}
			if !redis.IsOOMError(err) { // a Redis that is full still deletes, so the way to it is whole
				return err
			}
		}
		if lacking.key != "" {
			s.wentBack(lacking, found)
			vouches = false
		}
		s.q.opts.RedisObserver.Canary(time.Since(latest.Sent))
		s.health.canaryWent(time.Now())
		if vouches {
			s.q.reached(safe)
		}
		return nil
	}
}

// wentBack takes note of a place that does not hold what was acknowledged there. Somebody may write something else to it
// again and again.
func (s *shard) wentBack(lacking place, found string) {
	if s.health.news("position") {
		s.q.opts.Log.Warn("Redis went back in time or lost its data, or somebody wrote to pgevict's position, so deletes may be undone",
			s.where(), zap.String("key", lacking.key), zap.Uint64("written", lacking.acked), zap.String("found", found[:min(len(found), 100)]))
	}
	s.q.gap(GapRollback)
}

// inheritPosition has a new master go on with the position of one that is gone, if it has the slot: what it answers tells
// whether it has heard of all that the other acknowledged.
func (s *shard) inheritPosition(gone []*shard) {
	for _, g := range gone {
		g.marker.mu.Lock()
		key := g.marker.place.key
		has := key != "" && s.q.pending.ownedBy(s.lane, redisnode.SlotOf(key))
		if has {
			s.marker.inherit(&g.marker)
		}
		g.marker.mu.Unlock()
		if has {
			return
		}
	}
}
