package pgnotify

import (
	"context"
	"crypto/rand"
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
// within reading the connection, so that nothing piles up here.
type session struct {
	listener *Listener
	handler  Handler
	gap      string // why there is a gap before this session
	ready    bool   // the session got as far as to hear everything

	conn     *pgconn.PgConn
	messages messages

	canary string               // the channel of this session's canaries, which nobody else knows
	sent   map[string]time.Time // the canaries that are under way
	idle   bool                 // nothing has come since the last heartbeat

	// What the wait for notifications or for the answer to a query is to do when a notification has come.
	stop          func() bool // whether it ends; nil while no notification is waited for
	received      func()      // prolongs the idle timeout; nil while no query runs
	notifications int         // so far
}

func newSession(l *Listener, h Handler, gap string) *session {
	return &session{
		listener: l, handler: h, gap: gap,
		messages: messages{listener: l, handler: h},
		canary:   "pgevict_canary_" + strings.ToLower(rand.Text()),
		sent:     map[string]time.Time{},
	}
}

func (s *session) run(ctx context.Context) error {
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
	defer context.AfterFunc(ctx, func() { _ = s.wake(time.Unix(1, 0)) })() // ends a wait for a notification

	if err := s.start(ctx); err != nil {
		return err
	}
	s.ready = true
	s.listener.Observer.Listening(nil)
	s.listener.Log.Info("listening to Postgres", zap.Uint32("pid", conn.PID()), zap.String("gap", s.gap))
	s.handler.Gap(s.gap)
	for {
		if err := s.sendCanary(ctx); err != nil {
			return err
		}
		if err := s.receive(ctx, time.Now().Add(s.listener.Heartbeat), nil); err != nil {
			return err
		}
	}
}

// connect opens a connection; the one that listens hands each notification over as it is read, so that none piles up
// here.
func (s *session) connect(ctx context.Context, listens bool) (*pgconn.PgConn, error) {
	config, err := s.listener.Config()
	if err != nil {
		return nil, err
	}
	if listens {
		config = config.Copy()
		config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
			return pgproto3.NewFrontend(&demux{conn: r, notify: s.notification}, w)
		}
	}
	return postgres.Connect(ctx, config, s.timeout())
}

// timeout is for what takes more than a moment.
func (s *session) timeout() time.Duration { return max(2*s.listener.Heartbeat, 2*time.Second) }

