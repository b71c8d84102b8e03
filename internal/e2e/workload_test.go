package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

// The workload: actions tells both channels, members only tcn, profiles only events. Some keys are of columns that change.
const workSchema = notifyEvent + `
CREATE TABLE actions (id bigint PRIMARY KEY, type text, actionable_type text, actionable_id bigint, version bigint DEFAULT 0);
CREATE TABLE members (org text, user_id bigint, version bigint DEFAULT 0, PRIMARY KEY (org, user_id));
CREATE TABLE profiles (id bigint PRIMARY KEY, email text, version bigint DEFAULT 0);
`

var workTriggers = tcnTrigger("actions") + eventTrigger("actions") + tcnTrigger("members") + eventTrigger("profiles")

const workRules = `
rules:
  - table: actions
    keys: ["action:{id}", "owner:{actionable_type}:{actionable_id}:actions"]
  - {name: lists, table: actions, on: [insert, delete, truncate], keys: ["actions:list:*"]}
  - {table: members, keys: ["member:{org}:{user_id}"]}
  - {table: profiles, keys: ["email:{email}:profile"]}
  - {name: refreshed, table: profiles, keys: ["profile:{id}"], refresh: {query: "SELECT p::text FROM profiles p WHERE id = {id}"}}
  - {name: views, table: actions, tags: ["tag:owner:{{{actionable_id}}}"]}
  - {name: all, table: profiles, fields: [{key: "profiles:all", field: "{id}"}]}
`

// truths gives, for each kind of key, the query for what its value must be, of the parts of the key. What does not exist
// is cached too.
var truths = map[string]string{
	"action":       `SELECT coalesce((SELECT a::text FROM actions a WHERE id = $1::bigint), 'none')`,
	"owner":        `SELECT coalesce(string_agg(a::text, ' ' ORDER BY id), 'none') FROM actions a WHERE actionable_type = $1 AND actionable_id = $2::bigint AND $3 = 'actions'`,
	"actions:list": `SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), 'none') FROM actions WHERE type = $1`,
	"member":       `SELECT coalesce((SELECT m::text FROM members m WHERE org = $1 AND user_id = $2::bigint), 'none')`,
	"profile":      `SELECT coalesce((SELECT p::text FROM profiles p WHERE id = $1::bigint), 'none')`,
	"email":        `SELECT coalesce(string_agg(p::text, ' ' ORDER BY id), 'none') FROM profiles p WHERE email = $1 AND $2 = 'profile'`,
	"view":         `SELECT coalesce(string_agg(a::text, ' ' ORDER BY id), 'none') FROM actions a WHERE actionable_id = trim($1, '{}')::bigint AND $2 <> ''`,
	"profiles":     `SELECT coalesce((SELECT p::text FROM profiles p WHERE $1 = 'all' AND id = $2::bigint), 'none')`,
}

func truth(ctx context.Context, conn *pgx.Conn, key string) (value string, err error) {
	parts := strings.Split(key, ":")
	kind, parts := parts[0], parts[1:]
	if kind == "actions" {
		kind, parts = "actions:list", parts[1:]
	}
	args := make([]any, len(parts))
	for i, part := range parts {
		args[i] = part
	}
	err = conn.QueryRow(ctx, truths[kind], append([]any{pgx.QueryExecModeExec}, args...)...).Scan(&value)
	return value, err
}

// A window is a part of the rows. Each phase of an outage writes to its own, so that what one phase missed is not put
// right by the writes of the next.
const (
	windows    = 3
	windowRows = 60
)

// workKeys lists the keys of a window.
func workKeys(window int) []string {
	var keys []string
	for i := range windowRows {
		id := window*windowRows + i
		keys = append(keys, fmt.Sprintf("action:%d", id), fmt.Sprintf("member:org%d:%d", id%3, id), fmt.Sprintf("profile:%d", id))
		if i%10 == 0 {
			keys = append(keys, fmt.Sprintf("owner:composite:%d:actions", id/10), fmt.Sprintf("email:%d@example.org:profile", id/10))
			keys = append(keys, fmt.Sprintf("view:{%d}:1", id/10), fmt.Sprintf("view:{%d}:2", id/10))
		}
		keys = append(keys, fmt.Sprintf("profiles:all:%d", id))
	}
	return append(keys, fmt.Sprintf("actions:list:type%d", window))
}

