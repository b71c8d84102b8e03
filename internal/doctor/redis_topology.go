package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"pgevict/invalidate/redisnode"
)

// byAddresses finds the server that REDIS_URL names, or the masters and replicas of the Cluster that it names servers of.
func (d *redisCheck) byAddresses(ctx context.Context) (masters, replicas []*server) {
	several := len(d.options.Addrs) > 1
	var seeds []*server
	var away []Finding
	for _, addr := range d.options.Addrs {
		s, err := d.connect(ctx, d.at(addr))
		if err != nil {
			away = append(away, Finding{Fail, "redis reachable", err.Error(), d.advice(err)})
			continue
		}
		seeds = append(seeds, s)
	}
	for _, f := range away {
		if len(seeds) > 0 { // serve asks those that answer
			f.Status = Warn
		}
		d.report(f)
	}
	if len(seeds) == 0 {
		return nil, nil
	}
	var addrs []string
	for _, s := range seeds {
		addrs = append(addrs, s.addr)
	}
	d.report.OK("redis reachable", strings.Join(addrs, ", "))
	usable := seeds[:0]
	for _, s := range seeds {
		switch mode := redisnode.Mode(s.info); {
		case mode == "sentinel":
			d.report.Fail("redis role", s.addr+" is a sentinel", "say which master is meant: master_name= in REDIS_URL")
		case s.infoErr == nil && several && !redisnode.IsCluster(s.info):
			d.report.Fail("redis role", s.addr+" is a single server, and several addr= mean a Cluster", "name one server in REDIS_URL, or the sentinels and a master_name=")
		default:
			d.cluster = d.cluster || several || redisnode.IsCluster(s.info) || s.infoErr != nil && s.rdb.ClusterInfo(ctx).Err() == nil
			usable = append(usable, s)
		}
	}
	if d.cluster && len(usable) > 0 {
		return d.layout(ctx, usable)
	}
	return usable, nil
}

// layout finds the masters of a Cluster and their replicas, and says what is wrong with it as a whole.
func (d *redisCheck) layout(ctx context.Context, seeds []*server) (masters, replicas []*server) {
	if d.options.DB != 0 {
		d.report.Fail("redis cluster", "it has database 0 alone, and REDIS_URL names another", "leave the database out of REDIS_URL")
		return nil, nil
	}
	views := map[string][]string{} // who sees which masters
	var seen redisnode.Topology
	var from *server
	for _, s := range seeds {
		served, err := s.rdb.ClusterSlots(ctx).Result() //nolint:staticcheck // what is there instead, Redis 6.2 does not know
		if err != nil {
			do := "see Redis' log"
			if redis.IsPermissionError(err) {
				do = "ACL SETUSER " + d.user + " +cluster|slots +cluster|info +cluster|nodes +asking, on each server"
			}
			d.report.Fail("redis cluster", fmt.Sprintf("%s: CLUSTER SLOTS: %v", s.addr, err), do)
			continue
		}
		t := redisnode.ReadSlots(served, s.addr)
		view := strings.Join(slices.Sorted(maps.Keys(t.Masters)), ", ")
		views[view] = append(views[view], s.addr)
		if from == nil || len(t.Masters) > len(seen.Masters) {
			seen, from = t, s
		}
	}
	if len(views) > 1 {
		for _, view := range slices.Sorted(maps.Keys(views)) {
			d.report.Fail("redis cluster", fmt.Sprintf("the servers do not agree: for %s the masters are %s", strings.Join(views[view], ", "), cmp.Or(view, "none")),
				"if no failover is under way, take out of REDIS_URL what is not of this Cluster, or CLUSTER MEET it")
		}
	}
	if len(seen.Masters) == 0 {
		if from != nil {
			d.report.Fail("redis cluster", "no server serves any slot", "give the servers slots: redis-cli --cluster create, or CLUSTER ADDSLOTSRANGE")
		}
		return nil, nil
	}
	masters, replicas = d.nodes(ctx, seen)
	d.state(ctx, from)
	d.moving(ctx, masters)
	return masters, replicas
}

