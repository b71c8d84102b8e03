package invalidate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// Value is what a refreshed key is to be.
type Value struct {
	Text    string
	Found   bool   // false: there is no such row, so the key is deleted
	Version uint64 // of the snapshot that was read; one that shows more never has a lower one
	Unread  bool   // the others are as large as fits at a time, so it is to be asked for again
	Err     error  // it could not be read, so the key is deleted
}

// refreshesPerStep is how many keys are read anew at a time.
const refreshesPerStep = 256

// A refresh writes only under a lease, which it takes before it reads: a key beside the refreshed one that holds a text
// and the version of what was written last. Whoever deletes the key deletes the lease too, so a refresh that read before
// that has lost it. Refreshes share a lease, and of two the one that read less does not write over the other: that is
// told by the versions. A lease that was evicted, expired or rolled back is one that was lost, and then the key is
// deleted.
const (
	// takeLease returns the lease's text, or nothing where only what is cached is to be refreshed and the key is not.
	// KEYS: the key, the lease. ARGV: a text for a new lease, its time to live in ms, 1 for only what is cached.
	takeLease = `
if ARGV[3] == '1' and redis.call('EXISTS', KEYS[1]) == 0 then return false end
local lease = redis.call('GET', KEYS[2])
if not lease then
  lease = ARGV[1] .. ' 0'
  redis.call('SET', KEYS[2], lease, 'PX', ARGV[2])
end
return string.match(lease, '^%S+')`

	// setUnderLease returns one of the lease constants.
	// KEYS: the key, the lease. ARGV: the lease's text, its time to live in ms, the version, the value, 1 for only what
	// is cached, the value's time to live in ms or 0 to keep that of the key. Versions are compared as texts, since Lua's
	// numbers are not exact.
	setUnderLease = `
local text, version = string.match(redis.call('GET', KEYS[2]) or '', '^(%S+) (%d+)$')
if text ~= ARGV[1] then return -1 end
if #version > #ARGV[3] or #version == #ARGV[3] and version > ARGV[3] then return 2 end
if ARGV[5] == '1' and redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if ARGV[6] == '0' then
  redis.call('SET', KEYS[1], ARGV[4], 'KEEPTTL')
else
  redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[6])
end
redis.call('SET', KEYS[2], text .. ' ' .. ARGV[3], 'PX', ARGV[2])
return 1`
)

// What setUnderLease returns.
const (
	// -1: the lease is lost.
	leaseNotCached = 0 // and only what is cached is to be refreshed
	leaseWritten   = 1
	// What was written last is newer. If it still is when the key has been read once more, it is of a past that Postgres has
	// lost, as in a failover to a standby that lagged.
	leaseAhead = 2
)

// leaseTTL is how long a refresh may take from its lease to its write. Only a write prolongs it, so that a lease ends of which
// the version is one that no snapshot reaches: after a failover of Postgres versions may be lower.
const leaseTTL = 2 * time.Minute

// refresh reads the keys that wait anew, and sets or deletes them.
func (s *shard) refresh(ctx context.Context) error {
	b := s.q.pending.take(s.lane, refreshes)
	refused := map[rules.Target]error{}
	for part := range slices.Chunk(slices.Collect(maps.Keys(b.targets)), refreshesPerStep) {
		failed := s.renew(ctx, part)
		maps.Copy(refused, failed)
		for _, err := range failed {
			if len(failed) == len(part) && !redisnode.IsReply(err) { // nothing answers, and what is left would only wait for nothing as well
				s.q.pending.putBack(b)
				return err
			}
		}
	}
	return s.finish(b, refused, retryAfter)
}

// inProgress is a key on its way to be read anew.
type inProgress struct {
	target rules.Target
	how    *rules.Refresh
	beside string // the key of its lease
	lease  string // its text
	outrun bool   // a newer value than the one that was read had been written
}

func (r inProgress) onlyCached() string {
	if r.how.OnlyCached {
		return "1"
	}
	return "0"
}

// ttl is the time to live of the value, in ms: up to a tenth shorter than asked for, so that what was set together does
// not expire together.
func (r inProgress) ttl() int64 {
	if r.how.TTL == 0 {
		return 0
	}
	return max(1, (r.how.TTL - mathrand.N(r.how.TTL/10+1)).Milliseconds())
}

