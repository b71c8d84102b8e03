package workload

import (
	"context"
	"errors"
	"fmt"

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

// PutForeign puts those keys into the cache, each with its own name as its value.
func (a *App) PutForeign(ctx context.Context) error {
	pipe := a.Cache.Pipeline()
	for _, key := range Foreign() {
		pipe.Set(ctx, key, key, 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("put keys that no rule makes: %w", err)
	}
	return nil
}

// LostForeign lists those that are not there any more, or not as they were.
func (a *App) LostForeign(ctx context.Context) ([]string, error) {
	pipe, keys := a.Cache.Pipeline(), Foreign()
	values := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		values[i] = pipe.Get(ctx, key)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read keys that no rule makes: %w", err)
	}
	var lost []string
	for i, key := range keys {
		if values[i].Val() != key {
			lost = append(lost, key)
		}
	}
	return lost, nil
}
