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

// catalogPause is the least time between two readings of the catalog in one session.
const catalogPause = 10 * time.Second

// session is one connection, from LISTEN to its end. All of it runs on one goroutine.
type session struct {
	*Listener
	handler Handler
	gap     string // why there is a gap before this session
	heard   bool   // the session got as far as to hear everything

	conn    *pgconn.PgConn
	decoder Decoder
	waiting waiting // messages that wait for the catalog
	read    time.Time
	reading bool // the catalog is being read

	canary   string // the channel of this session's canaries
	position uint64 // of the latest canary that came back
	held     uint64 // the position when the first message that waits, or is about to be taken, came
	sent     map[string]time.Time
	quiet    bool // nothing has come since the last heartbeat

	enough   func() bool // ends a wait for notifications; nil while none is waited for
	received func()      // prolongs the idle timeout of a query; nil while none runs
	came     int         // notifications so far

	unsaid   int       // unreadable messages that were not logged
	saidLast time.Time // when one was
}

func (s *session) run(ctx context.Context) error {
	s.canary = "pgevict_canary_" + strings.ToLower(rand.Text())
	s.sent = map[string]time.Time{}
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
	stop := context.AfterFunc(ctx, func() { _ = s.wake(time.Unix(1, 0)) }) // ends a wait for a notification
	defer stop()

	if err := s.start(ctx); err != nil {
		return err
	}
	s.heard = true
	s.Observer.Connected(true)
	s.Log.Info("listening to Postgres", zap.Uint32("pid", conn.PID()), zap.String("gap", s.gap))
	s.handler.Gap(s.gap)
	for {
		if err := s.beat(ctx); err != nil {
			return err
		}
		if err := s.hear(ctx, time.Now().Add(s.Heartbeat), nil); err != nil {
			return err
		}
	}
}

// connect opens a connection; the one that listens hands each notification over as it is read, so that none piles up
// here.
func (s *session) connect(ctx context.Context, listens bool) (*pgconn.PgConn, error) {
	config, err := s.Config()
	if err != nil {
		return nil, err
	}
	if listens {
		config = config.Copy()
		config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
			return pgproto3.NewFrontend(&tap{Reader: r, notify: s.notification}, w)
		}
	}
	return postgres.Connect(ctx, config, s.slow())
}

// slow is the patience with what takes more than a moment.
func (s *session) slow() time.Duration { return max(2*s.Heartbeat, 2*time.Second) }

