package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"
)

// statements are what the application's writers do in the first part. The INSERT is the one of the note.
var statements = []string{
	`INSERT INTO "public"."actions" ("order", "type", "descriptor", "actionable_id", "actionable_type", "platform") VALUES ('1', 'text', '{"text": "已經在專人線上回覆模式囉!欲切換回機器人模式,請點選按鈕。", "buttons": [{"id": "qjeOd64yTZ", "type": "postback", "title": "回到機器人模式", "payload": "466303161796137991", "defaultVisible": true, "webviewSetting": {"extension": false, "heightRatio": "full"}, "trackingUrlEnabled": false}]}', '466303161695474694', 'composite_actions', 'messenger')`,
	`UPDATE actions SET descriptor = jsonb_set(descriptor, '{text}', '"已切換回機器人模式"') WHERE id = ` + noteSecond,
	`DELETE FROM actions WHERE id = ` + noteFirst,
}

// truncate is what only pgevict's own triggers tell of.
const truncate = `TRUNCATE actions`

// restore makes the rows again that truncate has removed.
func (d *demo) restore(ctx context.Context) error {
	_, insert, found := strings.Cut(seedSQL, `INSERT INTO "public"."actions" (id,`)
	if !found {
		return errors.New("seed.sql has no rows")
	}
	if _, err := d.writer.Exec(ctx, `INSERT INTO "public"."actions" (id,`+insert); err != nil {
		return fmt.Errorf("make the rows again: %w", err)
	}
	for heard := range 2 { // it inserts twice
		if _, err := d.hear(ctx); err != nil {
			return fmt.Errorf("statement %d: %w", heard+1, err)
		}
	}
	return d.settle(ctx)
}

// statement executes one statement, and shows which keys go, through which channel, and how soon.
func (d *demo) statement(ctx context.Context, sql string) error {
	keys := shown()
	if err := d.fill(ctx, keys); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	w := watchKeys(watching, d.app.Cache, keys)

	tx, err := d.writer.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback(ctx) }() // does nothing after the commit
	if _, err := tx.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", short(sql), err)
	}
	committed := time.Now()
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}

	through, err := d.hear(ctx)
	if err != nil {
		return err
	}
	var named []string
	for _, key := range keys {
		if slices.ContainsFunc(d.channels(), func(name string) bool { return through[name].cover(key) != none }) {
			named = append(named, key)
		}
	}
	if err := wait(ctx, "every key that a channel named is gone", func() (bool, error) {
		return w.allGone(named)
	}); err != nil {
		return err
	}
	stop()
	stale, _, err := d.app.Stale(ctx, keys)
	if err != nil {
		return err
	}
	d.print(sql, keys, named, through, w, committed)
	if len(stale) > 0 {
		return fmt.Errorf("after %s: %v", short(sql), stale)
	}
	return d.settle(ctx)
}

func (d *demo) print(sql string, keys, named []string, through map[string]channel, w *watch, committed time.Time) {
	say(d.out, "\n%s", short(sql))
	table := tabwriter.NewWriter(d.out, 0, 0, 3, ' ', 0)
	line := func(key, after string, by func(channel string) string) {
		cells := []string{"  " + key}
		for _, name := range d.channels() {
			cells = append(cells, by(name))
		}
		_, _ = fmt.Fprintln(table, strings.Join(append(cells, after), "\t"))
	}
	line("gone", "after", func(name string) string { return "by " + name })
	for _, key := range named {
		line(key, milliseconds(w.goneAt(key).Sub(committed)), func(name string) string { return through[name].cover(key) })
	}
	_ = table.Flush() // the terminal is gone if any of these fails
	kept := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return slices.Contains(named, key) })
	say(d.out, "  kept: %s", cmp.Or(strings.Join(kept, ", "), "none"))
}

// channels are those that the triggers send on.
func (d *demo) channels() []string {
	if d.own {
		return []string{"events"}
	}
	return []string{"tcn", "events"}
}

// hear reads what pgevict tail says of one statement: a line for each channel.
func (d *demo) hear(ctx context.Context) (map[string]channel, error) {
	through := map[string]channel{}
	for len(through) < len(d.channels()) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := d.tail.next()
		if err != nil {
			return nil, err
		}
		c := through[h.Source]
		for _, t := range h.Targets {
			c = append(c, target{t.Key, t.Kind == "pattern"})
		}
		through[h.Source] = c
	}
	return through, nil
}

// channel is what one channel said that is stale.
type channel []target

type target struct {
	key     string
	pattern bool
}

const none = "-"

// cover says by what a channel named a key: by itself, or by a pattern.
func (c channel) cover(key string) string {
	by := none
	for _, t := range c {
		switch {
		case !t.pattern && t.key == key:
			return "the key"
		case t.pattern && matches(t.key, key):
			by = t.key
		}
	}
	return by
}

// matches matches the patterns of the demo, in which only the asterisk is special.
func matches(pattern, key string) bool {
	texts := strings.Split(pattern, "*")
	rest, ok := strings.CutPrefix(key, texts[0])
	for _, text := range texts[1 : len(texts)-1] {
		var found bool
		_, rest, found = strings.Cut(rest, text)
		ok = ok && found
	}
	return ok && strings.HasSuffix(rest, texts[len(texts)-1])
}

// watch polls keys as fast as Redis answers, and knows since when each is gone.
type watch struct {
	mu   sync.Mutex
	gone map[string]time.Time
	err  error
}

func watchKeys(ctx context.Context, cache redis.UniversalClient, keys []string) *watch {
	w := &watch{gone: map[string]time.Time{}}
	go func() {
		for ctx.Err() == nil {
			if err := w.look(ctx, cache, keys); err != nil && ctx.Err() == nil {
				w.mu.Lock()
				w.err = err
				w.mu.Unlock()
			}
		}
	}()
	return w
}

func (w *watch) look(ctx context.Context, cache redis.UniversalClient, keys []string) error {
	pipe := cache.Pipeline()
	replies := make([]*redis.IntCmd, len(keys))
	for i, key := range keys {
		replies[i] = pipe.Exists(ctx, key)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("watch the cache: %w", err)
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, key := range keys {
		if _, known := w.gone[key]; !known && replies[i].Val() == 0 {
			w.gone[key] = now
		}
	}
	return nil
}

func (w *watch) allGone(keys []string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !slices.ContainsFunc(keys, func(key string) bool { return w.gone[key].IsZero() }), w.err
}

func (w *watch) goneAt(key string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone[key]
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// short is as much of a statement as fits into a line.
func short(sql string) string {
	const head, tail = 60, 42
	if runes := []rune(sql); len(runes) > head+tail+3 {
		return string(runes[:head]) + " … " + string(runes[len(runes)-tail:])
	}
	return sql
}

func say(out io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(out, format+"\n", args...) // the terminal is gone if this fails
}
