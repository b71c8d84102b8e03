package pgnotify

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
)

// catalogPause is the least time between two readings of the catalog in one session.
const catalogPause = 10 * time.Second

// messages is what becomes of the messages of a session: changes, or they wait for the catalog to be read again.
type messages struct {
	listener *Listener
	handler  Handler

	decoder Decoder
	waiting waiting   // messages of tables that the catalog does not have
	read    time.Time // when the catalog was read, or began to be
	reading bool      // it is being read

	position uint64 // of the latest canary that came back
	held     uint64 // the position when the first message that waits, or is about to be taken, came

	log logLimiter
}

// take decodes a message and hands its changes over, or keeps it if the catalog must be read first.
func (ms *messages) take(m message, final bool) {
	if ms.decoder.Catalog == nil {
		ms.keep(m)
		return
	}
	changes, known, err := ms.decoder.Decode(m.source, m.payload)
	if !known && !final {
		ms.keep(m)
		return
	}
	if err != nil {
		ms.unreadable(m, err)
	}
	for _, c := range changes {
		ms.handler.Change(c)
	}
}

func (ms *messages) keep(m message) {
	m.payload = strings.Clone(m.payload) // it is part of a text of many
	if !ms.reading && !ms.waiting.any() {
		ms.held = ms.position
	}
	ms.waiting.add(m)
}

// reached takes the position that a canary brought, and returns the one up to which all changes have been handed over:
// what waits for the catalog has not.
func (ms *messages) reached(position string) uint64 {
	ms.position, _ = strconv.ParseUint(position, 10, 64)
	if ms.reading || ms.waiting.any() {
		return ms.held
	}
	return ms.position
}

// due reports whether messages wait for the catalog, and from when on it may be read.
func (ms *messages) due() (at time.Time, due bool) {
	return ms.read.Add(catalogPause), ms.waiting.any()
}

// readCatalog reads the catalog, and then the messages that waited for it. Those that come meanwhile may have to wait
// again, since their table may be newer than what was read.
func (ms *messages) readCatalog(ctx context.Context, conn *pgconn.PgConn) error {
	ms.read = time.Now()
	if !ms.waiting.any() {
		ms.held = ms.position
	}
	waited, lost := ms.waiting.take()
	ms.reading = true
	defer func() { ms.reading = false }()
	catalog, err := LoadCatalog(ctx, conn, ms.listener.Tables, ms.listener.Columns)
	if err != nil {
		return err
	}
	before := ms.decoder.Catalog
	ms.decoder = Decoder{Columns: ms.listener.Columns, Catalog: catalog}
	meanwhile, lostNow := ms.waiting.take()
	if lost || lostNow || before != nil && !before.agrees(catalog) {
		ms.handler.Gap(GapCatalog)
	}
	for _, m := range waited {
		ms.take(m, true)
	}
	for _, m := range meanwhile {
		ms.take(m, false)
	}
	return nil
}

// unreadable counts a message that could not be read, and logs one in ten seconds.
func (ms *messages) unreadable(m message, err error) {
	reason := "syntax"
	var u *Unreadable
	if errors.As(err, &u) {
		reason = u.Reason
	}
	ms.listener.Observer.Unreadable(m.source, reason)
	since, ok := ms.log.allow(time.Now())
	if !ok {
		return
	}
	const most = 100
	head := m.payload
	if len(head) > most {
		head = head[:most] + "…"
	}
	ms.listener.Log.Warn("unreadable notification", zap.String("source", string(m.source)), zap.Error(err),
		zap.String("payload", strings.ToValidUTF8(head, "\uFFFD")), zap.Int("since_last_said", since))
}

// logLimiter lets one line through in ten seconds.
type logLimiter struct {
	last       time.Time
	suppressed int
}

// allow reports whether a line may be logged now, and of how many it is the only one since the last.
func (l *logLimiter) allow(now time.Time) (of int, ok bool) {
	l.suppressed++
	if now.Sub(l.last) < 10*time.Second {
		return 0, false
	}
	of, l.suppressed, l.last = l.suppressed, 0, now
	return of, true
}
