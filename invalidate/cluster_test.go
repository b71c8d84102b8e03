package invalidate

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
	"pgevict/invalidate/redisnode"
)

func TestCluster(t *testing.T) {
	t.Parallel()
	c := livetest.NewRedisCluster(t, 3, 0)
	k := makeClusterQueue(t, c, again(50*time.Millisecond))
	k.run()
	set := parseRules(t, wide)
	k.canary(1)
	k.fill("other", "a:x", "p:7:x", "q:{7}:x", "tag:9:x")
	k.fill(numbered("a:%d", 3000)...)
	k.fill(numbered("b:{%d}:x", 3000)...)
	k.fill(numbered("p:5:%d", 3000)...)
	k.fill(numbered("q:{5}:%d", 100)...)
	k.fill(numbered("member:%d", 3000)...)
	members := make([]any, 3000)
	for i := range members {
		members[i] = fmt.Sprintf("member:%d", i)
	}
	if err := k.all.SAdd(t.Context(), "tag:5", members...).Err(); err != nil {
		t.Fatal(err)
	}
	if err := k.all.HSet(t.Context(), "h:5", "x", 1, "y", 2).Err(); err != nil {
		t.Fatal(err)
	}
	k.Add(ids(set, "a", 0, 3000)...)
	k.Add(of(set, "p", image{"id": "5"})...)
	k.Add(of(set, "t", image{"id": "5"})...)
	k.Add(of(set, "f", image{"id": "5", "name": "x"})...)
	k.idle()
	left := k.left()
	if len(left) != 6 || !left["other"] || !left["h:5"] {
		t.Errorf("%d left: %.1000v", len(left), left)
	}
	if fields := k.all.HKeys(t.Context(), "h:5").Val(); len(fields) != 1 || fields[0] != "y" {
		t.Errorf("fields left: %v", fields)
	}
	for rule, want := range map[string]int64{"a": 6000, "p": 3100, "t": 3000, "f": 1} {
		if got := k.seen.evictedOf(rule); got != want {
			t.Errorf("rule %s: %d evicted, want %d", rule, got, want)
		}
	}
	k.canary(2)
	if got := k.Stats(); !got.Connected || got.Canary.IsZero() || got.AppliedThrough.IsZero() || len(k.seen.gaps) != 0 {
		t.Errorf("%+v, gaps %v", got, k.seen.gaps)
	}
	// The sweep takes all that the rules could have made.
	k.fill("a:1", "p:1:x")
	k.all.SAdd(t.Context(), "tag:6", "m")
	k.fill("m")
	k.Sweep(set.Sweep()...)
	k.idle()
	if left := k.left(); len(left) != 2 || !left["other"] || !left["tag:9:x"] { // which is no set
		t.Errorf("after a sweep: %v", left)
	}
	if k.seen.swept != 1 {
		t.Errorf("%d swept", k.seen.swept)
	}
}

// One master is away: the keys of the others go at once, and its own when it is back.
func TestClusterWithOneMasterAway(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(r *livetest.Redis) (back func()){
		"killed": func(r *livetest.Redis) func() {
			if err := r.Kill(); err != nil {
				t.Error(err)
			}
			return func() {
				if err := r.Start(); err != nil {
					t.Error(err)
				}
			}
		},
		"paused": func(r *livetest.Redis) func() { r.Pause(); return r.Resume },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := livetest.NewRedisCluster(t, 3, 0)
			k := makeClusterQueue(t, c, func(o *Options) { o.Timeout = 5 * time.Second })
			k.run()
			set := parseRules(t, "rules: [{table: a, keys: ['a:{id}']}, {table: p, keys: ['p:{id}:*']}]")
			k.canary(1)
			keys := k.onePerMaster("a:%d")
			k.fill(keys...)
			k.fill(numbered("p:1:%d", 100)...)
			before := time.Now()
			back := away(c.Nodes[1])
			k.Add(target(set, keys[1])...)
			k.Add(of(set, "p", image{"id": "1"})...)
			began := time.Now()
			for range 20 {
				for _, i := range []int{0, 2} {
					k.fillOn(c.Nodes[i], keys[i])
					k.Add(target(set, keys[i])...)
					livetest.Eventually(t, soon, keys[i]+" is gone", func() bool { return !k.hasOn(c.Nodes[i], keys[i]) })
				}
			}
			if d := time.Since(began); d > 4*time.Second {
				t.Errorf("40 keys of the other masters took %v", d)
			}
			k.markAt(2)
			livetest.Eventually(t, soon, "it is noticed", func() bool { return !k.Stats().Connected })
			if got := k.Stats(); got.Pending == 0 || got.Canary.After(before) {
				t.Errorf("%+v: nothing waits, or a canary went through though a master is away", got)
			}
			back()
			k.idle()
			k.canary(3)
			livetest.Eventually(t, soon, "all answer", func() bool { return k.Stats().Connected && k.Stats().Canary.After(before) })
			if left := k.left(); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
			if restarts := k.seen.gapsOf(GapRestart); (restarts > 0) != (name == "killed") {
				t.Errorf("%d gaps for a restart", restarts)
			}
		})
	}
}

