package pgnotify

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// watch finds out what it means that a session does not answer. A server that is slow, or frozen, may still deliver all
// that it has, and to give the connection up would lose just that; a link that is dead delivers nothing any more. From
// here both look the same. So a silence is reported at once, and the session goes on: it has ended only when another
// connection can be had that works, twice with a heartbeat in between, and nothing at all has come on this one meanwhile.
// Once does not do: a server that thaws may take up new connections a moment before it gets to this one.
//
// The lock guards all that follows it. It is held while tell is called, so that what is told is in order; tell must not
// wait, nor call the watch.
type watch struct {
	heartbeat time.Duration
	works     func(context.Context) error          // connects anew, and sends a notification there and back
	tell      func(err error, after time.Duration) // of a silence, and for how long; with nil that it is over
	end       context.CancelCauseFunc              // ends the session

	mu      sync.Mutex
	missing error         // what is waited for: ErrSilent an answer, ErrDeaf a canary; nil: nothing
	limit   time.Duration // how long that may take while nothing comes
	last    time.Time     // when something came, or was asked for
	timer   *time.Timer   // nil: never asked for anything
	since   time.Time     // when what is missing was reported; zero: it was not
	stop    context.CancelFunc
	closed  bool
	probing sync.WaitGroup
}

// await says that something must come, and how long nothing may while it does not.
func (w *watch) await(missing error, limit time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missing, w.limit, w.last = missing, limit, time.Now()
	if w.timer == nil {
		w.timer = time.AfterFunc(limit, w.check)
	} else {
		w.timer.Reset(limit)
	}
}

// received says that something has come, whatever it is.
func (w *watch) received() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = time.Now()
}

// arrived says that what was waited for has come.
func (w *watch) arrived() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missing = nil
	if w.since.IsZero() {
		return
	}
	w.stop()
	after := time.Since(w.since)
	w.since = time.Time{}
	w.tell(nil, after)
}

// check looks whether nothing has come for too long.
func (w *watch) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.missing == nil || !w.since.IsZero() {
		return
	}
	// A canary may be behind many messages, and as long as they come it is not late.
	if quiet := time.Since(w.last); quiet < w.limit {
		w.timer.Reset(w.limit - quiet)
		return
	}
	w.since = time.Now()
	w.tell(w.missing, 0)
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.probing.Go(func() { w.probe(ctx) })
}

// probe tries other connections until what is missing has come, or the session has ended. One that works and then one that
// does not begins anew, since the server may have frozen again.
func (w *watch) probe(ctx context.Context) {
	var first time.Time // when another connection worked, since when nothing has come on this one
	told := time.Now()
	for {
		err := w.works(ctx)
		now := time.Now()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			first = time.Time{}
			if now.Sub(told) >= time.Minute {
				told = now
				w.still(ctx, err)
			}
		case first.IsZero() || !w.quietSince(first):
			first = now
		case now.Sub(first) >= w.heartbeat:
			w.giveUp(ctx)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(w.heartbeat / 2):
		}
	}
}

func (w *watch) quietSince(t time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last.Before(t)
}

// still tells once more of a silence, with what keeps another connection from taking over.
func (w *watch) still(ctx context.Context, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() == nil {
		w.tell(fmt.Errorf("%w; and no other connection works: %w", w.missing, err), time.Since(w.since))
	}
}

func (w *watch) giveUp(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() == nil {
		w.end(w.missing)
	}
}

// close ends the watch, and waits for its goroutine. Nothing is told of afterwards.
func (w *watch) close() {
	w.mu.Lock()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
	if !w.since.IsZero() {
		w.stop()
	}
	w.mu.Unlock()
	w.probing.Wait()
}
