// Package pgnotify answers two questions: what did Postgres say has changed, and did we hear all of it?
//
// It listens on notification channels, decodes the payloads of the tcn extension and of JSON triggers into changes, and
// reports a gap whenever a change may have been missed. A change is an address, not a message: it says which rows are no
// longer what they were, never what they are.
//
// # A session
//
// [Listener.Run] is a loop around sessions; a session is one connection, from LISTEN to its end. All of a session runs on
// one goroutine:
//
//	connect ── LISTEN ── read the catalog ── first canary is back ── gap ── heartbeat, receive, heartbeat, receive …
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
// change of every transaction below that xmin has been handed over, and [Mark] says so. A canary that is not back, while
// nothing else comes either, finds the link dead or deaf. The first one of a session is sent from a second connection,
// since a pooler gives a session what it has sent itself, and nothing else.
//
// # What waits for the catalog
//
// What a payload means depends on the catalog: partitions, primary keys, types. A message of a table that the catalog as
// read does not have waits until it has been read again, which happens at most once in some seconds; few messages of a
// table are kept as they are, many become "any row", and too many tables a gap. While any waits, marks go on, but hold
// back their position. A catalog that says something else than before is a gap: messages may have been misread.
package pgnotify
