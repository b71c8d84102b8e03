package bench_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgevict/internal/livetest"
	"pgevict/pgnotify/triggers"
)

// bulkRows are changed by one UPDATE: as many as pgevict's triggers name before they say "any row".
const bulkRows = 10_000

// The feeds are what may tell of a change of actions, each in a database of its own; the first is what they are set against.
var writerFeeds = []string{"none", "tcn", "notify_event", "pgevict"}

// BenchmarkWriter measures what the triggers cost whoever writes, with pgbench. Commits wait for the disk, as they do on a
// server that is set up for work: without that a row's commit is cheap, and each trigger seems to cost a multiple. Each
// database has one listener, which only reads, so that it takes little of the processors from the server; a message to
// nobody would be cheaper.
func BenchmarkWriter(b *testing.B) {
	b.Run("rows of 290 bytes", func(b *testing.B) { benchWriters(b, shortRow) })
	b.Run("rows of 660 bytes", func(b *testing.B) { benchWriters(b, longRow) })
}

func benchWriters(b *testing.B, descriptor string) {
	// Turns are short and many, since the machine is faster in one second than in the next. What a connection pays once, to
	// read the function and to plan its queries, is spread over the statements of a turn.
	rounds, bulkRounds, singles, rows, updates := 25, 9, 2000, 100_000, 20
	if testing.Short() {
		rounds, bulkRounds, singles, rows, updates = 1, 1, 320, bulkRows, 1
	}
	// No checkpoint falls into somebody's turn.
	pg := livetest.NewPostgres(b, "fsync=on", "full_page_writes=on", "autovacuum=off", "checkpoint_timeout=1h", "max_wal_size=16GB",
		"shared_buffers=256MB")
	var writers []*benchWriter
	for _, feed := range writerFeeds {
		writers = append(writers, newBenchWriter(b, pg, feed, descriptor, rows))
	}
	writeRow := fmt.Sprintf("\\set id random(%d, %d)\nUPDATE actions SET \"order\" = \"order\" + 1 WHERE id = :id;\n", firstID, firstID+rows-1)
	writeBulk := fmt.Sprintf("\\set first %d + %d * random(0, %d)\nUPDATE actions SET \"order\" = \"order\" + 1 WHERE id >= :first AND id < :first + %[2]d;\n",
		firstID, bulkRows, rows/bulkRows-1)
	file := filepath.Join(pg.Dir, "rows.copy") // which the server may read, whoever runs it
	benchExec(b, writers[0].conn, "COPY actions TO '"+file+"'")

	lines := []string{"time of one, to that with no trigger\t" + strings.Join(writerFeeds, "\t") + "\toverhead, pgevict to notify_event"}
	measure := func(what, metric string, rounds int, turn func(w *benchWriter) time.Duration) {
		r := measureWriters(rounds, writers, turn)
		lines = append(lines, what+"\t"+r.line())
		b.ReportMetric(r.overhead(), "overhead-"+metric)
	}
	for _, clients := range []int{1, 4, 16} {
		args := []string{"-M", "prepared", "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, runtime.NumCPU())), "-t", strconv.Itoa(singles / clients)}
		measure(fmt.Sprintf("UPDATE of 1 row, %d clients", clients), fmt.Sprintf("row-%d", clients), rounds, func(w *benchWriter) time.Duration {
			benchExec(b, w.conn, "VACUUM actions")
			return w.pgbench(writeRow, args...)
		})
	}
	measure(fmt.Sprintf("UPDATE of %d rows", bulkRows), "update", bulkRounds, func(w *benchWriter) time.Duration {
		benchExec(b, w.conn, "VACUUM actions")
		return w.pgbench(writeBulk, "-t", strconv.Itoa(updates))
	})
	measure(fmt.Sprintf("COPY of %d rows", rows), "copy", bulkRounds, func(w *benchWriter) time.Duration {
		benchExec(b, w.conn, "TRUNCATE actions")
		w.settle()
		return w.pgbench("COPY actions FROM '"+file+"';\n", "-t", "1")
	})
	table(b, lines...)
}

// benchWriter is a database with one of the feeds, and a listener.
type benchWriter struct {
	b       *testing.B
	url     string
	conn    *pgx.Conn
	channel string
	program string
	settled chan struct{}
}

// endOfTurn is a message after those that a turn made, so that the listener's work of one turn is not done in the next.
const endOfTurn = "end of turn"

func newBenchWriter(b *testing.B, pg *livetest.Postgres, feed, descriptor string, rows int) *benchWriter {
	b.Helper()
	w := &benchWriter{b: b, channel: "events", program: pg.Program("pgbench"), settled: make(chan struct{}, 1)}
	if feed == "tcn" {
		w.channel = "tcn"
	}
	w.url, w.conn = benchDatabase(b, pg, feed, w.channel, descriptor, rows)
	if feed == "none" || feed == "pgevict" {
		benchExec(b, w.conn, "DROP TRIGGER changed ON actions")
	}
	if feed == "pgevict" {
		wanted := triggers.Wanted{
			Tables:  []triggers.Table{{Schema: "public", Name: "actions", Columns: []string{"id", "actionable_type", "actionable_id"}}},
			Channel: w.channel, MaxRows: bulkRows,
		}
		if _, err := wanted.Install(b.Context(), w.conn.PgConn(), time.Second); err != nil {
			b.Fatal(err)
		}
	}
	w.listen()
	return w
}

func (w *benchWriter) listen() {
	w.b.Helper()
	conn := benchConnect(w.b, w.url)
	benchExec(w.b, conn, "LISTEN "+w.channel)
	ctx, ended := w.b.Context(), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			notification, err := conn.WaitForNotification(ctx)
			if err != nil {
				return // the benchmark is over, or settle will miss it
			}
			if notification.Payload == endOfTurn {
				w.settled <- struct{}{}
			}
		}
	}()
	w.b.Cleanup(func() { <-ended }) // the context of a benchmark is done before its cleanup
}

