package invalidate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"pgevict/rules"
)

// The keys of one UNLINK, and the UNLINKs of one pipeline, are bounded, so that no other client waits long behind them.
const (
	keysPerCommand      = 512
	commandsPerPipeline = 8
)

// command deletes keys of one template, or of one pattern.
type command struct {
	rule    string
	args    []any          // the name, and pointers to the keys, which take no memory
	targets []rules.Target // that the keys are, or the pattern that matches them
	reply   *redis.IntCmd
}

// keys are those that the command deletes.
func (c command) keys() []string {
	keys := make([]string, 0, len(c.args)-1)
	for _, key := range c.args[1:] {
		keys = append(keys, *key.(*string))
	}
	return keys
}

// flush deletes the keys that wait, in as few round trips as they allow, and writes the position behind the last.
func (q *Queue) flush(ctx context.Context) error {
	q.mu.Lock()
	targets, sweep := q.keys.take()
	markDue := q.markDue
	q.markDue = false
	q.mu.Unlock()

	refused, err := q.unlinkTargets(ctx, targets, markDue)

	if err == nil {
		for t := range refused {
			delete(targets, t)
		}
		q.applied(targets, sweep)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refusing && markDue { // what has just been written may count what was refused right before it
		q.markDue = true
	}
	if err != nil {
		q.markDue = q.markDue || markDue // so that Redis is asked again even if nothing waits for it
		q.putBack(&q.keys, targets, sweep)
		return err
	}
	q.delay(rules.Key, refused, retryAfter, q.keys.flying)
	q.keys.landed()
	q.delay(rules.Key, targets, q.AgainAfter, since{})
	return nil
}

// applied takes note of targets that Redis has forgotten, and leaves those that it is to forget once more.
func (q *Queue) applied(targets map[rules.Target]time.Duration, sweep bool) {
	now := time.Since(q.epoch)
	for t, added := range targets {
		if added == 0 {
			delete(targets, t)
			continue
		}
		q.Observer.Applied(now - added)
		targets[t] = 0
	}
	if q.AgainAfter == 0 {
		clear(targets)
	}
	if sweep {
		q.Observer.Swept()
	}
}

// unlinkTargets deletes keys, and gives those that Redis refused while it took others. After an error all are to be
// tried again.
func (q *Queue) unlinkTargets(ctx context.Context, targets map[rules.Target]time.Duration, markDue bool) (map[rules.Target]time.Duration, error) {
	commands := commandsFor(targets)
	refused := map[rules.Target]time.Duration{}
	var refusal error
	var written func(ahead bool) error
	for done := false; !done; {
		n := min(len(commands), commandsPerPipeline)
		chunk := commands[:n]
		commands = commands[n:]
		done = len(commands) == 0
		err := q.unlink(ctx, chunk, func(pipe redis.Pipeliner) {
			if markDue && done {
				written = q.writePosition(ctx, pipe, q.refusing || len(refused) > 0)
			}
		})
		if err != nil {
			return nil, err
		}
		for _, c := range chunk {
			if err := c.refusal(); err != nil {
				refusal = err
				for _, t := range c.targets {
					refused[t] = targets[t]
				}
			}
		}
	}
	q.refusing = len(refused) > 0
	if written != nil {
		if err := written(q.refusing); redis.IsLoadingError(err) {
			return nil, err // nothing can be done before that has ended
		}
	}
	if refusal != nil && len(refused) == len(targets) {
		return nil, refusal
	}
	if refusal != nil {
		q.failed(refusal)
	}
	return refused, nil
}

// unlink sends commands in one pipeline, followed by what more adds, and counts the keys that are gone. An error means
// that Redis did not answer; what it answered to each command is in its reply.
func (q *Queue) unlink(ctx context.Context, commands []command, more func(redis.Pipeliner)) error {
	pipe := q.rdb.Pipeline()
	for i, c := range commands {
		c.args[0] = "unlink"
		if q.DryRun {
			c.args[0] = "exists"
			q.Log.Info("dry run: would delete", zap.String("rule", c.rule), zap.Strings("keys", c.keys()))
		}
		commands[i].reply = redis.NewIntCmd(ctx, c.args...)
		if err := pipe.Process(ctx, commands[i].reply); err != nil {
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
		q.answered()
	case !isReply(err), !slices.ContainsFunc(replies, func(r redis.Cmder) bool { return r.Err() != nil }):
		return err // an error of the handshake looks like a reply, but no command has it
	}
	for _, c := range commands {
		if gone := c.reply.Val(); gone > 0 && !q.DryRun {
			q.Observer.Evicted(c.rule, gone)
		}
	}
	return nil
}

// refusal is what Redis had against the command, if anything.
func (c command) refusal() error {
	if err := c.reply.Err(); err != nil {
		return fmt.Errorf("delete keys of the rule %q: %w", c.rule, err)
	}
	return nil
}

// commandsFor groups keys by template: the number of keys that a reply counts is that of one rule, and where Redis'
// access rules forget one template, those that they allow are not refused with it.
func commandsFor(targets map[rules.Target]time.Duration) []command {
	open := map[rules.Target]*command{}
	var commands []command
	var c *command
	var of rules.Target // that c is for
	for t := range targets {
		if wide := t.Widen(); c == nil || wide != of {
			of = wide
			if c = open[wide]; c == nil {
				c = newCommand(t.Rule(), min(len(targets), keysPerCommand))
				open[wide] = c
			}
		}
		c.targets = append(c.targets, t)
		c.args = append(c.args, &c.targets[len(c.targets)-1].Key)
		if len(c.targets) == keysPerCommand {
			commands = append(commands, *c)
			*c = *newCommand(c.rule, keysPerCommand)
		}
	}
	for _, c := range open {
		if len(c.targets) > 0 {
			commands = append(commands, *c)
		}
	}
	return commands
}

// newCommand has room for some targets, which must not move, since args points to their keys.
func newCommand(rule string, room int) *command {
	return &command{rule: rule, args: make([]any, 1, 1+room), targets: make([]rules.Target, 0, room)}
}
