package e2e_test

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// An application keeps a value under a key of its own, or in a field of a hash, or under a key that its tag alone leads to.

// fieldOf gives the hash and the field, if that is where a value is.
func fieldOf(key string) (hash, field string, ok bool) {
	const all = "profiles:all"
	field, ok = strings.CutPrefix(key, all+":")
	return all, field, ok
}

// tagOf gives the set that names a key, in the same slot as the key.
func tagOf(key string) (tag string, ok bool) {
	rest, ok := strings.CutPrefix(key, "view:")
	owner, _, _ := strings.Cut(rest, ":")
	return "tag:owner:" + owner, ok
}

func get(ctx context.Context, c redis.Cmdable, key string) *redis.StringCmd {
	if hash, field, ok := fieldOf(key); ok {
		return c.HGet(ctx, hash, field)
	}
	return c.Get(ctx, key)
}

// put caches a value. A key and its place in its tag come in one transaction, and in one slot: of two commands one may get
// lost, and a key that its tag does not name is found by nobody.
func put(ctx context.Context, c redis.Cmdable, key, value string) error {
	if hash, field, ok := fieldOf(key); ok {
		return c.HSet(ctx, hash, field, value).Err()
	}
	tag, ok := tagOf(key)
	if !ok {
		return c.Set(ctx, key, value, 0).Err()
	}
	_, err := c.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, key, value, 0)
		pipe.SAdd(ctx, tag, key)
		return nil
	})
	return err
}

func drop(ctx context.Context, c redis.Cmdable, key string) error {
	if hash, field, ok := fieldOf(key); ok {
		return c.HDel(ctx, hash, field).Err()
	}
	return c.Del(ctx, key).Err()
}

// read is cache-aside. A reader that turns out to have been slower than the contract allows takes its value back.
func (l *workload) read(ctx context.Context, conn *pgx.Conn, key string) error {
	if err := get(ctx, l.cache, key).Err(); err != redis.Nil {
		return err
	}
	began := time.Now()
	value, err := truth(ctx, conn, key)
	if err != nil {
		return err
	}
	// One whose context ends meanwhile would not know whether its value arrived.
	ctx = context.WithoutCancel(ctx)
	err = put(ctx, l.cache, key, value)
	took := time.Since(began)
	if err == nil && took <= againAfter/2 {
		l.fills.Add(1)
		return nil
	}
	if err == nil {
		l.Logf("a reader took %v for %s", took, key)
	}
	return errors.Join(err, l.takeBack(ctx, key))
}

// takeBack deletes a value that arrived late, or may arrive yet: what a client has given up may be waiting in front of a
// server that hangs. So it counts once the server has answered, who has come to all that was there before by then.
func (l *workload) takeBack(ctx context.Context, key string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := drop(ctx, l.cache, key)
		if err == nil {
			return nil
		}
		select {
		case <-l.Context().Done():
			return err
		case <-tick.C:
		}
	}
}
