package bench_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

const (
	pageRules  = `rules: [{table: pages, keys: ["page:{id}:*"]}]`
	staleKeys  = 100 // that each pass deletes, whatever the number of its patterns
	pageIDBase = 5_000_000
)

// BenchmarkPatterns measures one walk over a large Redis for 1 pattern, and for 100 that wait together. Every key begins
// like those that the patterns are about.
func BenchmarkPatterns(b *testing.B) {
	turns, keys := 5, 1_000_000
	if testing.Short() {
		turns, keys = 2, 100_000
	}
	r := livetest.NewRedis(b)
	rdb := benchRedis(b, r)
	url := livetest.Database(b)
	conn := benchConnect(b, url)
	benchExec(b, conn, "CREATE TABLE pages (id bigint PRIMARY KEY)") // a message about another would wait for the catalog
	environ := benchEnviron(b, url, r.URL(), pageRules, "PGEVICT_AGAIN_AFTER=0")
	sidecar := startBenchSidecar(b, environ)
	sidecar.ready()
	fillKeys(b, rdb, keys, func(i int) string { return fmt.Sprintf("page:%d:html", i) })

	// pass has so many patterns wait together, and gives the time until they are applied and the number of SCANs.
	pass := func(patterns int) (time.Duration, int) {
		fillKeys(b, rdb, staleKeys, func(i int) string { return fmt.Sprintf("page:%d:%d", pageIDBase+i%patterns, i) })
		var rows []map[string]int
		for i := range patterns {
			rows = append(rows, map[string]int{"id": pageIDBase + i})
		}
		payload, err := json.Marshal(map[string]any{"table": "pages", "action": "DELETE", "data": rows})
		if err != nil {
			b.Fatal(err)
		}
		applied, scans := sidecar.metric("pgevict_apply_seconds_count"), scanCalls(b, rdb)
		began := time.Now()
		benchExec(b, conn, "SELECT pg_notify('events', $1)", string(payload))
		livetest.Eventually(b, time.Minute, "the patterns are applied", func() bool {
			return sidecar.metric("pgevict_apply_seconds_count") == applied+float64(patterns)
		})
		took := time.Since(began)
		if left := rdb.DBSize(b.Context()).Val(); left > int64(keys)+1 {
			b.Fatalf("%d keys are left, not %d and the position", left, keys)
		}
		return took, scanCalls(b, rdb) - scans
	}
	var one, hundred, ratios []float64
	var scansOne, scansHundred int
	for range turns {
		var d1, d100 time.Duration
		d1, scansOne = pass(1)
		d100, scansHundred = pass(100)
		one, hundred = append(one, d1.Seconds()), append(hundred, d100.Seconds())
		ratios = append(ratios, d100.Seconds()/d1.Seconds())
	}
	table(b, fmt.Sprintf("a Redis of %d keys\tone walk\tSCAN calls", keys),
		fmt.Sprintf("1 pattern\t%.2f s\t%d", median(one), scansOne),
		fmt.Sprintf("100 patterns\t%.2f s\t%d", median(hundred), scansHundred),
		fmt.Sprintf("ratio, median of %d turns\t%.2f\t%.2f", turns, median(ratios), float64(scansHundred)/float64(scansOne)))
	b.ReportMetric(median(ratios), "100-patterns/1")
	b.ReportMetric(float64(scansHundred)/float64(scansOne), "scans-ratio")
}

// scanCalls is how many SCANs Redis has executed.
func scanCalls(b *testing.B, rdb *redis.Client) (calls int) {
	b.Helper()
	info, err := rdb.Info(b.Context(), "commandstats").Result()
	if err != nil {
		b.Fatal(err)
	}
	_, rest, ok := strings.Cut(info, "cmdstat_scan:calls=")
	if !ok {
		return 0
	}
	if _, err := fmt.Sscanf(rest, "%d,", &calls); err != nil {
		b.Fatal(err)
	}
	return calls
}
