package invalidate

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"pgevict/internal/livetest"
	"pgevict/rules"
)

func bound(n int) func(*Options) { return func(o *Options) { o.MaxPending = n } }

func (k *kit) entries() int {
	k.pending.mu.Lock()
	defer k.pending.mu.Unlock()
	return len(k.only.lane.groups[exact].targets) + len(k.only.lane.groups[patterns].targets)
}

// Redis is away while two million rows change: memory is bounded, and all keys go when it is back.
func TestRedisAwayForTwoMillionTargets(t *testing.T) {
	r := livetest.NewRedis(t)
	k := makeQueue(t, r.URL(), func(o *Options) { o.Timeout = time.Second; o.AgainAfter = time.Second }).run()
	k.canary(1)
	set := templates(t, "a", "a:{id}")
	k.set("a:0", "a:1999999", "a:x", "b:1")
	k.save()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	slowest := time.Duration(0)
	for i := range 2_000_000 {
		targets := ids(set, "a", i, 1)
		began := time.Now()
		k.Add(targets...)
		slowest = max(slowest, time.Since(began))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 80<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	if got := k.Stats().Pending; got > 2*k.pending.limit {
		t.Errorf("%d wait", got)
	}
	if k.seen.widened["a"] < k.pending.limit {
		t.Errorf("%d widened", k.seen.widened["a"])
	}
	t.Logf("the slowest Add took %v", slowest)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	k.idle()
	if got := k.keys(); len(got) != 1 || !got["b:1"] {
		t.Errorf("left: %v", got)
	}
}

func TestWidensTheTemplateThatHasTheMost(t *testing.T) {
	t.Parallel()
	k := fake(t, bound(100))
	set := templates(t, "a", "a:{id}", "b", "b:{id}", "p", "p:{id}:*", "s", "s:all")
	k.Add(ids(set, "a", 0, 70)...)
	k.Add(ids(set, "b", 0, 20)...)
	k.Add(ids(set, "p", 0, 10)...)
	if got := k.entries(); got != 100 || len(k.seen.widened) != 0 {
		t.Fatalf("%d entries, widened %v: that was within the bound", got, k.seen.widened)
	}
	k.Add(of(set, "s", image{})...)
	if got := k.entries(); got != 32 || k.seen.widened["a"] != 70 {
		t.Errorf("%d entries, widened %v", got, k.seen.widened)
	}
	k.Add(ids(set, "a", 1000, 1000)...)
	if got := k.entries(); got != 32 {
		t.Errorf("%d entries: what is covered takes room", got)
	}
	k.Add(ids(set, "p", 10, 80)...)
	if got := k.entries(); got > 100 || k.seen.widened["p"] == 0 {
		t.Errorf("%d entries, widened %v: patterns widen too", got, k.seen.widened)
	}
}

// However small the bound, nothing is lost, and what cannot be widened stays.
func TestSmallBounds(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			k := makeQueue(t, livetest.NewRedis(t).URL(), bound(n), again(50*time.Millisecond))
			set := templates(t, "a", "a:{id}", "b", "b:{id}", "p", "p:{id}:*", "s", "s:all", "s-2", "s:other")
			k.set("a:1", "a:2", "b:1", "p:1:x", "p:2:x", "s:all", "s:other", "other")
			for i := 1; i < 5; i++ {
				k.Add(ids(set, "a", i, 1)...)
				k.Add(ids(set, "b", i, 1)...)
				k.Add(ids(set, "p", i, 1)...)
				k.Add(of(set, "s", image{})...)
			}
			if got := k.entries(); got > 5 { // as many as there are templates
				t.Errorf("%d entries", got)
			}
			k.run().idle()
			if got := k.keys(); len(got) != 1 || !got["other"] {
				t.Errorf("left: %v", got)
			}
		})
	}
}

// A pattern that stands for many is on its way: what it would cover may be behind the walk, so it waits by itself.
func TestCoveredTargetsWhileTheirPatternIsOnItsWay(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := makeQueue(t, r.URL(), bound(10), func(o *Options) { o.Timeout = time.Second }).run()
	set := templates(t, "a", "a:{id}")
	k.canary(1)
	k.set("a:0", "a:19", "a:100")
	r.Pause()
	k.Add(ids(set, "a", 0, 20)...)
	livetest.Eventually(t, soon, "a walk is on its way", k.walking)
	k.Add(ids(set, "a", 100, 1)...)
	k.pending.mu.Lock()
	pending := len(k.only.lane.groups[exact].targets) + k.only.lane.groups[exact].inFlight
	k.pending.mu.Unlock()
	if pending == 0 {
		t.Error("the target was taken as covered")
	}
	livetest.Eventually(t, soon, "the walk has failed", func() bool {
		return k.seen.look(func(w *witness) bool { return w.errors["timeout"] > 0 })
	})
	r.Resume()
	k.idle()
	if got := k.keys(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// Partial patterns of one template become the one that covers them, and keys of the same template join it.
func TestPartialPatternsWiden(t *testing.T) {
	t.Parallel()
	k := fake(t, bound(50))
	set := templates(t, "p", "p:{x}:{y}")
	partial := func(i int) []rules.Target { return of(set, "p", image{"x": fmt.Sprint(i)}) }
	for i := range 60 {
		k.Add(partial(i)...)
	}
	if got := k.entries(); got > 50 || k.seen.widened["p"] != 51 {
		t.Errorf("%d entries, widened %v", got, k.seen.widened)
	}
	k.Add(of(set, "p", image{"x": "1", "y": "2"})...)
	if got := k.entries(); got != 1 {
		t.Errorf("%d entries", got)
	}
}
