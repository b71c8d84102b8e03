package invalidate

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
	"pgevict/rules"
)

// rights are what the files in deploy/redis grant.
type rights struct {
	always    []string
	selectors [][]string // each holds apart from the others
}

const leastPassword = "hunter2"

func readRights(t *testing.T, names ...string) (r rights) {
	t.Helper()
	for _, name := range names {
		text, err := os.ReadFile("../deploy/redis/" + name)
		if err != nil {
			t.Fatal(err)
		}
		inside := false
		for line := range strings.Lines(string(text)) {
			rest, ok := strings.CutPrefix(line, "ACL SETUSER pgevict ")
			if !ok {
				continue
			}
			for word := range strings.FieldsSeq(strings.ReplaceAll(rest, ">CHANGE-ME", ">"+leastPassword)) {
				begins, ends := strings.HasPrefix(word, "("), strings.HasSuffix(word, ")")
				word = strings.Trim(word, "()")
				switch {
				case begins:
					r.selectors = append(r.selectors, []string{word})
				case inside:
					last := len(r.selectors) - 1
					r.selectors[last] = append(r.selectors[last], word)
				default:
					r.always = append(r.always, word)
				}
				inside = (begins || inside) && !ends
			}
		}
	}
	return r
}

// flat are the same for a Redis that knows neither selectors nor rights to read or to write.
func (r rights) flat() rights {
	all := slices.Concat(append([][]string{r.always}, r.selectors...)...)
	for i, word := range all {
		if _, key, ok := strings.Cut(word, "~"); ok {
			all[i] = "~" + key
		}
	}
	return rights{always: all}
}

func (r rights) grant(t *testing.T, servers ...*livetest.Redis) {
	t.Helper()
	args := []any{"ACL", "SETUSER", "pgevict"}
	for _, word := range r.always {
		args = append(args, word)
	}
	for _, s := range r.selectors {
		args = append(args, "("+strings.Join(s, " ")+")")
	}
	for _, s := range servers {
		admin := redis.NewClient(&redis.Options{Addr: s.Addr, DisableIdentity: true})
		err := admin.Do(t.Context(), args...).Err()
		_ = admin.Close()
		if err != nil {
			t.Fatal(args, err)
		}
	}
}

// lesser gives what is left when any one right is taken away, or made narrower.
func (r rights) lesser() map[string]rights {
	all := map[string]rights{}
	for i, word := range r.always {
		if strings.ContainsAny(word[:1], "+&") {
			all["without "+word] = rights{slices.Delete(slices.Clone(r.always), i, i+1), r.selectors}
		}
	}
	for i, s := range r.selectors {
		change := func(name string, words []string) {
			selectors := slices.Clone(r.selectors)
			selectors[i] = words
			all[name+" in "+strings.Join(s, " ")] = rights{r.always, selectors}
		}
		for j, word := range s {
			change("without "+word, slices.Delete(slices.Clone(s), j, j+1))
			if key, ok := strings.CutPrefix(word, "%RW~"); ok {
				for _, narrow := range []string{"%R~", "%W~"} {
					words := slices.Clone(s)
					words[j] = narrow + key
					change(narrow+key, words)
				}
			}
		}
	}
	return all
}

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
	set := parseRules(t, leastRules)
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
		livetest.Eventually(t, soon, "a canary goes through", func() bool { s := k.Stats(); return s.Canary.After(before) && !s.Position.IsZero() })
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

func (f findings) allOK(t *testing.T) {
	t.Helper()
	for _, line := range f {
		if !strings.HasPrefix(line, "ok ") {
			t.Error(line)
		}
	}
}

// The files of deploy/redis let pgevict do all that it does, and the doctor knows that.
func TestLeastACL(t *testing.T) {
	t.Parallel()
	set := parseRules(t, leastRules)
	for name, of := range map[string]func(rights) rights{"as it is": func(r rights) rights { return r }, "Redis 6.2": rights.flat} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := livetest.NewRedis(t)
			of(readRights(t, "user.redis")).grant(t, r)
			admin := connect(t, r.URL())
			o := &redis.UniversalOptions{Addrs: []string{r.Addr}, Username: "pgevict", Password: leastPassword}
			fillLeast(t, admin)
			diagnoseAt(t, o, set).allOK(t)
			useAll(t, o, admin)
		})
	}
	t.Run("Cluster", func(t *testing.T) {
		t.Parallel()
		c := livetest.NewRedisCluster(t, 3, 1)
		most := readRights(t, "user.redis", "user-cluster.redis")
		most.grant(t, c.Nodes...)
		admin := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
		defer admin.Close()
		o := &redis.UniversalOptions{Addrs: []string{c.Nodes[0].Addr}, Username: "pgevict", Password: leastPassword}
		fillLeast(t, admin)
		f := diagnoseAt(t, o, set)
		f.allOK(t)
		useAll(t, o, admin)
		for name, less := range most.lesser() {
			if strings.Contains(name, "cluster|") || strings.Contains(name, "asking") {
				less.grant(t, c.Nodes...)
				diagnoseAt(t, o, set).has(t, "fail redis", "ACL SETUSER pgevict")
			}
		}
		most.grant(t, c.Nodes[:5]...)
		readRights(t, "user.redis").grant(t, c.Nodes[5])
		diagnoseAt(t, o, set).has(t, "warn redis replicas: "+c.Nodes[5].Addr, "+asking", "each server has an ACL of its own")
	})
	t.Run("Sentinel", func(t *testing.T) {
		t.Parallel()
		s := livetest.NewSentinelSet(t, 1, 1)
		readRights(t, "user.redis").grant(t, s.Redis...)
		most := readRights(t, "user-sentinel.redis")
		most.grant(t, s.Sentinels...)
		admin := connect(t, s.Redis[0].URL())
		o := &redis.UniversalOptions{
			Addrs: []string{s.Sentinels[0].Addr}, MasterName: s.Name, Username: "pgevict", Password: leastPassword,
			SentinelUsername: "pgevict", SentinelPassword: leastPassword,
		}
		fillLeast(t, admin)
		diagnoseAt(t, o, set).allOK(t)
		useAll(t, o, admin)
		for name, less := range most.lesser() {
			less.grant(t, s.Sentinels...)
			f := diagnoseAt(t, o, set)
			if !slices.ContainsFunc(f, func(line string) bool { return strings.HasPrefix(line, "fail redis sentinel: ") }) {
				t.Errorf("%s, all seems to be well", name)
			}
		}
	})
}

// No right in the file is more than is needed: the doctor misses each.
func TestNoACLIsLess(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	fillLeast(t, connect(t, r.URL()))
	o := &redis.UniversalOptions{Addrs: []string{r.Addr}, Username: "pgevict", Password: leastPassword}
	set := parseRules(t, leastRules)
	for name, less := range readRights(t, "user.redis").lesser() {
		less.grant(t, r)
		f := diagnoseAt(t, o, set)
		if !slices.ContainsFunc(f, func(line string) bool { return !strings.HasPrefix(line, "ok ") }) {
			t.Errorf("%s, all seems to be well", name)
		}
	}
}
