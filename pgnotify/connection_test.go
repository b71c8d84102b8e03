package pgnotify_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/internal/livetest"
	"pgevict/pgnotify"
	"pgevict/pgnotify/postgres"
)

// through is a listener that reaches its database through a proxy.
func through(t *testing.T) (l *listening, conn *pgx.Conn, proxy *livetest.Proxy) {
	t.Helper()
	direct := livetest.Database(t)
	conn = connect(t, direct)
	exec(t, conn, `CREATE TABLE t (id int PRIMARY KEY)`)
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	proxy = livetest.NewProxy(t, u.Host)
	u.Host = proxy.Addr
	l = listen(t, newListener(t, u.String(), columns{"t": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	l.wait(10*time.Second, "a mark", func() bool { return len(l.marks) > 0 })
	return l, conn, proxy
}

// hears checks that a change which is sent now arrives.
func hears(t *testing.T, l *listening, conn *pgx.Conn, id string) {
	t.Helper()
	exec(t, conn, "SELECT pg_notify('tcn', $1)", `"t",I,"id"='`+id+`'`)
	l.wait(10*time.Second, "the change "+id, func() bool {
		return slices.Contains(allWords(l.changes), "tcn insert t nil→{id="+id+"}")
	})
}

func TestTerminated(t *testing.T) {
	t.Parallel()
	l, conn, _ := through(t)
	for n := 2; n < 5; n++ {
		exec(t, conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		l.gap(n, pgnotify.GapConnection)
		hears(t, l, conn, "1"+strings.Repeat("0", n))
	}
	l.stop()
	if errs := l.errs(); len(errs) != 3 || !strings.Contains(errs[0].Error(), "terminating connection") {
		t.Errorf("errors: %v", errs)
	}
}

func TestCutLink(t *testing.T) {
	t.Parallel()
	l, conn, proxy := through(t)
	proxy.Cut()
	cut := time.Now()
	livetest.Eventually(t, anyMoment, "the cut is noticed", func() bool { return len(l.errs()) > 0 })
	// Attempts go on, and are not told one by one.
	livetest.Eventually(t, 10*time.Second, "an outage of several attempts", func() bool { return time.Since(cut) > time.Second })
	exec(t, conn, "SELECT pg_notify('tcn', $1)", `"t",I,"id"='404'`) // nobody hears this
	proxy.Heal()
	l.gap(2, pgnotify.GapConnection)
	hears(t, l, conn, "2")
	l.stop()
	if slices.Contains(allWords(l.changes), "tcn insert t nil→{id=404}") {
		t.Error("heard through a link that is cut")
	}
	if n := len(l.errs()); n != 1 {
		t.Errorf("the outage is told %d times: %v", n, l.errs())
	}
}

// TestDeafLink has a first canary that is sent to another database: it never comes back.
func TestDeafLink(t *testing.T) {
	t.Parallel()
	here, there := livetest.Database(t), livetest.Database(t)
	listener := newListener(t, here, columns{"t": {"id"}})
	var asked atomic.Int32
	listener.Config = func() (*pgconn.Config, error) {
		if asked.Add(1)%2 == 1 {
			return pgconn.ParseConfig(here)
		}
		return pgconn.ParseConfig(there)
	}
	l := listen(t, listener)
	l.fails(10*time.Second, postgres.ErrDeaf)
	l.stop()
	if len(l.order) > 0 || slices.Contains(l.listening, nil) {
		t.Errorf("a session that hears nothing has begun: %q, %v", l.order, l.listening)
	}
}

func TestPooler(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"transaction", "session", "statement"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			u, err := url.Parse(livetest.Database(t))
			if err != nil {
				t.Fatal(err)
			}
			pooler := livetest.NewPgBouncer(t, livetest.SharedPostgres(t), mode)
			l := listen(t, newListener(t, pooler.URL(u.Path[1:]), columns{"t": {"id"}}))
			l.fails(10*time.Second, postgres.ErrPooler)
			l.stop()
			if len(l.order) > 0 {
				t.Errorf("heard %q", l.order)
			}
		})
	}
}

func TestStandby(t *testing.T) {
	t.Parallel()
	pg := livetest.NewPostgres(t)
	if err := pg.Stop("fast"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pg.Dir, "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	l := listen(t, newListener(t, pg.URL("postgres"), columns{"t": {"id"}}))
	l.fails(10*time.Second, postgres.ErrStandby)
}

func TestServerRestart(t *testing.T) {
	t.Parallel()
	pg := livetest.NewPostgres(t)
	exec(t, connect(t, pg.URL("postgres")), "CREATE TABLE t (id text PRIMARY KEY)")
	l := listen(t, newListener(t, pg.URL("postgres"), columns{"t": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	for i, mode := range []string{"fast", "immediate"} {
		if err := pg.Stop(mode); err != nil {
			t.Fatal(err)
		}
		if err := pg.Start(); err != nil {
			t.Fatal(err)
		}
		back := time.Now()
		l.gap(i+2, pgnotify.GapConnection)
		l.look(func() {
			if took := l.gapTimes[i+1].Sub(back); took > time.Second {
				t.Errorf("the gap comes %v after a %s restart", took, mode)
			}
		})
		hears(t, l, connect(t, pg.URL("postgres")), mode)
	}
}

func TestCredentialsAreReadAfresh(t *testing.T) {
	t.Parallel()
	here := livetest.Database(t)
	conn := connect(t, here)
	u, err := url.Parse(here)
	if err != nil {
		t.Fatal(err)
	}
	role := "role_" + u.Path[1:]
	exec(t, conn, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() { _, _ = conn.Exec(context.WithoutCancel(t.Context()), "DROP ROLE "+role) })
	var rotated atomic.Bool
	problem := errors.New("read the password file: it is being replaced")
	var asked atomic.Int32
	listener := newListener(t, here, columns{"t": {"id"}})
	listener.Config = func() (*pgconn.Config, error) {
		if asked.Add(1) == 1 {
			return nil, problem
		}
		v := *u
		v.User = url.User("nobody_of_that_name")
		if rotated.Load() {
			v.User = url.User(role)
		}
		return pgconn.ParseConfig(v.String())
	}
	l := listen(t, listener)
	l.fails(10*time.Second, problem)
	livetest.Eventually(t, 10*time.Second, "two attempts", func() bool { return asked.Load() >= 3 })
	rotated.Store(true)
	l.gap(1, pgnotify.GapStart)
}

// TestConfigMayBeTheSame returns one and the same configuration to each attempt, as nothing forbids.
func TestConfigMayBeTheSame(t *testing.T) {
	t.Parallel()
	here := livetest.Database(t)
	conn := connect(t, here)
	exec(t, conn, `CREATE TABLE t (id int PRIMARY KEY)`)
	config, err := pgconn.ParseConfig(here)
	if err != nil {
		t.Fatal(err)
	}
	listener := newListener(t, here, columns{"t": {"id"}})
	listener.Config = func() (*pgconn.Config, error) { return config, nil }
	l := listen(t, listener)
	l.gap(1, pgnotify.GapStart)
	hears(t, l, conn, "1")
	l.stop()
	if config.OnNotification != nil {
		t.Error("the caller's configuration has changed")
	}
}

func TestStopsAtOnce(t *testing.T) {
	t.Parallel()
	blackhole, err := net.Listen("tcp4", "127.0.0.1:0") // accepts, and never says a word
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blackhole.Close() })
	here := livetest.Database(t)
	stalled, err := url.Parse(here)
	if err != nil {
		t.Fatal(err)
	}
	proxy := livetest.NewProxy(t, stalled.Host)
	stalled.Host = proxy.Addr
	for name, c := range map[string]struct {
		url       string
		heartbeat time.Duration
		ready     func(*listening)
	}{
		"connecting": {"postgres://postgres@" + blackhole.Addr().String() + "/x?sslmode=disable", time.Minute, nil},
		"no route":   {"postgres://postgres@192.0.2.1/x?sslmode=disable", time.Minute, nil},
		"listening":  {here, time.Minute, func(l *listening) { l.gap(1, pgnotify.GapStart) }},
		"between": {"postgres://postgres@127.0.0.1:1/x?sslmode=disable", time.Minute, func(l *listening) {
			livetest.Eventually(t, time.Minute, "an error", func() bool { return len(l.errs()) > 0 })
		}},
		"stalled":      {stalled.String(), time.Minute, func(l *listening) { l.gap(1, pgnotify.GapStart); proxy.Stall() }},
		"stalled beat": {stalled.String(), 50 * time.Millisecond, nil},
	} {
		listener := newListener(t, c.url, columns{"t": {"id"}})
		listener.Heartbeat = c.heartbeat
		l := listen(t, listener)
		if c.ready != nil {
			c.ready(l)
		}
		began := time.Now()
		l.stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: Run ended after %v", name, took)
		}
		proxy.Heal()
	}
}
