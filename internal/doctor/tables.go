package doctor

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/pgnotify"
	"pgevict/pgnotify/postgres"
	"pgevict/pgnotify/triggers"
	"pgevict/rules"
)

// tables checks the tables of the rules, and what tells of their changes.
func (d *Doctor) tables(ctx context.Context, conn *pgconn.PgConn) error {
	relations, err := pgnotify.Relations(ctx, conn, d.Rules.TableNames())
	if err != nil {
		return err
	}
	existing, err := names(ctx, conn)
	if err != nil {
		return err
	}
	var looked []pgnotify.Relation
	for _, table := range d.Rules.Tables() {
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
			d.Report.Fail("table", name+": there is no such table", "correct the rules"+nearest(name, table.Schema != "", existing))
		case len(found) > 1:
			d.Report.OK("table", fmt.Sprintf("%s is that of every schema in the rules: %s; to mean one of them, name its schema", table.Name, strings.Join(found, ", ")))
		}
	}
	for _, r := range looked {
		if r.Kind != "table" && r.Kind != "partitioned table" {
			d.Report.Fail("table", nameOf(r)+" is a "+r.Kind+", and nothing tells of its changes", "name the tables that it reads in the rules")
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

// quoted returns the name of a table as SQL takes it.
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
func (d *Doctor) columns(r pgnotify.Relation) {
	columns, _ := d.Rules.Columns(r.Schema, r.Name)
	good := true
	for _, column := range columns {
		if !slices.ContainsFunc(r.Columns, func(t pgnotify.ColumnInfo) bool { return t.Name == column }) {
			good = false
			var candidates [][2]string
			for _, t := range r.Columns {
				candidates = append(candidates, [2]string{"", t.Name})
			}
			d.Report.Fail("table", nameOf(r)+" has no column "+column+", so what needs it is always a pattern", "correct the rules"+nearest(column, false, candidates))
		}
	}
	if good {
		d.Report.OK("table", nameOf(r)+", and all columns that the rules use")
	}
}

// counts reports whether a rule of the table counts an operation.
func (d *Doctor) counts(r pgnotify.Relation, op string) bool {
	for range d.Rules.Match(rules.Change{Schema: r.Schema, Table: r.Name, Op: op}) {
		return true
	}
	return false
}

// ours compares pgevict's own triggers, where there are any, with the rules, as pgevict triggers status does.
func (d *Doctor) ours(ctx context.Context, conn *pgconn.PgConn, all []pgnotify.Relation) error {
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
	states, err := d.Triggers.Status(ctx, conn)
	if err != nil {
		return err
	}
	if err := d.ownWrites(ctx, conn); err != nil {
		return err
	}
	good := true
	for _, s := range states {
		for _, wide := range s.Wide {
			d.Report.Warn("updates", s.Schema+"."+s.Table+": "+wide, "let the rules use fewer columns, or stored ones")
		}
		name := strings.Trim(s.Schema+"."+s.Table, ".")
		found := fmt.Sprintf("%s: pgevict's own are %s: %s", name, s.State, strings.Join(s.Notes, "; "))
		switch {
		case !s.Drift() || s.State == triggers.NoTable: // which was said
		case s.State == triggers.LeftOver:
			d.Report.Warn("triggers", found, "pgevict triggers install drops what no rule needs")
			good = false
		case s.State != triggers.Missing || slices.Contains(with, name):
			d.Report.Fail("triggers", found+"; changes that the rules count may not be told of", "pgevict triggers install")
			good = false
		}
	}
	if good {
		d.Report.OK("triggers", "pgevict's own are what the rules ask for")
	}
	return nil
}

// names lists the tables, views and foreign tables of a database, as schema and name.
func names(ctx context.Context, conn *pgconn.PgConn) ([][2]string, error) {
	rows, err := postgres.Query(ctx, conn, `
		SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1, 2 LIMIT 10000`)
	if err != nil {
		return nil, fmt.Errorf("read the names of tables: %w", err)
	}
	var all [][2]string
	for _, row := range rows {
		all = append(all, [2]string{row[0], row[1]})
	}
	return all, nil
}
