package livetest

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
		return
	}
	Main(m)
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // a transaction pooler has no prepared statements
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

func mustExec(t *testing.T, url, sql string) {
	t.Helper()
	conn := connect(t, url)
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
}

func queryInt(t *testing.T, url, sql string) (n int) {
	t.Helper()
	conn := connect(t, url)
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
	return n
}

func client(t *testing.T, r *Redis) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(r.URL())
	if err != nil {
		t.Fatal(err)
	}
	options.MaxRetries = -1
	options.ReadTimeout = 100 * time.Millisecond
	rdb := redis.NewClient(options)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func TestPostgresKeepsCommitsOverEveryStop(t *testing.T) {
	t.Parallel()
	pg := NewPostgres(t, "max_connections=17")
	url := pg.URL("postgres")
	if n := queryInt(t, url, "SELECT setting::int FROM pg_settings WHERE name = 'max_connections'"); n != 17 {
		t.Errorf("max_connections = %d", n)
	}
	mustExec(t, url, "CREATE TABLE kept (mode text)")
	for i, mode := range []string{"smart", "fast", "immediate"} {
		mustExec(t, url, "INSERT INTO kept VALUES ('"+mode+"')")
		if err := pg.Stop(mode); err != nil {
			t.Fatal(err)
		}
		if _, err := pgx.Connect(t.Context(), url); err == nil {
			t.Fatalf("connected after a %s stop", mode)
		}
		if err := pg.Start(); err != nil {
			t.Fatal(err)
		}
		if n := queryInt(t, url, "SELECT count(*) FROM kept"); n != i+1 {
			t.Errorf("%d rows after a %s stop, want %d", n, mode, i+1)
		}
	}
	if n := queryInt(t, url, "SELECT setting::int FROM pg_settings WHERE name = 'max_connections'"); n != 17 {
		t.Errorf("max_connections = %d after a restart", n)
	}
	if err := pg.Start(); err == nil {
		t.Error("no error from Start of a running server")
	}
	if err := pg.Stop("gentle"); err == nil {
		t.Error("no error from an unknown mode")
	}
	if err := pg.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(pg.Dir); !os.IsNotExist(err) {
		t.Errorf("after Close: %v", err)
	}
}

func TestPostgresSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	pg, err := StartPostgres("max_connections=many")
	if err == nil {
		t.Fatal("no error", pg.Close())
	}
	if !strings.Contains(err.Error(), `invalid value for parameter "max_connections"`) {
		t.Error(err)
	}
}

func TestDatabasesAreEmptyAndSeparate(t *testing.T) {
	t.Parallel()
	first, second := Database(t), Database(t)
	mustExec(t, first, "CREATE TABLE mine ()")
	if n := queryInt(t, second, "SELECT count(*) FROM pg_tables WHERE tablename = 'mine'"); n != 0 {
		t.Error("the table of one database is in another")
	}
}

func TestDatabaseIsDroppedWithItsConnections(t *testing.T) {
	t.Parallel()
	t.Run("user", func(t *testing.T) {
		conn, err := pgx.Connect(t.Context(), Database(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(t.Context()) })
	})
	// Other tests may have theirs.
	name := func(url string) string {
		return strings.TrimSuffix(url[strings.LastIndex(url, "/")+1:], "?sslmode=disable")
	}
	var dropped string
	t.Run("name", func(t *testing.T) { dropped = name(Database(t)) })
	n := queryInt(t, SharedPostgres(t).URL("postgres"), "SELECT count(*) FROM pg_database WHERE datname = '"+dropped+"'")
	if n != 0 {
		t.Errorf("%s is still there", dropped)
	}
}

