package pgnotify_test

import (
	"testing"

	"pgevict/internal/livetest"
	"pgevict/pgnotify"
)

func TestPartitions(t *testing.T) {
	t.Parallel()
	conn := connect(t, livetest.Database(t))
	exec(t, conn, `
		CREATE SCHEMA parts;
		CREATE TABLE orders (id int, region text, day date, PRIMARY KEY (id, region, day)) PARTITION BY LIST (region);
		CREATE TABLE parts.orders_eu PARTITION OF orders FOR VALUES IN ('eu') PARTITION BY RANGE (day);
		CREATE TABLE parts.orders_eu_2024 PARTITION OF parts.orders_eu FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
		CREATE TABLE orders_us PARTITION OF orders FOR VALUES IN ('us');
		CREATE TABLE "Orders Special" PARTITION OF orders FOR VALUES IN ('special');`)
	d := catalog(t, conn, columns{"orders": {"id", "day"}, "Orders Special": {"region"}})
	means(t, d, pgnotify.TCN, `"orders",D,"id"='1'`, "delete orders {id=1}→nil")
	means(t, d, pgnotify.TCN, `"orders_us",D,"id"='1',"day"='2024-02-29'`, "delete orders {id=1}→nil")
	means(t, d, pgnotify.TCN, `"orders_eu_2024",U,"id"='1'`, "update orders {id=1}→nil")
	means(t, d, pgnotify.Events, `{"schema":"parts","table":"orders_eu_2024","action":"UPDATE","data":{"id":1,"day":"2024-02-29"}}`,
		"update public.orders {id=1 day=2024-02-29}→{id=1 day=2024-02-29}")
	means(t, d, pgnotify.Events, `{"schema":"parts","table":"orders_eu","action":"TRUNCATE"}`, "truncate public.orders")
	// A rule that names the partition has it for itself.
	means(t, d, pgnotify.TCN, `"Orders Special",I,"id"='1',"region"='special'`, "insert Orders Special nil→{region=special}")

	// A rule for a level in between has what is below.
	d = catalog(t, conn, columns{"orders": {"id"}, "orders_eu": {"region"}})
	means(t, d, pgnotify.TCN, `"orders_eu_2024",I,"id"='1',"region"='eu'`, "insert orders_eu nil→{region=eu}")
	means(t, d, pgnotify.TCN, `"orders_us",I,"id"='1',"region"='us'`, "insert orders nil→{id=1}")

	// The rule's schema counts, where the message says which.
	d = catalog(t, conn, columns{"public.orders": {"id"}, "elsewhere.orders_us": {"region"}})
	means(t, d, pgnotify.Events, `{"schema":"public","table":"orders_us","action":"INSERT","data":{"id":1}}`, "insert public.orders nil→{id=1}")
	d = catalog(t, conn, columns{"other.orders": {"id"}})
	means(t, d, pgnotify.Events, `{"schema":"public","table":"orders_us","action":"INSERT","data":{"id":1}}`)
}

func TestInheritance(t *testing.T) {
	t.Parallel()
	conn := connect(t, livetest.Database(t))
	exec(t, conn, `
		CREATE TABLE a (id int PRIMARY KEY, x timestamptz);
		CREATE TABLE b (id int PRIMARY KEY, y bool);
		CREATE TABLE child (PRIMARY KEY (id)) INHERITS (a);
		CREATE TABLE both_of (z text, PRIMARY KEY (id)) INHERITS (a, b);
		CREATE TABLE grandchild () INHERITS (both_of);`)
	d := catalog(t, conn, columns{"a": {"id", "x"}, "b": {"id", "y"}})
	means(t, d, pgnotify.TCN, `"child",D,"id"='1'`, "delete a {id=1}→nil")
	for _, name := range []string{"both_of", "grandchild"} {
		means(t, d, pgnotify.Events, `{"schema":"public","table":"`+name+`","action":"UPDATE","data":{"id":1,"x":"2024","y":true,"z":"z"}}`,
			"update public.a {id=1}→{id=1 y=true}", "update public.b {id=1}→{id=1 y=true}")
		means(t, d, pgnotify.TCN, `"`+name+`",D,"id"='1'`, "delete a {id=1}→nil", "delete b {id=1}→nil")
	}
	d = catalog(t, conn, columns{"b": {"id", "y"}})
	means(t, d, pgnotify.TCN, `"both_of",D,"id"='1'`, "delete b {id=1}→nil")
}

