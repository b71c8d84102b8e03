package bench_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

// latencyPace is the time from one change to the next: a hundred changes a second.
const latencyPace = 10 * time.Millisecond

// BenchmarkLatency measures the time from a commit to the key gone, against a bare loop on the same servers. Both listen
// all the time, each in its own database, and take turns.
func BenchmarkLatency(b *testing.B) {
	turns, changes := 12, 200
	if testing.Short() {
		turns, changes = 2, 50
	}
	pg, r := benchPostgres(b), livetest.NewRedis(b, "--notify-keyspace-events", "Eg")
	rdb := benchRedis(b, r)
	oursURL, ours := benchDatabase(b, pg, "ours", "tcn", shortRow, changes)
	bareURL, bare := benchDatabase(b, pg, "bare", "tcn", shortRow, changes)
	environ := benchEnviron(b, oursURL, r.URL(), actionRules)
	sidecar := startBenchSidecar(b, environ)
	startBenchLoop(b, loopUnlink, "tcn", bareURL, r.URL(), 1<<30)
	sidecar.ready()

	gone := watchGone(b, rdb)
	var all [2]latencies
	var ratios, ratiosAfter []float64
	for turn := range turns {
		var now [2]latencies
		for i := range 2 {
			who := (turn + i) % 2 // who goes first changes too
			now[who] = measureLatency(b, rdb, []*pgx.Conn{ours, bare}[who], gone, changes)
			all[who].sent = append(all[who].sent, now[who].sent...)
			all[who].done = append(all[who].done, now[who].done...)
			sidecar.settle()
		}
		ratios = append(ratios, float64(median(now[0].sent))/float64(median(now[1].sent)))
		ratiosAfter = append(ratiosAfter, float64(median(now[0].done))/float64(median(now[1].done)))
	}
	row := func(name string, l latencies) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", name, micros(median(l.sent)), micros(quantile(l.sent, 0.99)),
			micros(median(l.done)), micros(quantile(l.done, 0.99)))
	}
	table(b, "to key gone, from\tCOMMIT sent p50\tp99\tCOMMIT answered p50\tp99",
		row("pgevict", all[0]), row("bare loop", all[1]),
		fmt.Sprintf("ratio of p50, median of %d turns\t%.2f\t\t%.2f\t", turns, median(ratios), median(ratiosAfter)))
	b.ReportMetric(median(ratios), "p50-ratio")
	b.ReportMetric(float64(median(all[0].sent).Microseconds()), "p50-µs")
	b.ReportMetric(float64(quantile(all[0].sent, 0.99).Microseconds()), "p99-µs")
}

func micros(d time.Duration) string { return fmt.Sprintf("%d µs", d.Microseconds()) }

// latencies are the times until keys were gone: since COMMIT was sent, and since it was answered, by when the listener
// may have had the notification for a while.
type latencies struct{ sent, done []time.Duration }

// measureLatency changes one row after the other, each once.
func measureLatency(b *testing.B, rdb *redis.Client, conn *pgx.Conn, gone *goneKeys, changes int) latencies {
	b.Helper()
	fillKeys(b, rdb, changes, actionKey)
	gone.reset()
	sent, done := make([]time.Time, changes), make([]time.Time, changes)
	for i, next := 0, time.Now(); i < changes; i++ {
		next = next.Add(latencyPace)
		time.Sleep(time.Until(next))
		tx, err := conn.Begin(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tx.Exec(b.Context(), `UPDATE actions SET "order" = "order" + 1 WHERE id = $1`, firstID+i); err != nil {
			b.Fatal(err)
		}
		sent[i] = time.Now()
		if err := tx.Commit(b.Context()); err != nil {
			b.Fatal(err)
		}
		done[i] = time.Now()
	}
	livetest.Eventually(b, 10*time.Second, "every key is gone", func() bool { return gone.count() == changes })
	var l latencies
	for i := range changes {
		at := gone.at(actionKey(i))
		l.sent, l.done = append(l.sent, at.Sub(sent[i])), append(l.done, at.Sub(done[i]))
	}
	return l
}

// goneKeys knows when Redis told that a key is gone.
type goneKeys struct {
	mu   sync.Mutex
	when map[string]time.Time
}

func watchGone(b *testing.B, rdb *redis.Client) *goneKeys {
	b.Helper()
	g := &goneKeys{when: map[string]time.Time{}}
	sub := rdb.Subscribe(b.Context(), "__keyevent@0__:del")
	if _, err := sub.Receive(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = sub.Close() })
	go func() {
		for {
			m, err := sub.ReceiveMessage(context.Background())
			if err != nil {
				return
			}
			now := time.Now()
			g.mu.Lock()
			if _, known := g.when[m.Payload]; !known {
				g.when[m.Payload] = now
			}
			g.mu.Unlock()
		}
	}()
	return g
}

func (g *goneKeys) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.when)
}

func (g *goneKeys) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.when)
}

func (g *goneKeys) at(key string) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.when[key]
}
