package e2e_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgevict/internal/livetest"
	"pgevict/internal/livetest/workload"
)

// outage is something that breaks while an application writes and reads. Whatever it is, no key may be stale after it.
type outage struct {
	name        string
	ownPostgres []string // the settings of a server of its own, since others share the one of the package
	redisArgs   []string
	servers     func(*world) (url string) // what is Redis; nil: one server
	environ     []string
	empties     bool     // Redis comes back empty, so keys outside the rules are put in after
	gaps        []string // there must be one of these
	calm        bool     // Redis lost nothing, and there must be no gap that says so
	kept        bool     // Postgres lost nothing, and there must be no gap that says so
	control     bool     // run it with gaps ignored, too: then stale keys are certain
	strike      func(o *outageTest)
}

// outageTest is what an outage strikes. strike returns when everything is whole again.
type outageTest struct {
	*application
	sidecar *program
	environ []string
}

// terminate kills the sidecar's session in the server.
func (o *outageTest) terminate() {
	o.Helper()
	o.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgevict' AND datname = current_database()`)
}

// restart stops and starts Postgres. The application is back at once, the sidecar a little later.
func (o *outageTest) restart(mode string) {
	o.Helper()
	n := len(o.sidecar.Log.Lines())
	o.must(o.pg.Stop(mode))
	o.must(o.pg.Start())
	o.waitLogged(n, "listening to Postgres")
	o.window.Add(1)
}

// save takes a snapshot of Redis, and then has what is in it become stale and be deleted.
func (o *outageTest) save() {
	o.Helper()
	o.must(o.cache.Save(o.Context()).Err())
	o.outdate()
}

// outdate has what is cached now become stale and be deleted, twice.
func (o *outageTest) outdate() {
	o.Helper()
	o.work()
	o.window.Add(1)
	o.sidecar.waitPosition(time.Now().Add(againAfter * 5 / 4))
}

func (o *outageTest) waitLogged(n int, message string) { o.sidecar.loggedAfter(n, message) }

var outages = []outage{{
	name: "the session is killed", gaps: []string{"connection"},
	strike: func(o *outageTest) {
		for writes := o.writes.Load() + 200; o.writes.Load() < writes; { // again as soon as it is back
			o.terminate()
		}
		o.window.Add(1)
		o.work()
	},
}, {
	name: "Postgres restarts, fast", gaps: []string{"connection"}, ownPostgres: []string{},
	strike: func(o *outageTest) { o.restart("fast"); o.work() },
}, {
	name: "Postgres restarts, immediate", gaps: []string{"connection"}, ownPostgres: []string{},
	strike: func(o *outageTest) { o.restart("immediate"); o.work() },
}, {
	// Readers have seen what the crash takes back.
	name: "Postgres crashes and loses commits", gaps: []string{"connection"},
	ownPostgres: []string{"synchronous_commit=off", "wal_writer_delay=10s"},
	strike:      func(o *outageTest) { o.restart("immediate"); o.work() },
}, {
	name: "Redis restarts empty", gaps: []string{"redis_restart", "redis_rollback"}, empties: true,
	strike: func(o *outageTest) {
		o.must(o.redis.Kill())
		o.write100()
		o.must(o.redis.Start())
		o.work()
	},
}, {
	name: "Redis restarts from an old snapshot", gaps: []string{"redis_restart", "redis_rollback"},
	strike: func(o *outageTest) {
		o.save()
		o.must(o.redis.Kill())
		o.write100()
		o.must(o.redis.Start())
		o.work()
	},
}, {
	name: "Redis restarts from an old snapshot at once", gaps: []string{"redis_restart", "redis_rollback"},
	strike: func(o *outageTest) {
		o.save()
		o.must(o.redis.Kill())
		o.must(o.redis.Start())
		o.work()
	},
}, {
	// The same process, so nothing but the position tells.
	name: "Redis goes back to an old snapshot without a restart", gaps: []string{"redis_rollback"}, control: true,
	redisArgs: []string{"--enable-debug-command", "yes"},
	strike: func(o *outageTest) {
		o.save()
		o.must(o.cache.Do(o.Context(), "DEBUG", "RELOAD", "NOSAVE").Err())
		o.work()
	},
}, {
	name: "the link to Postgres is cut", gaps: []string{"connection"}, control: true,
	strike: func(o *outageTest) { o.pgLink.Cut(); o.miss(); o.pgLink.Heal() },
}, {
	name: "the link to Redis is cut", calm: true,
	strike: func(o *outageTest) {
		o.redisLink.Cut()
		o.miss()
		o.redisLink.Heal()
	},
}, {
	name: "the link to Redis is cut, and there is little room", environ: []string{"PGEVICT_MAX_PENDING=20"},
	strike: func(o *outageTest) {
		o.redisLink.Cut()
		o.miss()
		if n := o.sidecar.metric(`pgevict_widened_total{reason="pending",rule="actions"}`); n == 0 {
			o.Error("there was room for all, so this shows little")
		}
		o.redisLink.Heal()
	},
}, {
	name: "the link to Postgres stalls", kept: true,
	strike: func(o *outageTest) {
		n := len(o.sidecar.Log.Lines())
		o.pgLink.Stall()
		o.miss()
		o.waitLogged(n, "not listening to Postgres")
		o.pgLink.Heal()
	},
}, {
	name: "the connection to Postgres is dead", gaps: []string{"connection"},
	strike: func(o *outageTest) {
		n := len(o.sidecar.Log.Lines())
		o.pgLink.Hold()
		o.miss()
		o.waitLogged(n, "not listening to Postgres, will connect again")
	},
}, {
	name: "the link to Redis stalls", calm: true,
	strike: func(o *outageTest) {
		n := len(o.sidecar.Log.Lines())
		o.redisLink.Stall()
		o.miss()
		o.waitLogged(n, "Redis did not do it")
		o.redisLink.Heal()
	},
}, {
	name: "both links stall, one after the other", kept: true,
	strike: func(o *outageTest) {
		n := len(o.sidecar.Log.Lines())
		o.redisLink.Stall()
		o.waitLogged(n, "Redis did not do it")
		o.pgLink.Stall()
		o.window.Add(1)
		o.miss()
		o.waitLogged(n, "not listening to Postgres")
		o.redisLink.Heal()
		o.miss()
		o.pgLink.Heal()
	},
}, {
	name: "the sidecar is killed and started again", gaps: []string{"start"}, control: true,
	strike: func(o *outageTest) {
		o.sidecar.kill()
		o.miss()
		o.sidecar = serve(o.TB, o.environ...)
	},
}, {
	name: "Redis goes back to an old snapshot while the sidecar is away", gaps: []string{"start"},
	strike: func(o *outageTest) {
		o.save()
		o.sidecar.kill()
		o.must(o.redis.Kill())
		o.write100()
		o.sidecar = serve(o.TB, o.environ...)
		o.must(o.redis.Start())
		o.work()
	},
}, {
	name: "Redis is away while Postgres restarts", gaps: []string{"connection"}, ownPostgres: []string{},
	strike: func(o *outageTest) {
		o.save()
		o.must(o.redis.Kill())
		o.write100()
		o.restart("fast")
		o.write100()
		o.must(o.redis.Start())
		o.work()
	},
}}

