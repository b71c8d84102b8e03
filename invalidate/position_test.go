package invalidate

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgevict/internal/livetest"
)

func timeout(d time.Duration) func(*Options) { return func(o *Options) { o.Timeout = d } }

// monitor returns the commands that the Redis at addr executes from now on, a line each.
func monitor(t *testing.T, addr string) *bufio.Scanner {
	t.Helper()
	conn, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(soon))
	if _, err := io.WriteString(conn, "MONITOR\r\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	if !lines.Scan() || lines.Text() != "+OK" {
		t.Fatalf("MONITOR: %q, %v", lines.Text(), lines.Err())
	}
	return lines
}

func TestPositionIsWrittenBehindTheDeletes(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := makeQueue(t, r.URL())
	lines := monitor(t, r.Addr)
	k.Add(ids(templates(t, "a", "a:{id}"), "a", 0, 20*keysPerCommand)...) // three pipelines
	k.markAt(42)
	k.run()
	unlinks := 0
	for lines.Scan() {
		line := strings.ToLower(lines.Text())
		if strings.Contains(line, `"unlink"`) {
			unlinks++
		}
		if strings.Contains(line, `"set" "`+PositionPrefix) {
			if !strings.Contains(line, " 1 42") || !strings.Contains(line, `"get"`) || !strings.Contains(line, `"ex"`) {
				t.Error(line)
			}
			break
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if unlinks != 20 {
		t.Errorf("%d UNLINKs came before the position", unlinks)
	}
}

// The position never counts what has not been applied: what waits, a walk on its way, what Redis refuses.
func TestPositionIsNeverAhead(t *testing.T) {
	t.Parallel()
	q := func() *kit { return fake(t, again(time.Hour)) }
	set := templates(t, "a", "a:{id}", "p", "p:{id}:*")
	key, pattern := ids(set, "a", 0, 1), ids(set, "p", 0, 1)
	at := func(n int) Mark { return Mark{Position: uint64(n), Sent: time.Unix(int64(n), 0)} }
	for name, do := range map[string]func(k *kit){
		"a key waits":     func(k *kit) { k.Add(key...) },
		"a pattern waits": func(k *kit) { k.Add(pattern...) },
		"a walk is failing": func(k *kit) {
			k.Add(pattern...)
			k.pending.putBack(k.pending.take(k.only.lane, patterns))
		},
		"a walk is on its way, and more waits": func(k *kit) {
			k.Add(pattern...)
			k.pending.take(k.only.lane, patterns)
			k.Mark(at(6))
			k.Add(pattern...)
		},
		"a flush failed, and more waits": func(k *kit) {
			k.Add(key...)
			b := k.pending.take(k.only.lane, exact)
			k.Mark(at(6))
			k.Add(ids(set, "a", 1, 1)...)
			k.pending.putBack(b)
		},
		"many became one": func(k *kit) {
			k.pending.limit = 10
			k.Add(key...)
			k.Mark(at(6))
			k.Add(ids(set, "a", 1, 100)...)
		},
		"it was refused": func(k *kit) {
			k.Add(key...)
			k.pending.postpone(k.pending.take(k.only.lane, exact), time.Minute)
		},
		"it was refused, and came back": func(k *kit) {
			k.Add(key...)
			k.pending.postpone(k.pending.take(k.only.lane, exact), time.Minute)
			k.pending.endSecondDeletes()
		},
	} {
		k := q()
		k.Mark(at(5))
		do(k)
		k.Mark(at(7))
		if got := k.through(false); got != at(5) {
			t.Errorf("%s: the position is %d", name, got.Position)
		}
	}
	k := q()
	k.Mark(at(5))
	k.Add(key...)
	k.pending.take(k.only.lane, exact)
	k.Mark(at(7))
	if k.through(false) != at(7) || k.through(true) != at(5) {
		t.Error("keys on their way count where Redis takes them, and not where it refuses")
	}
}

func TestLostDataIsAGap(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := makeQueue(t, r.URL(), timeout(time.Second)).run()
	k.canary(1)
	k.canary(2)
	if len(k.seen.gaps) != 0 {
		t.Fatalf("gaps: %v", k.seen.gaps)
	}
	if err := k.rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	k.canary(3)
	k.canary(4)
	if got := k.seen.gapsOf(GapRollback); got != 1 || len(k.seen.gaps) != 1 {
		t.Errorf("after FLUSHALL: gaps %v", k.seen.gaps)
	}
	k.save()
	k.canary(5)
	k.canary(6)
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	k.canary(7)
	if k.seen.gapsOf(GapRollback) != 2 || k.seen.gapsOf(GapRestart) != 1 {
		t.Errorf("after a restart from an old snapshot: gaps %v", k.seen.gaps)
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(r.Dir, "dump.rdb")); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	k.canary(8)
	k.canary(9)
	if k.seen.gapsOf(GapRollback) != 3 || k.seen.gapsOf(GapRestart) != 2 {
		t.Errorf("after a restart without data: gaps %v", k.seen.gaps)
	}
}

// An older value under the same process is a rollback that only the position tells: a lagging replica behind one address.
func TestOlderPositionIsAGap(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL()).run()
	k.canary(1)
	key := PositionPrefix + k.id
	old := k.rdb.Get(t.Context(), key).Val()
	k.canary(2)
	for i, value := range []string{old, "", "x", k.id + " x 1", strings.Replace(old, k.id, "other", 1)} {
		k.rdb.Set(t.Context(), key, value, 0)
		k.canary(uint64(3 + i))
		if got := k.seen.gapsOf(GapRollback); got != i+1 {
			t.Errorf("%q: %d gaps", value, got)
		}
	}
	if ttl := k.rdb.TTL(t.Context(), key).Val(); ttl < positionTTL-time.Minute {
		t.Errorf("the position lives for %v", ttl)
	}
}

// deaf forwards to target, but once told to, resets a connection whose command has been answered instead of telling.
func deaf(t *testing.T, target string) (addr string, swallow *atomic.Bool) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	swallow = &atomic.Bool{}
	serve := func(client net.Conn) {
		defer client.Close()
		server, err := net.Dial("tcp4", target)
		if err != nil {
			return
		}
		go func() {
			defer server.Close()
			_, _ = io.Copy(server, client)
		}()
		buf := make([]byte, 4096)
		for {
			n, err := server.Read(buf)
			if err != nil || swallow.CompareAndSwap(true, false) {
				return
			}
			_, _ = client.Write(buf[:n])
		}
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go serve(client)
		}
	}()
	return l.Addr().String(), swallow
}

