package doctor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
	"pgevict/invalidate"
	"pgevict/rules"
)

func checkAs(t *testing.T, url string, set *rules.Set) (f findings) {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	u := &redis.UniversalOptions{Addrs: []string{o.Addr}, DB: o.DB, Username: o.Username, Password: o.Password}
	return checkAt(t, u, set)
}

func checkAt(t *testing.T, o *redis.UniversalOptions, set *rules.Set) (f findings) {
	t.Helper()
	checkRedis(t.Context(), o, 5*time.Second, set, f.add)
	return f
}

// The rights that serve needs and no more: keys without a wildcard cannot be tried for sure, and are not deleted to find out.
func TestRedisPermissions(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	admin := connect(t, r.URL())
	set := parseRules(t, `rules:
  - {name: t, table: t, keys: ['allowed:{id}']}
  - {name: t-2, table: t, keys: ['all']}
  - {name: t-3, table: t, keys: ['odd*[{id}']}`)
	for _, key := range []string{"allowed:1", "all"} {
		if err := admin.Set(t.Context(), key, "it must stay", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	least := []string{mayConnect, "+info", "+scan", "+unlink", "+set", "~allowed:*", "~odd*", "~" + invalidate.PositionPrefix + "*"}
	for _, c := range []struct {
		name string
		may  []string
		want [][]string
	}{
		{"all is allowed", append(slices.Clone(least), "+multi", "~all"), [][]string{{"ok redis permissions"}, {"ok redis round trip"}, {"ok redis keys: rule t-2: a sweep of all would delete 1 keys"}, {"ok redis keys: rule t: a sweep of allowed:* would delete 1 keys"}}},
		{"it cannot be seen", append(slices.Clone(least), "~all"), [][]string{{"warn redis permissions", "+unlink ~all (rule t-2)", "ACL SETUSER limited +multi", "ACL GETUSER limited"}}},
		{"a key is not, for sure", append(slices.Clone(least), "+multi"), [][]string{{"fail redis permissions", "ACL SETUSER limited +unlink ~all"}}},
		{"a key may be deleted, but not set", append(slices.Clone(least), "+multi", "(+unlink ~all)"), [][]string{{"ok redis permissions"}}},
		{"no command deletes", append(slices.Clone(least), "~all", "-unlink"), [][]string{{"fail redis permissions", "ACL SETUSER limited +unlink ~allowed:* ~odd"}}},
		{"none of it", []string{mayConnect}, [][]string{{"fail redis permissions", "+scan: NOPERM", "+scan +set +unlink ~allowed:*", "~pgevict:position:*"}, {"warn redis server", "+info"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := checkAs(t, as(t, r, c.may...), set)
			for _, want := range c.want {
				f.has(t, want[0], want[1:]...)
			}
			if n := admin.Exists(t.Context(), "allowed:1", "all").Val(); n != 2 {
				t.Errorf("%d keys of 2 are left", n)
			}
		})
	}
}

// A walk that takes too long is cut short, and what it would have found is estimated.
func TestRedisCutsTheWalkShort(t *testing.T) {
	t.Parallel()
	r := livetest.NewRedis(t)
	admin := connect(t, r.URL())
	pipe := admin.Pipeline()
	for i := range 20000 {
		pipe.Set(t.Context(), fmt.Sprintf("%s:%d", []string{"ours", "theirs"}[i%2], i), "", 0)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	set := parseRules(t, `rules: [{table: ours, keys: ['ours:{id}']}]`)
	for _, c := range []struct {
		url, keys, walk string
		from, to        int
	}{
		{r.URL(), "ok redis keys: rule ours: a sweep of ours:* would delete about ", "ok redis walk: a pass over the about 20000 keys takes about ", 8000, 12000},
		{as(t, r, mayConnect, "+scan", "~*"), "ok redis keys: rule ours: a sweep of ours:* would delete more than ", "ok redis walk: a pass over the more than 1", 300, 700},
	} {
		var f findings
		o, err := redis.ParseURL(c.url)
		if err != nil {
			t.Fatal(err)
		}
		d := newRedisCheck(t.Context(), &redis.UniversalOptions{Addrs: []string{o.Addr}}, 5*time.Second, set, f.add)
		d.walkFor = 0
		s, err := d.connect(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		d.walk(t.Context(), []*server{s})
		d.close()
		f.has(t, c.keys)
		f.has(t, c.walk)
		var n int
		if _, err := fmt.Sscan(strings.TrimPrefix(f[0], c.keys), &n); err != nil || n < c.from || n > c.to {
			t.Errorf("%d keys, %v: %s", n, err, f[0])
		}
	}
}
