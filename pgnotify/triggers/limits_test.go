package triggers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgevict/pgnotify/triggers"
)

// covered reports whether what was sent covers the row: exactly, with the column not known, or as any row.
func covered(sent []string, op, id, text string) (how string) {
	for _, s := range sent {
		switch {
		case s == op+" public.t any row":
			return "any row"
		case strings.HasPrefix(s, op) && strings.HasSuffix(s, "→{a="+text+" id="+id+"}"):
			return "exact"
		case strings.HasPrefix(s, op) && strings.HasSuffix(s, "→{id="+id+"}"):
			return "key"
		}
	}
	return ""
}

func TestNeverFailTheWriteWhateverTheLength(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, a text)`, triggers.Table{Name: "t", Columns: []string{"a"}})
	id := 0
	how := map[string]int{}
	for _, unit := range []string{"x", `"`, "\x01", "中"} {
		for _, length := range []int{0, 100, 499, 1200, 1333, 3500, 3599, 3600, 3601, 3850, 3999, 4000, 7700, 7850, 7999, 8000, 8001, 1 << 20} {
			id++
			text := strings.Repeat(unit, length/len(unit))
			sent := w.rows(`INSERT INTO t VALUES ($1, $2)`, id, text)
			by := covered(sent, "insert", fmt.Sprint(id), text)
			how[by]++
			if by == "" || by != "exact" && length*6 < 3600 {
				t.Errorf("%d bytes of %q: %s: %.300q", length, unit, by, sent)
			}
			sent = w.rows(`UPDATE t SET a = a || 'y' WHERE id = $1`, id)
			if by := covered(sent, "update", fmt.Sprint(id), text+"y"); by == "" || by != "exact" && length*6 < 3500 {
				t.Errorf("update of %d bytes of %q: %s: %.300q", length, unit, by, sent)
			}
		}
	}
	if how["exact"] == 0 || how["key"] == 0 || how["any row"] == 0 {
		t.Errorf("of exact, key alone and any row some were not tried: %v", how)
	}
	// All of them at once, and those that fit into a message by themselves.
	w.wanted.MaxRows = 1000
	w.install()
	if sent := w.rows(`UPDATE t SET a = a || 'z'`); covered(sent, "update", "1", "yz") != "any row" {
		t.Errorf("rows that are too long among others: %.300q", sent)
	}
	exec(t, w.writer, `DELETE FROM t`)
	_ = w.payloads(`SELECT 1`)
	sent := w.rows(`INSERT INTO t SELECT i, repeat('x', i * 40 % 3600) FROM generate_series(1, 500) i`)
	if len(sent) != 500 {
		t.Errorf("500 rows of all lengths are %d: %.300q", len(sent), sent)
	}
	if got := len(w.payloads(`UPDATE t SET a = 'short'`)); got < 100 {
		t.Errorf("500 rows with long old texts came in %d messages", got)
	}
	if got := len(w.payloads(`UPDATE t SET a = 'brief'`)); got > 10 {
		t.Errorf("500 short rows took %d messages", got)
	}
}

func TestSendAnyRowBeyondTheBound(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, a text)`, triggers.Table{Name: "t"})
	if sent := w.rows(`INSERT INTO t SELECT generate_series(1, 10)`); len(sent) != 10 {
		t.Errorf("as many as the bound: %q", sent)
	}
	w.sends(`INSERT INTO t SELECT generate_series(11, 21)`, "insert public.t any row")
	w.sends(`UPDATE t SET a = 'b'`, "update public.t any row")
	if sent := w.rows(`UPDATE t SET a = 'b' WHERE id <= 10`); len(sent) != 10 {
		t.Errorf("as many as the bound: %q", sent)
	}
	w.sends(`DELETE FROM t WHERE id <= 11`, "delete public.t any row")
	if sent := w.rows(`DELETE FROM t`); len(sent) != 10 {
		t.Errorf("as many as the bound: %q", sent)
	}
}

func TestWithoutKeyOrColumns(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (a text, b int); CREATE TABLE bare (x int); CREATE TABLE empty ();`,
		triggers.Table{Name: "t", Columns: []string{"a", "nowhere"}}, triggers.Table{Name: "bare"}, triggers.Table{Name: "empty"})
	w.sends(`INSERT INTO t VALUES ('a', 1), ('a', 2), (NULL, NULL)`, "insert public.t nil→{a=a}", "insert public.t nil→{a NULL}")
	w.sends(`UPDATE t SET a = 'b' WHERE b = 1`, "update public.t {a=a}→{a=b}")
	w.sends(`DELETE FROM t WHERE b = 1`, "delete public.t {a=b}→nil")
	w.sends(`INSERT INTO bare VALUES (1)`, "insert public.bare nil→{}")
	w.sends(`INSERT INTO empty DEFAULT VALUES`, "insert public.empty nil→{}")
}

