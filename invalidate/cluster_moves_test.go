package invalidate

import (
	"fmt"
	"testing"

	"pgevict/internal/livetest"
	"pgevict/invalidate/redisnode"
)

// What waits for a master may have moved to another when it becomes a pattern, so that goes to all of them.
func TestClusterWidensAfterAMove(t *testing.T) {
	t.Parallel()
	c := livetest.NewRedisCluster(t, 3, 0)
	k := makeClusterQueue(t, c, bound(20))
	k.found()
	set := parseRules(t, "rules: [{table: a, keys: ['a:{id}']}]")
	moved := k.onePerMaster("a:%d")[0]
	k.Add(target(set, moved)...)
	if err := c.MoveSlot(livetest.Slot(moved), c.Nodes[1]); err != nil {
		t.Fatal(err)
	}
	k.found()
	k.fill(moved)
	for i, n := 1000, 0; n < 30; i++ {
		if key := fmt.Sprintf("a:%d", i); livetest.Slot(key)*3/redisnode.Slots == 0 {
			k.Add(target(set, key)...)
			n++
		}
	}
	if k.seen.widened["a"] == 0 {
		t.Fatal("nothing was widened")
	}
	k.run().idle()
	if left := k.left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// found has the masters looked up now, though the queue does not run.
func (k *clusterKit) found() {
	k.tb.Helper()
	k.cluster.is.Store(true)
	now, err := k.cluster.discover(k.ctx, k.live.Addrs())
	if err != nil {
		k.tb.Fatal(err)
	}
	k.cluster.apply(now)
}

// A Cluster that was made anew counts its epochs from the beginning.
func TestClusterMadeAnew(t *testing.T) {
	t.Parallel()
	c := livetest.NewRedisCluster(t, 3, 0)
	k := makeClusterQueue(t, c)
	k.found()
	k.cluster.configEpoch = 1 << 40
	k.found()
	if k.cluster.configEpoch == 1<<40 {
		t.Error("what all servers say is not believed")
	}
}

// While a tag's slot is moving the tag waits, and holds up no pattern; once it has moved, its members go.
func TestClusterMovesATag(t *testing.T) {
	t.Parallel()
	c := livetest.NewRedisCluster(t, 3, 0)
	k := makeClusterQueue(t, c)
	k.run()
	set := parseRules(t, wide)
	k.canary(1)
	k.fill(numbered("a:%d", 5000)...)
	k.fill("m:1")
	k.all.SAdd(t.Context(), "tag:1", "m:1")
	slot := livetest.Slot("tag:1")
	to := c.Nodes[(slot*3/redisnode.Slots+1)%3]
	if err := c.StartMove(slot, to); err != nil {
		t.Fatal(err)
	}
	k.Sweep(set.Sweep()...)
	livetest.Eventually(t, soon, "all but the tag are gone", func() bool { return len(k.left()) <= 3 })
	if _, err := c.MoveKeys(slot, to, 1000); err != nil {
		t.Fatal(err)
	}
	if err := c.FinishMove(slot, to); err != nil {
		t.Fatal(err)
	}
	k.idle()
	if left := k.left(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A cursor means nothing to another server, so a set that moves while it is read is read from its beginning.
func TestClusterMovesATagThatIsRead(t *testing.T) {
	t.Parallel()
	c := livetest.NewRedisCluster(t, 3, 0)
	k := makeClusterQueue(t, c)
	k.found()
	tagTarget := of(parseRules(t, wide), "t", image{"id": "1"})[0]
	members := make([]any, 10_000)
	for i := range members {
		members[i] = fmt.Sprintf("m:%d", i)
	}
	if err := k.all.SAdd(t.Context(), tagTarget.Key, members...).Err(); err != nil {
		t.Fatal(err)
	}
	slot := livetest.Slot(tagTarget.Key)
	beside := k.cluster.companionKey(movedPrefix, tagTarget.Key)
	read := &reading{tag: tag{tagTarget.Key, tagTarget}, from: tagTarget.Key, beside: beside}
	unread := k.cluster.forgetSome(t.Context(), []*reading{read})
	if len(unread) != 1 || read.err != nil {
		t.Fatalf("the set was read at once, or not: %v", read.err)
	}
	if err := c.MoveSlot(slot, c.Nodes[(slot*3/redisnode.Slots+1)%3]); err != nil {
		t.Fatal(err)
	}
	if unread = k.cluster.forgetSome(t.Context(), unread); len(unread) != 0 || read.err == nil {
		t.Errorf("it is read on: %v", read.err)
	}
	if failed := k.cluster.forget(t.Context(), []tag{{tagTarget.Key, tagTarget}}); len(failed) != 0 {
		t.Error(failed)
	}
	if n := k.all.Exists(t.Context(), tagTarget.Key).Val(); n != 0 {
		t.Error("the set is there")
	}
}
