package invalidate

import (
	"time"

	"pgevict/rules"
)

// Observer is told what becomes of targets. As those below, it must not wait, and call nothing of the queue.
type Observer interface {
	// Applied tells of a target that Redis has forgotten or set anew, and how long it took from Add to Redis' answer.
	Applied(t rules.Target, waited time.Duration)
	// Evicted tells how many keys and fields were there and are gone: of a pattern, or else of what is of one template with t.
	Evicted(t rules.Target, keys int64)
	// Widened tells how many targets became one because too many waited.
	Widened(into rules.Target, targets int)
}

// RefreshObserver is told what becomes of keys that are read anew.
type RefreshObserver interface {
	// Refreshed tells of a key that was set, or that was deleted since it could not be read.
	Refreshed(t rules.Target, err error)
}

// RedisObserver is told how Redis does.
type RedisObserver interface {
	// Connected tells whether Redis answers, in a Cluster every master.
	Connected(bool)
	// Failed tells of an error; kind is one of a few fixed words.
	Failed(kind string)
	// Canary tells how long a mark took from where it began, through Redis, in a Cluster through one master.
	Canary(took time.Duration)
}
