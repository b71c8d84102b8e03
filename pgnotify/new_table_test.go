package pgnotify_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgevict/internal/livetest"
	"pgevict/pgnotify"
)

// regular is more than the time between two readings of the catalog that nobody asked for; what takes less has been asked
// for.
const (
	regular   = time.Minute
	onDemand  = 2 * time.Second
	anyMoment = 10 * time.Second
)

func TestNewPartition(t *testing.T) {
	t.Parallel()
	url := livetest.Database(t)
	conn := connect(t, url)
	exec(t, conn, livetest.NotifyEvent+`
		CREATE TABLE orders (id int PRIMARY KEY, ts timestamptz) PARTITION BY RANGE (id);
		CREATE TABLE plain (id int PRIMARY KEY);
		CREATE TRIGGER e AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION notify_event();`)
	l := listen(t, newListener(t, url, columns{"orders": {"id", "ts"}, "plain": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	l.wait(anyMoment, "a mark", func() bool { return len(l.marks) > 0 })
	exec(t, conn, `CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (1) TO (1000)`)
	exec(t, conn, `BEGIN`)
	exec(t, conn, `INSERT INTO orders VALUES (1, now())`)
	var xid uint64
	if err := conn.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text::bigint").Scan(&xid); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `COMMIT`)
	committed := time.Now()
	l.wait(onDemand, "the partition's change", func() bool { return len(l.changes) > 0 })
	l.wait(anyMoment, "a mark that vouches for it", func() bool { return l.marks[len(l.marks)-1].Position > xid })
	exec(t, conn, `DELETE FROM orders`)
	l.wait(anyMoment, "a change of what is known by now", func() bool { return len(l.changes) > 1 })
	l.stop()
	want := []string{"events insert orders nil→{id=1}", "events delete orders {id=1}→nil"}
	if got := allWords(l.changes); !slices.Equal(got, want) {
		t.Errorf("got\n%swant\n%s", lines(got), lines(want))
	}
	changes, marks := 0, 0
	for _, word := range l.order {
		switch word {
		case "change":
			changes++
		case "mark":
			if m := l.marks[marks]; changes < 1 && (m.Position > xid || m.Sent.After(committed)) {
				t.Errorf("mark %d, %+v, vouches for a change that waits", marks, m)
			}
			marks++
		}
	}
	if len(l.gaps) != 1 {
		t.Errorf("gaps: %q", l.gaps)
	}
}

// A name of the rules that no relation has counts by what is said of it, each time and at once.
func TestNamesThatAreNoRelation(t *testing.T) {
	t.Parallel()
	url := livetest.Database(t)
	conn := connect(t, url)
	exec(t, conn, `CREATE TABLE t (id int PRIMARY KEY)`)
	l := listen(t, newListener(t, url, columns{"t": {"id"}, "job": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	var want []string
	for i := range 30 {
		exec(t, conn, fmt.Sprintf(`NOTIFY events, '{"table":"job","action":"INSERT","data":{"id":%d}}'`, i))
		want = append(want, fmt.Sprintf("events insert job nil→{id=%d}", i))
		l.wait(onDemand, "the change", func() bool { return len(l.changes) > i })
	}
	l.stop()
	if got := allWords(l.changes); !slices.Equal(got, want) || len(l.gaps) != 1 || len(l.unreadable) > 0 {
		t.Errorf("got\n%s, gaps %q, unreadable %q", lines(got), l.gaps, l.unreadable)
	}
}

func TestTableOfNoRuleFloods(t *testing.T) {
	t.Parallel()
	url := livetest.Database(t)
	conn := connect(t, url)
	exec(t, conn, `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE noise (id int PRIMARY KEY)`)
	l := listen(t, newListener(t, url, columns{"t": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	for i := range 20 {
		exec(t, conn, `SELECT pg_notify('tcn', '"noise",I,"id"=''' || i || '''') FROM generate_series(1, 5000) i`)
		exec(t, conn, `SELECT pg_notify('events', '{"table":"noise","data":{"x":"' || repeat('x', 7000) || i || '"}}') FROM generate_series(1, 500) i`)
		hears(t, l, conn, fmt.Sprint(i))
	}
	marks := 0
	l.look(func() { marks = len(l.marks) })
	l.wait(anyMoment, "marks", func() bool { return len(l.marks) >= marks+3 })
	l.stop()
	if len(l.gaps) != 1 || len(l.changes) != 20 || len(l.unreadable) > 0 {
		t.Errorf("gaps %q, %d changes, %d unreadable", l.gaps, len(l.changes), len(l.unreadable))
	}
}

// Whoever may connect may send names that nobody knows, as many as he likes. That is no gap, and what is heard of a new
// partition among them is not lost.
func TestForgedNames(t *testing.T) {
	t.Parallel()
	url := livetest.Database(t)
	conn := connect(t, url)
	exec(t, conn, `CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)`)
	l := listen(t, newListener(t, url, columns{"t": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	for i := range 20 {
		exec(t, conn, fmt.Sprintf(`SELECT pg_notify('tcn', '"part_%d_' || i || '",I,"id"=''1''') FROM generate_series(1, 2000) i`, i))
		hears(t, l, conn, fmt.Sprint(i))
	}
	l.look(func() {
		if len(l.gaps) != 1 {
			t.Errorf("gaps: %q", l.gaps)
		}
	})
	l.wait(anyMoment, "they are counted", func() bool { return len(l.unreadable) > 1000 && l.unreadable[0] == "tcn table" })
	exec(t, conn, `CREATE TABLE new PARTITION OF t FOR VALUES FROM (100) TO (200);
		SELECT pg_notify('tcn', '"part_x_' || i || '",I,"id"=''1''') FROM generate_series(1, 2000) i`)
	exec(t, conn, `SELECT pg_notify('tcn', '"new",I,"id"=''100''')`)
	l.wait(regular, "the change, or a gap that it may be behind", func() bool {
		return slices.Contains(allWords(l.changes), "tcn insert t nil→{id=100}") || slices.Contains(l.gaps, "catalog public.t")
	})
}

// A table of no rule of which something was heard may become a part of one.
func TestStrangerBecomesAPartition(t *testing.T) {
	t.Parallel()
	url := livetest.Database(t)
	conn := connect(t, url)
	exec(t, conn, `CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE later (id int PRIMARY KEY);
		INSERT INTO later VALUES (1)`)
	l := listen(t, newListener(t, url, columns{"t": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	exec(t, conn, `NOTIFY tcn, '"later",I,"id"=''1'''`)
	marks := 0
	l.look(func() { marks = len(l.marks) })
	l.wait(anyMoment, "marks", func() bool { return len(l.marks) >= marks+3 }) // so it has been looked up
	exec(t, conn, `ALTER TABLE t ATTACH PARTITION later FOR VALUES FROM (1) TO (10)`)
	exec(t, conn, `NOTIFY tcn, '"later",U,"id"=''1'''`)
	l.wait(regular, "any row", func() bool { return slices.Contains(allWords(l.changes), "events unknown t") })
	exec(t, conn, `NOTIFY tcn, '"later",U,"id"=''1'''`)
	l.wait(anyMoment, "the change", func() bool { return slices.Contains(allWords(l.changes), "tcn update t {id=1}→nil") })
	l.stop()
	if len(l.gaps) != 1 || len(l.unreadable) > 0 {
		t.Errorf("gaps %q, unreadable %q", l.gaps, l.unreadable)
	}
}

// A relation may be renamed, or gone, before its name can be looked up. What it may have been of is a gap.
func TestGoneBeforeItIsLookedUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, gap string }{
		"a new partition is renamed": {`BEGIN; CREATE TABLE new PARTITION OF p FOR VALUES FROM (1) TO (9); INSERT INTO p VALUES (1); ALTER TABLE new RENAME TO p_2; COMMIT`, "catalog public.p"},
		"between two renames":        {`BEGIN; ALTER TABLE t RENAME TO x; UPDATE x SET id = 2; ALTER TABLE x RENAME TO t; COMMIT`, "catalog public.t"},
		"told of under another name": {`ALTER TABLE t RENAME TO y; UPDATE y SET id = 5`, "catalog public.t"},
		"renamed for good":           {`ALTER TABLE p1 RENAME TO p_x; BEGIN; ALTER TABLE p_x RENAME TO p_y; UPDATE p SET id = 101; ALTER TABLE p_y RENAME TO p_z; COMMIT`, "catalog public.p"},
		"a table that is swapped in": {`BEGIN; CREATE TABLE t_new (LIKE t INCLUDING ALL);
			CREATE TRIGGER c AFTER INSERT OR UPDATE OR DELETE ON t_new FOR EACH ROW EXECUTE FUNCTION triggered_change_notification();
			INSERT INTO t_new VALUES (7); DROP TABLE t; ALTER TABLE t_new RENAME TO t; COMMIT`, "catalog public.t"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := livetest.Database(t)
			conn := connect(t, url)
			exec(t, conn, `CREATE EXTENSION tcn;
				CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (100) TO (200);
				CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY);
				CREATE TRIGGER c AFTER INSERT OR UPDATE OR DELETE ON p FOR EACH ROW EXECUTE FUNCTION triggered_change_notification();
				CREATE TRIGGER c AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION triggered_change_notification();
				INSERT INTO p VALUES (100); INSERT INTO t VALUES (1)`)
			l := listen(t, newListener(t, url, columns{"p": {"id"}, "t": {"id"}, "other": {"id"}}))
			l.gap(1, pgnotify.GapStart)
			exec(t, conn, c.sql)
			l.gap(2, c.gap)
		})
	}
}
