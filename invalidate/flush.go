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
	of      rules.Target   // the template's widest, or the pattern
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
	return fmt.Errorf("delete keys of the rule %q: %w", c.of.Rule(), err)
}

// flush deletes the keys and fields that wait, in as few round trips as they allow, and writes the position behind the
// last.
func (s *shard) flush(ctx context.Context) error {
	b := s.q.pending.take(s.lane, exact)
	markDue := s.q.pending.takeMark(s.lane)
	var written func(ahead bool) error
	refused, err := s.deleteTargets(ctx, b.targets, func(pipe redis.Pipeliner, refused bool) {
		if markDue {
			written = s.writePosition(ctx, pipe, s.refusing || refused)
		}
	})
	if err == nil {
		s.refusing = len(refused) > 0
		if written != nil {
			if e := written(s.refusing); redis.IsLoadingError(e) {
				err = e // nothing can be done before that has ended
			}
		}
	}
	if markDue && (s.refusing || err != nil) {
		// What has just been written may count what was refused right before it; and Redis is to be asked again even if
		// nothing waits for it.
		s.q.pending.returnMark(s.lane)
	}
	if err != nil {
		s.q.pending.putBack(b)
		return err
	}
	return s.finish(b, refused, retryAfter)
}

// deleteTargets deletes keys and fields, and returns those that Redis refused while it took others. After an error all are
// to be tried again.
func (s *shard) deleteTargets(ctx context.Context, targets map[rules.Target]time.Duration, last func(pipe redis.Pipeliner, refused bool)) (map[rules.Target]error, error) {
	commands := commandsFor(targets, s.cluster.is.Load())
	refused := map[rules.Target]error{}
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
			if done {
				last(pipe, len(refused) > 0)
			}
		})
		if err != nil {
			return nil, err
		}
		maps.Copy(refused, s.refusals(ctx, chunk))
	}
	return refused, nil
}

// refusals returns the targets of some commands that were not deleted, and why. Those that are another server's by now are
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
				elsewhere = append(elsewhere, op{key: t.Key, target: t, cmd: redis.NewIntCmd(ctx, s.q.verb(true), t.Key, t.Field())})
			default:
				elsewhere = append(elsewhere, s.cluster.deletionOf(ctx, t.Key, t)...)
			}
		}
	}
	maps.Copy(refused, s.cluster.deleteAll(ctx, elsewhere))
	return refused
}

// verb is the command that deletes fields or keys; a dry run looks whether there is one.
func (q *Queue) verb(fields bool) string {
	switch {
	case fields && q.opts.DryRun:
		return "hexists"
	case fields:
		return "hdel"
	case q.opts.DryRun:
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
		if s.q.opts.Read != nil && c.hash == "" && !s.q.opts.DryRun { // before the keys, or a refresh could still set one behind its delete
			args := []any{"unlink"}
			for _, key := range c.keys() {
				args = append(args, s.cluster.companionKey(leasePrefix, key))
			}
			c.leases = redis.NewIntCmd(ctx, args...)
			if err := pipe.Process(ctx, c.leases); err != nil {
				return err
			}
		}
		args := c.args
		args[0] = s.q.verb(c.hash != "")
		if c.hash != "" {
			args = append([]any{args[0], c.hash}, args[1:]...)
		}
		if s.q.opts.DryRun {
			s.q.opts.Log.Info("dry run: would delete", zap.String("rule", c.of.Rule()), zap.String("hash", c.hash), zap.Strings("keys", c.keys()))
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
		s.q.evicted(c.of, c.reply.Val())
	}
	return nil
}

func (q *Queue) evicted(of rules.Target, gone int64) {
	if gone > 0 && !q.opts.DryRun {
		q.opts.Observer.Evicted(of, gone)
	}
}

// kind is what one command can take: keys of one template, in a Cluster of one slot; or fields of one hash.
type kind struct {
	of   rules.Target
	slot int
	hash string
}

func kindOf(t rules.Target, bySlot bool) kind {
	k := kind{of: t.Widen()}
	if t.Kind == rules.Field {
		k.hash = t.Key
	} else if bySlot {
		k.slot = redisnode.SlotOf(t.Key)
	}
	return k
}

// commandsFor groups keys by template, and by slot in a Cluster: the number of keys that a reply counts is that of one rule,
// and where Redis' access rules forget one template, those that they allow are not refused with it.
func commandsFor(targets map[rules.Target]time.Duration, bySlot bool) []command {
	open := map[kind]*command{}
	var commands []command
	var c *command
	var of kind // that c is for
	var last rules.Target
	for t := range targets {
		// To look each up would take longer than all the rest; most are like the last.
		if c == nil || bySlot || of.hash != "" || t.Kind == rules.Field || !t.Like(last) {
			of = kindOf(t, bySlot)
			if c = open[of]; c == nil {
				c = newCommand(of, len(targets))
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
			*c = *newCommand(of, len(targets))
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
func newCommand(k kind, targets int) *command {
	room := min(targets, keysPerCommand)
	if k.slot != 0 || k.hash != "" {
		room = min(room, 8)
	}
	return &command{of: k.of, hash: k.hash, args: make([]any, 1, 1+room), targets: make([]rules.Target, 0, room)}
}
