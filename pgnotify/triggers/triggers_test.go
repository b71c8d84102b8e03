package triggers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgevict/pgnotify"
	"pgevict/pgnotify/triggers"
)

func TestSendEachStatement(t *testing.T) {
	t.Parallel()
	w := wire(t, `
		CREATE TABLE owner (id int PRIMARY KEY);
		CREATE TABLE actions (id bigint PRIMARY KEY, owner int REFERENCES owner ON UPDATE CASCADE ON DELETE CASCADE, kind text, other int);
		CREATE VIEW first_actions AS SELECT id, owner, kind FROM actions WHERE id < 100;
		CREATE TABLE source (id bigint, kind text);
		INSERT INTO owner VALUES (1), (2), (3); INSERT INTO source VALUES (50, 'm'), (51, 'm')`,
		triggers.Table{Name: "actions", Columns: []string{"owner", "kind"}})
	const table = "public.actions "
	w.sends(`INSERT INTO actions VALUES (1, 1, 'a')`, "insert "+table+"nil→{id=1 kind=a owner=1}")
	w.sends(`INSERT INTO actions VALUES (2, 2, 'a "b" \ 中'), (3, NULL, NULL)`,
		"insert "+table+`nil→{id=2 kind=a "b" \ 中 owner=2}`, "insert "+table+"nil→{id=3 kind NULL owner NULL}")
	w.sends(`UPDATE actions SET kind = 'b' WHERE id = 1`, "update "+table+"{id=1 kind=a owner=1}→{id=1 kind=b owner=1}")
	w.sends(`UPDATE actions SET other = 5 WHERE id = 1`, "update "+table+"{id=1 kind=b owner=1}→{id=1 kind=b owner=1}")
	w.sends(`UPDATE actions SET kind = 'c', owner = 1 WHERE id > 1`,
		"update "+table+`{id=2 kind=a "b" \ 中 owner=2}→{id=2 kind=c owner=1}`, "update "+table+"{id=3 kind NULL owner NULL}→{id=3 kind=c owner=1}")
	// A row that changes its key is one that is gone and one that is there.
	w.sends(`UPDATE actions SET id = 10 WHERE id = 1`, "update "+table+"{id=1 kind=b owner=1}→nil", "update "+table+"nil→{id=10 kind=b owner=1}")
	w.sends(`UPDATE actions SET id = id + 1 WHERE id IN (3, 10)`, "update "+table+"{id=3 kind=c owner=1}→nil", "update "+table+"nil→{id=4 kind=c owner=1}",
		"update "+table+"{id=10 kind=b owner=1}→nil", "update "+table+"nil→{id=11 kind=b owner=1}")
	w.sends(`INSERT INTO actions VALUES (2, 1, 'd'), (20, 1, 'd') ON CONFLICT (id) DO UPDATE SET kind = excluded.kind`,
		"insert "+table+"nil→{id=20 kind=d owner=1}", "update "+table+"{id=2 kind=c owner=1}→{id=2 kind=d owner=1}")
	w.sends(`INSERT INTO actions VALUES (2, 1, 'x') ON CONFLICT DO NOTHING`)
	if w.version() < 15 { // has no MERGE
		exec(t, w.writer, `DELETE FROM actions WHERE id = 20; UPDATE actions SET kind = 'm' WHERE id = 2`)
		_ = w.payloads(`SELECT 1`)
	} else {
		w.sends(`MERGE INTO actions a USING (VALUES (2, 'm'), (30, 'm'), (20, NULL)) AS s (id, kind) ON a.id = s.id
			WHEN MATCHED AND s.kind IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET kind = s.kind WHEN NOT MATCHED THEN INSERT VALUES (s.id, 2, s.kind)`,
			"insert "+table+"nil→{id=30 kind=m owner=2}", "update "+table+"{id=2 kind=d owner=1}→{id=2 kind=m owner=1}", "delete "+table+"{id=20 kind=d owner=1}→nil")
	}
	w.sends(`INSERT INTO first_actions SELECT id, 3, kind FROM source`, "insert "+table+"nil→{id=50 kind=m owner=3}", "insert "+table+"nil→{id=51 kind=m owner=3}")
	w.sends(`UPDATE first_actions SET kind = 'v' WHERE id = 50`, "update "+table+"{id=50 kind=m owner=3}→{id=50 kind=v owner=3}")
	w.sends(`UPDATE owner SET id = 4 WHERE id = 3`, "update "+table+"{id=50 kind=v owner=3}→{id=50 kind=v owner=4}", "update "+table+"{id=51 kind=m owner=3}→{id=51 kind=m owner=4}")
	w.sends(`DELETE FROM owner WHERE id = 4`, "delete "+table+"{id=50 kind=v owner=4}→nil", "delete "+table+"{id=51 kind=m owner=4}→nil")
	w.sends(`UPDATE actions SET kind = 'x' WHERE id = 999`)
	w.sends(`DELETE FROM actions WHERE id = 999`)
	w.sends(`WITH gone AS (DELETE FROM actions WHERE id IN (2, 4) RETURNING *) INSERT INTO actions SELECT id + 60, owner, kind FROM gone`,
		"delete "+table+"{id=2 kind=m owner=1}→nil", "delete "+table+"{id=4 kind=c owner=1}→nil",
		"insert "+table+"nil→{id=62 kind=m owner=1}", "insert "+table+"nil→{id=64 kind=c owner=1}")
	if _, err := w.writer.PgConn().CopyFrom(t.Context(), strings.NewReader("70\t1\tcopy\n71\t2\t\\N\n"), `COPY actions (id, owner, kind) FROM STDIN`); err != nil {
		t.Fatal(err)
	}
	w.sends(`SELECT 1`, "insert "+table+"nil→{id=70 kind=copy owner=1}", "insert "+table+"nil→{id=71 kind NULL owner=2}")
	w.sends(`BEGIN; INSERT INTO actions VALUES (80, 1, 'r'); ROLLBACK`)
	w.sends(`TRUNCATE actions`, "truncate public.actions any row")
	w.sends(`INSERT INTO source VALUES (1, 'nobody watches this')`)
}

