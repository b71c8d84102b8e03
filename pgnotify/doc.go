// Package pgnotify answers two questions: what did Postgres say has changed, and did we hear all of it?
//
// It listens on notification channels, decodes the payloads of the tcn extension and of JSON triggers into changes, and
// reports a gap whenever a change may have been missed. A change is an address, not a message: it says which rows are no
// longer what they were, never what they are.
//
// # A session
//
// [Listener.Run] is a loop around sessions; a session is one connection, from LISTEN to its end. All of a session runs on
// one goroutine, but for the watch:
//
//	connect ── LISTEN ── read the catalog ── first canary is back ── gap ── canary, receive, canary, receive …
//	└──────────── what ends it here is tried again ────────────┘      └── what ends it here is a gap of the next ──┘
//
// LISTEN comes before the gap: a change is heard, or it was committed before the gap, whose sweep repairs it. Notifications
// are handed over from within reading the connection (demux), while the driver waits for one, and also while it waits for
// the answer to a query, so the server never has to keep any. That is the one thing that must never stop: a listener that
// does not read, or sits in a transaction, fills the server's queue, and at its end the application's commits fail.
//
// # The canary
//
// With each heartbeat a session sends itself a notification on a channel that nobody else knows, with the
// pg_snapshot_xmin of when it was sent. The server's queue is in the order of commits. So when the canary is back, every
// change of every transaction below that xmin has been handed over, and [Mark] says so. The first one of a session is sent
// from a second connection, since a pooler gives a session what it has sent itself, and nothing else.
//
// # Slow is not dead
//
// A canary that is not back, while nothing else comes either, is told of at once ([Observer]). But to give the connection
// up would lose what it may still deliver, and a gap costs the whole cache. So the watch goes on:
//
//	heard ── nothing for a heartbeat ──► silent ── the canary is back ──► heard, and there was no gap
//	                                       └── another connection works, and does so a heartbeat later, while nothing at
//	                                           all has come on this one ──► dead: the session ends
//
// A server that is frozen, or whose NOTIFY is held up, lets no other connection work; a link that is dead does.
//
// # What is known of the tables
//
// What a payload means depends on the catalog: partitions, primary keys, types. It is read again every few seconds, and
// soon for a name that it does not have. Such a name goes this way:
//
//	new ── counts by what the message says ──► waiting ── the catalog is read ──┬─► known: it counts once more
//	                                                                           └─► stranger: looked for at each reading
//
// While a message waits, marks go on, but say what the last one before it said. Few messages of a name are kept as they
// are, many become "any row"; of too many names it is only known that there were some. Between two readings anything may
// have been altered, so what differs is a gap for its tables, and if a name was heard that is gone, for those of all
// relations that came, went or were touched meanwhile. Names alone are never a gap, since anybody may send them.
package pgnotify
