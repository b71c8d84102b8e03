package doctor

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
	"pgevict/invalidate/redisnode"
)

func at(addrs ...string) *redis.UniversalOptions { return &redis.UniversalOptions{Addrs: addrs} }

// hasNo checks that no line begins with a text.
func (f findings) hasNo(t *testing.T, begins string) {
	t.Helper()
	for _, line := range f {
		if strings.HasPrefix(line, begins) {
			t.Error(line)
		}
	}
}

func TestRedisCluster(t *testing.T) {
	t.Parallel()
	c := livetest.NewRedisCluster(t, 3, 1)
	single := livetest.NewRedis(t)
	admin := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
	defer admin.Close()
	set := parseRules(t, wide)
	for _, key := range append(numbered("a:%d", 90), "tag:text", "h:text") {
		if err := admin.Set(t.Context(), key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	admin.SAdd(t.Context(), "tag:set", "member")
	admin.HSet(t.Context(), "h:hash", "field", "value")

	healthy := checkAt(t, at(c.Nodes[4].Addr), set) // a replica leads to the masters
	healthy.has(t, "ok redis cluster: 3 masters (", c.Nodes[0].Addr, c.Nodes[1].Addr, c.Nodes[2].Addr, "3 replicas")
	healthy.has(t, "ok redis permissions: all 3 masters: ", "SRANDMEMBER", "HDEL", "ASKING")
	healthy.has(t, "ok redis replicas: all 3 replicas")
	healthy.has(t, "ok redis keys: rule a: a sweep of a:* would delete 90 keys")
	healthy.has(t, "ok redis keys: rule t: a sweep of tag:* would delete 1 sets")
	healthy.has(t, "warn redis keys: rule t: 1 keys like \"tag:text\" are no sets")
	healthy.has(t, "ok redis keys: rule f: a sweep of h:* would delete 1 hashes")
	healthy.has(t, "warn redis keys: rule f: 1 keys like \"h:text\" are no hashes")
	healthy.has(t, "ok redis walk: a pass over the ", "of 3 masters at once")
	healthy.hasNo(t, "fail")
	if n := len(must(admin.Keys(t.Context(), "*").Result())); n == 0 || admin.Exists(t.Context(), "tag:set").Val() != 1 {
		t.Error("it has deleted something")
	}

	database := at(c.Nodes[0].Addr)
	database.DB = 3
	f := checkAt(t, database, set)
	f.has(t, "fail redis", "database 0 alone")
	f = checkAt(t, at(c.Nodes[0].Addr, single.Addr, "127.0.0.1:1"), set)
	f.has(t, "warn redis reachable", "refused")
	f.has(t, "fail redis role: "+single.Addr+" is a single server", "Cluster")
	named := at(c.Nodes[0].Addr)
	named.MasterName = "mymaster"
	f = checkAt(t, named, set)
	f.has(t, "fail redis sentinel", "no sentinel, its mode is cluster")

	// Keys that may move from one walk to another.
	slot := c.Master(redisnode.SlotOf("a:1"))
	to := c.Nodes[slices.IndexFunc(c.Nodes[:3], func(r *livetest.Redis) bool { return r != slot })]
	if err := c.StartMove(redisnode.SlotOf("a:1"), to); err != nil {
		t.Fatal(err)
	}
	f = checkAt(t, at(c.Nodes[0].Addr), set)
	f.has(t, "warn redis cluster: "+slot.Addr+": slots are being moved", "--cluster fix")
	if _, err := c.MoveKeys(redisnode.SlotOf("a:1"), to, 100); err != nil {
		t.Fatal(err)
	}
	if err := c.FinishMove(redisnode.SlotOf("a:1"), to); err != nil {
		t.Fatal(err)
	}

	// A master without a replica, then not even the master.
	if err := c.Nodes[5].Kill(); err != nil {
		t.Fatal(err)
	}
	livetest.Eventually(t, soon, "the replica is missed", func() bool {
		f = checkAt(t, at(c.Nodes[0].Addr), set)
		return slices.ContainsFunc(f, func(line string) bool { return strings.HasPrefix(line, "warn redis cluster: no replica") })
	})
	f.has(t, "warn redis cluster: no replica", c.Nodes[2].Addr)
	if err := c.Nodes[2].Kill(); err != nil {
		t.Fatal(err)
	}
	f = checkAt(t, at(c.Nodes[0].Addr), set)
	f.has(t, "fail redis reachable: the master "+c.Nodes[2].Addr, "refused", "announce")
	f.has(t, "ok redis permissions: all 2 masters")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestRedisClusterInPieces(t *testing.T) {
	t.Parallel()
	set := parseRules(t, wide)
	c := livetest.NewRedisCluster(t, 3, 0, "--cluster-require-full-coverage", "yes")
	other := livetest.NewRedis(t, "--cluster-enabled", "yes") // a node of none
	admin := connect(t, c.Nodes[0].URL())
	for _, r := range c.Nodes {
		if err := connect(t, r.URL()).Do(t.Context(), "CLUSTER", "DELSLOTSRANGE", 0, 99, 200, 200).Err(); err != nil {
			t.Fatal(err)
		}
	}
	livetest.Eventually(t, soon, "it is down", func() bool {
		return redisnode.InfoField(admin.ClusterInfo(t.Context()).Val(), "cluster_state") == "fail"
	})
	f := checkAt(t, at(c.Nodes[0].Addr, other.Addr), set)
	f.has(t, "fail redis cluster: nobody serves 101 of 16384 slots: 0-99, 200-200")
	f.has(t, "fail redis cluster", "cluster_state:fail")
	f.has(t, "fail redis cluster", "do not agree", other.Addr)
	f.has(t, "fail redis writes", "CLUSTERDOWN")

	setUser(t, admin, "~*", "+@all", "-cluster")
	f = checkAs(t, "redis://limited:secret@"+c.Nodes[0].Addr, set)
	f.has(t, "fail redis cluster: "+c.Nodes[0].Addr+": CLUSTER SLOTS: NOPERM", "ACL SETUSER limited +cluster|slots")
	setUser(t, admin, "~*", "+@all", "-info")
	f = checkAs(t, "redis://limited:secret@"+c.Nodes[0].Addr, set)
	f.has(t, "fail redis server", "NOPERM", "cannot tell that this is a Cluster")
}

func TestRedisSentinel(t *testing.T) {
	t.Parallel()
	set := parseRules(t, wide)
	s := livetest.NewSentinelSet(t, 1, 3)
	var addrs []string
	for _, r := range s.Sentinels {
		addrs = append(addrs, r.Addr)
	}
	with := func(name string, addrs ...string) *redis.UniversalOptions {
		return &redis.UniversalOptions{Addrs: addrs, MasterName: name}
	}
	f := checkAt(t, with(s.Name, addrs...), set)
	f.has(t, "ok redis sentinel: all 3 sentinels: the master mymaster is "+s.Redis[0].Addr)
	f.has(t, "ok redis reachable: "+s.Redis[0].Addr)
	f.has(t, "ok redis replicas: "+s.Redis[1].Addr)
	f.hasNo(t, "fail")
	f = checkAt(t, with("theirs", addrs...), set)
	f.has(t, "fail redis sentinel: all 3 sentinels: it knows no master called theirs, but mymaster", "master_name=")
	f = checkAt(t, with(s.Name, s.Redis[0].Addr), set)
	f.has(t, "fail redis sentinel", "no sentinel, its mode is standalone", "26379")
	f = checkAt(t, at(addrs...), set)
	f.has(t, "fail redis role: "+addrs[0]+" is a sentinel", "master_name=")
	f = checkAt(t, at(addrs[0]), set)
	f.has(t, "fail redis role: "+addrs[0]+" is a sentinel", "master_name=")
	wrong := with(s.Name, addrs...)
	wrong.SentinelUsername, wrong.SentinelPassword = "nobody", "hunter2"
	f = checkAt(t, wrong, set)
	f.has(t, "fail redis sentinel: all 3 sentinels", "WRONGPASS", "sentinel_password")

	if err := s.Sentinels[2].Kill(); err != nil {
		t.Fatal(err)
	}
	f = checkAt(t, with(s.Name, addrs...), set)
	f.has(t, "fail redis sentinel: "+addrs[2], "refused")
	f.has(t, "ok redis sentinel: "+addrs[0]+", "+addrs[1])
	f.has(t, "ok redis reachable")

	// The replica has another password, or is away.
	replica := connect(t, s.Redis[1].URL())
	limited := with(s.Name, addrs[:2]...)
	limited.CredentialsProviderContext = func(context.Context) (string, string, error) { return "limited", "secret", nil }
	setUser(t, connect(t, s.Redis[0].URL()), "~*", "+@all")
	f = checkAt(t, limited, set)
	f.has(t, "warn redis replicas", "WRONGPASS", "the same users")
	setUser(t, replica, "~*", "+@all", "-hdel", "-srandmember")
	f = checkAt(t, limited, set)
	f.has(t, "warn redis replicas", "+hdel ~h:* (rule f): NOPERM", "ACL SETUSER limited +hdel +srandmember ~h:* ~tag:*; each server")
	f.has(t, "ok redis permissions")
}

// What the sentinels, or a Cluster, name is not always reachable from elsewhere.
func TestRedisAddressesFromWithin(t *testing.T) {
	t.Parallel()
	s := livetest.NewSentinelSet(t, 0, 1)
	o := &redis.UniversalOptions{Addrs: []string{s.Sentinels[0].Addr}, MasterName: s.Name}
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == s.Redis[0].Addr {
			addr = "127.0.0.1:1"
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	f := checkAt(t, o, parseRules(t, wide))
	f.has(t, "fail redis reachable: the master "+s.Redis[0].Addr, "refused", "announce-ip")
}

// Each command of each reach, one at a time.
func TestRedisMissesEachCommand(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	admin := connect(t, r.URL())
	livetest.FillACLRules(t, admin)
	set := parseRules(t, livetest.ACLRules)
	for _, c := range [][2]string{
		{"ping", "+ping"}, {"client|setname", "+client|setname"}, {"scan", "+scan"}, {"set", "+set ~pgevict:position:* ~pgevict:refresh:* ~profile:*"},
		{"unlink", "+unlink ~action:*"}, {"sscan", "+sscan ~pgevict:tag:*"}, {"srandmember", "+srandmember ~actions:of:*"},
		{"sadd", "+sadd ~pgevict:tag:*"},
		{"srem", "+srem ~actions:of:* ~pgevict:tag:*"}, {"hdel", "+hdel ~owner:*"}, {"eval", "+eval ~actions:of:* ~pgevict:refresh:* ~pgevict:tag:* ~profile:*"},
		{"get", "+get ~pgevict:refresh:*"}, {"exists", "+exists ~profile:*"},
	} {
		setUser(t, admin, "~*", "+@all", "-"+c[0])
		f := checkAs(t, "redis://limited:secret@"+r.Addr, set)
		f.has(t, "fail redis permissions", "NOPERM", "ACL SETUSER limited "+c[1])
	}
	setUser(t, admin, "~*", "+@all", "-select")
	f := checkAs(t, "redis://limited:secret@"+r.Addr+"/3", set)
	f.has(t, "fail redis reachable", "'select'", "ACL SETUSER limited +select")
	setUser(t, admin, "+@all", "~action*", "~owner:*", "~profile:*", "~pgevict:*")
	f = checkAs(t, "redis://limited:secret@"+r.Addr, set)
	f.has(t, "fail redis permissions", `+unlink of "page:`, "member of a tag", "+unlink ~page:")
	admin.Del(t.Context(), "actions:of:7", "actions:of:8")
	f = checkAs(t, "redis://limited:secret@"+r.Addr, set)
	f.has(t, "warn redis permissions", "no member of a tag")
	if n := admin.Exists(t.Context(), "action:1", "actions:list:1", "page:1", "page:2", "profile:1", "owner:7").Val(); n != 6 {
		t.Errorf("%d keys of 6 are left", n)
	}
}

// A command that Redis does not have under its name.
func TestRedisRenamedCommand(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t, "--rename-command", "EVAL", "", "--rename-command", "UNLINK", "")
	f := checkAs(t, r.URL(), parseRules(t, livetest.ACLRules))
	f.has(t, "fail redis permissions", "does not know EVAL")
	f.has(t, "fail redis permissions", "does not know UNLINK")
}

// A set that Redis may drop before the members that it names is told of.
func TestRedisMayDropTags(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	admin := connect(t, r.URL())
	set := parseRules(t, livetest.ACLRules)
	livetest.FillACLRules(t, admin)
	setUser(t, admin, "~*", "+@all")
	f := checkAs(t, "redis://limited:secret@"+r.Addr, set)
	f.hasNo(t, "warn redis tags")
	admin.Expire(t.Context(), "actions:of:7", time.Hour)
	admin.ConfigSet(t.Context(), "maxmemory", "1gb")
	admin.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lfu")
	f = checkAs(t, "redis://limited:secret@"+r.Addr, set)
	f.has(t, "warn redis tags", "allkeys-lfu may evict a tag's set")
	f.has(t, "warn redis tags", `"actions:of:7" expires`)
}
