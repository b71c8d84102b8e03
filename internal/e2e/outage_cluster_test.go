package e2e_test

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"pgevict/internal/livetest"
)

// pair gives a master, as it was at the start, and its replica.
func (o *outageTest) pair(i int) (master, replica *livetest.Redis) {
	return o.cluster.Nodes[i], o.cluster.Nodes[3+i]
}

// waitTakenOver waits until a replica serves its master's slots, of which slot is one.
func (o *outageTest) waitTakenOver(slot int, replica *livetest.Redis) {
	o.Helper()
	eventually(o, "the replica takes over", func() bool { return o.cluster.Master(slot) == replica })
}

// hang has a master hang whose replica is not there to take over. It goes on with all it had.
func (o *outageTest) hang(i int) (back func()) {
	o.Helper()
	master, replica := o.pair(i)
	o.must(replica.Kill())
	master.Pause()
	return func() {
		o.Helper()
		master.Resume()
		o.work()
		o.must(replica.Start()) // no sooner, or the others might vote for it
	}
}

// allNodes does something with every node at the same time.
func (o *outageTest) allNodes(do func(*livetest.Redis) error) {
	o.Helper()
	errs := make([]error, len(o.cluster.Nodes))
	var all sync.WaitGroup
	for i, r := range o.cluster.Nodes {
		all.Go(func() { errs[i] = do(r) })
	}
	all.Wait()
	for _, err := range errs {
		o.must(err)
	}
}

// reshard moves slots to the next master: that of the hash, that of a master's position, and those of some of a window's
// keys, which for a view is that of its tag.
func (o *outageTest) reshard() {
	o.Helper()
	slots := map[int]bool{0: true, livetest.Slot("profiles:all"): true}
	for i, key := range workKeys(1) {
		if locate(key).Tag != "" || i%20 == 0 {
			slots[livetest.Slot(key)] = true
		}
	}
	for _, slot := range slices.Sorted(maps.Keys(slots)) {
		at := slices.Index(o.cluster.Nodes, o.cluster.Master(slot))
		o.must(o.cluster.MoveSlot(slot, o.cluster.Nodes[(at+1)%3]))
	}
}

// othersGo checks that keys of masters that are not away do not wait for the one that is, for which the sidecar waits as long
// as timeout. A machine that is busy may keep some of them waiting.
func (o *outageTest) othersGo(away *livetest.Redis, timeout time.Duration) {
	o.Helper()
	conn := o.connect()
	var all []time.Duration
	for id := 1_000_000; id < 1_000_030; id++ {
		key := fmt.Sprintf("action:%d", id)
		if o.cluster.Master(livetest.Slot(key)) == away {
			continue
		}
		o.set(key)
		_, err := conn.Exec(o.Context(), `INSERT INTO actions VALUES ($1)`, id)
		o.must(err)
		all = append(all, o.waitGone(key))
	}
	slices.Sort(all)
	if took := all[len(all)/2]; took > timeout/3 {
		o.Errorf("half of the keys took more than %v while another master was away: %v", took, all)
	}
}

const slotsEach = 16384 / 3

var clusterOutages = []outage{{
	name: "a Cluster's master is killed, and its replica takes over", servers: aCluster, gaps: []string{"redis_restart", "redis_rollback"},
	strike: func(o *outageTest) {
		master, replica := o.pair(0) // to which REDIS_URL leads
		o.must(master.Kill())
		o.write100()
		o.waitTakenOver(0, replica)
		o.window.Add(1)
		o.work()
		o.must(master.Start())
		o.work()
	},
}, {
	name: "a Cluster's master hangs until its replica has taken over", servers: aCluster, gaps: []string{"redis_restart", "redis_rollback"},
	strike: func(o *outageTest) {
		master, replica := o.pair(1)
		master.Pause()
		o.write100()
		o.waitTakenOver(slotsEach+1, replica)
		o.window.Add(1)
		o.work()
		master.Resume()
		o.work()
	},
}, {
	name: "a Cluster's replica that lags takes over", servers: aCluster, gaps: []string{"redis_restart", "redis_rollback"}, control: true,
	strike: func(o *outageTest) {
		master, replica := o.pair(2)
		o.lagging(master, replica)
		o.waitTakenOver(2*slotsEach+2, replica)
		o.work()
	},
}, {
	name: "a Cluster's replicas take over when told to", servers: aCluster, gaps: []string{"redis_restart", "redis_rollback"},
	strike: func(o *outageTest) {
		for i := range 3 {
			_, replica := o.pair(i)
			o.must(o.cluster.Failover(replica, false))
		}
		o.window.Add(1)
		o.work()
	},
}, {
	name: "slots of a Cluster move", servers: aCluster, calm: true,
	strike: func(o *outageTest) {
		o.reshard()
		o.window.Add(1)
		o.reshard()
		o.work()
	},
}, {
	name: "all of a Cluster is killed and started again", servers: aCluster, gaps: []string{"redis_restart", "redis_rollback"}, empties: true,
	strike: func(o *outageTest) {
		o.allNodes((*livetest.Redis).Kill)
		o.write100()
		o.allNodes(func(r *livetest.Redis) error { return r.Start() })
		o.window.Add(1)
		o.work()
	},
}, {
	name: "a part of a Cluster hangs, and the others do not wait", servers: aCluster, calm: true,
	environ: []string{"PGEVICT_HEARTBEAT=3s"}, // as long as the sidecar waits for an answer
	strike: func(o *outageTest) {
		back := o.hang(1)
		o.othersGo(o.cluster.Nodes[1], 3*time.Second)
		o.window.Add(1)
		o.write100()
		back()
		o.work()
	},
}, {
	name: "a Cluster is down because a part of it hangs", servers: aCluster, calm: true,
	strike: func(o *outageTest) {
		for _, r := range o.cluster.Nodes {
			o.ask(r, "CONFIG", "SET", "cluster-require-full-coverage", "yes")
		}
		back := o.hang(2)
		o.waitRefused("clusterdown", o.refusals("clusterdown"))
		o.window.Add(1)
		o.write100()
		back()
		o.work()
	},
}}

// TestNoKeyIsStaleAfterAnOutageOfACluster has two Clusters at a time: each is six servers, who hold others for dead when
// there is too little time for all.
func TestNoKeyIsStaleAfterAnOutageOfACluster(t *testing.T) {
	t.Parallel()
	for lane := range 2 {
		t.Run(fmt.Sprintf("lane %d", lane), func(t *testing.T) {
			t.Parallel()
			for i, o := range clusterOutages {
				if i%2 == lane {
					t.Run(o.name, o.check)
				}
			}
		})
	}
}
