package sidecar

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgevict/internal/history"
	"pgevict/internal/livetest"
	"pgevict/pgnotify"
	"pgevict/pgnotify/triggers"
	"pgevict/rules"
)

// TestTriggersTellOfEveryStaleKey runs random statements over random tables. After each, the keys that the rules make of
// what pgevict's triggers sent must be those of the rows that the statement touched, as they were and as they are: none
// less, and, where the rows can be named, none more.
func TestTriggersTellOfEveryStaleKey(t *testing.T) {
	t.Parallel()
	tables, statements := 16, 25
	if testing.Short() {
		tables, statements = 6, 10
	}
	url := livetest.Database(t)
	exact := 0
	for seed := range tables {
		r := &randomTable{T: t, Rand: rand.New(rand.NewPCG(7, uint64(seed))), name: fmt.Sprintf("t%d", seed)}
		r.make(url)
		for range statements {
			if r.step() {
				exact++
			}
		}
		r.close()
	}
	if all := tables * statements; exact < all/3 {
		t.Errorf("of %d statements only %d were told of row by row", all, exact)
	}
}

// randomTable is a table of random shape, and the connections of a writer and of a listener.
type randomTable struct {
	*testing.T
	*rand.Rand
	name         string
	key          string // the type of the column k
	composite    bool
	parts        []string
	late         bool // the last of them came after the triggers
	set          *rules.Set
	writer, ears *pgx.Conn
	decoder      pgnotify.Decoder
	fresh        int
}

const propertyBound = 30 // rows of a statement that are sent

var keyTypes = map[string]string{ // with an expression that makes a value of a number
	"int": "%d", "bigint": "9007199254740993 + %d", "text": `'k "%d" \ *'`, "uuid": "md5('%d')::uuid", "numeric": "%d.50",
	"timestamptz": "'2024-01-01 00:00:00Z'::timestamptz + %d * interval '1 hour 1 microsecond'", "bytea": `'\xff00'::bytea || '%d'::bytea`, "float8": "%d / 7.0::float8",
	"date": "'2024-02-28'::date + %d", "interval": "%d * interval '1 day 1 second'", "int[]": "ARRAY[%d, 1]",
}

func (r *randomTable) make(url string) {
	types := slices.Sorted(maps.Keys(keyTypes))
	r.key = types[r.IntN(len(types))]
	r.composite = r.IntN(2) == 0
	partitioned := r.IntN(3) == 0
	quoted := pgx.Identifier{r.name}.Sanitize()
	sql := fmt.Sprintf(`CREATE TABLE %s (k %s, "K 2" int DEFAULT 1, a text, b int, c timestamptz, noise text, gen int GENERATED ALWAYS AS (b + 1) STORED, PRIMARY KEY (k%s))`,
		quoted, r.key, map[bool]string{true: `, "K 2"`}[r.composite])
	if partitioned {
		sql += " PARTITION BY HASH (k)"
		for i := range 3 {
			r.parts = append(r.parts, fmt.Sprintf("%s_%d", r.name, i))
			sql += fmt.Sprintf("; CREATE TABLE %s_%d PARTITION OF %[1]s FOR VALUES WITH (MODULUS 3, REMAINDER %[2]d)", r.name, i)
		}
	}
	var err error
	r.set, err = rules.Parse("rules.yaml", []byte(fmt.Sprintf(`rules:
  - {name: one, table: %s, keys: ["a:{k}:{K 2}", "b:{b}:{a}", "c:{c}:{gen}"]}
  - {name: two, table: %[1]s, changed: [b], keys: ["q:{a}:{k}"]}
  - {name: three, table: %[1]s, on: [delete, truncate], keys: ["d:{k}"]}
`, r.name)))
	if err != nil {
		r.Fatal(err)
	}
	r.writer, r.ears = r.connect(url), r.connect(url)
	r.late = len(r.parts) > 0 && r.IntN(2) == 0
	if r.late {
		cut := strings.LastIndex(sql, ";")
		defer r.exec(r.writer, sql[cut+1:])
		sql = sql[:cut]
	}
	r.exec(r.writer, sql)
	columns, _ := r.set.Columns("", r.name)
	wanted := triggers.Wanted{Tables: []triggers.Table{{Name: r.name, Columns: columns, SkipUnchanged: r.set.OnlyChanged("", r.name)}}, Channel: "events", MaxRows: propertyBound}
	if _, err := wanted.Install(r.Context(), r.ears.PgConn(), time.Minute); err != nil {
		r.Fatal(err)
	}
	catalog, err := pgnotify.LoadCatalog(r.Context(), r.ears.PgConn(), []string{r.name}, r.set.Columns)
	if err != nil {
		r.Fatal(err)
	}
	r.decoder = pgnotify.Decoder{Columns: r.set.Columns, Catalog: catalog}
	r.exec(r.ears, "LISTEN events")
}

