package livetest

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestSentinelSetFailsOver(t *testing.T) {
	t.Parallel()
	s := NewSentinelSet(t, 2, 3, "--maxmemory", "64mb")
	ctx := t.Context()
	options, err := redis.ParseFailoverURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewFailoverClient(options)
	t.Cleanup(func() { _ = rdb.Close() })
	if err := rdb.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	first, err := s.Master()
	if err != nil || first != s.Redis[0] {
		t.Fatalf("%v is the master at the start, %v", first, err)
	}
	for range 2 {
		old, err := s.Master()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Failover(); err != nil {
			t.Fatal(err)
		}
		master, err := s.Master()
		if err != nil || master == old {
			t.Fatalf("after a failover the master is %v, %v", master, err)
		}
		if got, err := client(t, master).Get(ctx, "k").Result(); got != "v" || err != nil {
			t.Errorf("the new master has %q, %v", got, err)
		}
	}
	pids := map[*Redis]int{}
	for _, r := range slices.Concat(s.Redis, s.Sentinels) {
		pids[r] = r.proc.Pid
	}
	s.Sentinels[1].Pause()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for r, pid := range pids {
		if _, err := os.Stat(r.Dir); !os.IsNotExist(err) || !gone(pid) {
			t.Errorf("after Close: %v, or process %d runs", err, pid)
		}
	}
}

func TestSentinelsReplaceADeadMaster(t *testing.T) {
	t.Parallel()
	s := NewSentinelSet(t, 1, 3, "--maxmemory", "64mb")
	old, other := s.Redis[0], s.Redis[1]
	masterIs := func(want *Redis) func() bool {
		return func() bool {
			master, err := s.Master()
			return err == nil && master == want
		}
	}
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, time.Minute, "the replica is the master", masterIs(other))
	if err := old.Start(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, time.Minute, "the old master is a replica", func() bool { return old.replicates(other) == nil })
	if got := client(t, old).ConfigGet(t.Context(), "maxmemory").Val()["maxmemory"]; got != "67108864" {
		t.Errorf("maxmemory = %q after a start", got)
	}

	// A sentinel comes back with what it knew.
	if err := s.Sentinels[0].Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Sentinels[0].Start(); err != nil {
		t.Fatal(err)
	}
	opinions, err := s.masters()
	if err != nil || opinions[s.Sentinels[0]].addr != other.Addr {
		t.Errorf("the sentinels know %v, %v", opinions, err)
	}

	Eventually(t, time.Minute, "the sentinels know the replica", func() bool { return s.unformed() == nil })
	other.Pause()
	Eventually(t, time.Minute, "it is the master again", masterIs(old))
	other.Resume()
	Eventually(t, time.Minute, "the paused one is a replica", func() bool { return other.replicates(old) == nil })
}
