package livetest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RedisCluster is masters and their replicas. Its nodes save nothing: a master that is started again before a replica
// took over is an empty master.
type RedisCluster struct {
	Nodes []*Redis // at the start the masters, then a replica of each in the same order, then the next one of each
}

// StartRedisCluster starts a cluster and waits until all nodes agree and each replica hears its master. Arguments
// are those of redis-server for every node, at its later starts too; the package could not talk to nodes with a password.
func StartRedisCluster(masters, replicasEach int, args ...string) (*RedisCluster, error) {
	nodes, err := startAll(masters*(1+replicasEach), replicating(append([]string{
		"--cluster-enabled", "yes",
		"--cluster-node-timeout", "1500",
		"--cluster-require-full-coverage", "no",
		"--cluster-allow-replica-migration", "no", // who is whose replica shall change only by a failover
	}, args...)...)...)
	if err != nil {
		return nil, fmt.Errorf("start a redis cluster: %w", err)
	}
	c := &RedisCluster{Nodes: nodes}
	if err := c.form(masters); err != nil {
		return nil, errors.Join(fmt.Errorf("start a redis cluster: %w", err), c.Close())
	}
	return c, nil
}

// Patient has the nodes of a cluster in which none is meant to die hold no other for dead: on a busy machine one may just wait
// for a processor.
func (c *RedisCluster) Patient() error {
	for _, r := range c.Nodes {
		if err := r.do("CONFIG", "SET", "cluster-node-timeout", "60000").Err(); err != nil {
			return fmt.Errorf("make the nodes patient: %w", err)
		}
	}
	return nil
}

func (c *RedisCluster) form(masters int) error {
	for i, r := range c.Nodes {
		// Equal epochs would be told apart too, but only after a while.
		if err := r.do("CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			return err
		}
		if i < masters {
			first, next := i*slotCount/masters, (i+1)*slotCount/masters
			if err := r.do("CLUSTER", "ADDSLOTSRANGE", first, next-1).Err(); err != nil {
				return err
			}
		}
		for _, other := range c.Nodes[:i] {
			if err := r.do("CLUSTER", "MEET", "127.0.0.1", other.port).Err(); err != nil {
				return err
			}
		}
	}
	for i, r := range c.Nodes[masters:] {
		master, err := c.Nodes[i%masters].do("CLUSTER", "MYID").Text()
		if err != nil {
			return err
		}
		// It refuses until it has met its master.
		err = await("replicate", func() error { return r.do("CLUSTER", "REPLICATE", master).Err() })
		if err != nil {
			return err
		}
	}
	return await("form", func() error { return c.unformed(masters) })
}

// unformed says what is missing of a new cluster.
func (c *RedisCluster) unformed(masters int) error {
	for i, r := range c.Nodes {
		for _, line := range []string{
			"cluster_state:ok",
			"cluster_slots_ok:" + strconv.Itoa(slotCount),
			"cluster_known_nodes:" + strconv.Itoa(len(c.Nodes)),
		} {
			if err := r.want(line+"\r\n", "CLUSTER", "INFO"); err != nil {
				return err
			}
		}
		if i < masters {
			continue
		}
		if err := r.replicates(c.Nodes[i%masters]); err != nil {
			return err
		}
	}
	// Nobody is sent to a replica whose offset has not got about.
	replicas := len(c.Nodes)/masters - 1
	for _, r := range c.Nodes {
		slots, err := r.do("CLUSTER", "SLOTS").Slice()
		if err != nil {
			return err
		}
		for _, of := range slots {
			if of, ok := of.([]any); !ok || len(of) < 3+replicas { // first, last, master, replicas
				return fmt.Errorf("%s does not know all replicas of %v", r.Addr, of)
			}
		}
	}
	views, err := c.views()
	if err != nil {
		return err
	}
	for from, members := range views {
		for i, r := range c.Nodes {
			if !slices.ContainsFunc(members, func(m member) bool {
				return m.addr == r.Addr && (m.master == "-") == (i < masters) && !strings.Contains(m.flags, "fail")
			}) {
				return fmt.Errorf("%s does not know what %s is", from.Addr, r.Addr)
			}
		}
	}
	return nil
}

// member is a line of CLUSTER NODES: what one node knows of another, or of itself.
type member struct {
	id     string
	addr   string
	flags  string
	master string // "-": it is a master
	epoch  int
	slots  []slotRange
}

type slotRange struct{ first, last int }

func (m member) serves(slots slotRange) bool {
	return slices.ContainsFunc(m.slots, func(has slotRange) bool {
		return has.first <= slots.first && slots.last <= has.last
	})
}

