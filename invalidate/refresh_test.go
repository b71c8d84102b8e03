package invalidate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgevict/internal/livetest"
	"pgevict/rules"
)

// library is the Postgres of these tests: what it says of each key, in versions that only grow.
type library struct {
	mu      sync.Mutex
	version uint64
	values  map[string]string // by the first parameter; none: there is no such row
	broken  bool
	reads   atomic.Int64
	between func(arg string) // called after a value was read and before it is handed over
}

func (l *library) set(key, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.version++
	l.values[key] = value
}

func (l *library) read(_ context.Context, targets []rules.Target) []Value {
	values := make([]Value, len(targets))
	for i, t := range targets {
		l.reads.Add(1)
		_, args := t.Refresh()
		l.mu.Lock()
		text, found := l.values[args[0]]
		values[i] = Value{Text: text, Found: found, Version: l.version}
		if l.broken {
			values[i] = Value{Err: errors.New("division by zero")}
		}
		l.mu.Unlock()
		if l.between != nil {
			l.between(args[0])
		}
	}
	return values
}

func newLibrary(version uint64) *library {
	return &library{version: version, values: map[string]string{}}
}

func reads(l *library) func(*Options) { return func(o *Options) { o.Read = l.read } }

// refreshed returns rules of which the first is read anew, with more in it.
func refreshed(tb testing.TB, more string) *rules.Set {
	return parseRules(tb, "rules: [{name: r, table: r, keys: ['r:{id}'], refresh: {query: 'SELECT v FROM r WHERE id = {id}'"+more+"}}, "+
		"{name: d, table: d, keys: ['r:{id}']}]")
}

func (k *kit) value(key string) string {
	k.tb.Helper()
	return k.rdb.Get(k.ctx, key).Val()
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	l := newLibrary(1)
	k := makeQueue(t, livetest.NewRedis(t).URL(), reads(l)).run()
	set := refreshed(t, ", ttl: 100s")
	for i := range 1000 {
		l.set(fmt.Sprint(i), fmt.Sprintf("new\x00 %d", i))
	}
	k.set(numbered("r:%d", 500)...)
	k.set("r:none", "other")
	k.Add(ids(set, "r", 0, 1000)...)
	k.Add(of(set, "r", image{"id": "none"})...)
	k.idle()
	for i := range 500 {
		if got, want := k.value(fmt.Sprintf("r:%d", i)), fmt.Sprintf("new\x00 %d", i); got != want {
			t.Fatalf("r:%d is %q", i, got)
		}
	}
	if left := k.applicationKeys(); len(left) != 501 || !left["other"] {
		t.Errorf("%d left, want the 500 that were cached", len(left))
	}
	for i := range 500 {
		if ttl := k.rdb.PTTL(t.Context(), fmt.Sprintf("r:%d", i)).Val(); ttl > 100*time.Second || ttl < 85*time.Second {
			t.Errorf("a time to live of %v", ttl)
		}
	}
	if got := k.seen.refreshedOf("r"); got != 500 || k.seen.evictedOf("r") != 1 {
		t.Errorf("%d refreshed, %d evicted", got, k.seen.evictedOf("r"))
	}
	// A gap deletes: what was missed is not known.
	k.Sweep(set.Sweep()...)
	k.idle()
	if left := k.applicationKeys(); len(left) != 1 {
		t.Errorf("%d left after a sweep", len(left))
	}
}

// A reader that read before the commit and fills after the refresh: its fill is put right.
func TestSecondRefresh(t *testing.T) {
	t.Parallel()
	l := newLibrary(1)
	k := makeQueue(t, livetest.NewRedis(t).URL(), reads(l), again(300*time.Millisecond)).run()
	l.set("1", "new")
	k.set("r:1")
	k.Add(of(refreshed(t, ""), "r", image{"id": "1"})...)
	livetest.Eventually(t, soon, "it is refreshed", func() bool { return k.value("r:1") == "new" })
	k.set("r:1")
	livetest.Eventually(t, soon, "the late fill is put right", func() bool { return k.value("r:1") == "new" })
	if n := l.reads.Load(); n != 2 {
		t.Errorf("%d reads", n)
	}
}

