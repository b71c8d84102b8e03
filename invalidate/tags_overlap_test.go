package invalidate

import (
	"fmt"
	"testing"
	"time"

	"pgevict/internal/livetest"
	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// knowing tells a queue the tags of its rules, as serve does.
func knowing(set *rules.Set) func(*Options) { return func(o *Options) { o.Tags = set.Tags() } }

// Whatever else of the rules may have the name of a tag's set, by whichever way it is to be deleted: its members go too.
func TestTagIsReadBeforeItIsDeleted(t *testing.T) {
	t.Parallel()
	const tag = "tags: ['user:{id}:views']"
	sweep := func(set *rules.Set, k *kit) { k.Sweep(set.Sweep()...) }
	change := func(set *rules.Set, k *kit) { k.Add(of(set, "t", image{"id": "1", "name": "n"})...) }
	for name, c := range map[string]struct {
		rule string
		do   func(*rules.Set, *kit)
	}{
		"a pattern, in a sweep":             {"{table: t, keys: ['user:{id}:*'], " + tag + "}", sweep},
		"a pattern, of one change":          {"{table: t, keys: ['user:{id}:*'], " + tag + "}", change},
		"a pattern alone":                   {"{table: t, keys: ['user:{id}:*']}, {table: other, " + tag + "}", change},
		"a pattern before the column":       {"{table: t, keys: ['user:*views']}, {table: other, " + tag + "}", change},
		"the same name":                     {"{table: t, keys: ['user:{id}:views']}, {table: other, " + tag + "}", change},
		"the same name, in a sweep":         {"{table: t, keys: ['user:{id}:views'], " + tag + "}", sweep},
		"a refreshed key":                   {"{table: t, keys: ['user:{id}:views'], refresh: {query: 'SELECT {id}', only_cached: false}}, {table: other, " + tag + "}", change},
		"a hash":                            {"{table: t, fields: [{key: 'user:{id}:views', field: '{name}'}]}, {table: t, " + tag + "}", sweep},
		"a hash of which no field is known": {"{table: t, fields: [{key: 'user:{id}:views', field: '{unknown}'}]}, {table: other, " + tag + "}", change},
		"a tag of another template":         {"{table: t, tags: ['user:1:{x}'], keys: ['user:*']}, {table: other, " + tag + "}", change},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := parseRules(t, "rules: ["+c.rule+"]")
			k := makeQueue(t, livetest.NewRedis(t).URL(), knowing(set), reads(newLibrary(1)), again(50*time.Millisecond))
			members := numbered("view:%d", 5000)
			k.tagged("user:1:views", members...)
			k.set(numbered("user:1:%d", 3000)...)
			k.set("user:2:other", "other")
			k.run()
			c.do(set, k)
			k.idle()
			left := 0
			for key := range k.keys() {
				if len(key) > 5 && key[:5] == "view:" {
					left++
				}
			}
			if left > 0 || k.exists("user:1:views") {
				t.Errorf("%d of %d members are cached, and the set is there: %t", left, len(members), k.exists("user:1:views"))
			}
			if !k.exists("other") {
				t.Error("another key is gone")
			}
			livetest.Eventually(t, soon, "no second delete waits", func() bool { s := k.Stats(); return s.SecondDeletes+s.Pending == 0 })
		})
	}
}

// What has the name of a set and is none is deleted as the key that it is.
func TestKeyWithTheNameOfATag(t *testing.T) {
	t.Parallel()
	set := parseRules(t, "rules: [{table: t, keys: ['user:{id}:*', 'x:{id}'], tags: ['user:{id}:views', 'x:{id}']}]")
	k := makeQueue(t, livetest.NewRedis(t).URL(), knowing(set)).run()
	for _, do := range []func(){
		func() { k.Add(of(set, "t", image{"id": "1"})...) },
		func() { k.Sweep(set.Sweep()...) },
	} {
		k.set("user:1:views", "x:1", "other")
		do()
		k.idle()
		if left := k.keys(); len(left) != 1 || !left["other"] {
			t.Errorf("left: %v", left)
		}
	}
	if got := k.seen.evictedOf("t"); got != 4 {
		t.Errorf("%d evicted", got)
	}
}

// A template that begins as pgevict's own keys do, and values that are their names, delete none of them.
func TestOwnKeysAreNobodysKeys(t *testing.T) {
	t.Parallel()
	set := parseRules(t, "rules: [{table: t, keys: ['p{id}'], tags: ['tag:{id}', 'pg{id}'], fields: [{key: 'pge{id}', field: '{id}'}]}, {table: p, keys: ['p*']}]")
	k := makeQueue(t, livetest.NewRedis(t).URL(), knowing(set))
	k.tagged("pgevict:tag:tag:1", "view:1") // of a process that died
	k.tagged("pgevict:tag:other", "view:2") // of other rules
	k.set("pgevict:position:other", "pgevict:refresh:other", "p1")
	k.run()
	k.canary(1)
	own := PositionPrefix + k.id
	k.Add(of(set, "p", image{})...)
	for _, name := range []string{own, "pgevict:tag:tag:1", "pgevict:refresh:other"} {
		k.Add(of(set, "t", image{"id": name[1:]})...)
		k.Add(of(set, "t", image{"id": name[2:]})...)
		k.Add(of(set, "t", image{"id": name[3:]})...)
	}
	k.idle()
	for _, key := range []string{own, "pgevict:tag:tag:1", "pgevict:tag:other", "pgevict:position:other", "pgevict:refresh:other", "view:1"} {
		if !k.exists(key) {
			t.Errorf("%s is gone", key)
		}
	}
	if k.exists("p1") {
		t.Error("p1 is there")
	}
	k.Sweep(set.Sweep()...)
	k.idle()
	if left := k.keys(); len(left) != 3 || left["view:1"] || !left["view:2"] {
		t.Errorf("left: %v", left)
	}
	k.canary(2)
	if len(k.seen.gaps) > 0 {
		t.Errorf("gaps: %v", k.seen.gaps)
	}
}

