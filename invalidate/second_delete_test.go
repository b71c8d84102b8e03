package invalidate

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgevict/internal/livetest"
	"pgevict/rules"
)

func again(d time.Duration) func(*Options) { return func(o *Options) { o.AgainAfter = d } }

// A reader that read before the commit and fills after the delete: its fill goes too, but not before its time.
func TestSecondDelete(t *testing.T) {
	t.Parallel()
	const after = 400 * time.Millisecond
	k := makeQueue(t, livetest.NewRedis(t).URL(), again(after)).run()
	set := templates(t, "a", "a:{id}", "p", "p:{id}:*")
	k.set("a:1", "p:1:x", "p:2:x")
	k.Add(of(set, "a", image{"id": "1"})...)
	k.Sweep(of(set, "p", image{"id": "1"})...)
	k.idle()
	first := time.Now()
	if got := k.Stats().SecondDeletes; got != 2 {
		t.Errorf("%d wait for their second delete", got)
	}
	k.set("a:1", "p:1:x")
	for k.exists("a:1") && k.exists("p:1:x") {
		time.Sleep(5 * time.Millisecond) // the resolution of what follows
	}
	if d := time.Since(first); d < after-100*time.Millisecond || d > after+after/8+2*time.Second {
		t.Errorf("the second delete came after %v", d)
	}
	k.gone("a:1")
	k.gone("p:1:x")
	k.idle()
	k.set("a:1", "p:1:x")
	livetest.Eventually(t, soon, "no second delete waits", func() bool { return k.Stats().SecondDeletes == 0 && k.Stats().Pending == 0 })
	if got := k.calls("unlink"); got != 4 {
		t.Errorf("%d UNLINKs, so there was a third delete", got)
	}
	if !k.exists("p:2:x") {
		t.Error("too much is gone")
	}
	if !k.seen.look(func(w *witness) bool { return w.applied == 2 && w.swept == 1 }) {
		t.Errorf("%d applied, %d swept: a second delete counts as one of its own", k.seen.applied, k.seen.swept)
	}
}

func TestNoSecondDelete(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL(), again(0)).run()
	k.Add(ids(templates(t, "a", "a:{id}"), "a", 0, 10)...)
	k.idle()
	if got := k.Stats().SecondDeletes; got != 0 || len(k.pending.delayed) != 0 {
		t.Errorf("%d wait", got)
	}
}

// fake returns a queue without Redis, for what is only about the set.
func fake(t *testing.T, change ...func(*Options)) *kit {
	t.Helper()
	k := makeQueue(t, "redis://127.0.0.1:1", change...)
	return k
}

// flushed does what a flush that succeeds does to the set.
func (k *kit) flushed() int {
	b := k.pending.take(k.only.lane, exact)
	n := len(b.targets)
	k.pending.done(b, nil, retryAfter)
	return n
}

// A key that is deleted a thousand times a second waits in few groups, and its second deletes come in time: within an
// eighth of AgainAfter.
func TestHotKeyDoesNotPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := fake(t, again(time.Second))
		hot := ids(templates(t, "a", "a:{id}"), "a", 0, 1)
		for range 5000 {
			k.Add(hot...)
			k.flushed()
			if got := k.Stats().SecondDeletes; got < 1 || got > 10 {
				t.Fatalf("%d wait", got)
			}
			time.Sleep(time.Millisecond)
		}
		last := time.Now()
		for k.Stats().SecondDeletes > 0 || k.Stats().Pending > 0 {
			k.flushed()
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(last); d < time.Second-2*time.Millisecond || d > 1127*time.Millisecond {
			t.Errorf("the last second delete came after %v", d)
		}
	})
}

func TestSecondDeleteIsNeitherEarlyNorLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := fake(t, again(800*time.Millisecond))
		set := templates(t, "a", "a:{id}")
		deleted := map[rules.Target]time.Time{}
		second := 0
		for i := range 3000 {
			k.pending.mu.Lock()
			for target := range k.only.lane.groups[exact].targets {
				d := time.Since(deleted[target])
				second++
				if d < 800*time.Millisecond || d > 901*time.Millisecond {
					t.Errorf("%s is due after %v", target.Key, d)
				}
			}
			k.pending.mu.Unlock()
			k.flushed()
			if i < 2000 {
				target := ids(set, "a", i, 1)
				k.Add(target...)
				k.flushed()
				deleted[target[0]] = time.Now()
			}
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		if second != 2000 {
			t.Errorf("%d second deletes", second)
		}
	})
}

func TestSecondDeletesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := fake(t, again(time.Minute), func(o *Options) { o.MaxPending = 100 })
		set := templates(t, "a", "a:{id}", "b", "b:{id}")
		for i := range 5000 {
			k.Add(ids(set, "a", i, 1)...)
			k.Add(ids(set, "b", i%3, 1)...)
			k.flushed()
			time.Sleep(10 * time.Millisecond)
			if got := k.Stats().SecondDeletes; got > 100 {
				t.Fatalf("%d wait", got)
			}
		}
		if k.seen.widened["a"] == 0 {
			t.Error("nothing widened")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		k.pending.mu.Lock()
		defer k.pending.mu.Unlock()
		if _, ok := k.only.lane.groups[patterns].targets[set.Sweep()[0]]; !ok {
			t.Error("the pattern of the second deletes did not come back")
		}
	})
}

// Second deletes that come back as too many become a pattern: a new target that this covers has its own second delete.
func TestNewTargetCoveredByASecondDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := fake(t, again(time.Second), func(o *Options) { o.MaxPending = 10 })
		set := templates(t, "a", "a:{id}")
		k.Add(ids(set, "a", 0, 8)...)
		k.flushed()
		time.Sleep(200 * time.Millisecond)
		k.Add(ids(set, "a", 20, 2)...)
		k.flushed()
		time.Sleep(1000 * time.Millisecond)
		k.Add(ids(set, "a", 8, 3)...)
		k.pending.mu.Lock()
		defer k.pending.mu.Unlock()
		wide := set.Sweep()[0]
		if added := k.only.lane.groups[patterns].targets[wide]; added == 0 || !k.only.lane.covering[wide] {
			t.Errorf("the pattern is there since %v", added)
		}
		k.pending.routeLocked(ids(set, "a", 50, 1)[0], 1, &k.pending.mark)
		if got := k.only.lane.groups[patterns].targets[wide]; got != 1 {
			t.Error("what it covers does not count")
		}
	})
}

// What Redis refuses comes back after a while, however often, and with the mark that it holds back.
func TestRefusedTargetsWaitInFewGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := fake(t, again(time.Second))
		set := templates(t, "a", "a:{id}", "b", "b:{id}")
		k.markAt(1)
		first := k.pending.mark
		for i := range 3000 {
			k.pending.mu.Lock()
			k.pending.delayLocked(nil, exact, map[rules.Target]time.Duration{ids(set, "a", i, 1)[0]: 1}, retryAfter, watermark{k.pending.mark, true})
			k.pending.delayLocked(nil, exact, map[rules.Target]time.Duration{ids(set, "b", i, 1)[0]: 0}, k.opts.AgainAfter, watermark{})
			if n := len(k.pending.delayed); n > 20 {
				t.Fatalf("%d groups", n)
			}
			k.pending.mu.Unlock()
			if i == 0 {
				if k.through(false) != first {
					t.Fatal("the position is ahead of it")
				}
			}
			time.Sleep(time.Millisecond / 4)
			k.markAt(uint64(i) + 2)
		}
		if got := k.through(false); got != first {
			t.Errorf("safe up to %d", got.Position)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := len(k.only.lane.groups[exact].targets); got != 6000 {
			t.Errorf("%d are back", got)
		}
		if got := k.through(false); got != first {
			t.Errorf("safe up to %d after their return", got.Position)
		}
	})
}

// Whatever happens to a target, the time of its first Add wins, and a second delete never hides a first.
func TestKeep(t *testing.T) {
	t.Parallel()
	target := templates(t, "a", "a:{id}").Sweep()[0]
	for _, c := range []struct{ have, add, want time.Duration }{{0, 0, 0}, {0, 5, 5}, {5, 0, 5}, {5, 3, 3}, {3, 5, 3}} {
		targets := map[rules.Target]time.Duration{target: c.have}
		keep(targets, target, c.add)
		if targets[target] != c.want {
			t.Error(fmt.Sprint(c, targets[target]))
		}
	}
}

// A group of which all targets were widened while they waited gives nothing back, and so holds up no position.
func TestGroupThatWasWidenedHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := fake(t, again(time.Second))
		set := templates(t, "a", "a:{id}")
		k.pending.limit = 10
		k.markAt(1)
		targets := map[rules.Target]time.Duration{}
		for _, target := range ids(set, "a", 0, 20) {
			targets[target] = 0
		}
		k.pending.mu.Lock()
		k.pending.delayLocked(k.only.lane, exact, targets, k.opts.AgainAfter, watermark{})
		k.pending.mu.Unlock()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		k.markAt(2)
		b := k.pending.take(k.only.lane, patterns)
		if _, ok := b.targets[set.Sweep()[0]]; !ok {
			t.Fatal("the pattern did not come back")
		}
		k.pending.done(b, nil, retryAfter)
		if got := k.through(false); got != k.pending.mark {
			t.Errorf("all is applied, and the position is still %d", got.Position)
		}
	})
}