// start listens, and makes sure that what is sent is heard.
func (s *session) start(ctx context.Context) error {
	if err := s.withIdleTimeout(ctx, s.timeout(), s.listenToAll); err != nil {
		return err
	}
	// A canary from the listening connection itself proves nothing behind a pooler, so the first is another's.
	const first = "first"
	s.sent[first] = time.Now()
	bounded, cancel := context.WithTimeout(ctx, s.timeout())
	defer cancel()
	if err := s.sendFromElsewhere(bounded, first); err != nil {
		return err
	}
	arrived := func() bool { _, away := s.sent[first]; return !away }
	for !arrived() { // it may be behind many messages
		s.idle = true
		if err := s.receive(ctx, time.Now().Add(s.listener.Heartbeat), arrived); err != nil {
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
	s.received = received
	defer func() { s.received = nil }()
	return postgres.Silence(ctx, query(ctx))
}

// listenToAll looks at the server, listens to all channels and reads the catalog.
func (s *session) listenToAll(ctx context.Context) error {
	// The session's own commits need no flush, and no server setting may end it for being idle.
	rows, err := postgres.Query(ctx, s.conn, `
		SELECT pg_backend_pid(), pg_is_in_recovery(),
		       `+postgres.StayOpen+`,
		       set_config('synchronous_commit', 'off', false)`)
	switch {
	case err != nil:
		return fmt.Errorf("look at the server: %w", err)
	case rows[0][1] == "t":
		return postgres.ErrStandby
	case rows[0][0] != strconv.FormatUint(uint64(s.conn.PID()), 10):
		return postgres.ErrPooler
	}
	for channel := range s.listener.Channels {
		if err := s.listen(ctx, channel); err != nil {
			return err
		}
	}
	if err := s.listen(ctx, s.canary); err != nil {
		return err
	}
	return s.readCatalog(ctx)
}

func (s *session) readCatalog(ctx context.Context) error { return s.messages.readCatalog(ctx, s.conn) }

func (s *session) listen(ctx context.Context, channel string) error {
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

// sendCanary sends a canary, or finds that the last one is lost. While messages keep coming a canary may be behind them.
func (s *session) sendCanary(ctx context.Context) error {
	if len(s.sent) > 0 {
		if s.idle {
			return postgres.ErrDeaf
		}
		s.idle = true
		return nil
	}
	s.idle = true
	now := time.Now()
	id := strconv.FormatInt(now.UnixNano(), 36)
	s.sent[id] = now
	return s.withIdleTimeout(ctx, s.listener.Heartbeat, func(ctx context.Context) error {
		rows, err := postgres.Query(ctx, s.conn, `
			SELECT pg_notification_queue_usage(),
			       pg_notify($1, $2 || ' ' || pg_snapshot_xmin(pg_current_snapshot())::text)`, s.canary, id)
		if err != nil {
			return fmt.Errorf("send a canary: %w", err)
		}
		if usage, err := strconv.ParseFloat(rows[0][0], 64); err == nil {
			s.listener.Observer.QueueUsage(usage)
		}
		return nil
	})
}

// receive reads notifications until the deadline, or until stop says so. It reads the catalog anew when that is due.
func (s *session) receive(ctx context.Context, until time.Time, stop func() bool) error {
	for {
		wake := until
		if at, due := s.messages.due(); due && at.Before(wake) {
			wake = at
		}
		if err := s.receiveUntil(ctx, wake, stop); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.catalogDue() {
			if err := s.withIdleTimeout(ctx, s.timeout(), s.readCatalog); err != nil {
				return err
			}
		}
		if !time.Now().Before(until) || (stop != nil && stop()) {
			return nil
		}
	}
}

// catalogDue reports whether a message waits for the catalog, and that may be read now.
func (s *session) catalogDue() bool {
	at, due := s.messages.due()
	return due && !time.Now().Before(at)
}

// receiveUntil reads notifications until the deadline, until stop says so or until a message needs a catalog that may be
// read now.
func (s *session) receiveUntil(ctx context.Context, until time.Time, stop func() bool) error {
	s.stop = func() bool { return stop != nil && stop() || s.catalogDue() }
	defer func() { s.stop = nil }()
	// The deadline stands on the socket, since the driver's wait is over only when there is an error.
	if err := s.wake(until); err != nil {
		return err
	}
	defer func() { _ = s.wake(time.Time{}) }() // queries have deadlines of their own
	if ctx.Err() != nil || s.stop() {
		return nil
	}
	if err := s.conn.WaitForNotification(context.Background()); !pgconn.Timeout(err) {
		return fmt.Errorf("wait for a notification: %w", err)
	}
	return nil
}

// wake ends the wait for a notification at the given time.
func (s *session) wake(at time.Time) error { return s.conn.Conn().SetReadDeadline(at) }

// notification takes one message, in the middle of reading the connection, which it cannot use.
func (s *session) notification(channel, payload string) {
	s.idle = false
	s.notifications++
	if s.received != nil && s.notifications%64 == 0 {
		s.received()
	}
	if channel == s.canary {
		s.canaryBack(payload)
	} else if source, ok := s.listener.Channels[channel]; ok {
		s.messages.take(message{source, payload}, false)
	}
	if s.stop != nil && s.stop() {
		_ = s.wake(time.Unix(1, 0)) // if that fails, so does reading
	}
}

// canaryBack takes a canary that has come all the way.
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
	s.handler.Mark(Mark{Position: s.messages.reached(position), Sent: sent})
}