// workload is an application with writers and cache-aside readers, both without the links.
type workload struct {
	*world
	window                atomic.Int64
	writes, fills, failed atomic.Int64
	writers, readers      context.CancelFunc
	writing, reading      sync.WaitGroup
}

// newWorkload fills the cache with every key, and starts the application.
func newWorkload(w *world) *workload {
	w.Helper()
	l := &workload{world: w}
	conn := w.connect()
	for window := range windows {
		for _, key := range workKeys(window) {
			if err := l.read(w.Context(), conn, key); err != nil {
				w.Fatal(err)
			}
		}
	}
	var writing, reading context.Context
	writing, l.writers = context.WithCancel(w.Context())
	reading, l.readers = context.WithCancel(w.Context())
	for range 3 {
		l.writing.Go(func() { l.each(writing, 4*time.Millisecond, l.write) })
		l.reading.Go(func() { l.each(reading, 2*time.Millisecond, l.readAny) })
	}
	w.Cleanup(l.stop)
	return l
}

// each does something again and again on a connection that is made anew when it fails.
func (l *workload) each(ctx context.Context, every time.Duration, do func(context.Context, *pgx.Conn) error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var conn *pgx.Conn
	for {
		select {
		case <-ctx.Done():
			if conn != nil {
				_ = conn.Close(context.Background())
			}
			return
		case <-tick.C:
		}
		var err error
		if conn == nil {
			conn, err = pgx.Connect(ctx, l.dsn)
		}
		if err == nil {
			err = do(ctx, conn)
		}
		if err != nil {
			l.failed.Add(1)
			if conn != nil && conn.IsClosed() {
				conn = nil
			}
		}
	}
}

