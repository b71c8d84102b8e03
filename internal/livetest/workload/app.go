// Package workload is an application that keeps in Redis what it has read from Postgres, and has never heard of pgevict.
// What it has cached can be compared with Postgres.
package workload

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// App is the application: cache-aside readers, and writers who do not look at the cache.
type App struct {
	URL   string // of the database
	Cache redis.UniversalClient

	// Truths has, for the first part of a key, the query for what its value must be, of the other parts. They are divided
	// by colons.
	Truths map[string]string

	// Locate says where a value is kept if that is not under its key.
	Locate func(key string) Place

	// Slow is how long a reader may take from its query until its value is in the cache: the contract of AGAIN_AFTER. One
	// that turns out to have been slower takes its value back. 0: there is no such limit.
	Slow time.Duration

	fills   atomic.Int64
	failure atomic.Pointer[error]
}

// Place is where a value is kept: in a field of a hash, or under a key that its tag, a set, names.
type Place struct{ Hash, Field, Tag string }

func (a *App) locate(key string) Place {
	if a.Locate == nil {
		return Place{}
	}
	return a.Locate(key)
}

// Get reads the cache, or has a pipeline do so.
func (a *App) Get(ctx context.Context, c redis.Cmdable, key string) *redis.StringCmd {
	if p := a.locate(key); p.Hash != "" {
		return c.HGet(ctx, p.Hash, p.Field)
	}
	return c.Get(ctx, key)
}

// put caches a value. A key and its place in its tag come in one transaction, and in one slot: of two commands one may get
// lost, and a key that its tag does not name is found by nobody.
func (a *App) put(ctx context.Context, key, value string) error {
	p := a.locate(key)
	switch {
	case p.Hash != "":
		return a.Cache.HSet(ctx, p.Hash, p.Field, value).Err()
	case p.Tag == "":
		return a.Cache.Set(ctx, key, value, 0).Err()
	}
	_, err := a.Cache.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, key, value, 0)
		pipe.SAdd(ctx, p.Tag, key)
		return nil
	})
	return err
}

// Drop removes a value from the cache, as if it had expired.
func (a *App) Drop(ctx context.Context, key string) error {
	if p := a.locate(key); p.Hash != "" {
		return a.Cache.HDel(ctx, p.Hash, p.Field).Err()
	}
	return a.Cache.Del(ctx, key).Err()
}

// Truth reads from Postgres what belongs under a key.
func (a *App) Truth(ctx context.Context, conn *pgx.Conn, key string) (value string, err error) {
	kind, rest, _ := strings.Cut(key, ":")
	query, ok := a.Truths[kind]
	if !ok {
		return "", fmt.Errorf("no such key: %q", key)
	}
	args := []any{pgx.QueryExecModeExec}
	for part := range strings.SplitSeq(rest, ":") {
		args = append(args, part)
	}
	if err := conn.QueryRow(ctx, query, args...).Scan(&value); err != nil {
		return "", fmt.Errorf("read what belongs under %s: %w", key, err)
	}
	return value, nil
}

// Read is cache-aside.
func (a *App) Read(ctx context.Context, conn *pgx.Conn, key string) error {
	if err := a.Get(ctx, a.Cache, key).Err(); !errors.Is(err, redis.Nil) {
		return err
	}
	began := time.Now()
	value, err := a.Truth(ctx, conn, key)
	if err != nil {
		return err
	}
	// One whose context ends meanwhile would not know whether its value arrived.
	ctx = context.WithoutCancel(ctx)
	err = a.put(ctx, key, value)
	if a.Slow == 0 || err == nil && time.Since(began) <= a.Slow {
		if err == nil {
			a.fills.Add(1)
		}
		return err
	}
	return errors.Join(err, a.takeBack(ctx, key))
}

// takeBack deletes a value that arrived late, or may arrive yet: what a client has given up may be waiting in front of a
// server that hangs. So it counts once the server has answered, who has come to all that was there before by then.
func (a *App) takeBack(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := a.Drop(ctx, key)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// Loop does something again and again, at most once in each interval, on a connection that is made anew when it breaks.
// It goes on when something fails, and remembers the first failure.
func (a *App) Loop(ctx context.Context, every time.Duration, do func(context.Context, *pgx.Conn) error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var conn *pgx.Conn
	for {
		select {
		case <-ctx.Done():
			if conn != nil {
				_ = conn.Close(context.WithoutCancel(ctx)) // it may be broken
			}
			return
		case <-tick.C:
		}
		var err error
		if conn == nil {
			conn, err = pgx.Connect(ctx, a.URL)
		}
		if err == nil {
			err = do(ctx, conn)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		a.failure.CompareAndSwap(nil, &err)
		if conn != nil && conn.IsClosed() {
			conn = nil
		}
	}
}

// Fills is how many values the readers have cached.
func (a *App) Fills() int64 { return a.fills.Load() }

// Failure returns the first error of what the loops did.
func (a *App) Failure() error {
	if err := a.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Stale is a cached value that is not what it must be.
type Stale struct{ Key, Have, Want string }

func (s Stale) String() string { return fmt.Sprintf("%s is %q, and must be %q", s.Key, s.Have, s.Want) }

// Stale compares what is cached of the keys with Postgres, and returns how many are cached, too.
func (a *App) Stale(ctx context.Context, keys []string) (stale []Stale, cached int, err error) {
	conn, err := pgx.Connect(ctx, a.URL)
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, key := range keys {
		have, err := a.Get(ctx, a.Cache, key).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read the cache: %w", err)
		}
		cached++
		want, err := a.Truth(ctx, conn, key)
		if err != nil {
			return nil, 0, err
		}
		if have != want {
			stale = append(stale, Stale{key, have, want})
		}
	}
	return stale, cached, nil
}
