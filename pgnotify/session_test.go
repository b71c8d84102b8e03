package pgnotify_test

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgevict/internal/livetest"
	"pgevict/pgnotify"
)

var seedColumns = columns{"actions": {"id", "type"}}

func TestSeedTriggers(t *testing.T) {
	t.Parallel()
	url := livetest.Database(t)
	conn := connect(t, url)
	exec(t, conn, seedSQL)
	l := listen(t, newListener(t, url, seedColumns))
	l.gap(1, pgnotify.GapStart)
	exec(t, conn, `INSERT INTO actions (id, type, descriptor) VALUES (814150981284533461, 'text', '{"text": "已經在專人線上回覆模式囉!"}')`)
	exec(t, conn, `UPDATE actions SET type = 'image' WHERE id = 814150981284533461`)
	exec(t, conn, `UPDATE actions SET id = 2, type = NULL`)
	exec(t, conn, `DELETE FROM actions`)
	want := []string{
		"tcn insert actions nil→{id=814150981284533461}",
		"events insert actions nil→{id=814150981284533461 type=text}",
		"tcn update actions {id=814150981284533461}→nil",
		"events update actions {id=814150981284533461}→{id=814150981284533461 type=image}",
		"tcn update actions {id=814150981284533461}→nil",
		"events update actions {id=2}→{id=2 type NULL}",
		"tcn delete actions {id=2}→nil",
		"events delete actions {id=2 type NULL}→nil",
	}
	l.wait(5*time.Second, "all changes", func() bool { return len(l.changes) >= len(want) })
	l.stop()
	// In a transaction the triggers fire in the order of their names.
	for i := 0; i < len(want); i += 2 {
		want[i], want[i+1] = want[i+1], want[i]
	}
	if got := allWords(l.changes); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", lines(got), lines(want))
	}
	if l.order[0] != "gap start" {
		t.Errorf("it begins with %q", l.order[0])
	}
}

func lines(all []string) (s string) {
	for _, line := range all {
		s += line + "\n"
	}
	return s
}

func TestMarks(t *testing.T) {
	t.Parallel()
	url := livetest.Database(t)
	conn := connect(t, url)
	exec(t, conn, seedSQL)
	l := listen(t, newListener(t, url, seedColumns))
	l.gap(1, pgnotify.GapStart)
	began := time.Now()
	l.wait(10*time.Second, "marks", func() bool { return len(l.marks) >= 5 })
	if took := time.Since(began); took < 3*heartbeat {
		t.Errorf("5 marks within %v", took)
	}

	// A position never vouches for a transaction that has not ended.
	exec(t, conn, "BEGIN")
	exec(t, conn, "INSERT INTO actions (id) VALUES (1)")
	var xid uint64
	if err := conn.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text::bigint").Scan(&xid); err != nil {
		t.Fatal(err)
	}
	n := 0
	l.look(func() { n = len(l.marks) })
	l.wait(10*time.Second, "marks", func() bool { return len(l.marks) >= n+3 })
	l.look(func() {
		for _, m := range l.marks {
			if m.Position > xid {
				t.Errorf("position %d while transaction %d is open", m.Position, xid)
			}
		}
		if len(l.changes) > 0 {
			t.Error("a change before the commit")
		}
	})
	exec(t, conn, "COMMIT")
	l.wait(10*time.Second, "a mark beyond the transaction", func() bool {
		i := slices.IndexFunc(l.marks, func(m pgnotify.Mark) bool { return m.Position > xid })
		return i >= 0 && len(l.changes) == 2
	})
	l.stop()
	position, beyond := uint64(0), -1
	for i, m := range l.marks {
		if m.Position < position || m.Position == 0 {
			t.Errorf("position %d after %d", m.Position, position)
		}
		position = m.Position
		if beyond < 0 && m.Position > xid {
			beyond = i
		}
		if took := time.Since(m.Sent); took < 0 || took > time.Minute {
			t.Errorf("sent %v ago", took)
		}
	}
	// Both changes came before the mark that vouches for them.
	changes, marks := 0, 0
	for _, word := range l.order {
		switch word {
		case "change":
			changes++
		case "mark":
			if marks == beyond && changes != 2 {
				t.Errorf("the mark beyond the transaction comes after %d of its 2 changes", changes)
			}
			marks++
		}
	}
	if len(l.gaps) != 1 {
		t.Errorf("gaps %q", l.gaps)
	}
	if len(l.usage) == 0 || l.usage[0] < 0 || l.usage[0] > 0.1 {
		t.Errorf("usage of the queue: %v", l.usage)
	}
	if l.listening[0] != nil || l.listening[len(l.listening)-1] == nil {
		t.Errorf("listening: %v", l.listening)
	}
}

