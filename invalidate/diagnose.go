package invalidate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"pgevict/rules"
)

// Say takes a finding: whether it is "ok", "warn" or "fail", what was looked at, what was found, and what to do.
type Say func(status, check, found, do string)

// walkAtMost is how long a diagnosis walks over the keyspace.
const walkAtMost = 10 * time.Second

// Diagnose looks whether a Redis is one in which the keys of a sweep can be deleted. It deletes none, and writes one key
// of its own for a moment.
func Diagnose(ctx context.Context, o *redis.Options, timeout time.Duration, sweep []rules.Target, say Say) {
	c := *o
	c.DialTimeout, c.ReadTimeout, c.WriteTimeout = timeout, timeout, timeout
	c.MaxRetries, c.DialerRetries = -1, 1
	c.PoolSize = 1 // a transaction must not find another connection
	c.DisableIdentity, c.ClientName = true, "pgevict-doctor"
	c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	user := c.Username
	if user == "" {
		user = "default"
	}
	d := diagnosis{redis.NewClient(&c), user, sweep, walkAtMost, say}
	defer func() { _ = d.rdb.Close() }()
	if err := d.rdb.Ping(ctx).Err(); err != nil && !redis.IsPermissionError(err) && !redis.HasErrorPrefix(err, "MISCONF") {
		do := "check REDIS_URL, and that Redis runs and can be reached from here"
		switch errorKind(err) {
		case "noauth":
			do = "check the user and the password in REDIS_URL"
		case "loading":
			do = "wait until Redis has loaded its data"
		}
		say("fail", "redis reachable", err.Error(), do)
		return
	}
	say("ok", "redis reachable", c.Addr, "")
	if !d.server(ctx) {
		return
	}
	d.permissions(ctx)
	d.walk(ctx)
}

type diagnosis struct {
	rdb     *redis.Client
	user    string
	sweep   []rules.Target
	walkFor time.Duration
	say     Say
}

// server looks at what INFO tells, and reports whether it is a server that pgevict supports.
func (d diagnosis) server(ctx context.Context) bool {
	info, err := d.rdb.Info(ctx).Result()
	if err != nil {
		d.say("warn", "redis server", err.Error(), "allow INFO (ACL: +info): without it pgevict takes each new connection for one to a Redis that has restarted, and sweeps")
		return true
	}
	version, mode, role := infoField(info, "redis_version"), infoField(info, "redis_mode"), infoField(info, "role")
	if major, minor, _ := strings.Cut(version, "."); atLeast(major, 7) || major == "6" && minor >= "2" {
		d.say("ok", "redis version", version, "")
	} else {
		d.say("fail", "redis version", version, "use Redis 6.2 or later: pgevict needs SET with GET and EX")
	}
	if mode != "" && mode != "standalone" {
		d.say("fail", "redis role", "its mode is "+mode, "name a single server: Cluster and Sentinel are not supported yet")
		return false
	}
	if role != "slave" {
		d.say("ok", "redis role", role, "")
	} else {
		d.say("fail", "redis role", "it is a "+role+" of "+infoField(info, "master_host")+":"+infoField(info, "master_port"), "name the master in REDIS_URL: a replica takes no deletes")
	}
	d.persistence(info)
	d.memory(info)
	return true
}

func atLeast(number string, n int) bool {
	v, err := strconv.Atoi(number)
	return err == nil && v >= n
}

func (d diagnosis) persistence(info string) {
	found := "no AOF"
	if infoField(info, "aof_enabled") == "1" {
		found = "AOF"
	}
	saved, err := strconv.ParseInt(infoField(info, "rdb_last_save_time"), 10, 64)
	if err == nil && saved > 0 {
		found += fmt.Sprintf(", last snapshot or start %s ago", time.Since(time.Unix(saved, 0)).Round(time.Second))
	}
	if infoField(info, "rdb_last_bgsave_status") == "err" || infoField(info, "aof_last_write_status") == "err" {
		d.say("warn", "redis persistence", found+"; the last write to disk failed", "see Redis' log; unless stop-writes-on-bgsave-error is off, it refuses all writes")
		return
	}
	d.say("ok", "redis persistence", found+"; after a restart with older data pgevict sweeps", "")
}

func (d diagnosis) memory(info string) {
	policy, limit := infoField(info, "maxmemory_policy"), infoField(info, "maxmemory")
	used, _ := strconv.ParseFloat(infoField(info, "used_memory"), 64)
	most, _ := strconv.ParseFloat(limit, 64)
	switch {
	case most == 0:
		d.say("ok", "redis eviction", "no maxmemory", "")
	case policy != "noeviction":
		d.say("warn", "redis eviction", fmt.Sprintf("%s at %.0f %% of maxmemory", policy, 100*used/most), "leave room: when Redis is full it may evict pgevict's position, which costs a sweep")
	case used > 0.9*most:
		d.say("warn", "redis eviction", fmt.Sprintf("noeviction at %.0f %% of maxmemory", 100*used/most), "make room: a full Redis takes deletes, but not pgevict's position")
	default:
		d.say("ok", "redis eviction", fmt.Sprintf("noeviction at %.0f %% of maxmemory", 100*used/most), "")
	}
}

