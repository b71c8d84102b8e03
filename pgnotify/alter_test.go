package pgnotify_test

import (
	"slices"
	"testing"

	"pgevict/internal/livetest"
	"pgevict/pgnotify"
)

// What is altered while a listener listens was misread since, until the catalog is read again: a gap for its tables alone.
func TestAltered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		alter, gap     string
		payload, means string // afterwards
		source         pgnotify.Source
	}{
		"a type": {`ALTER TABLE t ALTER id TYPE timestamptz USING now()`, "catalog public.t",
			`"t",I,"id"='2024'`, "tcn insert t nil→{}", pgnotify.TCN},
		"text becomes character(n)": {`ALTER TABLE code ALTER c TYPE char(10)`, "catalog public.code",
			`{"table":"code","action":"INSERT","data":{"c":"ab        "}}`, "events insert code nil→{c=ab}", pgnotify.Events},
		"text becomes boolean": {`ALTER TABLE flag ALTER b TYPE boolean USING true`, "catalog public.flag",
			`"flag",I,"b"='t'`, "tcn insert flag nil→{b=true}", pgnotify.TCN},
		"the primary key": {`ALTER TABLE acc DROP CONSTRAINT acc_pkey; ALTER TABLE acc ADD PRIMARY KEY (nr)`, "catalog public.acc",
			`{"table":"acc","action":"UPDATE","data":{"id":2,"nr":5}}`, "events update acc {nr=5}→{id=2 nr=5}", pgnotify.Events},
		"a partition moves to another table": {`ALTER TABLE orders DETACH PARTITION p1; ALTER TABLE archive ATTACH PARTITION p1 FOR VALUES FROM (1) TO (9)`, "catalog public.archive public.orders",
			`"p1",U,"id"='1'`, "tcn update archive {id=1}→nil", pgnotify.TCN},
		"a partition moves, and is renamed": {`ALTER TABLE orders DETACH PARTITION p1; ALTER TABLE archive ATTACH PARTITION p1 FOR VALUES FROM (1) TO (9); ALTER TABLE p1 RENAME TO a1`, "catalog public.archive public.orders",
			`"a1",U,"id"='1'`, "tcn update archive {id=1}→nil", pgnotify.TCN},
		"a child gets another parent": {`ALTER TABLE child INHERIT t`, "catalog public.acc public.t",
			`"child",D,"id"='1'`, "tcn delete acc {id=1}→nil", pgnotify.TCN},
		"a table is swapped in": {`BEGIN; CREATE TABLE t_new (LIKE t INCLUDING ALL); DROP TABLE t; ALTER TABLE t_new RENAME TO t; COMMIT`, "catalog public.t",
			`"t",D,"id"='1'`, "tcn delete t {id=1}→nil", pgnotify.TCN},
		"a table of the rules comes": {`ALTER TABLE unnamed RENAME TO coming`, "catalog public.coming",
			`"coming",D,"id"='1'`, "tcn delete coming {id=1}→nil", pgnotify.TCN},
		"two swap their names": {`BEGIN; ALTER TABLE flag RENAME TO x; ALTER TABLE code RENAME TO flag; ALTER TABLE x RENAME TO code; COMMIT`, "catalog public.code public.flag",
			`{"table":"code","action":"INSERT","data":{"c":"x"}}`, "events insert code nil→{}", pgnotify.Events},
		"a table of that name in another schema becomes a partition": {`ALTER TABLE sales.sold ATTACH PARTITION old.sold FOR VALUES FROM (1) TO (9)`, "catalog sales.sold",
			`{"table":"sold","schema":"old","action":"DELETE","data":{"id":1}}`, "events delete sales.sold {id=1}→nil", pgnotify.Events},
		"another type has that name in another schema": {`CREATE TABLE old.flag (b boolean)`, "catalog old.flag",
			`{"table":"flag","action":"INSERT","data":{"b":"t"}}`, "events insert flag nil→{}", pgnotify.Events},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := livetest.Database(t)
			conn := connect(t, url)
			exec(t, conn, `CREATE SCHEMA sales; CREATE SCHEMA old;
				CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE unnamed (id int PRIMARY KEY); CREATE TABLE code (c text); CREATE TABLE flag (b text);
				CREATE TABLE acc (id int PRIMARY KEY, nr int NOT NULL); CREATE TABLE child () INHERITS (acc);
				CREATE TABLE orders (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF orders FOR VALUES FROM (1) TO (9);
				CREATE TABLE archive (id int PRIMARY KEY) PARTITION BY RANGE (id);
				CREATE TABLE sales.sold (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE old.sold (id int PRIMARY KEY)`)
			l := listen(t, newListener(t, url, columns{"t": {"id"}, "code": {"c"}, "flag": {"b"}, "acc": {"id", "nr"},
				"orders": {"id"}, "archive": {"id"}, "sales.sold": {"id"}, "coming": {"id"}}))
			l.gap(1, pgnotify.GapStart)
			exec(t, conn, c.alter)
			l.wait(regular, "gap", func() bool { return len(l.gaps) > 1 })
			l.gap(2, c.gap)
			exec(t, conn, `SELECT pg_notify($1, $2)`, string(c.source), c.payload)
			l.wait(anyMoment, c.means, func() bool { return slices.Contains(allWords(l.changes), c.means) })
		})
	}
}

