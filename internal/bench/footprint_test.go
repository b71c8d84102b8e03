package bench_test

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"pgevict/internal/livetest"
)

// BenchmarkFootprint measures how small the program is: the file, the memory when idle, and the most memory that it takes
// while Redis is away and rows go on changing.
func BenchmarkFootprint(b *testing.B) {
	idle, changes, batch := 10*time.Second, 2_000_000, 50_000
	if testing.Short() {
		idle, changes, batch = 2*time.Second, 200_000, 20_000
	}
	file, err := os.Stat(livetest.ProgramPath(b, livetest.AsShipped))
	if err != nil {
		b.Fatal(err)
	}
	size := float64(file.Size()) / (1 << 20)
	resident := idleMemory(b, idle)
	peak, usage, took := awayMemory(b, changes, batch)
	if usage != 0 {
		b.Errorf("the queue of the server is filled to %v, though everything has been read", usage)
	}
	table(b, "what\thow much",
		fmt.Sprintf("stripped binary\t%.1f MiB", size),
		fmt.Sprintf("resident after %v idle\t%.1f MiB", idle, resident),
		fmt.Sprintf("peak resident, %d rows changed in %.0f s while Redis is away\t%.1f MiB", changes, took.Seconds(), peak),
		fmt.Sprintf("pg_notification_queue_usage() after that\t%v", usage))
	b.ReportMetric(size, "MiB-binary")
	b.ReportMetric(resident, "MiB-idle")
	b.ReportMetric(peak, "MiB-away")
}

func idleMemory(b *testing.B, idle time.Duration) float64 {
	b.Helper()
	r := livetest.NewRedis(b)
	environ := benchEnviron(b, livetest.Database(b), r.URL(), actionRules)
	sidecar := startBenchSidecar(b, environ)
	sidecar.ready()
	time.Sleep(idle)
	return sidecar.memory("VmRSS")
}

// awayMemory inserts rows while there is no Redis, and waits until pgevict has heard of all of them.
func awayMemory(b *testing.B, changes, batch int) (peak, usage float64, took time.Duration) {
	b.Helper()
	pg := benchPostgres(b)
	url, conn := benchDatabase(b, pg, "ours", "tcn", shortRow, 0)
	// The table of this one is narrow: what counts here are the notifications.
	benchExec(b, conn, "CREATE TABLE rows (id bigint PRIMARY KEY)")
	benchExec(b, conn, "CREATE TRIGGER changed AFTER INSERT ON rows FOR EACH ROW EXECUTE FUNCTION triggered_change_notification()")
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that refuses, for as long as nobody else takes it
	if err != nil {
		b.Fatal(err)
	}
	nobody := l.Addr().String()
	_ = l.Close()
	environ := benchEnviron(b, url, "redis://"+nobody+"/0", `rules: [{table: rows, keys: ["row:{id}"]}]`)
	sidecar := startBenchSidecar(b, environ)
	if _, err := sidecar.Logged(0, "listening to Postgres"); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	for from := 0; from < changes; from += batch {
		benchExec(b, conn, "INSERT INTO rows SELECT $1::bigint + i FROM generate_series($2::int, $3::int) i", firstID, from, from+batch-1)
	}
	livetest.Eventually(b, 2*time.Minute, "every change is heard", func() bool {
		return int(sidecar.metric("pgevict_changes_total", `source="tcn"`)) == changes
	})
	took = time.Since(began)
	// The server cleans its queue up when the next message is sent, such as a canary.
	deadline := time.Now().Add(10 * time.Second)
	for {
		if err := conn.QueryRow(b.Context(), "SELECT pg_notification_queue_usage()").Scan(&usage); err != nil {
			b.Fatal(err)
		}
		if usage == 0 || time.Now().After(deadline) {
			return sidecar.memory("VmHWM"), usage, took
		}
		time.Sleep(100 * time.Millisecond)
	}
}
