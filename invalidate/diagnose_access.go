package invalidate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/redis/go-redis/v9"

	"pgevict/rules"
)

// need is a command that serve sends.
type need struct {
	args   []any
	grants []string // what allows it
	rule   string   // empty: all need it
	live   bool     // it names a key that there may be, so it must not be executed
}

func (n need) String() string {
	if n.rule == "" {
		return strings.Join(n.grants, " ")
	}
	return strings.Join(n.grants, " ") + " (rule " + n.rule + ")"
}

// verb is the command.
func (n need) verb() string { return strings.ToUpper(fmt.Sprint(n.args[0])) }

const (
	positions = "~" + positionPrefix + "*"
	leases    = "~" + leasePrefix + "*"
	moved     = "~" + movedPrefix + "*"
)

// needs lists what serve sends, on keys that nobody has wherever a template leaves room for that.
func (d *diagnosis) needs() (all []need) {
	add := func(grant string, args ...any) { all = append(all, need{args: args, grants: strings.Fields(grant)}) }
	add("+ping", "ping")
	add("+client|setname", "client", "setname", "pgevict-doctor")
	add("+scan", "scan", 0, "count", 1)
	add("+set "+positions, "set", positionPrefix+"doctor-"+d.probe, "", "get", "ex", 1)
	if d.cluster {
		for _, sub := range []string{"slots", "info", "nodes"} {
			add("+cluster|"+sub, "cluster", sub)
		}
		add("+asking", "asking")
	}
	lease := leasePrefix + d.probe
	if d.refreshes {
		add("+unlink "+leases, "unlink", lease)
		add("+get "+leases, "get", lease)
		add("+set "+leases, "set", lease, "", "nx", "xx") // which is no syntax, but that is looked at later
	}
	if slices.ContainsFunc(d.subjects, subject.tag) {
		add("+sscan "+moved, "sscan", movedPrefix+d.probe, 0)
		add("+srem "+moved, "srem", movedPrefix+d.probe, d.probe)
	}
	for _, s := range d.subjects {
		all = append(all, d.needsOf(s, lease)...)
	}
	return all
}

func (s subject) tag() bool { return s.wide.Kind == rules.Tag || s.wide.Kind == rules.TagPattern }

func (d *diagnosis) needsOf(s subject, lease string) (all []need) {
	key, live := s.wide.Key, true
	glob := "~" + grantable(escape(key))
	if s.wide.Kind == rules.Pattern || s.wide.Kind == rules.TagPattern {
		key, live = strings.Join(split(key), d.probe), false
		glob = "~" + grantable(s.wide.Key)
	}
	add := func(grant string, args ...any) {
		all = append(all, need{args, append([]string{grant, glob}, extra(args)...), s.wide.Rule(), live})
	}
	if s.tag() {
		add("+sscan", "sscan", key, 0)
		add("+smove", "smove", key, movedPrefix+d.probe, d.probe)
		return all
	}
	if s.sample.Kind == rules.Field {
		add("+hdel", "hdel", key, d.probe)
	}
	if s.sample.Refreshed() {
		add("+eval", "eval", takeLease, 2, key, lease, d.probe, 1, 1)
		add("+exists", "exists", key)
		add("+set", "set", key, "", "nx", "xx")
	}
	add("+unlink", "unlink", key)
	return all
}

// extra is the key of pgevict's own that a command names beside the application's.
func extra(args []any) []string {
	switch args[0] {
	case "smove":
		return []string{moved}
	case "eval":
		return []string{leases}
	}
	return nil
}

// grantable makes a glob one that ACL SETUSER takes: without spaces.
func grantable(glob string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return '?'
		}
		return r
	}, glob)
}