// A partition each day, and whatever else does not change what messages mean, is no gap.
func TestNotAltered(t *testing.T) {
	t.Parallel()
	url := livetest.Database(t)
	conn := connect(t, url)
	exec(t, conn, `CREATE TABLE t (id int PRIMARY KEY, other int) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (1) TO (9)`)
	l := listen(t, newListener(t, url, columns{"t": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	exec(t, conn, `INSERT INTO t VALUES (1, 1); CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20); ALTER TABLE t ADD COLUMN more int; ALTER TABLE t ALTER other TYPE bigint;
		TRUNCATE t; CREATE INDEX ON t (other); GRANT SELECT ON t TO PUBLIC; CREATE TABLE unheard (id int)`)
	// A name that the catalog does not have makes it be read again.
	exec(t, conn, `NOTIFY tcn, '"t2",D,"id"=''10'''`)
	l.wait(onDemand, "the change", func() bool { return slices.Contains(allWords(l.changes), "tcn delete t {id=10}→nil") })
	hears := func(id string) {
		t.Helper()
		exec(t, conn, "SELECT pg_notify('tcn', $1)", `"t2",D,"id"='`+id+`'`)
		l.wait(anyMoment, "the change "+id, func() bool { return slices.Contains(allWords(l.changes), "tcn delete t {id="+id+"}→nil") })
	}
	hears("11")
	l.stop()
	if len(l.gaps) != 1 {
		t.Errorf("gaps: %q", l.gaps)
	}
}

func TestVirtualColumnsAreNeverKnown(t *testing.T) {
	t.Parallel()
	conn := connect(t, livetest.Database(t))
	var version int
	if err := conn.QueryRow(t.Context(), `SELECT current_setting('server_version_num')::int`).Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version < 180000 {
		t.Skip("virtual generated columns came with Postgres 18")
	}
	exec(t, conn, `CREATE TABLE t (id int PRIMARY KEY, a text, up text GENERATED ALWAYS AS (upper(a)) VIRTUAL, kept text GENERATED ALWAYS AS (lower(a)) STORED); CREATE TABLE child () INHERITS (t)`)
	d := catalog(t, conn, columns{"t": {"id", "up", "kept"}})
	means(t, d, pgnotify.Events, `{"table":"t","action":"DELETE","data":{"id":1,"a":"x","up":null,"kept":"x"}}`, "delete t {id=1 kept=x}→nil")
	means(t, d, pgnotify.Events, `{"table":"t","action":"DELETE","pinned":true,"data":{"id":1,"up":null,"kept":"x"}}`, "delete t {id=1 kept=x}→nil")
	means(t, d, pgnotify.Events, `{"table":"child","action":"INSERT","data":{"id":1,"up":null,"kept":"x"}}`, "insert t nil→{id=1 kept=x}")
}