func TestSameNameInTwoSchemas(t *testing.T) {
	t.Parallel()
	conn := connect(t, livetest.Database(t))
	exec(t, conn, `
		CREATE SCHEMA s1;
		CREATE SCHEMA s2;
		CREATE TABLE s1.agree (id int PRIMARY KEY, v bool);
		CREATE TABLE s2.agree (id bigint PRIMARY KEY, v bool);
		CREATE TABLE s1.differ (id int PRIMARY KEY, v bool, w jsonb);
		CREATE TABLE s2.differ (id int, v timestamptz PRIMARY KEY, w bool);
		CREATE TEMPORARY TABLE agree (id timestamptz, v timestamptz);`)
	d := catalog(t, conn, columns{"agree": {"id", "v"}, "differ": {"id", "v", "w"}})
	means(t, d, pgnotify.Events, `{"table":"agree","action":"UPDATE","data":{"id":1,"v":true}}`, "update agree {id=1}→{id=1 v=true}")
	means(t, d, pgnotify.Events, `{"table":"differ","action":"UPDATE","data":{"id":1,"v":true,"w":null}}`, "update differ {}→{id=1}")
	means(t, d, pgnotify.Events, `{"schema":"s1","table":"differ","action":"UPDATE","data":{"id":1,"v":true}}`, "update s1.differ {id=1}→{id=1 v=true}")
	means(t, d, pgnotify.Events, `{"schema":"s2","table":"differ","action":"UPDATE","data":{"id":1,"v":"2024"}}`, "update s2.differ {}→{id=1}")

	// A rule for one of the schemas: without a schema in the message it may be that one.
	d = catalog(t, conn, columns{"s1.differ": {"id", "v"}})
	means(t, d, pgnotify.TCN, `"differ",I,"id"='1',"v"='t'`, "insert differ nil→{id=1 v=true}")
	means(t, d, pgnotify.Events, `{"schema":"s2","table":"differ","action":"INSERT","data":{"id":1}}`)
	means(t, d, pgnotify.Events, `{"schema":"s1","table":"differ","action":"INSERT","data":{"id":1}}`, "insert s1.differ nil→{id=1}")
}

func TestViews(t *testing.T) {
	t.Parallel()
	conn := connect(t, livetest.Database(t))
	exec(t, conn, `CREATE TABLE base (id int PRIMARY KEY, v bool); CREATE VIEW seen AS SELECT * FROM base; CREATE MATERIALIZED VIEW kept AS SELECT * FROM base`)
	d := catalog(t, conn, columns{"seen": {"id", "v"}, "kept": {"id"}})
	means(t, d, pgnotify.Events, `{"table":"seen","action":"UPDATE","data":{"id":1,"v":true}}`, "update seen {}→{id=1 v=true}")
	means(t, d, pgnotify.Events, `{"table":"kept","action":"INSERT","data":{"id":1}}`, "insert kept nil→{id=1}")
}

// What comes to a partition, or leaves it, may have moved by an update. What a rule names itself is a table of its own.
func TestHalfOfAnUpdate(t *testing.T) {
	t.Parallel()
	conn := connect(t, livetest.Database(t))
	exec(t, conn, `
		CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1) PARTITION BY LIST (id);
		CREATE TABLE p11 PARTITION OF p1 FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
		CREATE TABLE a (id int); CREATE TABLE child () INHERITS (a)`)
	d := catalog(t, conn, columns{"p": {"id"}, "p2": {"id"}, "a": {"id"}})
	for payload, want := range map[string]bool{
		`{"table":"p11","action":"INSERT","data":{"id":1}}`:               true,
		`{"table":"p1","schema":"public","action":"DELETE"}`:              true,
		`{"table":"p11","action":"UPDATE","data":{"id":1}}`:               false,
		`{"table":"p11","action":"TRUNCATE"}`:                             false,
		`{"table":"p","action":"INSERT","data":{"id":1}}`:                 false,
		`{"table":"p","action":"INSERT","part":true,"data":{"id":1}}`:     true,
		`{"table":"p","action":"UPDATE","part":true,"data":{"id":1}}`:     false,
		`{"table":"p2","action":"INSERT","data":{"id":1}}`:                false,
		`{"table":"child","action":"INSERT","data":{"id":1}}`:             false,
		`{"table":"p","action":"INSERT","part":true,"data":{"id":1}, no}`: false,
	} {
		changes, _, _ := d.Decode(pgnotify.Events, payload)
		if len(changes) != 1 || changes[0].Half != want {
			t.Errorf("%s: %+v, want half: %v", payload, changes, want)
		}
	}
}
