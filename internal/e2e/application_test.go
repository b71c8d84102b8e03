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

	"pgevict/internal/livetest/workload"
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
	"action":   `SELECT coalesce((SELECT a::text FROM actions a WHERE id = $1::bigint), 'none')`,
	"owner":    `SELECT coalesce(string_agg(a::text, ' ' ORDER BY id), 'none') FROM actions a WHERE actionable_type = $1 AND actionable_id = $2::bigint AND $3 = 'actions'`,
	"actions":  `SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), 'none') FROM actions WHERE $1 = 'list' AND type = $2`,
	"member":   `SELECT coalesce((SELECT m::text FROM members m WHERE org = $1 AND user_id = $2::bigint), 'none')`,
	"profile":  `SELECT coalesce((SELECT p::text FROM profiles p WHERE id = $1::bigint), 'none')`,
	"email":    `SELECT coalesce(string_agg(p::text, ' ' ORDER BY id), 'none') FROM profiles p WHERE email = $1 AND $2 = 'profile'`,
	"view":     `SELECT coalesce(string_agg(a::text, ' ' ORDER BY id), 'none') FROM actions a WHERE actionable_id = trim($1, '{}')::bigint AND $2 <> ''`,
	"profiles": `SELECT coalesce((SELECT p::text FROM profiles p WHERE $1 = 'all' AND id = $2::bigint), 'none')`,
}

// locate has the application keep a value under a key of its own, or in a field of a hash, or under a key that its tag alone
// leads to.
func locate(key string) workload.Place {
	const all = "profiles:all"
	if field, ok := strings.CutPrefix(key, all+":"); ok {
		return workload.Place{Hash: all, Field: field}
	}
	if rest, ok := strings.CutPrefix(key, "view:"); ok { // in the same slot as the set that names it
		owner, _, _ := strings.Cut(rest, ":")
		return workload.Place{Tag: "tag:owner:" + owner}
	}
	return workload.Place{}
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

func allKeys() []string {
	var keys []string
	for window := range windows {
		keys = append(keys, workKeys(window)...)
	}
	return keys
}

// application has writers and cache-aside readers, both without the links.
type application struct {
	*world
	*workload.App
	window           atomic.Int64
	writes           atomic.Int64
	writers, readers context.CancelFunc
	writing, reading sync.WaitGroup
}

// newApplication returns one that stands still.
func newApplication(w *world, truths map[string]string) *application {
	return &application{world: w, App: &workload.App{URL: w.dsn, Cache: w.cache, Truths: truths, Locate: locate, Slow: againAfter / 2}}
}

// start fills the cache with every key, and has the application work until the end of the test.
func (a *application) start() {
	a.Helper()
	conn := a.connect()
	for _, key := range allKeys() {
		a.must(a.Read(a.Context(), conn, key))
	}
	var writing context.Context
	writing, a.writers = context.WithCancel(a.Context())
	for range 3 {
		a.writing.Go(func() { a.Loop(writing, 4*time.Millisecond, a.write) })
	}
	a.startReaders()
	a.Cleanup(a.stop)
}

func (a *application) startReaders() {
	var reading context.Context
	reading, a.readers = context.WithCancel(a.Context())
	for range 3 {
		a.reading.Go(func() { a.Loop(reading, 2*time.Millisecond, a.readAny) })
	}
}

func (a *application) stopReaders() {
	a.readers()
	a.reading.Wait()
}

// write commits one transaction, or now and then rolls it back.
func (a *application) write(ctx context.Context, conn *pgx.Conn) error {
	window := int(a.window.Load())
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
		a.writes.Add(1)
	}
	return err
}

func (a *application) readAny(ctx context.Context, conn *pgx.Conn) error {
	keys := workKeys(rand.IntN(windows))
	return a.Read(ctx, conn, keys[rand.IntN(len(keys))])
}

// work waits until the application has written and filled some more.
func (a *application) work() {
	a.Helper()
	writes, fills := a.writes.Load()+100, a.Fills()+100
	eventually(a, "the application works", func() bool {
		return a.writes.Load() >= writes && a.Fills() >= fills
	})
}

// miss is work of which the sidecar hears nothing, or cannot pass on. Nothing is deleted then, so to make readers fill,
// half of the keys go as if they had expired.
func (a *application) miss() {
	a.Helper()
	a.write100()
	for window := range windows {
		keys := workKeys(window)
		rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		for _, key := range keys[:len(keys)/2] {
			a.must(a.Drop(a.Context(), key))
		}
	}
	a.work()
}

// write100 waits until the application has written some more, whether or not there is a Redis.
func (a *application) write100() {
	a.Helper()
	writes := a.writes.Load() + 100
	eventually(a, "the application writes", func() bool { return a.writes.Load() >= writes })
}

// fill100 waits until the readers have filled some of the cache.
func (a *application) fill100() {
	a.Helper()
	eventually(a, "the readers fill the cache", func() bool {
		pipe, cached := a.cache.Pipeline(), 0
		var values []*redis.StringCmd
		for _, key := range allKeys() {
			values = append(values, a.Get(a.Context(), pipe, key))
		}
		_, _ = pipe.Exec(a.Context()) // each has its own error
		for _, value := range values {
			if value.Err() == nil {
				cached++
			}
		}
		return cached >= 100
	})
}

func (a *application) stopWriters() {
	a.writers()
	a.writing.Wait()
}

func (a *application) stop() {
	a.stopWriters()
	a.stopReaders()
}
