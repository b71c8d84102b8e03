package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"pgevict/invalidate"
	"pgevict/invalidate/redisnode"
	"pgevict/rules"
)

// permissions finds out which commands are denied.
func (d *redisCheck) permissions(ctx context.Context, s *server, needs []invalidate.Right, report Report) {
	anyKey := invalidate.Right{Args: []any{"unlink", d.probe}}
	tried, err := d.try(ctx, s, append(slices.Clone(needs), anyKey))
	if err != nil {
		report.Fail("redis permissions", err.Error(), "see Redis' log")
		return
	}
	s.members = !redis.IsPermissionError(tried[len(needs)].err)
	var denied, grants, unsure, verbs []string
	for i, n := range needs {
		if verb := n.Verb(); !slices.Contains(verbs, verb) {
			verbs = append(verbs, verb)
		}
		switch err := tried[i].err; {
		case !tried[i].sure:
			unsure = append(unsure, n.String())
		case redis.IsPermissionError(err):
			denied = append(denied, n.String()+": "+err.Error())
			grants = append(grants, n.Grants...)
		case redis.HasErrorPrefix(err, "unknown"):
			report.Fail("redis permissions", n.String()+": Redis does not know "+n.Verb(), "use a Redis that does, or do not have it renamed")
		}
	}
	switch {
	case len(denied) > 0:
		slices.Sort(grants)
		report.Fail("redis permissions", strings.Join(denied, "; "), "ACL SETUSER "+d.user+" "+strings.Join(slices.Compact(grants), " "))
	case len(unsure) > 0:
		d.unsure(strings.Join(unsure, "; "), report)
	default:
		report.OK("redis permissions", strings.Join(verbs, ", ")+", on the keys of every rule")
	}
}

func (d *redisCheck) unsure(what string, report Report) {
	report.Warn("redis permissions", "without MULTI it cannot be tried whether this is allowed: "+what,
		"ACL SETUSER "+d.user+" +multi, which only the doctor needs; or make sure of it: ACL GETUSER "+d.user)
}

// trial is what became of a need that was tried.
type trial struct {
	err  error // Redis' answer
	sure bool  // it was tried
}

// try finds out what is allowed, and executes nothing that names a key which there may be: Redis looks at what is allowed
// when a command is queued in a transaction, and this one is never executed. In a Cluster, too, it looks at that first, and
// only then at whose the key is; and a replica before it says that it takes no writes. Where transactions are not allowed
// themselves, those commands are executed that cannot do anything.
func (d *redisCheck) try(ctx context.Context, s *server, needs []invalidate.Right) ([]trial, error) {
	alone := *s.rdb.Options()
	client := redis.NewClient(&alone)
	defer func() { _ = client.Close() }() // which discards the transaction
	transaction := client.Do(ctx, "MULTI").Err() == nil
	pipe := client.Pipeline()
	if transaction { // once more: in a pipeline nothing gets to another connection, outside of the transaction
		pipe.Do(ctx, "MULTI")
	}
	tried, answers := make([]trial, len(needs)), make([]*redis.Cmd, len(needs))
	for i, n := range needs {
		if transaction || !n.Live {
			tried[i].sure, answers[i] = true, pipe.Do(ctx, n.Args...)
		}
	}
	replies, err := pipe.Exec(ctx)
	if err != nil && (!redisnode.IsReply(err) || !slices.ContainsFunc(replies, func(r redis.Cmder) bool { return r.Err() != nil })) {
		return nil, err // an error of the handshake looks like a reply, but no command has it
	}
	for i, answer := range answers {
		if answer != nil {
			tried[i].err = answer.Err()
		}
	}
	return tried, nil
}

// someMembers bounds how many members of a tag are looked at.
const someMembers = 100

// members looks whether those keys may be deleted that the tags name now: they may be any. It reads a few of the sets.
func (d *redisCheck) members(ctx context.Context, masters []*server) {
	if !slices.ContainsFunc(d.subjects, func(s subject) bool { return s.wide.IsTag() }) || !slices.ContainsFunc(masters, func(s *server) bool { return !s.members }) {
		return
	}
	var keys []string
	for _, s := range masters {
		for _, set := range s.sets {
			some, err := s.rdb.SRandMemberN(ctx, set, someMembers).Result()
			if err != nil { // it may be gone by now
				continue
			}
			keys = append(keys, some[:min(len(some), someMembers)]...)
		}
	}
	if len(keys) == 0 {
		d.report.Warn("redis permissions", "not every key may be deleted, and there is no member of a tag to try it with",
			"make sure that the members of tags may be deleted: ACL SETUSER "+d.user+" +unlink ~<their pattern>")
		return
	}
	needs := make([]invalidate.Right, len(keys))
	for i, key := range keys {
		needs[i] = invalidate.Right{Args: []any{"unlink", key}, Live: true}
	}
	d.each("masters", masters, func(s *server, report Report) {
		tried, err := d.try(ctx, s, needs)
		if err != nil {
			report.Fail("redis permissions", err.Error(), "see Redis' log")
			return
		}
		for i, key := range keys {
			if err := tried[i].err; redis.IsPermissionError(err) {
				report.Fail("redis permissions", fmt.Sprintf("+unlink of %q, a member of a tag: %s", key, err),
					"ACL SETUSER "+d.user+" +unlink ~"+invalidate.Grantable(rules.EscapeGlob(key))+", or rather the pattern of all members")
				return
			}
			if !tried[i].sure {
				d.unsure("UNLINK of the members of tags", report)
				return
			}
		}
		report.OK("redis permissions", fmt.Sprintf("UNLINK of the members of tags, as far as %d of them show", len(keys)))
	})
}

// successors looks whether those that may become masters let the same user do the same: each server has an ACL of its own.
func (d *redisCheck) successors(ctx context.Context, replicas []*server, needs []invalidate.Right) {
	if len(replicas) == 0 {
		return
	}
	d.each("replicas", replicas, func(r *server, report Report) {
		s, err := d.connect(ctx, d.at(r.addr))
		if err != nil {
			report.Warn("redis replicas", err.Error(), "see to it that it runs, can be reached from here and has the same users, or pgevict stands still once it is the master")
			return
		}
		d.permissions(ctx, s, needs, func(f Finding) {
			if f.Status == OK {
				report.OK("redis replicas", "the user may do the same there")
			} else {
				report.Warn("redis replicas", "once it is the master: "+f.Found, f.Do+"; each server has an ACL of its own")
			}
		})
	})
}
