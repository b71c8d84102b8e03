package refresh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/internal/config"
	"pgevict/internal/livetest"
	"pgevict/invalidate"
	"pgevict/pgnotify"
	"pgevict/rules"
)

// reads is a reader in a database of its own.
type reads struct {
	*Reader
	*testing.T
	db       *pgx.Conn
	url      string
	attempts atomic.Int64 // to connect
}

func newReads(t *testing.T, schema string, conns int, timeout time.Duration) *reads {
	t.Helper()
	return newReadsAt(t, livetest.Database(t), "", schema, conns, timeout)
}

// newReadsAt makes a reader that goes by way of addr.
func newReadsAt(t *testing.T, database, addr, schema string, conns int, timeout time.Duration) *reads {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	if addr != "" {
		u.Host = addr
	}
	conf, err := config.Load([]string{"DATABASE_URL=" + u.String()})
	if err != nil {
		t.Fatal(err)
	}
	r := &reads{T: t, url: database}
	r.Reader = New(func() (*pgconn.Config, error) {
		r.attempts.Add(1)
		return conf.PostgresConfig()
	}, conns, timeout)
	t.Cleanup(r.Close)
	r.db = r.connect()
	r.exec(schema)
	return r
}

func (r *reads) connect() *pgx.Conn {
	r.Helper()
	conn, err := pgx.Connect(r.Context(), r.url)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (r *reads) exec(sql string) {
	r.Helper()
	if _, err := r.db.Exec(r.Context(), sql); err != nil {
		r.Fatalf("%s: %v", sql, err)
	}
}

// refreshed returns the targets of rows of which just the id is known, one after the other, for each of the queries.
func refreshed(t *testing.T, ids []string, queries ...string) []rules.Target {
	t.Helper()
	text := "rules:\n"
	for i, query := range queries {
		text += fmt.Sprintf("- {table: t, name: r%d, keys: ['k%d:{id}'], refresh: {query: %s}}\n", i, i, strconv.Quote(query))
	}
	set, err := rules.Parse("rules", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var targets []rules.Target
	for _, id := range ids {
		row := pgnotify.Image{{Name: "id", Text: id}}
		for target := range set.Match(rules.Change{Table: "t", Op: rules.Update, Rows: []rules.Row{{Old: &row, New: &row}}}) {
			targets = append(targets, target)
		}
	}
	return targets
}

func numbers(from, to int) (ids []string) {
	for i := from; i < to; i++ {
		ids = append(ids, strconv.Itoa(i))
	}
	return ids
}

// all wants every value to be there.
func (r *reads) all(values []invalidate.Value) {
	r.Helper()
	for i, v := range values {
		if v.Err != nil || !v.Found || v.Version == 0 {
			r.Fatalf("%d: %+v", i, v)
		}
	}
}

// backends counts the reader's connections in the server.
func (r *reads) backends() (n int) {
	r.Helper()
	err := r.db.QueryRow(r.Context(), `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgevict refresh' AND datname = current_database()`).Scan(&n)
	if err != nil {
		r.Fatal(err)
	}
	return n
}

func (r *reads) terminate() {
	r.Helper()
	livetest.EndSessions(r, r.url, "application_name = 'pgevict refresh'")
}

// TestReadIsExact compares what is read with what an application gets.
func TestReadIsExact(t *testing.T) {
	t.Parallel()
	r := newReads(t, `CREATE TABLE t (id text PRIMARY KEY, n bigint, name text, doc json, b bytea, at timestamptz);
		INSERT INTO t VALUES ('1', 814150981284533461, 'Zoë "鍵" 🔑 \ '' '||chr(10)||'$1', '{"a" :  1, "a":[null]}', '\x00ff', '2024-02-29 12:00Z'),
			('it''s; -- {x} $2', -9223372036854775808, '', NULL, '', 'infinity'), ('', NULL, NULL, '[]', NULL, NULL)`, 2, 2*time.Second)
	queries := []string{
		"SELECT row_to_json(t) FROM t WHERE id = {id}", "SELECT t::text FROM t WHERE id = {id}", "SELECT name FROM t WHERE id = {id} -- the name",
		"SELECT jsonb_build_object('doc', doc, 'n', n::text, 'id', {id}::text) FROM t WHERE id = {id}", "SELECT n FROM t WHERE {id} = id;", "SELECT b FROM t WHERE id = {id}",
		"WITH x AS (SELECT * FROM t) SELECT at FROM x WHERE id = {id} /* last */", "(SELECT doc FROM t WHERE id = {id})", "SELECT 'constant'", "VALUES ({id})",
		"SELECT json_agg(t ORDER BY id) FROM t", "SELECT repeat(md5({id}), 50000)", "SELECT s FROM (SELECT 1 AS s) s",
	}
	targets := refreshed(t, []string{"1", "it's; -- {x} $2", "", "no such row"}, queries...)
	missing := 0
	for i, v := range r.Read(t.Context(), targets) {
		refresh, texts := targets[i].Refresh()
		var args []any
		for _, text := range texts {
			args = append(args, text)
		}
		// The application asks for the same in its own way, where the text is the one of Postgres.
		var want *string
		err := r.db.QueryRow(t.Context(), "SELECT x::text FROM ("+refresh.Query+"\n) q(x)", append([]any{pgx.QueryExecModeExec}, args...)...).Scan(&want)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			t.Fatal(refresh.Query, err)
		}
		switch {
		case v.Err != nil:
			t.Errorf("%s of %q: %v", refresh.Query, texts, v.Err)
		case want == nil:
			missing++
			if v.Found {
				t.Errorf("%s of %q: %q, and there is none", refresh.Query, texts, v.Text)
			}
		case !v.Found || v.Text != *want:
			t.Errorf("%s of %q: %q, want %q", refresh.Query, texts, v.Text, *want)
		}
	}
	if missing < 8 {
		t.Errorf("only %d have no value, so this shows little", missing)
	}
	if v := r.Read(t.Context(), nil); len(v) != 0 {
		t.Error(v)
	}
}

func TestWhatFailsFailsAlone(t *testing.T) {
	t.Parallel()
	r := newReads(t, `CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, i % 7 FROM generate_series(1, 100) i;
		CREATE SEQUENCE s; CREATE FUNCTION writes(id int) RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO t VALUES (id + 1000) RETURNING id'`, 2, 5*time.Second)
	wrong := map[string]string{
		"SELECT 70 / n FROM t WHERE id = {id}":                                  "22012", // of some rows
		"SELECT id, n FROM t WHERE id = {id}":                                   "42601",
		"SELECT n FROM t WHERE id >= {id}":                                      "21000", // of all but the last
		"SELECT n FROM nothing WHERE id = {id}":                                 "42P01",
		"SELECT writes({id})":                                                   "25006",
		"SELECT nextval('s') + {id}":                                            "25006",
		"SELECT n FROM t WHERE id = {id} FOR UPDATE":                            "25006",
		"SELECT set_config('transaction_read_only', 'off', true) || {id}::text": "25001",
	}
	good := "SELECT n FROM t WHERE id = {id}"
	for range 3 { // and of statements that were prepared before, many in one transaction
		targets := refreshed(t, numbers(1, 101), append(slices.Sorted(maps.Keys(wrong)), good)...)
		for i, v := range r.Read(t.Context(), targets) {
			refresh, args := targets[i].Refresh()
			id, _ := strconv.Atoi(args[0])
			query := strings.ReplaceAll(refresh.Query, "$1", "{id}")
			want := wrong[query]
			if want == "22012" && id%7 != 0 || want == "21000" && id == 100 {
				want = ""
			}
			var pgErr *pgconn.PgError
			switch {
			case want == "" && (v.Err != nil || !v.Found):
				t.Errorf("%s of %d: %+v", query, id, v)
			case want != "" && (!errors.As(v.Err, &pgErr) || pgErr.Code != want):
				t.Errorf("%s of %d: %+v, want %s", query, id, v, want)
			}
		}
	}
	if n := r.attempts.Load(); n > 2 {
		t.Errorf("%d connections", n)
	}
}

// TestVersionsAreInOrder lets transactions of all lengths raise counters, and readers read them. Of two reads the one with
// the lower version must not have seen more.
func TestVersionsAreInOrder(t *testing.T) {
	t.Parallel()
	const counters, most = 8, 6000
	r := newReads(t, fmt.Sprintf(`CREATE TABLE t (id int PRIMARY KEY, n bigint DEFAULT 0); INSERT INTO t SELECT i FROM generate_series(1, %d) i`, counters), 2, 30*time.Second)
	targets := refreshed(t, numbers(1, counters+1), "SELECT n FROM t WHERE id = {id}")
	ctx, stop := context.WithCancel(t.Context())
	var writing, reading sync.WaitGroup
	for i := range 6 {
		conn := r.connect()
		writing.Go(func() {
			for ctx.Err() == nil {
				tx, err := conn.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if i%2 == 1 { // a long one, which has its number early
					_, _ = tx.Exec(t.Context(), "SELECT pg_current_xact_id(), pg_sleep(random() * 0.02)")
				}
				if i%3 == 2 { // of which a part is undone
					_, _ = tx.Exec(t.Context(), "SAVEPOINT a; UPDATE t SET n = n + 1 WHERE id = 1; ROLLBACK TO a; SAVEPOINT b")
				}
				_, err = tx.Exec(t.Context(), "UPDATE t SET n = n + 1 WHERE id = $1", 1+rand.IntN(counters))
				if err == nil && rand.IntN(5) > 0 {
					err = tx.Commit(t.Context())
				} else if err == nil {
					err = tx.Rollback(t.Context())
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	type seen struct{ version, n uint64 }
	var mu sync.Mutex
	all := make([][]seen, counters)
	var count atomic.Int64
	for range 2 {
		reading.Go(func() {
			for count.Add(counters) < most {
				for i, v := range r.Read(t.Context(), targets) {
					n, err := strconv.ParseUint(v.Text, 10, 64)
					if v.Err != nil || err != nil {
						t.Errorf("%+v", v)
						return
					}
					mu.Lock()
					all[i] = append(all[i], seen{v.Version, n})
					mu.Unlock()
				}
			}
		})
	}
	reading.Wait()
	stop()
	writing.Wait()
	versions := map[uint64]bool{}
	for _, reads := range all {
		slices.SortFunc(reads, func(a, b seen) int {
			if a.version != b.version {
				return int(int64(a.version) - int64(b.version))
			}
			return int(int64(a.n) - int64(b.n))
		})
		for i, s := range reads {
			versions[s.version] = true
			if i > 0 && s.n < reads[i-1].n {
				t.Errorf("version %d has seen %d, and version %d %d", reads[i-1].version, reads[i-1].n, s.version, s.n)
			}
			if i > 0 && s.version == reads[i-1].version && s.n != reads[i-1].n {
				t.Errorf("version %d has seen %d and %d", s.version, reads[i-1].n, s.n)
			}
		}
	}
	if len(versions) < 100 {
		t.Errorf("only %d versions, so this shows little", len(versions))
	}
	t.Logf("%d reads of %d versions", count.Load(), len(versions))
}
