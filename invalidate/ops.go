package invalidate

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// op is a command for whichever server has a key.
type op struct {
	key    string
	cmd    redis.Cmder
	target rules.Target // for which it is
	lease  bool         // the key is a lease, which counts for no rule
}

const (
	opsPerPipeline = 1000
	// In a Cluster a command may be sent elsewhere so many times, and the next time after a while.
	mostRedirections = 5
	redirectAfter    = 50 * time.Millisecond
)

// do has each command executed by the server of its key, and follows those that are redirected. What became of each is
// in its reply.
func (c *cluster) do(ctx context.Context, ops []op) {
	for try := 0; len(ops) > 0; try++ {
		if try > 1 && rest(ctx, redirectAfter) != nil {
			return
		}
		each(c.byShard(ops), func(s *shard, ops []op) { pipe(ctx, s.rdb, ops, false) })
		asked := map[string][]op{}
		var again []op
		for i, o := range ops {
			err := o.cmd.Err()
			if try == mostRedirections {
				break
			}
			if !redisnode.Redirected(err) {
				if i > 0 && ops[i-1].lease && redisnode.Redirected(ops[i-1].cmd.Err()) { // the key goes behind its lease
					again = append(again, o)
				}
				continue
			}
			if addr, ok := redis.IsAskError(err); ok {
				asked[addr] = append(asked[addr], o)
				continue
			}
			if addr, ok := redis.IsMovedError(err); ok {
				c.setOwner(redisnode.SlotOf(o.key), addr)
			}
			again = append(again, o)
		}
		each(asked, func(addr string, ops []op) {
			rdb := redis.NewClient(c.options(addr)) // it may have no slot yet, and so no shard
			defer func() { _ = rdb.Close() }()
			pipe(ctx, rdb, ops, true)
		})
		var first []op // a lease that is asked for once more goes before its key all the same
		for _, ops := range asked {
			for _, o := range ops {
				if redisnode.Redirected(o.cmd.Err()) {
					first = append(first, o)
				}
			}
		}
		ops = slices.Concat(first, again)
	}
}

// deletionOf returns what deletes one key, wherever it is, behind what may be about to refresh it.
func (c *cluster) deletionOf(ctx context.Context, key string, t rules.Target) (ops []op) {
	if c.q.opts.Read != nil && !c.q.opts.DryRun {
		lease := c.companionKey(leasePrefix, key)
		ops = append(ops, op{key: lease, target: t, lease: true, cmd: redis.NewIntCmd(ctx, "unlink", lease)})
	}
	return append(ops, op{key: key, target: t, cmd: redis.NewIntCmd(ctx, c.q.verb(false), key)})
}

// deleteAll has deletions executed, counts what is gone, and returns the targets of those that failed.
func (c *cluster) deleteAll(ctx context.Context, deletions []op) map[rules.Target]error {
	c.do(ctx, deletions)
	c.q.count(deletions)
	failed := map[rules.Target]error{}
	for _, o := range deletions {
		if err := o.failure(); err != nil {
			failed[o.target] = err
		}
	}
	return failed
}

// failure is why the command failed, if it did. A key of another type has no such field, and no members.
func (o op) failure() error {
	err := o.cmd.Err()
	if err == nil || redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil
	}
	return fmt.Errorf("delete keys of the rule %q: %w", o.target.Rule(), err)
}

// count counts the keys and fields that are gone.
func (q *Queue) count(deletions []op) {
	gone := map[rules.Target]int64{}
	for _, o := range deletions {
		if !o.lease {
			gone[o.target.Widen()] += o.cmd.(*redis.IntCmd).Val()
		}
	}
	for of, n := range gone {
		q.evicted(of, n)
	}
}

// each does something with each entry, all at once.
func each[K comparable](groups map[K][]op, do func(K, []op)) {
	var all sync.WaitGroup
	for k, ops := range groups {
		if len(groups) == 1 {
			do(k, ops)
			return
		}
		all.Go(func() { do(k, ops) })
	}
	all.Wait()
}

func (c *cluster) byShard(ops []op) map[*shard][]op {
	of := map[*shard][]op{}
	for _, o := range ops {
		s := c.shardOf(redisnode.SlotOf(o.key))
		of[s] = append(of[s], o)
	}
	return of
}

// pipe sends commands to one server, in pipelines of bounded size; asking says that it was named for keys that are about
// to be its own.
func pipe(ctx context.Context, rdb interface{ Pipeline() redis.Pipeliner }, ops []op, asking bool) {
	for len(ops) > 0 {
		part := ops[:min(len(ops), opsPerPipeline)]
		ops = ops[len(part):]
		pipe := rdb.Pipeline()
		for _, o := range part {
			o.cmd.SetErr(nil)
			if asking {
				pipe.Do(ctx, "asking")
			}
			_ = pipe.Process(ctx, o.cmd) // which only puts it into the pipeline
		}
		_, err := pipe.Exec(ctx)
		whole := err != nil
		for _, o := range part {
			whole = whole && o.cmd.Err() == nil
		}
		for _, o := range part {
			if whole { // the handshake failed, of which no command knows
				o.cmd.SetErr(err)
			}
		}
	}
}
