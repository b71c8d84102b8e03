package e2e_test

import (
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"pgevict/internal/livetest"
)

// quiet keeps go-redis from writing to standard error whenever a server is away, which is what the tests are about.
var quiet = sync.OnceFunc(logging.Disable)

// cachePassword is of the application. A server without passwords takes it too, if a name comes with it.
const cachePassword = "hunter2"

// newCache is an application's client: quick to fail, and without retries of its own.
func newCache(tb testing.TB, r *livetest.Redis) *redis.Client {
	quiet()
	c := redis.NewClient(&redis.Options{
		Addr: r.Addr, Username: "default", Password: cachePassword,
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, DisableIdentity: true, PoolSize: 20,
	})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// oneRedis is a server behind a link.
func (w *world) oneRedis(args ...string) (url string) {
	w.Helper()
	w.redis = livetest.NewRedis(w.TB, args...)
	w.redisLink = livetest.NewProxy(w.TB, w.redis.Addr)
	w.cache = newCache(w.TB, w.redis)
	return "redis://" + w.redisLink.Addr + "/0"
}

// aCluster is three masters and a replica of each.
func aCluster(w *world) (url string) {
	w.Helper()
	// A replica may take over however long it has heard nothing.
	w.cluster = livetest.NewRedisCluster(w.TB, 3, 1, "--cluster-replica-validity-factor", "0")
	quiet()
	// It retries, for a command that is redirected is one that is tried again. And it asks often who the masters are: one
	// that is dead does not redirect anybody.
	c := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: w.cluster.Addrs(), MaxRedirects: 8, ClusterStateReloadInterval: 500 * time.Millisecond, DialTimeout: time.Second, ReadTimeout: time.Second,
		DialerRetries: 1, ContextTimeoutEnabled: true, DisableIdentity: true, PoolSize: 20,
	})
	w.Cleanup(func() { _ = c.Close() })
	w.cache = c
	return w.cluster.URL()
}

// aSentinelSet is a master and one replica, so that there is no doubt who is next.
func aSentinelSet(w *world) (url string) {
	w.Helper()
	w.sentinels = livetest.NewSentinelSet(w.TB, 1, 3)
	var addrs []string
	for _, sentinel := range w.sentinels.Sentinels {
		addrs = append(addrs, sentinel.Addr)
	}
	quiet()
	c := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: w.sentinels.Name, SentinelAddrs: addrs, DialTimeout: time.Second, ReadTimeout: time.Second,
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, DisableIdentity: true, PoolSize: 20,
	})
	w.Cleanup(func() { _ = c.Close() })
	w.cache = c
	return w.sentinels.URL()
}

// set puts keys into Redis, each with its own name as its value.
func (w *world) set(keys ...string) {
	w.Helper()
	pipe := w.cache.Pipeline()
	for _, key := range keys {
		pipe.Set(w.Context(), key, key, 0)
	}
	if _, err := pipe.Exec(w.Context()); err != nil {
		w.Fatal(err)
	}
}

func (w *world) has(key string) bool {
	w.Helper()
	n, err := w.cache.Exists(w.Context(), key).Result()
	if err != nil {
		w.Fatal(err)
	}
	return n == 1
}

// waitGone waits until a key is gone, and gives how long that took.
func (w *world) waitGone(key string) time.Duration {
	w.Helper()
	began := time.Now()
	eventually(w, "gone: "+key, func() bool { return !w.has(key) })
	return time.Since(began)
}
