package pgnotify_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pgevict/internal/livetest"
	"pgevict/pgnotify"
	"pgevict/pgnotify/postgres"
)

// told waits until the listener has said that it hears nothing for the moment, for this reason.
func (l *listening) told(want error) {
	l.t.Helper()
	l.wait(anyMoment, want.Error(), func() bool {
		return slices.ContainsFunc(l.listening, func(err error) bool { return errors.Is(err, want) })
	})
}

// heardAgain waits until the listener says that it hears everything, after it did not.
func (l *listening) heardAgain() {
	l.t.Helper()
	l.wait(anyMoment, "all is heard again", func() bool { return slices.Contains(l.listening, nil) })
}

// forget forgets what was told so far.
func (l *listening) forget() { l.look(func() { l.listening = nil }) }

// keeps waits as long as it takes to give a connection up, if that is done by mistake.
func (l *listening) keeps() {
	l.t.Helper()
	over := time.Now().Add(8 * heartbeat)
	livetest.Eventually(l.t, time.Minute, "some heartbeats", func() bool { return time.Now().After(over) })
}

// noGap stops the listener, and checks that it never missed anything.
func (l *listening) noGap() {
	l.t.Helper()
	l.stop()
	if len(l.gaps) != 1 {
		l.t.Errorf("gaps: %q", l.gaps)
	}
}

// A link that is dead on one connection, while others work, is told of and given up.
func TestHalfOpenLink(t *testing.T) {
	t.Parallel()
	l, conn, proxy := through(t)
	proxy.Hold()
	held := time.Now()
	l.told(postgres.ErrSilent)
	t.Logf("told of after %v", time.Since(held))
	l.gap(2, pgnotify.GapConnection)
	t.Logf("given up after %v", time.Since(held))
	hears(t, l, conn, "1")
	if l.logs.FilterMessageSnippet("nothing was lost").Len() > 0 {
		t.Error("it is said that nothing was lost")
	}
	if errs := l.errs(); len(errs) != 1 || !errors.Is(errs[0], postgres.ErrSilent) {
		t.Errorf("errors: %v", errs)
	}
}

// A link on which nothing gets through for a while, and then all that was sent, has lost nothing.
func TestStalledLink(t *testing.T) {
	t.Parallel()
	l, conn, proxy := through(t)
	for id := range 3 { // at different moments of a heartbeat
		l.forget()
		proxy.Stall()
		exec(t, conn, "SELECT pg_notify('tcn', $1)", fmt.Sprintf(`"t",I,"id"='%d'`, id))
		l.told(postgres.ErrSilent)
		l.keeps()
		l.forget()
		proxy.Heal()
		l.wait(anyMoment, "the change", func() bool {
			return slices.Contains(allWords(l.changes), fmt.Sprintf("tcn insert t nil→{id=%d}", id))
		})
		l.heardAgain()
	}
	l.noGap()
}

