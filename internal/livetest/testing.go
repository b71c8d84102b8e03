package livetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// shared is state of the package because tests of one package, which run in parallel and know nothing of each other,
// share one Postgres; only their Main knows when the last of them is done.
var shared sharedPostgres

type sharedPostgres struct {
	mu        sync.Mutex
	tried     bool
	pg        *Postgres
	err       error
	databases int
}

func (s *sharedPostgres) get() (*Postgres, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tried {
		s.tried = true
		s.pg, s.err = StartPostgres("max_connections=200", "synchronous_commit=off")
	}
	return s.pg, s.err
}

func (s *sharedPostgres) newName() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.databases++
	return fmt.Sprintf("test_%d", s.databases)
}

func (s *sharedPostgres) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pg == nil {
		return nil
	}
	return s.pg.Close()
}

// Main runs the tests of a package, stops what they share, and exits. A package whose TestMain does not call it leaves
// the directory of its shared Postgres behind, though not the server.
func Main(m *testing.M) {
	pristine.hold()
	code := m.Run()
	if err := errors.Join(shared.close(), pristine.release()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// SharedPostgres returns the one server of this package's tests. Whoever stops it stops it for all: that is what
// NewPostgres is for.
func SharedPostgres(tb testing.TB) *Postgres {
	tb.Helper()
	pg, err := shared.get()
	if err != nil {
		tb.Fatal(err)
	}
	return pg
}

// Database makes a new, empty database on the shared server for the time of one test, and returns its URL.
func Database(tb testing.TB) string {
	tb.Helper()
	pg := SharedPostgres(tb)
	name := shared.newName()
	if err := execute(pg, "CREATE DATABASE "+name); err != nil {
		tb.Fatalf("create database: %v", err)
	}
	tb.Cleanup(func() {
		if err := execute(pg, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("drop database: %v", err)
		}
	})
	return pg.URL(name)
}

func execute(pg *Postgres, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, pg.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

// EndSessions kills the sessions in a database of which a condition on pg_stat_activity is true, waits until they are gone,
// and returns how many there were.
func EndSessions(tb testing.TB, url, condition string) int {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close(ctx)
	var killed []int32
	// Not in the condition: there it might be called before the rest of it has been looked at.
	err = conn.QueryRow(ctx, "SELECT coalesce(array_agg(pid) FILTER (WHERE killed), '{}') FROM (SELECT pid, pg_terminate_backend(pid) AS killed"+
		" FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND ("+condition+")) s").Scan(&killed)
	if err != nil {
		tb.Fatalf("kill sessions: %v", err)
	}
	err = Until(ctx, "they are gone", func() (gone bool, err error) {
		err = conn.QueryRow(ctx, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ANY ($1))", killed).Scan(&gone)
		return gone, err
	})
	if err != nil {
		tb.Fatalf("kill sessions: %v", err)
	}
	return len(killed)
}

// NewPostgres starts a Postgres for one test.
func NewPostgres(tb testing.TB, settings ...string) *Postgres {
	tb.Helper()
	pg, err := StartPostgres(settings...)
	if err != nil {
		tb.Fatal(err)
	}
	closeAfter(tb, pg.Close)
	return pg
}

// NewRedis starts a Redis for one test.
func NewRedis(tb testing.TB, args ...string) *Redis {
	tb.Helper()
	r, err := StartRedis(args...)
	if err != nil {
		tb.Fatal(err)
	}
	closeAfter(tb, r.Close)
	return r
}

// NewValkey starts a Valkey for one test, which is skipped where that is not installed.
func NewValkey(tb testing.TB, args ...string) *Redis {
	tb.Helper()
	r, err := StartValkey(args...)
	if errors.Is(err, exec.ErrNotFound) {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	closeAfter(tb, r.Close)
	return r
}

// NewTLSRedis starts a Redis with TLS for one test.
func NewTLSRedis(tb testing.TB, a *Authority, clientsNeedCert bool, args ...string) *TLSRedis {
	tb.Helper()
	r, err := StartTLSRedis(a, clientsNeedCert, args...)
	if err != nil {
		tb.Fatal(err)
	}
	closeAfter(tb, r.Close)
	return r
}

// NewRedisCluster starts a Redis Cluster for one test.
func NewRedisCluster(tb testing.TB, masters, replicasEach int, args ...string) *RedisCluster {
	tb.Helper()
	c, err := StartRedisCluster(masters, replicasEach, args...)
	if err != nil {
		tb.Fatal(err)
	}
	closeAfter(tb, c.Close)
	return c
}

// NewSentinelSet starts a master, its replicas and their sentinels for one test.
func NewSentinelSet(tb testing.TB, replicas, sentinels int, args ...string) *SentinelSet {
	tb.Helper()
	s, err := StartSentinelSet(replicas, sentinels, args...)
	if err != nil {
		tb.Fatal(err)
	}
	closeAfter(tb, s.Close)
	return s
}

// NewAuthority makes an authority for one test.
func NewAuthority(tb testing.TB) *Authority {
	tb.Helper()
	a, err := StartAuthority()
	if err != nil {
		tb.Fatal(err)
	}
	closeAfter(tb, a.Close)
	return a
}

// NewPgBouncer starts a PgBouncer for one test.
func NewPgBouncer(tb testing.TB, pg *Postgres, poolMode string) *PgBouncer {
	tb.Helper()
	b, err := StartPgBouncer(pg, poolMode)
	if err != nil {
		tb.Fatal(err)
	}
	closeAfter(tb, b.Close)
	return b
}

// NewProxy starts a proxy for one test.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	p, err := StartProxy(target)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	return p
}

// built are state of the package because a program that takes seconds to build serves all tests of a process.
var built = [...]func() (string, error){
	AsShipped: sync.OnceValues(func() (string, error) { return buildBeside("pgevict-shipped", AsShipped) }),
	AsTested:  sync.OnceValues(func() (string, error) { return buildBeside("pgevict", AsTested) }),
}

// buildBeside builds the program beside the tests' own, in a directory that go test removes at its end.
func buildBeside(name string, how Build) (path string, err error) {
	tests, err := os.Executable()
	if err != nil {
		return "", err
	}
	path = filepath.Join(filepath.Dir(tests), name)
	return path, BuildProgram(path, how)
}

// ProgramPath returns where pgevict is, and builds it first if it is not.
func ProgramPath(tb testing.TB, how Build) string {
	tb.Helper()
	path, err := built[how]()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// NewProgram starts a program for one test, which kills it at its end. A test that fails shows the end of the log.
func NewProgram(tb testing.TB, p *Program) *Program {
	tb.Helper()
	if err := p.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Kill(); err != nil {
			tb.Error(err)
		}
		log := p.Log.String()
		for _, wrong := range []string{"DATA RACE", "panic: ", "fatal error: "} {
			if strings.Contains(log, wrong) {
				tb.Errorf("%s: %s", p, wrong)
			}
		}
		if tb.Failed() {
			const most = 6000
			tb.Logf("log of %s:\n%s", p, log[max(0, len(log)-most):])
		}
	})
	return p
}

func closeAfter(tb testing.TB, closeIt func() error) {
	tb.Cleanup(func() {
		if err := closeIt(); err != nil {
			tb.Error(err)
		}
	})
}

// Eventually asks every few milliseconds until the answer is yes, and fails the test when the time is up.
func Eventually(tb testing.TB, within time.Duration, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(pollInterval) {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", within, what)
		}
	}
}
