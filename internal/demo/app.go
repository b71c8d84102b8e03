package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// app is the application, which keeps in Redis what it has read from Postgres and has never heard of pgevict.
type app struct {
	db    *pgx.Conn
	cache *redis.Client
}

// get reads through the cache: a miss is read from Postgres and kept in Redis, a row that does not exist included.
func (a app) get(ctx context.Context, key string) error {
	err := a.cache.Get(ctx, key).Err()
	if !errors.Is(err, redis.Nil) {
		return err
	}
	value, err := a.load(ctx, key)
	if err != nil {
		return err
	}
	return a.cache.Set(ctx, key, value, 0).Err()
}

// load reads from Postgres what belongs under a key.
func (a app) load(ctx context.Context, key string) (value string, err error) {
	parts := strings.Split(key, ":")
	switch parts[0] {
	case "action":
		err = a.db.QueryRow(ctx, `SELECT coalesce((SELECT row_to_json(a)::text FROM actions a WHERE id::text = $1 AND id = $1::text::bigint), 'null')`,
			parts[1]).Scan(&value)
	case "owner":
		err = a.db.QueryRow(ctx, `SELECT coalesce(json_agg(id ORDER BY id), '[]')::text FROM actions
			WHERE actionable_type = $1 AND actionable_id = $2::text::bigint`, parts[1], parts[2]).Scan(&value)
	case "actions":
		err = a.db.QueryRow(ctx, `SELECT coalesce(json_agg(id), '[]')::text FROM
			(SELECT id FROM actions ORDER BY id LIMIT 50 OFFSET 50 * $1::text::int) page`, parts[3]).Scan(&value)
	default:
		err = fmt.Errorf("no such key: %q", key)
	}
	return value, err
}

func (a app) fill(ctx context.Context, keys []string) error {
	for _, key := range keys {
		if err := a.get(ctx, key); err != nil {
			return fmt.Errorf("fill the cache: %w", err)
		}
	}
	return nil
}

// stale compares cached values with what they should be, and gives the keys of which the value is another, with the
// number of those that were cached.
func (a app) stale(ctx context.Context, keys []string) (stale []string, cached int, err error) {
	for _, key := range keys {
		have, err := a.cache.Get(ctx, key).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read the cache: %w", err)
		}
		want, err := a.load(ctx, key)
		if err != nil {
			return nil, 0, fmt.Errorf("compare %s: %w", key, err)
		}
		cached++
		if have != want {
			stale = append(stale, key)
		}
	}
	return stale, cached, nil
}

// The rows of the note.
const (
	noteFirst  = "814150981284533461"
	noteSecond = "814156125556446423"
)

// shown are the keys of the first part: two rows of one owner, a row of another, both owners' lists, and a page.
func shown() []string {
	return []string{
		"action:" + noteFirst, "action:" + noteSecond, "action:1",
		"owner:composite_actions:466303161695474694:actions", "owner:folders:1:actions",
		"actions:list:page:0",
	}
}

const (
	busyRows   = 300
	busyOwners = 20
)

// busy are the keys of the second part.
func busy() []string {
	var keys []string
	for i := 1; i <= busyRows; i++ {
		keys = append(keys, fmt.Sprintf("action:%d", i))
	}
	for i := range busyOwners {
		keys = append(keys, fmt.Sprintf("owner:folders:%d:actions", i))
	}
	for i := range 7 {
		keys = append(keys, fmt.Sprintf("actions:list:page:%d", i))
	}
	return keys
}

// foreign are keys that no rule makes, some of them close to one, and their values.
func foreign() map[string]string {
	values := map[string]string{
		"action": "a", "actions:list": "b", "owner:folders:1:actions:count": "c", "Action:1": "d",
		"session:*": "e", `session:[a-z]?\`: "f", "action*": "g", "*": "h",
	}
	for i := range 1000 {
		values[fmt.Sprintf("session:%d", i)] = fmt.Sprintf("user %d", i)
	}
	return values
}

func (a app) fillForeign(ctx context.Context) error {
	pipe := a.cache.Pipeline()
	for key, value := range foreign() {
		pipe.Set(ctx, key, value, 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("fill the cache: %w", err)
	}
	return nil
}

// missingForeign gives the keys outside the rules that are not as they were.
func (a app) missingForeign(ctx context.Context) ([]string, error) {
	values := foreign()
	keys := slices.Sorted(maps.Keys(values))
	have, err := a.cache.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, fmt.Errorf("read the cache: %w", err)
	}
	var missing []string
	for i, key := range keys {
		if have[i] != values[key] {
			missing = append(missing, key)
		}
	}
	return missing, nil
}
