package pgnotify

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgevict/pgnotify/postgres"
)

// A server that is too slow for the first attempt is given more time for the next, but not for ever more; and once it was
// heard, as little as at first.
func TestLimit(t *testing.T) {
	t.Parallel()
	l := &Listener{Heartbeat: 3 * time.Second}
	slow := fmt.Errorf("read the catalog: %w", postgres.ErrSilent)
	var got []time.Duration
	limit := l.limit()
	for _, c := range []struct {
		ready bool
		err   error
	}{{false, slow}, {false, slow}, {false, errors.New("connection refused")}, {false, slow}, {false, slow}, {true, slow}} {
		limit = l.nextLimit(limit, c.ready, c.err)
		got = append(got, limit)
	}
	if want := "[12s 24s 24s 30s 30s 6s]"; fmt.Sprint(got) != want {
		t.Errorf("limits %v, want %s", got, want)
	}
}

// Names that nobody knows, one after the other, make the catalog be read a few times at once, and then once a second.
func TestLookupsAreBounded(t *testing.T) {
	t.Parallel()
	l := newMessages(&Listener{}, nil).lookups
	began := time.Now()
	now, reads := began, 0
	for now.Sub(began) < time.Minute {
		now = now.Add(l.pause(now))
		l.spend(now)
		reads++
	}
	if reads > 60+2*lookupsAtOnce || reads < 60 {
		t.Errorf("%d readings in a minute", reads)
	}
	if now = now.Add(time.Minute); l.pause(now) != lookupPause {
		t.Error("after a quiet minute it still takes its time")
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for _, down := range []time.Duration{0, time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, time.Hour, 1 << 62} {
		least, most := backoff(down), backoff(down)
		for range 10_000 {
			d := backoff(down)
			least, most = min(least, d), max(most, d)
		}
		if least < 100*time.Millisecond || most > 5*time.Second {
			t.Errorf("after %v: %v to %v", down, least, most)
		}
		if most-least < least/2 {
			t.Errorf("after %v hardly any jitter: %v to %v", down, least, most)
		}
		if down >= time.Second && most > max(200*time.Millisecond, down/8) {
			t.Errorf("after %v: %v", down, most)
		}
	}
}

// A new partition each moment is none of that.
func TestLookupsThatFindSomethingAreNotCounted(t *testing.T) {
	t.Parallel()
	l := newMessages(&Listener{}, nil).lookups
	now := time.Now()
	for range 100 {
		if l.pause(now) != lookupPause {
			t.Fatal("it takes its time")
		}
		l.spend(now)
		l.refund()
		now = now.Add(lookupPause)
	}
}