// What happens to a table after its triggers were made must not fail its writes either.
func TestSurviveTheirTable(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, a text, b text, c text)`, triggers.Table{Name: "t", Columns: []string{"a", "b", "c"}})
	exec(t, w.writer, `ALTER TABLE t RENAME a TO renamed`)
	w.sends(`INSERT INTO t VALUES (1, 'a')`, "insert public.t any row")
	w.sends(`INSERT INTO t VALUES (2, 'a'), (3, 'a')`, "insert public.t any row")
	w.sends(`UPDATE t SET b = 'b'`, "update public.t any row")
	w.sends(`DELETE FROM t WHERE id > 1`, "delete public.t any row")
	w.install()
	w.sends(`UPDATE t SET b = 'c'`, "update public.t {b=b c NULL id=1}→{b=c c NULL id=1}")
	exec(t, w.writer, `ALTER TABLE t DROP COLUMN b`)
	w.sends(`UPDATE t SET c = 'c'`, "update public.t any row")
	exec(t, w.writer, `ALTER TABLE t ALTER c TYPE int USING 7`)
	w.install()
	w.sends(`UPDATE t SET c = 8`, "update public.t {c=7 id=1}→{c=8 id=1}")
	exec(t, w.writer, `ALTER TABLE t ALTER c TYPE timestamptz USING '2024-02-29 00:00:00Z'; SET TimeZone = 'Asia/Taipei'`)
	w.sends(`UPDATE t SET renamed = 'x'`, "update public.t any row") // its text would depend on the settings of this session
	w.install()
	w.sends(`UPDATE t SET renamed = 'x'`, "update public.t {c=2024-02-29 00:00:00+00 id=1}→{c=2024-02-29 00:00:00+00 id=1}")
	// Like the note's rules, those of an old name still hold after a table was renamed.
	exec(t, w.writer, `ALTER TABLE t RENAME TO moved`)
	if payloads := w.payloads(`DELETE FROM moved`); len(payloads) != 1 || !strings.Contains(payloads[0], `"table":"t"`) {
		t.Errorf("after the table was renamed: %q", payloads)
	}
}

// A column may come to be of a type of which the text depends on the session's settings, which the triggers do not fix
// where they need not.
func TestSurviveAnotherType(t *testing.T) {
	t.Parallel()
	w := wire(t, `SET TimeZone = 'Asia/Taipei'; SET IntervalStyle = iso_8601; SET DateStyle = German; SET extra_float_digits = -10; SET bytea_output = escape`)
	values := map[string]string{"timestamptz": "now()", "interval": "'1 day'", "float8": "0.1", "bytea": `'\x00'`, "money": "1.5::numeric::money",
		"timestamptz[]": "ARRAY[now()]", "numeric": "1.5", "date": "now()"}
	for _, from := range []string{"smallint", "int", "bigint", "text", "varchar(40)", "char(40)", "boolean", "uuid"} {
		for to, value := range values {
			exec(t, w.writer, fmt.Sprintf(`DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, c %s)`, from))
			w.wanted.Tables, w.columns = []triggers.Table{{Name: "t", Columns: []string{"c"}}}, columns{"t": {"id", "c"}}
			w.install()
			exec(t, w.writer, fmt.Sprintf(`ALTER TABLE t ALTER c TYPE %s USING NULL`, to))
			w.sends(`INSERT INTO t VALUES (1, `+value+`)`, "insert public.t any row")
			w.sends(`UPDATE t SET id = 2`, "update public.t any row")
			w.sends(`INSERT INTO t SELECT i, c FROM t, generate_series(3, 4) i`, "insert public.t any row")
			w.sends(`DELETE FROM t`, "delete public.t any row")
		}
	}
}

// A statement may need more temporary space than there may be, for its triggers alone, also if they are disabled. README
// says the way round.
func TestLoadWithoutTriggers(t *testing.T) {
	t.Parallel()
	for _, parts := range []string{"", `PARTITION BY RANGE (id); CREATE TABLE t_1 PARTITION OF t DEFAULT`} {
		w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, pad text) `+parts, triggers.Table{Name: "t"})
		exec(t, w.writer, `SET temp_file_limit = '1MB'; SET work_mem = '64kB'`)
		const load = `INSERT INTO t SELECT i, repeat('x', 600) FROM generate_series(1, 5000) i`
		if _, err := w.writer.Exec(t.Context(), load); err == nil || !strings.Contains(err.Error(), "temp_file_limit") {
			t.Fatalf("an insert of more than there may be temporary space for: %v", err)
		}
		exec(t, w.writer, `BEGIN; DROP TRIGGER pgevict_insert ON t`)
		exec(t, w.writer, load)
		exec(t, w.writer, w.wanted.Script())
		exec(t, w.writer, `SELECT pg_notify('events', '{"table":"t"}'); COMMIT`)
		if sent := w.payloads(`SELECT 1`); !slices.Equal(sent, []string{`{"table":"t"}`}) {
			t.Errorf("what was loaded sent %.300q", sent)
		}
		w.inOrder()
		w.sends(`INSERT INTO t VALUES (0, 'x')`, "insert public.t nil→{id=0}")
	}
}

