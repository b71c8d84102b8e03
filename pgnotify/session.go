package pgnotify

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"

	"pgevict/pgnotify/postgres"
)

// session is one connection, from LISTEN to its end. All of it runs on one goroutine, which also calls the handler: from
// within reading the connection, so that nothing piles up here. Only the watch has goroutines of its own.
//
// Whatever reads the connection, be it the wait for a notification or the driver that waits for the answer to a query,
// ends up in notification, since the demux is beneath the driver. So what notification touches needs no lock, but it
// cannot ask the server anything: it leaves that to the loop in listen, and wakes it.
type session struct {
	listener *Listener
	handler  Handler
	gap      string        // why there is a gap before this session
	limit    time.Duration // for what takes more than a moment
	down     time.Time     // since when nothing is heard
	ready    bool          // the session got as far as to hear everything

	conn     *pgconn.PgConn
	messages messages
	watch    watch
	refused  bool // the server would not take the last canary

	canary string               // the channel of this session's canaries, which nobody else knows
	sent   map[string]time.Time // the canaries that are under way
	idle   bool                 // nothing has come since the wait began

	received func()      // to be told of each read that brought something; nil: nobody
	querying bool        // an answer is waited for
	stop     func() bool // whether the wait for notifications ends; nil while none is waited for, or only time ends it
	until    time.Time   // when it ends in any case; zero while none is waited for
	done     <-chan struct{}
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// newSession makes a session, which waits for the server for so long where that takes more than a moment.
func newSession(l *Listener, h Handler, gap string, limit time.Duration) *session {
	s := &session{
		listener: l, handler: h, gap: gap, limit: limit,
		messages: newMessages(l, h),
		canary:   "pgevict_canary_" + strings.ToLower(rand.Text()),
		sent:     map[string]time.Time{},
	}
	s.watch = watch{heartbeat: l.Heartbeat, works: s.otherWorks, tell: s.tell}
	return s
}

// run connects, listens, and returns why the session is over.
func (s *session) run(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	s.watch.end = end
	conn, err := s.connect(ctx, true)
	if err != nil {
		return err
	}
	s.conn = conn
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // the session is over either way
	}()
	s.done = ctx.Done()
	defer context.AfterFunc(ctx, func() { _ = conn.Conn().SetReadDeadline(past) })() // ends a wait for a notification

	if err := s.start(ctx); err != nil {
		return err
	}
	// What was committed before the LISTEN is repaired by the sweep of this gap; what comes after it is heard. From here on
	// the session is worth something: to end it costs the whole cache, so only the watch, or an error, does.
	s.ready = true
	s.listener.Observer.Listening(nil)
	s.listener.Log.Info("listening to Postgres", zap.Uint32("pid", conn.PID()), zap.String("gap", s.gap),
		zap.Duration("after", time.Since(s.down).Round(time.Millisecond)))
	s.handler.Gap(s.gap)
	s.received = s.watch.received
	defer s.watch.close()
	err = s.listen(ctx)
	// The watch ends the context, which makes whatever waits for the connection fail with an error that says nothing.
	if cause := context.Cause(ctx); errors.Is(cause, postgres.ErrSilent) || errors.Is(cause, postgres.ErrDeaf) {
		return fmt.Errorf("%w; and another connection works", cause)
	}
	return err
}

// listen hears notifications until the session is over: a canary with each heartbeat, and in between the catalog when it
// is due, since what is known of the tables grows old without a word.
func (s *session) listen(ctx context.Context) error {
	for {
		if err := s.sendCanary(ctx); err != nil {
			return err
		}
		for next := time.Now().Add(s.listener.Heartbeat); time.Now().Before(next); {
			if err := s.receive(ctx, s.due(next), nil); err != nil {
				return err
			}
			if at := s.due(next); at.Equal(next) || time.Now().Before(at) {
				continue
			}
			if err := s.reread(ctx); err != nil {
				return err
			}
		}
	}
}

// due returns when the catalog is to be read, or next if that is not before. It is earlier once a name is heard that nobody
// knows, or once the canary is back: notification wakes for it. As long as that is under way nothing else is asked for, since
// an answer would look like a sign that the session hears.
func (s *session) due(next time.Time) time.Time {
	if len(s.sent) > 0 && !s.messages.waiting.any() {
		return next
	}
	if at := s.messages.due(); at.Before(next) {
		return at
	}
	return next
}

// connect opens a connection; the one that listens hands each notification over as it is read, so that none piles up
// here. The configuration is asked each time, since a password may have been rotated.
func (s *session) connect(ctx context.Context, listens bool) (*pgconn.PgConn, error) {
	config, err := s.listener.Config()
	if err != nil {
		return nil, err
	}
	if listens {
		config = config.Copy()
		config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
			return pgproto3.NewFrontend(&demux{conn: r, notify: s.notification, read: s.read, quiet: s.quiet}, w)
		}
	}
	return postgres.Connect(ctx, config, s.listener.limit())
}

// start listens, and makes sure that what is sent is heard. Until that is so there is no session that could be kept, so
// a silence is its end.
func (s *session) start(ctx context.Context) error {
	if err := s.withIdleTimeout(ctx, s.limit, s.listenToAll); err != nil {
		return err
	}
	// A canary from the listening connection itself proves nothing behind a pooler, so the first is another's.
	const first = "first"
	s.sent[first] = time.Now()
	bounded, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	if err := s.sendFromElsewhere(bounded, first); err != nil {
		return err
	}
	arrived := func() bool { _, away := s.sent[first]; return !away }
	for !arrived() { // it may be behind many messages
		s.idle = true
		if err := s.receive(ctx, time.Now().Add(s.limit/2), arrived); err != nil {
			return err
		}
		if s.idle {
			return postgres.ErrDeaf
		}
	}
	return nil
}

