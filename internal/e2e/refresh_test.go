package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

const itemsTable = notifyEvent + `CREATE TABLE items (id bigint PRIMARY KEY, name text, n bigint DEFAULT 0);`

func refreshRule(more string) string {
	return `{table: items, keys: ["item:{id}"], refresh: {query: "SELECT row_to_json(i) FROM items i WHERE id = {id}"` + more + `}}`
}

// value gives a key's value; empty: there is none.
func (w *world) value(key string) string {
	w.Helper()
	value, err := w.cache.Get(w.Context(), key).Result()
	if err != nil && err != redis.Nil {
		w.Fatal(err)
	}
	return value
}

// query gives the one text of a query.
func (w *world) query(sql string, args ...any) (text string) {
	w.Helper()
	conn, err := pgx.Connect(w.Context(), w.dsn)
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close(w.Context())
	if err := conn.QueryRow(w.Context(), sql, args...).Scan(&text); err != nil {
		w.Fatalf("%s: %v", sql, err)
	}
	return text
}

// waitValue waits until a key has a value.
func (w *world) waitValue(key, value string) {
	w.Helper()
	eventually(w, key+" is "+value, func() bool { return w.value(key) == value })
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, itemsTable+eventTrigger("items"), `
rules:
  - `+refreshRule("")+`
  - {name: warm, table: items, keys: ["warm:{id}"], refresh: {query: "SELECT n FROM items WHERE id = {id}", only_cached: false}}
  - {name: brief, table: items, keys: ["brief:{id}"], refresh: {query: "SELECT name FROM items WHERE id = {id}", ttl: 100s}}
  - {name: wrong, table: items, keys: ["wrong:{id}"], refresh: {query: "SELECT 100 / n FROM items WHERE id = {id}"}}
  - {name: slow, table: items, keys: ["slow:{id}"], refresh: {query: "SELECT n::text || pg_sleep(n) FROM items WHERE id = {id}"}}
  - {name: written, table: items, keys: ["written:{id}"], refresh: {query: "SELECT writes({id})"}}
  - {name: list, table: items, keys: ["items:list"]}`)
	w.exec(`CREATE FUNCTION writes(bigint) RETURNS bigint LANGUAGE sql AS 'UPDATE items SET n = 0 WHERE id = $1 RETURNING n'`)
	p := w.serveReady("PGEVICT_REFRESH_TIMEOUT=1s")
	const big = int64(814150981284533461)
	row := func(id int64) string { return w.query(`SELECT row_to_json(i)::text FROM items i WHERE id = $1`, id) }
	kinds := []string{"item", "brief", "wrong", "slow", "written"}
	cached := func(id int64) {
		var keys []string
		for _, kind := range kinds {
			keys = append(keys, fmt.Sprintf("%s:%d", kind, id))
		}
		w.set(append(keys, "items:list")...)
		if err := w.cache.Expire(t.Context(), keys[0], time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
	}
	errors := func(rule string) float64 {
		return p.metric(`pgevict_refresh_errors_total{rule="` + rule + `"}`)
	}

	// What is cached becomes the row, byte for byte, and with the time to live that is asked for.
	cached(big)
	w.exec(`INSERT INTO items VALUES ($1, $2, 1)`, big, "Zoë \"鍵\" 🔑\n\\ '$1'")
	w.waitValue(fmt.Sprint("item:", big), row(big))
	if text := row(big); !strings.Contains(text, fmt.Sprint(`"id":`, big)) || !strings.Contains(text, "🔑") {
		t.Error(text)
	}
	w.waitValue(fmt.Sprint("brief:", big), "Zoë \"鍵\" 🔑\n\\ '$1'")
	w.waitValue(fmt.Sprint("warm:", big), "1") // though it was not cached
	w.waitValue(fmt.Sprint("wrong:", big), "100")
	w.waitGone(fmt.Sprint("slow:", big)) // it takes a second, and something
	w.waitGone(fmt.Sprint("written:", big))
	w.waitGone("items:list")
	if ttl := w.cache.PTTL(t.Context(), fmt.Sprint("item:", big)).Val(); ttl < 59*time.Minute || ttl > time.Hour {
		t.Errorf("item has %v to live, and had an hour", ttl)
	}
	w.rest(p)
	if errors("wrong") != 0 || errors("slow") == 0 || errors("written") == 0 {
		t.Errorf("errors: %v", p.metrics())
	}
	if line := p.logged("a refresh could not read Postgres, so the key is deleted"); line.Field("error") == "" {
		t.Errorf("%v", line)
	}

	// What is not cached stays so, but for what is kept warm.
	w.exec(`INSERT INTO items VALUES (2, 'two', 0)`)
	w.waitValue("warm:2", "0")
	w.rest(p)
	for _, kind := range kinds {
		if w.has(kind + ":2") {
			t.Errorf("%s:2 was not cached", kind)
		}
	}

	// A query that fails for one row deletes that row's key.
	cached(1000)
	cached(1001)
	before := errors("wrong")
	w.exec(`INSERT INTO items VALUES (1000, 'a', 0), (1001, 'b', 0); UPDATE items SET n = id - 1000 WHERE id >= 1000 AND id < 2000`)
	w.waitGone("wrong:1000")
	w.waitValue("wrong:1001", "100")
	eventually(t, "slow:1000 is right, or gone with slow:1001, which takes too long", func() bool {
		value := w.value("slow:1000")
		return value == "0" || value == ""
	})
	if errors("wrong") == before {
		t.Error("it was not counted")
	}

	// The time to live is within a tenth.
	keys := map[int64]bool{}
	for id := int64(10); id < 60; id++ {
		keys[id] = true
		w.set(fmt.Sprint("brief:", id))
	}
	w.exec(`INSERT INTO items SELECT i, 'x' FROM generate_series(10, 59) i`)
	spread := map[time.Duration]bool{}
	for id := range keys {
		w.waitValue(fmt.Sprint("brief:", id), "x")
		ttl := w.cache.PTTL(t.Context(), fmt.Sprint("brief:", id)).Val()
		if ttl > 100*time.Second || ttl < 80*time.Second { // some have passed
			t.Errorf("brief:%d has %v to live", id, ttl)
		}
		spread[ttl.Round(time.Second)] = true
	}
	if len(spread) < 4 {
		t.Errorf("all have the same to live: %v", spread)
	}

	// The row is gone, and so is the key.
	w.exec(`DELETE FROM items`)
	w.waitGone(fmt.Sprint("item:", big))
	w.waitGone(fmt.Sprint("warm:", big))
	w.rest(p)
	if w.has("warm:2") || w.has("brief:10") {
		t.Error("keys of rows that are gone")
	}
	if status := p.stop(); status != 0 {
		t.Errorf("status %d", status)
	}
}