// renew refreshes some keys, and returns those that could be neither set nor deleted.
func (s *shard) renew(ctx context.Context, targets []rules.Target) map[rules.Target]error {
	if s.q.opts.DryRun {
		for _, t := range targets {
			s.q.opts.Log.Info("dry run: would refresh", zap.String("rule", t.Rule()), zap.String("key", t.Key))
		}
		return nil
	}
	failed := map[rules.Target]error{}
	var doomed []rules.Target // to be deleted
	leased := s.takeLeases(ctx, targets, func(t rules.Target, err error) {
		if redisnode.IsReply(err) { // it takes no writes, but may take deletes
			doomed = append(doomed, t)
			s.failed(err)
		} else {
			failed[t] = err
		}
	})
	s.deleteInstead(ctx, doomed, failed)
	for left := leased; len(left) > 0; {
		left = s.readAndSet(ctx, left, failed)
	}
	return failed
}

// readAndSet reads keys anew and sets them, or deletes those that cannot be read or set. It returns those that are to be read
// once more, and takes note of those that could be neither set nor deleted.
func (s *shard) readAndSet(ctx context.Context, leased []inProgress, failed map[rules.Target]error) (again []inProgress) {
	targets := make([]rules.Target, len(leased))
	for i, r := range leased {
		targets[i] = r.target
	}
	values := s.q.opts.Read(ctx, targets)
	var doomed []rules.Target // to be deleted
	var writes []op
	var writing []inProgress
	for i, r := range leased {
		switch v := values[i]; {
		case v.Unread:
			again = append(again, r)
		case v.Err != nil && ctx.Err() != nil: // this is the end, which is nobody's fault
			failed[r.target] = v.Err
		case v.Err != nil:
			s.readFailed(r.target, v.Err)
			doomed = append(doomed, r.target)
		case !v.Found:
			doomed = append(doomed, r.target)
		default:
			writing = append(writing, r)
			writes = append(writes, op{key: r.target.Key, target: r.target, cmd: redis.NewCmd(ctx, "eval", setUnderLease, 2, r.target.Key, r.beside,
				r.lease, leaseTTL.Milliseconds(), strconv.FormatUint(v.Version, 10), v.Text, r.onlyCached(), r.ttl())})
		}
	}
	s.cluster.do(ctx, writes)
	for i, o := range writes {
		reply, err := o.cmd.(*redis.Cmd).Int()
		switch r := writing[i]; {
		case err != nil:
			s.failed(fmt.Errorf("set a key of the rule %q: %w", r.target.Rule(), err))
			doomed = append(doomed, r.target)
		case reply == leaseWritten:
			s.q.opts.RefreshObserver.Refreshed(r.target, nil)
		case reply == leaseNotCached:
		case reply == leaseAhead && !r.outrun:
			r.outrun = true
			again = append(again, r)
		default:
			doomed = append(doomed, r.target)
		}
	}
	s.deleteInstead(ctx, doomed, failed)
	return again
}

// takeLeases returns the keys that are to be read, each with its lease.
func (s *shard) takeLeases(ctx context.Context, targets []rules.Target, failed func(rules.Target, error)) (leased []inProgress) {
	ops := make([]op, len(targets))
	all := make([]inProgress, len(targets))
	for i, t := range targets {
		r := inProgress{target: t, beside: s.cluster.companionKey(leasePrefix, t.Key)}
		r.how, _ = t.Refresh()
		all[i] = r
		ops[i] = op{key: t.Key, target: t, cmd: redis.NewCmd(ctx, "eval", takeLease, 2, t.Key, r.beside,
			rand.Text(), leaseTTL.Milliseconds(), r.onlyCached())}
	}
	s.cluster.do(ctx, ops)
	for i, o := range ops {
		lease, err := o.cmd.(*redis.Cmd).Text()
		switch {
		case err == nil:
			all[i].lease = lease
			leased = append(leased, all[i])
		case !errors.Is(err, redis.Nil): // which means that it is not cached
			failed(o.target, fmt.Errorf("take the lease of a key of the rule %q: %w", o.target.Rule(), err))
		}
	}
	return leased
}

// deleteInstead deletes keys that could not be refreshed, or of which the row is gone.
func (s *shard) deleteInstead(ctx context.Context, doomed []rules.Target, failed map[rules.Target]error) {
	var deletions []op
	for _, t := range doomed {
		deletions = append(deletions, s.cluster.deletionOf(ctx, t.Key, t)...)
	}
	maps.Copy(failed, s.cluster.deleteAll(ctx, deletions))
}

// readFailed takes note of a key that could not be read. What lasts is logged once a minute for each rule.
func (s *shard) readFailed(t rules.Target, err error) {
	s.q.opts.RefreshObserver.Refreshed(t, err)
	if s.health.news("refresh " + t.Rule()) {
		s.q.opts.Log.Warn("a refresh could not read Postgres, so the key is deleted", zap.String("rule", t.Rule()), zap.Error(err))
	}
}
