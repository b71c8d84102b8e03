package livetest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func clusterClient(t *testing.T, c *RedisCluster) *redis.ClusterClient {
	t.Helper()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func TestClusterStarts(t *testing.T) {
	t.Parallel()
	c := NewRedisCluster(t, 3, 1, "--maxmemory", "64mb")
	ctx := t.Context()
	const key = "user:{7}"
	slot := Slot(key)
	if err := clusterClient(t, c).Set(ctx, key, "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	i := slices.Index(c.Nodes, c.Master(slot))
	if i < 0 || i >= 3 {
		t.Fatalf("node %d is the master", i)
	}
	if got, err := client(t, c.Nodes[i]).Get(ctx, key).Result(); got != "v" || err != nil {
		t.Errorf("the master has %q, %v", got, err)
	}
	Eventually(t, 10*time.Second, "the replica has it", func() bool {
		conn := client(t, c.Nodes[i+3]).Conn()
		defer conn.Close()
		return conn.ReadOnly(ctx).Err() == nil && conn.Get(ctx, key).Val() == "v"
	})
	if c.URL() != "redis://"+c.Addrs()[0] {
		t.Error(c.URL())
	}
	pids := make([]int, len(c.Nodes))
	for i, r := range c.Nodes {
		pids[i] = r.proc.Pid
		if _, err := os.Stat(filepath.Join(r.Dir, "dump.rdb")); !os.IsNotExist(err) {
			t.Errorf("node %d would start with the data of its last transfer: %v", i, err)
		}
	}
	c.Nodes[1].Pause()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for i, r := range c.Nodes {
		if _, err := os.Stat(r.Dir); !os.IsNotExist(err) || !gone(pids[i]) {
			t.Errorf("after Close: %v, or process %d runs", err, pids[i])
		}
	}
}

func TestClusterReplicaTakesOverByItself(t *testing.T) {
	t.Parallel()
	c := NewRedisCluster(t, 3, 1, "--maxmemory", "64mb")
	old, replica := c.Nodes[0], c.Nodes[3]
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, time.Minute, "the replica is master", func() bool { return c.Master(0) == replica })
	if err := old.Start(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, time.Minute, "the old master is a replica", func() bool { return old.replicates(replica) == nil })
	if got := client(t, old).ConfigGet(t.Context(), "maxmemory").Val()["maxmemory"]; got != "67108864" {
		t.Errorf("maxmemory = %q after a start", got)
	}

	replica.Pause()
	Eventually(t, time.Minute, "it is master again", func() bool { return c.Master(0) == old })
	replica.Resume()
	Eventually(t, time.Minute, "the other is a replica", func() bool { return replica.replicates(old) == nil })
}

func TestClusterFailover(t *testing.T) {
	t.Parallel()
	c := NewRedisCluster(t, 3, 1)
	one, other := c.Nodes[2], c.Nodes[5]
	last := slotCount - 1
	for _, replica := range []*Redis{other, one, other} {
		if err := c.Failover(replica, false); err != nil {
			t.Fatal(err)
		}
		if c.Master(last) != replica {
			t.Error("it is not the master")
		}
	}
	other.Pause()
	if err := c.Failover(one, true); err != nil {
		t.Fatal(err)
	}
	if c.Master(last) != one {
		t.Error("it did not take over")
	}
	other.Resume()
	if err := c.Failover(one, true); err == nil {
		t.Error("no error from the failover of a master")
	}
}

func TestClusterMovesSlots(t *testing.T) {
	t.Parallel()
	c := NewRedisCluster(t, 3, 0)
	ctx := t.Context()
	rdb := clusterClient(t, c)
	slot := Slot("{m}")
	for i := range 250 {
		if err := rdb.Set(ctx, fmt.Sprintf("{m}%d", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	source := c.Master(slot)
	target := c.Nodes[(slices.Index(c.Nodes, source)+1)%3]
	if err := c.StartMove(slot, target); err != nil {
		t.Fatal(err)
	}
	if moved, err := c.MoveKeys(slot, target, 10); moved != 10 || err != nil {
		t.Fatalf("%d moved, %v", moved, err)
	}
	if err := client(t, source).Get(ctx, "{m}none").Err(); !strings.HasPrefix(fmt.Sprint(err), "ASK ") {
		t.Errorf("half-way the source says %v", err)
	}
	if err := c.FinishMove(slot, target); err == nil {
		t.Error("no error from the end of a move that leaves keys")
	}
	if c.Master(slot) != source {
		t.Error("the slot moved without its keys")
	}
	if err := c.MoveSlot(slot, target); err != nil {
		t.Fatal(err)
	}
	if c.Master(slot) != target {
		t.Error("the slot has not moved")
	}
	if n, err := client(t, target).DBSize(ctx).Result(); n != 250 || err != nil {
		t.Errorf("the target has %d keys, %v", n, err)
	}
	if got, err := rdb.Get(ctx, "{m}249").Result(); got != "249" || err != nil {
		t.Errorf("the cluster says %q, %v", got, err)
	}
}

func TestSlot(t *testing.T) {
	t.Parallel()
	rdb := client(t, NewRedis(t, "--cluster-enabled", "yes"))
	for _, key := range []string{
		"", "key", "{}", "{a}b", "a{}b", "foo{bar}{zap}", "{{bar}}zap", "{", "}", "a}b{c", "a}b{c}d", "\x00\xff\r\n{\x80}",
	} {
		if want, err := rdb.ClusterKeySlot(t.Context(), key).Result(); int64(Slot(key)) != want || err != nil {
			t.Errorf("%q: slot %d, want %d, %v", key, Slot(key), want, err)
		}
	}
}
