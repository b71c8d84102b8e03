package pgnotify

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"pgevict/pgnotify/postgres"
)

// sendCanary sends a canary, unless the last one is still under way: then it is behind many messages, or the watch is at it
// already. It carries the xmin of a snapshot that is taken before it is queued. The queue is in the order of commits, so
// when it is back all that committed below that xmin has been handed over.
func (s *session) sendCanary(ctx context.Context) error {
	if len(s.sent) > 0 {
		return nil
	}
	now := time.Now()
	id := strconv.FormatInt(now.UnixNano(), 36)
	s.sent[id] = now
	err := s.ask(s.listener.Heartbeat, func() error {
		rows, err := postgres.Query(ctx, s.conn, `
			SELECT pg_notification_queue_usage(),
			       pg_notify($1, $2 || ' ' || pg_snapshot_xmin(pg_current_snapshot())::text)`, s.canary, id)
		if err != nil {
			delete(s.sent, id)
			return fmt.Errorf("send a canary: %w", err)
		}
		if usage, err := strconv.ParseFloat(rows[0][0], 64); err == nil {
			s.listener.Observer.QueueUsage(usage)
		}
		return nil
	})
	return s.refuse(err)
}

// refuse takes what became of a canary. An error of the server's, such as a queue that is full, loses nothing and ends
// nothing, but no position goes on while there is one.
func (s *session) refuse(err error) error {
	switch {
	case err == nil && s.refused:
		s.refused = false
		s.tell(nil, 0)
	case err != nil && !s.survived(err):
		return err
	case err != nil && !s.refused:
		s.refused = true
		s.tell(err, 0)
	}
	return nil
}

// survived reports whether the connection goes on after an error, which is then the server's answer.
func (s *session) survived(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && !s.conn.IsClosed()
}

// ask runs queries on the listening connection. However long that takes, only the watch ends it: a context with a deadline
// would have the driver close the connection, and with it lose what the server still has to deliver.
func (s *session) ask(limit time.Duration, queries func() error) error {
	s.querying = true
	s.watch.await(postgres.ErrSilent, limit)
	err := queries()
	s.querying = false
	if err == nil || s.survived(err) {
		s.settle()
	}
	return err
}

// settle tells the watch what is still to come. The canary may be back before the answer to the query that sent it, or
// after it.
func (s *session) settle() {
	switch {
	case s.querying:
	case len(s.sent) > 0:
		s.watch.await(postgres.ErrDeaf, s.listener.Heartbeat)
	default:
		s.watch.arrived()
	}
}

// canaryBack takes a canary that has come all the way, in the middle of reading the connection.
func (s *session) canaryBack(payload string) {
	id, position, _ := strings.Cut(payload, " ")
	sent, ok := s.sent[id]
	if !ok {
		return // anybody may send on any channel
	}
	delete(s.sent, id)
	if position == "" {
		return // the first, which only shows that the session hears
	}
	s.settle()
	below, _ := strconv.ParseUint(position, 10, 64) // this session has sent it
	if mark, ok := s.messages.marked(Mark{Position: below, Sent: sent}); ok {
		s.handler.Mark(mark)
	}
}

// tell says that the session, which goes on, hears nothing for the moment; or, with nil, that it does again.
func (s *session) tell(err error, lasted time.Duration) {
	s.listener.Observer.Listening(err)
	if err != nil {
		s.listener.Log.Warn("not listening to Postgres for the moment; the connection is kept, since it may still deliver all there is",
			zap.Error(err), zap.Duration("for", lasted.Round(time.Second)))
	} else {
		s.listener.Log.Info("listening to Postgres again, and nothing was lost", zap.Duration("after", lasted.Round(time.Millisecond)))
	}
}

// otherWorks reports whether another connection can be had on which a notification comes back. It has to do all that the
// silent one is waited for: a server that is frozen takes connections, and one whose NOTIFY is held up answers queries.
func (s *session) otherWorks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.listener.limit())
	defer cancel()
	config, err := s.listener.Config()
	if err != nil {
		return err
	}
	back := false
	config = config.Copy()
	config.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { back = true }
	conn, err := postgres.Connect(ctx, config, s.listener.limit())
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // it has done what it is for
	}()
	channel := "pgevict_probe_" + strings.ToLower(rand.Text())
	for _, sql := range []string{"SET synchronous_commit = off", "LISTEN " + channel, "NOTIFY " + channel} {
		if _, err := postgres.Query(ctx, conn, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	if back {
		return nil
	}
	if err := conn.WaitForNotification(ctx); err != nil {
		return fmt.Errorf("wait for a notification: %w", err)
	}
	return nil
}
