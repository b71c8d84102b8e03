package bench_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"pgevict/internal/livetest"
)

// shipped builds the program once, as it is shipped. It lies beside the tests' own binary, in a directory that go test
// removes at its end.
var shipped = sync.OnceValues(func() (string, error) {
	tests, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(tests), "pgevict-shipped")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "pgevict")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build pgevict: %w\n%s", err, out)
	}
	return path, nil
})

func shippedPath(b *testing.B) string {
	b.Helper()
	path, err := shipped()
	if err != nil {
		b.Fatal(err)
	}
	return path
}

// benchSidecar is a pgevict that runs in a process of its own.
type benchSidecar struct {
	b    *testing.B
	pid  int
	http string
	log  string
}

// benchEnviron is what a pgevict is told: where the servers are, and rules.
func benchEnviron(b *testing.B, databaseURL, redisURL, rules string, more ...string) (environ []string, httpAddr string) {
	b.Helper()
	file := filepath.Join(b.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	httpAddr = l.Addr().String()
	_ = l.Close()
	return append([]string{"DATABASE_URL=" + databaseURL, "REDIS_URL=" + redisURL, "PGEVICT_RULES=" + file,
		"PGEVICT_HTTP_ADDR=" + httpAddr}, more...), httpAddr
}

// startBenchSidecar starts the program for the time of the benchmark.
func startBenchSidecar(b *testing.B, environ []string, httpAddr string) *benchSidecar {
	b.Helper()
	s := &benchSidecar{b: b, http: httpAddr, log: filepath.Join(b.TempDir(), "pgevict.log")}
	log, err := os.Create(s.log)
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(shippedPath(b))
	cmd.Env, cmd.Stderr = environ, log
	b.Cleanup(func() {
		if text, err := os.ReadFile(s.log); b.Failed() && err == nil {
			b.Logf("pgevict's log:\n%s", text)
		}
	})
	runBenchProcess(b, cmd)
	s.pid = cmd.Process.Pid
	return s
}

// runBenchProcess runs a process for the time of the benchmark. One that times out leaves it to the kernel to end it,
// which does so when the thread that forked ends.
func runBenchProcess(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	cmd.SysProcAttr = dieWithParent()
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed
		}
	}()
	if err := <-started; err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-ended
	})
}

// ready waits until a canary has gone all the way, and what the start sweeps is swept for the second time.
func (s *benchSidecar) ready() {
	s.b.Helper()
	livetest.Eventually(s.b, time.Minute, "pgevict is ready", func() bool {
		response, err := http.Get("http://" + s.http + "/readyz")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	s.settle()
}

// settle waits until the second deletes are over, which come up to an eighth later than the default of a second.
func (s *benchSidecar) settle() {
	s.b.Helper()
	time.Sleep(1200 * time.Millisecond)
	livetest.Eventually(s.b, time.Minute, "nothing is pending", func() bool { return s.metric("pgevict_pending") == 0 })
}

// metric adds up the series of a metric that have all the labels, each written as name="value".
func (s *benchSidecar) metric(name string, labels ...string) float64 {
	s.b.Helper()
	response, err := http.Get("http://" + s.http + "/metrics")
	if err != nil {
		s.b.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.b.Fatal(err)
	}
	sum := 0.0
series:
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || !strings.HasPrefix(rest, "{") && !strings.HasPrefix(rest, " ") {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(rest, label) {
				continue series
			}
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err != nil {
			s.b.Fatal(err)
		}
		sum += value
	}
	return sum
}

// memory gives a field of the process' status, such as VmRSS, in MiB.
func (s *benchSidecar) memory(field string) float64 {
	s.b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
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

// benchLoop is one of the loops of bench_loops_test.go, in a process of its own.
type benchLoop struct {
	b     *testing.B
	pid   int
	lines *bufio.Reader
}

func startBenchLoop(b *testing.B, kind, channel, databaseURL, redisURL string, count int) *benchLoop {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestBenchLoop$")
	cmd.Env = []string{loopKind + "=" + kind, loopChannel + "=" + channel, loopCount + "=" + strconv.Itoa(count),
		"DATABASE_URL=" + databaseURL, "REDIS_URL=" + redisURL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	runBenchProcess(b, cmd)
	l := &benchLoop{b, cmd.Process.Pid, bufio.NewReader(out)}
	l.wait() // until it listens
	return l
}

// wait waits for the next line that the loop prints.
func (l *benchLoop) wait() {
	l.b.Helper()
	if _, err := l.lines.ReadString('\n'); err != nil {
		l.b.Fatalf("the loop has ended: %v", err)
	}
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