// A transaction may have any number of statements, and a statement any number of rows that are told of one by one: what a
// message leaves in the memory of the session until the commit is little.
func TestLeaveLittleInMemory(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, a int); CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)`)
	if w.version() < 14 {
		t.Skip("Postgres 13 does not tell how much memory a session has: no pg_backend_memory_contexts")
	}
	w.wanted.Tables = []triggers.Table{{Name: "t", Columns: []string{"a"}}, {Name: "p"}}
	w.install()
	exec(t, w.writer, `CREATE TABLE p_later PARTITION OF p DEFAULT`)
	for _, sql := range []string{
		`DO $$ BEGIN FOR i IN 1 .. 10000 LOOP INSERT INTO t VALUES (i, i); END LOOP; END $$`,
		`DO $$ BEGIN FOR i IN 1 .. 10000 LOOP UPDATE t SET a = 0 WHERE id = i; END LOOP; END $$`,
		`DO $$ BEGIN FOR i IN 1 .. 10000 LOOP UPDATE t SET a = i WHERE id IN (i, i + 1); END LOOP; END $$`,
		`DO $$ BEGIN FOR i IN 1 .. 10000 LOOP DELETE FROM t WHERE id = i; END LOOP; END $$`,
		`INSERT INTO p_later SELECT generate_series(1, 10000)`,
	} {
		exec(t, w.writer, `BEGIN`)
		exec(t, w.writer, sql)
		var bytes int
		if err := w.writer.QueryRow(t.Context(), `SELECT sum(total_bytes) FROM pg_backend_memory_contexts`).Scan(&bytes); err != nil {
			t.Fatal(err)
		}
		if bytes > 30<<20 {
			t.Errorf("%s: the session has %d MB in memory", sql, bytes>>20)
		}
		exec(t, w.writer, `COMMIT`)
	}
}

func TestNeedNoRightsOfTheWriter(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, a text, secret text)`, triggers.Table{Name: "t", Columns: []string{"a"}})
	role := "writer_" + w.writer.Config().Database
	exec(t, w.writer, fmt.Sprintf(`CREATE ROLE %s; GRANT INSERT, UPDATE (a), DELETE, TRUNCATE ON t TO %[1]s; GRANT SELECT (id) ON t TO %[1]s`, role))
	exec(t, w.writer, "SET ROLE "+role)
	w.sends(`INSERT INTO t VALUES (1, 'a', 's'), (2, 'a', 's')`, "insert public.t nil→{a=a id=1}", "insert public.t nil→{a=a id=2}")
	w.sends(`UPDATE t SET a = 'b' WHERE id = 1`, "update public.t {a=a id=1}→{a=b id=1}")
	w.sends(`DELETE FROM t WHERE id = 1`, "delete public.t {a=b id=1}→nil")
	w.sends(`TRUNCATE t`, "truncate public.t any row")
	if _, err := w.writer.Exec(t.Context(), `SELECT pgevict."public.t truncate"()`); err == nil {
		t.Error("anybody may call the functions")
	}
	exec(t, w.writer, `RESET ROLE`)
	if sent := w.payloads(`INSERT INTO t VALUES (5, 'a', 'not to be sent')`); slices.ContainsFunc(sent, func(s string) bool { return strings.Contains(s, "not to be") }) {
		t.Errorf("a column that no rule needs was sent: %q", sent)
	}
}