// start listens, and makes sure that what is sent is heard.
func (s *session) start(ctx context.Context) error {
	if err := s.withIdleTimeout(ctx, s.slow(), s.listenToAll); err != nil {
		return err
	}
	// A canary from the listening connection itself proves nothing behind a pooler, so the first is another's.
	const first = "first"
	s.sent[first] = time.Now()
	slow, cancel := context.WithTimeout(ctx, s.slow())
	defer cancel()
	if err := s.sendFromElsewhere(slow, first); err != nil {
		return err
	}
	arrived := func() bool { _, away := s.sent[first]; return !away }
	for !arrived() { // it may be behind many messages
		s.quiet = true
		if err := s.hear(ctx, time.Now().Add(s.Heartbeat), arrived); err != nil {
			return err
		}
		if s.quiet {
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
	for channel := range s.Channels {
		if err := s.listen(ctx, channel); err != nil {
			return err
		}
	}
	if err := s.listen(ctx, s.canary); err != nil {
		return err
	}
	return s.readCatalog(ctx)
}

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

// beat sends a canary, or finds that the last one is lost. While messages keep coming a canary may be behind them.
func (s *session) beat(ctx context.Context) error {
	if len(s.sent) > 0 {
		if s.quiet {
			return postgres.ErrDeaf
		}
		s.quiet = true
		return nil
	}
	s.quiet = true
	now := time.Now()
	id := strconv.FormatInt(now.UnixNano(), 36)
	s.sent[id] = now
	return s.withIdleTimeout(ctx, s.Heartbeat, func(ctx context.Context) error {
		rows, err := postgres.Query(ctx, s.conn, `
			SELECT pg_notification_queue_usage(),
			       pg_notify($1, $2 || ' ' || pg_snapshot_xmin(pg_current_snapshot())::text)`, s.canary, id)
		if err != nil {
			return fmt.Errorf("send a canary: %w", err)
		}
		if usage, err := strconv.ParseFloat(rows[0][0], 64); err == nil {
			s.Observer.QueueUsage(usage)
		}
		return nil
	})
}

// hear reads notifications until the deadline, or until enough says so. It reads the catalog anew when that is due.
func (s *session) hear(ctx context.Context, until time.Time, enough func() bool) error {
	for {
		wake := until
		if again := s.read.Add(catalogPause); s.waiting.any() && again.Before(wake) {
			wake = again
		}
		if err := s.hearUntil(ctx, wake, enough); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.waiting.any() && time.Since(s.read) >= catalogPause {
			if err := s.withIdleTimeout(ctx, s.slow(), s.readCatalog); err != nil {
				return err
			}
		}
		if !time.Now().Before(until) || (enough != nil && enough()) {
			return nil
		}
	}
}

// hearUntil reads notifications until the deadline, until enough says so or until a message needs a catalog that may be
// read now.
func (s *session) hearUntil(ctx context.Context, until time.Time, enough func() bool) error {
	s.enough = func() bool {
		return enough != nil && enough() || s.waiting.any() && time.Since(s.read) >= catalogPause
	}
	defer func() { s.enough = nil }()
	// The deadline stands on the socket, since the driver's wait is over only when there is an error.
	if err := s.wake(until); err != nil {
		return err
	}
	defer func() { _ = s.wake(time.Time{}) }() // queries have deadlines of their own
	if ctx.Err() != nil || s.enough() {
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
	s.quiet = false
	s.came++
	if s.received != nil && s.came%64 == 0 {
		s.received()
	}
	if channel == s.canary {
		s.canaryBack(payload)
	} else if source, ok := s.Channels[channel]; ok {
		s.message(message{source, payload}, false)
	}
	if s.enough != nil && s.enough() {
		_ = s.wake(time.Unix(1, 0)) // if that fails, so does reading
	}
}

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
	s.position, _ = strconv.ParseUint(position, 10, 64)
	mark := Mark{Position: s.position, Sent: sent}
	if s.reading || s.waiting.any() {
		mark.Position = s.held // what waits for the catalog has not been handed over
	}
	s.handler.Mark(mark)
}

// message decodes a message and hands its changes over, or keeps it if the catalog must be read first.
func (s *session) message(m message, final bool) {
	if s.decoder.Catalog == nil {
		s.keep(m)
		return
	}
	changes, known, err := s.decoder.Decode(m.source, m.payload)
	if !known && !final {
		s.keep(m)
		return
	}
	if err != nil {
		s.unreadable(m, err)
	}
	for _, c := range changes {
		s.handler.Change(c)
	}
}

func (s *session) keep(m message) {
	m.payload = strings.Clone(m.payload)
	if !s.reading && !s.waiting.any() {
		s.held = s.position
	}
	s.waiting.add(m)
}

// readCatalog reads the catalog, and then the messages that waited for it. Those that come meanwhile may have to wait
// again, since their table may be newer than what was read.
func (s *session) readCatalog(ctx context.Context) error {
	s.read = time.Now()
	if !s.waiting.any() {
		s.held = s.position
	}
	messages, lost := s.waiting.take()
	s.reading = true
	defer func() { s.reading = false }()
	catalog, err := LoadCatalog(ctx, s.conn, s.Tables, s.Columns)
	if err != nil {
		return err
	}
	before := s.decoder.Catalog
	s.decoder = Decoder{Columns: s.Columns, Catalog: catalog}
	meanwhile, lostNow := s.waiting.take()
	if lost || lostNow || before != nil && !before.agrees(catalog) {
		s.handler.Gap(GapCatalog)
	}
	for _, m := range messages {
		s.message(m, true)
	}
	for _, m := range meanwhile {
		s.message(m, false)
	}
	return nil
}

// unreadable counts a message that could not be read, and logs one in ten seconds.
func (s *session) unreadable(m message, err error) {
	reason := "syntax"
	var u *Unreadable
	if errors.As(err, &u) {
		reason = u.Reason
	}
	s.Observer.Unreadable(m.source, reason)
	s.unsaid++
	if time.Since(s.saidLast) < 10*time.Second {
		return
	}
	const most = 100
	head := m.payload
	if len(head) > most {
		head = head[:most] + "…"
	}
	s.Log.Warn("unreadable notification", zap.String("source", string(m.source)), zap.Error(err),
		zap.String("payload", strings.ToValidUTF8(head, "\uFFFD")), zap.Int("since_last_said", s.unsaid))
	s.unsaid, s.saidLast = 0, time.Now()
}
