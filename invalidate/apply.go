package invalidate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// The keys of one command, and those of one pipeline, are bounded, so that no other client waits long behind them.
const (
	keysPerCommand  = 512
	keysPerPipeline = 4096
)

// command deletes keys, or fields of a hash: all of one template, or what one pattern matches.
type command struct {
	rule    string
	hash    string         // of which the keys are fields; empty: they are keys
	args    []any          // room for the name and the hash, and pointers to the keys, which take no memory
	targets []rules.Target // that the keys are, or the pattern that matches them
	leases  *redis.IntCmd  // the answer to the deletion of what may be about to refresh them; nil: nothing does
	reply   *redis.IntCmd
}

// keys are those that the command deletes.
func (c *command) keys() []string {
	keys := make([]string, 0, len(c.args)-1)
	for _, key := range c.args[1:] {
		keys = append(keys, *key.(*string))
	}
	return keys
}

// refusal is what Redis had against the command, if anything. A key of another type than a field's hash has no field.
func (c *command) refusal() error {
	err := c.reply.Err()
	if err == nil && c.leases != nil {
		err = c.leases.Err()
	}
	if err == nil || c.hash != "" && redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil
	}
	return fmt.Errorf("delete keys of the rule %q: %w", c.rule, err)
}

// flush deletes the keys and fields that wait, in as few round trips as they allow, and writes the position behind the
// last.
func (s *shard) flush(ctx context.Context) error {
	w := &s.groups[exact]
	s.mu.Lock()
	targets := w.take()
	markDue := s.markDue
	s.markDue = false
	s.mu.Unlock()

	refused, err := s.deleteTargets(ctx, targets, markDue)

	s.mu.Lock()
	// What has just been written may count what was refused right before it; and Redis is to be asked again even if
	// nothing waits for it.
	s.markDue = s.markDue || markDue && (s.refusing || err != nil)
	s.mu.Unlock()
	if err != nil {
		s.undone(exact, targets)
		return err
	}
	return s.done(exact, targets, refused, retryAfter)
}

// done takes note of targets of a group that were taken and that Redis has forgotten, but for those that it refused. If that
// is all of them, they go back into the set, and it is an error; but not patterns, since a walk is too dear to be tried again
// at once.
func (s *shard) done(g group, targets map[rules.Target]time.Duration, refused map[rules.Target]error, retry time.Duration) error {
	later := make(map[rules.Target]time.Duration, len(refused))
	var refusal error
	for t, err := range refused {
		later[t], refusal = targets[t], err
	}
	switch {
	case refusal == nil:
	case g != patterns && len(refused) == len(targets):
		s.undone(g, targets)
		return refusal
	default:
		s.failed(refusal)
	}
	for t := range refused {
		delete(targets, t)
	}
	s.applied(targets)
	s.mu.Lock()
	s.delay(s, g, targets, s.AgainAfter, since{})
	s.mu.Unlock()
	s.postpone(g, later, retry)
	return nil
}

// postpone takes note that what was taken of a group has been dealt with, but for some targets that are to be tried again
// after a while, on whichever server they are then.
func (s *shard) postpone(g group, later map[rules.Target]time.Duration, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.groups[g]
	s.delay(nil, g, later, after, w.flying)
	s.landed(w)
}

// undone puts targets of a group that were taken back into the set.
func (s *shard) undone(g group, targets map[rules.Target]time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putBack(&s.groups[g], targets)
}

// applied takes note of targets that Redis has forgotten, and leaves those that it is to forget once more.
func (s *shard) applied(targets map[rules.Target]time.Duration) {
	now := time.Since(s.epoch)
	for t, added := range targets {
		if added == 0 {
			delete(targets, t)
			continue
		}
		s.Observer.Applied(now - added)
		targets[t] = 0
	}
	if s.AgainAfter == 0 {
		clear(targets)
	}
}

// deleteTargets deletes keys and fields, and gives those that Redis refused while it took others. After an error all are
// to be tried again.
func (s *shard) deleteTargets(ctx context.Context, targets map[rules.Target]time.Duration, markDue bool) (map[rules.Target]error, error) {
	commands := s.commandsFor(targets)
	refused := map[rules.Target]error{}
	var written func(ahead bool) error
	for done := false; !done; {
		n, keys := 0, 0
		for n < len(commands) && keys < keysPerPipeline {
			keys += len(commands[n].targets)
			n++
		}
		chunk := commands[:n]
		commands = commands[n:]
		done = len(commands) == 0
		err := s.send(ctx, chunk, func(pipe redis.Pipeliner) {
			if markDue && done {
				written = s.writePosition(ctx, pipe, s.refusing || len(refused) > 0)
			}
		})
		if err != nil {
			return nil, err
		}
		maps.Copy(refused, s.refusals(ctx, chunk))
	}
	s.refusing = len(refused) > 0
	if written != nil {
		if err := written(s.refusing); redis.IsLoadingError(err) {
			return nil, err // nothing can be done before that has ended
		}
	}
	return refused, nil
}

