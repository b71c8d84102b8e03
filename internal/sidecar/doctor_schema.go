package sidecar

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/pgnotify"
	"pgevict/pgnotify/triggers"
	"pgevict/rules"
)

// schema checks the tables of the rules, and what tells of their changes.
func (d *doctor) schema(ctx context.Context, conn *pgconn.PgConn) error {
	relations, err := pgnotify.Relations(ctx, conn, tableNames(d.set))
	if err != nil {
		return err
	}
	names, err := pgnotify.Names(ctx, conn)
	if err != nil {
		return err
	}
	var looked []pgnotify.Relation
	for _, table := range d.set.Tables() {
		var found []string
		for _, r := range relations {
			if r.Name != table.Name || table.Schema != "" && table.Schema != r.Schema {
				continue
			}
			found = append(found, nameOf(r))
			if !slices.ContainsFunc(looked, func(l pgnotify.Relation) bool { return nameOf(l) == nameOf(r) }) {
				looked = append(looked, r)
			}
		}
		switch {
		case len(found) == 0:
			name := strings.TrimPrefix(table.Schema+"."+table.Name, ".")
			d.say("fail", "table", name+": there is no such table", "correct the rules"+nearest(name, table.Schema != "", names))
		case len(found) > 1:
			d.say("ok", "table", fmt.Sprintf("%s is that of every schema in the rules: %s; to mean one of them, name its schema", table.Name, strings.Join(found, ", ")), "")
		}
	}
	for _, r := range looked {
		if r.Kind != "table" && r.Kind != "partitioned table" {
			d.say("fail", "table", nameOf(r)+" is a "+r.Kind+", and nothing tells of its changes", "name the tables that it reads in the rules")
			continue
		}
		d.columns(r)
		d.triggers(ctx, conn, r, relations)
	}
	d.movedKeys(looked, relations)
	if err := d.ours(ctx, conn, relations); err != nil {
		return err
	}
	return d.refreshes(ctx, conn)
}

func nameOf(r pgnotify.Relation) string { return r.Schema + "." + r.Name }

// quoted gives the name of a table as SQL takes it.
func quoted(r pgnotify.Relation) string { return quote(r.Schema) + "." + quote(r.Name) }

// plainName is a name that SQL takes without quotes, unless it is a keyword.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

func quote(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// nearest names the table that was probably meant.
func nearest(name string, qualified bool, names [][2]string) string {
	var best string
	least := len(name)/2 + 1
	for _, n := range names {
		candidate := n[1]
		if qualified {
			candidate = n[0] + "." + n[1]
		}
		if far := levenshtein.Distance(strings.ToLower(name), strings.ToLower(candidate), nil); far < least {
			best, least = candidate, far
		}
	}
	if best == "" {
		return ", or create the table"
	}
	return ": did you mean " + best + "?"
}

// columns checks those that the rules of a table use.
func (d *doctor) columns(r pgnotify.Relation) {
	columns, _ := d.set.Columns(r.Schema, r.Name)
	good := true
	for _, column := range columns {
		if !slices.ContainsFunc(r.Columns, func(t pgnotify.ColumnInfo) bool { return t.Name == column }) {
			good = false
			var candidates [][2]string
			for _, t := range r.Columns {
				candidates = append(candidates, [2]string{"", t.Name})
			}
			d.say("fail", "table", nameOf(r)+" has no column "+column+", so what needs it is always a pattern", "correct the rules"+nearest(column, false, candidates))
		}
	}
	if good {
		d.say("ok", "table", nameOf(r)+", and all columns that the rules use", "")
	}
}

// counts reports whether a rule of the table counts an operation.
func (d *doctor) counts(r pgnotify.Relation, op string) bool {
	for range d.set.Match(rules.Change{Schema: r.Schema, Table: r.Name, Op: op}) {
		return true
	}
	return false
}

// ours compares pgevict's own triggers, where there are any, with the rules, as pgevict triggers status does.
func (d *doctor) ours(ctx context.Context, conn *pgconn.PgConn, all []pgnotify.Relation) error {
	var with []string // the tables that have some, and their parts
	for _, r := range all {
		if slices.ContainsFunc(r.Triggers, func(f pgnotify.Trigger) bool { return f.Kind == pgnotify.OwnTrigger }) {
			with = append(with, nameOf(r))
		}
	}
	if len(with) == 0 {
		return nil
	}
	for _, r := range all {
		if slices.ContainsFunc(r.Whole(), func(whole string) bool { return slices.Contains(with, whole) }) {
			with = append(with, nameOf(r))
		}
	}
	states, err := wantedTriggers(d.config, d.set).Status(ctx, conn)
	if err != nil {
		return err
	}
	good := true
	for _, s := range states {
		name := strings.Trim(s.Schema+"."+s.Table, ".")
		found := fmt.Sprintf("%s: pgevict's own are %s: %s", name, s.State, strings.Join(s.Notes, "; "))
		switch {
		case !s.Drift() || s.State == triggers.NoTable: // which was said
		case s.State == triggers.LeftOver:
			d.say("warn", "triggers", found, "pgevict triggers install drops what no rule needs")
			good = false
		case s.State != triggers.Missing || slices.Contains(with, name):
			d.say("fail", "triggers", found+"; changes that the rules count may not be told of", "pgevict triggers install")
			good = false
		}
	}
	if good {
		d.say("ok", "triggers", "pgevict's own are what the rules ask for", "")
	}
	return nil
}