// Each master has a position of its own, so that one of them which loses its data is found, and no other.
func TestClusterPositionOfEachMaster(t *testing.T) {
	t.Parallel()
	c := livetest.NewRedisCluster(t, 3, 0)
	k := makeClusterQueue(t, c)
	k.run()
	k.canary(1)
	k.canary(2)
	for i, r := range c.Nodes {
		if n := len(k.onNode(r).Keys(t.Context(), PositionPrefix+"*").Val()); n != 1 {
			t.Errorf("master %d has %d positions", i, n)
		}
		if err := k.onNode(r).FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		k.canary(uint64(10 + 2*i))
		k.canary(uint64(11 + 2*i))
		if got := k.seen.gapsOf(GapRollback); got != i+1 || len(k.seen.gaps) != i+1 {
			t.Errorf("after master %d lost its data: gaps %v", i, k.seen.gaps)
		}
	}
}

// A replica takes over that has not heard of the last deletes.
func TestClusterFailover(t *testing.T) {
	t.Parallel()
	c := livetest.NewRedisCluster(t, 3, 3-2)
	k := makeClusterQueue(t, c)
	k.run()
	set := parseRules(t, "rules: [{table: a, keys: ['a:{id}']}]")
	keys := k.onePerMaster("a:%d")
	k.canary(1)
	k.canary(2)
	c.Nodes[1].Pause() // with what waits for it
	k.Add(target(set, keys[1])...)
	k.Add(target(set, keys[0])...)
	k.markAt(3)
	if err := c.Failover(c.Nodes[4], true); err != nil {
		t.Fatal(err)
	}
	k.idle()
	livetest.Eventually(t, soon, "the new master is a gap", func() bool { return k.seen.gapsOf(GapRestart) == 1 })
	k.canary(4)
	livetest.Eventually(t, soon, "all answer", func() bool { return k.Stats().Connected })
	c.Nodes[1].Resume()
	k.fill(keys...)
	for _, key := range keys {
		k.Add(target(set, key)...)
	}
	k.idle()
	if left := k.left(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	k.pending.mu.Lock()
	masters, parting := len(k.pending.routes.lanes), len(k.pending.retiring)
	k.pending.mu.Unlock()
	if masters != 3 || parting != 0 {
		t.Errorf("%d masters, %d that part", masters, parting)
	}
}

// While a slot's keys are on their way from one master to another, keys and patterns are deleted wherever they are.
func TestClusterResharding(t *testing.T) {
	t.Parallel()
	c := livetest.NewRedisCluster(t, 3, 0)
	k := makeClusterQueue(t, c, again(100*time.Millisecond))
	k.run()
	set := parseRules(t, "rules: [{table: a, keys: ['a:{{tag}}:{id}']}, {table: p, keys: ['p:{id}:*']}, {table: t, tags: ['t:{{tag}}:{id}']}]")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	slot := livetest.Slot("{tag}")
	from, to := c.Nodes[slot*3/redisnode.Slots], c.Nodes[(slot*3/redisnode.Slots+1)%3]
	keys := numbered("a:{tag}:%d", 300)
	under := numbered("p:1:{tag}%d", 300)
	k.canary(1)
	k.fill(keys...)
	k.fill(under...)
	for i := range 100 {
		must(k.all.SAdd(t.Context(), fmt.Sprintf("t:{tag}:%d", i), fmt.Sprintf("m:{tag}:%d", i), fmt.Sprintf("n:%d", i)).Err())
		k.fill(fmt.Sprintf("m:{tag}:%d", i), fmt.Sprintf("n:%d", i))
	}
	must(c.StartMove(slot, to))
	_, err := c.MoveKeys(slot, to, 350)
	must(err)
	k.Add(ids(set, "a", 0, 300)...)
	k.Add(of(set, "p", image{"id": "1"})...)
	for _, r := range []*livetest.Redis{from, to} {
		for _, pattern := range []string{"a:*", "p:*"} {
			livetest.Eventually(t, soon, pattern+" is gone", func() bool { return len(k.onNode(r).Keys(t.Context(), pattern).Val()) == 0 })
		}
	}
	k.Add(ids(set, "t", 0, 100)...)
	if k.Stats().Pending == 0 {
		t.Error("a pattern is done although a slot is moving")
	}
	for moved := 1; moved > 0; {
		moved, err = c.MoveKeys(slot, to, 1000)
		must(err)
	}
	must(c.FinishMove(slot, to))
	k.idle()
	k.canary(2)
	k.fill(keys...)
	k.Add(ids(set, "a", 0, 300)...)
	k.idle()
	if left := k.left(); len(left) != 0 {
		t.Errorf("%d left: %.500v", len(left), left)
	}
	if len(k.seen.gaps) > 0 {
		t.Errorf("gaps: %v", k.seen.gaps)
	}
}

func TestClusterThatIsGivenByManyAddresses(t *testing.T) {
	t.Parallel()
	c := livetest.NewRedisCluster(t, 3, 0)
	k := makeClusterQueue(t, c)
	if err := c.Nodes[0].Kill(); err != nil {
		t.Fatal(err)
	}
	q := New(&redis.UniversalOptions{Addrs: c.Addrs()}, k.opts)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); q.Run(ctx) }()
	set := parseRules(t, "rules: [{table: a, keys: ['a:{id}']}]")
	key := k.onePerMaster("a:%d")[2]
	k.fillOn(c.Nodes[2], key)
	q.Add(target(set, key)...)
	livetest.Eventually(t, soon, "it is gone", func() bool { return !k.hasOn(c.Nodes[2], key) })
	cancel()
	<-done
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := q.Drain(ctx); err != nil {
		t.Error(err)
	}
}

