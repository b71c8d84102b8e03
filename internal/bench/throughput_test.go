package bench_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

// BenchmarkThroughput measures how fast a backlog of changes to distinct rows is drained: from the commit of all of them
// until the last of their keys is gone. It is set against a loop that deletes one key after the other, one that deletes many
// at once and keeps no promise, and one that only reads the notifications. All listen all the time, each in its own database,
// and take turns.
func BenchmarkThroughput(b *testing.B) {
	b.Run("tcn", func(b *testing.B) { benchThroughput(b, "tcn", shortRow) })
	b.Run("events/short", func(b *testing.B) { benchThroughput(b, "events", shortRow) })
	b.Run("events/long", func(b *testing.B) { benchThroughput(b, "events", longRow) })
}

func benchThroughput(b *testing.B, channel, descriptor string) {
	// The naive loop's rate does not depend on how many there are, so it gets a tenth.
	turns, backlog, sample := 5, 200_000, 20_000
	if testing.Short() {
		turns, backlog, sample = 1, 20_000, 2_000
	}
	pg, r := benchPostgres(b), livetest.NewRedis(b)
	rdb := benchRedis(b, r)
	oursURL, ours := benchDatabase(b, pg, "ours", channel, descriptor, backlog)
	naiveURL, naive := benchDatabase(b, pg, "naive", channel, descriptor, sample)
	readURL, read := benchDatabase(b, pg, "reader", channel, descriptor, backlog)
	environ := benchEnviron(b, oursURL, r.URL(), actionRules)
	sidecar := startBenchSidecar(b, environ)
	naiveLoop := startBenchLoop(b, loopNaive, channel, naiveURL, r.URL(), sample)
	batchURL, batch := benchDatabase(b, pg, "batch", channel, descriptor, backlog)
	batchLoop := startBenchLoop(b, loopBatch, channel, batchURL, r.URL(), backlog)
	readLoop := startBenchLoop(b, loopRead, channel, readURL, r.URL(), backlog)
	sidecar.ready()

	var results [4]drained // pgevict, the naive loop, the one that batches, reading
	var toNaive, toBatch, toRead []float64
	for range turns {
		fillKeys(b, rdb, backlog, actionKey)
		o := results[0].add(backlog, sidecar.Pid(), func() time.Duration {
			return drain(b, ours, sidecar.Pid(), backlog, func() { waitNoKeys(b, rdb) })
		})
		sidecar.settle()
		fillKeys(b, rdb, sample, actionKey)
		n := results[1].add(sample, naiveLoop.Pid(), func() time.Duration { return drain(b, naive, naiveLoop.Pid(), sample, naiveLoop.wait) })
		fillKeys(b, rdb, backlog, actionKey)
		f := results[2].add(backlog, batchLoop.Pid(), func() time.Duration { return drain(b, batch, batchLoop.Pid(), backlog, batchLoop.wait) })
		if left := rdb.DBSize(b.Context()).Val(); left > 1 {
			b.Errorf("%d keys are left by the loop that batches", left)
		}
		r := results[3].add(backlog, readLoop.Pid(), func() time.Duration { return drain(b, read, readLoop.Pid(), backlog, readLoop.wait) })
		toNaive, toBatch, toRead = append(toNaive, o/n), append(toBatch, o/f), append(toRead, o/r)
	}
	if widened := sidecar.metric("pgevict_widened_total"); widened > 0 {
		b.Errorf("%.0f targets were widened, so it was not each key that was deleted by itself", widened)
	}
	line := func(name string, d drained, ratio string) string {
		return fmt.Sprintf("%s\t%.0f\t%.2f µs\t%s", name, median(d.rates), median(d.cpu), ratio)
	}
	table(b, fmt.Sprintf("%d changes through %s\ta second\tCPU time each\tpgevict to it", backlog, channel),
		line("pgevict", results[0], ""),
		line("one DEL after the other", results[1], fmt.Sprintf("%.1f ×", median(toNaive))),
		line("batches without any safety", results[2], fmt.Sprintf("%.2f ×", median(toBatch))),
		line("only reading", results[3], fmt.Sprintf("%.2f ×", median(toRead))))
	b.ReportMetric(median(toNaive), "×naive")
	b.ReportMetric(median(toBatch), "×batching")
	b.ReportMetric(median(toRead), "×reading")
	b.ReportMetric(median(results[0].rates), "changes/s")
}

// drained is what one of them did in each turn: changes a second, and the processors' time for one, in µs.
type drained struct{ rates, cpu []float64 }

// add measures one turn and gives its rate.
func (d *drained) add(changes, pid int, turn func() time.Duration) float64 {
	before := cpuTime(pid)
	took := turn()
	rate := float64(changes) / took.Seconds()
	d.rates = append(d.rates, rate)
	d.cpu = append(d.cpu, float64((cpuTime(pid)-before).Nanoseconds())/1000/float64(changes))
	return rate
}

// drain changes every row in one transaction, and returns the time from its commit until done returns. During the commit
// the listener stands still, so that all of the backlog is there when it goes on.
func drain(b *testing.B, conn *pgx.Conn, listener, backlog int, done func()) time.Duration {
	b.Helper()
	benchExec(b, conn, "VACUUM actions")
	tx, err := conn.Begin(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	tag, err := tx.Exec(b.Context(), `UPDATE actions SET "order" = "order" + 1`)
	if err != nil {
		b.Fatal(err)
	}
	if int(tag.RowsAffected()) != backlog {
		b.Fatalf("%d rows updated, not %d", tag.RowsAffected(), backlog)
	}
	signal := func(sig syscall.Signal) {
		if err := syscall.Kill(listener, sig); err != nil {
			b.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	if err := tx.Commit(b.Context()); err != nil {
		b.Fatal(err)
	}
	committed := time.Now()
	signal(syscall.SIGCONT)
	done()
	return time.Since(committed)
}

// waitNoKeys waits until nothing is left but pgevict's position.
func waitNoKeys(b *testing.B, rdb *redis.Client) {
	b.Helper()
	livetest.Eventually(b, time.Minute, "every key is gone", func() bool { return rdb.DBSize(b.Context()).Val() <= 1 })
}