func TestChannels(t *testing.T) {
	t.Parallel()
	url := livetest.Database(t)
	conn := connect(t, url)
	exec(t, conn, `CREATE TABLE "T" (id int PRIMARY KEY)`)
	listener := newListener(t, url, columns{"T": {"id"}})
	listener.Channels = map[string]pgnotify.Source{
		"my-chan": pgnotify.TCN, `a "b"; c`: pgnotify.TCN, "Events": pgnotify.Events, "plain": pgnotify.Events,
	}
	l := listen(t, listener)
	l.gap(1, pgnotify.GapStart)
	for i, channel := range []string{"my-chan", `a "b"; c`} {
		exec(t, conn, "SELECT pg_notify($1, $2)", channel, fmt.Sprintf(`"T",I,"id"='%d'`, i))
	}
	exec(t, conn, "SELECT pg_notify('events', $1)", `{"table":"T"}`) // not listened to
	exec(t, conn, "SELECT pg_notify('tcn', $1)", `"T",I,"id"='9'`)
	for i, channel := range []string{"Events", "plain"} {
		exec(t, conn, "SELECT pg_notify($1, $2)", channel, fmt.Sprintf(`{"table":"T","action":"DELETE","data":{"id":%d}}`, i))
	}
	l.wait(5*time.Second, "the changes", func() bool { return len(l.changes) >= 4 })
	want := []string{"tcn insert T nil→{id=0}", "tcn insert T nil→{id=1}", "events delete T {id=0}→nil", "events delete T {id=1}→nil"}
	l.stop()
	if got := allWords(l.changes); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", lines(got), lines(want))
	}
}

func TestUnreadableIsCountedAndLoggedOnce(t *testing.T) {
	t.Parallel()
	url := livetest.Database(t)
	conn := connect(t, url)
	exec(t, conn, `CREATE TABLE t (id int PRIMARY KEY)`)
	l := listen(t, newListener(t, url, columns{"t": {"id"}}))
	l.gap(1, pgnotify.GapStart)
	exec(t, conn, "NOTIFY tcn")
	exec(t, conn, "NOTIFY tcn, 'hello'")
	exec(t, conn, "NOTIFY events, '{}'")
	exec(t, conn, `NOTIFY events, '{"table":"t","data":[1]}'`)
	exec(t, conn, "SELECT pg_notify('tcn', '\"t\",' || repeat('囉', 2000))")
	want := []string{"tcn syntax", "tcn syntax", "events foreign", "events rows", "tcn syntax"}
	l.wait(5*time.Second, "all unreadable", func() bool { return len(l.unreadable) >= len(want) && len(l.changes) >= 2 })
	l.stop()
	if !slices.Equal(l.unreadable, want) {
		t.Errorf("got %q", l.unreadable)
	}
	if got := allWords(l.changes); !slices.Equal(got, []string{"events unknown t", "tcn unknown t"}) {
		t.Errorf("changes: %q", got)
	}
	logged := l.logs.FilterMessageSnippet("unreadable").All()
	if len(logged) != 1 {
		t.Errorf("%d lines in the log", len(logged))
	}
	if len(l.gaps) != 1 {
		t.Errorf("gaps %v", l.gaps)
	}
}

// counter counts changes, each of which has an id that it has not seen.
type counter struct {
	*ears
	seen []bool
	n    int
}

func (c *counter) Change(change pgnotify.Change) {
	defer c.enter("change")()
	c.order = nil
	text, _, _ := change.Rows[0].New.Column("id")
	id, err := strconv.Atoi(text)
	if err != nil || c.seen[id] {
		c.t.Errorf("id %q: seen before, or %v", text, err)
		return
	}
	c.seen[id] = true
	c.n++
	for began := time.Now(); time.Since(began) < 15*time.Microsecond; {
		runtime.Gosched() // as long as a long file of rules may take
	}
}

func TestManyNotificationsInOneTransaction(t *testing.T) {
	t.Parallel()
	// NOTIFY's lock is one for all databases, so that the canaries of other tests would wait for this commit.
	url := livetest.NewPostgres(t).URL("postgres")
	conn := connect(t, url)
	exec(t, conn, `CREATE TABLE t (id int PRIMARY KEY)`)
	const many = 300_000
	l := newListener(t, url, columns{"t": {"id"}})
	l.Heartbeat = 3 * time.Second // less than it takes to hear all, but more than the commit, for which a canary must wait
	heard := &counter{seen: make([]bool, many+1)}
	run := listenWith(t, l, func(e *ears) pgnotify.Handler { heard.ears = e; return heard })
	run.gap(1, pgnotify.GapStart)
	began := time.Now()
	exec(t, conn, `SELECT pg_notify('tcn', '"t",I,"id"=''' || i || '''') FROM generate_series(1, $1::int) i`, many)
	t.Logf("the commit took %v", time.Since(began))
	run.wait(time.Minute, "all", func() bool { return heard.n == many })
	after := 0
	run.look(func() { after = len(run.marks) })
	run.wait(30*time.Second, "marks again", func() bool { return len(run.marks) >= after+3 })
	run.stop()
	if len(run.gaps) != 1 {
		t.Errorf("gaps %v", run.gaps)
	}
}
