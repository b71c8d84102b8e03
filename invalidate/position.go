package invalidate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// positionPrefix begins the key under which a process keeps its position. No pattern deletes such a key.
const positionPrefix = "pgevict:position:"

// positionTTL is how long the position of a process that is gone stays in Redis.
const positionTTL = 7 * 24 * time.Hour

// position is what this process writes to Redis to learn whether Redis still has what was written before. Each process
// has a key of its own, so what comes back must be what it wrote last: several sidecars never hide a rollback from one
// another. Only the goroutine that flushes uses it.
type position struct {
	id          string
	sent, acked uint64 // numbers of the latest write that was sent, and that was acknowledged
}

func newPosition() position { return position{id: rand.Text()} }

// writePosition adds the write of the position to a pipeline, and gives what to call once that has been executed. The
// position counts the keys on their way as deleted, unless some are known to be refused; ahead says that some then were.
// The error is that of Redis, which has been taken note of.
func (q *Queue) writePosition(ctx context.Context, pipe redis.Pipeliner, refused bool) (written func(ahead bool) error) {
	q.mu.Lock()
	latest, safe := q.mark, q.safe(refused)
	q.mu.Unlock()
	p := &q.position
	p.sent++
	number := p.sent
	var reply *redis.StatusCmd
	if q.DryRun {
		reply = pipe.Ping(ctx)
	} else {
		value := fmt.Sprintf("%s %d %d", p.id, number, safe.Position)
		reply = pipe.SetArgs(ctx, positionPrefix+p.id, value, redis.SetArgs{Get: true, TTL: positionTTL})
	}
	return func(ahead bool) error {
		before, err := reply.Result()
		vouches := refused || !ahead
		if err != nil && !errors.Is(err, redis.Nil) {
			err = fmt.Errorf("write the position, %s*: %w", positionPrefix, err)
			q.failed(err)
			vouches = false
			if !redis.IsOOMError(err) { // a Redis that is full still deletes, so the way to it is whole
				return err
			}
		} else if !q.DryRun {
			if !p.expected(before) {
				q.Log.Warn("Redis went back in time or lost its data, so deletes may be undone")
				q.Gap(GapRollback)
				vouches = false
			}
			p.acked = number
		}
		q.Observer.Canary(time.Since(latest.Sent))
		q.mu.Lock()
		defer q.mu.Unlock()
		q.stats.Canary = time.Now()
		if vouches {
			q.stats.Position = safe.Sent
		}
		return nil
	}
}

// expected reports whether a value is what was written last. A write of which the reply was lost may have been it.
func (p *position) expected(value string) bool {
	if p.acked == 0 {
		return true
	}
	fields := strings.Fields(value)
	if len(fields) != 3 || fields[0] != p.id {
		return false
	}
	number, err := strconv.ParseUint(fields[1], 10, 64)
	return err == nil && p.acked <= number && number < p.sent
}

// safe is the latest mark below which everything is applied once the keys on their way are, or without those if some
// were refused. Called with the lock held.
func (q *Queue) safe(refused bool) Mark {
	held := []since{q.keys.since, q.patterns.since, q.patterns.flying}
	if refused {
		held = append(held, q.keys.flying)
	}
	for _, d := range q.delayed {
		held = append(held, d.since)
	}
	oldest := q.mark
	for _, s := range held {
		if s.any && s.mark.Sent.Before(oldest.Sent) {
			oldest = s.mark
		}
	}
	return oldest
}
