package e2e_test

import (
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

// ask sends a command to one server of several.
func (o *outageTest) ask(r *livetest.Redis, command ...any) {
	o.Helper()
	c := redis.NewClient(&redis.Options{Addr: r.Addr, MaxRetries: -1, DisableIdentity: true})
	defer c.Close()
	o.must(c.Do(o.Context(), command...).Err())
}

// lagging has a replica hear nothing any more, while what it has becomes stale and is deleted; then its master dies, and
// it may go on.
func (o *outageTest) lagging(master, replica *livetest.Redis) {
	o.Helper()
	replica.Pause()
	o.ask(master, "CLIENT", "KILL", "TYPE", "REPLICA") // or it would find the rest in its socket
	o.outdate()
	o.must(master.Kill())
	o.write100()
	replica.Resume()
}

// waitPromoted waits until the sentinels say that a server is the master.
func (o *outageTest) waitPromoted(r *livetest.Redis) {
	o.Helper()
	eventually(o, "the sentinels make the replica the master", func() bool {
		master, err := o.sentinels.Master()
		return err == nil && master == r
	})
}

var sentinelOutages = []outage{{
	name: "the sentinels fail over when told to", servers: aSentinelSet, gaps: []string{"redis_restart", "redis_rollback"},
	strike: func(o *outageTest) {
		o.must(o.sentinels.Failover())
		o.window.Add(1)
		o.work()
	},
}, {
	name: "the sentinels' master is killed and started again", servers: aSentinelSet, gaps: []string{"redis_restart", "redis_rollback"},
	strike: func(o *outageTest) {
		master, replica := o.sentinels.Redis[0], o.sentinels.Redis[1]
		o.must(master.Kill())
		o.write100()
		o.waitPromoted(replica)
		o.window.Add(1)
		o.work()
		o.must(master.Start())
		o.work()
	},
}, {
	name: "the sentinels promote a replica that lags", servers: aSentinelSet, gaps: []string{"redis_restart", "redis_rollback"}, control: true,
	strike: func(o *outageTest) {
		o.lagging(o.sentinels.Redis[0], o.sentinels.Redis[1])
		o.waitPromoted(o.sentinels.Redis[1])
		o.work()
	},
}, {
	name: "a sentinel is killed, and the others fail over", servers: aSentinelSet, gaps: []string{"redis_restart", "redis_rollback"},
	strike: func(o *outageTest) {
		o.must(o.sentinels.Sentinels[0].Kill()) // which the sidecar has asked first
		o.work()
		o.must(o.sentinels.Failover())
		o.window.Add(1)
		o.work()
		o.must(o.sentinels.Sentinels[0].Start())
	},
}, {
	name: "all sentinels are killed, and the master is not", servers: aSentinelSet, calm: true,
	strike: func(o *outageTest) {
		for _, sentinel := range o.sentinels.Sentinels {
			o.must(sentinel.Kill())
		}
		o.work()
		o.window.Add(1)
		o.sidecar.waitPosition(time.Now())
		for _, sentinel := range o.sentinels.Sentinels {
			o.must(sentinel.Start())
		}
		o.work()
	},
}}