// applicationKeys are the keys but for the leases.
func (k *kit) applicationKeys() map[string]bool {
	k.tb.Helper()
	keys := k.keys()
	for key := range keys {
		if _, ok := k.cluster.companionOf(leasePrefix, key); ok {
			delete(keys, key)
		}
	}
	return keys
}

func TestRefreshOfWhatIsNotCached(t *testing.T) {
	t.Parallel()
	l := newLibrary(1)
	k := makeQueue(t, livetest.NewRedis(t).URL(), reads(l)).run()
	l.set("1", "new")
	k.Add(of(refreshed(t, ""), "r", image{"id": "1"})...)
	k.idle()
	if k.exists("r:1") || l.reads.Load() != 0 {
		t.Errorf("%d reads", l.reads.Load())
	}
	k.Add(of(refreshed(t, ", only_cached: false"), "r", image{"id": "1"})...)
	k.idle()
	if k.value("r:1") != "new" || k.rdb.TTL(t.Context(), "r:1").Val() != -1 {
		t.Errorf("%q, to live %v", k.value("r:1"), k.rdb.TTL(t.Context(), "r:1").Val())
	}
	k.rdb.Expire(t.Context(), "r:1", time.Hour)
	k.Add(of(refreshed(t, ""), "r", image{"id": "1"})...)
	k.idle()
	if ttl := k.rdb.TTL(t.Context(), "r:1").Val(); ttl < 59*time.Minute {
		t.Errorf("its time to live is not kept: %v", ttl)
	}
	l.broken = true
	k.Add(of(refreshed(t, ""), "r", image{"id": "1"})...)
	k.gone("r:1")
	if k.seen.unread["r"] != 1 || k.logs.FilterMessageSnippet("could not read Postgres").Len() != 1 {
		t.Errorf("%d unread", k.seen.unread["r"])
	}
}

// Two sidecars read the same key, and the one that read less writes last: what is newer stays.
func TestOlderRefreshNeverWins(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	l, slow := newLibrary(9), newLibrary(9) // so that the versions have not the same number of digits
	hold, held := make(chan struct{}), make(chan struct{})
	first := sync.OnceFunc(func() { close(held); <-hold })
	slow.between = func(string) { first() }
	a, b := makeQueue(t, r.URL(), reads(slow)).run(), makeQueue(t, r.URL(), reads(l)).run()
	set := refreshed(t, "")
	slow.set("1", "old")
	l.set("1", "old")
	l.set("1", "new")
	a.set("r:1")
	a.Add(of(set, "r", image{"id": "1"})...)
	<-held // a has read what was old
	b.Add(of(set, "r", image{"id": "1"})...)
	b.idle()
	if got := a.value("r:1"); got != "new" {
		t.Fatalf("b set %q", got)
	}
	slow.set("1", "new") // as whoever reads now reads it
	close(hold)
	a.idle()
	if got := a.value("r:1"); got != "new" {
		t.Errorf("the older refresh has set %q", got)
	}
	if a.seen.refreshedOf("r") != 1 || b.seen.refreshedOf("r") != 1 || slow.reads.Load() != 2 { // since it has read once more
		t.Errorf("%d refreshed, and %d; %d reads", a.seen.refreshedOf("r"), b.seen.refreshedOf("r"), slow.reads.Load())
	}
}

