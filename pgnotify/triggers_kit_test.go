package pgnotify_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgevict/internal/livetest"
	"pgevict/pgnotify"
)

// wired is a database with triggers, and somebody who hears what they send.
type wired struct {
	*testing.T
	writer, ears *pgx.Conn
	triggers     pgnotify.Triggers
	columns      columns
}

// wire makes the tables, and the triggers that watch some of them.
func wire(t *testing.T, tables string, watch ...pgnotify.Watch) *wired {
	t.Helper()
	url := livetest.Database(t)
	w := &wired{T: t, writer: connect(t, url), ears: connect(t, url), columns: columns{}}
	w.triggers = pgnotify.Triggers{Tables: watch, Channel: "events", MaxRows: 10}
	for _, table := range watch {
		w.columns[table.Table] = append([]string{"id"}, table.Columns...)
	}
	exec(t, w.writer, tables)
	exec(t, w.ears, `LISTEN events`)
	w.install()
	return w
}

func (w *wired) install() (did []string) {
	w.Helper()
	did, err := w.triggers.Install(w.Context(), w.ears.PgConn(), 10*time.Second)
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