// permissions finds out which commands are denied.
func (d *diagnosis) permissions(ctx context.Context, s *server, needs []need, say Say) {
	anyKey := need{args: []any{"unlink", d.probe}}
	tried, err := d.try(ctx, s, append(slices.Clone(needs), anyKey))
	if err != nil {
		say("fail", "redis permissions", err.Error(), "see Redis' log")
		return
	}
	s.members = !redis.IsPermissionError(tried[len(needs)].err)
	var denied, grants, unsure, verbs []string
	for i, n := range needs {
		if verb := n.verb(); !slices.Contains(verbs, verb) {
			verbs = append(verbs, verb)
		}
		switch err := tried[i].err; {
		case !tried[i].sure:
			unsure = append(unsure, n.String())
		case redis.IsPermissionError(err):
			denied = append(denied, n.String()+": "+err.Error())
			grants = append(grants, n.grants...)
		case redis.HasErrorPrefix(err, "unknown"):
			say("fail", "redis permissions", n.String()+": Redis does not know "+n.verb(), "use a Redis that does, or do not have it renamed")
		}
	}
	switch {
	case len(denied) > 0:
		slices.Sort(grants)
		say("fail", "redis permissions", strings.Join(denied, "; "), "ACL SETUSER "+d.user+" "+strings.Join(slices.Compact(grants), " "))
	case len(unsure) > 0:
		d.unsure(strings.Join(unsure, "; "), say)
	default:
		say("ok", "redis permissions", strings.Join(verbs, ", ")+", on the keys of every rule", "")
	}
}

func (d *diagnosis) unsure(what string, say Say) {
	say("warn", "redis permissions", "without MULTI it cannot be tried whether this is allowed: "+what,
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
func (d *diagnosis) try(ctx context.Context, s *server, needs []need) ([]trial, error) {
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
		if transaction || !n.live {
			tried[i].sure, answers[i] = true, pipe.Do(ctx, n.args...)
		}
	}
	replies, err := pipe.Exec(ctx)
	if err != nil && (!isReply(err) || !slices.ContainsFunc(replies, func(r redis.Cmder) bool { return r.Err() != nil })) {
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
func (d *diagnosis) members(ctx context.Context, masters []*server) {
	if !slices.ContainsFunc(d.subjects, subject.tag) || !slices.ContainsFunc(masters, func(s *server) bool { return !s.members }) {
		return
	}
	var keys []string
	for _, s := range masters {
		for _, set := range s.sets {
			some, _, err := s.rdb.SScan(ctx, set, 0, "", someMembers).Result()
			if err != nil { // it may be gone by now
				continue
			}
			keys = append(keys, some[:min(len(some), someMembers)]...)
		}
	}
	if len(keys) == 0 {
		d.say("warn", "redis permissions", "not every key may be deleted, and there is no member of a tag to try it with",
			"make sure that the members of tags may be deleted: ACL SETUSER "+d.user+" +unlink ~<their pattern>")
		return
	}
	needs := make([]need, len(keys))
	for i, key := range keys {
		needs[i] = need{args: []any{"unlink", key}, live: true}
	}
	d.each("masters", masters, func(s *server, say Say) {
		tried, err := d.try(ctx, s, needs)
		if err != nil {
			say("fail", "redis permissions", err.Error(), "see Redis' log")
			return
		}
		for i, key := range keys {
			if err := tried[i].err; redis.IsPermissionError(err) {
				say("fail", "redis permissions", fmt.Sprintf("+unlink of %q, a member of a tag: %s", key, err),
					"ACL SETUSER "+d.user+" +unlink ~"+grantable(escape(key))+", or rather the pattern of all members")
				return
			}
			if !tried[i].sure {
				d.unsure("UNLINK of the members of tags", say)
				return
			}
		}
		say("ok", "redis permissions", fmt.Sprintf("UNLINK of the members of tags, as far as %d of them show", len(keys)), "")
	})
}

// successors looks whether those that may become masters let the same user do the same: each server has an ACL of its own.
func (d *diagnosis) successors(ctx context.Context, replicas []*server, needs []need) {
	if len(replicas) == 0 {
		return
	}
	d.each("replicas", replicas, func(r *server, say Say) {
		s, err := d.connect(ctx, d.at(r.addr))
		if err != nil {
			say("warn", "redis replicas", err.Error(), "see to it that it runs, can be reached from here and has the same users, or pgevict stands still once it is the master")
			return
		}
		d.permissions(ctx, s, needs, func(status, _, found, do string) {
			if status == "ok" {
				found = "the user may do the same there"
			} else {
				status, found = "warn", "once it is the master: "+found
				do += "; each server has an ACL of its own"
			}
			say(status, "redis replicas", found, do)
		})
	})
}
