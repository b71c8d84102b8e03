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

// A set that moves while it is read is read on where it is then, and what was claimed of it is deleted.
func TestClusterMovesATagThatIsRead(t *testing.T) {
	t.Parallel()
	c := livetest.NewRedisCluster(t, 3, 0)
	k := makeClusterQueue(t, c)
	k.found()
	set := parseRules(t, wide)
	names := make([]any, 10_000)
	for i := range names {
		names[i] = fmt.Sprintf("m:%d", i)
	}
	k.fill("m:1", "m:5000", "m:9999")
	if err := k.all.SAdd(t.Context(), "tag:1", names...).Err(); err != nil {
		t.Fatal(err)
	}
	k.Add(of(set, "t", image{"id": "1"})...)
	slot := livetest.Slot("tag:1")
	s := k.cluster.shardOf(slot)
	b := k.pending.take(s.lane, tags)
	read := s.newReading(of(set, "t", image{"id": "1"})[0], of(set, "t", image{"id": "1"})[0])
	if err := s.readStep(t.Context(), []*tagReading{read}); err != nil || read.take.Err() != nil {
		t.Fatal(err, read.take.Err())
	}
	if err := c.MoveSlot(slot, c.Nodes[(slot*3/redisnode.Slots+1)%3]); err != nil {
		t.Fatal(err)
	}
	k.pending.putBack(b) // as if that had been the end of the connection: only Redis knows of the claims
	k.run().idle()
	if left := k.left(); len(left) != 0 {
		t.Errorf("%d left", len(left))
	}
}
