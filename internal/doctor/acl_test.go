package doctor

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

const users = "../../deploy/redis/"

func (f findings) allOK(t *testing.T) {
	t.Helper()
	for _, line := range f {
		if !strings.HasPrefix(line, "ok ") {
			t.Error(line)
		}
	}
}

// The files of deploy/redis grant all that the doctor knows to be needed. (That a queue can do its work with them, invalidate
// shows.)
func TestLeastACL(t *testing.T) {
	t.Parallel()
	set := parseRules(t, livetest.ACLRules)
	for name, of := range map[string]func(livetest.ACL) livetest.ACL{"as it is": func(r livetest.ACL) livetest.ACL { return r }, "Redis 6.2": livetest.ACL.Flat} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := livetest.NewRedis(t)
			of(livetest.ReadACL(t, users+"user.redis")).Grant(t, r)
			livetest.FillACLRules(t, connect(t, r.URL()))
			checkAt(t, &redis.UniversalOptions{Addrs: []string{r.Addr}, Username: "pgevict", Password: livetest.ACLPassword}, set).allOK(t)
		})
	}
	t.Run("Cluster", func(t *testing.T) {
		t.Parallel()
		c := livetest.NewRedisCluster(t, 3, 1)
		if err := c.Patient(); err != nil {
			t.Fatal(err)
		}
		most := livetest.ReadACL(t, users+"user.redis", users+"user-cluster.redis")
		most.Grant(t, c.Nodes...)
		admin := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
		defer admin.Close()
		o := &redis.UniversalOptions{Addrs: []string{c.Nodes[0].Addr}, Username: "pgevict", Password: livetest.ACLPassword}
		livetest.FillACLRules(t, admin)
		checkAt(t, o, set).allOK(t)
		for name, less := range most.Lesser() {
			if strings.Contains(name, "cluster|") || strings.Contains(name, "asking") {
				less.Grant(t, c.Nodes...)
				checkAt(t, o, set).has(t, "fail redis", "ACL SETUSER pgevict")
			}
		}
		most.Grant(t, c.Nodes[:5]...)
		livetest.ReadACL(t, users+"user.redis").Grant(t, c.Nodes[5])
		checkAt(t, o, set).has(t, "warn redis replicas: "+c.Nodes[5].Addr, "+asking", "each server has an ACL of its own")
	})
	t.Run("Sentinel", func(t *testing.T) {
		t.Parallel()
		s := livetest.NewSentinelSet(t, 1, 1)
		livetest.ReadACL(t, users+"user.redis").Grant(t, s.Redis...)
		most := livetest.ReadACL(t, users+"user-sentinel.redis")
		most.Grant(t, s.Sentinels...)
		o := &redis.UniversalOptions{
			Addrs: []string{s.Sentinels[0].Addr}, MasterName: s.Name, Username: "pgevict", Password: livetest.ACLPassword,
			SentinelUsername: "pgevict", SentinelPassword: livetest.ACLPassword,
		}
		livetest.FillACLRules(t, connect(t, s.Redis[0].URL()))
		checkAt(t, o, set).allOK(t)
		for name, less := range most.Lesser() {
			less.Grant(t, s.Sentinels...)
			f := checkAt(t, o, set)
			if !slices.ContainsFunc(f, func(line string) bool { return strings.HasPrefix(line, "fail redis sentinel: ") }) {
				t.Errorf("%s, all seems to be well", name)
			}
		}
	})
}

// A file makes nobody who can log in: its text is known to all.
func TestNoACLHasAKnownPassword(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	admin := connect(t, r.URL())
	for _, name := range []string{"user.redis", "user-sentinel.redis"} {
		text, err := os.ReadFile(users + name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) { // as its comment says to do it
			if words := strings.Fields(line); len(words) > 0 && words[0] == "ACL" && !strings.Contains(line, "(") && !strings.Contains(line, "+sentinel|") {
				var args []any
				for _, word := range words {
					args = append(args, word)
				}
				if err := admin.Do(t.Context(), args...).Err(); err != nil {
					t.Fatal(line, err)
				}
			}
		}
		user, err := admin.ACLList(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(user, func(line string) bool { return strings.HasPrefix(line, "user pgevict ") })
		if i < 0 || !strings.HasPrefix(user[i], "user pgevict off ") || strings.Contains(user[i], "nopass") || strings.Contains(user[i], " #") {
			t.Errorf("%s makes %q", name, user)
		}
	}
}

// No right in the file is more than is needed: the doctor misses each.
func TestNoACLIsLess(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	livetest.FillACLRules(t, connect(t, r.URL()))
	o := &redis.UniversalOptions{Addrs: []string{r.Addr}, Username: "pgevict", Password: livetest.ACLPassword}
	set := parseRules(t, livetest.ACLRules)
	for name, less := range livetest.ReadACL(t, users+"user.redis").Lesser() {
		less.Grant(t, r)
		f := checkAt(t, o, set)
		if !slices.ContainsFunc(f, func(line string) bool { return !strings.HasPrefix(line, "ok ") }) {
			t.Errorf("%s, all seems to be well", name)
		}
	}
}