// A reply that got lost tells nothing, neither of a write that was executed nor of one that was not.
func TestLostReplyIsNoRollback(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	addr, swallow := deaf(t, r.Addr)
	proxy := livetest.NewProxy(t, addr)
	k := makeQueue(t, "redis://"+proxy.Addr, timeout(200*time.Millisecond))
	k.rdb = connect(t, r.URL())
	k.run()
	k.canary(1)
	failures := 0
	for i, lose := range []func(){func() { swallow.Store(true) }, func() { swallow.Store(true) }, proxy.Stall} {
		number, _ := k.position()
		lose()
		k.markAt(uint64(10 + i))
		livetest.Eventually(t, soon, "a write fails", func() bool {
			return k.seen.failures() > failures
		})
		proxy.Cut()
		if now, _ := k.position(); i < 2 && now != number+1 {
			t.Errorf("position number %d, then %d: the write was not executed, so the test shows nothing", number, now)
		}
		if i != 1 { // two in a row, and one that comes to nothing
			proxy.Heal()
			k.canary(uint64(20 + i))
		}
		proxy.Heal()
		failures = k.seen.failures()
	}
	k.canary(30)
	if len(k.seen.gaps) != 0 {
		t.Errorf("gaps: %v", k.seen.gaps)
	}
}

// A link that was dark for a while delivers a write of the position behind later ones, once or several times: Redis has lost
// nothing. What it does lose meanwhile or afterwards is told all the same.
func TestDarkLinkIsNoRollback(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	proxy := livetest.NewProxy(t, r.Addr)
	k := makeQueue(t, "redis://"+proxy.Addr, timeout(200*time.Millisecond))
	k.rdb = connect(t, r.URL())
	k.run()
	k.canary(1)
	first := PositionPrefix + k.id
	late := func(turn int) {
		t.Helper()
		before := k.rdb.Keys(t.Context(), first+"*").Val()
		proxy.Hold()
		k.canary(uint64(10 * turn)) // by way of a new connection, behind one that times out
		k.canary(uint64(10*turn + 1))
		newest, _ := k.position()
		was := map[string]uint64{}
		for _, key := range before {
			was[key], _ = k.positionAt(key)
		}
		proxy.Heal()
		livetest.Eventually(t, soon, "the late write arrives", func() bool {
			for _, key := range before {
				if now, _ := k.positionAt(key); now != was[key] && now < newest {
					return true
				}
			}
			return false
		})
	}
	for turn := range 3 {
		late(turn + 1)
		k.canary(uint64(10*turn + 19))
		k.canary(uint64(10*turn + 19))
	}
	if len(k.seen.gaps) != 0 {
		t.Fatalf("gaps: %v", k.seen.gaps)
	}
	if keys := k.rdb.Keys(t.Context(), first+"*").Val(); len(keys) != 4 {
		t.Errorf("it was written to %q, want another place each time", keys)
	}
	// Redis loses its data while the link is dark.
	proxy.Hold()
	failures := k.seen.failures()
	k.markAt(90)
	livetest.Eventually(t, soon, "a write has not come back", func() bool { return k.seen.failures() > failures })
	if err := k.rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	k.canary(91)
	k.canary(92)
	proxy.Heal()
	// And right afterwards.
	for i, want := range []int{1, 2} {
		if got := k.seen.gapsOf(GapRollback); got != want {
			t.Errorf("%d gaps, want %d", got, want)
		}
		if err := k.rdb.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		k.canary(uint64(100 + i))
	}
}

