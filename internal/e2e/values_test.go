package e2e_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgevict/internal/livetest"
)

// texts are values of text columns that something between Postgres and Redis could take for something else. Every
// second one is written; the others are near misses.
var texts = []string{
	"9007199254740993", "9007199254740992", "814150981284533461", "8.14150981284533461e17", "O'Brien", "O''Brien", "'", "''", `"`, `""`,
	`a"b''c`, `a"b'c`, "line1\nline2", `line1\nline2`, "x\r\nFLUSHALL\r\n", "x", "\t", " ", "\x01\x7f", "\x01", "{id}", "id", "{{k}}", "{k}", "}", "{",
	"*", "**", "?", "??", "[a-z]", "a", "[^a]", "^a", `\`, `\\`, `\*`, `\\*`, `a*b?c[d]e\f^`, "aXbYcdef", "ключ", "КЛЮЧ", "鍵值", "鍵", "☃ 😀 e\u0301", "☃ 😀 é",
	"\u2028", "\u2029", " lead", "lead", "trail ", "trail", "", "null", "<&>", "&lt;&amp;&gt;", "true", "t", "%s$1", "%s", `','`, `,`, `\u0041`, "A", "\ufeffx", "\u200bx",
	"pgevict:position:x", ":", "a:b:c", "a:b", strings.Repeat("長", 800), strings.Repeat("長", 799), "\x1b[0m", "[0m",
}

// keysOf lists all keys but those of the sidecar itself.
func (w *world) keysOf() map[string]bool {
	w.Helper()
	keys, err := w.cache.Keys(w.Context(), "*").Result()
	if err != nil {
		w.Fatal(err)
	}
	set := map[string]bool{}
	for _, key := range keys {
		if !strings.HasPrefix(key, "pgevict:position:") {
			set[key] = true
		}
	}
	return set
}

// vanish does something to a Redis that holds just the keys, and wants exactly the given ones of them to vanish.
func (w *world) vanish(p *program, what string, keys []string, do func(), gone ...string) {
	w.Helper()
	if before := slices.Collect(maps.Keys(w.keysOf())); len(before) > 0 {
		if err := w.cache.Del(w.Context(), before...).Err(); err != nil {
			w.Fatal(err)
		}
	}
	w.set(keys...)
	do()
	w.rest(p)
	want := map[string]bool{}
	for _, key := range keys {
		want[key] = true
	}
	for _, key := range gone {
		if !want[key] {
			w.Errorf("%s: %.60q was not there before", what, key)
		}
		delete(want, key)
	}
	have := w.keysOf()
	for key := range have {
		if !want[key] {
			w.Errorf("%s: %.60q is still there", what, key)
		}
	}
	for key := range want {
		if !have[key] {
			w.Errorf("%s: %.60q is gone", what, key)
		}
	}
}

func prefixed(prefix string, texts []string) []string {
	var keys []string
	for _, text := range texts {
		keys = append(keys, prefix+text)
	}
	return keys
}

// TestTextsAreExact writes rows whose keys are hard to quote, through both triggers.
func TestTextsAreExact(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, notifyEvent+`
		CREATE TABLE by_tcn (k text PRIMARY KEY, note text);
		CREATE TABLE by_event (k text PRIMARY KEY, note text);
		CREATE TABLE by_both (k text PRIMARY KEY);`+
		tcnTrigger("by_tcn")+eventTrigger("by_event")+tcnTrigger("by_both")+eventTrigger("by_both"), `
rules:
  - {table: by_tcn, keys: ["t:{k}"]}
  - {table: by_event, keys: ["e:{k}"]}
  - {table: by_both, keys: ["b:{k}:{{x}}"]}`)
	p := w.serveReady()
	var written []string
	for i := 0; i < len(texts); i += 2 {
		written = append(written, texts[i])
	}
	both := []string{"b:a*:{x}", "b:b?:{x}", "b:c:{x}", "b:a:{x}", "b:aX:{x}", "b:bX:{x}", "b:b:{x}", "b:*:{x}", "b::{x}"}
	keys := slices.Concat(prefixed("t:", texts), prefixed("e:", texts), both, prefixed("x:", texts), []string{"t", "e", "T:a", "*", "?:*"})
	gone := slices.Concat(prefixed("t:", written), prefixed("e:", written))
	each := func(sql ...string) func() {
		return func() {
			for _, sql := range sql {
				w.exec(sql, pgx.QueryExecModeExec, written)
			}
		}
	}
	w.vanish(p, "insert", keys, each(`INSERT INTO by_tcn SELECT unnest($1::text[])`, `INSERT INTO by_event SELECT unnest($1::text[])`), gone...)
	w.vanish(p, "update", keys, each(`UPDATE by_tcn SET note = 'x' WHERE k = ANY ($1::text[])`, `UPDATE by_event SET note = 'x' WHERE k = ANY ($1::text[])`), gone...)
	w.vanish(p, "delete", keys, each(`DELETE FROM by_tcn WHERE k = ANY ($1::text[])`, `DELETE FROM by_event WHERE k = ANY ($1::text[])`), gone...)

	// Postgres has no NUL in its texts, but whoever sends JSON has.
	w.vanish(p, "NUL", []string{"e:a\x00b", "e:a", "e:ab", `e:a\u0000b`}, func() {
		w.exec(`SELECT pg_notify('events', '{"table":"by_event","action":"DELETE","data":{"k":"a\u0000b"}}')`)
	}, "e:a\x00b")

	// Of an update of the key itself tcn names the old one, and notify_event the new.
	w.exec(`INSERT INTO by_both VALUES ('a*')`)
	w.rest(p)
	w.vanish(p, "update of the key", keys, func() { w.exec(`UPDATE by_both SET k = 'b?'`) }, "b:a*:{x}", "b:b?:{x}")
}

// TestTypesAreExact holds each key against column::text, on both channels.
func TestTypesAreExact(t *testing.T) {
	t.Parallel()
	const columns = `(id bigint, n numeric, b boolean, u uuid, c char(5), m mood, d shorttext, PRIMARY KEY (id, n, b, u, c, m, d))`
	w := newWorld(t, nil, notifyEvent+`
		CREATE TYPE mood AS ENUM ('so so', 'sad*', '{ok}');
		CREATE DOMAIN shorttext AS text;
		CREATE TABLE by_tcn `+columns+`; CREATE TABLE by_event `+columns+`;
		CREATE TABLE days (id bigint PRIMARY KEY, day date, note text, moment timestamptz, doc jsonb);`+
		tcnTrigger("by_tcn")+eventTrigger("by_event")+eventTrigger("days"), `
rules:
  - {table: by_tcn, keys: ["t:{id}:{n}:{b}:{u}:{c}:{m}:{d}"]}
  - {table: by_event, keys: ["e:{id}:{n}:{b}:{u}:{c}:{m}:{d}"]}
  - {table: days, keys: ["day:{day}", "note:{note}", "moment:{moment}:{id}", "doc:{doc}:{id}"]}`)
	p := w.serveReady()
	infinity := "'Infinity'"
	if livetest.SharedPostgres(t).Version < 14 { // has none in numeric
		infinity = "'12345e-100'"
	}
	rows := `VALUES
		(9223372036854775807, 1234567890123456789012345678901234567890, true, 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'ab', 'so so', 'x'),
		(-9223372036854775808, 1.50, false, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', ' a b ', 'sad*', '*'),
		(9007199254740993, 0.0000000000000000000000000000000000000001, true, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a13', '', '{ok}', 'ключ'),
		(0, 'NaN', false, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a14', '*', 'sad*', ' '),
		(1, ` + infinity + `, true, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a15', '5', 'so so', 't'),
		(2, 1e30, true, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a16', 'f', 'so so', 'f'),
		(3, -0.00, true, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a17', 't', 'so so', '')`
	w.exec(`SET DateStyle = 'SQL, DMY'; ALTER TABLE by_tcn DISABLE TRIGGER USER; INSERT INTO by_tcn ` + rows + `; ALTER TABLE by_tcn ENABLE TRIGGER USER`)
	conn := w.connect()
	read, err := conn.Query(t.Context(), `SELECT concat_ws(':', id::text, n::text, b::text, u::text, c::text, m::text, d::text) FROM by_tcn`)
	if err != nil {
		t.Fatal(err)
	}
	exact, err := pgx.CollectRows(read, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	near := map[string]bool{}
	for _, key := range exact {
		for _, near1 := range []string{
			strings.ToUpper(key), strings.ReplaceAll(key, "true", "t"), strings.ReplaceAll(key, "false", "f"), key + " ", strings.TrimRight(key, " "),
			strings.ReplaceAll(key, "9007199254740993", "9007199254740992"), strings.ReplaceAll(key, "1.50", "1.5"), strings.ReplaceAll(key, "*", "x"),
			strings.ReplaceAll(key, "ab:", "ab   :"), strings.ReplaceAll(key, "0.00", "0"),
		} {
			near[near1] = !slices.Contains(exact, near1)
		}
	}
	maps.DeleteFunc(near, func(_ string, isNear bool) bool { return !isNear })
	if len(exact) != 7 || len(near) < 20 {
		t.Fatalf("%d rows, %d near misses", len(exact), len(near))
	}
	all := slices.Concat(exact, slices.Collect(maps.Keys(near)))
	keys := slices.Concat(prefixed("t:", all), prefixed("e:", all))
	gone := slices.Concat(prefixed("t:", exact), prefixed("e:", exact))
	w.vanish(p, "insert", keys, func() { w.exec(`TRUNCATE by_tcn; INSERT INTO by_tcn ` + rows + `; INSERT INTO by_event ` + rows) }, gone...)
	w.vanish(p, "delete", keys, func() { w.exec(`SET TimeZone = 'Asia/Tokyo'; DELETE FROM by_tcn; DELETE FROM by_event`) }, gone...)

	// A date is exact on events, a NULL has no key, and what depends on the session is not known.
	keys = []string{"day:2024-02-29", "day:29/02/2024", "note:", "note:null", "moment:x:1", "moment:2024-02-29 00:00:00+00:2", "moments:1", "doc:{}:1", "doc:x:2"}
	w.vanish(p, "insert", keys, func() {
		w.exec(`SET DateStyle = 'SQL, DMY'; INSERT INTO days VALUES (1, '29/02/2024', NULL, '29/02/2024', '{}')`)
	}, "day:2024-02-29", "moment:x:1", "doc:{}:1")
}
