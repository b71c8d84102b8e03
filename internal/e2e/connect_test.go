package e2e_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

// accessWorld is a world whose Redis is r.
func accessWorld(t *testing.T, r *livetest.Redis) *world {
	t.Helper()
	w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
	w.redis, w.cache = r, newCache(t, r)
	return w
}

// deletes checks that a change deletes the key of its row.
func (w *world) deletes(p *program, id string) {
	w.Helper()
	p.waitReady()
	w.rest(p) // otherwise a sweep could do it
	w.set("action:" + id)
	w.exec(`INSERT INTO actions VALUES (` + id + `)`)
	w.waitGone("action:" + id)
}

// evictor sets up a user of Redis, for pgevict alone.
func (w *world) evictor(rules ...any) {
	w.Helper()
	if err := w.cache.Do(w.Context(), append([]any{"ACL", "SETUSER", "evictor"}, rules...)...).Err(); err != nil {
		w.Fatal(err)
	}
}

func certificate(t *testing.T, a *livetest.Authority, name string, hosts ...string) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile, err := a.Issue(name, hosts...)
	if err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}

// overwrite gives a file the text of another one.
func overwrite(t *testing.T, path, from string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(text))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// silent checks that a log shows no secret.
func (p *program) silent(secrets ...string) {
	p.tb.Helper()
	for _, secret := range secrets {
		if strings.Contains(p.Log.String(), secret) {
			p.tb.Errorf("the log shows %q", secret)
		}
	}
}

func TestAccessRedisTLS(t *testing.T) {
	t.Parallel()
	ours, others := livetest.NewAuthority(t), livetest.NewAuthority(t)
	r := livetest.NewTLSRedis(t, ours, true)
	w := accessWorld(t, r.Redis)
	address := func(trusted, issuer *livetest.Authority, more string) string {
		cert, key := certificate(t, issuer, "pgevict")
		return "REDIS_URL=rediss://evictor:hunter2@" + r.TLSAddr + "/0?cacert=" + trusted.File + "&cert=" + cert + "&key=" + key + more
	}
	w.evictor("on", ">hunter2", "~action:*", "~pgevict:*", "+@all")
	for id, environ := range map[string]string{
		"1": address(ours, ours, ""),
		"2": address(ours, ours, "&tls_server_name=localhost"),
		"3": address(others, ours, "&skip_verify=true"),
	} {
		p := w.serve("PGEVICT_LOG_LEVEL=debug", environ)
		w.deletes(p, id)
		p.stop()
		p.silent("hunter2")
	}

	for name, refused := range map[string]struct{ environ, why string }{
		"a server of others": {address(others, ours, ""), "certificate signed by unknown authority"},
		"a server of nobody": {"REDIS_URL=rediss://evictor:hunter2@" + r.TLSAddr, "certificate signed by unknown authority"},
		"another name":       {address(ours, ours, "&tls_server_name=elsewhere"), "certificate is valid for localhost, not elsewhere"},
		"a client of others": {address(ours, others, ""), ""},                                                     // it is told why, or just cut off
		"a plain server":     {"REDIS_URL=rediss://evictor:hunter2@" + w.redis.Addr, "context deadline exceeded"}, // which waits
		"a plain client":     {"REDIS_URL=redis://evictor:hunter2@" + r.TLSAddr, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			environ := append(append([]string{}, w.environ...), refused.environ)
			p := serve(t, append(environ, "PGEVICT_LOG_LEVEL=debug")...)
			p.said(0, "Redis did not do it", refused.why) // a machine that is busy may be too slow for an answer first
			stdout, _, status := command(t, environ, "", "doctor")
			if status != 1 || !strings.Contains(stdout, "fail  redis reachable") || strings.Contains(stdout, "hunter2") {
				t.Errorf("doctor: status %d\n%s", status, stdout)
			}
			p.silent("hunter2")
		})
	}
}

// TestAccessRedisCertificatesRotate replaces the authority, and with it the certificates of both sides.
func TestAccessRedisCertificatesRotate(t *testing.T) {
	t.Parallel()
	before, after := livetest.NewAuthority(t), livetest.NewAuthority(t)
	r := livetest.NewTLSRedis(t, before, true)
	w := accessWorld(t, r.Redis)
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	mount := func(a *livetest.Authority) {
		issuedCert, issuedKey := certificate(t, a, "pgevict")
		overwrite(t, ca, a.File)
		overwrite(t, cert, issuedCert)
		overwrite(t, key, issuedKey)
	}
	mount(before)
	p := w.serve("REDIS_URL=rediss://" + r.TLSAddr + "?cacert=" + ca + "&cert=" + cert + "&key=" + key)
	w.deletes(p, "1")

	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	serverCert, serverKey := certificate(t, after, "redis", "127.0.0.1")
	overwrite(t, r.CertFile, serverCert)
	overwrite(t, r.KeyFile, serverKey)
	overwrite(t, before.File, after.File)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not ready", func() bool { return p.is("/readyz", http.StatusServiceUnavailable) })
	mount(after)
	w.deletes(p, "2")
}

