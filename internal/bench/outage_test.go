package bench_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"pgevict/internal/livetest"
)

// BenchmarkOutage measures how soon pgevict finds out that a link is broken, says that it is not ready, and has repaired what was
// missed once the link is back. The tests wait for all three, however long that takes on a machine that is busy.
func BenchmarkOutage(b *testing.B) {
	const heartbeat = time.Second
	turns := 5
	if testing.Short() {
		turns = 1
	}
	lines := []string{"the link\tfound\tnot ready\trepaired"}
	for _, outage := range []struct {
		name   string
		breaks func(pg, redis *livetest.Proxy)
		says   string
	}{
		{"to Postgres is cut", func(pg, _ *livetest.Proxy) { pg.Cut() }, "not listening to Postgres"},
		{"to Redis is cut", func(_, redis *livetest.Proxy) { redis.Cut() }, "Redis did not do it"},
		{"to Redis stalls", func(_, redis *livetest.Proxy) { redis.Stall() }, "Redis did not do it"},
	} {
		r := livetest.NewRedis(b)
		rdb := benchRedis(b, r)
		databaseURL := livetest.Database(b)
		conn := benchConnect(b, databaseURL)
		benchExec(b, conn, "CREATE EXTENSION tcn; CREATE TABLE actions (id bigint PRIMARY KEY); CREATE TRIGGER changed AFTER INSERT OR DELETE ON actions"+
			" FOR EACH ROW EXECUTE FUNCTION triggered_change_notification()")
		pgLink, redisLink := livetest.NewProxy(b, livetest.SharedPostgres(b).Addr), livetest.NewProxy(b, r.Addr)
		u, err := url.Parse(databaseURL)
		if err != nil {
			b.Fatal(err)
		}
		u.Host = pgLink.Addr
		sidecar := startBenchSidecar(b, benchEnviron(b, u.String(), "redis://"+redisLink.Addr, actionRules, "PGEVICT_HEARTBEAT="+heartbeat.String()))
		sidecar.ready()
		var found, unready, repaired []time.Duration
		for range turns {
			fillKeys(b, rdb, 1, actionKey)
			n, began := len(sidecar.Log.Lines()), time.Now()
			outage.breaks(pgLink, redisLink)
			if _, err := sidecar.Logged(n, outage.says); err != nil {
				b.Fatal(err)
			}
			found = append(found, time.Since(began))
			benchExec(b, conn, "INSERT INTO actions VALUES ($1)", firstID)
			livetest.Eventually(b, time.Minute, "not ready", func() bool { return !sidecar.is("/readyz", http.StatusOK) })
			unready = append(unready, time.Since(began))

			began = time.Now()
			pgLink.Heal()
			redisLink.Heal()
			livetest.Eventually(b, time.Minute, "the key is gone", func() bool { return rdb.Exists(b.Context(), actionKey(0)).Val() == 0 })
			repaired = append(repaired, time.Since(began))
			benchExec(b, conn, "DELETE FROM actions")
			sidecar.ready()
		}
		// What a busy machine adds is no fault; a whole heartbeat more would be.
		if took := median(found); took > 3*heartbeat {
			b.Errorf("%s: found after %v, which are more than two heartbeats", outage.name, took)
		}
		if took := median(unready); took < 2*heartbeat || took > 4*heartbeat {
			b.Errorf("%s: not ready after %v, and it must be three heartbeats after the last canary", outage.name, took)
		}
		if took := median(repaired); took > 2*heartbeat {
			b.Errorf("%s: repaired after %v", outage.name, took)
		}
		lines = append(lines, fmt.Sprintf("%s\t%.2f s\t%.2f s\t%.2f s", outage.name, median(found).Seconds(), median(unready).Seconds(), median(repaired).Seconds()))
	}
	table(b, lines...)
}