// A member that is a set itself is read, too, even if the two name one another.
func TestTagInATag(t *testing.T) {
	t.Parallel()
	set := parseRules(t, tagRules)
	k := makeQueue(t, livetest.NewRedis(t).URL(), knowing(set))
	k.tagged("tag:1", numbered("view:%d", 3000)...)
	k.tagged("tag:2", numbered("page:%d", 40_000)...)
	k.rdb.SAdd(t.Context(), "tag:1", "tag:2", "tag:3", "tag:1")
	k.rdb.SAdd(t.Context(), "tag:2", "tag:1")
	k.set("tag:3", "other")
	k.run()
	k.Add(of(set, "t", image{"id": "1"})...)
	k.idle()
	if left := k.keys(); len(left) != 1 || !left["other"] {
		t.Errorf("%d left", len(left))
	}
}

// A claim is of one taker alone: what another has taken since is not released with it.
func TestClaimsAreUnique(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	set := parseRules(t, tagRules)
	one, two, next := makeQueue(t, r.URL()), makeQueue(t, r.URL()), makeQueue(t, r.URL())
	tag := of(set, "t", image{"id": "1"})
	step := func(step func() error) {
		t.Helper()
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	one.tagged("tag:1", "view:1")
	one.Add(tag...)
	step(func() error { return one.only.dropTags(t.Context()) })
	step(func() error { return one.only.deleteMembers(t.Context()) })
	if one.exists("view:1") {
		t.Fatal("the member is there")
	}
	one.tagged("tag:1", "view:1") // a reader fills it again
	two.Add(tag...)
	step(func() error { return two.only.dropTags(t.Context()) }) // and dies
	step(func() error { return one.only.dropTags(t.Context()) }) // which releases its claim
	if !one.exists("view:1") {
		t.Fatal("the member is gone: this shows nothing")
	}
	next.Add(tag...)
	next.run().idle()
	if left := next.keys(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A large tag holds up no other: those that come when it is being read go before it has been.
func TestLargeTagHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	set := parseRules(t, tagRules)
	k := makeQueue(t, livetest.NewRedis(t).URL(), knowing(set))
	const n = 80_000
	for part := range 4 {
		args := make([]any, 0, n/4)
		for i := range n / 4 {
			args = append(args, fmt.Sprintf("view:%d", part*n/4+i))
		}
		if err := k.rdb.SAdd(t.Context(), "tag:1", args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	k.tagged("tag:2", "page:1")
	k.run()
	k.Add(of(set, "t", image{"id": "1"})...)
	livetest.Eventually(t, soon, "the large one is being read", func() bool { return k.calls("eval") > 0 })
	k.Add(of(set, "t", image{"id": "2"})...)
	k.gone("page:1")
	if left := k.rdb.SCard(t.Context(), "tag:1").Val(); left == 0 {
		t.Error("it waited for all of the large one")
	}
	k.idle()
	if left := k.keys(); len(left) != 0 {
		t.Errorf("%d left", len(left))
	}
}

// A master that hangs holds up its own keys and no others: not the patterns of another master that has sets which name them,
// and not the other tags.
func TestClusterMasterThatHangsHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	c := livetest.NewRedisCluster(t, 3, 0)
	if err := c.Patient(); err != nil {
		t.Fatal(err)
	}
	set := parseRules(t, "rules: [{table: p, keys: ['p:{id}:*']}, {table: t, tags: ['tag:{id}']}]")
	k := makeClusterQueue(t, c, knowing(set))
	k.run()
	k.canary(1)
	keys := numbered("p:1:%d", 3000)
	k.fill(keys...)
	third := func(key string) int { return livetest.Slot(key) * 3 / redisnode.Slots }
	name := func(format string, master, n int) string { // the nth that a master has
		for i := 0; ; i++ {
			key := fmt.Sprintf(format, i)
			if third(key) == master {
				if n == 0 {
					return key
				}
				n--
			}
		}
	}
	healthy := 0
	for i := range 1000 {
		tag, member := fmt.Sprintf("tag:%d", i), name("m:%d", i%2, i)
		if third(tag) == 2 {
			continue
		}
		if i%10 == 0 {
			member = name("m:%d", 2, i)
		} else {
			healthy++
			k.fill(member)
		}
		if err := k.all.SAdd(t.Context(), tag, member).Err(); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			k.fill(member)
		}
	}
	members := func() (n int) {
		for _, node := range c.Nodes[:2] {
			n += len(k.onNode(node).Keys(t.Context(), "m:*").Val())
		}
		return n
	}
	if members() == 0 || healthy < 300 {
		t.Fatal("this shows nothing")
	}
	c.Nodes[2].Pause()
	k.Sweep(set.Sweep()...)
	k.Add(ids(set, "t", 0, 1000)...)
	livetest.Eventually(t, soon, "what the others have is gone", func() bool {
		for _, node := range c.Nodes[:2] {
			if len(k.onNode(node).Keys(t.Context(), "p:*").Val()) > 0 {
				return false
			}
		}
		return members() == 0
	})
	if k.Stats().Pending == 0 {
		t.Error("nothing waits for the one that hangs")
	}
	c.Nodes[2].Resume()
	k.idle()
	if left := k.left(); len(left) != 0 {
		t.Errorf("%d left: %.300v", len(left), left)
	}
}
