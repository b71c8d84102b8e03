// Package history is what changed, and which keys that made stale.
package history

import (
	"fmt"
	"strings"

	"pgevict/pgnotify"
	"pgevict/rules"
)

// Change is a change and its targets.
type Change struct {
	Table   string          `json:"table"`
	Schema  string          `json:"schema"`
	Op      string          `json:"op"`
	Source  pgnotify.Source `json:"source"`
	Rows    int             `json:"rows"` // 0: any row of the table
	Targets []Target        `json:"targets"`
	Warning string          `json:"warning,omitempty"` // what could not be read
}

// Target is what a change made stale.
type Target struct {
	Rule    string       `json:"rule"`
	Kind    string       `json:"kind"`
	Key     string       `json:"key"`
	Field   *string      `json:"field,omitempty"`   // nil: not a field; its name may be empty
	Refresh bool         `json:"refresh,omitempty"` // the key is read anew, not deleted
	Reason  rules.Reason `json:"widened,omitempty"`
}

func target(t rules.Target, widened rules.Reason) Target {
	e := Target{Rule: t.Rule(), Kind: t.Kind.String(), Key: t.Key, Reason: widened}
	if t.Kind == rules.Field {
		name := t.Field()
		e.Field = &name
	}
	refresh, _ := t.Refresh()
	e.Refresh = refresh != nil
	return e
}

// Explain asks the rules about a change.
func Explain(set *rules.Set, c pgnotify.Change) Change {
	e := Change{Table: c.Table, Schema: c.Schema, Op: c.Op, Source: c.Source, Rows: len(c.Rows), Targets: []Target{}}
	seen := map[rules.Target]bool{}
	change, _ := ToRules(c, nil)
	for t, widened := range set.Match(change) {
		if !seen[t] {
			seen[t] = true
			e.Targets = append(e.Targets, target(t, widened))
		}
	}
	return e
}

// ToRules turns what Postgres said into what the rules ask about, with its rows in room, which it returns.
func ToRules(c pgnotify.Change, room []rules.Row) (rules.Change, []rules.Row) {
	for i := range c.Rows {
		var row rules.Row
		if old := &c.Rows[i].Old; *old != nil {
			row.Old = old
		}
		if now := &c.Rows[i].New; *now != nil {
			row.New = now
		}
		room = append(room, row)
	}
	return rules.Change{Schema: c.Schema, Table: c.Table, Op: c.Op, Changed: c.Changed, Rows: room, Half: c.Half}, room
}

// reason puts into words why a target is wider than its template.
func reason(r rules.Reason) string {
	switch r {
	case rules.Exact:
		return ""
	case rules.UnknownColumn:
		return "the message lacks a column, or its text depends on the session that wrote it"
	case rules.UnknownOld:
		return "the message does not say what the row was before"
	case rules.UnknownRows:
		return "the message does not say which rows"
	case rules.Truncated:
		return "every row is gone"
	}
	return string(r)
}

// Text is the change for people, on some lines.
func (c Change) Text() string {
	var b strings.Builder
	table := c.Table
	if c.Schema != "" {
		table = c.Schema + "." + c.Table
	}
	rows := "any row"
	if c.Rows > 0 {
		rows = fmt.Sprintf("rows: %d", c.Rows)
	}
	fmt.Fprintf(&b, "%s of %s (%s, %s)\n", c.Op, table, c.Source, rows)
	if c.Warning != "" {
		fmt.Fprintf(&b, "  not all could be read: %s\n", c.Warning)
	}
	for _, t := range c.Targets {
		key := t.Key
		if t.Field != nil {
			key += " " + *t.Field
		}
		fmt.Fprintf(&b, "  %-7s  %s  (rule %s", t.Kind, key, t.Rule)
		if t.Refresh {
			b.WriteString("; refreshed")
		}
		if t.Reason != rules.Exact {
			fmt.Fprintf(&b, "; %s", reason(t.Reason))
		}
		b.WriteString(")\n")
	}
	if len(c.Targets) == 0 {
		b.WriteString("  no rule makes a key of it\n")
	}
	return b.String()
}
