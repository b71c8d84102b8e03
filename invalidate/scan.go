package invalidate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"pgevict/rules"
)

// scanCount is how many keys one SCAN looks at.
const scanCount = 1000

// walkAgainAfter is how long a pattern waits of which Redis does not allow a key to be deleted.
const walkAgainAfter = 5 * time.Second

// pass deletes what the patterns that wait match, all of them in one walk over the keyspace. The walk rests after each
// step for as long as the step took, so that it takes at most half of the server's time.
func (q *Queue) pass(ctx context.Context) error {
	q.mu.Lock()
	targets, sweep := q.patterns.take()
	covered := q.covered
	q.covered = nil // a target that comes from now on may be behind the walk
	q.mu.Unlock()
	if len(targets) == 0 {
		return nil
	}
	refused, err := q.walk(ctx, newMatcher(targets))
	if err != nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.cover(covered)
		q.putBack(&q.patterns, targets, sweep)
		return err
	}
	for t := range refused {
		refused[t] = targets[t]
		delete(targets, t)
	}
	q.applied(targets, sweep)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.delay(rules.Pattern, refused, walkAgainAfter, q.patterns.flying)
	q.patterns.landed()
	q.delay(rules.Pattern, targets, q.AgainAfter, since{})
	return nil
}

// walk deletes what the patterns match, and gives those of which Redis does not allow a key to be deleted. After an
// error all are to be tried again.
func (q *Queue) walk(ctx context.Context, m *matcher) (refused map[rules.Target]time.Duration, err error) {
	refused = map[rules.Target]time.Duration{}
	match := escape(m.common) + "*"
	matched := 0
	var refusal error
	for cursor := uint64(0); ; {
		began := time.Now()
		keys, next, err := q.rdb.Scan(ctx, cursor, match, scanCount).Result()
		if err != nil {
			return nil, fmt.Errorf("SCAN: %w", err)
		}
		commands := m.commands(keys)
		if err := q.unlink(ctx, commands, func(redis.Pipeliner) {}); err != nil {
			return nil, err
		}
		for _, c := range commands {
			matched += len(c.args) - 1
			switch err := c.refusal(); {
			case redis.IsPermissionError(err): // it says nothing about other keys
				refused[c.targets[0]], refusal = 0, err
			case err != nil:
				return nil, err
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
		if err := rest(ctx, time.Since(began)); err != nil {
			return nil, err
		}
	}
	q.answered()
	if refusal != nil {
		q.failed(refusal)
	}
	if q.DryRun {
		q.Log.Info("dry run: walked the keyspace", zap.Int("matched", matched))
	}
	return refused, nil
}

func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// matcher finds the patterns that match a key. Most keys are told apart by the patterns' literal beginnings, which are
// looked up by length, so a hundred patterns cost little more than one.
type matcher struct {
	common  string // what all patterns begin with
	lengths []int  // of the beginnings, each once
	globs   map[string][]glob
}

// glob is a pattern behind its literal beginning: texts in order, with anything between them.
type glob struct {
	pattern rules.Target
	texts   []string // after the first wildcard, at least one; the last is the end of the key
}

func newMatcher(targets map[rules.Target]time.Duration) *matcher {
	m := &matcher{globs: map[string][]glob{}}
	first := true
	for t := range targets {
		texts := split(t.Key)
		begin := texts[0]
		if !slices.Contains(m.lengths, len(begin)) {
			m.lengths = append(m.lengths, len(begin))
		}
		m.globs[begin] = append(m.globs[begin], glob{t, texts[1:]})
		if first {
			m.common, first = begin, false
		}
		for !strings.HasPrefix(begin, m.common) {
			m.common = m.common[:len(m.common)-1]
		}
	}
	return m
}

// commands deletes those of the keys that a pattern matches.
func (m *matcher) commands(keys []string) []command {
	stale := map[rules.Target][]string{}
	for _, key := range keys {
		if pattern, ok := m.match(key); ok && !strings.HasPrefix(key, positionPrefix) {
			stale[pattern] = append(stale[pattern], key)
		}
	}
	var commands []command
	for pattern, keys := range stale {
		for part := range slices.Chunk(keys, keysPerCommand) {
			c := command{rule: pattern.Rule(), args: make([]any, 1, 1+len(part)), targets: []rules.Target{pattern}}
			for i := range part {
				c.args = append(c.args, &part[i])
			}
			commands = append(commands, c)
		}
	}
	return commands
}

// match gives a pattern that matches the key.
func (m *matcher) match(key string) (pattern rules.Target, ok bool) {
	for _, n := range m.lengths {
		if n > len(key) {
			continue
		}
		for _, g := range m.globs[key[:n]] {
			if g.match(key[n:]) {
				return g.pattern, true
			}
		}
	}
	return rules.Target{}, false
}

func (g glob) match(s string) bool {
	last := len(g.texts) - 1
	for _, text := range g.texts[:last] {
		i := strings.Index(s, text)
		if i < 0 {
			return false
		}
		s = s[i+len(text):]
	}
	return strings.HasSuffix(s, g.texts[last])
}

// split cuts a pattern at its wildcards, and makes the texts between plain. A pattern has at least one.
func split(pattern string) []string {
	texts := []string{""}
	for i := 0; i < len(pattern); i++ {
		last := &texts[len(texts)-1]
		switch {
		case pattern[i] == '*':
			texts = append(texts, "")
		case pattern[i] == '\\' && i+1 < len(pattern):
			i++
			*last += pattern[i : i+1]
		default:
			*last += pattern[i : i+1]
		}
	}
	return texts
}

// escape makes text literal in a glob of Redis.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(text)
}
