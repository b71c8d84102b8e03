package triggers_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgevict/internal/livetest"
	"pgevict/pgnotify"
	"pgevict/pgnotify/triggers"
)

func TestMain(m *testing.M) { livetest.Main(m) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// columns answers as a rules file that names these tables, with schema or without.
type columns map[string][]string

func (c columns) ask(schema, table string) (names []string, ok bool) {
	for name, of := range c {
		s, t, qualified := strings.Cut(name, ".")
		if !qualified {
			s, t = "", name
		}
		if t == table && (s == "" || schema == "" || s == schema) {
			ok = true
			names = append(names, of...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), ok
}

// catalog returns a decoder that knows the database.
func catalog(t *testing.T, conn *pgx.Conn, c columns) pgnotify.Decoder {
	t.Helper()
	var tables []string
	for name := range c {
		tables = append(tables, name[strings.IndexByte(name, '.')+1:])
	}
	loaded, err := pgnotify.LoadCatalog(t.Context(), conn.PgConn(), tables, c.ask)
	if err != nil {
		t.Fatal(err)
	}
	return pgnotify.Decoder{Columns: c.ask, Catalog: loaded}
}

// texts puts an image into words.
func texts(i pgnotify.Image) string {
	if i == nil {
		return "nil"
	}
	words := []string{}
	for _, c := range i {
		text := c.Name + "=" + c.Text
		if c.Null {
			text = c.Name + " NULL"
		}
		words = append(words, text)
	}
	return "{" + strings.Join(words, " ") + "}"
}

// wired is a database with triggers, and somebody who hears what they send.
type wired struct {
	*testing.T
	writer, ears *pgx.Conn
	wanted       triggers.Wanted
	columns      columns
}

// wire makes the tables, and the triggers that watch some of them.
func wire(t *testing.T, tables string, watch ...triggers.Table) *wired {
	t.Helper()
	url := livetest.Database(t)
	w := &wired{T: t, writer: connect(t, url), ears: connect(t, url), columns: columns{}}
	w.wanted = triggers.Wanted{Tables: watch, Channel: "events", MaxRows: 10}
	for _, table := range watch {
		w.columns[table.Name] = append([]string{"id"}, table.Columns...)
	}
	exec(t, w.writer, tables)
	exec(t, w.ears, `LISTEN events`)
	w.install()
	return w
}

// version returns the server's major version.
func (w *wired) version() int {
	w.Helper()
	n, err := strconv.Atoi(w.writer.PgConn().ParameterStatus("server_version")[:2])
	if err != nil {
		w.Fatal(err)
	}
	return n
}

func (w *wired) install() (did []string) {
	w.Helper()
	did, err := w.wanted.Install(w.Context(), w.ears.PgConn(), 10*time.Second)
	if err != nil {
		w.Fatal(err)
	}
	return did
}

// payloads runs a statement, and gives what was sent.
func (w *wired) payloads(sql string, args ...any) (payloads []string) {
	w.Helper()
	exec(w.T, w.writer, sql, args...)
	exec(w.T, w.writer, `NOTIFY events, 'end'`)
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	for {
		n, err := w.ears.WaitForNotification(ctx)
		if err != nil {
			w.Fatalf("%s: %v", sql, err)
		}
		if n.Payload == "end" {
			return payloads
		}
		if len(n.Payload) >= 8000 {
			w.Errorf("%s: a payload of %d bytes", sql, len(n.Payload))
		}
		payloads = append(payloads, n.Payload)
	}
}

// rows runs a statement, and gives a text for each row that was sent: the operation, the table, what it was and what it
// is, or "any row".
func (w *wired) rows(sql string, args ...any) (rows []string) {
	w.Helper()
	return w.read(sql, w.payloads(sql, args...))
}

// read gives the rows that a statement sent in these payloads.
func (w *wired) read(sql string, payloads []string) (rows []string) {
	w.Helper()
	d := catalog(w.T, w.ears, w.columns)
	for _, payload := range payloads {
		changes, known, err := d.Decode(pgnotify.Events, payload)
		if err != nil || !known || len(changes) == 0 {
			w.Errorf("%s sent %s: %v, known %v, %v", sql, payload, changes, known, err)
		}
		for _, c := range changes {
			head := c.Op + " " + c.Schema + "." + c.Table + " "
			if len(c.Rows) == 0 {
				rows = append(rows, head+"any row")
			}
			for _, r := range c.Rows {
				rows = append(rows, head+sorted(r.Old)+"→"+sorted(r.New))
			}
		}
	}
	slices.Sort(rows)
	return slices.Compact(rows)
}

// sends checks what a statement sends, in whatever order.
func (w *wired) sends(sql string, want ...string) {
	w.Helper()
	slices.Sort(want)
	if got := w.rows(sql); !slices.Equal(got, want) {
		w.Errorf("%s sent\n%q, want\n%q", sql, got, want)
	}
}

// sorted puts an image into words, with its columns in order.
func sorted(i pgnotify.Image) string {
	i = slices.Clone(i)
	slices.SortFunc(i, func(a, b pgnotify.Column) int { return strings.Compare(a.Name, b.Name) })
	return texts(i)
}
