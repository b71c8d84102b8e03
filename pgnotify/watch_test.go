package pgnotify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgevict/pgnotify/postgres"
)

// watched is a watch with a second for a heartbeat, and what it says.
type watched struct {
	watch
	mu   sync.Mutex
	said []string
	up   bool // another connection works
	over context.Context
}

func newWatched(t *testing.T) *watched {
	w := &watched{}
	over, end := context.WithCancelCause(t.Context())
	w.over = over
	w.watch = watch{heartbeat: time.Second, end: end, works: func(context.Context) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.up {
			return nil
		}
		return errors.New("refused")
	}, tell: func(err error, lasted time.Duration) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.said = append(w.said, fmt.Sprint(err, " ", lasted))
	}}
	return w
}

func (w *watched) others(work bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up = work
}

func (w *watched) check(t *testing.T, over error, said ...string) {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.said, said) {
		t.Errorf("said %q, want %q", w.said, said)
	}
	if cause := context.Cause(w.over); !errors.Is(cause, over) {
		t.Errorf("over because of %v, want %v", cause, over)
	}
}

var silence = postgres.ErrSilent.Error() + " 0s"

func TestWatchGivesUpADeadLink(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		defer w.close()
		w.others(true)
		w.await(postgres.ErrSilent, time.Second)
		time.Sleep(999 * time.Millisecond)
		w.check(t, nil)
		time.Sleep(2 * time.Millisecond)
		w.check(t, nil, silence) // told of within a heartbeat of when it was asked for
		time.Sleep(time.Second)
		w.check(t, postgres.ErrSilent, silence)
	})
}

func TestWatchKeepsASlowServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		defer w.close()
		w.await(postgres.ErrSilent, time.Second)
		time.Sleep(50 * time.Second)
		w.check(t, nil, silence)
		w.others(true) // for a moment, in which this one says nothing
		time.Sleep(900 * time.Millisecond)
		w.others(false)
		time.Sleep(5 * time.Second)
		w.others(true)
		time.Sleep(900 * time.Millisecond)
		w.received() // something, though not yet what is waited for
		time.Sleep(900 * time.Millisecond)
		w.check(t, nil, silence)
		w.arrived()
		w.check(t, nil, silence, "<nil> 56.7s")
		time.Sleep(time.Hour)
		w.check(t, nil, silence, "<nil> 56.7s")
	})
}

func TestWatchTellsOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		w.await(postgres.ErrDeaf, time.Second)
		time.Sleep(62 * time.Second)
		w.close()
		w.check(t, nil, postgres.ErrDeaf.Error()+" 0s", postgres.ErrDeaf.Error()+"; and no other connection works: refused 1m0s")
		time.Sleep(time.Hour)
	})
}

func TestWatchWaitsWhileSomethingComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		defer w.close()
		w.others(true)
		w.await(postgres.ErrSilent, time.Second)
		for range 100 {
			time.Sleep(900 * time.Millisecond)
			w.received()
		}
		w.check(t, nil)
	})
}
