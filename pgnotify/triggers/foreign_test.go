package triggers_test

import (
	"fmt"
	"strings"
	"testing"

	"pgevict/pgnotify/triggers"
)

// Postgres fails a statement that comes to a foreign table if triggers want to see its rows together, so a table that has
// such a partition, or such a child, is told of row by row.
func TestOfForeignPartitions(t *testing.T) {
	t.Parallel()
	w := wire(t, strings.Replace(parted, ", PRIMARY KEY (id, region)", "", 1), triggers.Table{Name: "t", Columns: []string{"id", "region"}})
	w.abroad()
	exec(t, w.writer, `CREATE TABLE far (id int, region text, a text); CREATE FOREIGN TABLE t_jp PARTITION OF t FOR VALUES IN ('jp') SERVER abroad OPTIONS (table_name 'far')`)
	w.install()
	if did := w.install(); len(did) != 0 {
		t.Errorf("a second install did %q", did)
	}
	w.sends(`INSERT INTO t VALUES (1, 'de'), (2, 'us'), (3, 'jp')`,
		"insert public.t nil→{id=1 region=de}", "insert public.t nil→{id=2 region=us}", "insert public.t nil→{id=3 region=jp}")
	w.sends(`UPDATE t SET a = 'a'`,
		"update public.t {id=1 region=de}→{id=1 region=de}", "update public.t {id=2 region=us}→{id=2 region=us}", "update public.t {id=3 region=jp}→{id=3 region=jp}")
	w.sends(`INSERT INTO t_de VALUES (4, 'de')`, "insert public.t nil→{id=4 region=de}")
	// A row that moves comes as a delete and an insert, which say that they may be halves.
	exec(t, w.writer, `INSERT INTO t VALUES (9, 'de')`)
	_ = w.payloads(`SELECT 1`)
	for _, payload := range w.payloads(`UPDATE t SET region = 'us' WHERE id = 9`) {
		if !strings.Contains(payload, `"part":true`) || strings.Contains(payload, "UPDATE") {
			t.Errorf("a row that moves: %s", payload)
		}
	}
	exec(t, w.writer, `DELETE FROM t WHERE id = 9`)
	_ = w.payloads(`SELECT 1`)
	w.sends(`DELETE FROM t WHERE id < 4`, "delete public.t {id=1 region=de}→nil", "delete public.t {id=2 region=us}→nil", "delete public.t {id=3 region=jp}→nil")
	w.sends(`TRUNCATE t_de`, "truncate public.t any row")
	// Without it statements are told of at once again.
	exec(t, w.writer, `DROP FOREIGN TABLE t_jp`)
	w.install()
	if got := len(w.payloads(`INSERT INTO t VALUES (1, 'de'), (2, 'us')`)); got != 1 {
		t.Errorf("a statement took %d messages", got)
	}
}

func TestOfForeignChildren(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, a text); CREATE TABLE near () INHERITS (t); CREATE TABLE far (id int, a text)`)
	w.abroad()
	exec(t, w.writer, `CREATE FOREIGN TABLE child () INHERITS (t) SERVER abroad OPTIONS (table_name 'far'); INSERT INTO far VALUES (3, 'far')`)
	w.wanted.Tables, w.columns["t"] = []triggers.Table{{Name: "t", Columns: []string{"a"}}}, []string{"id", "a"}
	w.install()
	w.sends(`INSERT INTO t VALUES (1, 'a')`, "insert public.t nil→{a=a id=1}")
	w.sends(`INSERT INTO near VALUES (2, 'a')`, "insert public.t nil→{a=a id=2}")
	w.sends(`UPDATE t SET a = 'b'`, "update public.t {a=a id=1}→{a=b id=1}", "update public.t {a=a id=2}→{a=b id=2}") // not of the one abroad
	w.sends(`DELETE FROM t`, "delete public.t {a=b id=1}→nil", "delete public.t {a=b id=2}→nil")
}

// abroad makes a foreign server of the database itself.
func (w *wired) abroad() {
	w.Helper()
	c := w.writer.Config()
	exec(w.T, w.writer, fmt.Sprintf(`CREATE EXTENSION postgres_fdw;
		CREATE SERVER abroad FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname '%s', host '%s', port '%d');
		CREATE USER MAPPING FOR CURRENT_USER SERVER abroad OPTIONS (user '%s')`, c.Database, c.Host, c.Port, c.User))
}