// Postgres fails over to a server that lost its last transactions, and then a row changes: the version of what was set before
// is ahead of all that is read now, and must not hold the change up.
func TestRefreshAfterVersionsWentBack(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	l := newLibrary(1000)
	k := makeQueue(t, r.URL(), reads(l)).run()
	set := refreshed(t, "")
	l.set("1", "lost")
	k.set("r:1", "r:2")
	k.Add(of(set, "r", image{"id": "1"})...)
	k.idle()
	if got := k.value("r:1"); got != "lost" {
		t.Fatalf("it was set to %q", got)
	}
	l.mu.Lock()
	l.version = 2
	l.mu.Unlock()
	l.set("1", "changed")
	k.Add(of(set, "r", image{"id": "1"})...)
	k.idle()
	if got := k.value("r:1"); got != "" && got != "changed" {
		t.Errorf("it is still %q", got)
	}
	l.set("1", "again") // and from now on all is as ever
	k.set("r:1")
	k.Add(of(set, "r", image{"id": "1"})...)
	k.idle()
	if got := k.value("r:1"); got != "again" {
		t.Errorf("then it was set to %q", got)
	}
}

// Somebody deletes the key after a refresh has read, and the application fills it with what is newer: the refresh must not
// put what it has read over it. How it is deleted does not matter.
func TestRefreshNeverUndoesADelete(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]func(k *kit, set *rules.Set){
		"a key":   func(k *kit, set *rules.Set) { k.Add(of(set, "d", image{"id": "1"})...) },
		"a sweep": func(k *kit, set *rules.Set) { k.Sweep(set.Sweep()...) },
		"a tag": func(k *kit, _ *rules.Set) {
			k.rdb.SAdd(k.ctx, "tag:1", "r:1")
			k.Add(of(parseRules(k.tb, tagRules), "t", image{"id": "1"})...)
		},
		"the lease expires": func(k *kit, _ *rules.Set) { k.rdb.Del(k.ctx, k.cluster.companionKey(leasePrefix, "r:1")) },
	} {
		for _, cached := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, cached: %t", name, cached), func(t *testing.T) {
				t.Parallel()
				r := livetest.NewRedis(t)
				slow := newLibrary(1)
				hold, held := make(chan struct{}), make(chan struct{})
				slow.between = func(string) { close(held); <-hold }
				a, b := makeQueue(t, r.URL(), reads(slow)).run(), makeQueue(t, r.URL(), reads(newLibrary(1))).run()
				set := refreshed(t, ", only_cached: false")
				slow.set("1", "old")
				if cached {
					a.set("r:1")
				}
				a.Add(of(set, "r", image{"id": "1"})...)
				<-held
				kill(b, set)
				b.idle()
				a.rdb.Set(t.Context(), "r:1", "newer", 0)
				close(hold)
				a.idle()
				if got := a.value("r:1"); got == "old" {
					t.Error("the refresh has undone the delete")
				}
			})
		}
	}
}

