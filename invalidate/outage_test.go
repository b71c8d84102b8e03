package invalidate

import (
	"fmt"
	"testing"
	"time"

	"pgevict/internal/livetest"
)

// Redis is killed for seconds: Add goes on, the set coalesces, all is applied when it is back, and the log says it once.
func TestRedisAwayForSeconds(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := makeQueue(t, r.URL(), timeout(time.Second)).run()
	set := templates(t, "a", "a:{id}", "p", "p:{id}:*")
	k.canary(1)
	k.setTargets(ids(set, "a", 0, 100))
	k.set("p:0:x", "p:99:x", "p:100:x")
	k.save()
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	for away := time.Now(); time.Since(away) < 3*time.Second; time.Sleep(time.Millisecond) {
		began := time.Now()
		k.Add(ids(set, "a", 0, 100)...)
		k.Add(ids(set, "p", 0, 100)...)
		if d := time.Since(began); d > time.Second {
			t.Fatalf("Add took %v", d)
		}
	}
	if got := k.Stats(); got.Pending > 400 || got.Connected {
		t.Errorf("%+v, want 200 to wait, as many again on their way, and no connection", got)
	}
	if got := k.logs.FilterMessageSnippet("did not do it").Len(); got != 1 {
		t.Errorf("logged %d times", got)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	k.idle()
	if d := time.Since(back); d > 2*time.Second {
		t.Errorf("applied %v after Redis' return", d)
	}
	if got := k.keys(); len(got) != 1 || !got["p:100:x"] {
		t.Errorf("left: %v", got)
	}
	if got := k.logs.FilterMessage("Redis answers").Len(); got < 2 || got > 3 { // an attempt from before may fail late
		t.Errorf("it is said %d times that Redis answers", got)
	}
	if k.seen.gapsOf(GapRestart) != 1 {
		t.Errorf("gaps %v", k.seen.gaps)
	}
}

// A link that is half open is found within Timeout.
func TestStalledLink(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	proxy := livetest.NewProxy(t, r.Addr)
	k := makeQueue(t, "redis://"+proxy.Addr, timeout(300*time.Millisecond))
	k.rdb = connect(t, r.URL())
	k.run()
	set := templates(t, "a", "a:{id}", "p", "p:{id}:*")
	k.canary(1)
	proxy.Stall()
	began := time.Now()
	k.Add(ids(set, "a", 0, 1)...)
	livetest.Eventually(t, soon, "a timeout", func() bool {
		return k.seen.look(func(w *witness) bool { return w.errors["timeout"] > 0 })
	})
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
	k.Add(ids(set, "p", 0, 1)...)
	k.set("a:0", "p:0:x")
	livetest.Eventually(t, soon, "more timeouts", func() bool {
		return k.seen.look(func(w *witness) bool { return w.errors["timeout"] > 3 })
	})
	if got := k.logs.FilterMessageSnippet("did not do it").Len(); got != 1 {
		t.Errorf("logged %d times", got)
	}
	proxy.Heal()
	k.idle()
	if got := k.keys(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	if len(k.seen.gaps) != 0 {
		t.Errorf("gaps %v: it is the same Redis, and lost nothing", k.seen.gaps)
	}
}

func TestClientPause(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL(), timeout(200*time.Millisecond)).run()
	set := templates(t, "a", "a:{id}")
	k.canary(1)
	k.set("a:0")
	if err := k.rdb.ClientPause(t.Context(), time.Second).Err(); err != nil {
		t.Fatal(err)
	}
	k.Add(ids(set, "a", 0, 1)...)
	k.gone("a:0")
	k.idle()
	if k.seen.errors["timeout"] == 0 {
		t.Error("no timeout, so the test shows nothing")
	}
	k.canary(2)
	k.canary(3)
	if k.seen.gapsOf(GapRestart) != 0 {
		t.Errorf("gaps %v", k.seen.gaps)
	}
}

// The link is cut again and again, in the middle of pipelines: nothing is lost.
func TestCutInTheMiddleOfPipelines(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	proxy := livetest.NewProxy(t, r.Addr)
	k := makeQueue(t, "redis://"+proxy.Addr, timeout(time.Second), again(50*time.Millisecond))
	k.rdb = connect(t, r.URL())
	k.run()
	set := templates(t, "a", "a:{id}", "p", "p:{id}:*")
	const n = 20_000
	k.setTargets(ids(set, "a", 0, n))
	for i := range 20 {
		k.set(fmt.Sprintf("p:%d:x", i))
	}
	for i := range 20 {
		evicted := k.seen.evictedOf("a")
		k.Add(ids(set, "a", i*n/20, n/20)...)
		k.Add(ids(set, "p", i, 1)...)
		livetest.Eventually(t, soon, "a pipeline has come through", func() bool { return k.seen.evictedOf("a") > evicted })
		proxy.Cut()
		proxy.Heal()
	}
	k.idle()
	if got := k.keys(); len(got) != 0 {
		t.Errorf("%d keys left", len(got))
	}
}

// While Redis loads its data it refuses everything.
func TestLoading(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t, "--enable-debug-command", "yes")
	k := makeQueue(t, r.URL()).run()
	set := templates(t, "a", "a:{id}", "key", "key:{id}")
	k.canary(1)
	if err := k.rdb.Do(t.Context(), "DEBUG", "POPULATE", "1500").Err(); err != nil {
		t.Fatal(err)
	}
	k.set("a:1")
	k.save()
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	k.Add(ids(set, "a", 1, 1)...)
	k.Add(set.Sweep()...)
	// A millisecond a key; Start waits for the end.
	if err := r.Start("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"); err != nil {
		t.Fatal(err)
	}
	k.idle()
	k.canary(2)
	if got := k.keys(); len(got) != 0 {
		t.Errorf("%d keys left", len(got))
	}
	if k.seen.errors["loading"] == 0 {
		t.Errorf("errors %v: the test shows nothing", k.seen.errors)
	}
	if k.seen.gapsOf(GapRestart) != 1 {
		t.Errorf("gaps %v", k.seen.gaps)
	}
	if got := k.logs.FilterMessage("Redis answers").Len(); got < 2 || got > 3 { // an attempt from before may fail late
		t.Errorf("it is said %d times that Redis answers", got)
	}
}

// A replica refuses writes; when it is promoted, what waits goes.
func TestReadOnlyReplica(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t, "--replica-serve-stale-data", "yes")
	k := makeQueue(t, r.URL()).run()
	set := templates(t, "a", "a:{id}", "p", "p:*")
	k.set("a:1", "p:1")
	k.canary(1)
	if err := k.rdb.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	k.Add(ids(set, "a", 1, 1)...)
	k.Add(of(set, "p", image{})...)
	livetest.Eventually(t, soon, "it is refused", func() bool {
		return k.seen.look(func(w *witness) bool { return w.errors["readonly"] > 3 })
	})
	if got := k.Stats().Pending; got != 2 {
		t.Errorf("%d wait", got)
	}
	if err := k.rdb.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	k.idle()
	if got := k.keys(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// A mark that could not be written is tried again by itself: an idle queue notices at once that Redis is back.
func TestAMarkIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := makeQueue(t, r.URL()).run()
	k.Mark(Mark{Position: 1, Sent: time.Now()})
	livetest.Eventually(t, soon, "the first mark", func() bool { return !k.Stats().Canary.IsZero() })
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	down := time.Now()
	k.Mark(Mark{Position: 2, Sent: down})
	livetest.Eventually(t, soon, "Redis is missed", func() bool { return !k.Stats().Connected })
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	livetest.Eventually(t, soon, "the second mark", func() bool { return k.Stats().Canary.After(down) })
}
