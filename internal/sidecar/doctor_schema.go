package sidecar

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/pgnotify"
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
	for _, table := range d.set.Tables() {
		found := false
		for _, r := range relations {
			if r.Name == table.Name && (table.Schema == "" || table.Schema == r.Schema) {
				found = true
				d.relation(ctx, conn, r, relations)
			}
		}
		if !found {
			name := strings.TrimPrefix(table.Schema+"."+table.Name, ".")
			d.say("fail", "table", name+": there is no such table", "correct the rules"+nearest(name, table.Schema != "", names))
		}
	}
	return nil
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

// relation checks one table of the rules.
func (d *doctor) relation(ctx context.Context, conn *pgconn.PgConn, r pgnotify.Relation, all []pgnotify.Relation) {
	name := r.Schema + "." + r.Name
	if r.Kind != "table" && r.Kind != "partitioned table" {
		d.say("fail", "table", name+" is a "+r.Kind+", and nothing tells of its changes", "name the tables that it reads in the rules")
		return
	}
	columns, _ := d.set.Columns(r.Schema, r.Name)
	good := true
	for _, column := range columns {
		if !slices.ContainsFunc(r.Columns, func(t pgnotify.Text) bool { return t.Name == column }) {
			good = false
			var candidates [][2]string
			for _, t := range r.Columns {
				candidates = append(candidates, [2]string{"", t.Name})
			}
			d.say("fail", "table", name+" has no column "+column+", so what needs it is always a pattern", "correct the rules"+nearest(column, false, candidates))
		}
	}
	if good {
		d.say("ok", "table", name+", and all columns that the rules use", "")
	}
	heard := d.heard(r)
	d.operations(r, heard)
	d.parts(r, all)
	for _, f := range heard {
		d.traps(ctx, conn, r, f)
	}
}

// channels are those of a format.
func (d *doctor) channels(kind pgnotify.FeedKind) (variable string, channels []string) {
	if kind == pgnotify.FeedTCN {
		return "PGEVICT_TCN_CHANNELS", d.config.TCNChannels
	}
	return "PGEVICT_EVENTS_CHANNELS", d.config.EventsChannels
}

// heard gives the triggers of which the messages arrive, and says why those of the others do not.
func (d *doctor) heard(r pgnotify.Relation) (heard []pgnotify.Feed) {
	name := r.Schema + "." + r.Name
	for _, f := range r.Feeds {
		variable, channels := d.channels(f.Kind)
		on := func(c string) bool { return slices.Contains(channels, c) }
		switch {
		case !f.Enabled:
			d.say("fail", "triggers", fmt.Sprintf("%s: trigger %s is disabled", name, f.Trigger), fmt.Sprintf("ALTER TABLE %s ENABLE TRIGGER %s, or drop it", name, f.Trigger))
		case len(f.Channels) > 0 && !slices.ContainsFunc(f.Channels, on):
			d.say("fail", "triggers", fmt.Sprintf("%s: trigger %s sends on %s, and nobody listens to that", name, f.Trigger, strings.Join(f.Channels, ", ")),
				fmt.Sprintf("add it to %s (now %s)", variable, strings.Join(channels, ",")))
		default:
			heard = append(heard, f)
		}
		if f.Enabled && f.Partial {
			d.say("warn", "triggers", fmt.Sprintf("%s: trigger %s has a condition (WHEN or UPDATE OF), so it passes over some changes", name, f.Trigger), "make sure that no key depends on those")
		}
	}
	return heard
}

// operations says which operations that the rules count are told of.
func (d *doctor) operations(r pgnotify.Relation, heard []pgnotify.Feed) {
	name := r.Schema + "." + r.Name
	told := map[string][]string{} // the operations, by who tells of them
	for _, f := range heard {
		by := string(f.Kind)
		if f.Kind == pgnotify.FeedOther {
			by = f.Function
		}
		on := " on " + strings.Join(f.Channels, ", ")
		if len(f.Channels) == 0 {
			on = " on a channel that its source does not tell"
		}
		told[by+on] = append(told[by+on], f.Ops...)
	}
	var missing, present []string
	operations := []string{rules.Insert, rules.Update, rules.Delete, rules.Truncate}
	for _, by := range slices.Sorted(maps.Keys(told)) {
		ops := slices.DeleteFunc(slices.Clone(operations), func(op string) bool { return !slices.Contains(told[by], op) })
		present = append(present, strings.Join(ops, ", ")+" by "+by)
	}
	for _, op := range operations {
		known := slices.ContainsFunc(heard, func(f pgnotify.Feed) bool { return slices.Contains(f.Ops, op) })
		if d.counts(r, op) && !known {
			missing = append(missing, op)
		}
	}
	const install = "pgevict triggers install makes triggers for it"
	switch {
	case len(present) == 0 && len(missing) > 0:
		d.say("fail", "triggers", name+": no trigger tells of its changes", install)
	case len(missing) == 1 && missing[0] == rules.Truncate:
		d.say("warn", "triggers", fmt.Sprintf("%s: %s; nothing tells of truncate", name, strings.Join(present, "; ")), install)
	case len(missing) > 0:
		d.say("fail", "triggers", fmt.Sprintf("%s: nothing tells of %s", name, strings.Join(missing, ", ")), install)
	default:
		d.say("ok", "triggers", name+": "+strings.Join(present, "; "), "")
	}
}