func parseMembers(text string) (members []member, err error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			return nil, fmt.Errorf("read its nodes: %q", line)
		}
		m := member{id: fields[0], flags: fields[2], master: fields[3]}
		m.addr, _, _ = strings.Cut(fields[1], "@")
		if m.epoch, err = strconv.Atoi(fields[6]); err != nil {
			return nil, fmt.Errorf("read the epoch in %q: %w", line, err)
		}
		for _, field := range fields[8:] {
			if strings.HasPrefix(field, "[") { // on the move, and listed where it still is
				continue
			}
			first, last, ok := strings.Cut(field, "-")
			if !ok {
				last = first
			}
			var slots slotRange
			if slots.first, err = strconv.Atoi(first); err != nil {
				return nil, fmt.Errorf("read the slots in %q: %w", line, err)
			}
			if slots.last, err = strconv.Atoi(last); err != nil {
				return nil, fmt.Errorf("read the slots in %q: %w", line, err)
			}
			m.slots = append(m.slots, slots)
		}
		members = append(members, m)
	}
	return members, nil
}

// views asks every node that runs what it knows of all. The answers are there in spite of an error.
func (c *RedisCluster) views() (map[*Redis][]member, error) {
	answers, err := askAll(c.Nodes, "CLUSTER", "NODES")
	views := map[*Redis][]member{}
	for r, answer := range answers {
		members, parseErr := parseMembers(answer.Val().(string))
		if parseErr == nil {
			views[r] = members
		}
		err = errors.Join(err, parseErr)
	}
	return views, err
}

// disagreement says which of the running nodes does not think yet that owner serves the slots.
func (c *RedisCluster) disagreement(owner *Redis, slots ...slotRange) error {
	views, err := c.views()
	if err != nil {
		return err
	}
	if views[owner] == nil {
		return fmt.Errorf("%s does not run", owner.Addr)
	}
	for from, members := range views {
		i := slices.IndexFunc(members, func(m member) bool { return m.addr == owner.Addr && m.master == "-" })
		if i < 0 {
			return fmt.Errorf("%s does not say that %s is a master", from.Addr, owner.Addr)
		}
		for _, s := range slots {
			if !members[i].serves(s) {
				return fmt.Errorf("%s does not say that %s serves slots %d to %d", from.Addr, owner.Addr, s.first, s.last)
			}
		}
	}
	return nil
}

// URL returns the connection URL of the first node, which leads to the others.
func (c *RedisCluster) URL() string { return "redis://" + c.Nodes[0].Addr }

// Addrs returns host and port of every node.
func (c *RedisCluster) Addrs() (addrs []string) {
	for _, r := range c.Nodes {
		addrs = append(addrs, r.Addr)
	}
	return addrs
}

// Master returns who serves a slot, as far as those who run know: a master that is down serves its slots until a
// replica takes them. It returns nil if nobody answers. When they disagree, the last to become the slot's master is it.
func (c *RedisCluster) Master(slot int) *Redis {
	views, _ := c.views() // who does not answer has no say
	var last member
	for _, members := range views {
		for _, m := range members {
			if m.serves(slotRange{slot, slot}) && m.epoch > last.epoch {
				last = m
			}
		}
	}
	return findAddr(c.Nodes, last.addr)
}

// failoverRetry is when a replica has given up a failover for which it got no votes; Redis has it that nobody votes
// twice about one master within a few seconds.
const failoverRetry = 6 * time.Second

// Failover makes a replica the master, and waits until all nodes that run, its old master among them, know it. A
// takeover asks nobody: it works while the master is down, or most of the masters are.
func (c *RedisCluster) Failover(replica *Redis, takeover bool) error {
	command := []any{"CLUSTER", "FAILOVER"}
	if takeover {
		command = append(command, "TAKEOVER")
	}
	master, err := c.masterOf(replica)
	if err != nil {
		return fmt.Errorf("fail over: %w", err)
	}
	if !takeover {
		if err := await("fail over", func() error { return c.unknown(replica, master) }); err != nil {
			return err
		}
	}
	if err := replica.do(command...).Err(); err != nil {
		return fmt.Errorf("fail over: %w", err)
	}
	sent := time.Now()
	return await("fail over", func() error {
		err := c.disagreement(replica, master.slots...)
		if err != nil && !takeover && time.Since(sent) > failoverRetry {
			sent = time.Now()
			return errors.Join(err, replica.do(command...).Err())
		}
		return err
	})
}

// masterOf returns what a replica knows of its master.
func (c *RedisCluster) masterOf(replica *Redis) (member, error) {
	views, err := c.views()
	if views[replica] == nil {
		return member{}, errors.Join(fmt.Errorf("%s does not run", replica.Addr), err)
	}
	self := slices.IndexFunc(views[replica], func(m member) bool { return m.addr == replica.Addr })
	for _, m := range views[replica] {
		if self >= 0 && m.id == views[replica][self].master {
			return m, nil
		}
	}
	return member{}, fmt.Errorf("%s is no replica", replica.Addr)
}

// unknown says that a master that runs does not know its replica yet, to whose wish to take over it would not listen.
func (c *RedisCluster) unknown(replica *Redis, master member) error {
	views, err := c.views()
	if err != nil {
		return err
	}
	view := views[findAddr(c.Nodes, master.addr)]
	if view == nil || slices.ContainsFunc(view, func(m member) bool {
		return m.addr == replica.Addr && m.master == master.id
	}) {
		return nil
	}
	return fmt.Errorf("%s does not know its replica %s", master.addr, replica.Addr)
}

// Close kills all nodes.
func (c *RedisCluster) Close() error { return closeAll(c.Nodes) }