// A server that is frozen has lost nothing either.
func TestFrozenServer(t *testing.T) {
	t.Parallel()
	pg := livetest.NewPostgres(t)
	conn := connect(t, pg.URL("postgres"))
	exec(t, conn, "CREATE TABLE t (id int PRIMARY KEY)")
	l := listen(t, newListener(t, pg.URL("postgres"), columns{"t": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	hears(t, l, conn, "1")
	for _, id := range []string{"2", "3"} {
		l.forget()
		if err := pg.Pause(); err != nil {
			t.Fatal(err)
		}
		l.told(postgres.ErrSilent)
		l.keeps()
		l.forget()
		if err := pg.Resume(); err != nil {
			t.Fatal(err)
		}
		hears(t, l, conn, id)
		l.heardAgain()
	}
	l.noGap()
}

// Whoever notifies while a synchronous standby is away holds up all others who do, the listener's canaries among them.
func TestNotifyIsHeldUp(t *testing.T) {
	t.Parallel()
	pg := livetest.NewPostgres(t, "synchronous_standby_names=nosuch")
	conn := connect(t, pg.URL("postgres"))
	exec(t, conn, "SET synchronous_commit = off; CREATE TABLE t (id int PRIMARY KEY)")
	l := listen(t, newListener(t, pg.URL("postgres"), columns{"t": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	hears(t, l, conn, "1")
	l.forget()
	waits := connect(t, pg.URL("postgres"))
	committed := make(chan error)
	go func() {
		_, err := waits.Exec(context.WithoutCancel(t.Context()), `INSERT INTO t VALUES (2); NOTIFY tcn, '"t",I,"id"=''2'''`)
		committed <- err
	}()
	l.told(postgres.ErrSilent)
	l.keeps()
	exec(t, conn, "SELECT pg_cancel_backend($1)", int(waits.PgConn().PID())) // it waits no more, and has committed
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	l.wait(anyMoment, "the change", func() bool { return slices.Contains(allWords(l.changes), "tcn insert t nil→{id=2}") })
	l.noGap()
}

// One backend that hangs, while all others work, is as good as dead.
func TestHangingBackend(t *testing.T) {
	t.Parallel()
	l, conn, _ := through(t)
	var pid int
	if err := conn.QueryRow(t.Context(), `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(&pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	l.told(postgres.ErrSilent)
	l.gap(2, pgnotify.GapConnection)
	hears(t, l, conn, "1")
}

// A server that refuses a canary has lost nothing.
func TestRefusedCanary(t *testing.T) {
	t.Parallel()
	pg := livetest.NewPostgres(t)
	conn, holder := connect(t, pg.URL("postgres")), connect(t, pg.URL("postgres"))
	exec(t, conn, "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE taken (id int)")
	l := listen(t, newListener(t, pg.URL("postgres"), columns{"t": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	l.wait(anyMoment, "a mark", func() bool { return len(l.marks) > 0 })
	exec(t, conn, "ALTER SYSTEM SET synchronous_standby_names = 'nosuch'")
	exec(t, conn, "SELECT pg_reload_conf()")
	livetest.Eventually(t, anyMoment, "the setting", func() bool {
		var names string
		err := holder.QueryRow(t.Context(), "SHOW synchronous_standby_names").Scan(&names)
		return err == nil && names == "nosuch"
	})
	exec(t, conn, "SET synchronous_commit = off")
	var held atomic.Bool
	var waits *bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !held.Load() {
			_, _ = holder.Exec(context.WithoutCancel(t.Context()), "INSERT INTO taken VALUES (1); NOTIFY held")
		}
	}()
	// It is the checkpointer that makes commits wait, when it has come to read the setting, too.
	livetest.Eventually(t, anyMoment, "a commit that waits", func() bool {
		err := conn.QueryRow(t.Context(), "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $1", int(holder.PgConn().PID())).Scan(&waits)
		return err == nil && waits != nil && *waits
	})
	held.Store(true)
	l.told(postgres.ErrSilent)
	exec(t, conn, `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_notification_queue_usage%' AND pid <> pg_backend_pid()`)
	l.wait(anyMoment, "the refusal", func() bool {
		return slices.ContainsFunc(l.listening, func(err error) bool {
			return err != nil && strings.Contains(err.Error(), "canceling statement")
		})
	})
	l.forget()
	exec(t, conn, "SELECT pg_cancel_backend($1)", int(holder.PgConn().PID()))
	<-done
	l.heardAgain()
	hears(t, l, conn, "1")
	l.noGap()
}

// A database in SQL_ASCII takes any bytes, and they arrive as they are.
func TestBytesThatAreNoUTF8(t *testing.T) {
	t.Parallel()
	pg := livetest.SharedPostgres(t)
	name := "ascii_" + strings.ToLower(rand.Text())
	owner := connect(t, pg.URL("postgres"))
	exec(t, owner, "CREATE DATABASE "+name+" ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	t.Cleanup(func() { _, _ = owner.Exec(context.WithoutCancel(t.Context()), "DROP DATABASE "+name+" WITH (FORCE)") })
	conn := connect(t, pg.URL(name))
	exec(t, conn, `CREATE TABLE t (id text PRIMARY KEY);`+livetest.NotifyEvent+`
		CREATE TRIGGER e AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION notify_event()`)
	l := listen(t, newListener(t, pg.URL(name), columns{"t": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	exec(t, conn, `SET client_encoding = 'SQL_ASCII'; INSERT INTO t VALUES (E'caf\351')`)
	l.wait(anyMoment, "the change", func() bool { return slices.Contains(allWords(l.changes), "events insert t nil→{id=caf\xe9}") })
	l.noGap()
}