func (r *randomTable) connect(url string) *pgx.Conn {
	conn, err := pgx.Connect(r.Context(), url)
	if err != nil {
		r.Fatal(err)
	}
	return conn
}

func (r *randomTable) close() {
	r.exec(r.writer, `DROP TABLE `+r.name)
	_ = r.writer.Close(r.Context())
	_ = r.ears.Close(r.Context())
}

func (r *randomTable) exec(conn *pgx.Conn, sql string) {
	r.Helper()
	if _, err := conn.Exec(r.Context(), sql); err != nil {
		r.Fatalf("%s: %v", sql, err)
	}
}

// row is a row by where it is, and its columns' texts.
type row struct {
	place, writer string
	column        map[string]*string
}

const fixedSettings = `SET LOCAL DateStyle = ISO; SET LOCAL TimeZone = 'UTC'; SET LOCAL IntervalStyle = postgres; SET LOCAL bytea_output = hex; SET LOCAL extra_float_digits = 1`
const oddSettings = `SET LOCAL DateStyle = 'German'; SET LOCAL TimeZone = 'Asia/Kathmandu'; SET LOCAL IntervalStyle = iso_8601; SET LOCAL bytea_output = escape; SET LOCAL extra_float_digits = -5`

// rows reads the whole table, as it is in the writer's transaction.
func (r *randomTable) rows() (all []row) {
	r.exec(r.writer, fixedSettings)
	rows, err := r.writer.Query(r.Context(), `SELECT tableoid::text || ctid::text, xmin::text, json_build_object('k', k::text, 'K 2', "K 2"::text, 'a', a, 'b', b::text,
		'c', c::text, 'gen', gen::text)::text FROM `+r.name)
	if err != nil {
		r.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var one row
		var text string
		if err := rows.Scan(&one.place, &one.writer, &text); err != nil {
			r.Fatal(err)
		}
		if err := json.Unmarshal([]byte(text), &one.column); err != nil {
			r.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}

// step runs one statement, and reports whether its rows were told one by one.
func (r *randomTable) step() (exact bool) {
	r.exec(r.writer, "BEGIN")
	before := r.rows()
	r.exec(r.writer, oddSettings)
	sql := r.statement()
	r.exec(r.writer, sql)
	after := r.rows()
	var me string
	if err := r.writer.QueryRow(r.Context(), `SELECT (pg_current_xact_id()::text::bigint % 4294967296)::text`).Scan(&me); err != nil {
		r.Fatal(err)
	}
	r.exec(r.writer, "NOTIFY events, 'end'; COMMIT")
	old := slices.DeleteFunc(before, func(was row) bool {
		return slices.ContainsFunc(after, func(is row) bool { return is.place == was.place })
	})
	now := slices.DeleteFunc(after, func(is row) bool { return is.writer != me })
	want := r.stale(old, now, strings.HasPrefix(sql, "DELETE") || strings.HasPrefix(sql, "TRUNCATE"))

	keys, patterns := map[string]bool{}, map[string]bool{}
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	for {
		n, err := r.ears.WaitForNotification(ctx)
		if err != nil {
			r.Fatalf("%s: %v", sql, err)
		}
		if n.Payload == "end" {
			break
		}
		changes, _, err := r.decoder.Decode(pgnotify.Events, n.Payload)
		if err != nil {
			r.Errorf("%s sent %s: %v", sql, n.Payload, err)
		}
		for _, c := range changes {
			for _, target := range history.Explain(r.set, c).Targets {
				if target.Kind == "key" {
					keys[target.Key] = true
				} else {
					patterns[target.Key] = true
				}
			}
		}
	}
	for key := range want {
		covered := keys[key]
		for p := range patterns {
			literal, _, _ := strings.Cut(p, "*")
			covered = covered || strings.HasPrefix(key, literal)
		}
		if !covered {
			r.Errorf("table %s, key %s, partitions %v: %.300s\nleaves %q stale: keys %.600q, patterns %q", r.name, r.key, r.parts, sql, key, slices.Sorted(maps.Keys(keys)), slices.Sorted(maps.Keys(patterns)))
		}
	}
	moved := r.late && strings.Contains(sql, " SET k = ") // from or to the late partition: that is a DELETE and an INSERT there
	nameable := max(len(old), len(now)) <= propertyBound && !strings.HasPrefix(sql, "TRUNCATE") && !moved &&
		!slices.ContainsFunc(append(old, now...), func(one row) bool { a := one.column["a"]; return a != nil && len(*a) > 500 })
	if nameable {
		for key := range keys {
			if !want[key] {
				r.Errorf("table %s: %.300s\ndeletes %q, which is not stale", r.name, sql, key)
			}
		}
		if len(patterns) > 0 {
			r.Errorf("table %s: %.300s\nwidens to %q", r.name, sql, slices.Sorted(maps.Keys(patterns)))
		}
	}
	return nameable && len(old)+len(now) > 0
}

// stale returns the keys that the rules' words make of the rows that were touched.
func (r *randomTable) stale(old, now []row, gone bool) map[string]bool {
	keys := map[string]bool{}
	add := func(one row, prefix string, columns ...string) {
		for i, name := range columns {
			v := one.column[name]
			if v == nil {
				return
			}
			prefix += *v
			if i < len(columns)-1 {
				prefix += ":"
			}
		}
		keys[prefix] = true
	}
	identity := func(one row) string {
		id := *one.column["k"]
		if r.composite {
			id += "\x00" + *one.column["K 2"]
		}
		return id
	}
	same := func(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
	for i, side := range [][]row{old, now} {
		other := [][]row{now, old}[i]
		for _, one := range side {
			add(one, "a:", "k", "K 2")
			add(one, "b:", "b", "a")
			add(one, "c:", "c", "gen")
			twin := slices.IndexFunc(other, func(o row) bool { return identity(o) == identity(one) })
			if twin < 0 || !same(other[twin].column["b"], one.column["b"]) {
				add(one, "q:", "a", "k")
			}
			if gone {
				add(one, "d:", "k")
			}
		}
	}
	return keys
}

// value returns an expression for a key that was not there before.
func (r *randomTable) value() string {
	r.fresh++
	return fmt.Sprintf(keyTypes[r.key], r.fresh)
}

var someTexts = []string{"NULL", "''", "'x'", `'a "b" \ *'`, `E'\n\t\x01'`, "'中文:{}'", "'?[]^'", "repeat('long', 2000)"}

func (r *randomTable) text() string {
	n := len(someTexts) - 1
	if r.IntN(12) == 0 {
		n++
	}
	return someTexts[r.IntN(n)]
}

func (r *randomTable) number() string { return []string{"NULL", "1", "2", "3"}[r.IntN(4)] }

func (r *randomTable) time() string {
	return []string{"NULL", "'2024-02-29 23:59:59.5Z'", "'infinity'", "'2024-07-01 12:00:00+02'"}[r.IntN(4)]
}

// statement makes a statement.
func (r *randomTable) statement() string {
	where := []string{"", " WHERE b = " + []string{"1", "2"}[r.IntN(2)], " WHERE k = " + fmt.Sprintf(keyTypes[r.key], r.IntN(r.fresh+1)), " WHERE a IS NULL", " WHERE b > 1 AND random() < 0.5"}[r.IntN(5)]
	table := r.name
	if len(r.parts) > 0 && r.IntN(3) == 0 {
		table = r.parts[r.IntN(len(r.parts))]
	}
	switch r.IntN(9) {
	case 0, 1, 2:
		var rows []string
		seen := r.fresh
		for range []int{1, 1, 2, 7, propertyBound + 5}[r.IntN(5)] {
			rows = append(rows, fmt.Sprintf("(%s, %d, %s, %s, %s::timestamptz)", r.value(), r.IntN(3), r.text(), r.number(), r.time()))
		}
		var conflict string
		if r.IntN(2) == 0 && seen > 3 {
			rows[0] = fmt.Sprintf("(%s, 1, %s, %s, %s::timestamptz)", fmt.Sprintf(keyTypes[r.key], r.IntN(seen)), r.text(), r.number(), r.time())
		}
		if target := map[bool]string{true: `(k, "K 2")`, false: "(k)"}[r.composite]; r.IntN(3) > 0 {
			conflict = " ON CONFLICT " + target + " DO UPDATE SET a = excluded.a, b = " + r.number()
		} else {
			conflict = " ON CONFLICT DO NOTHING"
		}
		return `INSERT INTO ` + r.name + ` (k, "K 2", a, b, c) VALUES ` + strings.Join(rows, ", ") + conflict
	case 3, 4:
		return "UPDATE " + table + " SET a = " + r.text() + ", c = " + r.time() + where
	case 5:
		return "UPDATE " + table + " SET " + []string{"noise = 'n'", "b = " + r.number(), "b = b + 1", `c = c + interval '1 day'`}[r.IntN(4)] + where
	case 6: // a key that was not there before, perhaps in another partition
		return fmt.Sprintf("UPDATE %s SET k = %s, b = %s WHERE (k, \"K 2\") = (SELECT k, \"K 2\" FROM %[1]s ORDER BY random() LIMIT 1)", r.name, r.value(), r.number())
	case 7:
		return "DELETE FROM " + table + where
	}
	if r.IntN(4) > 0 {
		return "UPDATE " + table + " SET noise = 'm', a = " + r.text() + where
	}
	if r.late { // a TRUNCATE straight at the late partition is what nobody hears of
		table = r.name
	}
	return "TRUNCATE " + table
}
