package bench_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

// BenchmarkCluster drains the same backlog of changes into a Cluster of three masters, and into one server. Both sidecars
// listen all the time, each to its own database, and take turns. All servers share the machine, so what a Cluster gains
// by its processors does not show; what its slots cost does.
func BenchmarkCluster(b *testing.B) {
	turns, backlog := 5, 200_000
	if testing.Short() {
		turns, backlog = 1, 20_000
	}
	pg, r, c := benchPostgres(b), livetest.NewRedis(b), livetest.NewRedisCluster(b, 3, 0)
	one, three := benchRedis(b, r), redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
	b.Cleanup(func() { _ = three.Close() })
	drainInto := func(name, redisURL string, rdb redis.UniversalClient, count func() int64, own int64) func() float64 {
		url, conn := benchDatabase(b, pg, name, "tcn", shortRow, backlog)
		environ := benchEnviron(b, url, redisURL, actionRules)
		sidecar := startBenchSidecar(b, environ)
		sidecar.ready()
		return func() float64 {
			fillKeys(b, rdb, backlog, actionKey)
			took := drain(b, conn, sidecar.Pid(), backlog, func() {
				livetest.Eventually(b, time.Minute, "every key is gone", func() bool { return count() <= own })
			})
			sidecar.settle()
			if widened := sidecar.metric("pgevict_widened_total"); widened > 0 {
				b.Errorf("%.0f targets were widened, so it was not each key that was deleted by itself", widened)
			}
			return float64(backlog) / took.Seconds()
		}
	}
	intoOne := drainInto("one", r.URL(), one, func() int64 { return one.DBSize(b.Context()).Val() }, 1)
	intoThree := drainInto("three", c.URL(), three, func() int64 {
		var keys atomic.Int64
		err := three.ForEachMaster(b.Context(), func(ctx context.Context, master *redis.Client) error {
			n, err := master.DBSize(ctx).Result()
			keys.Add(n)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		return keys.Load()
	}, 3)
	var ones, threes, ratios []float64
	for range turns {
		x, y := intoOne(), intoThree()
		ones, threes, ratios = append(ones, x), append(threes, y), append(ratios, y/x)
	}
	table(b, fmt.Sprintf("%d changes\ta second", backlog),
		fmt.Sprintf("one server\t%.0f", median(ones)),
		fmt.Sprintf("a Cluster of three masters\t%.0f", median(threes)),
		fmt.Sprintf("ratio, median of %d turns\t%.2f", turns, median(ratios)))
	b.ReportMetric(median(ratios), "cluster/one")
}
