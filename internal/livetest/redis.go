package livetest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Redis is a server that saves nothing unless told to.
type Redis struct {
	Addr string // host and port
	Dir  string // its working directory, where a dump.rdb is loaded from

	server
	path   string
	port   string
	part   []string // arguments of every start: what makes it a node of a cluster, or a sentinel
	paused atomic.Bool
}

// StartRedis starts a new, empty server and waits until it answers PING. Arguments are those of redis-server, such as
// "--maxmemory", "1mb"; they come after the package's own and win.
func StartRedis(args ...string) (*Redis, error) { return startRedis("redis", nil, args) }

// StartValkey is StartRedis with valkey-server, which takes the same arguments.
func StartValkey(args ...string) (*Redis, error) { return startRedis("valkey", nil, args) }

func startRedis(name string, part, args []string) (*Redis, error) {
	path, err := find(name+"-server", name+"-server")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	h, err := newHost(name, nil)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	r := &Redis{Dir: h.dir, path: path, part: part, server: server{name: name, host: h, death: syscall.SIGKILL}}
	// CONFIG REWRITE and Sentinel need a file to write to.
	if err := os.WriteFile(r.configPath(), nil, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), r.Close())
	}
	err = onFreePort(func(port int) error {
		r.Addr, r.port = loopback(port), strconv.Itoa(port)
		return r.launch(args)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), r.Close())
	}
	return r, nil
}

func (r *Redis) configPath() string { return filepath.Join(r.Dir, "redis.conf") }

func (r *Redis) launch(args []string) error {
	return r.start(r.ready, r.path, slices.Concat([]string{
		r.configPath(),
		"--save", "",
		"--appendonly", "no",
		"--bind", "127.0.0.1",
		"--port", r.port,
		"--dir", r.Dir,
	}, r.part, args)...)
}

// ready wants PONG, and the right process id, since a stranger may be the one who listens on this port.
func (r *Redis) ready(pid int) error {
	conn, err := net.Dial("tcp", r.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	// While it loads, it refuses PING but answers INFO, so PING comes first.
	if _, err := io.WriteString(conn, "PING\r\nINFO server\r\n"); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	pong, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if strings.HasPrefix(pong, "-NOAUTH") { // started with a password, which only the caller knows
		return nil
	}
	if pong != "+PONG\r\n" {
		return fmt.Errorf("it answers PING with %q", pong)
	}
	var size int
	if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
		return fmt.Errorf("read its INFO: %w", err)
	}
	info := make([]byte, size)
	if _, err := io.ReadFull(in, info); err != nil {
		return fmt.Errorf("read its INFO: %w", err)
	}
	if !strings.Contains(string(info), fmt.Sprintf("\r\nprocess_id:%d\r\n", pid)) {
		return errors.New("another process answers")
	}
	return nil
}

// URL returns the connection URL of database 0.
func (r *Redis) URL() string { return "redis://" + r.Addr + "/0" }

// Kill is a crash: what was not saved is lost.
func (r *Redis) Kill() error {
	if err := r.stop(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", r.name, err)
	}
	r.paused.Store(false)
	return nil
}

// Start starts a killed server again, on the same port and in the same directory, and waits until it has loaded the
// dump.rdb there, if any. The package's own arguments apply again, and args, but not those of the last start. What is
// part of a cluster or of a Sentinel set stays that, with the arguments of the whole.
func (r *Redis) Start(args ...string) error {
	if err := onSamePort(func() error { return r.launch(args) }); err != nil {
		return fmt.Errorf("start %s: %w", r.name, err)
	}
	return nil
}

// Pause freezes the process: its connections stay open, new ones are taken by the kernel, and nobody answers.
func (r *Redis) Pause() {
	r.paused.Store(true)
	if r.proc.Signal(syscall.SIGSTOP) != nil {
		return
	}
	// The signal takes effect a moment later, and a command may still be answered until then.
	stat := fmt.Sprintf("/proc/%d/stat", r.proc.Pid)
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(pollInterval) {
		text, err := os.ReadFile(stat)
		if err != nil || strings.Contains(string(text), ") T ") {
			return
		}
	}
}

// Resume ends a Pause.
func (r *Redis) Resume() {
	_ = r.proc.Signal(syscall.SIGCONT)
	r.paused.Store(false)
}

// Close kills the server, if it runs, and removes its directory.
func (r *Redis) Close() error {
	if err := r.close(syscall.SIGKILL); err != nil {
		return fmt.Errorf("close %s: %w", r.name, err)
	}
	return nil
}
