package livetest

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// SentinelSet is a master, its replicas, and the sentinels that watch them and make a replica the master when it is down.
type SentinelSet struct {
	Redis     []*Redis // at the start the master first
	Sentinels []*Redis
	Name      string // of the master, among sentinels
}

// StartSentinelSet starts a set and waits until each replica has its master's data and the sentinels know all of them and
// each other. Arguments are those of redis-server for the master and the replicas, at their later starts too.
func StartSentinelSet(replicas, sentinels int, args ...string) (*SentinelSet, error) {
	s := &SentinelSet{Name: "mymaster"}
	var err error
	if s.Redis, err = startAll(1+replicas, replicating(args...)...); err != nil {
		return nil, fmt.Errorf("start a sentinel set: %w", err)
	}
	if s.Sentinels, err = startAll(sentinels, "--sentinel"); err == nil {
		err = s.form()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a sentinel set: %w", err), s.Close())
	}
	return s, nil
}

func (s *SentinelSet) form() error {
	master, replicas := s.Redis[0], s.Redis[1:]
	for _, r := range replicas {
		if err := r.do("REPLICAOF", "127.0.0.1", master.port).Err(); err != nil {
			return err
		}
		// So that it starts again as what it was. The sentinels do the same when they change what it is.
		if err := r.do("CONFIG", "REWRITE").Err(); err != nil {
			return err
		}
	}
	for _, r := range replicas {
		if err := await("replicate", func() error { return r.replicates(master) }); err != nil {
			return err
		}
	}
	for _, sentinel := range s.Sentinels {
		for _, command := range [][]any{
			// What they do every 10, 2, 1 and 1 seconds, and how long they trust nobody after the machine was slow. Started
			// again, a sentinel has the usual periods.
			{"DEBUG", "info-period", 200, "publish-period", 200, "ping-period", 200, "ask-period", 200, "tilt-period", 2000},
			{"MONITOR", s.Name, "127.0.0.1", master.port, len(s.Sentinels)/2 + 1},
			{"SET", s.Name, "down-after-milliseconds", 1000, "failover-timeout", 3000},
		} {
			if err := sentinel.do(append([]any{"SENTINEL"}, command...)...).Err(); err != nil {
				return err
			}
		}
	}
	return await("form", s.unformed)
}

// unformed says what is missing of a new set.
func (s *SentinelSet) unformed() error {
	for _, sentinel := range s.Sentinels {
		for _, want := range []struct {
			command []any
			flags   string
			count   int
		}{
			{[]any{"SENTINEL", "MASTERS"}, "master", 1},
			{[]any{"SENTINEL", "REPLICAS", s.Name}, "slave", len(s.Redis) - 1},
			{[]any{"SENTINEL", "SENTINELS", s.Name}, "sentinel", len(s.Sentinels) - 1},
		} {
			list, err := sentinel.do(want.command...).Slice()
			if err != nil {
				return err
			}
			if len(list) != want.count {
				return fmt.Errorf("%s knows %d of %d %ss", sentinel.Addr, len(list), want.count, want.flags)
			}
			for _, one := range list {
				if flags := properties(one)["flags"]; flags != want.flags {
					return fmt.Errorf("%s thinks that a %s is %s", sentinel.Addr, want.flags, flags)
				}
			}
		}
	}
	return nil
}

// properties makes a map of the names and values that a sentinel lists by turns.
func properties(answer any) map[string]string {
	list, _ := answer.([]any)
	m := map[string]string{}
	for i := 0; i+1 < len(list); i += 2 {
		m[fmt.Sprint(list[i])] = fmt.Sprint(list[i+1])
	}
	return m
}

// URL returns a connection URL with the addresses of the sentinels and the name of their master, as go-redis reads it.
func (s *SentinelSet) URL() string {
	url := "redis://" + s.Sentinels[0].Addr + "?master_name=" + s.Name
	for _, sentinel := range s.Sentinels[1:] {
		url += "&addr=" + sentinel.Addr
	}
	return url
}

// Master returns who is the master, as the sentinels that run say. When they disagree, the last to become it is it.
func (s *SentinelSet) Master() (*Redis, error) {
	answers, err := s.masters()
	epoch := -1
	var addr string
	for _, answer := range answers {
		if answer.epoch > epoch {
			epoch, addr = answer.epoch, answer.addr
		}
	}
	if r := findAddr(s.Redis, addr); r != nil {
		return r, nil
	}
	return nil, errors.Join(fmt.Errorf("ask the sentinels: no known master, but %q", addr), err)
}

// opinion is which master a sentinel knows, and which of the elections it knows it from.
type opinion struct {
	addr  string
	epoch int
}

// masters asks every sentinel that runs. The answers are there in spite of an error.
func (s *SentinelSet) masters() (map[*Redis]opinion, error) {
	answers, err := askAll(s.Sentinels, "SENTINEL", "MASTER", s.Name)
	opinions := map[*Redis]opinion{}
	for sentinel, answer := range answers {
		p := properties(answer.Val())
		epoch, parseErr := strconv.Atoi(p["config-epoch"])
		if parseErr == nil {
			opinions[sentinel] = opinion{net.JoinHostPort(p["ip"], p["port"]), epoch}
		}
		err = errors.Join(err, parseErr)
	}
	return opinions, err
}

// Failover has the sentinels make a replica the master, and waits until all of them that run say so, and the old master,
// if it runs, is a replica with the new one's data.
func (s *SentinelSet) Failover() error {
	old, err := s.Master()
	if err != nil {
		return fmt.Errorf("fail over: %w", err)
	}
	if err := await("fail over", s.beginFailover); err != nil {
		return err
	}
	sent := time.Now()
	return await("fail over", func() error {
		err := s.unfinished(old)
		if errors.Is(err, errStillMaster) && time.Since(sent) > failoverRetry {
			sent = time.Now() // a sentinel gives up when it thinks for a moment that no replica is fit
			return errors.Join(err, s.beginFailover())
		}
		return err
	})
}

// beginFailover asks one sentinel after the other, until one does it, or does it already.
func (s *SentinelSet) beginFailover() error {
	err := errors.New("no sentinel runs")
	for _, sentinel := range s.Sentinels {
		if sentinel.paused.Load() {
			continue
		}
		err = sentinel.do("SENTINEL", "FAILOVER", s.Name).Err()
		if err == nil || redis.HasErrorPrefix(err, "INPROG") {
			return nil
		}
	}
	return err
}

var errStillMaster = errors.New("it is still the master")

// unfinished says what is missing of a failover.
func (s *SentinelSet) unfinished(old *Redis) error {
	master, err := s.Master()
	if err != nil {
		return err
	}
	if master == old {
		return fmt.Errorf("%s: %w", old.Addr, errStillMaster)
	}
	opinions, err := s.masters()
	if err != nil {
		return err
	}
	for sentinel, has := range opinions {
		if has.addr != master.Addr {
			return fmt.Errorf("%s thinks that %s is the master", sentinel.Addr, has.addr)
		}
	}
	if err := master.want("role:master\r\n", "INFO", "replication"); err != nil {
		return err
	}
	runs, err := askAll([]*Redis{old}, "PING")
	if err != nil {
		return err
	}
	if runs[old] == nil {
		return nil
	}
	return old.replicates(master)
}

// Close kills all of them.
func (s *SentinelSet) Close() error {
	return errors.Join(closeAll(s.Sentinels), closeAll(s.Redis))
}
