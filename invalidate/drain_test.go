package invalidate

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"pgevict/internal/livetest"
)

func TestDrainAppliesWhatWaits(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL(), again(10*time.Millisecond))
	set := templates(t, "a", "a:{id}", "p", "p:{id}:*")
	k.setTargets(ids(set, "a", 0, 5000))
	k.set("p:1:x", "p:2:x")
	k.Add(ids(set, "a", 0, 5000)...)
	k.Add(ids(set, "p", 1, 1)...)
	if err := k.Drain(context.Background()); err != nil {
		t.Error(err)
	}
	if got := k.keys(); len(got) != 1 || !got["p:2:x"] {
		t.Errorf("%d keys left", len(got))
	}
	if got := k.Stats(); got.Pending+got.SecondDeletes != 0 {
		t.Errorf("%+v: second deletes are not waited for", got)
	}
}

func TestDrainSaysHowMuchIsLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		addr func(t *testing.T) string
		says string
	}{
		"refused": {func(*testing.T) string { return "127.0.0.1:1" }, "13 targets"},
		"stalled": {func(t *testing.T) string {
			p := livetest.NewProxy(t, livetest.NewRedis(t).Addr)
			p.Stall()
			return p.Addr
		}, "13 targets"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := makeQueue(t, "redis://"+c.addr(t))
			set := templates(t, "a", "a:{id}", "p", "p:{id}:*")
			k.Add(ids(set, "a", 0, 10)...)
			k.Add(ids(set, "p", 0, 3)...)
			k.markAt(1)
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			defer cancel()
			began := time.Now()
			err := k.Drain(ctx)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Error(err)
			}
			if d := time.Since(began); d > 2*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

// Only second deletes wait, those as well that came back into the set while Redis was away.
func TestDrainDoesNotWaitForSecondDeletes(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := makeQueue(t, r.URL(), timeout(time.Second), again(50*time.Millisecond)).run()
	set := templates(t, "a", "a:{id}", "p", "p:{id}:*")
	k.canary(1)
	k.Add(ids(set, "a", 0, 10)...)
	k.Add(ids(set, "p", 0, 3)...)
	k.idle()
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	livetest.Eventually(t, soon, "they are back, or done", func() bool { return k.Stats().SecondDeletes == 0 })
	k.stop()
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := k.Drain(ctx); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}

// Redis hangs, known to or not, and nothing waits but the last position.
func TestDrainOfNothingDoesNotWait(t *testing.T) {
	t.Parallel()
	for name, known := range map[string]bool{"known": true, "not known": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := livetest.NewProxy(t, livetest.NewRedis(t).Addr)
			k := makeQueue(t, "redis://"+proxy.Addr, timeout(map[bool]time.Duration{true: 300 * time.Millisecond, false: time.Minute}[known])).run()
			k.canary(1)
			if known {
				proxy.Stall()
				k.markAt(2)
				livetest.Eventually(t, soon, "Redis does not answer", func() bool { return !k.Stats().Connected })
				k.stop()
			} else {
				k.stop()
				proxy.Stall()
				k.markAt(2)
			}
			began := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := k.Drain(ctx); err != nil {
				t.Error(err)
			}
			if d := time.Since(began); d > 20*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

// Everything at once, while Redis is killed and comes back: at the end every key that was added is gone.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := makeQueue(t, r.URL(), timeout(time.Second), again(30*time.Millisecond), bound(500)).run()
	set := templates(t, "a", "a:{id}", "b", "b:{id}", "p", "p:{id}:*")
	var writers sync.WaitGroup
	end := time.Now().Add(4 * time.Second)
	for w := range 8 {
		writers.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				k.Add(ids(set, []string{"a", "b"}[i%2], w*1000+i%1000, 1)...)
				switch i % 50 {
				case 0:
					k.Sweep(set.Sweep()...)
				case 1:
					k.markAt(uint64(i))
				case 2:
					k.Add(ids(set, "p", i, 1)...)
				case 3:
					if got := k.Stats(); got.Pending < 0 || got.SecondDeletes < 0 {
						t.Error(got)
					}
				}
				time.Sleep(50 * time.Microsecond)
			}
		})
	}
	for range 4 {
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	k.setTargets(ids(set, "a", 0, 8000))
	k.set("b:1", "p:1:x", "other")
	writers.Wait()
	k.Sweep(set.Sweep()...)
	k.idle()
	if got := k.keys(); len(got) != 1 || !got["other"] {
		t.Errorf("%d keys left", len(got))
	}
	livetest.Eventually(t, soon, "second deletes are done", func() bool { got := k.Stats(); return got.SecondDeletes+got.Pending == 0 })
}

// After Drain nothing of the queue is left running.
func TestNoGoroutineIsLeft(t *testing.T) {
	r := livetest.NewRedis(t)
	before := runtime.NumGoroutine()
	k := makeQueue(t, r.URL(), timeout(500*time.Millisecond), again(20*time.Millisecond)).run()
	set := templates(t, "a", "a:{id}", "p", "p:*")
	k.Add(append(ids(set, "a", 0, 5), set.Sweep()...)...)
	k.idle()
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	k.Add(ids(set, "a", 0, 5)...)
	livetest.Eventually(t, soon, "a failure", func() bool { return k.seen.failures() > 0 })
	k.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := k.Drain(ctx); err == nil {
		t.Error("no error, though Redis is away")
	}
	_ = k.rdb.Close()
	livetest.Eventually(t, soon, "its goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}
