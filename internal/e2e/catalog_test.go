package e2e_test

import (
	"strings"
	"testing"
	"time"

	"pgevict/internal/livetest"
)

// TestAlteredWhileItListens alters tables under a sidecar that reads plain triggers, and holds the keys to what is so.
func TestAlteredWhileItListens(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		alter, write string
		stale, stays []string
	}{
		"a type": {`ALTER TABLE code ALTER c TYPE char(10)`, `UPDATE code SET n = 1`, []string{"code:ab"}, []string{"flag:t", "orders:1"}},
		"the primary key": {`ALTER TABLE acc DROP CONSTRAINT acc_pkey; ALTER TABLE acc ADD PRIMARY KEY (nr)`, `UPDATE acc SET id = 2 WHERE id = 1`,
			[]string{"acc:1", "acc:2"}, []string{"code:ab", "flag:t"}},
		"a partition goes to another table": {`ALTER TABLE orders DETACH PARTITION p1; ALTER TABLE archive ATTACH PARTITION p1 FOR VALUES FROM (1) TO (9)`,
			`UPDATE archive SET n = 1`, []string{"archive:1", "orders:1"}, []string{"code:ab"}},
		"a partition is renamed at once": {`BEGIN; CREATE TABLE p_new PARTITION OF orders FOR VALUES FROM (10) TO (20); INSERT INTO orders VALUES (10); ALTER TABLE p_new RENAME TO p_2; COMMIT`,
			`SELECT 1`, []string{"orders:list:1"}, []string{"code:ab"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, notifyEvent+`
				CREATE TABLE code (id int PRIMARY KEY, c text, n int); INSERT INTO code VALUES (1, 'ab');
				CREATE TABLE flag (id int PRIMARY KEY, b text); CREATE TABLE acc (id int PRIMARY KEY, nr int NOT NULL); INSERT INTO acc VALUES (1, 1);
				CREATE TABLE orders (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF orders FOR VALUES FROM (1) TO (9);
				CREATE TABLE archive (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); INSERT INTO orders VALUES (1);`+
				eventTrigger("code")+eventTrigger("flag")+eventTrigger("acc")+tcnTrigger("orders")+eventTrigger("archive"),
				`rules:
- {table: code, keys: ["code:{c}"]}
- {table: flag, keys: ["flag:{b}"]}
- {table: acc, keys: ["acc:{id}"]}
- {table: orders, keys: ["orders:{id}", "orders:list:*"]}
- {table: archive, keys: ["archive:{id}"]}`)
			p := w.serveReady()
			w.rest(p)
			w.set(append(c.stale, c.stays...)...)
			w.exec(c.alter)
			w.exec(c.write)
			for _, key := range c.stale {
				w.waitGone(key)
			}
			eventually(t, "a gap", func() bool { return p.gaps("catalog") > 0 })
			w.rest(p)
			for _, key := range c.stays {
				if !w.has(key) {
					t.Errorf("%s is gone, though nothing has changed of its table", key)
				}
			}
			if p.gaps("start") != 1 || p.gaps("connection") != 0 {
				t.Errorf("gaps: %v", p.metrics())
			}
		})
	}
}

// TestNewNamesCountAtOnce has a partition that came after the start, and an application that speaks of things that are no
// relation.
func TestNewNamesCountAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, notifyEvent+`CREATE TABLE orders (id int PRIMARY KEY) PARTITION BY RANGE (id);`+tcnTrigger("orders"),
		`rules: [{table: orders, keys: ["orders:{id}"]}, {table: job, keys: ["job:{id}"]}, {table: orders, on: [update], keys: ["moved:{id}"]}]`)
	p := w.serveReady()
	w.rest(p)
	for day := range 5 {
		id := string(rune('1' + day))
		w.set("orders:"+id, "moved:"+id, "job:"+id)
		w.exec(`NOTIFY events, '{"table":"job","action":"UPDATE","data":{"id":` + id + `}}'`)
		took := w.waitGone("job:" + id)
		w.exec(`CREATE TABLE orders_` + id + ` PARTITION OF orders FOR VALUES FROM (` + id + `) TO (` + id + ` + 1)`)
		w.exec(`INSERT INTO orders VALUES (` + id + `)`)
		t.Logf("a name that is no relation %v, a new partition %v", took, w.waitGone("orders:"+id))
		w.waitGone("moved:" + id) // an insert may be half of an update that moves the row
	}
	if p.gaps("catalog") > 0 || p.metric(`pgevict_unreadable_total{reason="table",source="events"}`) > 0 {
		t.Errorf("a gap, though all is known, or what the rules know does not count: %v", p.metrics())
	}
}

// TestForgedNamesSweepNothing has a role that may do no more than connect send names that nobody knows.
func TestForgedNamesSweepNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
	p := w.serveReady()
	w.rest(p)
	w.set("action:1")
	for range 5 {
		w.exec(`SELECT pg_notify('tcn', '"x' || random() || '",I,"id"=''1'''), pg_notify('events', '{"table":"y' || random() || '"}') FROM generate_series(1, 3000)`)
		w.rest(p)
	}
	if !w.has("action:1") || p.gaps() != 1 {
		t.Errorf("names alone have swept: %v", p.metrics())
	}
	if p.metric(`pgevict_unreadable_total{reason="table",source="tcn"}`) == 0 {
		t.Errorf("they are not counted: %v", p.metrics())
	}
}

// TestAFrozenPostgresKeepsTheCache freezes all of Postgres for many heartbeats.
func TestAFrozenPostgresKeepsTheCache(t *testing.T) {
	t.Parallel()
	pg := livetest.NewPostgres(t)
	w := newWorld(t, pg, oneTable+tcnTrigger("actions"), oneRule)
	p := w.serveReady()
	w.rest(p)
	w.set("action:1", "action:2")
	n := len(p.Log.Lines())
	began := time.Now()
	w.must(pg.Pause())
	p.loggedAfter(n, "not listening to Postgres for the moment")
	t.Logf("told of after %v", time.Since(began))
	p.waitUnready()
	_, why := p.get("/readyz")
	if !strings.Contains(strings.ToLower(why), "postgres") {
		t.Errorf("readyz says %q", why)
	}
	livetest.Eventually(t, time.Minute, "ten heartbeats", func() bool { return time.Since(began) > 10*heartbeat })
	w.must(pg.Resume())
	p.loggedAfter(n, "listening to Postgres again")
	p.waitReady()
	w.exec(`INSERT INTO actions VALUES (1, 'x')`)
	w.waitGone("action:1")
	if !w.has("action:2") || p.gaps() != 1 {
		t.Errorf("the cache is swept though nothing was lost: %v", p.metrics())
	}
}