// Keys that were given up do not stay.
func TestPositionsThatWereGivenUpEnd(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	proxy := livetest.NewProxy(t, r.Addr)
	k := makeQueue(t, "redis://"+proxy.Addr, timeout(200*time.Millisecond))
	k.rdb = connect(t, r.URL())
	k.run()
	k.canary(1)
	proxy.Cut()
	failures := k.seen.failures()
	k.markAt(2)
	livetest.Eventually(t, soon, "a write fails", func() bool { return k.seen.failures() > failures })
	proxy.Heal()
	k.canary(3)
	k.canary(4)
	if ttl := k.rdb.TTL(t.Context(), PositionPrefix+k.id).Val(); ttl <= 0 || ttl > endingTTL {
		t.Errorf("the first key lives for %v", ttl)
	}
	if ttl := k.rdb.TTL(t.Context(), PositionPrefix+k.id+":1").Val(); ttl <= endingTTL {
		t.Errorf("the second key lives for %v", ttl)
	}
	k.canary(5)
	if len(k.seen.gaps) != 0 {
		t.Errorf("gaps: %v", k.seen.gaps)
	}
}

func TestTwoQueuesDoNotDisturbOneAnother(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	a, b := makeQueue(t, r.URL()).run(), makeQueue(t, r.URL()).run()
	for i := range 20 {
		a.canary(uint64(i))
		b.canary(uint64(1000 - i))
	}
	if len(a.seen.gaps)+len(b.seen.gaps) != 0 {
		t.Errorf("gaps: %v %v", a.seen.gaps, b.seen.gaps)
	}
	if err := a.rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	a.canary(1)
	b.canary(1)
	if a.seen.gapsOf(GapRollback) != 1 || b.seen.gapsOf(GapRollback) != 1 {
		t.Errorf("gaps: %v %v", a.seen.gaps, b.seen.gaps)
	}
}

// Redis is full: it refuses SET and takes UNLINK.
func TestFullRedis(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t, "--maxmemory-policy", "noeviction")
	k := makeQueue(t, r.URL()).run()
	set := templates(t, "a", "a:{id}", "p", "p:*")
	k.set("a:1", "p:1")
	k.canary(1)
	before := k.Stats().AppliedThrough
	if err := k.rdb.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	k.Add(ids(set, "a", 1, 1)...)
	k.Add(of(set, "p", image{})...)
	k.canary(2)
	k.canary(3)
	k.idle()
	if got := k.keys(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	if number, _ := k.position(); number != 1 || !k.Stats().AppliedThrough.Equal(before) {
		t.Error("the position went on")
	}
	if k.seen.errors["oom"] != 2 || len(k.seen.gaps) != 0 || !k.Stats().Connected {
		t.Errorf("errors %v, gaps %v", k.seen.errors, k.seen.gaps)
	}
	if got := k.logs.FilterMessageSnippet("did not do it").Len(); got != 1 {
		t.Errorf("logged %d times", got)
	}
	if err := k.rdb.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	k.canary(4)
	if number, position := k.position(); number != 4 || position != 4 || len(k.seen.gaps) != 0 {
		t.Errorf("position %d (number %d), gaps %v", position, number, k.seen.gaps)
	}
}

func TestDrainWritesTheLastPosition(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL(), again(time.Hour)).run()
	set := templates(t, "a", "a:{id}", "p", "p:{id}:*")
	k.canary(1)
	k.stop()
	k.set("a:0", "p:0:x")
	k.Add(ids(set, "a", 0, 1)...)
	k.Add(ids(set, "p", 0, 1)...)
	k.markAt(2)
	if err := k.Drain(context.Background()); err != nil {
		t.Error(err)
	}
	if _, position := k.position(); position != 2 || len(k.keys()) != 0 {
		t.Errorf("position %d, left: %v", position, k.keys())
	}
}