// refusals gives the targets of some commands that were not deleted, and why. Those that are another server's by now are
// sent there.
func (s *shard) refusals(ctx context.Context, commands []command) map[rules.Target]error {
	refused := map[rules.Target]error{}
	var elsewhere []op
	for i := range commands {
		c := &commands[i]
		err := c.refusal()
		if err == nil {
			continue
		}
		for _, t := range c.targets {
			switch {
			case !redisnode.Redirected(err):
				refused[t] = err
			case t.Kind == rules.Field:
				elsewhere = append(elsewhere, op{key: t.Key, target: t, cmd: redis.NewIntCmd(ctx, s.verb(true), t.Key, t.Field())})
			default:
				elsewhere = append(elsewhere, s.deletionOf(ctx, t.Key, t)...)
			}
		}
	}
	maps.Copy(refused, s.doAll(ctx, elsewhere))
	return refused
}

// verb is the command that deletes fields or keys; a dry run looks whether there is one.
func (q *Queue) verb(fields bool) string {
	switch {
	case fields && q.DryRun:
		return "hexists"
	case fields:
		return "hdel"
	case q.DryRun:
		return "exists"
	}
	return "unlink"
}

// send sends commands in one pipeline, followed by what more adds, and counts the keys that are gone. An error means
// that Redis did not answer; what it answered to each command is in its reply.
func (s *shard) send(ctx context.Context, commands []command, more func(redis.Pipeliner)) error {
	pipe := s.rdb.Pipeline()
	for i := range commands {
		c := &commands[i]
		if s.Read != nil && c.hash == "" && !s.DryRun { // before the keys, or a refresh could still set one behind its delete
			args := []any{"unlink"}
			for _, key := range c.keys() {
				args = append(args, s.beside(leasePrefix, key))
			}
			c.leases = redis.NewIntCmd(ctx, args...)
			if err := pipe.Process(ctx, c.leases); err != nil {
				return err
			}
		}
		args := c.args
		args[0] = s.verb(c.hash != "")
		if c.hash != "" {
			args = append([]any{args[0], c.hash}, args[1:]...)
		}
		if s.DryRun {
			s.Log.Info("dry run: would delete", zap.String("rule", c.rule), zap.String("hash", c.hash), zap.Strings("keys", c.keys()))
			if c.hash != "" {
				args = args[:3] // HEXISTS takes one
			}
		}
		c.reply = redis.NewIntCmd(ctx, args...)
		if err := pipe.Process(ctx, c.reply); err != nil {
			return err
		}
	}
	more(pipe)
	if pipe.Len() == 0 {
		return nil
	}
	replies, err := pipe.Exec(ctx)
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		s.answered()
	case !redisnode.IsReply(err), !slices.ContainsFunc(replies, func(r redis.Cmder) bool { return r.Err() != nil }):
		return err // an error of the handshake looks like a reply, but no command has it
	}
	for _, c := range commands {
		s.evicted(c.rule, c.reply.Val())
	}
	return nil
}

func (q *Queue) evicted(rule string, gone int64) {
	if gone > 0 && !q.DryRun {
		q.Observer.Evicted(rule, gone)
	}
}

// bin is what one command can take: keys of one template, in a Cluster of one slot; or fields of one hash.
type bin struct {
	wide rules.Target
	slot int
	hash string
}

func (q *Queue) binOf(t rules.Target) bin {
	b := bin{wide: t.Widen()}
	if t.Kind == rules.Field {
		b.hash = t.Key
	} else if q.inCluster.Load() {
		b.slot = redisnode.SlotOf(t.Key)
	}
	return b
}

// commandsFor groups keys by template: the number of keys that a reply counts is that of one rule, and where Redis'
// access rules forget one template, those that they allow are not refused with it.
func (q *Queue) commandsFor(targets map[rules.Target]time.Duration) []command {
	open := map[bin]*command{}
	var commands []command
	var c *command
	var of bin // that c is for
	var last rules.Target
	bySlot := q.inCluster.Load()
	for t := range targets {
		// To look each up would take longer than all the rest; most are like the last.
		if c == nil || bySlot || of.hash != "" || t.Kind == rules.Field || !t.Like(last) {
			of = q.binOf(t)
			if c = open[of]; c == nil {
				c = newCommand(t.Rule(), of, len(targets))
				open[of] = c
			}
		}
		last = t
		c.targets = append(c.targets, t)
		if of.hash == "" {
			c.args = append(c.args, &c.targets[len(c.targets)-1].Key)
		} else {
			field := t.Field()
			c.args = append(c.args, &field)
		}
		if len(c.targets) == keysPerCommand {
			commands = append(commands, *c)
			*c = *newCommand(c.rule, of, len(targets))
		}
	}
	for _, c := range open {
		if len(c.targets) > 0 {
			commands = append(commands, *c)
		}
	}
	return commands
}

// newCommand has room for as many of some targets as it may take. In a Cluster, and of a hash, there are as a rule few.
func newCommand(rule string, b bin, of int) *command {
	room := min(of, keysPerCommand)
	if b.slot != 0 || b.hash != "" {
		room = min(room, 8)
	}
	return &command{rule: rule, hash: b.hash, args: make([]any, 1, 1+room), targets: make([]rules.Target, 0, room)}
}
