package invalidate

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// shard is one server that takes writes, and the targets that wait for it. One that is away holds up no other.
type shard struct {
	*Queue
	addr string // in a Cluster the master's; else empty
	rdb  *redis.Client
	stop context.CancelFunc

	// With the queue's lock held:
	groups  [groups]waiting
	covered map[rules.Target]bool // patterns that wait and stand for targets that were too many
	markDue bool                  // the latest mark has not been written
	canary  time.Time             // when a mark last went through
	answers bool                  // when it was last spoken to
	said    map[string]time.Time  // when an error of each kind was logged
	run     string                // the id of the server's process; empty: none seen
	slots   redisnode.SlotSet     // in a Cluster those that it serves, as far as is known
	slotsAt redisnode.SlotSet     // slots, when the first of the patterns that wait came
	gone    bool                  // it is no master any more: what comes back from it goes to the others

	position position // of the goroutine that flushes alone
	refusing bool     // it refused targets of the last flush; of that goroutine as well
}

// group is what is applied in the same way, by a goroutine of its own.
type group int

const (
	exact     group = iota // keys and fields, which one command deletes
	patterns               // of keys and of tags, for which the keyspace is walked over
	tags                   // sets of which the members go too
	refreshes              // keys that are read anew
	groups
)

func (q *Queue) groupOf(t rules.Target) group {
	switch t.Kind {
	case rules.Pattern, rules.TagPattern:
		return patterns
	case rules.Tag:
		return tags
	default:
	}
	if q.Read != nil && t.Refreshed() {
		return refreshes
	}
	return exact
}

// newShard makes a shard for the master at an address, or for the one server there is.
func (q *Queue) newShard(addr string) *shard {
	s := &shard{Queue: q, addr: addr, said: map[string]time.Time{}, stop: func() {}}
	for i := range s.groups {
		s.groups[i].wake = make(chan struct{}, 1)
	}
	s.rdb = s.client()
	return s
}

// steps are what takes what waits in each group, and applies it.
func (s *shard) steps() [groups]func(context.Context) error {
	return [groups]func(context.Context) error{s.flush, s.pass, s.dropTags, s.refresh}
}

// work applies what waits until the context is done, or the server is no master any more.
func (s *shard) work(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.stop = cancel
	if s.gone {
		cancel()
	}
	s.mu.Unlock()
	var all sync.WaitGroup
	for g, step := range s.steps() {
		all.Go(func() {
			if g == int(exact) {
				s.attempt(ctx, s.ping)
			}
			for {
				select {
				case <-ctx.Done():
					return
				case <-s.groups[g].wake:
					s.attempt(ctx, step)
				}
			}
		})
	}
	all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parting = slices.DeleteFunc(s.parting, func(other *shard) bool { return other == s })
}

// attempt takes a step, and takes it again until it succeeds or the context is done.
func (s *shard) attempt(ctx context.Context, step func(context.Context) error) {
	for down := time.Now(); ctx.Err() == nil; {
		err := step(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil && !errors.Is(err, errCluster) {
			s.failed(err)
		}
		s.lookUp()
		select {
		case <-ctx.Done():
		case <-time.After(backoff(time.Since(down))):
		}
	}
}

// backoff is how long to wait before the next attempt: about an eighth of the outage so far, within 100 ms and 5 s.
func backoff(down time.Duration) time.Duration {
	d := min(max(down/8, 100*time.Millisecond), 5*time.Second)
	return d/2 + rand.N(d/2)
}

// add puts a target into the set. Called with the lock held.
func (s *shard) add(t rules.Target, added time.Duration, m Mark) {
	if len(s.covered) > 0 && s.covered[t.Widen()] {
		t = t.Widen() // which may wait for its second delete alone, and now waits for its first
	}
	g := s.groupOf(t)
	w := &s.groups[g]
	if g == patterns && len(w.pending) == 0 {
		s.slotsAt = s.slots
	}
	w.add(t, added)
	w.since.add(m) // of many that come, no later mark is before the first
}

// landed takes note that what was taken of a group has been applied. Called with the lock held.
func (s *shard) landed(w *waiting) {
	swept := w.sweeping
	w.landed()
	if !swept {
		return
	}
	for _, other := range s.shards {
		for i := range other.groups {
			if w := &other.groups[i]; w.sweep || w.sweeping {
				return
			}
		}
	}
	s.Observer.Swept()
}

// putBack returns targets that were not applied to the set. Called with the lock held.
func (s *shard) putBack(w *waiting, targets map[rules.Target]time.Duration) {
	held := w.flying.mark
	if s.gone {
		for t, added := range targets {
			s.route(t, added, held)
		}
	} else {
		w.merge(targets, held)
		w.sweep = w.sweep || w.sweeping
	}
	w.landed()
	s.bound()
}
