package triggers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgevict/pgnotify/triggers"
)

// Statements over many rows, of which some change in one column, some in another, and some not at all.
func TestSendManyRowsExactly(t *testing.T) {
	t.Parallel()
	for form, rows := range map[string]int{"rows": 1000, "columns": 1500} {
		t.Run(form, func(t *testing.T) { sendManyRows(t, rows) })
	}
}

func sendManyRows(t *testing.T, rows int) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, a text, "b, %s ""b""" int, n numeric, other int)`)
	w.wanted.MaxRows, w.wanted.Tables = rows, []triggers.Table{{Name: "t", Columns: []string{"a", `b, %s "b"`, "n"}}}
	w.columns["t"] = []string{"id", "a", `b, %s "b"`, "n"}
	w.install()
	images := func(where string) (images []string) {
		t.Helper()
		read, err := w.ears.Query(t.Context(), `SELECT format('{a%s b, %%s "b"%s id=%s n%s}', coalesce('=' || a, ' NULL'), coalesce('=' || "b, %s ""b"""::text, ' NULL'), id, coalesce('=' || n::text, ' NULL'))
			FROM t WHERE `+where+` ORDER BY id`)
		if err != nil {
			t.Fatal(err)
		}
		defer read.Close()
		for read.Next() {
			var image string
			if err := read.Scan(&image); err != nil {
				t.Fatal(err)
			}
			images = append(images, image)
		}
		return images
	}
	line := func(was, is string) string { return "update public.t " + was + "→" + is }
	exec(t, w.writer, fmt.Sprintf(`CREATE TABLE source AS SELECT i AS id, CASE i %% 3 WHEN 0 THEN 'x "y" \ 中' || i WHEN 1 THEN '' END AS a, CASE i %% 7 WHEN 0 THEN i END AS b, CASE i %% 2 WHEN 0 THEN 1.0 END AS n
		FROM generate_series(1, %d) i`, rows))
	if got := w.rows(`INSERT INTO t SELECT * FROM source`); len(got) != rows || !slices.Equal(got, sortedLines("insert", nil, images("true"))) {
		t.Errorf("an insert sent %d rows: %.300q", len(got), got)
	}
	for _, set := range []string{
		"other = 1", "a = a", "a = 'z'", "a = NULL", `"b, %s ""b""" = CASE WHEN id % 500 = 0 THEN 5 ELSE "b, %s ""b""" END`, "n = n * 1.0", "n = 7, a = id::text", "a = 'z', n = n", "a = NULLIF(a, id::text), n = NULLIF(n, 7)", "n = CASE WHEN id = 700 THEN 8 ELSE 7 END, a = id::text", "a = NULLIF(a, '500'), n = n + 0.00",
	} {
		before := images("true")
		got := w.rows(`UPDATE t SET ` + set)
		var want []string
		for i, is := range images("true") {
			want = append(want, line(before[i], is))
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("SET %s sent\n%.500q, want\n%.500q", set, got, want)
		}
	}
	// Keys that change in some rows only.
	stay, before := images("id <= 900"), images("id > 900")
	got := w.rows(`UPDATE t SET id = CASE WHEN id > 900 THEN id + 1000 ELSE id END`)
	var want []string
	for _, same := range stay {
		want = append(want, line(same, same))
	}
	for i, is := range images("id > 900") {
		want = append(want, line(before[i], "nil"), line("nil", is))
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("keys that change in some rows: %.500q, want\n%.500q", got, want)
	}
	want = sortedLines("delete", images("true"), nil)
	if got := w.rows(`DELETE FROM t`); !slices.Equal(got, want) {
		t.Errorf("a delete sent %d rows, want %d: %.300q", len(got), len(want), got)
	}
}

func sortedLines(op string, old, now []string) (lines []string) {
	for _, is := range now {
		lines = append(lines, op+" public.t nil→"+is)
	}
	for _, was := range old {
		lines = append(lines, op+" public.t "+was+"→nil")
	}
	slices.Sort(lines)
	return lines
}

// Messages are cut between rows whatever their number and length, and the settings of the writer stay as they were.
func TestCutManyRows(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, a text)`, triggers.Table{Name: "t", Columns: []string{"a"}})
	w.wanted.MaxRows = 1500
	w.install()
	for _, n := range []int{2, 3, 50, 51, 101, 777, 1500} {
		// Lengths that grow, so that what the first rows tell is wrong, and characters that JSON writes longer.
		got := w.rows(fmt.Sprintf(`INSERT INTO t SELECT i, repeat('"', i %% 61) || repeat('x', i / 100) FROM generate_series(1, %d) i`, n))
		if len(got) != n {
			t.Errorf("an insert of %d rows sent %d", n, len(got))
		}
		for _, set := range []string{"a = a", "a = a || 'y'", "a = CASE WHEN id % 50 = 0 THEN repeat('z', 3500) ELSE a END"} {
			if got := w.rows(`UPDATE t SET ` + set); len(got) != n {
				t.Errorf("an update of %d rows, SET %s, sent %d: %.300q", n, set, len(got), got)
			}
		}
		if got := w.rows(`DELETE FROM t`); len(got) != n {
			t.Errorf("a delete of %d rows sent %d", n, len(got))
		}
	}
	exec(t, w.writer, `SET search_path = public, "odd, path"; SET jit = on; SET plan_cache_mode = force_custom_plan`)
	for _, statement := range []string{`INSERT INTO t SELECT i, 'a' FROM generate_series(1, 10) i`, `UPDATE t SET a = 'b'`, `INSERT INTO t SELECT i, 'a' FROM generate_series(11, 1400) i`, `DELETE FROM t`} {
		exec(t, w.writer, `BEGIN; SET LOCAL work_mem = '1MB'`)
		exec(t, w.writer, statement)
		var path, jit, plans string
		err := w.writer.QueryRow(t.Context(), `SELECT current_setting('search_path'), current_setting('jit'), current_setting('plan_cache_mode')`).Scan(&path, &jit, &plans)
		if err != nil || path != `public, "odd, path"` || jit != "on" || plans != "force_custom_plan" {
			t.Errorf("after %s, search_path is %s, jit %s and plan_cache_mode %s: %v", statement, path, jit, plans, err)
		}
		exec(t, w.writer, `COMMIT`)
	}
	_ = w.payloads(`SELECT 1`)
	// Rows come as rows up to a thousand, and column by column beyond.
	for n, columns := range map[int]bool{2: false, 1000: false, 1001: true, 1500: true} {
		for _, p := range w.payloads(fmt.Sprintf(`INSERT INTO t SELECT i, 'a' FROM generate_series(10001, %d) i`, 10000+n)) {
			if strings.Contains(p, `"columns":{`) != columns || strings.Contains(p, `"data":[{"id":`) == columns {
				t.Errorf("of %d rows a message begins %.100q", n, p)
			}
		}
		for _, p := range w.payloads(`UPDATE t SET a = 'b'`) {
			if strings.Contains(p, `"columns":{`) != columns || strings.Contains(p, `"old":[{"id":`) == columns {
				t.Errorf("of %d rows a message begins %.100q", n, p)
			}
		}
		_ = w.payloads(`DELETE FROM t`)
	}
}

