package invalidate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// What one step deals with: so many sets, and about so many members of each. A set that has more than so many steps' is read
// on when others have had their turn.
const (
	setsPerStep    = 64
	membersPerStep = 1000
	stepsPerTurn   = 16
)

// A tag's set is never deleted: its members are taken out of it and deleted as keys, and what the application adds meanwhile
// keeps its place. Redis deletes empty sets by itself.
//
// Who takes members out claims them in the same moment, by an entry for each in a set beside, and releases the entry when the
// key is gone. If that never comes, whoever reads the tag next finds the claim. An entry is of one take alone, so that nobody
// releases what has been taken and not deleted yet: by another, or by the same once more, after a reader filled the key again.
//
// KEYS: the set, the one beside. ARGV: how many members, a token for their entries. The first SREM removes nothing: a Redis that
// is full lets a script add to a set only behind a write that it takes at any time. Members leave the set behind their claims,
// so that none is lost where one of the commands is denied.
const takeMembers = `
local members = redis.pcall('SRANDMEMBER', KEYS[1], ARGV[1])
if members.err or #members == 0 then return members end
local entries = {}
for i, member in ipairs(members) do entries[i] = ARGV[2] .. ':' .. member end
redis.call('SREM', KEYS[2], '')
redis.call('SADD', KEYS[2], unpack(entries))
redis.call('SREM', KEYS[1], unpack(members))
return members`

// tokenLength is that of the token before the colon of an entry: 65 random bits.
const tokenLength = 13

// memberOf returns the member that an entry claims. One without a token is a member itself.
func memberOf(entry string) string {
	if len(entry) > tokenLength && entry[tokenLength] == ':' && strings.Trim(entry[:tokenLength], "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == "" {
		return entry[tokenLength+1:]
	}
	return entry
}

// tagReading is a set that is read, with the one beside.
type tagReading struct {
	target  rules.Target // for which it is read
	set     rules.Target // itself
	deletes bool         // if it is no set it is to be deleted, being a key of the rules as well
	beside  string
	token   string // of the entries of the latest take
	cursor  uint64 // in the set beside, or in the set where nothing may be taken out
	steps   int

	claimed bool  // the set beside has been read
	taken   bool  // so has the set
	noSet   bool  // it is a key of another type
	full    bool  // a server has no room for some of the members
	err     error // which ended the reading

	scan *redis.ScanCmd
	take *redis.Cmd
}

func (s *shard) newReading(t, set rules.Target) *tagReading {
	return &tagReading{target: t, set: set, beside: s.cluster.companionKey(movedPrefix, set.Key)}
}

// read reports whether the reading has come to its end.
func (r *tagReading) read() bool { return r.err != nil || r.claimed && r.taken }

// dropTags takes the members out of the sets that wait, and releases the claims on those that are gone.
func (s *shard) dropTags(ctx context.Context) error {
	if err := s.releaseClaims(ctx); err != nil {
		return err
	}
	b := s.q.pending.take(s.lane, tags)
	readings := make([]*tagReading, 0, len(b.targets))
	for t := range b.targets {
		r := s.newReading(t, t)
		r.deletes = t.Kind == rules.Key
		readings = append(readings, r)
	}
	err := s.readTags(ctx, b, readings)
	var refused map[rules.Target]error
	if err == nil {
		refused, err = s.concludeTags(ctx, b, readings)
	}
	if err != nil {
		s.q.pending.putBack(b)
		return err
	}
	return s.finish(b, refused, retryAfter)
}

// concludeTags deletes as keys what turned out to be no set, has those read on that were not read to their end, and returns
// what Redis refused.
func (s *shard) concludeTags(ctx context.Context, b batch, readings []*tagReading) (map[rules.Target]error, error) {
	refused := map[rules.Target]error{}
	stale := map[rules.Target]time.Duration{}
	for _, r := range readings {
		_, moved := redis.IsMovedError(r.err)
		switch {
		case moved: // to where that is known by now
			s.q.pending.setAside(b, r.target, r.set, redirectAfter)
		case redisnode.Redirected(r.err), r.err == nil && r.full:
			s.q.pending.setAside(b, r.target, r.set, retryAfter)
		case r.err != nil:
			refused[r.target] = r.err
		case !r.read():
			s.q.pending.setAside(b, r.target, r.set, 0)
		case r.noSet && r.deletes:
			stale[r.target] = 0
		}
	}
	denied, err := s.deleteTargets(ctx, stale, func(redis.Pipeliner, bool) {})
	maps.Copy(refused, denied)
	return refused, err
}