// permissions tries each command that serve uses, on keys that nobody has.
func (d diagnosis) permissions(ctx context.Context) {
	probe := rand.Text()
	var denied, grants []string
	var other error
	try := func(what string, err error, grant ...string) bool {
		switch {
		case err == nil, errors.Is(err, redis.Nil):
			return true
		case redis.IsPermissionError(err):
			denied = append(denied, what+": "+err.Error())
			grants = append(grants, grant...)
		case !redis.IsReadOnlyError(err) && other == nil: // that it is a replica was said
			other = err
		}
		return false
	}
	positions := "~" + positionPrefix + "*"
	try("+scan", d.rdb.Scan(ctx, 0, "", 1).Err(), "+scan")
	key := positionPrefix + "doctor-" + probe
	began := time.Now()
	written := try("+set "+positions, d.rdb.SetArgs(ctx, key, probe, redis.SetArgs{Get: true, TTL: 10 * time.Second}).Err(), "+set", "+get", positions)
	removed := d.rdb.Unlink(ctx, key).Err() // its TTL would do too
	took := time.Since(began)
	queued, mayUnlink := d.queueUnlinks(ctx)
	defer queued()
	var unsure []string
	for _, t := range d.sweep {
		pattern := t.Key
		if t.Kind == rules.Key {
			pattern = escape(t.Key)
		}
		what, grant := fmt.Sprintf("+unlink ~%s (rule %s)", pattern, t.Rule()), []string{"+unlink", "~" + pattern}
		if t.Kind != rules.Key {
			try(what, d.rdb.Unlink(ctx, strings.Join(split(t.Key), probe)).Err(), grant...)
			continue
		}
		sure, err := mayUnlink(t.Key)
		if sure {
			try(what, err, grant...)
		} else if err != nil || redis.IsPermissionError(removed) {
			unsure = append(unsure, what)
		}
	}
	switch {
	case len(denied) > 0:
		slices.Sort(grants)
		d.say("fail", "redis permissions", strings.Join(denied, "; "), "ACL SETUSER "+d.user+" "+strings.Join(slices.Compact(grants), " "))
	case len(unsure) > 0:
		d.say("warn", "redis permissions", "without MULTI it cannot be tried whether this is allowed, and it does not look so: "+strings.Join(unsure, "; "),
			"make sure of it: ACL GETUSER "+d.user)
	case other == nil:
		d.say("ok", "redis permissions", "SCAN, SET, and UNLINK of the keys of every rule", "")
	}
	switch {
	case redis.IsOOMError(other):
		d.say("warn", "redis writes", other.Error(), "make room: a full Redis takes deletes, but not pgevict's position")
	case other != nil:
		d.say("fail", "redis writes", other.Error(), "see Redis' log: until it takes writes, pgevict cannot delete")
	case written && removed == nil:
		d.say("ok", "redis round trip", fmt.Sprintf("%.1f ms for a write and a delete", took.Seconds()*1000), "")
	}
}

// queueUnlinks gives a function that finds out whether a key may be deleted, without deleting it: Redis looks at what is
// allowed when a command is queued in a transaction, and this one is never executed. Where transactions are not allowed
// themselves, a SET that can only be a syntax error shows whether the key is one that the user may write to; but a user may
// have other rights for other commands, so that is not sure.
func (d diagnosis) queueUnlinks(ctx context.Context) (end func(), mayUnlink func(key string) (sure bool, err error)) {
	alone := *d.rdb.Options()
	client := redis.NewClient(&alone) // nothing else may get into the transaction
	conn := client.Conn()
	transaction := conn.Do(ctx, "MULTI").Err() == nil
	end = func() { _, _ = conn.Close(), client.Close() } // which discards it
	return end, func(key string) (bool, error) {
		args := []any{"SET", key, "", "NX", "XX"}
		if transaction {
			args = []any{"UNLINK", key}
		}
		err := conn.Do(ctx, args...).Err()
		if isReply(err) && !redis.IsPermissionError(err) {
			err = nil
		}
		return transaction, err
	}
}

// walk counts what a sweep would delete, at the pace of a sweep.
func (d diagnosis) walk(ctx context.Context) {
	size, err := d.rdb.DBSize(ctx).Result()
	if err != nil { // serve does not need it
		size = -1
	}
	counts := make([]int, len(d.sweep))
	began := time.Now()
	seen, cursor := 0, uint64(0)
	for {
		step := time.Now()
		keys, next, err := d.rdb.Scan(ctx, cursor, "", scanCount).Result()
		if err != nil {
			if !redis.IsPermissionError(err) { // which was said
				d.say("fail", "redis keys", err.Error(), "see Redis' log")
			}
			return
		}
		seen += len(keys)
		for _, key := range keys {
			for i, t := range d.sweep {
				if covers(t, key) {
					counts[i]++
				}
			}
		}
		if cursor = next; cursor == 0 || time.Since(began) > d.walkFor || rest(ctx, time.Since(step)) != nil {
			break
		}
	}
	took := time.Since(began)
	share, about := 1.0, ""
	switch {
	case cursor == 0:
	case size > 0:
		share, about = min(1, max(float64(seen), 1)/float64(size)), "about "
	default:
		about = "more than "
	}
	total := 0
	for i, t := range d.sweep {
		n := int(float64(counts[i]) / share)
		total += n
		d.say("ok", "redis keys", fmt.Sprintf("rule %s: a sweep of %s would delete %s%d keys", t.Rule(), t.Key, about, n), "")
	}
	if total == 0 && seen > 0 {
		d.say("warn", "redis keys", fmt.Sprintf("no key of the %d in this database is one of the rules", seen), "if the cache is not empty, check the templates in the rules, and the number of the database in REDIS_URL")
	}
	d.say("ok", "redis walk", fmt.Sprintf("a pass over the %s%d keys takes %s%s", about, int(float64(seen)/share), about, time.Duration(float64(took)/share).Round(time.Millisecond)), "")
}

// covers reports whether a target is that key, or matches it.
func covers(t rules.Target, key string) bool {
	if t.Kind == rules.Key {
		return t.Key == key
	}
	texts := split(t.Key)
	rest, ok := strings.CutPrefix(key, texts[0])
	return ok && glob{t, texts[1:]}.match(rest)
}