// Refreshes by two sidecars, deletes, an application that fills, and a row that changes: at the end the cache has what the
// row is.
func TestRefreshesAtOnce(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	l := newLibrary(1)
	a, b := makeQueue(t, r.URL(), reads(l)).run(), makeQueue(t, r.URL(), reads(l)).run()
	set := refreshed(t, ", ttl: 1h")
	end := time.Now().Add(2 * time.Second)
	var working sync.WaitGroup
	for w := range 3 {
		working.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				id := fmt.Sprint(i % 5)
				l.set(id, fmt.Sprintf("%d of %d", i, w))
				a.Add(of(set, "r", image{"id": id})...)
				b.Add(of(set, "r", image{"id": id})...)
				switch i % 7 {
				case 0:
					a.Add(of(set, "d", image{"id": id})...)
				case 1:
					b.Sweep(set.Sweep()...)
				case 2: // an application that fills what it has just read
					l.mu.Lock()
					value := l.values[id]
					a.rdb.Set(t.Context(), "r:"+id, value, 0)
					l.mu.Unlock()
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	working.Wait()
	a.idle()
	b.idle()
	for id, want := range l.values {
		if got, err := a.rdb.Get(t.Context(), "r:"+id).Result(); err == nil && got != want {
			t.Errorf("r:%s is %q, and must be %q", id, got, want)
		}
	}
	if n := a.seen.refreshedOf("r") + b.seen.refreshedOf("r"); n < 50 {
		t.Errorf("only %d refreshes, so this shows little", n)
	}
}

// A Redis that is full takes no refresh: the key is deleted.
func TestRefreshOnAFullRedis(t *testing.T) {
	t.Parallel()
	l := newLibrary(1)
	k := makeQueue(t, livetest.NewRedis(t, "--maxmemory-policy", "noeviction").URL(), reads(l)).run()
	l.set("1", "new")
	k.set("r:1")
	if err := k.rdb.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	k.Add(of(refreshed(t, ""), "r", image{"id": "1"})...)
	k.idle()
	if k.exists("r:1") || k.seen.errors["oom"] == 0 {
		t.Errorf("errors %v", k.seen.errors)
	}
}

// Many changes of one key are one read, and what waits while another is read is read together.
func TestRefreshesOfOneKeyAreOneRead(t *testing.T) {
	t.Parallel()
	l := newLibrary(1)
	k := makeQueue(t, livetest.NewRedis(t).URL(), reads(l))
	l.set("1", "new")
	k.set("r:1")
	set := refreshed(t, "")
	for range 1000 {
		k.Add(of(set, "r", image{"id": "1"})...)
	}
	k.run().idle()
	if n := l.reads.Load(); n != 1 {
		t.Errorf("%d reads", n)
	}
}

func TestRefreshInACluster(t *testing.T) {
	t.Parallel()
	l := newLibrary(1)
	k := makeClusterQueue(t, livetest.NewRedisCluster(t, 3, 0), reads(l))
	k.run()
	names := append(numbered("%d", 200), "{tag}", "a}b", "a{}b", "{", "}", "{{x}}")
	set := refreshed(t, ", ttl: 1h")
	for _, name := range names {
		l.set(name, "new "+name)
		k.fill("r:" + name)
		k.Add(of(set, "r", image{"id": name})...)
	}
	k.canary(1)
	k.idle()
	for _, name := range names {
		if got := k.all.Get(t.Context(), "r:"+name).Val(); got != "new "+name {
			t.Errorf("r:%s is %q", name, got)
		}
	}
	k.Sweep(set.Sweep()...)
	k.idle()
	if left := k.left(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if len(k.seen.errors) != 0 || k.seen.refreshedOf("r") != len(names) {
		t.Errorf("errors %v, %d refreshed", k.seen.errors, k.seen.refreshedOf("r"))
	}
}

func TestDryRunOfTagsFieldsAndRefreshes(t *testing.T) {
	t.Parallel()
	l := newLibrary(1)
	k := makeQueue(t, livetest.NewRedis(t).URL(), reads(l), func(o *Options) { o.DryRun = true }).run()
	set := parseRules(t, "rules: [{name: r, table: r, keys: ['r:{id}'], tags: ['tag:{id}'], fields: [{key: h, field: '{id}'}], "+
		"refresh: {query: 'SELECT v FROM r WHERE id = {id}'}}]")
	l.set("1", "new")
	k.tagged("tag:1", "view:1")
	k.set("r:1")
	k.rdb.HSet(t.Context(), "h", "1", "x")
	k.Add(of(set, "r", image{"id": "1"})...)
	k.Sweep(set.Sweep()...)
	k.idle()
	if left := k.keys(); len(left) != 4 || k.value("r:1") != "v" || k.rdb.SCard(t.Context(), "tag:1").Val() != 1 || !k.rdb.HExists(t.Context(), "h", "1").Val() {
		t.Errorf("left: %v", left)
	}
	if len(k.seen.evicted)+len(k.seen.refreshed) != 0 || k.logs.FilterMessageSnippet("dry run: would").Len() < 4 {
		t.Errorf("evicted %v, refreshed %v; the log has %d lines", k.seen.evicted, k.seen.refreshed, k.logs.FilterMessageSnippet("dry run: would").Len())
	}
}