// withIdleTimeout runs queries on the listening connection. Their answers may be behind any number of notifications, so
// they may take long, but not without anything coming.
func (s *session) withIdleTimeout(ctx context.Context, timeout time.Duration, query func(context.Context) error) error {
	ctx, received, stop := postgres.WithIdleTimeout(ctx, timeout)
	defer stop()
	s.received, s.querying = received, true
	defer func() { s.received, s.querying = nil, false }()
	return postgres.Silence(ctx, query(ctx))
}

// listenToAll looks at the server, listens to all channels and reads the catalog.
func (s *session) listenToAll(ctx context.Context) error {
	// The session's own commits need no flush, or they would wait for a synchronous standby that is away; and no setting of
	// the server may end it, or what it waits for.
	rows, err := postgres.Query(ctx, s.conn, `
		SELECT pg_backend_pid(), pg_is_in_recovery(), set_config('synchronous_commit', 'off', false),
		       (SELECT count(set_config(name, '0', false)) FROM pg_settings
		        WHERE name IN ('idle_session_timeout', 'statement_timeout', 'lock_timeout', 'transaction_timeout'))`)
	switch {
	case err != nil:
		return fmt.Errorf("look at the server: %w", err)
	case rows[0][1] == "t":
		return postgres.ErrStandby
	case rows[0][0] != strconv.FormatUint(uint64(s.conn.PID()), 10): // another backend answers than the one that greeted
		return postgres.ErrPooler
	}
	for channel := range s.listener.Channels {
		if err := s.listenTo(ctx, channel); err != nil {
			return err
		}
	}
	if err := s.listenTo(ctx, s.canary); err != nil {
		return err
	}
	// Only now: a table that is altered between the two is either read as it is then, or heard of and looked at again.
	return s.messages.readCatalog(ctx, s.conn)
}

func (s *session) listenTo(ctx context.Context, channel string) error {
	if _, err := postgres.Query(ctx, s.conn, "LISTEN "+postgres.Identifier(channel)); err != nil {
		return fmt.Errorf("listen %q: %w", channel, err)
	}
	return nil
}

func (s *session) sendFromElsewhere(ctx context.Context, canary string) error {
	conn, err := s.connect(ctx, false)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := postgres.Query(ctx, conn, "SELECT pg_notify($1, $2)", s.canary, canary); err != nil {
		return fmt.Errorf("send a canary: %w", err)
	}
	return nil
}

// reread reads the catalog once more, within a limit that the server keeps: while it is read nothing is delivered, and
// what is heard goes on to count by what the catalog was. A reading that fails is no reason to end the session.
func (s *session) reread(ctx context.Context) error {
	limit := min(max(s.listener.Heartbeat/2, time.Second, 2*s.messages.took), mostLimit) // more than last time, if that was not enough
	within := func(d time.Duration) error {
		_, err := postgres.Query(ctx, s.conn, "SELECT set_config('statement_timeout', $1, false)", strconv.FormatInt(d.Milliseconds(), 10))
		return err
	}
	// The server's own limit comes first, so that a slow reading is no silence; and a silence is told of within two heartbeats
	// also if it begins just now.
	return s.ask(max(limit+limit/4, s.listener.Heartbeat), func() error {
		if err := within(limit); err != nil {
			return fmt.Errorf("bound the reading of the catalog: %w", err)
		}
		if err := s.messages.readCatalog(ctx, s.conn); err != nil {
			if !s.survived(err) {
				return err
			}
			s.messages.catalogFailed(err)
		}
		if err := within(0); err != nil {
			return fmt.Errorf("after reading the catalog: %w", err)
		}
		return nil
	})
}

// receive reads notifications until the deadline, until stop says so, or until a message waits for the catalog and that
// may be read.
func (s *session) receive(ctx context.Context, until time.Time, stop func() bool) error {
	s.stop = stop
	// The deadline stands on the socket, since the driver's wait is over only when there is an error.
	if err := s.wake(until); err != nil {
		return err
	}
	defer func() {
		// A deadline that is left on the socket would fail the next query.
		s.stop, s.until = nil, time.Time{}
		_ = s.conn.Conn().SetReadDeadline(time.Time{})
	}()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if stop != nil && stop() {
		return nil
	}
	if err := s.conn.WaitForNotification(context.Background()); !pgconn.Timeout(err) {
		return fmt.Errorf("wait for a notification: %w", err)
	}
	return ctx.Err()
}

// wake ends the wait for a notification at the given time, or at once if the session is over.
func (s *session) wake(at time.Time) error {
	s.until = at
	if err := s.conn.Conn().SetReadDeadline(at); err != nil {
		return err
	}
	select {
	case <-s.done:
		return s.conn.Conn().SetReadDeadline(past)
	default:
		return nil
	}
}

// read is told of each read of the connection that brought something.
func (s *session) read() {
	if s.received != nil {
		s.received()
	}
}

// quiet reports whether no query runs, so that the server has nothing to say but notifications.
func (s *session) quiet() bool { return s.ready && !s.querying }

// notification takes one message, in the middle of reading the connection, which it cannot use.
func (s *session) notification(channel, payload string) {
	s.idle = false
	if channel == s.canary {
		s.canaryBack(payload)
	} else if source, ok := s.listener.Channels[channel]; ok {
		s.messages.take(message{source, payload})
	}
	if s.until.IsZero() { // the driver waits for an answer, and must not be woken
		return
	}
	// If waking fails, so does reading. Others than these make the catalog due no earlier, and so cost no look at the clock.
	if s.stop != nil && s.stop() {
		_ = s.wake(past)
	} else if channel == s.canary || s.messages.waiting.any() {
		if due := s.due(s.until); due.Before(s.until) {
			_ = s.wake(due)
		}
	}
}