// run strikes, waits until all is at rest, and gives what is stale then.
func (o outage) run(t *testing.T, environ ...string) (stale []string) {
	var pg *livetest.Postgres
	if o.ownPostgres != nil {
		pg = livetest.NewPostgres(t, o.ownPostgres...)
	}
	if o.servers == nil {
		o.servers = func(w *world) string { return w.oneRedis(o.redisArgs...) }
	}
	w := newWorldWith(t, pg, workSchema+workTriggers, workRules, o.servers)
	w.environ = append(append(w.environ, o.environ...), environ...)
	app := newApplication(w, truths)
	app.must(app.PutForeign(t.Context()))
	sidecar := w.serveReady()
	app.start()
	ot := &outageTest{application: app, sidecar: sidecar, environ: w.environ}
	ot.work()
	ot.window.Add(1)
	before := sidecar.metrics()

	o.strike(ot)

	sidecar = ot.sidecar
	if o.empties {
		ot.must(ot.PutForeign(t.Context()))
	}
	ot.stopWriters()
	w.rest(sidecar)
	var wrong []workload.Stale
	var cached int
	for deadline := time.Now().Add(patience); ; {
		ot.fill100() // so that there is something to compare
		ot.stopReaders()
		var err error
		wrong, cached, err = ot.Stale(t.Context(), allKeys())
		ot.must(err)
		if cached >= 100 || len(wrong) > 0 {
			break
		}
		// On a machine that is busy there may have been one more gap, and its sweep after the readers.
		if time.Now().After(deadline) {
			t.Fatalf("only %d values are cached, so this shows little", cached)
		}
		ot.startReaders()
	}
	for _, value := range wrong {
		stale = append(stale, value.String())
	}
	lost, err := ot.LostForeign(t.Context())
	ot.must(err)
	if len(lost) > 0 {
		t.Errorf("%d keys that are not in the rules are gone: %q …", len(lost), lost[:min(len(lost), 10)])
	}
	if len(o.gaps) > 0 && sidecar.gaps(o.gaps...) == 0 {
		t.Errorf("no gap of %v: %v", o.gaps, sidecar.metrics())
	}
	if o.kept && sidecar.gaps("connection") > 0 {
		t.Errorf("a gap though nothing was lost: %v", sidecar.metrics())
	}
	if o.calm && sidecar.gaps("redis_restart", "redis_unknown", "redis_rollback") > 0 {
		t.Errorf("a gap, though Redis lost nothing: %v", sidecar.metrics())
	}
	sidecar.waitFlat(before)
	t.Logf("%d writes, %d fills, %d values cached, gaps %v", ot.writes.Load(), ot.Fills(), cached, sidecar.gaps())
	return stale
}

// waitFlat waits until a sidecar, or the one that took its place, holds no more than before.
func (p *program) waitFlat(before livetest.Metrics) {
	p.tb.Helper()
	p.waitMetrics("no more goroutines and memory than before", func(_ time.Time, m livetest.Metrics) bool {
		return m["go_goroutines"] <= before["go_goroutines"]+20 &&
			m["go_memstats_heap_inuse_bytes"] <= before["go_memstats_heap_inuse_bytes"]+16<<20
	})
}

// check strikes, and finds no stale key.
func (o outage) check(t *testing.T) {
	if stale := o.run(t); len(stale) > 0 {
		t.Errorf("%d keys are stale:\n%s", len(stale), strings.Join(stale, "\n"))
	}
}

func TestNoKeyIsStaleAfterAnOutage(t *testing.T) {
	t.Parallel()
	for _, o := range slices.Concat(outages, redisOutages, sentinelOutages) {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			o.check(t)
		})
	}
}

// TestWithoutSweepsKeysAreStale shows that the outages do break something: with gaps ignored they leave stale keys.
func TestWithoutSweepsKeysAreStale(t *testing.T) {
	t.Parallel()
	for _, o := range slices.Concat(outages, sentinelOutages, clusterOutages) {
		if !o.control {
			continue
		}
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			if stale := o.run(t, "PGEVICT_GAP=ignore"); len(stale) == 0 {
				t.Error("nothing is stale, so this outage shows nothing")
			}
		})
	}
}
