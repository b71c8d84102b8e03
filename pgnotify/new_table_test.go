package pgnotify_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgevict/internal/livetest"
	"pgevict/pgnotify"
)

// rereads is longer than a listener waits before it reads the catalog once more.
const rereads = 20 * time.Second

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
	l.wait(10*time.Second, "a mark", func() bool { return len(l.marks) > 0 })
	exec(t, conn, `CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (1) TO (1000)`)
	exec(t, conn, `BEGIN`)
	exec(t, conn, `INSERT INTO orders VALUES (1, now())`)
	var xid uint64
	if err := conn.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text::bigint").Scan(&xid); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `COMMIT`)
	// Others do not wait for it, and marks go on, but none vouches for what waits.
	exec(t, conn, `NOTIFY events, '{"table":"plain","action":"INSERT","data":{"id":1}}'`)
	l.wait(5*time.Second, "the other change", func() bool { return len(l.changes) > 0 })
	marks := 0
	l.look(func() { marks = len(l.marks) })
	l.wait(5*time.Second, "marks", func() bool { return len(l.marks) >= marks+3 })
	l.wait(rereads, "the partition's change", func() bool { return len(l.changes) > 1 })
	l.wait(10*time.Second, "a mark that vouches for it", func() bool { return l.marks[len(l.marks)-1].Position > xid })
	exec(t, conn, `DELETE FROM orders`)
	l.wait(5*time.Second, "a change of what is known by now", func() bool { return len(l.changes) > 2 })
	l.stop()
	want := []string{"events insert plain nil→{id=1}", "events insert orders nil→{id=1}", "events delete orders {id=1}→nil"}
	if got := allWords(l.changes); !slices.Equal(got, want) {
		t.Errorf("got\n%swant\n%s", lines(got), lines(want))
	}
	changes, marks := 0, 0
	for _, word := range l.order {
		switch word {
		case "change":
			changes++
		case "mark":
			if l.marks[marks].Position > xid && changes < 2 {
				t.Errorf("mark %d vouches for a change that waits", marks)
			}
			marks++
		}
	}
	if len(l.gaps) != 1 {
		t.Errorf("gaps: %q", l.gaps)
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
	l.wait(10*time.Second, "marks", func() bool { return len(l.marks) >= marks+3 })
	l.stop()
	if len(l.gaps) != 1 || len(l.changes) != 20 || len(l.errs()) > 0 {
		t.Errorf("gaps %q, %d changes, errors %v", l.gaps, len(l.changes), l.errs())
	}
}

func TestTooManyUnknownTables(t *testing.T) {
	t.Parallel()
	url := livetest.Database(t)
	conn := connect(t, url)
	exec(t, conn, `CREATE TABLE t (id int PRIMARY KEY)`)
	l := listen(t, newListener(t, url, columns{"t": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	exec(t, conn, `SELECT pg_notify('tcn', '"part_' || i || '",I,"id"=''1''') FROM generate_series(1, 2000) i`)
	hears(t, l, conn, "1")
	l.wait(rereads, "gap", func() bool { return len(l.gaps) > 1 })
	l.gap(2, pgnotify.GapCatalog)
	hears(t, l, conn, "2")
}

func TestTableIsNoLongerWhatItWas(t *testing.T) {
	t.Parallel()
	url := livetest.Database(t)
	conn := connect(t, url)
	exec(t, conn, `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE same (id int PRIMARY KEY)`)
	l := listen(t, newListener(t, url, columns{"t": {"id"}, "same": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	exec(t, conn, `ALTER TABLE t ALTER id TYPE timestamptz USING now()`)
	exec(t, conn, `NOTIFY tcn, '"unheard of",I,"id"=''1'''`) // makes it read the catalog again
	l.wait(rereads, "gap", func() bool { return len(l.gaps) > 1 })
	l.gap(2, pgnotify.GapCatalog)
	exec(t, conn, `NOTIFY tcn, '"t",I,"id"=''2024'''`)
	l.wait(5*time.Second, "the change", func() bool { return len(l.changes) > 0 })
	l.stop()
	if got := strings.Join(allWords(l.changes), " "); got != "tcn insert t nil→{}" {
		t.Error(got)
	}
}