// TestAccessRedisPasswordRotates has a user of its own for pgevict.
func TestAccessRedisPasswordRotates(t *testing.T) {
	t.Parallel()
	const before, after = "s3cr3t-before", "s3cr3t/after@"
	w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
	w.evictor("on", ">"+before, "~action:*", "~pgevict:*", "+@all")
	file := filepath.Join(t.TempDir(), "url")
	mount := func(password string) {
		write(t, file, "redis://evictor:"+url.QueryEscape(password)+"@"+w.redis.Addr+"/0\n")
	}
	mount(before)
	p := serve(t, w.environ[0], "REDIS_URL_FILE="+file, w.environ[2], w.environ[3], w.environ[4], "PGEVICT_LOG_LEVEL=debug")
	w.deletes(p, "1")

	w.evictor("resetpass", ">"+after)
	if err := w.cache.Do(t.Context(), "CLIENT", "KILL", "USER", "evictor").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is refused", func() bool { return p.metric(`pgevict_redis_errors_total{kind="noauth"}`) > 0 })
	mount(after)
	w.deletes(p, "2")
	p.silent(before, after, url.QueryEscape(after))
}

func TestAccessRedisSocket(t *testing.T) {
	t.Parallel()
	w := accessWorld(t, livetest.NewRedis(t, "--unixsocket", "r.sock")) // in its own directory
	p := w.serve("REDIS_URL=unix://" + filepath.Join(w.redis.Dir, "r.sock"))
	w.deletes(p, "1")
}

func TestAccessRedisDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
	w.set("action:1", "action:2")
	zero, options := w.cache, *w.cache.(*redis.Client).Options()
	options.DB = 3
	w.cache = redis.NewClient(&options)
	t.Cleanup(func() { _ = w.cache.Close() })
	p := w.serve("REDIS_URL=redis://" + w.redis.Addr + "/3")
	w.deletes(p, "1")
	if n, err := zero.DBSize(t.Context()).Result(); err != nil || n != 2 {
		t.Errorf("database 0 has %d keys, and must have 2 (%v)", n, err)
	}
}

func TestAccessPostgresTLS(t *testing.T) {
	t.Parallel()
	ours, others := livetest.NewAuthority(t), livetest.NewAuthority(t)
	cert, key := certificate(t, ours, "postgres", "127.0.0.1")
	pg := livetest.NewPostgres(t, "ssl=on", "ssl_cert_file="+cert, "ssl_key_file="+key)
	w := newWorld(t, pg, oneTable+tcnTrigger("actions"), oneRule)
	address := func(a *livetest.Authority) string {
		return "DATABASE_URL=postgres://postgres:hunter2@" + pg.Addr + "/postgres?sslmode=verify-full&sslrootcert=" + a.File
	}
	w.deletes(w.serve(address(ours)), "1")
	p := w.serve(address(others))
	if line := p.logged("not listening to Postgres"); !strings.Contains(line.Field("error"), "certificate signed by unknown authority") {
		t.Errorf("the log says %v", line)
	}
	p.silent("hunter2")
}

func TestAccessPostgresPasswordRotates(t *testing.T) {
	t.Parallel()
	const before, after = "s3cr3t-before", "s3cr3t/after@"
	pg := livetest.NewPostgres(t, "password_encryption=scram-sha-256")
	w := newWorld(t, pg, oneTable+tcnTrigger("actions")+"CREATE ROLE evictor LOGIN PASSWORD '"+before+"'", oneRule)
	write(t, filepath.Join(pg.Dir, "pg_hba.conf"), "host all postgres all trust\nhost all all all scram-sha-256\n")
	w.exec("SELECT pg_reload_conf()")
	file := filepath.Join(t.TempDir(), "url")
	mount := func(password string) {
		write(t, file, "postgres://evictor:"+url.QueryEscape(password)+"@"+pg.Addr+"/postgres?sslmode=disable\n")
	}
	mount(before)
	p := serve(t, "DATABASE_URL_FILE="+file, w.environ[1], w.environ[2], w.environ[3], w.environ[4], "PGEVICT_LOG_LEVEL=debug")
	w.deletes(p, "1")

	w.exec("ALTER ROLE evictor PASSWORD '" + after + "'")
	mount(after)
	n := len(p.Log.Lines())
	w.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'evictor'")
	p.loggedAfter(n, "listening to Postgres")
	w.deletes(p, "2")
	p.silent(before, after, url.QueryEscape(after))
}
