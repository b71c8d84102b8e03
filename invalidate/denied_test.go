package invalidate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
	"pgevict/rules"
)

// as returns the URL of a user who may do what the rules of an ACL say.
func as(t *testing.T, r *livetest.Redis, may ...string) string {
	t.Helper()
	setUser(t, connect(t, r.URL()), may...)
	return "redis://limited:secret@" + r.Addr
}

func setUser(t *testing.T, admin *redis.Client, may ...string) {
	t.Helper()
	args := []any{"ACL", "SETUSER", "limited", "reset", "on", ">secret"}
	for _, rule := range may {
		args = append(args, rule)
	}
	if err := admin.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
}

// asLimited makes a queue of such a user; k.rdb may do anything.
func asLimited(t *testing.T, r *livetest.Redis, may ...string) *kit {
	t.Helper()
	k := makeQueue(t, as(t, r, may...), timeout(2*time.Second), again(time.Hour))
	k.rdb = connect(t, r.URL())
	return k
}

func (k *kit) warned(parts ...string) bool {
	for _, e := range k.logs.FilterMessageSnippet("did not do it").All() {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(fmt.Sprint(e.ContextMap()["error"]), p)
		}
		if all {
			return true
		}
	}
	return false
}

const mayConnect = "+@connection"

// One template's keys are forbidden: the others of its rule go at once, those wait and go when they may, and the position
// waits with them.
func TestForbiddenKeysWait(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := asLimited(t, r, mayConnect, "+info", "+scan", "+unlink", "+set", "+get", "~allowed:*", "~"+PositionPrefix+"*").run()
	both, err := rules.Parse("", []byte("rules: [{table: r, keys: ['allowed:{id}', 'denied:{id}']}]"))
	if err != nil {
		t.Fatal(err)
	}
	k.canary(1)
	held := k.Stats().AppliedThrough
	k.setTargets(ids(both, "r", 0, 50))
	k.Add(ids(both, "r", 0, 50)...)
	k.markAt(2)
	k.gone("allowed:0")
	k.gone("allowed:49")
	k.canary(3)
	k.canary(4)
	if got := len(k.keys()); got != 50 {
		t.Errorf("%d keys left, want the 50 that are forbidden", got)
	}
	if got := k.Stats(); got.Pending != 50 || !got.Connected || !got.AppliedThrough.Equal(held) {
		t.Errorf("%+v, want 50 to wait and the position to be that of %v", got, held)
	}
	if _, position := k.position(); position != 1 {
		t.Errorf("position %d", position)
	}
	if !k.warned("NOPERM", `rule "r"`) {
		t.Errorf("the log does not name what is not permitted: %v", k.logs.All())
	}
	livetest.Eventually(t, soon, "it has tried again", func() bool {
		return k.seen.look(func(w *witness) bool { return w.errors["noperm"] >= 2 })
	})
	if got := k.logs.FilterMessageSnippet("did not do it").Len(); got != 1 {
		t.Errorf("logged %d times", got)
	}
	setUser(t, k.rdb, mayConnect, "+info", "+unlink", "+set", "+get", "~*")
	k.idle()
	if got := len(k.keys()); got != 0 {
		t.Errorf("%d keys left", got)
	}
	k.canary(5)
	if _, position := k.position(); position != 5 {
		t.Errorf("position %d", position)
	}
}

// A walk comes upon keys that it must not delete: it goes on, and that pattern waits.
func TestForbiddenKeysInAWalk(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := asLimited(t, r, mayConnect, "+info", "+scan", "+unlink", "+set", "+get", "~allowed:*", "~"+PositionPrefix+"*").run()
	set := templates(t, "p", "allowed:{id}", "p-2", "denied:{id}")
	k.canary(1)
	k.setTargets(ids(set, "p", 0, 5000))
	k.Sweep(set.Sweep()...)
	livetest.Eventually(t, soon, "one pattern waits", func() bool { return k.Stats().Pending == 1 })
	if got := len(k.keys()); got != 5000 {
		t.Errorf("%d keys left, want the 5000 that are forbidden", got)
	}
	k.canary(2)
	if _, position := k.position(); position != 1 {
		t.Errorf("position %d", position)
	}
	if !k.warned("NOPERM", `rule "p-2"`) {
		t.Errorf("the log does not name what is not permitted: %v", k.logs.All())
	}
	setUser(t, k.rdb, mayConnect, "+info", "+scan", "+unlink", "+set", "+get", "~*")
	k.idle()
	if got := len(k.keys()); got != 0 {
		t.Errorf("%d keys left", got)
	}
}