// readTags reads sets, a step of some at a time, and hands their members over to whoever deletes them. One that fails, or is
// large, holds up no other. An error says that the server did not answer.
func (s *shard) readTags(ctx context.Context, b batch, readings []*tagReading) error {
	active, rest := []*tagReading(nil), readings
	for {
		for len(active) < setsPerStep && len(rest) > 0 {
			active, rest = append(active, rest[0]), rest[1:]
		}
		if len(active) == 0 {
			return nil
		}
		s.q.pending.awaitRoom(ctx)
		if err := s.readStep(ctx, active); err != nil {
			return err
		}
		for _, r := range active {
			s.handOver(b, r)
		}
		active = slices.DeleteFunc(active, func(r *tagReading) bool { return r.read() || r.claimed && r.steps >= stepsPerTurn })
	}
}

// readStep sends what reads the next members of sets.
func (s *shard) readStep(ctx context.Context, sets []*tagReading) error {
	pipe := s.rdb.Pipeline()
	for _, r := range sets {
		r.scan, r.take = nil, nil
		switch {
		case !r.claimed: // before the next are taken, so that it is not they that are found
			r.scan = pipe.SScan(ctx, r.beside, r.cursor, "", membersPerStep)
		case s.q.opts.DryRun:
			r.scan = pipe.SScan(ctx, r.set.Key, r.cursor, "", membersPerStep)
		}
		if !r.taken && !s.q.opts.DryRun && r.steps < stepsPerTurn {
			r.token = rand.Text()[:tokenLength]
			r.take = pipe.Eval(ctx, takeMembers, []string{r.set.Key, r.beside}, membersPerStep, r.token)
			r.steps++
		}
	}
	replies, err := pipe.Exec(ctx)
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		s.answered()
	case !redisnode.IsReply(err), !slices.ContainsFunc(replies, func(r redis.Cmder) bool { return r.Err() != nil }):
		return err // an error of the handshake looks like a reply, but no command has it
	}
	return nil
}

// handOver takes what a step has read, and has it deleted.
func (s *shard) handOver(b batch, r *tagReading) {
	var claims []claim
	if r.scan != nil {
		entries, cursor, err := r.scan.Result()
		switch {
		case err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE"): // which has no members
			r.fail(s, err)
		case s.q.opts.DryRun:
			if len(entries) > 0 {
				s.q.opts.Log.Info("dry run: would delete", zap.String("rule", r.target.Rule()), zap.String("tag", r.set.Key), zap.Strings("keys", entries))
			}
		default:
			for _, entry := range entries {
				claims = append(claims, claim{r.beside, entry})
			}
		}
		r.cursor = cursor
		if cursor == 0 || err != nil {
			r.taken = r.taken || s.q.opts.DryRun && r.claimed
			r.noSet = r.noSet || s.q.opts.DryRun && r.claimed && err != nil
			r.claimed = true
		}
	}
	if r.take != nil {
		members, err := r.take.StringSlice()
		switch {
		case err != nil && redis.HasErrorPrefix(err, "WRONGTYPE"):
			r.noSet, r.taken = true, true
		case err != nil:
			r.fail(s, err)
		default:
			r.taken = len(members) < membersPerStep
			for _, m := range members {
				claims = append(claims, claim{r.beside, r.token + ":" + m})
			}
		}
	}
	if !s.q.pending.claim(b, r.set, claims) {
		r.full = true
	}
}

// fail ends a reading.
func (r *tagReading) fail(s *shard, err error) {
	s.learnOwner(r.set.Key, err)
	r.err = fmt.Errorf("read a tag of the rule %q: %w", r.target.Rule(), err)
}

// learnOwner takes note of who has a key, if an error says that it is another server.
func (s *shard) learnOwner(key string, err error) {
	if addr, moved := redis.IsMovedError(err); moved {
		s.cluster.setOwner(redisnode.SlotOf(key), addr)
	}
}
