package workload

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Foreign lists 10,000 keys that no rule makes, neither those of the demo nor those of the tests, though some come close.
func Foreign() []string {
	names := []string{
		"action%d", "actions:%d", "Action:%d", "xaction:%d", "action;%d", "acti*n:%d", "actio?:%d", "[a]ction:%d", `acti\on:%d`, " action:%d",
		"owner:%d", "owner:composite:%d", "owner:composite:%d:actionss", "owners:composite:%d:actions", "owner:%d:actions",
		"actions:list%d", "actions:lists:%d", "action%d:list:*", "member%d:", "members:org1:%d", "member:%d", "profil:%d", "profiles:%d",
		"email:%d@example.org:profiles", "email:%d:profile:", "e-mail:%d:profile", "*%d", "%d*", "*:%d:*", "**?[a-z]^%d", "[%d", `\*%d`, "{id}%d",
		"%d", "session:%d", "ключ:%d", "鍵:%d", "a\x00b\n%d", "\xff\xfe%d", "pgevict:%d",
		"view:{%d}:3", "tag:owner:%d", "profiles:all%d",
	}
	var keys []string
	for i := range 10000 {
		keys = append(keys, fmt.Sprintf(names[i%len(names)], i))
	}
	return keys
}

// chunk is how many commands go at once, so that a server that is slow need not answer all of them in the time for one.
const chunk = 500

// PutForeign puts those keys into the cache, each with its own name as its value.
func (a *App) PutForeign(ctx context.Context) error {
	for keys := range slices.Chunk(Foreign(), chunk) {
		pipe := a.Cache.Pipeline()
		for _, key := range keys {
			pipe.Set(ctx, key, key, 0)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("put keys that no rule makes: %w", err)
		}
	}
	return nil
}

// LostForeign lists those that are not there any more, or not as they were.
func (a *App) LostForeign(ctx context.Context) (lost []string, err error) {
	for keys := range slices.Chunk(Foreign(), chunk) {
		pipe, values := a.Cache.Pipeline(), make([]*redis.StringCmd, len(keys))
		for i, key := range keys {
			values[i] = pipe.Get(ctx, key)
		}
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
			return nil, fmt.Errorf("read keys that no rule makes: %w", err)
		}
		for i, key := range keys {
			if values[i].Val() != key {
				lost = append(lost, key)
			}
		}
	}
	return lost, nil
}
