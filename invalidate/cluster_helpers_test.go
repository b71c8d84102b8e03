package invalidate

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// clusterKit is a queue before a real Cluster, and another way to that.
type clusterKit struct {
	*kit
	live *livetest.RedisCluster
	all  *redis.ClusterClient // the test's own
}

func makeClusterQueue(tb testing.TB, c *livetest.RedisCluster, change ...func(*Options)) *clusterKit {
	tb.Helper()
	k := &clusterKit{makeQueue(tb, c.URL(), append([]func(*Options){timeout(time.Second)}, change...)...), c, nil}
	k.all = redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs(), MaxRedirects: 20})
	tb.Cleanup(func() { _ = k.all.Close() })
	return k
}

// fill gives keys values.
func (k *clusterKit) fill(keys ...string) {
	k.tb.Helper()
	pipe := k.all.Pipeline()
	for _, key := range keys {
		pipe.Set(k.ctx, key, "v", 0)
	}
	if _, err := pipe.Exec(k.ctx); err != nil {
		k.tb.Fatal(err)
	}
}

// left returns the keys that are there, but for pgevict's own.
func (k *clusterKit) left() map[string]bool {
	k.tb.Helper()
	found := make(chan string, 1_000_000)
	err := k.all.ForEachMaster(k.ctx, func(ctx context.Context, master *redis.Client) error {
		keys, err := master.Keys(ctx, "*").Result()
		for _, key := range keys {
			found <- key
		}
		return err
	})
	if err != nil {
		k.tb.Fatal(err)
	}
	close(found)
	keys := map[string]bool{}
	for key := range found {
		if len(key) < len(PositionPrefix) || key[:len(PositionPrefix)] != PositionPrefix {
			keys[key] = true
		}
	}
	return keys
}

func numbered(format string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf(format, i)
	}
	return keys
}

// wide is what a rules file may hold: all kinds of targets.
const wide = `rules:
  - {name: a, table: a, keys: ['a:{id}', 'b:{{{id}}}:x']}
  - {name: p, table: p, keys: ['p:{id}:*', 'q:{{{id}}}:*']}
  - {name: t, table: t, tags: ['tag:{id}']}
  - {name: f, table: f, fields: [{key: 'h:{id}', field: '{name}'}]}
`

func parseRules(tb testing.TB, text string) *rules.Set {
	tb.Helper()
	set, err := rules.Parse("rules.yaml", []byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

// canary marks a position and waits until it has gone through every master.
func (k *clusterKit) canary(position uint64) {
	k.tb.Helper()
	before := k.Stats().Canary
	k.markAt(position)
	livetest.Eventually(k.tb, soon, "a canary went through every master", func() bool { return k.Stats().Canary.After(before) })
}

// of each master there is one key, by the number of the master.
func (k *clusterKit) onePerMaster(format string) []string {
	k.tb.Helper()
	keys := make([]string, 3)
	for i, found := 0, 0; found < 3; i++ {
		key := fmt.Sprintf(format, i)
		if m := livetest.Slot(key) * 3 / redisnode.Slots; keys[m] == "" {
			keys[m] = key
			found++
		}
	}
	return keys
}

// target returns that of a key of the form a:N.
func target(set *rules.Set, key string) []rules.Target {
	return of(set, "a", image{"id": key[len("a:"):]})
}

// onNode talks to one node, whatever has become of the others.
func (k *clusterKit) onNode(r *livetest.Redis) *redis.Client {
	k.tb.Helper()
	return connect(k.tb, r.URL())
}

func (k *clusterKit) fillOn(r *livetest.Redis, key string) {
	k.tb.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: r.Addr})
	defer rdb.Close()
	if err := rdb.Set(k.ctx, key, "v", 0).Err(); err != nil {
		k.tb.Fatal(err)
	}
}

func (k *clusterKit) hasOn(r *livetest.Redis, key string) bool {
	k.tb.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: r.Addr})
	defer rdb.Close()
	n, err := rdb.Exists(k.ctx, key).Result()
	if err != nil {
		k.tb.Fatal(err)
	}
	return n == 1
}
