package bench_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

// BenchmarkRefresh measures how fast the cached keys of a backlog of changed rows are read anew: from the commit of all
// changes until the last key is set. It is set against a loop that reads and sets one key after the other. The two take
// turns. pgevict reads each key once only, as the loop does: AGAIN_AFTER is 0.
func BenchmarkRefresh(b *testing.B) {
	turns, backlog, sample := 5, 20_000, 10_000
	if testing.Short() {
		turns, backlog, sample = 1, 4_000, 1_000
	}
	pg, r := benchPostgres(b), livetest.NewRedis(b)
	rdb := benchRedis(b, r)
	oursURL, ours := benchDatabase(b, pg, "ours", "tcn", longRow, backlog)
	loopURL, loops := benchDatabase(b, pg, "loop", "tcn", longRow, sample)
	environ := benchEnviron(b, oursURL, r.URL(),
		`rules: [{table: actions, keys: ["action:{id}"], refresh: {query: "SELECT row_to_json(a) FROM actions a WHERE id = {id}"}}]`, "PGEVICT_AGAIN_AFTER=0")
	sidecar := startBenchSidecar(b, environ)
	loop := startBenchLoop(b, loopFresh, "tcn", loopURL, r.URL(), sample)
	sidecar.ready()

	var results [2]drained // pgevict, the loop
	var ratios []float64
	for range turns {
		fillKeys(b, rdb, backlog, actionKey)
		o := results[0].add(backlog, sidecar.Pid(), func() time.Duration {
			return drain(b, ours, sidecar.Pid(), backlog, func() { waitFresh(b, rdb, backlog) })
		})
		checkFresh(b, rdb, ours, backlog)
		fillKeys(b, rdb, sample, actionKey)
		l := results[1].add(sample, loop.Pid(), func() time.Duration { return drain(b, loops, loop.Pid(), sample, loop.wait) })
		checkFresh(b, rdb, loops, sample)
		ratios = append(ratios, o/l)
	}
	if n := sidecar.metric("pgevict_refreshed_total"); n != float64(turns*backlog) {
		b.Errorf("%.0f refreshed, not %d", n, turns*backlog)
	}
	line := func(name string, d drained, ratio string) string {
		return fmt.Sprintf("%s\t%.0f\t%.2f µs\t%s", name, median(d.rates), median(d.cpu), ratio)
	}
	table(b, fmt.Sprintf("%d cached rows through tcn\trefreshed a second\tCPU time each\tpgevict to it", backlog),
		line("pgevict", results[0], ""),
		line("one SELECT and SET after the other", results[1], fmt.Sprintf("%.1f ×", median(ratios))))
	b.ReportMetric(median(ratios), "×loop")
	b.ReportMetric(median(results[0].rates), "refreshes/s")
}

// waitFresh waits until no key has the short value any more. It looks at each key about once, and at one again and again:
// to scrape the metrics all the time would take more of the processors than to refresh does.
func waitFresh(b *testing.B, rdb *redis.Client, keys int) {
	b.Helper()
	fresh, atOnce := 0, 1
	livetest.Eventually(b, time.Minute, "every key is set", func() bool {
		for fresh < keys {
			pipe := rdb.Pipeline()
			for i := fresh; i < min(fresh+atOnce, keys); i++ {
				pipe.StrLen(b.Context(), actionKey(i))
			}
			replies, err := pipe.Exec(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for _, reply := range replies {
				if reply.(*redis.IntCmd).Val() == 1 {
					atOnce = 1
					return false
				}
				fresh++
			}
			atOnce = min(2*atOnce, 1000)
		}
		return true
	})
}

// checkFresh wants the cache to hold what the rows are.
func checkFresh(b *testing.B, rdb *redis.Client, conn *pgx.Conn, rows int) {
	b.Helper()
	for i := 0; i < rows; i += 997 {
		var want string
		if err := conn.QueryRow(b.Context(), freshRow, firstID+i).Scan(&want); err != nil {
			b.Fatal(err)
		}
		if have := rdb.Get(b.Context(), actionKey(i)).Val(); have != want {
			b.Errorf("%s is %q, and the row %q", actionKey(i), have, want)
		}
	}
}
