package invalidate

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// What one step deals with: so many sets, and about so many members of each.
const (
	setsPerStep    = 64
	membersPerStep = 1000
)

// tag is a set whose members are keys.
type tag struct {
	key    string
	target rules.Target // for which it goes
}

// dropTags deletes the sets that wait, with their members.
func (s *shard) dropTags(ctx context.Context) error {
	b := s.q.pending.take(s.lane, tags)
	sets := make([]tag, 0, len(b.targets))
	for t := range b.targets {
		sets = append(sets, tag{t.Key, t})
	}
	return s.finish(b, s.cluster.forget(ctx, sets), retryAfter)
}

// forget deletes sets and their members, a step of each at a time, and returns the targets of those that it could not.
//
// A member that the application adds meanwhile must keep its place in the set, so the set is never deleted: a member
// moves to a set beside it, is deleted as a key, and leaves that set. If this ends halfway, whoever comes next finds in
// the set beside what has been moved and perhaps not deleted. The empty sets Redis deletes by itself.
func (c *cluster) forget(ctx context.Context, sets []tag) map[rules.Target]error {
	failed := map[rules.Target]error{}
	for some := range slices.Chunk(sets, setsPerStep) {
		var unread, all []*reading
		for _, t := range some {
			beside := c.companionKey(movedPrefix, t.key)
			unread = append(unread, &reading{tag: t, from: t.key, beside: beside}, &reading{tag: t, from: beside, beside: beside})
		}
		all = unread
		for len(unread) > 0 {
			unread = c.forgetSome(ctx, unread)
		}
		away := true // nothing answers
		for _, r := range all {
			if r.err != nil {
				failed[r.target] = r.err
			}
			away = away && r.err != nil && !redisnode.IsReply(r.err)
		}
		if away { // so what is left would only wait for nothing as well
			for _, t := range sets {
				failed[t.target] = all[0].err
			}
			break
		}
	}
	return failed
}

// reading is a set that is read in steps.
type reading struct {
	tag
	from    string // the set itself, or the one beside it
	beside  string
	cursor  uint64
	at      *shard   // where the cursor means something
	members []string // of this step
	err     error    // which ends it
}

// op returns a command for the set, or for the one beside it.
func (r *reading) op(key string, cmd redis.Cmder) op { return op{key: key, target: r.target, cmd: cmd} }

// forgetSome takes a step in each set, and returns those that have not been read to the end. One that fails holds up no other.
func (c *cluster) forgetSome(ctx context.Context, sets []*reading) (unread []*reading) {
	c.readMembers(ctx, sets)

	var moves steps
	for _, r := range sets {
		if r.from != r.beside {
			for _, m := range r.members {
				moves.add(r, r.op(r.from, redis.NewBoolCmd(ctx, "smove", r.from, r.beside, m)))
			}
		}
	}
	moves.take(ctx, c)

	var deletions, leaves steps
	for _, r := range sets {
		for _, m := range r.members {
			if r.err == nil && !strings.HasPrefix(m, "pgevict:") { // an application has no business with those
				deletions.add(r, c.deletionOf(ctx, m, r.target)...)
			}
		}
	}
	deletions.take(ctx, c)
	c.q.count(deletions.ops)
	for _, r := range sets {
		if r.err == nil && len(r.members) > 0 {
			args := []any{"srem", r.beside}
			for _, m := range r.members {
				args = append(args, m)
			}
			leaves.add(r, r.op(r.beside, redis.NewIntCmd(ctx, args...)))
		}
	}
	leaves.take(ctx, c)
	return slices.DeleteFunc(slices.Clone(sets), func(r *reading) bool { return r.err != nil || r.cursor == 0 })
}

// steps are commands, and whose each is.
type steps struct {
	ops []op
	of  []*reading
}

func (s *steps) add(r *reading, ops ...op) {
	for _, o := range ops {
		s.ops, s.of = append(s.ops, o), append(s.of, r)
	}
}

// take has them executed, and takes note of what failed.
func (s *steps) take(ctx context.Context, c *cluster) {
	c.do(ctx, s.ops)
	s.note()
}

func (s *steps) note() {
	for i, o := range s.ops {
		if err := o.failure(); err != nil {
			s.of[i].err = err
		}
	}
}

// readMembers reads the next members of each set. A cursor means something to one server alone, so only sets that are read
// from the beginning are followed to another.
func (c *cluster) readMembers(ctx context.Context, sets []*reading) {
	var first, next steps
	scans := make([]*redis.ScanCmd, len(sets))
	for i, r := range sets {
		scans[i] = redis.NewScanCmd(ctx, nil, "sscan", r.from, strconv.FormatUint(r.cursor, 10), "count", membersPerStep)
		switch {
		case r.cursor == 0:
			first.add(r, r.op(r.from, scans[i]))
		case c.shardOf(redisnode.SlotOf(r.from)) != r.at:
			r.err = fmt.Errorf("delete keys of the rule %q: %w", r.target.Rule(), redisnode.ErrMoved)
		default:
			next.add(r, r.op(r.from, scans[i]))
		}
	}
	first.take(ctx, c)
	each(c.byShard(next.ops), func(s *shard, ops []op) { pipe(ctx, s.rdb, ops, false) })
	next.note()
	for i, r := range sets {
		r.at, r.members = c.shardOf(redisnode.SlotOf(r.from)), nil
		if r.err != nil || scans[i].Err() != nil { // a key of another type has no members
			r.cursor = 0
			continue
		}
		r.members, r.cursor = scans[i].Val()
		if c.q.opts.DryRun && len(r.members) > 0 {
			c.q.opts.Log.Info("dry run: would delete", zap.String("rule", r.target.Rule()), zap.String("tag", r.from), zap.Strings("keys", r.members))
			r.members = nil
		}
	}
}
