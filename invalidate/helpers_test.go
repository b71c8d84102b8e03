package invalidate

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"pgevict/internal/livetest"
	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

const soon = 20 * time.Second

func TestMain(m *testing.M) {
	logging.Disable() // the client's own, which tells of every dial that fails
	livetest.Main(m)
}

// image is a row of which these columns are known.
type image map[string]string

func (i image) Column(name string) (text string, null, known bool) {
	text, known = i[name]
	return text, false, known
}

// templates makes rules of names and templates in turn; each rule's table is called like it.
func templates(tb testing.TB, pairs ...string) *rules.Set {
	tb.Helper()
	var b strings.Builder
	b.WriteString("rules:\n")
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, "  - {name: '%s', table: '%s', keys: ['%s']}\n", pairs[i], strings.SplitN(pairs[i], "-", 2)[0],
			strings.ReplaceAll(pairs[i+1], "'", "''"))
	}
	set, err := rules.Parse("rules.yaml", []byte(b.String()))
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

// of returns the targets of a new row of a table.
func of(set *rules.Set, table string, row image) (targets []rules.Target) {
	for t := range set.Match(rules.Change{Table: table, Op: rules.Insert, Rows: []rules.Row{{New: row}}}) {
		targets = append(targets, t)
	}
	return targets
}

// ids returns the targets of n new rows of a table, by the column id.
func ids(set *rules.Set, table string, from, n int) []rules.Target {
	targets := make([]rules.Target, 0, n)
	for i := from; i < from+n; i++ {
		targets = append(targets, of(set, table, image{"id": fmt.Sprint(i)})...)
	}
	return targets
}

// witness is told what happens, as Options want it.
type witness struct {
	mu        sync.Mutex
	evicted   map[string]int64
	widened   map[string]int
	errors    map[string]int
	refreshed map[string]int
	unread    map[string]int
	applied   int
	waited    time.Duration // the longest of them
	swept     int
	canaries  int
	connected bool
	gaps      []string
}

func (w *witness) with(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

func (w *witness) Evicted(t rules.Target, n int64) { w.with(func() { w.evicted[t.Rule()] += n }) }
func (w *witness) Widened(t rules.Target, n int)   { w.with(func() { w.widened[t.Rule()] += n }) }
func (w *witness) Failed(kind string)              { w.with(func() { w.errors[kind]++ }) }
func (w *witness) Applied(_ rules.Target, waited time.Duration) {
	w.with(func() { w.applied++; w.waited = max(w.waited, waited) })
}
func (w *witness) Connected(yes bool)   { w.with(func() { w.connected = yes }) }
func (w *witness) Canary(time.Duration) { w.with(func() { w.canaries++ }) }
func (w *witness) gap(why string)       { w.with(func() { w.gaps = append(w.gaps, why) }) }
func (w *witness) sweptAll()            { w.with(func() { w.swept++ }) }
func (w *witness) Refreshed(t rules.Target, err error) {
	w.with(func() {
		if err == nil {
			w.refreshed[t.Rule()]++
		} else {
			w.unread[t.Rule()]++
		}
	})
}

func (w *witness) look(get func(*witness) bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return get(w)
}

func (w *witness) gapsOf(why string) (n int) {
	w.with(func() {
		for _, g := range w.gaps {
			if g == why {
				n++
			}
		}
	})
	return n
}

// failures counts the times that Redis did not answer.
func (w *witness) failures() (n int) {
	w.with(func() { n = w.errors["connection"] + w.errors["timeout"] })
	return n
}

func (w *witness) evictedOf(rule string) (n int64) {
	w.with(func() { n = w.evicted[rule] })
	return n
}

func (w *witness) refreshedOf(rule string) (n int) {
	w.with(func() { n = w.refreshed[rule] })
	return n
}

// kit is a queue before a real Redis, and another way to that.
type kit struct {
	*Queue
	only *shard // of one server
	seen *witness
	logs *observer.ObservedLogs
	rdb  *redis.Client // the test's own
	tb   testing.TB
	ctx  context.Context
	stop func() // ends Run and waits for it
}

// makeQueue makes a queue before the Redis at url that does not run yet.
func makeQueue(tb testing.TB, url string, change ...func(*Options)) *kit {
	tb.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		tb.Fatal(err)
	}
	u := &redis.UniversalOptions{Addrs: []string{o.Addr}, DB: o.DB, Username: o.Username, Password: o.Password}
	k := makeQueueAt(tb, u, change...)
	k.rdb = connect(tb, url)
	return k
}