// nodes opens connections to the masters, and says which slots and which masters are in danger.
func (d *redisCheck) nodes(ctx context.Context, t redisnode.Topology) (masters, replicas []*server) {
	served, first := redisnode.SlotSet{}, map[string]int{}
	of := map[string]bool{}
	for addr, m := range t.Masters {
		first[addr] = m.Slots.First()
		for slot := range redisnode.Slots {
			if m.Slots.Has(slot) {
				served.Add(slot)
			}
		}
		for _, replica := range m.Replicas {
			of[replica] = true
		}
	}
	addrs := slices.SortedFunc(maps.Keys(first), func(a, b string) int { return first[a] - first[b] })
	for _, addr := range slices.Sorted(maps.Keys(of)) {
		replicas = append(replicas, &server{addr: addr})
	}
	d.report.OK("redis cluster", fmt.Sprintf("%d masters (%s), %d replicas", len(addrs), strings.Join(addrs, ", "), len(replicas)))
	var uncovered, alone []string
	missing := 0
	for slot := 0; slot < redisnode.Slots; slot++ {
		begin := slot
		for slot < redisnode.Slots && !served.Has(slot) {
			slot++
		}
		if slot > begin {
			missing += slot - begin
			uncovered = append(uncovered, fmt.Sprintf("%d-%d", begin, slot-1))
		}
	}
	if missing > 0 {
		d.report.Fail("redis cluster", fmt.Sprintf("nobody serves %d of %d slots: %s", missing, redisnode.Slots, strings.Join(uncovered, ", ")), "redis-cli --cluster fix, or start the servers that had them: until then no key there can be deleted")
	}
	for _, addr := range addrs {
		if len(t.Masters[addr].Replicas) == 0 {
			alone = append(alone, addr)
		}
		s, err := d.connect(ctx, d.at(addr))
		if err != nil {
			do := d.advice(err)
			if !redisnode.IsReply(err) {
				do = "start it, or have a replica take over; if it runs, have the Cluster announce an address that can be reached from here: cluster-announce-ip, -port and -hostname"
			}
			d.report.Fail("redis reachable", fmt.Sprintf("the master %s: %v", addr, err), do)
			continue
		}
		s.slot = first[addr]
		masters = append(masters, s)
	}
	if len(alone) > 0 {
		d.report.Warn("redis cluster", "no replica that is up: "+strings.Join(alone, ", "), "give each master a replica: when one without is down, its keys cannot be deleted, nor served")
	}
	return masters, replicas
}

// state says what the Cluster thinks of itself.
func (d *redisCheck) state(ctx context.Context, s *server) {
	info, err := s.rdb.ClusterInfo(ctx).Result()
	if err != nil {
		return // it is denied, which is said with the other commands
	}
	if state := redisnode.InfoField(info, "cluster_state"); state != "ok" {
		d.report.Fail("redis cluster", s.addr+" says cluster_state:"+state+", so it refuses commands", "redis-cli --cluster check "+s.addr+", and start what is down")
	}
}

// moving says which slots are about to move: as long as they are, patterns are walked again and again, since a key may
// have moved from what is still to be walked to what has been.
func (d *redisCheck) moving(ctx context.Context, masters []*server) {
	d.each("masters", masters, func(s *server, report Report) {
		nodes, err := s.rdb.ClusterNodes(ctx).Result()
		if err != nil {
			return // as above
		}
		_, open, _ := redisnode.ReadMyself(nodes)
		if len(open) > 0 {
			report.Warn("redis cluster", "slots are being moved: "+strings.Join(open, ", ")+"; until that ends, patterns are walked again every few seconds, and the position stands still",
				"if nobody is resharding, end it: redis-cli --cluster fix "+s.addr)
		}
	})
}

// bySentinels finds the master that the sentinels name, and its replicas.
func (d *redisCheck) bySentinels(ctx context.Context) (masters, replicas []*server) {
	var sentinels []*server
	for _, addr := range d.options.Addrs {
		sentinels = append(sentinels, &server{addr: addr})
	}
	named := make([]string, len(sentinels))
	d.each("sentinels", sentinels, func(s *server, report Report) {
		named[slices.Index(sentinels, s)] = d.sentinel(ctx, s.addr, report)
	})
	slices.Sort(named)
	named = slices.DeleteFunc(slices.Compact(named), func(addr string) bool { return addr == "" })
	if len(named) > 1 {
		d.report.Fail("redis sentinel", "the sentinels do not agree: "+strings.Join(named, ", "), "wait, if a failover is under way; else look which of them watch another set under the name "+d.options.MasterName)
	}
	for _, addr := range named {
		s, err := d.connect(ctx, d.at(addr))
		switch {
		case err != nil && redisnode.IsReply(err):
			d.report.Fail("redis reachable", fmt.Sprintf("the master %s: %v", addr, err), d.advice(err))
		case err != nil:
			d.report.Fail("redis reachable", fmt.Sprintf("the master %s: %v", addr, err), "see that it runs, and that the sentinels name an address that can be reached from here: sentinel announce-ip, replica-announce-ip")
		case redisnode.IsCluster(s.info):
			d.report.Fail("redis role", addr+" is of a Cluster", "a Cluster needs no sentinels: name its servers in REDIS_URL, without master_name=")
		default:
			d.report.OK("redis reachable", addr)
			masters = append(masters, s)
		}
	}
	for _, s := range masters {
		for i := 0; ; i++ {
			var host, port string
			for part := range strings.SplitSeq(redisnode.InfoField(s.info, fmt.Sprintf("slave%d", i)), ",") {
				if name, value, _ := strings.Cut(part, "="); name == "ip" {
					host = value
				} else if name == "port" {
					port = value
				}
			}
			if host == "" {
				break
			}
			replicas = append(replicas, &server{addr: net.JoinHostPort(host, port)})
		}
		if len(replicas) == 0 && s.infoErr == nil {
			d.report.Warn("redis sentinel", "the master has no replica that is up", "start one: without it the sentinels have nobody to make the master")
		}
	}
	return masters, replicas
}

