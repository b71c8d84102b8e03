package pgnotify

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
)

// The catalog is read again every so often, or more seldom where that takes long: it is to take a twentieth of the time at
// most, while nothing is handed over. For a name that it does not have it is read soon, as long as that does not happen again and again.
const (
	catalogInterval = 5 * time.Second
	catalogShare    = 20
	catalogSeldom   = time.Minute
	lookupPause     = 50 * time.Millisecond
	lookupRefill    = time.Second
	lookupsAtOnce   = 10
)

// Whoever may make tables can have the catalog say something else whenever it is read. So of the sweeps that this costs
// there are a few one after the other, as a migration needs them, and then one in a minute, for all tables since the last.
const (
	doubtRefill  = time.Minute
	doubtsAtOnce = 20
)

// messages is what becomes of the messages of a session: changes, and those of names that the catalog does not have once
// more when it has been read again.
type messages struct {
	listener *Listener
	handler  Handler

	decoder   Decoder
	waiting   waiting // messages of names that the catalog does not have, and was not read for
	strangers strangers
	reading   bool // the catalog is being read for messages that waited

	read    time.Time     // when the catalog was read
	took    time.Duration // how long that took
	lookups budget

	doubts  budget
	doubted []Table // of which there is to be a gap, once there may be one

	mark Mark // the latest
	held Mark // the one when the first message that waits, or is about to be taken, came

	unreadableLog, catalogLog, doubtsLog logLimiter
}

func newMessages(l *Listener, h Handler) messages {
	return messages{
		listener: l, handler: h, decoder: Decoder{Columns: l.Columns}, strangers: strangers{},
		lookups: budget{atOnce: lookupsAtOnce, refill: lookupRefill}, doubts: budget{atOnce: doubtsAtOnce, refill: doubtRefill},
	}
}

// take decodes a message and hands its changes over. One of a name that the catalog does not have counts by what it says
// itself, and is kept to be taken once more when the catalog has been read.
func (ms *messages) take(m message) {
	if ms.decoder.Catalog == nil { // the session begins
		ms.waiting.add(ms.table(m), m)
		return
	}
	changes, known, err := ms.decoder.Decode(m.source, m.payload)
	if err != nil {
		ms.unreadable(m, err)
	}
	for _, c := range changes {
		ms.handler.Change(c)
	}
	if known {
		return
	}
	// Whoever floods a channel with names that are nobody's costs no more than this.
	if of := ms.strangers[ms.decoder.table]; of != nil {
		of.heard = true
		if !of.exists && len(changes) == 0 {
			ms.unreadable(m, errNoTable)
		}
		return
	}
	if !ms.reading && !ms.waiting.any() {
		ms.held = ms.mark
	}
	ms.waiting.add(ms.decoder.table, m)
}

// errNoTable is of a message that may be somebody else's, or about a relation that is gone.
var errNoTable error = unreadable("table", "neither the database nor the rules have a table of this name")

// table returns the table that a message is about, as far as that can be read.
func (ms *messages) table(m message) Table {
	_, _, _ = ms.decoder.Decode(m.source, m.payload) // an error counts when the message is taken
	return ms.decoder.table
}

// marked takes a mark that has come, and returns the one up to which all changes have been handed over, as far as is
// known: what waits for the catalog has not. It is not ok if there is none yet.
func (ms *messages) marked(mark Mark) (reached Mark, ok bool) {
	ms.mark = mark
	if ms.reading || ms.waiting.any() {
		return ms.held, !ms.held.Sent.IsZero()
	}
	return mark, true
}

// due returns when the catalog is to be read again.
func (ms *messages) due() time.Time {
	if ms.waiting.any() {
		return ms.read.Add(max(ms.lookups.pause(ms.read), ms.took))
	}
	return ms.read.Add(min(max(catalogInterval, catalogShare*ms.took), catalogSeldom))
}

// readCatalog reads the catalog, and then once more the messages that waited for it. Those that come meanwhile may have to
// wait again, since their table may be newer than what was read.
func (ms *messages) readCatalog(ctx context.Context, conn *pgconn.PgConn) error {
	began := time.Now()
	if !ms.waiting.any() {
		ms.held = ms.mark
	}
	// What waits now is of names that a catalog must have which is read from here on. What comes while it is read may be of
	// something newer still.
	waited := ms.waiting.take()
	if ms.reading = waited.any(); ms.reading {
		ms.lookups.spend(began)
	}
	defer func() {
		ms.reading = false
		ms.read, ms.took = time.Now(), time.Since(began)
	}()
	catalog, err := LoadCatalog(ctx, conn, ms.listener.Tables, ms.listener.Columns)
	var exist map[Table][]string
	if unknown := ms.unknown(waited, catalog); err == nil && len(unknown) > 0 {
		exist, err = existing(ctx, conn, unknown)
	}
	if err != nil {
		ms.waiting.putBack(waited) // and the mark stays held
		return err
	}
	// Nothing is read from the connection between here and the end, so all of it is one step.
	before := ms.decoder.Catalog
	meanwhile := ms.waiting.take()
	ms.decoder = Decoder{Columns: ms.listener.Columns, Catalog: catalog}
	found, gone := ms.again(waited, exist, before == nil)
	if found {
		ms.lookups.refund() // who only sends names finds none
	}
	gone = ms.lookForStrangers(exist) || gone
	if before != nil {
		for _, oids := range exist { // a table of the rules may have been heard of under a name of no rule
			ms.doubted = append(ms.doubted, before.under(oids)...)
		}
		ms.compare(before, catalog, gone || waited.more)
	}
	for name, messages := range meanwhile.names {
		for _, m := range messages {
			if before == nil {
				ms.take(m)
			} else if changes, known, _ := ms.decoder.Decode(m.source, m.payload); known {
				ms.change(changes)
			} else {
				ms.waiting.add(name, m)
			}
		}
	}
	ms.waiting.more = ms.waiting.more || meanwhile.more
	return nil
}