// The slot of a master's position moves to another: the position needs another slot, and nothing was lost.
func TestClusterMovesThePosition(t *testing.T) {
	t.Parallel()
	c := livetest.NewRedisCluster(t, 3, 0)
	k := makeClusterQueue(t, c)
	k.run()
	k.canary(1)
	k.canary(2)
	positions := func(r *livetest.Redis) []string { return k.onNode(r).Keys(t.Context(), PositionPrefix+"*").Val() }
	before := positions(c.Nodes[0])
	if len(before) != 1 {
		t.Fatalf("positions of the first master: %v", before)
	}
	if err := c.MoveSlot(livetest.Slot(before[0]), c.Nodes[1]); err != nil {
		t.Fatal(err)
	}
	k.canary(3)
	k.canary(4)
	if now := positions(c.Nodes[0]); len(now) != 1 || now[0] == before[0] || len(positions(c.Nodes[1])) != 2 {
		t.Errorf("positions: %v, of the second master %v", now, positions(c.Nodes[1]))
	}
	if len(k.seen.gaps) != 0 {
		t.Errorf("gaps: %v", k.seen.gaps)
	}
}

// A user who may not ask for INFO is not told that it is a Cluster, but every other key says so.
func TestClusterThatDoesNotSaySo(t *testing.T) {
	t.Parallel()
	c := livetest.NewRedisCluster(t, 3, 0)
	k := makeClusterQueue(t, c)
	for _, r := range c.Nodes {
		setUser(t, k.onNode(r), mayConnect, "+unlink", "+scan", "+set", "+get", "+cluster", "~*")
	}
	q := makeQueue(t, "redis://limited:secret@"+c.Nodes[0].Addr, timeout(time.Second)).run()
	set := parseRules(t, "rules: [{table: a, keys: ['a:{id}']}]")
	keys := k.onePerMaster("a:%d")
	k.fill(keys...)
	for _, key := range keys {
		q.Add(target(set, key)...)
	}
	q.idle()
	if left := k.left(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
