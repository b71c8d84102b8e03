package triggers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgevict/pgnotify"
	"pgevict/pgnotify/triggers"
)

// However many columns the rules of a table need, rows are exact as long as they fit into a message.
func TestManyColumns(t *testing.T) {
	t.Parallel()
	for _, n := range []int{39, 40, 41, 49, 50, 97, 120, 300} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			var names, definitions []string
			for i := range n {
				names = append(names, fmt.Sprintf("c%03d", i))
				definitions = append(definitions, names[i]+" text DEFAULT 'v'")
			}
			w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, `+strings.Join(definitions, ", ")+`)`)
			w.wanted = triggers.Wanted{Channel: "events", MaxRows: 2000, Tables: []triggers.Table{{Name: "t", Columns: names}}}
			w.columns["t"] = append([]string{"id"}, names...)
			w.install()
			for _, rows := range []int{1, 2, 1200} {
				for _, sql := range []string{`INSERT INTO t SELECT generate_series(1, %d)`, `UPDATE t SET c000 = 'w' WHERE id <= %d`, `DELETE FROM t WHERE id <= %d`} {
					got := w.rows(fmt.Sprintf(sql, rows))
					if len(got) != rows || slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "any row") || !strings.Contains(s, names[n-1]+"=v") }) {
						t.Errorf("%d columns, "+sql+" sent %d: %.200q", n, rows, len(got), got)
					}
				}
			}
		})
	}
}

// Where the names of the columns alone are too long for that, it is said.
func TestTooManyColumns(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 400 {
		names = append(names, fmt.Sprintf("a_column_%d", i))
	}
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, `+strings.Join(names, " int, ")+` int)`, triggers.Table{Name: "t", Columns: names})
	exec(t, w.writer, `INSERT INTO t VALUES (1)`)
	_ = w.payloads(`SELECT 1`)
	w.sends(`UPDATE t SET a_column_7 = 1`, "update public.t any row")
	if n := w.states()["public.t"].Notes; len(n) != 1 || !strings.Contains(n[0], "it counts as any row") {
		t.Errorf("notes on a table of which rules need 400 columns: %q", n)
	}
}

// A virtual generated column is NULL in a trigger, whatever its value: it is not known, so it widens. An update may have
// changed it.
func TestVirtualColumns(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE bare (id int PRIMARY KEY)`)
	if w.version() < 18 {
		t.Skip("only Postgres 18 and later have virtual generated columns")
	}
	const definition = `id int, k int, first text, code text GENERATED ALWAYS AS (upper(first)), PRIMARY KEY (id, k)`
	exec(t, w.writer, `CREATE TABLE t (`+definition+`); CREATE TABLE p (`+definition+`) PARTITION BY LIST (k); CREATE TABLE p_1 PARTITION OF p FOR VALUES IN (1)`)
	needed := []string{"id", "k", "code"}
	for _, skip := range []bool{false, true} {
		w.wanted = triggers.Wanted{Channel: "events", MaxRows: 2000, Tables: []triggers.Table{
			{Name: "t", Columns: []string{"code"}, SkipUnchanged: skip}, {Name: "p", Columns: []string{"code"}, SkipUnchanged: skip}, {Name: "p_1", Columns: []string{"code"}, SkipUnchanged: skip}}}
		w.columns = columns{"t": needed, "p": needed, "p_1": needed}
		w.install()
		if n := w.states()["public.t"].Wide; !slices.Contains(n, "column code is virtual, which triggers cannot see: what the rules make of it is always a pattern") {
			t.Errorf("notes on a virtual column: %q", n)
		}
		w.sends(`INSERT INTO t VALUES (1, 1, 'a')`, "insert public.t nil→{id=1 k=1}")
		w.sends(`UPDATE t SET first = 'b'`, "update public.t {id=1 k=1}→{id=1 k=1}")
		w.sends(`INSERT INTO p VALUES (1, 1, 'a')`, "insert public.p nil→{id=1 k=1}", "insert public.p_1 nil→{id=1 k=1}")
		w.sends(`UPDATE p SET first = 'b'`, "update public.p {id=1 k=1}→{id=1 k=1}", "update public.p_1 {id=1 k=1}→{id=1 k=1}")
		w.sends(`DELETE FROM p_1`, "delete public.p {id=1 k=1}→nil", "delete public.p_1 {id=1 k=1}→nil")
		exec(t, w.writer, `INSERT INTO t SELECT i, 1, 'a' FROM generate_series(2, 1500) i`)
		_ = w.payloads(`SELECT 1`)
		d := catalog(t, w.ears, w.columns)
		for _, payload := range w.payloads(`UPDATE t SET first = 'c'`) {
			changes, _, err := d.Decode(pgnotify.Events, payload)
			if err != nil || len(changes) != 1 || changes[0].Changed != nil && !slices.Contains(changes[0].Changed, "code") {
				t.Errorf("an update of many rows says that the virtual column did not change: %.200s, %v", payload, err)
			}
		}
		exec(t, w.writer, `TRUNCATE t, p`)
		_ = w.payloads(`SELECT 1`)
	}
}
