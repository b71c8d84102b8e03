package invalidate

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"pgevict/internal/livetest"
	"pgevict/rules"
)

const tagRules = "rules: [{name: t, table: t, tags: ['tag:{id}']}]"

// tagged gives a set members, each a key with a value.
func (k *kit) tagged(set string, members ...string) {
	k.tb.Helper()
	k.set(members...)
	for start := 0; start < len(members); start += 5000 {
		var args []any
		for _, m := range members[start:min(start+5000, len(members))] {
			args = append(args, m)
		}
		if err := k.rdb.SAdd(k.ctx, set, args...).Err(); err != nil {
			k.tb.Fatal(err)
		}
	}
}

func TestTag(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL(), again(30*time.Millisecond)).run()
	set := parseRules(t, tagRules)
	k.canary(1)
	odd := []string{"", "a b", "*", `\`, "a\r\nb", "日本", "\xff\x00", "{x}"}
	k.tagged("tag:1", append(odd, "view:1", "view:2")...)
	k.tagged("tag:2", "view:2", "view:3")
	k.rdb.SAdd(t.Context(), "tag:1", "gone", PositionPrefix+k.id)
	k.set("tag:3", "other")
	k.Add(of(set, "t", image{"id": "1"})...)
	k.Add(of(set, "t", image{"id": "3"})...) // which is no set, and so has no members
	k.Add(of(set, "t", image{"id": "4"})...) // which is not there
	k.idle()
	if left := k.keys(); len(left) != 4 || !left["tag:2"] || !left["view:3"] || !left["tag:3"] || !left["other"] {
		t.Errorf("left: %v", left)
	}
	if got := k.seen.evictedOf("t"); got != int64(len(odd))+2 {
		t.Errorf("%d evicted", got)
	}
	k.canary(2)
	if len(k.seen.gaps) != 0 || len(k.seen.errors) != 0 {
		t.Errorf("gaps %v, errors %v: a member cannot be a key of pgevict's", k.seen.gaps, k.seen.errors)
	}
	// A reader that fills after the delete is caught by the second.
	livetest.Eventually(t, soon, "no second delete waits", func() bool { got := k.Stats(); return got.SecondDeletes+got.Pending == 0 })
	k.Add(of(set, "t", image{"id": "2"})...)
	k.idle()
	k.tagged("tag:2", "view:late")
	k.gone("view:late")
}

// Where the tag is not known all sets of the template go, and nothing that is no set.
func TestWidenedTag(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL()).run()
	set := parseRules(t, "rules: [{name: t, table: t, tags: ['tag:{a}:{b}']}]")
	for i := range 300 {
		k.tagged(fmt.Sprintf("tag:1:%d", i), fmt.Sprintf("view:%d", i))
	}
	k.tagged("tag:2:1", "view:x")
	k.set("tag:1:string", "other")
	k.rdb.LPush(t.Context(), "tag:1:list", "view:x")
	k.Add(of(set, "t", image{"a": "1"})...)
	k.idle()
	left := k.keys()
	if len(left) != 5 || !left["tag:2:1"] || !left["view:x"] || !left["tag:1:string"] || !left["tag:1:list"] {
		t.Errorf("left: %v", left)
	}
}

// What a process took out of a set and had not deleted yet when it died is deleted by whoever comes next, be it for that
// very tag or with a sweep.
func TestTagOfAProcessThatDied(t *testing.T) {
	t.Parallel()
	for name, add := range map[string]func(k *kit, set *rules.Set){
		"the tag":  func(k *kit, set *rules.Set) { k.Add(of(set, "t", image{"id": "1"})...) },
		"a sweep":  func(k *kit, set *rules.Set) { k.Sweep(set.Sweep()...) },
		"the both": func(k *kit, set *rules.Set) { k.Add(of(set, "t", image{"id": "1"})...); k.Sweep(set.Sweep()...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := makeQueue(t, livetest.NewRedis(t).URL())
			k.tagged(k.cluster.companionKey(movedPrefix, "tag:1"), "view:1", "view:2")
			k.run()
			add(k, parseRules(t, tagRules))
			k.idle()
			if left := k.keys(); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// However the application adds members meanwhile, one that is cached never loses its place in the set, or a later change
// would not find it.
func TestMemberAddedMeanwhile(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k, other := makeQueue(t, r.URL()).run(), makeQueue(t, r.URL()).run() // two sidecars
	set := parseRules(t, tagRules)
	end := time.Now().Add(2 * time.Second)
	var working sync.WaitGroup
	for _, q := range []*kit{k, other} {
		working.Go(func() {
			for time.Now().Before(end) {
				q.Add(of(set, "t", image{"id": "1"})...)
				livetest.Eventually(t, soon, "nothing waits", func() bool { return q.Stats().Pending == 0 })
			}
		})
	}
	for w := range 4 {
		working.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				member := fmt.Sprintf("view:%d:%d", w, i%20)
				if err := k.rdb.Set(t.Context(), member, 1, 0).Err(); err != nil {
					t.Error(err)
				}
				if err := k.rdb.SAdd(t.Context(), "tag:1", member).Err(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	working.Wait()
	k.idle()
	other.idle()
	cached := 0
	for key := range k.keys() {
		if !strings.HasPrefix(key, "view:") {
			continue
		}
		cached++
		if !k.rdb.SIsMember(t.Context(), "tag:1", key).Val() {
			t.Errorf("%s is cached, and in no set", key)
		}
	}
	if evicted := k.seen.evictedOf("t") + other.seen.evictedOf("t"); evicted < 100 {
		t.Errorf("only %d were evicted (%d cached), so this shows little", evicted, cached)
	}
	k.Add(of(set, "t", image{"id": "1"})...)
	k.idle()
	if left := k.keys(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A large set is read in steps, and nobody waits long behind one.
func TestLargeTag(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL()).run()
	const n = 50_000
	k.tagged("tag:1", numbered("view:%d", n)...)
	k.set("other")
	k.Add(of(parseRules(t, tagRules), "t", image{"id": "1"})...)
	k.idle()
	if left := k.keys(); len(left) != 1 || !left["other"] {
		t.Errorf("%d left", len(left))
	}
	if steps := k.calls("eval"); steps < n/membersPerStep {
		t.Errorf("read in %d steps", steps)
	}
	if k.calls("smembers") != 0 || k.seen.evictedOf("t") != n {
		t.Errorf("%d evicted", k.seen.evictedOf("t"))
	}
}

// A tag that Redis is full for, or that must not be touched, waits; others go.
func TestForbiddenTag(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	may := []string{mayConnect, "+info", "+scan", "+sscan", "+unlink", "+eval", "+srandmember", "+sadd", "+srem", "+set", "+get", "~tag:*", "~pgevict:*"}
	k := asLimited(t, r, append(may, "~allowed:*")...).run()
	set := parseRules(t, tagRules)
	k.canary(1)
	k.tagged("tag:1", "allowed:1")
	k.tagged("tag:2", "denied:1")
	k.Add(ids(set, "t", 1, 2)...)
	k.gone("allowed:1")
	livetest.Eventually(t, soon, "one waits, and the log says why", func() bool { return k.Stats().Pending == 1 && k.warned("NOPERM", `rule "t"`) })
	if !k.exists("denied:1") {
		t.Error("it is gone")
	}
	k.canary(2)
	if _, position := k.position(); position != 1 {
		t.Errorf("position %d", position)
	}
	setUser(t, k.rdb, append(may, "~*")...)
	k.idle()
	if left := k.keys(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A set that must not be touched holds up no other of its pattern.
func TestForbiddenTagOfAPattern(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := asLimited(t, r, "+@all", "~pgevict:*", "~view:*", "~tag:1*").run()
	k.canary(1)
	k.tagged("tag:1", "view:1")
	k.tagged("tag:2", "view:2")
	k.tagged("tag:11", "denied")
	k.Sweep(parseRules(t, tagRules).Sweep()...)
	k.gone("view:1")
	livetest.Eventually(t, soon, "the pattern waits, and the tag of what is denied", func() bool { return k.Stats().Pending == 2 && k.warned("NOPERM") })
	if !k.exists("view:2") || !k.exists("denied") {
		t.Error("what is forbidden is gone")
	}
	setUser(t, k.rdb, "+@all", "~*")
	k.idle()
	if left := k.keys(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestFullRedisLosesNoTag(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t, "--maxmemory-policy", "noeviction").URL()).run()
	k.tagged("tag:1", "view:1", "view:2")
	k.rdb.HSet(t.Context(), "h", "1", "x", "2", "x")
	if err := k.rdb.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	set := parseRules(t, "rules: [{name: t, table: t, tags: ['tag:{id}'], fields: [{key: h, field: '{id}'}]}]")
	k.Add(of(set, "t", image{"id": "1"})...)
	k.idle()
	if left := k.keys(); len(left) != 1 || k.rdb.HLen(t.Context(), "h").Val() != 1 {
		t.Errorf("left: %v", left)
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	k := makeQueue(t, livetest.NewRedis(t).URL(), bound(50)).run()
	set := parseRules(t, "rules: [{name: f, table: f, fields: [{key: 'h:{a}', field: '{b}'}, {key: 'all', field: '{a}:{b}'}]}]")
	row := func(a, b string) image { return image{"a": a, "b": b} }
	reset := func() {
		t.Helper()
		k.idle()
		k.rdb.FlushAll(t.Context())
		for _, h := range []string{"h:1", "h:2", "all"} {
			if err := k.rdb.HSet(t.Context(), h, "x", 1, "y", 1, "*", 1, "", 1, "1:x", 1, "1:y", 1).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	fields := func(h string) string {
		return fmt.Sprint(k.rdb.HExists(t.Context(), h, "x").Val(), k.rdb.HExists(t.Context(), h, "*").Val(),
			k.rdb.HExists(t.Context(), h, "").Val(), k.rdb.HExists(t.Context(), h, "1:x").Val(), k.rdb.HLen(t.Context(), h).Val())
	}
	for _, c := range []struct {
		row      image
		h1, all  string
		h2exists bool
	}{
		{row("1", "x"), "false true true true 5", "true true true false 5", true},
		{row("1", "*"), "true false true true 5", "true true true true 6", true},
		{row("1", ""), "true true false true 5", "true true true true 6", true},
		{row("3", "x"), "true true true true 6", "true true true true 6", true},
		{image{"a": "1"}, "false false false false 0", "false false false false 0", true}, // the whole hash
		{image{"b": "x"}, "false false false false 0", "false false false false 0", false},
	} {
		reset()
		k.Add(of(set, "f", c.row)...)
		k.idle()
		if h1, all, h2 := fields("h:1"), fields("all"), k.exists("h:2"); h1 != c.h1 || all != c.all || h2 != c.h2exists {
			t.Errorf("%v: h:1 %s, all %s, h:2 %t", c.row, h1, all, h2)
		}
	}
	// Too many of them widen to the hash.
	reset()
	k.stop()
	for i := range 100 {
		k.Add(of(set, "f", row("1", fmt.Sprint(i)))...)
	}
	if k.seen.widened["f"] == 0 {
		t.Error("nothing was widened")
	}
	k.run().idle()
	if k.exists("h:1") || k.exists("all") {
		t.Error("the hashes are there")
	}
	// A key of another type has no such field.
	k.rdb.FlushAll(t.Context())
	k.set("h:1", "all")
	k.Add(of(set, "f", row("1", "x"))...)
	k.idle()
	if !k.exists("h:1") || !k.exists("all") {
		t.Error("a key that is no hash is gone")
	}
}
