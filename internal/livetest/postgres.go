// Package livetest runs real servers for tests, benchmarks and the demo: Postgres, Redis and PgBouncer, each on a free
// loopback port and in a temporary directory, and a TCP proxy that breaks connections. On Linux no server outlives the
// program that started it, however that ends; only directories may stay behind then.
//
// Most of the time that a new Postgres takes goes into the thousand files of its data directory, so tests that start
// many are faster with TMPDIR on a tmpfs such as /dev/shm.
//
// The methods of one server are for one goroutine at a time; its address and URL may be read by all.
package livetest

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Postgres is a server with the superuser postgres, who needs no password.
type Postgres struct {
	Port    int
	Addr    string // host and port
	Dir     string // the data directory
	Version int    // the major one

	server
	bin      string
	settings []string
	closed   bool
}

// StartPostgres makes a new, empty server and waits until it takes connections. Settings are "name=value". It does not
// fsync, but what was committed outlives each kind of Stop: the kernel has it, and only a crash of the machine would
// lose it.
func StartPostgres(settings ...string) (*Postgres, error) {
	p := &Postgres{settings: settings}
	if err := p.create(); err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	err := onFreePort(func(port int) error {
		p.Port, p.Addr = port, loopback(port)
		return p.launch()
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start postgres: %w", err), p.Close())
	}
	return p, nil
}

// create finds the programs, and makes the data directory.
func (p *Postgres) create() error {
	bin, err := findPostgres()
	if err != nil {
		return err
	}
	user, err := unprivileged()
	if err != nil {
		return err
	}
	h, err := newHost("postgres", user)
	if err != nil {
		return err
	}
	p.bin, p.Dir = bin, filepath.Join(h.dir, "data")
	// SIGQUIT: the postmaster ends, and takes all of its children along.
	p.server = server{name: "postgres", host: h, death: syscall.SIGQUIT}
	pristine.hold()
	if err := pristine.copy(p.bin, h, p.Dir); err != nil {
		return errors.Join(err, p.Close())
	}
	text, err := os.ReadFile(filepath.Join(p.Dir, "PG_VERSION"))
	if err == nil {
		p.Version, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("read the version: %w", err), p.Close())
	}
	return nil
}

func (p *Postgres) launch() error {
	args := []string{"-D", p.Dir}
	for _, setting := range append([]string{
		"listen_addresses=127.0.0.1",
		"port=" + strconv.Itoa(p.Port),
		"unix_socket_directories=",
		"fsync=off",
		"full_page_writes=off",
	}, p.settings...) {
		args = append(args, "-c", setting)
	}
	return p.start(p.ready, filepath.Join(p.bin, "postgres"), args...)
}

// ready asks the lock file, as pg_ctl does: a connection could reach a stranger on the same port.
func (p *Postgres) ready(pid int) error {
	text, err := os.ReadFile(filepath.Join(p.Dir, "postmaster.pid"))
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 8 || lines[0] != strconv.Itoa(pid) {
		return errors.New("the lock file is not written yet")
	}
	if status := strings.TrimSpace(lines[7]); status != "ready" && status != "standby" {
		return fmt.Errorf("its status is %q", status)
	}
	return nil
}

// Program gives the path of one of the programs that came with the server, such as pgbench.
func (p *Postgres) Program(name string) string { return filepath.Join(p.bin, name) }

// URL returns the connection URL of a database.
func (p *Postgres) URL(database string) string { return postgresURL(p.Addr, database) }

func postgresURL(addr, database string) string {
	return "postgres://postgres@" + addr + "/" + url.PathEscape(database) + "?sslmode=disable"
}

// Stop stops the server, and waits until it is gone. The modes are those of pg_ctl: "smart" waits until all clients have
// left, "fast" disconnects them, "immediate" is a crash.
func (p *Postgres) Stop(mode string) error {
	signals := map[string]syscall.Signal{"smart": syscall.SIGTERM, "fast": syscall.SIGINT, "immediate": syscall.SIGQUIT}
	sig, ok := signals[mode]
	if !ok {
		return fmt.Errorf("stop postgres: no mode %q", mode)
	}
	if err := p.stop(sig); err != nil {
		return fmt.Errorf("stop postgres: %w", err)
	}
	return nil
}

// Start starts a stopped server again: same port, same data, same settings.
func (p *Postgres) Start() error {
	if err := onSamePort(p.launch); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	return nil
}

// Close stops the server, if it runs, and removes its data.
func (p *Postgres) Close() error {
	if p.closed {
		return nil
	}
	p.closed = true
	if err := errors.Join(p.close(syscall.SIGQUIT), pristine.release()); err != nil {
		return fmt.Errorf("close postgres: %w", err)
	}
	return nil
}