// A change of text is one, whatever the collation calls equal.
func TestSeeWhatACollationDoesNot(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE TABLE t (id int PRIMARY KEY, tags text[] COLLATE ci); INSERT INTO t VALUES (1, '{b}'), (2, '{b}')`,
		triggers.Table{Name: "t", Columns: []string{"tags"}, SkipUnchanged: true})
	w.sends(`UPDATE t SET tags = '{B}'`, "update public.t {id=1 tags={b}}→{id=1 tags={B}}", "update public.t {id=2 tags={b}}→{id=2 tags={B}}")
	w.sends(`UPDATE t SET tags = '{B}'`)
}

func TestAfterAUUIDBecameText(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, c uuid)`, triggers.Table{Name: "t", Columns: []string{"c"}})
	exec(t, w.writer, `ALTER TABLE t ALTER c TYPE text`)
	w.sends(`INSERT INTO t VALUES (1, 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11')`, "insert public.t any row")
}

func TestOfColumnsNamedAsAliases(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, x int, r int, o int, s int)`, triggers.Table{Name: "t", Columns: []string{"x", "r", "o", "s"}})
	w.sends(`INSERT INTO t VALUES (2, 1, 2, 3, 4)`, "insert public.t nil→{id=2 o=3 r=2 s=4 x=1}")
	w.sends(`INSERT INTO t VALUES (3, 1, 1, 1, 1), (4, 1, 1, 1, 1)`, "insert public.t nil→{id=3 o=1 r=1 s=1 x=1}", "insert public.t nil→{id=4 o=1 r=1 s=1 x=1}")
	w.sends(`UPDATE t SET x = 5 WHERE id < 4`, "update public.t {id=2 o=3 r=2 s=4 x=1}→{id=2 o=3 r=2 s=4 x=5}", "update public.t {id=3 o=1 r=1 s=1 x=1}→{id=3 o=1 r=1 s=1 x=5}")
}

// One row among many of which old and new do not fit into one message makes them "any row", soon.
func TestGiveUpOnALongRow(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 2000) i;
		UPDATE t SET a = repeat(E'line with "quote"\n', 195) WHERE id = 333`)
	w.wanted.MaxRows, w.wanted.Tables = 2000, []triggers.Table{{Name: "t", Columns: []string{"a"}}}
	w.columns["t"] = []string{"id", "a"}
	w.install()
	w.sends(`UPDATE t SET a = a || 'x'`, "update public.t any row")
}
