package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgevict/internal/livetest"
)

// manifestLimit is the memory that deploy/kubernetes lets the sidecar have.
func manifestLimit(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "kubernetes", "pgevict.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	limit := regexp.MustCompile(`limits: \{memory: (\d+)Mi\}`).FindSubmatch(text)
	if limit == nil {
		t.Fatal("the manifest has no limit")
	}
	mebibytes, _ := strconv.Atoi(string(limit[1]))
	return mebibytes << 20
}

// crowd is many connections to the port of the probes, by people who have no business there.
type crowd struct {
	t    *testing.T
	addr string

	mu    sync.Mutex
	conns []net.Conn
}

// come opens connections, all at once, and does something on each; it waits until that has been done, or was refused.
func (c *crowd) come(n int, do func(net.Conn)) {
	c.t.Helper()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			conn, err := net.DialTimeout("tcp", c.addr, 10*time.Second)
			if err != nil {
				c.t.Error(err)
				return
			}
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			c.mu.Lock()
			c.conns = append(c.conns, conn)
			c.mu.Unlock()
			do(conn)
		})
	}
	all.Wait()
}

func (c *crowd) leave() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

// TestStrangersAtThePort has clients do to the port of the probes what costs the server most, under the limit of memory that the
// manifest sets. The process lives, and somebody who asks for a probe gets an answer all the time.
func TestStrangersAtThePort(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, oneTable+tcnTrigger("actions"), oneRule)
	p := &program{livetest.NewProgram(t, &livetest.Program{
		Path: livetest.ProgramPath(t, livetest.AsShipped), Environ: append([]string{"PGEVICT_HTTP_ADDR=127.0.0.1:0"}, w.environ...),
	}), t}
	p.must(p.Serving())
	p.waitReady()
	limit := manifestLimit(t)
	if err := livetest.LimitMemory(t, p.Program, limit); err != nil {
		t.Logf("nobody but this test looks at the memory: %v", err)
	}
	addr := strings.TrimPrefix(p.URL(), "http://")

	// A probe comes on a connection of its own each time, as a kubelet's does, which believes the third failure in a row.
	probing, stopProbing := context.WithCancel(t.Context())
	var prober sync.WaitGroup
	defer prober.Wait()
	defer stopProbing()
	probes := 0
	prober.Go(func() {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
		failures := 0
		for tick := time.NewTicker(50 * time.Millisecond); probing.Err() == nil; <-tick.C {
			request, _ := http.NewRequestWithContext(probing, http.MethodGet, p.URL()+"/livez", nil)
			response, err := client.Do(request)
			if err != nil {
				if failures++; failures == 3 && probing.Err() == nil {
					t.Errorf("three probes in a row among them: %v", err)
					return
				}
				continue
			}
			failures = 0
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("a probe among them: %s", response.Status)
			}
			probes++
		}
	})

	connections := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	c := &crowd{t: t, addr: addr}
	few := func(most int) {
		t.Helper()
		eventually(t, "their connections are closed", func() bool { return connections() <= most })
	}

	// One header, and no end of it.
	header := []byte("GET /livez HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 900<<10))
	c.come(300, func(conn net.Conn) { _, _ = conn.Write(header) }) // which is refused sooner or later
	few(170)
	c.leave()

	// A question, and then nothing more on a connection that stays open.
	c.come(800, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
		_, _ = bufio.NewReader(conn).ReadString('\n') // or it was closed for another
	})
	if n := connections(); n > 170 {
		t.Errorf("%d files are open", n)
	}
	c.leave()

	// Nothing at all: they are not waited for.
	c.come(50, func(net.Conn) {})
	few(40)
	c.leave()

	// Many questions, and none of the answers is taken.
	questions := strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n", 2000)
	c.come(100, func(conn net.Conn) {
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(conn, questions)
	})
	few(40)
	c.leave()

	// A body that does not end, or that does not come.
	for _, body := range []string{"Content-Length: 1000000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"} {
		c.come(30, func(conn net.Conn) {
			_, _ = io.WriteString(conn, "POST /livez HTTP/1.1\r\nHost: x\r\n"+body)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Errorf("no answer to a body that does not come: %v", err)
				return
			}
			defer func() { _ = response.Body.Close() }()
			if response.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("POST: %s", response.Status)
			}
		})
		few(40)
		c.leave()
	}

	stopProbing()
	prober.Wait()
	if probes < 10 {
		t.Errorf("only %d probes", probes)
	}
	select {
	case <-p.Done():
		t.Error("it has ended")
	default:
		most, err := livetest.MostMemory(p.Pid())
		if err != nil || most > limit/2 {
			t.Errorf("it took %d MiB, %v", most>>20, err)
		}
		t.Logf("it took %d MiB at most, and answered %d probes meanwhile", most>>20, probes)
	}
}