// No delete is permitted at all: the position must not go on as if they were done.
func TestForbiddenUnlink(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := asLimited(t, r, mayConnect, "+info", "+scan", "+set", "+get", "~*").run()
	set := templates(t, "a", "a:{id}")
	k.canary(1)
	held := k.Stats().AppliedThrough
	k.set("a:1")
	k.Add(ids(set, "a", 1, 1)...)
	for i := range 5 {
		k.canary(uint64(2 + i))
		if got := k.Stats().AppliedThrough; !got.Equal(held) {
			t.Fatalf("the position went on, to %v", got)
		}
	}
	livetest.Eventually(t, soon, "the position in Redis is right again", func() bool { _, p := k.position(); return p == 1 })
	if !k.warned("NOPERM", "'unlink'") {
		t.Error("the log does not name UNLINK")
	}
	setUser(t, k.rdb, mayConnect, "+info", "+scan", "+set", "+get", "+unlink", "~*")
	k.gone("a:1")
	k.idle()
	k.canary(9)
	k.canary(10)
	if _, p := k.position(); p != 10 {
		t.Errorf("position %d", p)
	}
}

func TestForbiddenSetAndScan(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := asLimited(t, r, mayConnect, "+info", "+unlink", "~*").run()
	set := templates(t, "a", "a:{id}", "p", "p:*")
	k.set("a:1", "p:1")
	k.Add(ids(set, "a", 1, 1)...)
	k.Add(of(set, "p", image{})...)
	k.markAt(1)
	k.gone("a:1")
	livetest.Eventually(t, soon, "both are in the log, once per kind", func() bool {
		return k.seen.look(func(w *witness) bool { return w.errors["noperm"] >= 3 })
	})
	if !k.warned("NOPERM", "'set'") && !k.warned("NOPERM", "'scan'") {
		t.Errorf("%v", k.logs.All())
	}
	if len(k.seen.gaps) != 0 || k.seen.canaries != 0 {
		t.Errorf("gaps %v, %d canaries", k.seen.gaps, k.seen.canaries)
	}
	setUser(t, k.rdb, mayConnect, "+info", "+unlink", "+scan", "+set", "+get", "~*")
	k.gone("p:1")
	k.canary(2)
}

// Without INFO one process cannot be told from another: any new connection may be to one that has lost deletes.
func TestForbiddenInfo(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	k := asLimited(t, r, mayConnect, "+unlink", "+scan", "+set", "+get", "~*").run()
	k.canary(1)
	if got := k.seen.gapsOf(GapUnknown); got != 0 {
		t.Errorf("%d gaps at the first connection", got)
	}
	for i := range 3 {
		if err := k.rdb.ClientKillByFilter(t.Context(), "USER", "limited").Err(); err != nil {
			t.Fatal(err)
		}
		livetest.Eventually(t, soon, "a gap", func() bool {
			k.markAt(uint64(2 + i))
			return k.seen.gapsOf(GapUnknown) == i+1
		})
	}
	if len(k.seen.gaps) != 3 {
		t.Errorf("gaps %v", k.seen.gaps)
	}
}

// A wrong password is told by name, without the password, tried again for ever, and repaired from outside.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	admin := connect(t, r.URL())
	for _, c := range []struct{ url, says string }{
		{"redis://limited:hunter2@" + r.Addr, "WRONGPASS"},
		{"redis://" + r.Addr, "NOAUTH"},
	} {
		k := makeQueue(t, c.url)
		k.rdb = admin
		setUser(t, admin, "nopass", "~*", "+@all")
		if err := admin.Do(t.Context(), "ACL", "SETUSER", "limited", "resetpass", ">other").Err(); err != nil {
			t.Fatal(err)
		}
		if c.says == "NOAUTH" {
			if err := admin.ConfigSet(t.Context(), "requirepass", "root").Err(); err != nil {
				t.Fatal(err)
			}
		}
		k.run()
		k.set("a:1")
		k.Add(ids(templates(t, "a", "a:{id}"), "a", 1, 1)...)
		livetest.Eventually(t, soon, c.says, func() bool { return k.warned(c.says) })
		for _, e := range k.logs.All() {
			if strings.Contains(fmt.Sprint(e.ContextMap()), "hunter2") {
				t.Errorf("the password is in the log: %v", e.ContextMap())
			}
		}
		livetest.Eventually(t, soon, "it tries again", func() bool {
			return k.seen.look(func(w *witness) bool { return w.errors["noauth"] >= 2 })
		})
		if !k.exists("a:1") {
			t.Error("it is gone")
		}
		if err := admin.Do(t.Context(), "ACL", "SETUSER", "limited", ">hunter2").Err(); err != nil {
			t.Fatal(err)
		}
		if err := admin.ConfigSet(t.Context(), "requirepass", "").Err(); err != nil {
			t.Fatal(err)
		}
		k.gone("a:1")
	}
}