func TestSendQuietTablesOnlyWhenTheyChange(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, a text, doc jsonb, other int); INSERT INTO t SELECT i, 'a', '{"x": 1}' FROM generate_series(1, 5) i`,
		triggers.Table{Name: "t", Columns: []string{"a", "doc"}, SkipUnchanged: true})
	long := strings.Repeat("x", 8000)
	w.sends(`UPDATE t SET other = 1 WHERE id = 1`)
	w.sends(`UPDATE t SET other = 2, doc = doc || '{}'`)
	w.sends(`UPDATE t SET doc = '{"x": 2}' WHERE id = 1`, "update public.t {a=a id=1}→{a=a id=1}")
	if got := w.rows(`UPDATE t SET a = CASE id WHEN 3 THEN 'b' ELSE a END`); !slices.Contains(got, "update public.t {a=a id=3}→{a=b id=3}") {
		t.Errorf("one of five rows changed, and what was sent is %q", got)
	}
	w.sends(fmt.Sprintf(`UPDATE t SET a = '%s1' WHERE id = 1`, long), "update public.t {a=a id=1}→{id=1}")
	w.sends(`UPDATE t SET other = 3 WHERE id = 1`)
	w.sends(fmt.Sprintf(`UPDATE t SET a = '%s2' WHERE id = 1`, long), "update public.t {id=1}→{id=1}")
	w.sends(`UPDATE t SET a = NULL WHERE id = 2`, "update public.t {a=a id=2}→{a NULL id=2}")
	w.sends(`UPDATE t SET a = NULL WHERE id = 2`)
}

// The same for a table of which no text depends on settings, so that its triggers do not fix them.
func TestOfAnotherSearchPath(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, a text, u uuid, b bool, doc jsonb); `, triggers.Table{Name: "t", Columns: []string{"a", "u", "b", "doc"}, SkipUnchanged: true})
	exec(t, w.writer, `CREATE SCHEMA evil;
		CREATE FUNCTION evil.to_json(text) RETURNS json LANGUAGE sql AS 'SELECT ''"evil"''::json';
		CREATE FUNCTION evil.cat(text, text) RETURNS text LANGUAGE sql AS 'SELECT ''evil''';
		CREATE FUNCTION evil.either(int, int) RETURNS int LANGUAGE sql AS 'SELECT 666';
		CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.cat);
		CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.texteq);
		CREATE OPERATOR evil.& (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.either);
		CREATE OPERATOR evil.> (LEFTARG = int, RIGHTARG = int, FUNCTION = pg_catalog.int4le);
		CREATE FUNCTION evil.octet_length(text) RETURNS int LANGUAGE sql AS 'SELECT 9999';
		CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE sql AS '';
		CREATE DOMAIN evil.text AS pg_catalog.text CHECK (false);
		CREATE TABLE evil.pgevict_rows (id int); CREATE TABLE evil.pgevict_old (id int);
		SET search_path = evil, pg_catalog, public`)
	const u = "550e8400-e29b-41d4-a716-446655440000"
	w.sends(`INSERT INTO t VALUES (1, 'a', '`+u+`', true, '1')`, "insert public.t nil→{a=a b=true id=1 u="+u+"}")
	w.sends(`INSERT INTO t VALUES (2, 'b', NULL, false, '1'), (3, NULL, NULL, NULL, NULL)`, "insert public.t nil→{a=b b=false id=2 u NULL}", "insert public.t nil→{a NULL b NULL doc NULL id=3 u NULL}")
	w.sends(`UPDATE t SET a = 'c' WHERE id = 1`, "update public.t {a=a b=true id=1 u="+u+"}→{a=c b=true id=1 u="+u+"}")
	w.sends(`UPDATE t SET a = a`)
	w.sends(`UPDATE t SET a = a WHERE id = 1`)
	w.sends(`UPDATE t SET doc = '2' WHERE id = 2`, "update public.t {a=b b=false id=2 u NULL}→{a=b b=false id=2 u NULL}")
	w.sends(`DELETE FROM t WHERE id IN (2, 3)`, "delete public.t {a=b b=false id=2 u NULL}→nil", "delete public.t {a NULL b NULL doc NULL id=3 u NULL}→nil")
	w.sends(`TRUNCATE t`, "truncate public.t any row")
}