// settle waits until the listener has read everything.
func (w *benchWriter) settle() {
	w.b.Helper()
	benchExec(w.b, w.conn, "SELECT pg_notify($1, $2)", w.channel, endOfTurn)
	select {
	case <-w.settled:
	case <-time.After(time.Minute):
		w.b.Fatal("the listener has not read everything within a minute")
	}
}

// pgbench runs a script again and again, and gives how long one run took, as whoever ran it saw it.
func (w *benchWriter) pgbench(script string, args ...string) time.Duration {
	w.b.Helper()
	file := filepath.Join(w.b.TempDir(), "script.sql")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		w.b.Fatal(err)
	}
	out, err := exec.Command(w.program, append(args, "-n", "-f", file, w.url)...).CombinedOutput()
	if err != nil {
		w.b.Fatalf("pgbench: %v\n%s", err, out)
	}
	w.settle()
	_, rest, _ := strings.Cut(string(out), "latency average = ")
	var ms float64
	if _, err := fmt.Sscanf(rest, "%f ms", &ms); err != nil || ms == 0 {
		w.b.Fatalf("pgbench tells no latency:\n%s", out)
	}
	return time.Duration(ms * float64(time.Millisecond))
}

// writerTimes are the times of each feed, in the order of the feeds.
type writerTimes struct{ took, ratios, over [][]float64 }

// measureWriters lets the writers take turns, a different one first in each round. The first round is not counted: pages
// are written whole then, and what the server keeps in memory is not there yet.
func measureWriters(rounds int, writers []*benchWriter, turn func(w *benchWriter) time.Duration) writerTimes {
	n := len(writers)
	t := writerTimes{make([][]float64, n), make([][]float64, n), make([][]float64, n)}
	for round := range rounds + 1 {
		now := make([]float64, n)
		for i := range n {
			who := (round + i) % n
			now[who] = turn(writers[who]).Seconds()
		}
		if round == 0 {
			continue
		}
		for i, seconds := range now {
			t.took[i] = append(t.took[i], seconds)
			t.ratios[i] = append(t.ratios[i], seconds/now[0])
			t.over[i] = append(t.over[i], seconds-now[0])
		}
	}
	return t
}

// overhead is what pgevict's triggers add to the time without any, as a part of what notify_event adds.
func (t writerTimes) overhead() float64 { return median(t.over[3]) / median(t.over[2]) }

// line has the time without a trigger, the ratios to it, and the overhead.
func (t writerTimes) line() string {
	cells := []string{fmt.Sprintf("%.2f ms", median(t.took[0])*1000)}
	for _, ratios := range t.ratios[1:] {
		cells = append(cells, fmt.Sprintf("%.2f ×", median(ratios)))
	}
	return strings.Join(append(cells, fmt.Sprintf("%.2f", t.overhead())), "\t")
}
