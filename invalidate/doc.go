// Package invalidate makes Redis forget.
//
// What waits for Redis is a set of targets, not a queue: repeating, merging, reordering or widening them is always
// correct. So a batch that failed waits again, and there is no order to repair.
//
// # The life of a target
//
//	Add ──► waits ──► in flight ──► done ──► (second delete) ──► waits ──► in flight ──► done
//	          ▲           │
//	          │           ├── Redis did not answer: put back, and waits at once
//	          └───────────┴── Redis refused it: delayed, and waits on whichever server it belongs to by then
//
// A target waits in the lane of the server that has its key, or in all of them if it is a pattern that may match keys
// anywhere. Five goroutines a server, one for each group (exact keys and fields, patterns, tags, refreshes, members), each take all
// that waits in their group as one batch and apply it; what comes meanwhile is the next batch. No timer is in the way, and
// batches grow by themselves under load. A target that comes while the same is in flight waits beside it: what Redis was
// told before may have been filled again since.
//
// When too many wait, all of one template become the pattern that covers them. That is wasteful and never wrong, so the
// memory that a dead Redis costs is bounded while nothing is dropped.
//
// A target that was applied for the first time waits for its second delete, with a zero in the place of when it was added.
// It joins what waits then, and never hides a first.
//
// # Tags
//
// A tag is read by the server that has its set, and its members are deleted by the servers that have them, so that one that
// hangs holds up neither the reading nor the others. In between a member is claimed: it has left the set for an entry in a set
// beside, in one step in Redis. The entry is released when the key is gone. So nothing about members need be remembered here:
// those that are too many, that Redis refused, or whose server is a master no more are given up, and their tag is read again,
// with the mark that they held back. A claim that is found while its member waits already is not taken twice, but the member
// then holds back the earlier mark of the two. Where a server may have gone back in time, members that are known to be gone may
// be there again, as their claims are, so that is known no more: the claims stay, for the sweep to find.
//
// Whatever else has the name of a tag's set is read as one before it is deleted.
//
// # Marks
//
// A [Mark] says that all changes up to a position of Postgres have been added. The position in Redis is the latest mark
// below which everything is applied: each place in which targets are (waiting, in flight, delayed, held) has a watermark,
// the mark after which the oldest of them came, and the lowest of those is what may be written. A target that moves takes
// its watermark along. The write goes into the pipeline of the exact keys, behind them, so keys in flight on the same
// connection count as applied: if Redis executes the write, it has executed them.
//
// The position lives and dies with the keys that it vouches for. Each write returns the value before it, which must be what
// this process wrote last; else Redis has lost data, and what it lost may be deletes: a gap.
//
// # What the locks guard
//
// The lock of pending guards where each target is, and who has which slot, since a target that is routed by one topology
// must not be put by another. It is taken for each Add, so nothing is done under it that waits: no Redis, no log.
// That of cluster guards which shards there are, that of the queue what Run has started. They are taken in the order queue,
// cluster, pending. Those of a shard's health and marker are taken last, or alone.
//
// # A Cluster
//
// A shard is one master: a lane, a client, what is known of its health. One that hangs holds up its own targets and no
// others. A topology that was looked up is applied at once: new masters get shards, and a shard whose server is a master no
// more retires. It gives what waits to the others, its connections are closed, and what was in flight comes back as an
// error and goes to the others as well; until then its watermark still counts. A new master may be a replica that never
// heard of the last deletes, so it goes on with the position of the one before it, and is a gap.
//
// Keys move between masters while a walk is on its way. A walk that finds other slots than its server had when the pattern
// came, or a slot that is moving, is done again on all servers.
//
// # Standing by
//
// A queue that is held keeps what is added and applies nothing, as the standby of another one that hears the same changes.
// What is held is cut into generations by the canaries that both hear. When the other says that it has applied all that
// came before a canary, everything up to that generation is forgotten, but for second deletes that are still due; a target
// that came again later is in a later generation as well. Positions cannot tell that: an old transaction keeps them still,
// so changes on both sides of two canaries have the same one.
package invalidate
