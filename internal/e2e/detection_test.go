package e2e_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pgevict/internal/livetest"
)

const oneTable = notifyEvent + `CREATE TABLE actions (id bigint PRIMARY KEY, note text);`

const oneRule = `rules: [{table: actions, keys: ["action:{id}"]}]`

// TestDeadLinksAreFound breaks links, of which the sidecar is to say so, and no other thing that is wrong.
func TestDeadLinksAreFound(t *testing.T) {
	t.Parallel()
	const heartbeat = time.Second
	tests := map[string]struct {
		breaks func(*world)
		heal   func(*world)
		peer   string
		says   string
	}{
		"Postgres stalls":    {func(w *world) { w.pgLink.Stall() }, func(w *world) { w.pgLink.Heal() }, "postgres", "not listening to Postgres"},
		"Postgres is cut":    {func(w *world) { w.pgLink.Cut() }, func(w *world) { w.pgLink.Heal() }, "postgres", "not listening to Postgres"},
		"Redis stalls":       {func(w *world) { w.redisLink.Stall() }, func(w *world) { w.redisLink.Heal() }, "redis", "Redis did not do it"},
		"Redis is cut":       {func(w *world) { w.redisLink.Cut() }, func(w *world) { w.redisLink.Heal() }, "redis", "Redis did not do it"},
		"Redis hangs":        {func(w *world) { w.redis.Pause() }, func(w *world) { w.redis.Resume() }, "redis", "Redis did not do it"},
		"Redis is not there": {func(w *world) { _ = w.redis.Kill() }, func(w *world) { _ = w.redis.Start() }, "redis", "Redis did not do it"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
			p := w.serveReady("PGEVICT_HEARTBEAT=" + heartbeat.String())
			connected := `pgevict_connected{peer="` + test.peer + `"}`
			if p.metric(connected) != 1 {
				t.Errorf("%s is not 1 before the outage", connected)
			}
			for range 2 { // at different moments of a heartbeat
				n := len(p.Log.Lines())
				began := time.Now()
				test.breaks(w)
				p.loggedAfter(n, test.says)
				found := time.Since(began)
				eventually(t, connected+" is 0", func() bool { return p.metric(connected) == 0 })
				p.waitUnready()
				status, why := p.get("/readyz")
				if status != http.StatusServiceUnavailable || !strings.Contains(why, "no canary has gone through Postgres and Redis for") || !strings.HasPrefix(why, test.peer+": ") {
					t.Errorf("readyz: %d %q", status, why)
				}
				if !p.is("/livez", http.StatusOK) || !p.is("/startupz", http.StatusOK) {
					t.Error("livez and startupz must stay as they are")
				}
				test.heal(w)
				p.waitReady()
				eventually(t, connected+" is 1", func() bool { return p.metric(connected) == 1 })
				t.Logf("found after %v", found)
			}
		})
	}
}

func (p *program) waitUnready() {
	p.tb.Helper()
	eventually(p.tb, "not ready", func() bool { return p.is("/readyz", http.StatusServiceUnavailable) })
}

// TestAGapIsRepaired has a change missed in an outage that the sidecar has noticed.
func TestAGapIsRepaired(t *testing.T) {
	t.Parallel()
	insert := func(w *world) {
		w.exec(`INSERT INTO actions VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET note = 'y'`)
	}
	noticed := func(p *program, n int) { p.loggedAfter(n, "not listening to Postgres") }
	postgres := func(mode string) func(*world, *program, int) {
		return func(w *world, p *program, n int) {
			w.must(w.pg.Stop(mode))
			noticed(p, n)
			w.must(w.pg.Start())
		}
	}
	tests := map[string]struct {
		ownPostgres bool
		outage      func(w *world, p *program, n int) // n lines are logged before
	}{
		"Postgres, fast":      {true, postgres("fast")},
		"Postgres, immediate": {true, postgres("immediate")},
		"the link to Postgres": {false, func(w *world, p *program, n int) {
			w.pgLink.Cut()
			insert(w)
			noticed(p, n)
			w.pgLink.Heal()
		}},
		"Redis, from a snapshot": {false, func(w *world, p *program, n int) {
			w.must(w.cache.Save(w.Context()).Err())
			insert(w)
			w.waitGone("action:1")
			w.must(w.redis.Kill())
			p.loggedAfter(n, "Redis did not do it")
			w.must(w.redis.Start())
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var pg *livetest.Postgres
			if test.ownPostgres {
				pg = livetest.NewPostgres(t)
			}
			w := newWorld(t, pg, oneTable+tcnTrigger("actions"), oneRule)
			p := w.serveReady("PGEVICT_HEARTBEAT=1s")
			w.set("action:1", "action:2", "another:1")
			test.outage(w, p, len(p.Log.Lines()))
			w.waitGone("action:1")
			w.waitGone("action:2")
			if !w.has("another:1") {
				t.Error("a key outside the rules is gone")
			}
		})
	}
}

// TestStartWithBothServersDown has the sidecar wait for its servers.
func TestStartWithBothServersDown(t *testing.T) {
	t.Parallel()
	pg := livetest.NewPostgres(t)
	w := newWorld(t, pg, oneTable+tcnTrigger("actions"), oneRule)
	w.set("action:1", "another:1")
	if err := w.cache.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := w.redis.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := pg.Stop("fast"); err != nil {
		t.Fatal(err)
	}
	p := w.serve()
	unstarted := func(when string, peers ...string) {
		t.Helper()
		for path, want := range map[string]int{"/livez": 200, "/startupz": 503, "/readyz": 503} {
			status, body := p.get(path)
			if status != want || body == "" {
				t.Errorf("%s: %s: %d %q", when, path, status, body)
			}
			for _, peer := range []string{"postgres: not connected", "redis: not connected"} {
				if want == 503 && strings.Contains(body, peer) != slices.Contains(peers, peer) {
					t.Errorf("%s: %s: %q", when, path, body)
				}
			}
		}
	}
	p.logged("not listening to Postgres")
	p.logged("Redis did not do it")
	unstarted("both are down", "postgres: not connected", "redis: not connected")
	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	p.logged("listening to Postgres")
	p.logged("Redis did not do it")
	unstarted("Redis is down", "redis: not connected")
	if err := w.redis.Start(); err != nil {
		t.Fatal(err)
	}
	p.waitReady()
	if !p.is("/startupz", http.StatusOK) {
		t.Error("ready, but not started")
	}
	w.waitGone("action:1")
	if !w.has("another:1") {
		t.Error("a key outside the rules is gone")
	}
	if status := p.stop(); status != 0 {
		t.Errorf("status %d", status)
	}
}

// TestADeafConnectionIsRefused puts a transaction pooler before Postgres: it takes LISTEN, and gives the messages to
// somebody else.
func TestADeafConnectionIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
	pooler := livetest.NewPgBouncer(t, livetest.SharedPostgres(t), "transaction")
	w.pgLink.Retarget(pooler.Addr)
	p := w.serve()
	why := p.logged("not listening to Postgres").Field("error")
	if !strings.Contains(why, "pooler") {
		t.Errorf("the log says %q", why)
	}
	for _, path := range []string{"/startupz", "/readyz"} {
		if status, why := p.get(path); status != http.StatusServiceUnavailable || !strings.HasPrefix(why, "postgres: not connected for ") || !strings.Contains(why, ": pooler;") {
			t.Errorf("%s, though nothing is heard: %d %q", path, status, why)
		}
	}
	w.pgLink.Retarget(livetest.SharedPostgres(t).Addr)
	p.waitReady()
}
