package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/internal/livetest"
	"pgevict/pgnotify/postgres"
)

func TestJudgeQueue(t *testing.T) {
	t.Parallel()
	holder := [][]string{{"42", "sleepy", "idle in transaction", "its transaction is 99 s old"}}
	for _, c := range []struct {
		usage   float64
		holders [][]string
		all     bool
		status  Status
		do      []string
	}{
		{0, holder, true, OK, nil},
		{0.01, nil, false, OK, nil},
		{0.2, holder, true, Warn, []string{"not being emptied", "pid 42 (sleepy, idle in transaction, its transaction is 99 s old), with pg_terminate_backend"}},
		{0.2, nil, false, Warn, []string{"find the listener", "GRANT pg_read_all_stats"}},
		{0.51, nil, true, Fail, []string{"commits fail", "find the listener"}},
	} {
		f := judgeQueue(c.usage, c.holders, c.all)
		if f.Status != c.status || (f.Do == "") != (c.do == nil) || strings.Contains(f.Do, "GRANT") == c.all && c.do != nil {
			t.Errorf("%v: %+v", c, f)
		}
		for _, part := range c.do {
			if !strings.Contains(f.Do, part) {
				t.Errorf("%v: no %q in %s", c, part, f.Do)
			}
		}
	}
}

func connectPostgres(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestLongestRow(t *testing.T) {
	t.Parallel()
	conn := connectPostgres(t, livetest.Database(t))
	exec(t, conn, `CREATE TABLE "odd ""name" (a text); CREATE TABLE held (a int)`)
	longest := func(table string) (int, error) {
		return longestRow(t.Context(), conn.PgConn(), "public", table)
	}
	if n, err := longest(`odd "name`); n != 0 || err != nil {
		t.Errorf("of an empty table %d, %v", n, err)
	}
	exec(t, conn, `INSERT INTO "odd ""name" VALUES ('x'), (repeat('é', 100)), (NULL)`)
	if n, err := longest(`odd "name`); n != len(`{"a":""}`)+200 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := longest("gone"); err == nil {
		t.Error("no error of a table that is not there")
	}
	holder := connectPostgres(t, conn.Config().ConnString())
	exec(t, holder, `BEGIN; LOCK TABLE held`)
	if _, err := longest("held"); !strings.Contains(fmt.Sprint(err), "statement timeout") {
		t.Errorf("of a table that is locked: %v", err)
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	pg, url := livetest.SharedPostgres(t), livetest.Database(t)
	trip := func(url string) error {
		connect := func(ctx context.Context) (*pgconn.PgConn, error) { return pgconn.Connect(ctx, url) }
		conn, err := connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.Background()) }()
		took, err := roundTrip(t.Context(), conn, connect)
		if err == nil {
			if took <= 0 {
				t.Errorf("it took %v", took)
			}
			if rows, err := conn.Exec(t.Context(), `SELECT pg_listening_channels()`).ReadAll(); err != nil || len(rows[0].Rows) > 0 {
				t.Errorf("it still listens: %v, %v", rows, err)
			}
		}
		return err
	}
	if err := trip(url); err != nil {
		t.Error(err)
	}
	pooler := livetest.NewPgBouncer(t, pg, "transaction")
	if err := trip(strings.Replace(url, pg.Addr, pooler.Addr, 1)); !errors.Is(err, postgres.ErrPooler) {
		t.Errorf("through a pooler: %v", err)
	}
}