// TestManyChangesOfARowAreReadOnce counts the queries: each sends a notification, which is a write that a transaction may
// do that must not write.
func TestManyChangesOfARowAreReadOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, itemsTable+eventTrigger("items")+tcnTrigger("items"), `
rules:
  - {table: items, keys: ["item:{id}"], refresh: {query: "SELECT n FROM items, pg_notify('counted', '') WHERE id = {id}"}}`)
	w.exec(`INSERT INTO items VALUES (1)`)
	counter := w.connect()
	if _, err := counter.Exec(t.Context(), "LISTEN counted"); err != nil {
		t.Fatal(err)
	}
	p := w.serveReady()
	w.set("item:1")
	w.exec(`DO $$BEGIN FOR i IN 1..1000 LOOP UPDATE items SET n = i WHERE id = 1; END LOOP; END$$`)
	w.waitValue("item:1", "1000")
	w.rest(p)
	w.exec(`NOTIFY counted, 'end'`)
	queries := 0
	for ; ; queries++ {
		n, err := counter.WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n.Payload == "end" {
			break
		}
	}
	if queries < 1 || queries > 50 {
		t.Errorf("%d queries for 2000 changes", queries)
	}
	t.Logf("%d queries", queries)
}

// TestRefreshHeals takes the connections that are read on, and the table's shape, away from a sidecar.
func TestRefreshHeals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, itemsTable+eventTrigger("items"), "rules: ["+refreshRule("")+"]")
	p := w.serveReady()
	for i, away := range []func(){
		func() {},
		func() { livetest.EndSessions(t, w.dsn, "application_name = 'pgevict refresh'") },
		func() { w.exec(`ALTER TABLE items ADD COLUMN more text DEFAULT 'x'`) },
		func() { w.exec(`ALTER TABLE items ALTER COLUMN id TYPE numeric`) },
	} {
		away()
		w.set("item:7")
		w.exec(`INSERT INTO items (id, n) VALUES (7, $1) ON CONFLICT (id) DO UPDATE SET n = excluded.n`, i)
		w.waitValue("item:7", w.query(`SELECT row_to_json(i)::text FROM items i`))
	}
	w.rest(p)
	if n := p.metric(`pgevict_refresh_errors_total{rule="items"}`); n != 0 {
		t.Errorf("%v errors", n)
	}
}