func TestTextIsThatOfFixedSettings(t *testing.T) {
	t.Parallel()
	w := wire(t, `
		CREATE TYPE mood AS ENUM ('a "b"', 'sad'); CREATE DOMAIN moment AS timestamptz; CREATE DOMAIN positive AS int CHECK (VALUE > 0);
		CREATE TYPE pair AS (a int, b timestamptz);
		CREATE TABLE "Odd, ""Table" ("The Key" moment, at timestamptz, plain timestamp, "day" date, span interval, raw bytea, f4 float4, f8 float8, price money,
			tags text[], whens timestamptz[], m mood, n positive, during tstzrange, p pair, flag bool, num numeric, made int GENERATED ALWAYS AS (1 + 1) STORED,
			uid uuid, fixed char(5), reg regclass, "step" int, "r" int, "o" int, "messages" text, x1 text, nothing text, PRIMARY KEY ("The Key", m));`,
		triggers.Table{Schema: "public", Name: `Odd, "Table`, Columns: []string{"at", "plain", "day", "span", "raw", "f4", "f8", "price", "tags", "whens", "n", "during", "p", "flag",
			"num", "made", "uid", "fixed", "reg", "step", "r", "o", "messages", "x1", "nothing"}})
	const insert = `INSERT INTO "Odd, ""Table" SELECT t, t, t, '2024-02-29', '1 year 2 days 03:04:05', '\x00ff41', 0.1, 1e100::float8 / 3, 12.5::numeric::money,
		ARRAY['a', 'b "c"', NULL], ARRAY[t], 'a "b"', 7, tstzrange(t, NULL), ROW(1, t)::pair, true, 1.50, DEFAULT_, '550E8400-e29b-41d4-a716-446655440000', 'ab',
		'pg_class', 1, 2, 3, 'it''s', E'\b\f\n\r\t\x01"\\/\x7f', NULL FROM (SELECT '2024-02-29 12:30:00.5+00'::timestamptz + i * interval '1 day' AS t FROM generate_series(1, COUNT_) i) g`
	hostile := `SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Taipei'; SET IntervalStyle = 'sql_standard'; SET bytea_output = 'escape'; SET extra_float_digits = -10;
		CREATE SCHEMA evil;
		CREATE FUNCTION evil.to_json(text) RETURNS json LANGUAGE sql AS 'SELECT ''"evil"''::json';
		CREATE FUNCTION evil.cat(text, text) RETURNS text LANGUAGE sql AS 'SELECT ''evil''';
		CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.cat);
		CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.texteq);
		CREATE FUNCTION evil.octet_length(text) RETURNS int LANGUAGE sql AS 'SELECT 9999';
		CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE sql AS '';
		CREATE DOMAIN evil.text AS pg_catalog.text CHECK (false);
		CREATE TABLE evil.pgevict_rows (id int);
		SET search_path = evil, pg_catalog, public`
	exec(t, w.writer, hostile)
	names := `made, "The Key", at, plain, "day", span, raw, f4, f8, price, tags, whens, m, n, during, p, flag, num, uid, fixed, reg, "step", "r", "o", messages, x1, nothing`
	sql := strings.NewReplacer(`INTO "Odd, ""Table"`, `INTO "Odd, ""Table" ("The Key", at, plain, "day", span, raw, f4, f8, price, tags, whens, m, n, during, p, flag, num, uid, fixed, reg, "step", "r", "o", messages, x1, nothing)`,
		" DEFAULT_,", "").Replace(insert)
	d := catalog(t, w.ears, columns{`public.Odd, "Table`: strings.Split("at plain day span raw f4 f8 price tags whens n during p flag num made uid fixed reg step r o messages x1 nothing", " ")})
	for _, count := range []string{"1", "3"} {
		exec(t, w.writer, `TRUNCATE "Odd, ""Table"`)
		for _, statement := range []string{strings.ReplaceAll(sql, "COUNT_", count), `UPDATE "Odd, ""Table" SET n = 8`} {
			var got []string
			for _, payload := range w.payloads(statement) {
				changes, _, err := d.Decode(pgnotify.Events, payload)
				if strings.Contains(payload, "TRUNCATE") {
					continue
				}
				if err != nil || len(changes) != 1 || len(changes[0].Rows) == 0 {
					t.Fatalf("%s: %v, %v", payload, changes, err)
				}
				for _, r := range changes[0].Rows {
					got = append(got, sorted(r.New))
				}
			}
			var want []string
			for _, row := range query(t, w, names) {
				want = append(want, sorted(row))
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s rows: sent\n%q, want\n%q", count, got, want)
			}
		}
	}
}

// query reads the rows of the odd table as column::text has them under fixed settings, without the key's column, of
// which the name has a blank.
func query(t *testing.T, w *wired, names string) (images []pgnotify.Image) {
	t.Helper()
	exec(t, w.ears, `SET DateStyle = ISO; SET TimeZone = 'UTC'; SET IntervalStyle = postgres; SET bytea_output = hex; SET extra_float_digits = 1; SET lc_monetary = 'C'; SET search_path = pg_catalog`)
	var list []string
	for name := range strings.SplitSeq(names, ", ") {
		if name != `"The Key"` && name != "m" {
			list = append(list, name)
		}
	}
	for i, name := range list {
		list[i] = name + "::text"
	}
	rows, err := w.ears.Query(t.Context(), `SELECT `+strings.Join(list, ", ")+` FROM public."Odd, ""Table"`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		var image pgnotify.Image
		for i, v := range values {
			c := pgnotify.Column{Name: strings.Trim(strings.TrimSuffix(list[i], "::text"), `"`), Null: v == nil}
			if v != nil {
				c.Text = v.(string)
			}
			image = append(image, c)
		}
		images = append(images, image)
	}
	return images
}