// counts reports whether a rule of the table counts an operation.
func (d *doctor) counts(r pgnotify.Relation, op string) bool {
	for range d.set.Match(rules.Change{Schema: r.Schema, Table: r.Name, Op: op}) {
		return true
	}
	return false
}

// parts looks for partitions and children that nothing is told of.
func (d *doctor) parts(r pgnotify.Relation, all []pgnotify.Relation) {
	var bare []string
	for _, part := range all {
		_, named := d.set.Columns(part.Schema, part.Name)
		if part.Part && !named && slices.Contains(part.Whole, r.Schema+"."+r.Name) &&
			!slices.ContainsFunc(part.Feeds, func(f pgnotify.Feed) bool { return f.Enabled && slices.Contains(f.Ops, rules.Update) }) {
			bare = append(bare, part.Schema+"."+part.Name)
		}
	}
	if len(bare) > 0 && len(r.Feeds) > 0 {
		d.say("warn", "triggers", fmt.Sprintf("%s: writes straight to its part %s are not told of", r.Schema+"."+r.Name, strings.Join(bare, ", ")), "pgevict triggers install, or a trigger on each")
	}
}

// traps looks for what may go wrong with a trigger of somebody else.
func (d *doctor) traps(ctx context.Context, conn *pgconn.PgConn, r pgnotify.Relation, f pgnotify.Feed) {
	if f.Kind == pgnotify.FeedOwn {
		return
	}
	name := r.Schema + "." + r.Name
	if f.Kind == pgnotify.FeedTCN && len(r.Key) == 0 {
		d.say("fail", "writes", fmt.Sprintf("%s has no primary key, so trigger %s (tcn) fails every write", name, f.Trigger), "give it a primary key, or use pgevict triggers install instead")
	}
	if f.Kind == pgnotify.FeedOther && f.Whole {
		longest, err := pgnotify.LongestRow(ctx, conn, r.Schema, r.Name)
		const limit = "a row of 8000 bytes or more fails the write"
		switch {
		case err != nil:
			d.say("warn", "writes", fmt.Sprintf("%s: as far as its source tells, %s sends whole rows, and %s; how long they are: %v", name, f.Function, limit, err), "grant SELECT, look yourself, or use pgevict triggers install instead")
		case longest > 4000:
			d.say("warn", "writes", fmt.Sprintf("%s: as far as its source tells, %s sends whole rows, and %s; there is one of %d", name, f.Function, limit, longest), "use pgevict triggers install instead")
		default:
			d.say("ok", "writes", fmt.Sprintf("%s: %s sends whole rows, and the longest of up to 1000 has %d bytes of 8000", name, f.Function, longest), "")
		}
	}
	if wide := d.widened(r, f); len(wide) > 0 {
		d.say("warn", "updates", fmt.Sprintf("%s: an update that %s tells of widens to %s", name, f.Function, strings.Join(wide, ", ")), "pgevict triggers install tells of both the old and the new values, exactly")
	}
}

// widened gives the patterns that an update makes which a trigger tells of.
func (d *doctor) widened(r pgnotify.Relation, f pgnotify.Feed) []string {
	image := func(keyAlone bool) pgnotify.Image {
		image := pgnotify.Image{}
		for _, c := range r.Columns {
			exact := c.Events
			if f.Kind == pgnotify.FeedTCN {
				exact = c.TCN
			}
			if exact && (!keyAlone || slices.Contains(r.Key, c.Name)) {
				image = append(image, pgnotify.Column{Name: c.Name, Text: "x"})
			}
		}
		return image
	}
	change := rules.Change{Schema: r.Schema, Table: r.Name, Op: rules.Update, Rows: []rules.Row{{Old: image(!f.Old), New: image(f.Kind == pgnotify.FeedTCN)}}}
	wide := map[string]bool{}
	for t, reason := range d.set.Match(change) {
		if reason != rules.Exact {
			wide[fmt.Sprintf("%s (rule %s)", t.Key, t.Rule())] = true
		}
	}
	return slices.Sorted(maps.Keys(wide))
}