// TestRefreshedKeysAreNeverStale has two sidecars refresh what an application writes, reads and deletes, while links break
// and one of the two dies. When all is quiet each value is the row's.
func TestRefreshedKeysAreNeverStale(t *testing.T) {
	t.Parallel()
	const rows = 40
	w := newWorld(t, nil, itemsTable+eventTrigger("items")+tcnTrigger("items"), "rules: ["+refreshRule("")+", "+
		strings.Replace(refreshRule(", only_cached: false, ttl: 1h"), "item:", "warm:", 1)+"]")
	other := *w
	other.environ = append([]string{"DATABASE_URL=" + w.dsn, "REDIS_URL=" + w.redis.URL()}, w.environ[2:]...)
	first, second := w.serveReady(), other.serveReady()

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var app sync.WaitGroup
	// There may be no row, and that is not cached.
	l := newApplication(w, map[string]string{"item": `SELECT row_to_json(i)::text FROM items i WHERE id = $1::bigint`})
	write := func(ctx context.Context, conn *pgx.Conn) error {
		id := rand.IntN(rows)
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(ctx)
		sql := `INSERT INTO items VALUES ($1, 'é') ON CONFLICT (id) DO UPDATE SET n = items.n + 1`
		if rand.IntN(8) == 0 {
			sql = `DELETE FROM items WHERE id = $1`
		}
		if _, err := tx.Exec(ctx, sql, id); err != nil {
			return err
		}
		if rand.IntN(4) == 0 {
			if _, err := tx.Exec(ctx, `SELECT pg_sleep(0.02)`); err != nil {
				return err
			}
		}
		l.writes.Add(1)
		return tx.Commit(ctx)
	}
	fill := func(ctx context.Context, conn *pgx.Conn) error {
		key := fmt.Sprint("item:", rand.IntN(rows))
		if rand.IntN(5) == 0 {
			return w.cache.Del(ctx, key).Err()
		}
		return l.Read(ctx, conn, key)
	}
	for range 3 {
		app.Go(func() { l.Loop(ctx, 3*time.Millisecond, write) })
		app.Go(func() { l.Loop(ctx, 2*time.Millisecond, fill) })
	}
	for range 2 {
		l.work()
		w.pgLink.Cut()
		l.work()
		w.pgLink.Heal()
		l.work()
		w.redisLink.Stall()
		l.work()
		w.redisLink.Heal()
		l.work()
		w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgevict%' AND datname = current_database()`)
		l.work()
		second.kill()
		l.work()
		second = other.serve()
		second.waitReady()
	}
	refreshed := first.metric(`pgevict_refreshed_total{rule="items"}`)
	eventually(t, "the first refreshes", func() bool {
		return first.metric(`pgevict_refreshed_total{rule="items"}`) > refreshed+100
	})
	stop()
	app.Wait()
	w.rest(first)
	w.rest(second)
	conn := w.connect()
	cached := 0
	for id := range rows {
		var want string
		err := conn.QueryRow(t.Context(), `SELECT row_to_json(i)::text FROM items i WHERE id = $1`, id).Scan(&want)
		if err != nil && err != pgx.ErrNoRows {
			t.Fatal(err)
		}
		for _, kind := range []string{"item", "warm"} {
			if value := w.value(fmt.Sprint(kind, ":", id)); value != "" {
				cached++
				if value != want {
					t.Errorf("%s:%d is %s, and the row %s", kind, id, value, want)
				}
			}
		}
	}
	if cached < rows/2 {
		t.Errorf("only %d are cached, so this shows little", cached)
	}
	t.Logf("%d writes, %d fills, %v and %v refreshed, %d cached", l.writes.Load(), l.Fills(),
		first.metric(`pgevict_refreshed_total{rule="items"}`), second.metric(`pgevict_refreshed_total{rule="items"}`), cached)
}

// Large values are read a few at a time, so that the limit of the manifest is enough for them.
func TestLargeRefreshesTakeBoundedMemory(t *testing.T) {
	t.Parallel()
	const rows, bytes = 256, 1 << 20
	w := newWorld(t, nil, itemsTable+eventTrigger("items"),
		`rules: [{table: items, keys: ["item:{id}"], refresh: {query: "SELECT repeat(n::text, 1048576) FROM items WHERE id = {id}"}}]`)
	w.exec(`INSERT INTO items (id) SELECT generate_series(1, $1)`, rows)
	p := &program{livetest.NewProgram(t, &livetest.Program{
		Path:    livetest.ProgramPath(t, livetest.AsShipped),
		Environ: append([]string{"PGEVICT_HTTP_ADDR=127.0.0.1:0"}, append(w.environ, "PGEVICT_REFRESH_TIMEOUT=20s", "PGEVICT_AGAIN_AFTER=0", "PGEVICT_HEARTBEAT=3s")...),
	}), t}
	p.must(p.Serving())
	p.waitReady()
	w.rest(p)
	var keys []string
	for id := range rows {
		keys = append(keys, fmt.Sprintf("item:%d", id+1))
	}
	w.set(keys...)
	w.exec(`UPDATE items SET n = 7`)
	livetest.Eventually(t, 3*time.Minute, "all are refreshed, or gone where Redis took too long", func() bool {
		m := p.metrics()
		return m[`pgevict_refreshed_total{rule="items"}`]+m[`pgevict_evicted_total{rule="items"}`] == rows
	})
	if n := p.metric(`pgevict_refreshed_total{rule="items"}`); n < rows/8 {
		t.Errorf("%v were refreshed", n)
	}
	for _, key := range keys {
		if n := w.cache.StrLen(t.Context(), key).Val(); n != bytes && n != 0 {
			t.Fatalf("%s has %d bytes", key, n)
		}
	}
	most, err := livetest.MostMemory(p.Pid())
	if err != nil {
		t.Fatal(err)
	}
	if most > manifestLimit(t)/2 {
		t.Errorf("it took %d MiB", most>>20)
	}
	t.Logf("%d MiB at most", most>>20)
}