func TestRedisLosesWhatIsNotSaved(t *testing.T) {
	t.Parallel()
	r := NewRedis(t, "--maxmemory", "64mb")
	rdb := client(t, r)
	ctx := t.Context()
	if got := rdb.ConfigGet(ctx, "maxmemory").Val()["maxmemory"]; got != "67108864" {
		t.Errorf("maxmemory = %q", got)
	}
	if err := rdb.Set(ctx, "saved", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := rdb.Save(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if err := rdb.Set(ctx, "unsaved", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := rdb.Ping(ctx).Err(); err == nil {
		t.Fatal("a killed server answers")
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	again := client(t, r)
	keys, err := again.Keys(ctx, "*").Result()
	if err != nil || len(keys) != 1 || keys[0] != "saved" {
		t.Errorf("keys = %q, %v", keys, err)
	}
	if got := again.ConfigGet(ctx, "maxmemory").Val()["maxmemory"]; got != "0" {
		t.Errorf("maxmemory = %q after a start without it", got)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.Dir); !os.IsNotExist(err) {
		t.Errorf("after Close: %v", err)
	}
}

func TestRedisStartWaitsForTheLoad(t *testing.T) {
	t.Parallel()
	r := NewRedis(t, "--enable-debug-command", "yes")
	rdb := client(t, r)
	if err := rdb.Do(t.Context(), "DEBUG", "POPULATE", "500").Err(); err != nil {
		t.Fatal(err)
	}
	if err := rdb.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	// A millisecond a key, and a look at its clients after every one of them.
	err := r.Start("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := client(t, r).DBSize(t.Context()).Result(); n != 500 || err != nil {
		t.Errorf("%d keys, %v", n, err)
	}
}

func TestRedisPauses(t *testing.T) {
	t.Parallel()
	r := NewRedis(t)
	rdb := client(t, r)
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	r.Pause()
	if err := rdb.Ping(t.Context()).Err(); err == nil {
		t.Error("a paused server answers")
	}
	r.Resume()
	Eventually(t, 10*time.Second, "it answers again", func() bool { return rdb.Ping(t.Context()).Err() == nil })
	r.Pause() // and Close must manage
}

func TestRedisSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	r, err := StartRedis("--maxmemory", "much")
	if err == nil {
		t.Fatal("no error", r.Close())
	}
	if !strings.Contains(err.Error(), "argument must be a memory value") {
		t.Error(err)
	}
}

func TestValkeyStarts(t *testing.T) {
	t.Parallel()
	r := NewValkey(t, "--maxmemory", "64mb")
	info, err := client(t, r).Info(t.Context(), "server").Result()
	if err != nil || !strings.Contains(info, "\nvalkey_version:") || !strings.Contains(info, "\nredis_version:") {
		t.Errorf("%s, %v", info, err)
	}
}

func TestPgBouncerSharesServerConnections(t *testing.T) {
	t.Parallel()
	url := Database(t)
	name := url[strings.LastIndex(url, "/")+1 : strings.LastIndex(url, "?")]
	for mode, shares := range map[string]bool{"transaction": true, "session": false} {
		b := NewPgBouncer(t, SharedPostgres(t), mode)
		one, two := connect(t, b.URL(name)), connect(t, b.URL(name))
		var pids [2]int
		for i, conn := range []*pgx.Conn{one, two} {
			if err := conn.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&pids[i]); err != nil {
				t.Fatal(err)
			}
		}
		if (pids[0] == pids[1]) != shares {
			t.Errorf("%s mode: backends %v", mode, pids)
		}
	}
}

func TestPgBouncerSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	b, err := StartPgBouncer(SharedPostgres(t), "lazy")
	if err == nil {
		t.Fatal("no error", b.Close())
	}
	if !strings.Contains(err.Error(), "pool_mode") {
		t.Error(err)
	}
}

// Sentinel and Cluster are the same program, with other arguments, and answer a little differently.
func TestRedisAsSentinelAndClusterNode(t *testing.T) {
	t.Parallel()
	master := NewRedis(t)
	ctx := t.Context()
	sentinel := client(t, NewRedis(t, "--sentinel"))
	host, port, _ := strings.Cut(master.Addr, ":")
	if err := sentinel.Do(ctx, "SENTINEL", "MONITOR", "main", host, port, 1).Err(); err != nil {
		t.Error(err)
	}
	node := client(t, NewRedis(t, "--cluster-enabled", "yes"))
	if info := node.Info(ctx, "cluster").Val(); !strings.Contains(info, "cluster_enabled:1") {
		t.Error(info)
	}
}
