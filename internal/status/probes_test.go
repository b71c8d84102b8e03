package status

import (
	"fmt"
	"net/http/httptest"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/invalidate"
	"pgevict/pgnotify/postgres"
)

// TestProbesSayWhatIsWrong wants the peer, since when, and the kind of the error, and nothing of the error's text.
func TestProbesSayWhatIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMetrics("test")
		var options invalidate.Options
		m.Observe(&options)
		redis := options.RedisObserver
		var canary time.Time
		handler := Handler(func() invalidate.Stats { return invalidate.Stats{Canary: canary} }, 2*time.Second, m)
		says := func(path string, status int, pattern string) {
			t.Helper()
			r := httptest.NewRecorder()
			handler.ServeHTTP(r, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
			if r.Code != status || !regexp.MustCompile("^"+pattern+"\n$").MatchString(r.Body.String()) {
				t.Errorf("%s: %d %q, want %q", path, r.Code, r.Body, pattern)
			}
		}
		const since = `, since 2000-01-01T00:\d\d:\d\dZ`
		says("/livez", 200, "ok")
		says("/readyz", 503, `postgres: not connected for 0s`+since+`; redis: not connected for 0s`+since+`; no canary .* yet, for 0s`+since)

		time.Sleep(10 * time.Second)
		m.Listening(fmt.Errorf("connect: %w", &pgconn.PgError{Code: "28P01", Message: "hunter2"}))
		redis.Failed("timeout")
		redis.Connected(false)
		says("/startupz", 503, `postgres: not connected for 10s`+since+`: auth; redis: not connected for 10s`+since+`: timeout; no canary .* yet, for 10s`+since)

		m.Listening(nil)
		says("/startupz", 503, `redis: not connected for 10s`+since+`: timeout; no canary .*`)
		redis.Connected(true)
		time.Sleep(time.Minute)
		says("/startupz", 503, `no canary .* yet, for 1m10s`+since+`, though both are connected`)
		canary = time.Now()
		says("/startupz", 200, "ok")
		says("/readyz", 200, "ok")

		// Redis answers, and takes no position.
		for range 12 {
			time.Sleep(time.Second)
			redis.Failed("oom")
		}
		says("/startupz", 200, "ok")
		says("/readyz", 503, `redis: connected, but with errors for 11s`+since+`: oom; no canary .* for 12s`+since)
		canary = time.Now()
		says("/readyz", 200, "ok")

		m.Listening(postgres.ErrDeaf)
		time.Sleep(6500 * time.Millisecond)
		says("/readyz", 503, `postgres: not connected for 6.5s`+since+`: deaf; (redis: .*; )?no canary .* for 6.5s`+since)
	})
}