// One value that all rows have is sent once, also if it is all that there is; and columns may have the names of variables.
func TestSendOneValueOnce(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (path text, done int)`)
	w.wanted.MaxRows, w.wanted.Tables = 2000, []triggers.Table{{Name: "t", Columns: []string{"path"}}}
	w.columns["t"] = []string{"path"}
	w.install()
	for _, step := range []struct {
		statement, payload string // how the payload goes on after "pinned"
		rows               []string
	}{
		{`INSERT INTO t SELECT 'a', i FROM generate_series(1, 1200) i`, `"columns":{"path":["a"]}}`, []string{"insert public.t nil→{path=a}"}},
		{`UPDATE t SET done = done + 1`, `"changed":[],"columns":{"path":["a"]},"old_columns":{}}`, []string{"update public.t {path=a}→{path=a}"}},
		{`UPDATE t SET path = CASE WHEN done % 2 = 0 THEN 'b' END`, `"changed":["path"],"columns":{"path":["b",null,`, []string{"update public.t {path=a}→{path NULL}", "update public.t {path=a}→{path=b}"}},
		{`UPDATE t SET path = NULL`, `"changed":["path"],"columns":{"path":[null]},"old_columns":{"path":["b",null,`, []string{"update public.t {path NULL}→{path NULL}", "update public.t {path=b}→{path NULL}"}},
		{`DELETE FROM t`, `"columns":{"path":[null]}}`, []string{"delete public.t {path NULL}→nil"}},
	} {
		payloads := w.payloads(step.statement)
		if rows := w.read(step.statement, payloads); !slices.Equal(rows, step.rows) {
			t.Errorf("%s sent %.500q", step.statement, rows)
		}
		for _, p := range payloads {
			if _, rest, _ := strings.Cut(p, `"pinned":true,`); !strings.HasPrefix(rest, step.payload) {
				t.Errorf("%s sent %.200s", step.statement, p)
			}
		}
	}
}
