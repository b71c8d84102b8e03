package invalidate

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"pgevict/rules"
)

// Right is a command that a queue sends, and what its user has to be allowed for it.
type Right struct {
	Args   []any
	Grants []string // what allows it, as ACL SETUSER takes it
	Rule   string   // empty: all need it
	Live   bool     // it names a key that there may be, so it must not be executed
}

func (r Right) String() string {
	if r.Rule == "" {
		return strings.Join(r.Grants, " ")
	}
	return strings.Join(r.Grants, " ") + " (rule " + r.Rule + ")"
}

// Verb returns the command's name.
func (r Right) Verb() string { return strings.ToUpper(fmt.Sprint(r.Args[0])) }

const (
	positions = "~" + PositionPrefix + "*"
	leases    = "~" + leasePrefix + "*"
	moved     = "~" + movedPrefix + "*"
)

// Rights lists what a queue sends for rules, on keys that nobody has wherever a template leaves room for that: the probe is
// a text that is in no key.
func Rights(set *rules.Set, cluster bool, probe string) (all []Right) {
	add := func(grant string, args ...any) { all = append(all, Right{Args: args, Grants: strings.Fields(grant)}) }
	add("+ping", "ping")
	add("+client|setname", "client", "setname", "pgevict-doctor")
	add("+scan", "scan", 0, "count", 1)
	add("+set "+positions, "set", PositionPrefix+"doctor-"+probe, "", "get", "ex", 1)
	if cluster {
		for _, sub := range []string{"slots", "info", "nodes"} {
			add("+cluster|"+sub, "cluster", sub)
		}
		add("+asking", "asking")
	}
	lease := leasePrefix + probe
	if len(set.Refreshes()) > 0 {
		add("+unlink "+leases, "unlink", lease)
		add("+get "+leases, "get", lease)
		add("+set "+leases, "set", lease, "", "nx", "xx") // which is no syntax, but that is looked at later
	}
	samples := set.Samples(probe)
	if slices.ContainsFunc(samples, rules.Target.IsTag) {
		add("+sscan "+moved, "sscan", movedPrefix+probe, 0)
		add("+srem "+moved, "srem", movedPrefix+probe, probe)
		add("+sadd "+moved, "sadd", movedPrefix+probe, probe)
		all[len(all)-1].Live = true // it would be executed
	}
	for _, sample := range samples {
		all = append(all, rightsFor(sample, probe)...)
	}
	return all
}

// rightsFor lists what a queue sends for the targets of one template.
func rightsFor(sample rules.Target, probe string) (all []Right) {
	wide := sample.Widen()
	key, live := wide.Key, true
	glob := "~" + Grantable(rules.EscapeGlob(key))
	if wide.Kind == rules.Pattern || wide.Kind == rules.TagPattern {
		key, live = rules.ParseGlob(key).Fill(probe), false
		glob = "~" + Grantable(wide.Key)
	}
	add := func(grant string, beside []string, args ...any) {
		all = append(all, Right{args, append([]string{grant, glob}, beside...), wide.Rule(), live})
	}
	if wide.IsTag() {
		add("+eval", []string{moved}, "eval", takeMembers, 2, key, movedPrefix+probe, 0, probe)
		add("+srandmember", nil, "srandmember", key, 1)
		add("+srem", nil, "srem", key, probe)
		return all
	}
	if sample.Kind == rules.Field {
		add("+hdel", nil, "hdel", key, probe)
	}
	if sample.Refreshed() {
		add("+eval", []string{leases}, "eval", takeLease, 2, key, leasePrefix+probe, probe, 1, 1)
		add("+exists", nil, "exists", key)
		add("+set", nil, "set", key, "", "nx", "xx")
	}
	add("+unlink", nil, "unlink", key)
	return all
}

// Grantable makes a glob one that ACL SETUSER takes: without spaces.
func Grantable(glob string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return '?'
		}
		return r
	}, glob)
}
