package bench_test

import (
	"fmt"
	"testing"
	"time"

	"pgevict/internal/livetest"
)

const groupRules = `rules:
  - {table: tagged, tags: ["tag:{id}"]}
  - {table: walked, keys: ["walked:{id}:*"]}
`

// BenchmarkTags deletes a thousand keys out of a million, found by a tag, and by a pattern.
func BenchmarkTags(b *testing.B) {
	turns, keys, stale := 5, 1_000_000, 1_000
	if testing.Short() {
		turns, keys = 2, 100_000
	}
	r := livetest.NewRedis(b)
	rdb := benchRedis(b, r)
	url := livetest.Database(b)
	conn := benchConnect(b, url)
	benchExec(b, conn, "CREATE TABLE tagged (id bigint PRIMARY KEY); CREATE TABLE walked (id bigint PRIMARY KEY)")
	environ := benchEnviron(b, url, r.URL(), groupRules, "PGEVICT_AGAIN_AFTER=0")
	sidecar := startBenchSidecar(b, environ)
	sidecar.ready()
	fillKeys(b, rdb, keys, func(i int) string { return fmt.Sprintf("walked:other:%d", i) })

	turn := func(table string, key func(i int) string) float64 {
		fillKeys(b, rdb, stale, key)
		if table == "tagged" {
			members := make([]any, stale)
			for i := range members {
				members[i] = key(i)
			}
			if err := rdb.SAdd(b.Context(), "tag:1", members...).Err(); err != nil {
				b.Fatal(err)
			}
		}
		began := time.Now()
		benchExec(b, conn, "SELECT pg_notify('events', $1)", `{"table":"`+table+`","action":"DELETE","data":{"id":1}}`)
		for { // the keys, the set that named them and the one beside it; the position stays
			left := rdb.DBSize(b.Context()).Val()
			if left == int64(keys)+1 {
				return time.Since(began).Seconds()
			}
			if time.Since(began) > time.Minute {
				b.Fatalf("%d keys are left, not %d and the position", left, keys)
			}
		}
	}
	var tags, walks, ratios []float64
	for range turns {
		tag := turn("tagged", func(i int) string { return fmt.Sprintf("view:%d", i) })
		walk := turn("walked", func(i int) string { return fmt.Sprintf("walked:1:%d", i) })
		tags, walks, ratios = append(tags, tag), append(walks, walk), append(ratios, walk/tag)
	}
	table(b, fmt.Sprintf("%d keys of %d\tuntil they are gone", stale, keys),
		fmt.Sprintf("found by a tag\t%.1f ms", 1000*median(tags)),
		fmt.Sprintf("found by a pattern\t%.1f ms", 1000*median(walks)),
		fmt.Sprintf("ratio, median of %d turns\t%.0f", turns, median(ratios)))
	b.ReportMetric(median(ratios), "pattern/tag")
}
