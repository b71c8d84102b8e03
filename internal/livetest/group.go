package livetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	agreeTimeout   = time.Minute // for servers that find each other, or elect somebody, on a machine that tests share
	commandTimeout = 5 * time.Second
)

// startAll starts n servers at the same time, or none. All of part are arguments of their later starts too.
func startAll(n int, part ...string) ([]*Redis, error) {
	all, errs := make([]*Redis, n), make([]error, n)
	var starting sync.WaitGroup
	for i := range n {
		starting.Go(func() { all[i], errs[i] = startRedis("redis", part, nil) })
	}
	starting.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, closeAll(all))
	}
	return all, nil
}

// replicating returns arguments for servers that replicate, with args behind them.
func replicating(args ...string) []string {
	return append([]string{
		// A transfer without a file is not over when both sides say so: writes reach the replica a second later.
		"--repl-diskless-sync", "no",
		"--rdb-del-sync-files", "yes", // or a killed server would start with the data of its last transfer
		"--repl-ping-replica-period", "1",
	}, args...)
}

func closeAll(all []*Redis) error {
	var errs []error
	for _, r := range all {
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	return errors.Join(errs...)
}

// findAddr returns who of all listens on an address, or nil.
func findAddr(all []*Redis, addr string) *Redis {
	for _, r := range all {
		if r.Addr == addr {
			return r
		}
	}
	return nil
}

// await asks every few milliseconds until nothing is missing.
func await(what string, missing func() error) error {
	deadline := time.Now().Add(agreeTimeout)
	for {
		err := missing()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v: %w", what, agreeTimeout, err)
		}
		time.Sleep(5 * pollInterval)
	}
}

// do sends one command over a connection of its own: the server may have been killed and started since the last one.
func (r *Redis) do(args ...any) *redis.Cmd {
	ctx := context.Background()
	cmd := redis.NewCmd(ctx, args...)
	// The client would log that a killed server is not there.
	conn, err := net.DialTimeout("tcp", r.Addr, commandTimeout)
	if err != nil {
		cmd.SetErr(err)
		return cmd
	}
	defer conn.Close()
	rdb := redis.NewClient(&redis.Options{
		Dialer:          func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		Protocol:        2,
		DisableIdentity: true,
		MaxRetries:      -1,
		ReadTimeout:     commandTimeout,
	})
	defer rdb.Close()
	if err := rdb.Process(ctx, cmd); err != nil {
		cmd.SetErr(fmt.Errorf("%v to %s: %w", args[0], r.Addr, err))
	}
	return cmd
}

// askAll sends a command to all that run, which are neither killed nor paused. The answers are there in spite of an error.
func askAll(all []*Redis, args ...any) (map[*Redis]*redis.Cmd, error) {
	answers := map[*Redis]*redis.Cmd{}
	var errs []error
	for _, r := range all {
		if r.paused.Load() {
			continue
		}
		answer := r.do(args...)
		if err := answer.Err(); err == nil {
			answers[r] = answer
		} else if !errors.Is(err, syscall.ECONNREFUSED) {
			errs = append(errs, err)
		}
	}
	return answers, errors.Join(errs...)
}

// want wants a text in the answer to a command.
func (r *Redis) want(part string, command ...any) error {
	text, err := r.do(command...).Text()
	if err != nil {
		return err
	}
	if !strings.Contains(text, part) {
		return fmt.Errorf("%s does not say %s", r.Addr, strings.TrimSpace(part))
	}
	return nil
}

// replicates wants r to be a replica that has the master's data, and will have what is written from now on. The replica
// calls the link up before the master does, which until then only keeps what it writes.
func (r *Redis) replicates(master *Redis) error {
	for _, line := range []string{"role:slave\r\n", "master_port:" + master.port + "\r\n", "master_link_status:up\r\n"} {
		if err := r.want(line, "INFO", "replication"); err != nil {
			return err
		}
	}
	return master.want("port="+r.port+",state=online,", "INFO", "replication")
}
