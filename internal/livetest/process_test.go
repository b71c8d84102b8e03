package livetest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

const childEnv = "LIVETEST_CHILD"

// child is another program that starts one server of each kind, tells their process ids, and waits to be killed.
func child() {
	pg, err := StartPostgres()
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := StartPgBouncer(pg, "transaction")
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := StartRedis()
	if err != nil {
		fmt.Println(err)
		return
	}
	frozen, err := StartRedis()
	if err != nil {
		fmt.Println(err)
		return
	}
	frozen.Pause()
	_ = json.NewEncoder(os.Stdout).Encode([]int{pg.proc.Pid, b.proc.Pid, r.proc.Pid, frozen.proc.Pid})
	if os.Getenv(childEnv) == "panic" {
		go panic("as go test does when its time is up")
	}
	select {}
}

func TestNothingOutlivesAnAbruptEnd(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends children with their parent")
	}
	for _, end := range []string{"kill", "panic"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			// The child cannot remove its directories, so they are all put into one that this test removes. Not
			// t.TempDir: Postgres, not running as root, could not get in.
			dir, err := os.MkdirTemp("", "livetest-child-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			if err := os.Chmod(dir, 0o711); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"="+end, "TMPDIR="+dir)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatalf("read what the child says: %q, %v", line, err)
			}
			var pids []int
			if err := json.Unmarshal([]byte(line), &pids); err != nil {
				t.Fatalf("the child says: %s", line)
			}
			if end == "kill" {
				// The panicking one may be gone already, so this is the one whose offspring can be counted.
				all := descendants(t, cmd.Process.Pid)
				if len(all) < len(pids)+3 {
					t.Errorf("only %d descendants: Postgres has several of its own", len(all))
				}
				pids = append(pids, all...)
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			_ = cmd.Wait()
			for _, pid := range pids {
				Eventually(t, 20*time.Second, fmt.Sprintf("process %d is gone", pid), func() bool { return gone(pid) })
			}
		})
	}
}

// stat returns the state and the parent of a process.
func stat(pid int) (state string, parent int, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, false
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	parent, err = strconv.Atoi(fields[1])
	return fields[0], parent, err == nil
}

// gone counts a zombie as gone: its new parent has not looked yet.
func gone(pid int) bool {
	state, _, ok := stat(pid)
	return !ok || state == "Z" || state == "X"
}

func descendants(t *testing.T, root int) (pids []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]int{}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			t.Fatal(err)
		}
		if _, parent, ok := stat(pid); ok {
			children[parent] = append(children[parent], pid)
		}
	}
	for next := children[root]; len(next) > 0; {
		pid := next[0]
		pids = append(pids, pid)
		next = append(next[1:], children[pid]...)
	}
	return pids
}

// The signal of death comes with the end of the thread that forked, which need not be the end of the program.
func TestServersOutliveTheThreadThatStartedThem(t *testing.T) {
	t.Parallel()
	started := make(chan *Redis)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		r, err := StartRedis()
		if err != nil {
			t.Error(err)
		}
		started <- r
	}()
	r := <-started
	if r == nil {
		return
	}
	closeAfter(t, r.Close)
	rdb := client(t, r)
	for range 50 {
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStartTakesAnotherPort(t *testing.T) {
	t.Parallel()
	stranger, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	taken := stranger.Addr().(*net.TCPAddr).Port

	r := NewRedis(t)
	pg := NewPostgres(t)
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := pg.Stop("fast"); err != nil {
		t.Fatal(err)
	}
	tries := map[string]int{}
	for name, launch := range map[string]func(port int) error{
		"redis":    func(port int) error { r.Addr, r.port = loopback(port), strconv.Itoa(port); return r.launch(nil) },
		"postgres": func(port int) error { pg.Port, pg.Addr = port, loopback(port); return pg.launch() },
	} {
		err := onFreePort(func(port int) error {
			if tries[name]++; tries[name] == 1 {
				port = taken
			}
			return launch(port)
		})
		if err != nil || tries[name] != 2 {
			t.Errorf("%s: %d tries, %v", name, tries[name], err)
		}
	}
}

func TestClusterNodeTakesAnotherPortIfItsBusIsTaken(t *testing.T) {
	t.Parallel()
	r := NewRedis(t, "--cluster-enabled", "yes")
	port, err := strconv.Atoi(r.port)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	stranger, err := net.Listen("tcp4", loopback(port+10000))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if err := r.launch([]string{"--cluster-enabled", "yes"}); !errors.Is(err, errPortTaken) {
		t.Errorf("%v, which is not tried again with another port", err)
	}
}

func TestRestartWaitsForItsPort(t *testing.T) {
	t.Parallel()
	r := NewRedis(t)
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	stranger, err := net.Listen("tcp4", r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	tries := 0
	err = onSamePort(func() error {
		if tries++; tries == 2 {
			_ = stranger.Close()
		}
		return r.launch(nil)
	})
	if err != nil || tries != 2 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(dir, "inside")
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if reachable(inside) || reachable(filepath.Join(dir, "missing")) || !reachable("/") {
		t.Error("wrong")
	}
}

func TestEventually(t *testing.T) {
	t.Parallel()
	calls := 0
	Eventually(t, time.Minute, "three calls", func() bool { calls++; return calls == 3 })
	if calls != 3 {
		t.Errorf("%d calls", calls)
	}
}
