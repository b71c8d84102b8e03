package doctor

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"pgevict/invalidate"
	"pgevict/invalidate/redisnode"

	"github.com/redis/go-redis/v9"
)

// look says what INFO tells of a server that is to take writes.
func (s *server) look(cluster bool, report Report) {
	switch {
	case s.infoErr != nil && cluster:
		report.Fail("redis server", s.infoErr.Error(), "allow INFO (ACL: +info): without it pgevict cannot tell that this is a Cluster, nor whether a server has restarted")
		return
	case s.infoErr != nil:
		report.Warn("redis server", s.infoErr.Error(), "allow INFO (ACL: +info): without it pgevict takes each new connection for one to a Redis that has restarted, and sweeps")
		return
	}
	version, role := redisnode.InfoField(s.info, "redis_version"), redisnode.InfoField(s.info, "role")
	if major, minor, _ := strings.Cut(version, "."); atLeast(major, 7) || major == "6" && atLeast(strings.Split(minor, ".")[0], 2) {
		report.OK("redis version", version)
	} else {
		report.Fail("redis version", version, "use Redis 6.2 or later: pgevict needs SET with GET and EX")
	}
	if role == "slave" {
		report.Fail("redis role", "it is a "+role+" of "+redisnode.InfoField(s.info, "master_host")+":"+redisnode.InfoField(s.info, "master_port"), "name the master in REDIS_URL: a replica takes no deletes")
	} else if !cluster { // of which it was said who the masters are
		report.OK("redis role", role)
	}
	s.persistence(report)
	s.memory(report)
}

func atLeast(number string, n int) bool {
	v, err := strconv.Atoi(number)
	return err == nil && v >= n
}

func (s *server) persistence(report Report) {
	found := "no AOF"
	if redisnode.InfoField(s.info, "aof_enabled") == "1" {
		found = "AOF"
	}
	saved, err := strconv.ParseInt(redisnode.InfoField(s.info, "rdb_last_save_time"), 10, 64)
	if err == nil && saved > 0 {
		ago := "less than a minute"
		if d := time.Since(time.Unix(saved, 0)).Round(time.Minute); d >= time.Minute {
			ago = strings.TrimSuffix(d.String(), "0s")
		}
		found += ", last snapshot or start " + ago + " ago"
	}
	if redisnode.InfoField(s.info, "rdb_last_bgsave_status") == "err" || redisnode.InfoField(s.info, "aof_last_write_status") == "err" {
		report.Warn("redis persistence", found+"; the last write to disk failed", "see Redis' log; unless stop-writes-on-bgsave-error is off, it refuses all writes")
		return
	}
	report.OK("redis persistence", found+"; after a restart with older data pgevict sweeps")
}

func (s *server) memory(report Report) {
	policy, limit := redisnode.InfoField(s.info, "maxmemory_policy"), redisnode.InfoField(s.info, "maxmemory")
	used, _ := strconv.ParseFloat(redisnode.InfoField(s.info, "used_memory"), 64)
	most, _ := strconv.ParseFloat(limit, 64)
	switch {
	case most == 0:
		report.OK("redis eviction", "no maxmemory")
	case policy != "noeviction":
		report.Warn("redis eviction", fmt.Sprintf("%s at %.0f %% of maxmemory", policy, 100*used/most), "leave room: when Redis is full it may evict pgevict's position, which costs a sweep")
	case used > 0.9*most:
		report.Warn("redis eviction", fmt.Sprintf("noeviction at %.0f %% of maxmemory", 100*used/most), "make room: a full Redis takes deletes, but not pgevict's position")
	default:
		report.OK("redis eviction", fmt.Sprintf("noeviction at %.0f %% of maxmemory", 100*used/most))
	}
}

// size is how many keys are in a database, as far as INFO tells; -1: it does not.
func (s *server) size(db int) int {
	if s.infoErr != nil {
		return -1
	}
	var n int
	_, _ = fmt.Sscanf(redisnode.InfoField(s.info, "db"+strconv.Itoa(db)), "keys=%d,", &n) // an empty database is not listed
	return n
}

// roundTrips writes a key of pgevict's own to each server, and says how long that takes.
func (d *redisCheck) roundTrips(ctx context.Context, masters []*server) {
	took := make([]time.Duration, len(masters))
	index := map[*server]int{}
	for i, s := range masters {
		index[s] = i
	}
	d.each("masters", masters, func(s *server, report Report) {
		key := invalidate.PositionPrefix + "doctor-" + d.probe
		if d.cluster {
			key += ":{" + redisnode.SlotTag(s.slot) + "}"
		}
		began := time.Now()
		err := s.rdb.SetArgs(ctx, key, d.probe, redis.SetArgs{Get: true, TTL: 10 * time.Second}).Err()
		switch {
		case err == nil, errors.Is(err, redis.Nil):
			took[index[s]] = time.Since(began)
			_ = s.rdb.Unlink(ctx, key).Err() // if that is not allowed, its TTL does it
		case redis.IsOOMError(err):
			report.Warn("redis writes", err.Error(), "make room: a full Redis takes deletes, but not pgevict's position")
		case !redis.IsPermissionError(err) && !redis.IsReadOnlyError(err): // those were said
			report.Fail("redis writes", err.Error(), "see Redis' log: until it takes writes, pgevict cannot delete")
		}
	})
	most := time.Duration(0)
	for _, t := range took {
		if t == 0 {
			return
		}
		most = max(most, t)
	}
	found := fmt.Sprintf("%.1f ms for a write", most.Seconds()*1000)
	if len(masters) > 1 {
		found += " to the slowest master"
	}
	d.report.OK("redis round trip", found)
}
