package triggers_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgevict/internal/livetest"
	"pgevict/pgnotify/triggers"
)

// another connects once more.
func (w *wired) another() *pgx.Conn {
	w.Helper()
	config := w.writer.Config().Copy()
	conn, err := pgx.ConnectConfig(w.Context(), config)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = conn.Close(context.WithoutCancel(w.Context())) })
	return conn
}

// start runs something in the background; the channel has how it ended.
func start(do func() error) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- do() }()
	return ended
}

// waiting reports whether the connection waits: for a lock, or because it pauses.
func (w *wired) waiting(conn *pgx.Conn) bool {
	w.Helper()
	var waits bool
	err := w.writer.QueryRow(w.Context(), `SELECT coalesce(wait_event_type = 'Lock' OR wait_event = 'PgSleep', false) FROM pg_stat_activity WHERE pid = $1`,
		conn.PgConn().PID()).Scan(&waits)
	if err != nil {
		w.Fatal(err)
	}
	return waits
}

// The application holds one table and wants another, while somebody holds a third: whoever locked them one after the
// other, and waited for each, would be half of a deadlock, of which the application would be told.
func TestChangesAreNobodysDeadlock(t *testing.T) {
	t.Parallel()
	tables := []triggers.Table{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	for name, change := range map[string]func(w *wired) error{
		"install": func(w *wired) error {
			_, err := w.wanted.Install(t.Context(), w.ears.PgConn(), 30*time.Second)
			return err
		},
		"uninstall": func(w *wired) error {
			_, err := triggers.Uninstall(t.Context(), w.ears.PgConn(), 30*time.Second)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := wire(t, `CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY)`)
			w.wanted.Tables = tables
			if name == "uninstall" {
				w.install()
			}
			blocker, app := w.another(), w.another()
			exec(t, blocker, `BEGIN; INSERT INTO b VALUES (1)`)
			exec(t, app, `SET deadlock_timeout = '200ms'; BEGIN; INSERT INTO c VALUES (1)`)
			changed := start(func() error { return change(w) })
			livetest.Eventually(t, 20*time.Second, "it came to what is in use", func() bool { return w.waiting(w.ears) })
			wrote := start(func() error { _, err := app.Exec(t.Context(), `INSERT INTO a VALUES (1)`); return err })
			var err error
			livetest.Eventually(t, 20*time.Second, "the application wrote, or waits", func() bool {
				select {
				case err = <-wrote:
					wrote = nil
				default:
				}
				return wrote == nil || w.waiting(app)
			})
			exec(t, blocker, `COMMIT`)
			if wrote != nil {
				err = <-wrote
			}
			if err != nil {
				t.Fatalf("the application could not write: %v", err)
			}
			exec(t, app, `COMMIT`)
			if err := <-changed; err != nil {
				t.Fatal(err)
			}
			if states := w.states(); states["public.c"].State != map[string]string{"install": triggers.OK, "uninstall": triggers.Missing}[name] {
				t.Errorf("afterwards c is %+v", states["public.c"])
			}
		})
	}
}

// Tables that are never out of use, since there is always some transaction that has written to them, get their triggers,
// and lose them, all the same.
func TestChangesOfTablesInUse(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE a (id int); CREATE TABLE b (id int); CREATE TABLE c (id int)`)
	w.wanted.Tables = []triggers.Table{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	var wrote atomic.Int64
	for i := range 8 {
		conn := w.another()
		writers.Go(func() {
			for ctx.Err() == nil {
				sql := fmt.Sprintf(`BEGIN; INSERT INTO %[1]c VALUES (1); SELECT pg_sleep(0.003); INSERT INTO %[1]c VALUES (2); COMMIT`, 'a'+rune(i%3))
				if _, err := conn.Exec(t.Context(), sql); err != nil {
					t.Errorf("a writer: %v", err)
					return
				}
				wrote.Add(1)
			}
		})
	}
	livetest.Eventually(t, 20*time.Second, "everybody writes", func() bool { return wrote.Load() > 50 })
	if _, err := w.wanted.Install(t.Context(), w.ears.PgConn(), 20*time.Second); err != nil {
		t.Error(err)
	}
	if _, err := triggers.Uninstall(t.Context(), w.ears.PgConn(), 20*time.Second); err != nil {
		t.Error(err)
	}
	stop()
	writers.Wait()
}

// The owner of a table may have given up the rights that LOCK TABLE asks for, but for that of making triggers.
func TestInstallByAnOwnerWithoutRights(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE log (id int PRIMARY KEY)`)
	owner := "owner_" + w.writer.Config().Database
	exec(t, w.writer, fmt.Sprintf(`CREATE ROLE %s; GRANT CREATE ON DATABASE %[2]s TO %[1]s; ALTER TABLE log OWNER TO %[1]s; REVOKE UPDATE, DELETE, TRUNCATE ON log FROM %[1]s`,
		owner, pgx.Identifier{w.writer.Config().Database}.Sanitize()))
	exec(t, w.ears, "SET ROLE "+owner)
	w.wanted.Tables, w.columns["log"] = []triggers.Table{{Name: "log"}}, []string{"id"}
	exec(t, w.writer, `BEGIN; INSERT INTO log VALUES (1)`)
	installed := start(func() error { _, err := w.wanted.Install(t.Context(), w.ears.PgConn(), 20*time.Second); return err })
	livetest.Eventually(t, 20*time.Second, "the install waits", func() bool { return w.waiting(w.ears) })
	exec(t, w.writer, `COMMIT`)
	if err := <-installed; err != nil {
		t.Fatal(err)
	}
	w.inOrder()
	w.sends(`INSERT INTO log VALUES (2)`, "insert public.log nil→{id=2}")
}

// BenchmarkInstall measures how long an INSERT waits at most while the triggers of 1,500 partitions are made, and how long
// the next install takes, of which the statistics of the catalog know nothing yet.
func BenchmarkInstall(b *testing.B) {
	partitions := 1500
	if testing.Short() {
		partitions = 15
	}
	url := livetest.Database(b)
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(b.Context()))
	writer, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	defer writer.Close(context.WithoutCancel(b.Context()))
	wanted := triggers.Wanted{Tables: []triggers.Table{{Name: "p"}}, Channel: "events", MaxRows: 10}
	var longest, again time.Duration
	for b.Loop() {
		_, err := conn.Exec(b.Context(), fmt.Sprintf(`DROP TABLE IF EXISTS p; CREATE TABLE p (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
			DO $$ BEGIN FOR i IN 0 .. %d LOOP EXECUTE format('CREATE TABLE p%%s PARTITION OF p FOR VALUES IN (%%s)', i, i); END LOOP; END $$`, partitions-1))
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		wrote := start(func() error {
			for i := 0; ctx.Err() == nil; i++ {
				began := time.Now()
				if _, err := writer.Exec(b.Context(), `INSERT INTO p VALUES ($1, $2)`, i, i%partitions); err != nil {
					return err
				}
				longest = max(longest, time.Since(began))
			}
			return nil
		})
		if _, err := wanted.Install(b.Context(), conn.PgConn(), 20*time.Second); err != nil {
			b.Error(err)
		}
		stop()
		if err := <-wrote; err != nil {
			b.Error(err)
		}
		began := time.Now()
		if did, err := wanted.Install(b.Context(), conn.PgConn(), 20*time.Second); err != nil || len(did) > 0 {
			b.Errorf("a second install: %v, %v", did, err)
		}
		again = max(again, time.Since(began))
	}
	b.ReportMetric(float64(longest.Milliseconds()), "ms-longest-insert")
	b.ReportMetric(float64(again.Milliseconds()), "ms-second-install")
}