// unknown lists the names that were heard of and are still not known.
func (ms *messages) unknown(waited waiting, catalog *Catalog) (names []Table) {
	if catalog == nil {
		return nil
	}
	for name := range waited.names {
		if catalog.tables[name] == nil {
			names = append(names, name)
		}
	}
	for name, of := range ms.strangers {
		if of.heard && catalog.tables[name] == nil {
			names = append(names, name)
		}
	}
	return names
}

// again takes the messages that waited once more, or for the first time. It reports whether a name is known by now, and
// whether some are about a relation that may be gone, since neither the database nor the rules have its name.
func (ms *messages) again(waited waiting, exist map[Table][]string, first bool) (found, gone bool) {
	for name, messages := range waited.names {
		for _, m := range messages {
			changes, known, err := ms.decoder.Decode(m.source, m.payload)
			if first && err != nil {
				ms.unreadable(m, err)
			}
			found = found || known
			if known || first {
				ms.change(changes)
			}
			if !known && len(changes) == 0 && err == nil && len(exist[name]) == 0 {
				ms.unreadable(m, errNoTable)
				gone = true
			}
			if !known && ms.strangers[name] == nil {
				ms.strangers.add(name, len(exist[name]) > 0)
			}
		}
	}
	return found, gone
}

// lookForStrangers looks whether names that were heard of have become known: any of their rows may have changed, also
// when they were tables of no rule. It reports whether one of them may be that of a relation which is gone.
func (ms *messages) lookForStrangers(exist map[Table][]string) (gone bool) {
	for name, of := range ms.strangers {
		if !of.heard && ms.decoder.Catalog.tables[name] == nil {
			continue
		}
		m := anyRow(name)
		changes, known, _ := ms.decoder.Decode(m.source, m.payload) // it can be read
		switch {
		case known:
			ms.change(changes)
			delete(ms.strangers, name)
		default:
			of.exists, of.heard = len(exist[name]) > 0, false
			gone = gone || !of.exists && len(changes) == 0
		}
	}
	return gone
}

// compare reports a gap for the tables of which messages may have been misread since the catalog was read the last time;
// with those that a message may be of whose relation is gone.
func (ms *messages) compare(before, now *Catalog, gone bool) {
	tables := append(ms.doubted, before.misread(now)...)
	if gone {
		tables = append(tables, before.touched(now)...)
	}
	if ms.doubted = unique(tables); len(ms.doubted) == 0 {
		return
	}
	if at := time.Now(); ms.doubts.left(at) >= 1 {
		ms.doubts.spend(at)
		ms.handler.Gap(GapCatalog, ms.doubted...)
		ms.doubted = nil
	} else if of, ok := ms.doubtsLog.allow(at); ok {
		ms.listener.Log.Warn("the catalog says something else again and again, so its tables are swept once a minute only",
			zap.Stringers("tables", ms.doubted), zap.Int("times", of))
	}
}

func (ms *messages) change(changes []Change) {
	for _, c := range changes {
		ms.handler.Change(c)
	}
}

// catalogFailed takes note of a reading of the catalog that failed on a connection that goes on.
func (ms *messages) catalogFailed(err error) {
	if of, ok := ms.catalogLog.allow(time.Now()); ok {
		ms.listener.Log.Warn("the catalog could not be read again, so changes are read by what it was before", zap.Error(err), zap.Int("attempts", of))
	}
}

// unreadable counts a message that could not be read, and logs one in ten seconds.
func (ms *messages) unreadable(m message, err error) {
	reason := "syntax"
	var u *Unreadable
	if errors.As(err, &u) {
		reason = u.Reason
	}
	ms.listener.Observer.Unreadable(m.source, reason)
	since, ok := ms.unreadableLog.allow(time.Now())
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

// budget bounds how often something happens that others can cause: some times one after the other, then once in a while.
type budget struct {
	atOnce float64
	refill time.Duration // for each time

	spent float64
	at    time.Time
}

func (b *budget) left(now time.Time) float64 {
	return b.atOnce - max(0, b.spent-now.Sub(b.at).Seconds()/b.refill.Seconds())
}

func (b *budget) spend(now time.Time) {
	b.spent, b.at = b.atOnce-b.left(now)+1, now
}

// refund takes back the last time, which was worth it.
func (b *budget) refund() { b.spent = max(0, b.spent-1) }

// pause returns how long after the last reading of the catalog it may be read for a name.
func (b *budget) pause(now time.Time) time.Duration {
	if b.left(now) < 1 {
		return b.refill
	}
	return lookupPause
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
