package pgnotify_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgevict/internal/livetest"
	"pgevict/pgnotify"
)

// catalog returns a decoder that knows the database.
func catalog(t *testing.T, conn *pgx.Conn, c columns) pgnotify.Decoder {
	t.Helper()
	loaded, err := pgnotify.LoadCatalog(t.Context(), conn.PgConn(), c.tables(), c.ask)
	if err != nil {
		t.Fatal(err)
	}
	return pgnotify.Decoder{Columns: c.ask, Catalog: loaded}
}

// means checks what an event means, and whether its table is known.
func means(t *testing.T, d pgnotify.Decoder, source pgnotify.Source, payload string, want ...string) {
	t.Helper()
	changes, known, err := d.Decode(source, payload)
	if err != nil || !known {
		t.Errorf("%s: known %v, %v", payload, known, err)
	}
	for i := range want {
		want[i] = string(source) + " " + want[i]
	}
	if got := allWords(changes); !slices.Equal(got, want) {
		t.Errorf("%s means\n%q, want\n%q", payload, got, want)
	}
}

func TestPrimaryKeys(t *testing.T) {
	t.Parallel()
	conn := connect(t, livetest.Database(t))
	exec(t, conn, `
		CREATE TABLE single (x text, id bigint PRIMARY KEY);
		CREATE TABLE "Com posite" ("B" int, a int, x text, "c""d" int, gone int, PRIMARY KEY ("c""d", a));
		ALTER TABLE "Com posite" DROP COLUMN gone;
		CREATE TABLE included (a int, b int, x text, PRIMARY KEY (a) INCLUDE (b));
		CREATE TABLE none (id int UNIQUE NOT NULL, x text);`)
	d := catalog(t, conn, columns{
		"single": {"id", "x"}, "Com posite": {"a", `c"d`, "x"}, "included": {"a", "b", "x"}, "none": {"id", "x"}, "nowhere": {"id"},
	})
	means(t, d, pgnotify.Events, `{"table":"single","action":"UPDATE","data":{"id":1,"x":"a"}}`, "update single {id=1}→{id=1 x=a}")
	means(t, d, pgnotify.Events, `{"table":"single","action":"UPDATE","data":{"id":null,"x":"a"}}`, "update single {}→{id NULL x=a}")
	means(t, d, pgnotify.Events, `{"table":"single","action":"UPDATE","data":{"id":1},"old":{"x":"b"}}`, "update single {x=b}→{id=1}")
	means(t, d, pgnotify.Events, `{"table":"Com posite","action":"UPDATE","data":{"a":1,"c\"d":2,"x":3,"B":4}}`,
		`update Com posite {c"d=2 a=1}→{a=1 c"d=2 x=3}`)
	means(t, d, pgnotify.Events, `{"table":"included","schema":"public","action":"UPDATE","data":{"a":1,"b":2,"x":3}}`,
		"update public.included {a=1}→{a=1 b=2 x=3}")
	means(t, d, pgnotify.Events, `{"table":"none","action":"UPDATE","data":{"id":1,"x":2}}`, "update none {}→{id=1 x=2}")
	if changes, known, err := d.Decode(pgnotify.TCN, `"nowhere",I,"id"='1'`); known || len(changes) != 1 || err != nil {
		t.Errorf("a table that is not there: %v, %v, %v", changes, known, err)
	}
	if changes, known, err := d.Decode(pgnotify.TCN, `"stranger",I,"id"='1'`); known || len(changes) != 0 || err != nil {
		t.Errorf("a table that is not there: %v, %v, %v", changes, known, err)
	}
}

// exactTypes are the types of which the text is certain on both channels, with values for their columns.
var exactTypes = map[string][]string{
	"int2": {"-5"}, "int4": {"2147483647"}, "int8": {"9007199254740993"}, "numeric": {"1.50", "NaN", "12345678901234567890123456789012345678901"},
	"numeric(10,3)": {"1"}, "text": {"a 'b' \"c\" \\ \n *", "", " x "}, "varchar(9)": {"x "}, "name": {"n"}, "bpchar": {"x  "},
	"char(5)": {"ab", ""}, "uuid": {"550E8400-e29b-41d4-a716-446655440000"}, "bool": {"true", "false"}, "enumeration": {"two words", "t"},
	"citext": {"MiXed"}, "over_int": {"7"}, "over_over_int": {"7"}, "over_bool": {"t"}, "over_char": {"ab"}, "over_enum": {"t"}, "over_citext": {"X"},
	"date": {"2024-02-29", "infinity", "0044-03-15 BC"}, "over_date": {"2024-02-29"},
}

// otherTypes are those of which it is not.
var otherTypes = map[string]string{
	"timestamptz": "2024-01-02 03:04:05+00", "timestamp": "2024-01-02 03:04:05", "time": "03:04", "timetz": "03:04+00", "interval": "26:00",
	"bytea": `\xdead`, "float4": "0.1", "float8": "0.1", "money": "1.5", "int[]": "{1,2}", "text[]": "{a}", "int4range": "[1,5)",
	"inet": "10.0.0.1/8", "json": `{"a":1}`, "jsonb": `"scalar"`, "point": "(1,2)", "composite": "(1)", "bit(4)": "1010", "xml": "<a/>",
	"over_timestamptz": "2024-01-02 03:04:05+00", "over_array": "{1}", "over_jsonb": "7", `"char"`: "x", "oid": "7", "tsvector": "a",
}

