package doctor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
	"pgevict/rules"
)

func TestMain(m *testing.M) { livetest.Main(m) }

// soon is far longer than anything here takes.
const soon = 20 * time.Second

// wide is what a rules file may hold: all kinds of targets.
const wide = `rules:
  - {name: a, table: a, keys: ['a:{id}', 'b:{{{id}}}:x']}
  - {name: p, table: p, keys: ['p:{id}:*', 'q:{{{id}}}:*']}
  - {name: t, table: t, tags: ['tag:{id}']}
  - {name: f, table: f, fields: [{key: 'h:{id}', field: '{name}'}]}
`

func parseRules(tb testing.TB, text string) *rules.Set {
	tb.Helper()
	set, err := rules.Parse("rules.yaml", []byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

func numbered(format string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf(format, i)
	}
	return keys
}

func connect(tb testing.TB, url string) *redis.Client {
	tb.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		tb.Fatal(err)
	}
	rdb := redis.NewClient(o)
	tb.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// mayConnect is what a user needs to be talked to at all.
const mayConnect = "+@connection"

// as makes a user of limited rights, and returns the URL that it connects with.
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

// findings collects what is found, a line each.
type findings []string

func (f *findings) add(one Finding) {
	*f = append(*f, fmt.Sprintf("%s %s: %s → %s", one.Status, one.Check, one.Found, one.Do))
}

// has checks for a line that begins with one text and holds the others.
func (f findings) has(t *testing.T, begins string, holds ...string) {
	t.Helper()
	for _, line := range f {
		all := strings.HasPrefix(line, begins)
		for _, part := range holds {
			all = all && strings.Contains(line, part)
		}
		if all {
			return
		}
	}
	t.Errorf("no %q %q in\n%s", begins, holds, strings.Join(f, "\n"))
}
