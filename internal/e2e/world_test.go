package e2e_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

// notifyEvent makes both of the seed note's triggers possible.
const notifyEvent = "CREATE EXTENSION IF NOT EXISTS tcn;" + livetest.NotifyEvent

// tcnTrigger and eventTrigger are the seed note's triggers.
func tcnTrigger(table string) string {
	return "CREATE TRIGGER tcn_trigger AFTER INSERT OR UPDATE OR DELETE ON " + table +
		" FOR EACH ROW EXECUTE PROCEDURE triggered_change_notification();"
}

func eventTrigger(table string) string {
	return "CREATE TRIGGER event_trigger AFTER INSERT OR UPDATE OR DELETE ON " + table +
		" FOR EACH ROW EXECUTE PROCEDURE notify_event();"
}

// world is a Postgres, a Redis, a link to each that can be broken, and what a sidecar needs to know of them.
type world struct {
	testing.TB
	pg        *livetest.Postgres // nil: the shared one
	dsn       string             // of the database, without the link
	redis     *livetest.Redis    // nil: it is several servers, of one of these
	cluster   *livetest.RedisCluster
	sentinels *livetest.SentinelSet
	pgLink    *livetest.Proxy
	redisLink *livetest.Proxy       // to the one server
	cache     redis.UniversalClient // without the link
	environ   []string
}

const (
	heartbeat  = 500 * time.Millisecond
	againAfter = 600 * time.Millisecond
)

// newWorld makes the servers. pg is nil for a database on the shared server.
func newWorld(tb testing.TB, pg *livetest.Postgres, schema, rules string, redisArgs ...string) *world {
	tb.Helper()
	return newWorldWith(tb, pg, schema, rules, func(w *world) string { return w.oneRedis(redisArgs...) })
}

// newWorldWith has servers start what is Redis in this world, and give the URL for the sidecar.
func newWorldWith(tb testing.TB, pg *livetest.Postgres, schema, rules string, servers func(*world) (url string)) *world {
	tb.Helper()
	w := &world{TB: tb, pg: pg}
	var addr string
	if pg != nil {
		w.dsn, addr = pg.URL("postgres"), pg.Addr
	} else {
		w.dsn, addr = livetest.Database(tb), livetest.SharedPostgres(tb).Addr
	}
	w.pgLink = livetest.NewProxy(tb, addr)
	redisURL := servers(w)
	w.exec("SET synchronous_commit = on;" + schema) // a server that crashes and loses commits shall not lose its tables
	u, err := url.Parse(w.dsn)
	if err != nil {
		tb.Fatal(err)
	}
	u.Host = w.pgLink.Addr
	w.environ = []string{
		"DATABASE_URL=" + u.String(),
		"REDIS_URL=" + redisURL,
		rulesFile(tb, rules),
		"PGEVICT_HEARTBEAT=" + heartbeat.String(),
		"PGEVICT_AGAIN_AFTER=" + againAfter.String(),
	}
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) connect() *pgx.Conn {
	w.Helper()
	conn, err := pgx.Connect(w.Context(), w.dsn)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// exec runs statements on a connection of their own.
func (w *world) exec(sql string, args ...any) {
	w.Helper()
	conn, err := pgx.Connect(w.Context(), w.dsn)
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close(w.Context())
	if _, err := conn.Exec(w.Context(), sql, args...); err != nil {
		w.Fatalf("%s: %v", sql, err)
	}
}

// serve starts a sidecar in this world; what is given beats the world's environment.
func (w *world) serve(environ ...string) *program {
	w.Helper()
	return serve(w.TB, append(append([]string{}, w.environ...), environ...)...)
}

// serveReady starts a sidecar, and waits until the sweep of its start and the one that follows are done.
func (w *world) serveReady(environ ...string) *program {
	w.Helper()
	p := w.serve(environ...)
	p.waitReady()
	w.rest(p)
	return p
}

// rest waits until all that was committed until now has been applied, twice.
func (w *world) rest(p *program) {
	w.Helper()
	p.waitApplied(time.Now())
	p.waitApplied(time.Now().Add(againAfter*9/8 + 50*time.Millisecond))
}
