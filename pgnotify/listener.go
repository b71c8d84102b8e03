package pgnotify

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"pgevict/pgnotify/postgres"
)

// Handler takes what a listener hears. Its methods are called from one goroutine, one at a time, and must not wait: a
// listener that does not read fills the server's notification queue, and then the application's commits fail.
type Handler interface {
	// Change is a write to a table. The change, its rows and their images are valid until Change returns.
	Change(Change)
	// Gap says that changes may have been missed, any of these tables, or of any table if none is named. An empty schema is
	// any. reason is one of the Gap constants.
	Gap(reason string, tables ...Table)
	// Mark says how far all changes have been handed over.
	Mark(Mark)
}

// The reasons for a gap.
const (
	GapStart      = "start"      // the listener has just started
	GapConnection = "connection" // the connection was lost and is back
	GapCatalog    = "catalog"    // tables in the rules are no longer what they were when messages of them were read
)

// Mark is a canary that came back through the notification queue.
type Mark struct {
	// Position is the id below which every transaction has ended and its changes have been handed over; 0: not known.
	Position uint64
	Sent     time.Time // no change that was committed before is missing
}

// Observer is told about the listener itself. Its methods must not wait either, and may be called by several goroutines.
type Observer interface {
	// Listening tells that all is heard, with nil, or why it is not: a session has ended, or its connection is silent and is
	// kept since it may still deliver, which may turn out to be no gap.
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
	// Heartbeat is how often a canary is sent. A connection that is dead or deaf is told of within two.
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
	limit := l.limit()
	for {
		s := newSession(l, h, why, limit)
		s.down = down
		err := s.run(ctx)
		l.Observer.Listening(err)
		if ctx.Err() != nil {
			return
		}
		limit = l.nextLimit(limit, s.ready, err)
		if s.ready {
			why, down, logged = GapConnection, time.Now(), ""
		}
		// An outage is logged once a minute, not at each attempt, even if a port in the text makes each a bit different.
		text, since := err.Error(), time.Since(loggedAt)
		if logged == "" || text != logged && since > 10*time.Second || since > time.Minute {
			logged, loggedAt = text, time.Now()
			l.Log.Warn("not listening to Postgres, will connect again", zap.Error(err), zap.Duration("for", time.Since(down).Round(time.Second)))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff(time.Since(down))):
		}
	}
}

// limit is how long a server may take at first for what takes more than a moment, and mostLimit how long if it was too slow
// for that again and again, as with a catalog of many partitions.
func (l *Listener) limit() time.Duration { return max(2*l.Heartbeat, 2*time.Second) }

const mostLimit = 30 * time.Second

// nextLimit is that of the session after one that ended with err.
func (l *Listener) nextLimit(limit time.Duration, ready bool, err error) time.Duration {
	switch {
	case ready:
		return l.limit()
	case errors.Is(err, postgres.ErrSilent):
		return max(limit, min(2*limit, mostLimit))
	}
	return limit
}

// backoff is how long to wait before the next attempt: at most an eighth of the outage so far, within 100 ms and 5 s. So a
// server that is back after a short time is met within a fraction of it, and one that is long away is not hammered.
func backoff(down time.Duration) time.Duration {
	d := min(max(down/8, 200*time.Millisecond), 5*time.Second)
	return d/2 + rand.N(d/2)
}
