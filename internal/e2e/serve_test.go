package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgevict/internal/livetest"
)

func TestStop(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]os.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT, "SIGHUP": syscall.SIGHUP} {
		t.Run(name+" when nothing waits", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
			p := w.serveReady("PGEVICT_GRACE=1h") // which it does not wait for
			p.signal(sig)
			if status := p.exit(); status != 0 {
				t.Errorf("status %d", status)
			}
		})
	}
	t.Run("second deletes are not waited for", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
		p := w.serve("PGEVICT_AGAIN_AFTER=1h", "PGEVICT_GRACE=1h")
		p.waitReady()
		w.set("action:1")
		w.exec(`INSERT INTO actions VALUES (1)`)
		w.waitGone("action:1")
		p.waitApplied(time.Now())
		if status := p.stop(); status != 0 {
			t.Errorf("status %d", status)
		}
	})
	t.Run("what waits is applied when Redis comes back in time", func(t *testing.T) {
		t.Parallel()
		w, p := fiveWait(t, "1m")
		p.signal(syscall.SIGTERM)
		p.logged("stopping")
		if !p.is("/livez", http.StatusOK) {
			t.Error("HTTP went before the rest")
		}
		w.redisLink.Heal()
		if status := p.exit(); status != 0 {
			t.Errorf("status %d", status)
		}
		for id := range 5 {
			if w.has(fmt.Sprintf("action:%d", id)) {
				t.Errorf("action:%d is still there", id)
			}
		}
	})
	t.Run("what waits when the grace is over", func(t *testing.T) {
		t.Parallel()
		_, p := fiveWait(t, "1s")
		began := time.Now()
		if status := p.stop(); status != 1 {
			t.Errorf("status %d", status)
		}
		if took := time.Since(began); took < 900*time.Millisecond {
			t.Errorf("it took only %v", took)
		}
		lines := p.Log.Lines()
		if last := lines[len(lines)-1]; !strings.Contains(last, "stopped with 5 targets") {
			t.Errorf("its last words: %s", last)
		}
	})
	t.Run("a second signal", func(t *testing.T) {
		t.Parallel()
		_, p := fiveWait(t, "1h")
		p.signal(syscall.SIGTERM)
		p.logged("stopping")
		eventually(t, "it ends at once", func() bool {
			p.signal(syscall.SIGTERM) // one that comes within a moment of the first is taken for the same
			select {
			case <-p.Done():
				return true
			default:
				return false
			}
		})
	})
}

// fiveWait gives a sidecar with five targets that wait for Redis, which is out of reach.
func fiveWait(t *testing.T, grace string) (*world, *program) {
	w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
	p := w.serveReady("PGEVICT_GRACE=" + grace)
	for id := range 5 {
		w.set(fmt.Sprintf("action:%d", id))
	}
	w.redisLink.Cut()
	w.exec(`INSERT INTO actions SELECT generate_series(0, 4)`)
	eventually(t, "five wait", func() bool { return p.metric("pgevict_pending") == 5 })
	return w, p
}

func TestDryRunDeletesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
	w.set("action:1", "action:2")
	p := w.serveReady("PGEVICT_DRY_RUN=true")
	w.exec(`INSERT INTO actions VALUES (1)`)
	if line := p.logged("dry run: would delete"); line.Field("rule") != "actions" || !strings.Contains(line.Field("keys"), "action:") {
		t.Errorf("it logs %v", line)
	}
	w.rest(p)
	if n, err := w.cache.DBSize(t.Context()).Result(); err != nil || n != 2 {
		t.Errorf("there are %d keys, and must be 2 (%v)", n, err)
	}
	if p.metric(`pgevict_evicted_total{rule="actions"}`) != 0 {
		t.Error("it counts keys as evicted")
	}
	if status := p.stop(); status != 0 {
		t.Errorf("status %d", status)
	}
}

func TestGapsCanBeIgnored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
	w.set("action:1", "action:2")
	p := w.serveReady("PGEVICT_GAP=ignore")
	w.exec(`INSERT INTO actions VALUES (1)`)
	w.waitGone("action:1")
	w.rest(p)
	if !w.has("action:2") {
		t.Error("the gap of the start was swept")
	}
	if p.gaps("start") != 1 || p.metric("pgevict_sweeps_total") != 0 {
		t.Errorf("%v gaps, %v sweeps", p.gaps(), p.metric("pgevict_sweeps_total"))
	}
}

func TestHTTPOffAndTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
	p := start(t, append([]string{"PGEVICT_HTTP_ADDR=off"}, w.environ...))
	p.logged("listening to Postgres")
	w.set("action:1")
	w.exec(`INSERT INTO actions VALUES (1)`)
	w.waitGone("action:1")
	if strings.Contains(p.Log.String(), "serving probes") {
		t.Error("HTTP is off, but serves")
	}
	if status := p.stop(); status != 0 {
		t.Errorf("status %d", status)
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, stderr, status := command(t, append([]string{"PGEVICT_HTTP_ADDR=" + taken.Addr().String()}, w.environ...), "", "serve")
	if status != 1 || !strings.Contains(stderr, "pgevict: PGEVICT_HTTP_ADDR: ") || !strings.Contains(stderr, "address already in use") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

// TestNoSecretIsShown has servers that want a password, and clients with the wrong one, and the right one.
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	const secret, wrong = "s3cr3t-right", "s3cr3t-wr%2Fong%40"
	pg := livetest.NewPostgres(t, "password_encryption=scram-sha-256")
	w := newWorld(t, pg, oneTable+tcnTrigger("actions")+"CREATE ROLE app LOGIN PASSWORD '"+secret+"'", oneRule, "--requirepass", secret)
	hba := "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(pg.Dir, "pg_hba.conf"), []byte(hba), 0o600); err != nil {
		t.Fatal(err)
	}
	w.exec("SELECT pg_reload_conf()")
	environ := func(postgres, redis string) []string {
		return []string{
			"DATABASE_URL=postgres://app:" + postgres + "@" + pg.Addr + "/postgres?sslmode=disable",
			"REDIS_URL=redis://:" + redis + "@" + w.redis.Addr + "/0", w.environ[2],
			"PGEVICT_HEARTBEAT=" + heartbeat.String(), "PGEVICT_LOG_LEVEL=debug",
		}
	}
	show := func(what, text string) {
		t.Helper()
		plain, _ := url.PathUnescape(wrong)
		for _, s := range []string{secret, wrong, plain} {
			if strings.Contains(text, s) {
				t.Errorf("%s shows a password:\n%s", what, text)
			}
		}
	}
	for refused, passwords := range map[string][2]string{
		"not listening to Postgres": {wrong, secret}, "Redis did not do it": {secret, wrong}, "listening to Postgres": {secret, secret},
	} {
		p := serve(t, environ(passwords[0], passwords[1])...)
		p.logged(refused)
		_, ready := p.get("/readyz")
		_, metrics := p.get("/metrics")
		p.signal(syscall.SIGTERM)
		p.exit()
		show("serve", p.Log.String()+ready+metrics)
	}
	tail := start(t, environ(wrong, wrong), "tail")
	tail.logged("not listening to Postgres")
	tail.stop()
	show("tail", tail.Log.String())

	for _, args := range [][]string{{"check"}, {"explain", "-catalog", `"actions",I,"id"='1'`}} {
		for _, password := range []string{wrong, secret, secret + "@x/y", "%zz" + secret} {
			stdout, stderr, _ := command(t, environ(password, password), "", args...)
			show(args[0], stdout+stderr)
		}
	}
}
