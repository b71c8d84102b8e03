package pgnotify_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"pgevict/internal/livetest"
	"pgevict/pgnotify"
)

func TestMain(m *testing.M) { livetest.Main(m) }

// ears is a handler and an observer that remembers. It fails the test if its handler's methods are called at the same
// time, or once the listener has stopped.
type ears struct {
	t       *testing.T
	busy    atomic.Bool
	stopped atomic.Bool

	mu         sync.Mutex
	order      []string // a word for each call of the handler
	changes    []pgnotify.Change
	gaps       []string
	gapTimes   []time.Time
	marks      []pgnotify.Mark
	listening  []error
	unreadable []string
	usage      []float64
}

func (e *ears) enter(word string) (leave func()) {
	if e.busy.Swap(true) {
		e.t.Errorf("%s while another call of the handler is under way", word)
	}
	if e.stopped.Load() {
		e.t.Errorf("%s after Run has returned", word)
	}
	e.mu.Lock()
	e.order = append(e.order, word)
	return func() {
		e.mu.Unlock()
		e.busy.Store(false)
	}
}

func (e *ears) Change(c pgnotify.Change) {
	defer e.enter("change")()
	c.Rows = slices.Clone(c.Rows) // they are valid until this returns
	for i, row := range c.Rows {
		c.Rows[i] = pgnotify.Row{Old: slices.Clone(row.Old), New: slices.Clone(row.New)}
	}
	e.changes = append(e.changes, c)
}

func (e *ears) Gap(why string, tables ...pgnotify.Table) {
	for _, table := range tables {
		why += " " + table.String()
	}
	defer e.enter("gap " + why)()
	e.gaps, e.gapTimes = append(e.gaps, why), append(e.gapTimes, time.Now())
}

func (e *ears) Mark(m pgnotify.Mark) {
	defer e.enter("mark")()
	e.marks = append(e.marks, m)
}

func (e *ears) Listening(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listening = append(e.listening, err)
}

func (e *ears) Unreadable(source pgnotify.Source, reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unreadable = append(e.unreadable, string(source)+" "+reason)
}

func (e *ears) QueueUsage(usage float64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.usage = append(e.usage, usage)
}

// wait waits until yes, which may look at what was heard.
func (e *ears) wait(within time.Duration, what string, yes func() bool) {
	e.t.Helper()
	defer func() {
		if e.t.Failed() {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.t.Logf("heard: %d changes, gaps %q, %d marks; the last calls: %q", len(e.changes), e.gaps, len(e.marks),
				e.order[max(0, len(e.order)-20):])
		}
	}()
	livetest.Eventually(e.t, within, what, func() (ok bool) {
		e.look(func() { ok = yes() })
		return ok
	})
}

// look lets do look at what was heard so far.
func (e *ears) look(do func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	do()
}

// gap waits for the nth gap.
func (e *ears) gap(n int, why string) {
	e.t.Helper()
	e.wait(10*time.Second, "gap "+why, func() bool { return len(e.gaps) >= n })
	e.look(func() {
		if got := e.gaps[n-1]; got != why {
			e.t.Fatalf("gap %d is %q, want %q", n, got, why)
		}
	})
}

// listening is a listener that runs.
type listening struct {
	*ears
	logs *observer.ObservedLogs
	stop func() // waits until Run has returned
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

func (c columns) tables() (names []string) {
	for name := range c {
		if _, table, qualified := strings.Cut(name, "."); qualified {
			name = table
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

const heartbeat = 300 * time.Millisecond

// newListener is one of a database with the seed's two channels.
func newListener(_ *testing.T, url string, c columns) *pgnotify.Listener {
	return &pgnotify.Listener{
		Config:    func() (*pgconn.Config, error) { return pgconn.ParseConfig(url) },
		Channels:  map[string]pgnotify.Source{"tcn": pgnotify.TCN, "events": pgnotify.Events},
		Tables:    c.tables(),
		Columns:   c.ask,
		Heartbeat: heartbeat,
	}
}

// listen runs a listener until the test ends.
func listen(t *testing.T, l *pgnotify.Listener) *listening {
	t.Helper()
	return listenWith(t, l, func(e *ears) pgnotify.Handler { return e })
}

// listenWith does so with another handler, which stands before the ears.
func listenWith(t *testing.T, l *pgnotify.Listener, handler func(*ears) pgnotify.Handler) *listening {
	t.Helper()
	e := &ears{t: t}
	h := handler(e)
	core, logs := observer.New(zapcore.DebugLevel)
	l.Log = zap.New(core)
	l.Observer = e
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Run(ctx, h)
		e.stopped.Store(true)
	}()
	stop := func() {
		cancel()
		<-done
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			for _, entry := range logs.All() {
				t.Log(entry.Time.Format("05.000"), entry.Message, entry.ContextMap())
			}
		}
	})
	return &listening{e, logs, stop}
}

// errs lists the errors with which sessions have ended.
func (l *listening) errs() (errs []error) {
	for _, entry := range l.logs.FilterMessageSnippet("will connect again").All() {
		for _, field := range entry.Context {
			if err, ok := field.Interface.(error); ok {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

// fails waits until a session has ended for this reason.
func (l *listening) fails(within time.Duration, want error) {
	l.t.Helper()
	livetest.Eventually(l.t, within, want.Error(), func() bool {
		return slices.ContainsFunc(l.errs(), func(err error) bool { return errors.Is(err, want) })
	})
}

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

// seedSQL is what the seed's note sets up, letter for letter, but for the table itself, of which it shows the columns.
const seedSQL = `
CREATE EXTENSION tcn;
CREATE TABLE actions (id bigint PRIMARY KEY, "order" int, type text, descriptor jsonb, actionable_id bigint,
	actionable_type text, platform text, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now(),
	deleted_at timestamptz);
CREATE TRIGGER actions_notification_trigger
AFTER INSERT OR UPDATE OR DELETE ON actions FOR EACH ROW
EXECUTE PROCEDURE triggered_change_notification ();
` + livetest.NotifyEvent + `
CREATE TRIGGER actions_better_notification_trigger
AFTER INSERT OR UPDATE OR DELETE ON actions FOR EACH ROW
EXECUTE PROCEDURE notify_event ();`

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

// words puts a change into words.
func words(c pgnotify.Change) string {
	name := c.Table
	if c.Schema != "" {
		name = c.Schema + "." + name
	}
	s := string(c.Source) + " " + c.Op + " " + name
	if c.Changed != nil {
		s += " changed(" + strings.Join(c.Changed, ",") + ")"
	}
	for _, row := range c.Rows {
		s += " " + texts(row.Old) + "→" + texts(row.New)
	}
	return s
}

func allWords(changes []pgnotify.Change) []string {
	all := []string{}
	for _, c := range changes {
		all = append(all, words(c))
	}
	return all
}
