package invalidate

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
	"pgevict/rules"
)

// useAll has a queue do all that the rules may ask for.
func useAll(t *testing.T, o *redis.UniversalOptions, admin redis.UniversalClient) {
	t.Helper()
	k := makeQueueAt(t, o, timeout(5*time.Second), func(o *Options) {
		o.Read = func(_ context.Context, targets []rules.Target) []Value {
			values := make([]Value, len(targets))
			for i := range values {
				values[i] = Value{Text: "new", Found: true, Version: 1}
			}
			return values
		}
	})
	k.run()
	set := parseRules(t, livetest.ACLRules)
	present := func(keys ...string) (n int) {
		for _, key := range keys {
			n += int(admin.Exists(t.Context(), key).Val())
		}
		return n
	}
	canary := func(position uint64) {
		t.Helper()
		before := time.Now()
		k.markAt(position)
		livetest.Eventually(t, soon, "a canary goes through", func() bool { s := k.Stats(); return s.Canary.After(before) && !s.AppliedThrough.IsZero() })
	}
	canary(1)
	row := image{"id": "1", "owner": "7"}
	k.Add(of(set, "actions", row)...)
	k.Add(of(set, "owners", image{"id": "7", "name": "name"})...)
	k.Add(of(set, "profiles", row)...)
	livetest.Eventually(t, soon, "what is stale is gone", func() bool {
		return present("action:1", "actions:list:1", "page:1", "actions:of:7") == 0 &&
			admin.HLen(t.Context(), "owner:7").Val() == 1 && admin.Get(t.Context(), "profile:1").Val() == "new"
	})
	if n := present("action:2", "page:2", "profile:2", "other"); n != 4 {
		t.Errorf("%d keys of 4 are left", n)
	}
	k.Sweep(set.Sweep()...)
	k.idle()
	canary(2)
	if n := present("action:2", "page:2", "actions:of:8", "owner:7", "profile:1", "profile:2"); n != 0 || present("other") != 1 {
		t.Errorf("%d keys are left after a sweep, of other keys %d", n, present("other"))
	}
	if k.seen.errors["noperm"] != 0 || len(k.seen.gaps) != 0 {
		t.Errorf("errors %v, gaps %v: %v", k.seen.errors, k.seen.gaps, k.logs.All())
	}
}

// The files of deploy/redis let a queue do all that it does. (That they grant nothing else, the doctor shows.)
func TestLeastACL(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]func(livetest.ACL) livetest.ACL{"as it is": func(r livetest.ACL) livetest.ACL { return r }, "Redis 6.2": livetest.ACL.Flat} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := livetest.NewRedis(t)
			of(livetest.ReadACL(t, "../deploy/redis/user.redis")).Grant(t, r)
			admin := connect(t, r.URL())
			livetest.FillACLRules(t, admin)
			useAll(t, &redis.UniversalOptions{Addrs: []string{r.Addr}, Username: "pgevict", Password: livetest.ACLPassword}, admin)
		})
	}
	t.Run("Cluster", func(t *testing.T) {
		t.Parallel()
		c := livetest.NewRedisCluster(t, 3, 1)
		if err := c.Patient(); err != nil {
			t.Fatal(err)
		}
		livetest.ReadACL(t, "../deploy/redis/user.redis", "../deploy/redis/user-cluster.redis").Grant(t, c.Nodes...)
		admin := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
		defer admin.Close()
		livetest.FillACLRules(t, admin)
		useAll(t, &redis.UniversalOptions{Addrs: []string{c.Nodes[0].Addr}, Username: "pgevict", Password: livetest.ACLPassword}, admin)
	})
	t.Run("Sentinel", func(t *testing.T) {
		t.Parallel()
		s := livetest.NewSentinelSet(t, 1, 1)
		livetest.ReadACL(t, "../deploy/redis/user.redis").Grant(t, s.Redis...)
		livetest.ReadACL(t, "../deploy/redis/user-sentinel.redis").Grant(t, s.Sentinels...)
		admin := connect(t, s.Redis[0].URL())
		livetest.FillACLRules(t, admin)
		useAll(t, &redis.UniversalOptions{
			Addrs: []string{s.Sentinels[0].Addr}, MasterName: s.Name, Username: "pgevict", Password: livetest.ACLPassword,
			SentinelUsername: "pgevict", SentinelPassword: livetest.ACLPassword,
		}, admin)
	})
}
