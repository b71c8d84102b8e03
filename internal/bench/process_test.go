package bench_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

// benchSidecar is pgevict as it is shipped, and a benchmark that fails when it does not do as it should.
type benchSidecar struct {
	*livetest.Program
	b *testing.B
}

// benchEnviron is what a pgevict is told: where the servers are, and rules.
func benchEnviron(b *testing.B, databaseURL, redisURL, rules string, more ...string) []string {
	b.Helper()
	file := filepath.Join(b.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		b.Fatal(err)
	}
	return append([]string{"DATABASE_URL=" + databaseURL, "REDIS_URL=" + redisURL, "PGEVICT_RULES=" + file,
		"PGEVICT_HTTP_ADDR=127.0.0.1:0"}, more...)
}

// startBenchSidecar starts the program for the time of the benchmark, and waits for its probes alone.
func startBenchSidecar(b *testing.B, environ []string) *benchSidecar {
	b.Helper()
	p := &livetest.Program{Path: livetest.ProgramPath(b, livetest.AsShipped), Environ: environ}
	profile := os.Getenv(profileFile)
	if profile != "" {
		p.Path, p.Environ = os.Args[0], append(environ, serveUnder+"="+profile)
	}
	s := &benchSidecar{livetest.NewProgram(b, p), b}
	if profile != "" {
		b.Cleanup(func() { // or it would be killed, and write nothing
			if _, err := s.Stop(); err != nil {
				b.Error(err)
			}
		})
	}
	if err := s.Serving(); err != nil {
		b.Fatal(err)
	}
	return s
}

// ready waits until a canary has gone all the way, and what the start sweeps is swept for the second time.
func (s *benchSidecar) ready() {
	s.b.Helper()
	ctx, cancel := context.WithTimeout(s.b.Context(), time.Minute)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		s.b.Fatal(err)
	}
	s.settle()
}

// settle waits until the second deletes are over, which come up to an eighth later than the default of a second.
func (s *benchSidecar) settle() {
	s.b.Helper()
	time.Sleep(1200 * time.Millisecond)
	livetest.Eventually(s.b, time.Minute, "nothing is pending", func() bool { return s.metric("pgevict_pending") == 0 })
}

// is reports whether the process answers so.
func (s *benchSidecar) is(path string, want int) bool {
	status, _, err := s.Get(s.b.Context(), path)
	return err == nil && status == want
}

// metric adds up the series of a metric that have all the labels, each written as name="value".
func (s *benchSidecar) metric(name string, labels ...string) float64 {
	s.b.Helper()
	series, err := s.Metrics(s.b.Context())
	if err != nil {
		s.b.Fatal(err)
	}
	return series.Sum(name, labels...)
}

// memory returns a field of the process' status, such as VmRSS, in MiB.
func (s *benchSidecar) memory(field string) float64 {
	s.b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Pid()))
	if err != nil {
		s.b.Skipf("memory is measured on Linux only: %v", err)
	}
	_, rest, _ := strings.Cut(string(text), field+":")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		s.b.Fatalf("read %s: %v", field, err)
	}
	return kib / 1024
}

// cpuTime is how long the processors have worked for a process; where there is no /proc, 0. Unlike the time that passes,
// it says the same on a busy machine as on an idle one.
func cpuTime(pid int) time.Duration {
	var sum int64
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid)) // the pattern is well-formed
	for _, thread := range threads {
		text, _ := os.ReadFile(thread) // it may have ended by now
		var ns int64
		_, _ = fmt.Sscan(string(text), &ns)
		sum += ns
	}
	return time.Duration(sum)
}

// benchLoop is one of the loops of loops_test.go, in a process of its own.
type benchLoop struct {
	*livetest.Program
	b     *testing.B
	lines int // that it has printed, and somebody has waited for
}

func startBenchLoop(b *testing.B, kind, channel, databaseURL, redisURL string, count int) *benchLoop {
	b.Helper()
	l := &benchLoop{b: b, Program: livetest.NewProgram(b, &livetest.Program{Path: os.Args[0], Environ: []string{
		loopKind + "=" + kind, loopChannel + "=" + channel, loopCount + "=" + strconv.Itoa(count),
		"DATABASE_URL=" + databaseURL, "REDIS_URL=" + redisURL,
	}})}
	l.wait() // until it listens
	return l
}

// wait waits for the next line that the loop prints.
func (l *benchLoop) wait() {
	l.b.Helper()
	if _, ok := l.Out.Wait(l.lines, 5*time.Minute, func(string) bool { return true }); !ok {
		l.b.Fatal("the loop has ended, or stands still")
	}
	l.lines++
}

func benchConnect(b *testing.B, url string) *pgx.Conn {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func benchExec(b *testing.B, conn *pgx.Conn, sql string, args ...any) {
	b.Helper()
	if _, err := conn.Exec(b.Context(), sql, args...); err != nil {
		b.Fatalf("%s: %v", sql, err)
	}
}

func benchRedis(b *testing.B, r *livetest.Redis) *redis.Client {
	b.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: r.Addr})
	b.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// fillKeys sets keys, each to a short value.
func fillKeys(b *testing.B, rdb redis.UniversalClient, count int, key func(i int) string) {
	b.Helper()
	pipe := rdb.Pipeline()
	for i := range count {
		pipe.Set(b.Context(), key(i), "x", 0)
		if pipe.Len() == 5000 || i == count-1 {
			if _, err := pipe.Exec(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
}
