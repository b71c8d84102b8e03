package invalidate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

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
	w := &s.groups[tags]
	s.mu.Lock()
	targets := w.take()
	s.mu.Unlock()
	sets := make([]tag, 0, len(targets))
	for t := range targets {
		sets = append(sets, tag{t.Key, t})
	}
	return s.done(tags, targets, s.forget(ctx, sets), retryAfter)
}

// forget deletes sets and their members, a step of each at a time, and gives the targets of those that it could not.
//
// A member that the application adds meanwhile must keep its place in the set, so the set is never deleted: a member
// moves to a set beside it, is deleted as a key, and leaves that set. If this ends halfway, whoever comes next finds in
// the set beside what has been moved and perhaps not deleted. The empty sets Redis deletes by itself.
func (q *Queue) forget(ctx context.Context, sets []tag) map[rules.Target]error {
	failed := map[rules.Target]error{}
	for some := range slices.Chunk(sets, setsPerStep) {
		var unread []*reading
		for _, t := range some {
			beside := q.beside(movedPrefix, t.key)
			unread = append(unread, &reading{tag: t, from: t.key, beside: beside}, &reading{tag: t, from: beside, beside: beside})
		}
		for len(unread) > 0 {
			unread = q.forgetSome(ctx, unread, failed)
		}
	}
	return failed
}

// reading is a set that is read in steps.
type reading struct {
	tag
	from   string // the set itself, or the one beside it
	beside string
	cursor uint64
}

// forgetSome takes a step in each set, and gives those that have not been read to the end.
func (q *Queue) forgetSome(ctx context.Context, sets []*reading, failed map[rules.Target]error) (unread []*reading) {
	failures := func(ops []op) {
		for _, o := range ops {
			if err := o.cmd.Err(); err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") { // another type has no members
				failed[o.target] = fmt.Errorf("delete a tag of the rule %q: %w", o.target.Rule(), err)
			}
		}
	}
	scans := make([]op, len(sets))
	for i, r := range sets {
		scans[i] = op{key: r.from, target: r.target, cmd: redis.NewScanCmd(ctx, nil, "sscan", r.from, strconv.FormatUint(r.cursor, 10), "count", membersPerStep)}
	}
	q.do(ctx, scans)
	failures(scans)

	members := make([][]string, len(sets))
	var moves []op
	for i, r := range sets {
		scan := scans[i].cmd.(*redis.ScanCmd)
		if scan.Err() != nil {
			continue
		}
		members[i], r.cursor = scan.Val()
		if q.DryRun {
			if len(members[i]) > 0 {
				q.Log.Info("dry run: would delete", zap.String("rule", r.target.Rule()), zap.String("tag", r.from), zap.Strings("keys", members[i]))
			}
			members[i] = nil
		}
		if r.from != r.beside {
			for _, m := range members[i] {
				moves = append(moves, op{key: r.from, target: r.target, cmd: redis.NewBoolCmd(ctx, "smove", r.from, r.beside, m)})
			}
		}
		if r.cursor != 0 {
			unread = append(unread, r)
		}
	}
	q.do(ctx, moves)
	failures(moves)

	var deletions, leaves []op
	for i, r := range sets {
		if failed[r.target] != nil || len(members[i]) == 0 {
			continue
		}
		args := []any{"srem", r.beside}
		for _, m := range members[i] {
			args = append(args, m)
			if !strings.HasPrefix(m, "pgevict:") { // an application has no business with those
				deletions = append(deletions, q.deletionOf(ctx, m, r.target)...)
			}
		}
		leaves = append(leaves, op{key: r.beside, target: r.target, cmd: redis.NewIntCmd(ctx, args...)})
	}
	maps.Copy(failed, q.doAll(ctx, deletions))
	leaves = slices.DeleteFunc(leaves, func(o op) bool { return failed[o.target] != nil })
	q.do(ctx, leaves)
	failures(leaves)
	return slices.DeleteFunc(unread, func(r *reading) bool { return failed[r.target] != nil })
}