// write commits one transaction, or now and then rolls it back.
func (l *workload) write(ctx context.Context, conn *pgx.Conn) error {
	window := int(l.window.Load())
	id := func() int { return window*windowRows + rand.IntN(windowRows) }
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	action, member, profile := id(), id(), id()
	batch := &pgx.Batch{}
	// Always in the order of the tables, so that writers never wait for each other in a circle.
	switch choice := rand.IntN(8); choice {
	case 0, 1:
		batch.Queue(`DELETE FROM actions WHERE id = $1`, action)
	default:
		batch.Queue(`INSERT INTO actions VALUES ($1, $2, 'composite', $3)
			ON CONFLICT (id) DO UPDATE SET version = actions.version + 1, actionable_id = excluded.actionable_id`,
			action, fmt.Sprintf("type%d", window), id()/10)
	}
	if rand.IntN(4) == 0 {
		batch.Queue(`DELETE FROM members WHERE user_id = $1`, member)
	} else {
		batch.Queue(`INSERT INTO members VALUES ($1, $2) ON CONFLICT (org, user_id) DO UPDATE SET version = members.version + 1`,
			fmt.Sprintf("org%d", member%3), member)
	}
	if rand.IntN(4) == 0 {
		batch.Queue(`DELETE FROM profiles WHERE id = $1`, profile)
	} else {
		batch.Queue(`INSERT INTO profiles VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET version = profiles.version + 1, email = excluded.email`,
			profile, fmt.Sprintf("%d@example.org", id()/10))
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	if rand.IntN(10) == 0 {
		return tx.Rollback(ctx)
	}
	err = tx.Commit(ctx)
	if err == nil {
		l.writes.Add(1)
	}
	return err
}

func (l *workload) readAny(ctx context.Context, conn *pgx.Conn) error {
	keys := workKeys(rand.IntN(windows))
	return l.read(ctx, conn, keys[rand.IntN(len(keys))])
}

// work waits until the application has written and filled some more.
func (l *workload) work() {
	l.Helper()
	writes, fills := l.writes.Load()+100, l.fills.Load()+100
	livetest.Eventually(l, 30*time.Second, "the application works", func() bool {
		return l.writes.Load() >= writes && l.fills.Load() >= fills
	})
}

// miss is work of which the sidecar hears nothing, or cannot pass on. Nothing is deleted then, so to make readers fill,
// half of the keys go as if they had expired.
func (l *workload) miss() {
	l.Helper()
	l.write100()
	for window := range windows {
		keys := workKeys(window)
		rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		for _, key := range keys[:len(keys)/2] {
			if err := drop(l.Context(), l.cache, key); err != nil {
				l.Fatal(err)
			}
		}
	}
	l.work()
}

// write100 waits until the application has written some more, whether or not there is a Redis.
func (l *workload) write100() {
	l.Helper()
	writes := l.writes.Load() + 100
	livetest.Eventually(l, 30*time.Second, "the application writes", func() bool { return l.writes.Load() >= writes })
}

// fill100 waits until the readers have filled some of the cache.
func (l *workload) fill100() {
	l.Helper()
	livetest.Eventually(l, 60*time.Second, "the readers fill the cache", func() bool {
		pipe, cached := l.cache.Pipeline(), 0
		var values []*redis.StringCmd
		for window := range windows {
			for _, key := range workKeys(window) {
				values = append(values, get(l.Context(), pipe, key))
			}
		}
		_, _ = pipe.Exec(l.Context()) // each has its own error
		for _, value := range values {
			if value.Err() == nil {
				cached++
			}
		}
		return cached >= 100
	})
}

func (l *workload) stopWriters() {
	l.writers()
	l.writing.Wait()
}

func (l *workload) stop() {
	l.stopWriters()
	l.readers()
	l.reading.Wait()
}

// stale compares every cached value with Postgres.
func (l *workload) stale() (stale []string, cached int) {
	l.Helper()
	conn := l.connect()
	for window := range windows {
		for _, key := range workKeys(window) {
			value, err := get(l.Context(), l.cache, key).Result()
			if err == redis.Nil {
				continue
			}
			if err != nil {
				l.Fatal(err)
			}
			cached++
			want, err := truth(l.Context(), conn, key)
			if err != nil {
				l.Fatal(err)
			}
			if value != want {
				stale = append(stale, fmt.Sprintf("%s is %q, and must be %q", key, value, want))
			}
		}
	}
	return stale, cached
}

// foreign lists 10,000 keys that the rules of the workload cannot make.
func foreign() []string {
	names := []string{
		"action%d", "actions:%d", "Action:%d", "xaction:%d", "action;%d", "acti*n:%d", "actio?:%d", "[a]ction:%d", `acti\on:%d`, " action:%d",
		"owner:%d", "owner:composite:%d", "owner:composite:%d:actionss", "owners:composite:%d:actions", "owner:%d:actions",
		"actions:list%d", "actions:lists:%d", "action%d:list:*", "member%d:", "members:org1:%d", "member:%d", "profil:%d", "profiles:%d",
		"email:%d@example.org:profiles", "email:%d:profile:", "e-mail:%d:profile", "*%d", "%d*", "*:%d:*", "**?[a-z]^%d", "[%d", `\*%d`, "{id}%d",
		"%d", "session:%d", "ключ:%d", "鍵:%d", "a\x00b\n%d", "\xff\xfe%d", "pgevict:%d",
		"view:{%d}:3", "tag:owner:%d", "profiles:all%d",
	}
	var keys []string
	for i := range 10000 {
		keys = append(keys, fmt.Sprintf(names[i%len(names)], i))
	}
	return keys
}

// lost lists the foreign keys that are not there any more.
func (w *world) lost() []string {
	w.Helper()
	pipe, values := w.cache.Pipeline(), map[string]*redis.StringCmd{}
	for _, key := range foreign() {
		values[key] = pipe.Get(w.Context(), key)
	}
	if _, err := pipe.Exec(w.Context()); err != nil && err != redis.Nil {
		w.Fatal(err)
	}
	var lost []string
	for key, value := range values {
		if value.Val() != key {
			lost = append(lost, key)
		}
	}
	return lost
}