const typesSQL = `
	CREATE EXTENSION tcn;
	CREATE EXTENSION citext;
	CREATE TYPE enumeration AS ENUM ('two words', 't');
	CREATE TYPE composite AS (a int);
	CREATE DOMAIN over_int AS int CHECK (VALUE > 0);
	CREATE DOMAIN over_over_int AS over_int;
	CREATE DOMAIN over_bool AS bool;
	CREATE DOMAIN over_char AS char(4);
	CREATE DOMAIN over_enum AS enumeration;
	CREATE DOMAIN over_citext AS citext;
	CREATE DOMAIN over_date AS date;
	CREATE DOMAIN over_timestamptz AS timestamptz;
	CREATE DOMAIN over_array AS int[];
	CREATE DOMAIN over_jsonb AS jsonb;`

// TestTypes has a real server send a value of each type on both channels, from a session with settings of its own, and
// holds what is understood against column::text.
func TestTypes(t *testing.T) {
	t.Parallel()
	url := livetest.Database(t)
	conn, ears := connect(t, url), connect(t, url)
	exec(t, conn, typesSQL+livetest.NotifyEvent)
	exec(t, ears, "LISTEN tcn")
	exec(t, ears, "LISTEN events")
	var types []string
	for name := range exactTypes {
		types = append(types, name)
	}
	for name := range otherTypes {
		types = append(types, name)
	}
	rules := columns{}
	for i, name := range types {
		rules[fmt.Sprintf("t%d", i)] = []string{"v", "missing"}
		// Not every type can be a key, so tcn speaks of those that can.
		exec(t, conn, fmt.Sprintf(`CREATE TABLE t%d (v %s);
			CREATE TRIGGER e AFTER INSERT ON t%[1]d FOR EACH ROW EXECUTE FUNCTION notify_event()`, i, name))
		if _, err := conn.Exec(t.Context(), fmt.Sprintf("ALTER TABLE t%d ADD PRIMARY KEY (v)", i)); err == nil {
			exec(t, conn, fmt.Sprintf(`CREATE TRIGGER t AFTER INSERT ON t%d FOR EACH ROW EXECUTE FUNCTION triggered_change_notification()`, i))
		}
	}
	d := catalog(t, connect(t, url), rules)
	exec(t, conn, "SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Tokyo'; SET bytea_output = escape; SET extra_float_digits = -15; SET IntervalStyle = iso_8601")
	for i, name := range types {
		values, exact := exactTypes[name]
		if !exact {
			values = []string{otherTypes[name]}
		}
		for _, value := range values {
			var text string
			sql := fmt.Sprintf("WITH i AS (INSERT INTO t%d VALUES ($1::text::%s) RETURNING v) SELECT v::text FROM i", i, name)
			if strings.Contains(name, "date") {
				sql = fmt.Sprintf("WITH i AS (INSERT INTO t%d VALUES ($1::text::%s) RETURNING v) SELECT to_json(v)#>>'{}' FROM i", i, name)
			}
			if err := conn.QueryRow(t.Context(), sql, value).Scan(&text); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			exec(t, conn, "NOTIFY events, 'end'")
			for {
				n, err := ears.WaitForNotification(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if n.Payload == "end" {
					break
				}
				want := "unknown"
				if exact && (n.Channel != "tcn" || !strings.Contains(name, "date")) {
					want = "text " + text
				}
				changes, known, err := d.Decode(pgnotify.Source(n.Channel), n.Payload)
				if err != nil || !known || len(changes) != 1 {
					t.Fatalf("%s: %v %v %v", n.Payload, changes, known, err)
				}
				if got := columnWords(changes[0].Rows[0].New, "v"); got != want {
					t.Errorf("%s: %s on %s is %q, want %q", name, n.Payload, n.Channel, got, want)
				}
			}
		}
	}
}

func TestPinnedAndNull(t *testing.T) {
	t.Parallel()
	conn := connect(t, livetest.Database(t))
	exec(t, conn, `CREATE TABLE t (id int PRIMARY KEY, ts timestamptz, j jsonb, b bool, c char(3))`)
	d := catalog(t, conn, columns{"t": {"id", "ts", "j", "b", "c", "later"}})
	const data = `"data":{"id":1,"ts":"2024","j":"{}","b":"t","c":"x  ","later":"y"}`
	means(t, d, pgnotify.Events, `{"pinned":true,"table":"t","action":"INSERT",`+data+`}`, "insert t nil→{id=1 ts=2024 j={} b=t c=x   later=y}")
	means(t, d, pgnotify.Events, `{"table":"t","action":"INSERT",`+data+`,"pinned":true}`, "insert t nil→{id=1 ts=2024 j={} b=t c=x   later=y}")
	means(t, d, pgnotify.Events, `{"pinned":"true","table":"t","action":"INSERT",`+data+`}`, "insert t nil→{id=1 b=true c=x}")
	means(t, d, pgnotify.Events, `{"pinned":true,"pinned":false,"table":"t","action":"INSERT",`+data+`}`, "insert t nil→{id=1 b=true c=x}")
	// A NULL is certain, whatever the type; but null in a jsonb column may as well be the JSON value of that name.
	means(t, d, pgnotify.Events, `{"table":"t","action":"INSERT","data":{"id":1,"ts":null,"j":null,"b":null,"c":null}}`,
		"insert t nil→{id=1 ts NULL b NULL c NULL}")
	means(t, d, pgnotify.Events, `{"pinned":true,"table":"t","action":"INSERT","data":{"j":null}}`, "insert t nil→{j NULL}")
	// Of a repeated member the last counts, though it be uncertain.
	means(t, d, pgnotify.Events, `{"table":"t","action":"INSERT","data":{"ts":null,"ts":"2024"}}`, "insert t nil→{}")
}