// sentinel says what is wrong with one sentinel, and returns the address of the master that it names.
func (d *redisCheck) sentinel(ctx context.Context, addr string, report Report) (master string) {
	o := d.at(addr)
	o.DB, o.CredentialsProviderContext = 0, nil
	o.Username, o.Password = d.options.SentinelUsername, d.options.SentinelPassword
	s, err := d.connect(ctx, o)
	if err != nil {
		do := "check REDIS_URL, and that the sentinel runs and can be reached from here: its addresses are those of sentinels if there is a master_name="
		if redisnode.ErrorKind(err) == "noauth" {
			do = "check sentinel_username and sentinel_password in REDIS_URL; they are not those of the master"
		}
		report.Fail("redis sentinel", err.Error(), do)
		return ""
	}
	if mode := redisnode.Mode(s.info); s.infoErr == nil && mode != "sentinel" {
		report.Fail("redis sentinel", "it is no sentinel, its mode is "+mode, "name the sentinels in REDIS_URL (their usual port is 26379), or leave master_name= out")
		return ""
	}
	rdb := redis.NewSentinelClient(o)
	defer func() { _ = rdb.Close() }() // all has been said
	var denied, grants []string
	try := func(grant string, err error) {
		if redis.IsPermissionError(err) {
			denied = append(denied, grant+": "+err.Error())
			grants = append(grants, strings.Fields(grant)...)
		}
	}
	name, err := rdb.GetMasterAddrByName(ctx, d.options.MasterName).Result()
	try("+sentinel|get-master-addr-by-name", err)
	try("+client|setname", s.rdb.Do(ctx, "client", "setname", "pgevict-doctor").Err())
	try("+info", s.infoErr)
	try("+ping", s.rdb.Ping(ctx).Err())
	try("+sentinel|sentinels", rdb.Sentinels(ctx, d.options.MasterName).Err())
	switches := rdb.Subscribe(ctx, "+switch-master", "+replica-reconf-done")
	_, subscribeErr := switches.Receive(ctx)
	try("+subscribe &+switch-master &+replica-reconf-done", subscribeErr)
	_ = switches.Close() // only its answer was asked for
	if len(denied) > 0 {
		slices.Sort(grants)
		report.Fail("redis sentinel", strings.Join(denied, "; "), "on each sentinel: ACL SETUSER "+cmp.Or(o.Username, "default")+" "+strings.Join(slices.Compact(grants), " "))
	}
	switch {
	case errors.Is(err, redis.Nil):
		report.Fail("redis sentinel", fmt.Sprintf("it knows no master called %s%s", d.options.MasterName, others(ctx, rdb)), "correct master_name= in REDIS_URL, or have it watched: SENTINEL MONITOR")
	case err != nil && !redis.IsPermissionError(err):
		report.Fail("redis sentinel", err.Error(), "see the sentinel's log")
	case err == nil:
		master = net.JoinHostPort(name[0], name[1])
		if len(denied) == 0 {
			report.OK("redis sentinel", "the master "+d.options.MasterName+" is "+master)
		}
	}
	return master
}

// others lists the masters that a sentinel knows, if it may be asked.
func others(ctx context.Context, rdb *redis.SentinelClient) string {
	list, err := rdb.Masters(ctx).Result()
	if err != nil {
		return ""
	}
	names := []string{}
	for _, one := range list {
		switch master := one.(type) {
		case map[any]any:
			names = append(names, fmt.Sprint(master["name"]))
		case []any: // RESP2
			if len(master) > 1 {
				names = append(names, fmt.Sprint(master[1]))
			}
		}
	}
	return ", but " + cmp.Or(strings.Join(names, ", "), "none")
}