// makeQueueAt makes one of which the test has no other way to Redis yet.
func makeQueueAt(tb testing.TB, u *redis.UniversalOptions, change ...func(*Options)) *kit {
	tb.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	w := &witness{evicted: map[string]int64{}, widened: map[string]int{}, errors: map[string]int{},
		refreshed: map[string]int{}, unread: map[string]int{}}
	options := Options{MaxPending: 200_000, Timeout: 5 * time.Second, Gap: w.gap, Sweeping: func() {}, Swept: w.sweptAll, Observer: w, RefreshObserver: w, RedisObserver: w, Log: zap.New(core)}
	for _, c := range change {
		c(&options)
	}
	k := &kit{Queue: New(u, options), seen: w, logs: logs, tb: tb, ctx: tb.Context(), stop: func() {}}
	k.only = k.cluster.shards[""]
	tb.Cleanup(func() { _ = k.only.rdb.Close() })
	return k
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

// run starts the queue.
func (k *kit) run() *kit {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.Run(ctx)
	}()
	k.stop = sync.OnceFunc(func() { cancel(); <-done })
	k.tb.Cleanup(k.stop)
	return k
}

// through is the mark below which everything is applied, as the only shard may write it.
func (k *kit) through(refused bool) Mark {
	safe, _ := k.pending.through(k.only.lane, refused)
	return safe
}

// idle waits until nothing waits.
func (k *kit) idle() {
	k.tb.Helper()
	livetest.Eventually(k.tb, soon, "nothing waits", func() bool { return k.Stats().Pending == 0 })
}

// set gives keys values.
func (k *kit) set(keys ...string) {
	k.tb.Helper()
	for start := 0; start < len(keys); start += 5000 {
		pipe := k.rdb.Pipeline()
		for _, key := range keys[start:min(start+5000, len(keys))] {
			pipe.Set(k.ctx, key, "v", 0)
		}
		if _, err := pipe.Exec(k.ctx); err != nil {
			k.tb.Fatal(err)
		}
	}
}

func (k *kit) setTargets(targets []rules.Target) {
	k.tb.Helper()
	keys := make([]string, len(targets))
	for i, t := range targets {
		keys[i] = t.Key
	}
	k.set(keys...)
}

// save has the next start of a killed Redis find what is there now.
func (k *kit) save() {
	k.tb.Helper()
	if err := k.rdb.Save(k.ctx).Err(); err != nil {
		k.tb.Fatal(err)
	}
}

func (k *kit) exists(key string) bool {
	k.tb.Helper()
	n, err := k.rdb.Exists(k.ctx, key).Result()
	if err != nil {
		k.tb.Fatal(err)
	}
	return n == 1
}

func (k *kit) gone(key string) {
	k.tb.Helper()
	livetest.Eventually(k.tb, soon, fmt.Sprintf("%.40q is gone", key), func() bool {
		n, err := k.rdb.Exists(k.ctx, key).Result()
		return err == nil && n == 0
	})
}

// keys returns all keys but positions.
func (k *kit) keys() map[string]bool {
	k.tb.Helper()
	all, err := k.rdb.Keys(k.ctx, "*").Result()
	if err != nil {
		k.tb.Fatal(err)
	}
	keys := map[string]bool{}
	for _, key := range all {
		if !strings.HasPrefix(key, PositionPrefix) {
			keys[key] = true
		}
	}
	return keys
}

// calls tells how often Redis has executed a command.
func (k *kit) calls(command string) (n int) {
	k.tb.Helper()
	info, err := k.rdb.Info(k.ctx, "commandstats").Result()
	if err != nil {
		k.tb.Fatal(err)
	}
	_, _ = fmt.Sscanf(redisnode.InfoField(info, "cmdstat_"+command), "calls=%d,", &n) // none: 0
	return n
}

// position reads what the queue has written last, by a number of its own and Postgres' position.
func (k *kit) position() (number, position uint64) {
	k.tb.Helper()
	for _, key := range k.rdb.Keys(k.ctx, PositionPrefix+k.id+"*").Val() {
		if n, p := k.positionAt(key); n >= number {
			number, position = n, p
		}
	}
	return number, position
}

func (k *kit) positionAt(key string) (number, position uint64) {
	var id string
	_, _ = fmt.Sscan(k.rdb.Get(k.ctx, key).Val(), &id, &number, &position) // none: 0
	return number, position
}

// markAt marks a position, sent now.
func (k *kit) markAt(position uint64) {
	k.Mark(Mark{Position: position, Sent: time.Now()})
}

// canary marks a position and waits until it has gone through Redis.
func (k *kit) canary(position uint64) {
	k.tb.Helper()
	before := 0
	k.seen.with(func() { before = k.seen.canaries })
	k.markAt(position)
	livetest.Eventually(k.tb, soon, "a canary goes through", func() bool {
		return k.seen.look(func(w *witness) bool { return w.canaries > before })
	})
}
