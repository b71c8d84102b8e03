package refresh

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgevict/internal/livetest"
	"pgevict/invalidate"
)

// TestSlowReadsHoldUpNothing wants one query that takes too long to take that long once, not for each key.
func TestSlowReadsHoldUpNothing(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond
	r := newReads(t, `CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i; CREATE TABLE locked (id int);`, 2, timeout)
	slow := "SELECT n::text || pg_sleep(CASE WHEN n % 50 > 20 THEN 60 ELSE 0 END) FROM t WHERE id = {id}"
	targets := refreshed(t, numbers(1, 101), slow, "SELECT n FROM t WHERE id = {id}", "SELECT count(*) + {id}::int FROM locked")
	locker := r.connect()
	for _, sql := range []string{"BEGIN", "ALTER TABLE locked ADD COLUMN n int"} {
		if _, err := locker.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 3 {
		began := time.Now()
		var failed, early int
		for i, v := range r.Read(t.Context(), targets) {
			_, args := targets[i].Refresh()
			id, _ := strconv.Atoi(args[0])
			switch {
			case i%3 == 1 && (v.Err != nil || v.Text != args[0]):
				t.Errorf("round %d: a quick one: %+v", round, v)
			case i%3 == 2 && !TookLong(v.Err), i%3 == 0 && id%50 > 20 && !TookLong(v.Err):
				t.Errorf("round %d: a slow one: %+v", round, v)
			case v.Err != nil:
				failed++
			case i%3 == 0:
				early++
			}
		}
		if took := time.Since(began); took > 6*timeout {
			t.Errorf("it took %v", took)
		}
		if early == 0 {
			t.Error("none came before the slow ones")
		}
		livetest.Eventually(t, 5*time.Second, "no connection is left over", func() bool { return r.backends() <= 2 })
	}
	if _, err := locker.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	for i, v := range r.Read(t.Context(), targets) {
		if i%3 == 2 && (v.Err != nil || !v.Found) {
			t.Errorf("after the lock: %+v", v)
		}
	}
}

// TestReadsThatBecomeSlowAreGivenUp has queries, of which many go together since they are quick, become slow without one
// of them taking too long.
func TestReadsThatBecomeSlowAreGivenUp(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond
	r := newReads(t, `CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, i FROM generate_series(1, 200) i;
		CREATE TABLE pace (s float8); INSERT INTO pace VALUES (0)`, 2, timeout)
	targets := refreshed(t, numbers(1, 201), "SELECT n::text || pg_sleep(s) FROM t, pace WHERE id = {id}")
	for range 3 {
		r.all(r.Read(t.Context(), targets))
	}
	r.exec(`UPDATE pace SET s = 0.3`)
	began := time.Now()
	if v := r.Read(t.Context(), targets)[199]; v.Err == nil {
		t.Errorf("%+v", v)
	}
	if took := time.Since(began); took > 10*timeout+13*time.Second { // as a rule it is much less
		t.Errorf("it took %v", took)
	}
	livetest.Eventually(t, 5*time.Second, "the server ends", func() bool { return r.backends() == 0 })
	r.exec(`UPDATE pace SET s = 0`)
	r.all(r.Read(t.Context(), targets))
}

func TestReadsHeal(t *testing.T) {
	t.Parallel()
	r := newReads(t, `CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, i FROM generate_series(1, 200) i`, 2, 5*time.Second)
	targets := refreshed(t, numbers(1, 201), "SELECT row_to_json(t) FROM t WHERE id = {id}")
	r.all(r.Read(t.Context(), targets))
	for _, sql := range []string{
		"ALTER TABLE t ADD COLUMN more text DEFAULT 'x'",
		"ALTER TABLE t ALTER COLUMN id TYPE bigint",
		"ALTER TABLE t ALTER COLUMN id TYPE text",
		"ALTER TABLE t ALTER COLUMN id TYPE numeric USING id::numeric",
		"ALTER TABLE t RENAME TO old; CREATE TABLE t AS SELECT * FROM old; CREATE INDEX ON t (id)",
		"DROP TABLE t; ALTER TABLE old RENAME TO t; ALTER TABLE t DROP COLUMN n",
		"INSERT INTO t SELECT 1000000000000 + i FROM generate_series(1, 1) i",
	} {
		r.exec(sql)
		values := r.Read(t.Context(), targets)
		r.all(values)
		var want string
		if err := r.db.QueryRow(t.Context(), "SELECT row_to_json(t)::text FROM t WHERE id::text = '200'", pgx.QueryExecModeExec).Scan(&want); err != nil {
			t.Fatal(err)
		}
		if values[199].Text != want {
			t.Errorf("%s: %q, want %q", sql, values[199].Text, want)
		}
	}
	r.all(r.Read(t.Context(), refreshed(t, []string{"1000000000001"}, "SELECT row_to_json(t) FROM t WHERE id = {id}")))

	// Connections that died since are replaced, and nothing is lost.
	attempts := r.attempts.Load()
	r.terminate()
	r.all(r.Read(t.Context(), targets))
	r.Renew()
	r.all(r.Read(t.Context(), targets))
	if n := r.attempts.Load() - attempts; n != 4 {
		t.Errorf("%d connections, want 2 and 2", n)
	}
	livetest.Eventually(t, 10*time.Second, "the old ones are gone", func() bool { return r.backends() == 2 })
	// So are statements that somebody has dropped.
	c := <-r.conns
	if _, err := c.Exec(t.Context(), "DEALLOCATE ALL").ReadAll(); err != nil {
		t.Fatal(err)
	}
	r.conns <- c
	r.all(r.Read(t.Context(), targets))

	// One that dies in the middle leaves none without an answer, and a new one that dies as well is the end.
	var values []invalidate.Value
	var reading sync.WaitGroup
	reading.Go(func() {
		values = r.Read(t.Context(), refreshed(t, numbers(1, 3), "SELECT pg_sleep(4)::text || {id}::text"))
	})
	for range 2 {
		livetest.Eventually(t, 10*time.Second, "it sleeps", func() bool { return livetest.EndSessions(t, r.url, "wait_event = 'PgSleep'") > 0 })
	}
	reading.Wait()
	for _, v := range values {
		if v.Err == nil || !strings.Contains(v.Err.Error(), "terminating connection") && !strings.Contains(v.Err.Error(), "EOF") {
			t.Errorf("%+v", v)
		}
	}
	r.all(r.Read(t.Context(), targets))
	r.exec("DROP TABLE t")
	for _, v := range r.Read(t.Context(), targets) {
		if v.Err == nil || !strings.Contains(v.Err.Error(), "42P01") {
			t.Fatalf("%+v", v)
		}
	}
}

// TestReadsDoNotHang cuts and stalls the link.
func TestReadsDoNotHang(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Millisecond
	link := livetest.NewProxy(t, livetest.SharedPostgres(t).Addr)
	r := newReadsAt(t, livetest.Database(t), link.Addr, `CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, i FROM generate_series(1, 200) i`, 2, timeout)
	targets := refreshed(t, numbers(1, 201), "SELECT n FROM t WHERE id = {id}")
	r.all(r.Read(t.Context(), targets))
	lost := func(within time.Duration) {
		t.Helper()
		began := time.Now()
		for i, v := range r.Read(t.Context(), targets) {
			if v.Err == nil {
				t.Fatalf("%d: %+v", i, v)
			}
		}
		if took := time.Since(began); took > within {
			t.Errorf("it took %v", took)
		}
	}
	healed := func() {
		t.Helper()
		livetest.Eventually(t, 10*time.Second, "it reads again", func() bool { return r.Read(t.Context(), targets)[199].Err == nil })
		r.all(r.Read(t.Context(), targets))
	}
	link.Stall()
	lost(timeout + readSlack + time.Second) // the silence of the connection itself
	lost(4 * time.Second)                   // none comes about
	link.Heal()
	healed()
	link.Cut()
	lost(2 * time.Second)
	attempts := r.attempts.Load()
	began := time.Now()
	for range 1000 {
		lost(2 * time.Second)
	}
	if n, most := r.attempts.Load()-attempts, int64(2*(time.Since(began)/connectPause+1)); n > most {
		t.Errorf("%d attempts to connect, in a time for %d", n, most)
	}
	link.Heal()
	healed()
}

func TestReadsAreOnSoManyConnections(t *testing.T) {
	t.Parallel()
	r := newReads(t, `CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, i FROM generate_series(1, 300) i`, 3, 10*time.Second)
	targets := refreshed(t, numbers(1, 301), "SELECT n FROM t WHERE id = {id}")
	var reading sync.WaitGroup
	for i := range 20 {
		reading.Go(func() {
			for j := range 10 {
				from := (i*31 + j*17) % 200
				values := r.Read(t.Context(), targets[from:from+100])
				for k, v := range values {
					if v.Err != nil || v.Text != strconv.Itoa(from+k+1) {
						t.Errorf("%d: %+v", from+k+1, v)
						return
					}
				}
			}
		})
	}
	reading.Wait()
	if n := r.backends(); n > 3 || r.attempts.Load() > 3 {
		t.Errorf("%d connections after %d attempts", n, r.attempts.Load())
	}
	// Who waits for one may have to go.
	var busy []*readConn
	for range 3 {
		busy = append(busy, <-r.conns)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, v := range r.Read(ctx, targets) {
		if !errors.Is(v.Err, context.DeadlineExceeded) {
			t.Fatalf("%+v", v)
		}
	}
	for _, c := range busy {
		r.conns <- c
	}
	for _, v := range r.Read(ctx, targets) { // whether or not it gets one
		if !errors.Is(v.Err, context.DeadlineExceeded) {
			t.Fatalf("%+v", v)
		}
	}
	r.all(r.Read(t.Context(), targets))
}

func TestAStandbyIsNotRead(t *testing.T) {
	t.Parallel()
	pg := livetest.NewPostgres(t)
	r := newReadsAt(t, pg.URL("postgres")+"&target_session_attrs=any", "", `CREATE TABLE t (id int)`, 1, time.Second)
	targets := refreshed(t, []string{"1"}, "SELECT 'there' || {id}::text")
	r.all(r.Read(t.Context(), targets))
	if err := pg.Stop("fast"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pg.Dir, "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	livetest.Eventually(t, 10*time.Second, "it says so", func() bool { return errors.Is(r.Read(t.Context(), targets)[0].Err, errStandby) })
}
