package pgnotify

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
)

// Handler takes what a listener hears. Its methods are called from one goroutine, one at a time, and must not wait: a
// listener that does not read fills the server's notification queue, and then the application's commits fail.
type Handler interface {
	// Change is a write to a table. The change, its rows and their images are valid until Change returns.
	Change(Change)
	// Gap says that changes may have been missed, any of any table: why is one of the Gap constants.
	Gap(why string)
	// Mark says how far all changes have been handed over.
	Mark(Mark)
}

// The reasons for a gap.
const (
	GapStart      = "start"      // the listener has just started
	GapConnection = "connection" // the connection was lost and is back
	GapCatalog    = "catalog"    // a table in the rules is no longer what it was, or too much waited for the catalog
)

// Mark is a canary that came back through the notification queue.
type Mark struct {
	// Position is the id below which every transaction has ended and its changes have been handed over; 0: not known.
	Position uint64
	Sent     time.Time
}

// Observer is told about the listener itself. Its methods must not wait either.
type Observer interface {
	// Listening tells that all is heard, with nil, or why it is not: a session has ended.
	Listening(error)
	// Unreadable tells of a payload that could not be read; reason is that of [Unreadable].
	Unreadable(source Source, reason string)
	// QueueUsage tells how full the server's notification queue is, from 0 to 1.
	QueueUsage(float64)
}

// Listener hears the notifications of one database.
type Listener struct {
	// Config says where to connect. It is asked before each attempt, so that rotated credentials are picked up.
	Config func() (*pgconn.Config, error)
	// Channels are the notification channels and the format that each carries.
	Channels map[string]Source
	// Tables are the names of the tables that matter, and Columns is as in [Decoder].
	Tables  []string
	Columns func(schema, table string) (columns []string, ok bool)
	// Heartbeat is how often a canary is sent. A connection that is dead or deaf is found within two.
	Heartbeat time.Duration
	Observer  Observer
	Log       *zap.Logger
}

// Run listens until the context is done. Whatever ends a session, it connects again, and reports a gap as soon as it
// hears everything anew.
func (l *Listener) Run(ctx context.Context, h Handler) {
	why := GapStart
	down := time.Now()
	logged, loggedAt := "", time.Time{}
	for {
		s := newSession(l, h, why)
		err := s.run(ctx)
		l.Observer.Listening(err)
		if ctx.Err() != nil {
			return
		}
		if s.ready {
			why, down, logged = GapConnection, time.Now(), ""
		}
		// An outage is logged once, not at each attempt, even if a port in the text makes each a bit different.
		if text := err.Error(); logged == "" || text != logged && time.Since(loggedAt) > 10*time.Second {
			logged, loggedAt = text, time.Now()
			l.Log.Warn("not listening to Postgres, will connect again", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff(time.Since(down))):
		}
	}
}

// backoff is how long to wait before the next attempt: at most an eighth of the outage so far, within 100 ms and 5 s. So a
// server that is back after a short time is met within a fraction of it, and one that is long away is not hammered.
func backoff(down time.Duration) time.Duration {
	d := min(max(down/8, 200*time.Millisecond), 5*time.Second)
	return d/2 + rand.N(d/2)
}
