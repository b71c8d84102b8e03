package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/pgnotify"
	"pgevict/pgnotify/postgres"
	"pgevict/rules"
)

const install = "pgevict triggers install makes triggers for it"

// operations are those that a rule may count.
var operations = []string{rules.Insert, rules.Update, rules.Delete, rules.Truncate}

// triggers checks what tells of the changes of one table.
func (d *Doctor) triggers(ctx context.Context, conn *pgconn.PgConn, r pgnotify.Relation, all []pgnotify.Relation) {
	from := sources(r, all)
	verdicts := map[Finding][]string{} // the same is said once of all parts
	for _, s := range from {
		d.unheard(s)
		verdict := d.told(r, d.heard(s))
		verdicts[verdict] = append(verdicts[verdict], nameOf(s))
	}
	for _, v := range slices.SortedFunc(maps.Keys(verdicts), func(a, b Finding) int { return strings.Compare(a.Found, b.Found) }) {
		names := few(verdicts[v])
		v.Found = names + ": " + v.Found
		d.Report(v)
	}
	if len(from) == 1 && nameOf(from[0]) == nameOf(r) {
		d.parts(r, all)
	}
	said := map[string]bool{}
	for _, s := range from {
		d.traps(ctx, conn, r, s, said)
	}
}

// sources returns the tables of which the triggers tell of a table's changes: itself, or, if a partitioned table has none,
// its partitions, on which somebody may have put them one by one.
func sources(r pgnotify.Relation, all []pgnotify.Relation) []pgnotify.Relation {
	if r.Kind != "partitioned table" || len(r.Triggers) > 0 {
		return []pgnotify.Relation{r}
	}
	var leaves []pgnotify.Relation
	fed := false
	for _, part := range all {
		if part.Part() && part.Kind == "table" && slices.Contains(part.Whole(), nameOf(r)) {
			leaves = append(leaves, part)
			fed = fed || len(part.Triggers) > 0
		}
	}
	if !fed {
		return []pgnotify.Relation{r}
	}
	return leaves
}

// few lists names, but not hundreds of them.
func few(names []string) string {
	const most = 5
	if len(names) > most+1 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// channels are those of a format.
func (d *Doctor) channels(kind pgnotify.TriggerKind) (variable string, channels []string) {
	if kind == pgnotify.TCNTrigger {
		return "PGEVICT_TCN_CHANNELS", d.TCNChannels
	}
	return "PGEVICT_EVENTS_CHANNELS", d.EventsChannels
}

// arrives reports whether a trigger's messages are listened to, as far as its source tells.
func (d *Doctor) arrives(f pgnotify.Trigger) bool {
	_, channels := d.channels(f.Kind)
	return len(f.Channels) == 0 || slices.ContainsFunc(f.Channels, func(c string) bool { return slices.Contains(channels, c) })
}

// heard returns the triggers of which the messages arrive.
func (d *Doctor) heard(r pgnotify.Relation) []pgnotify.Trigger {
	return slices.DeleteFunc(slices.Clone(r.Triggers), func(f pgnotify.Trigger) bool { return !f.Enabled || !d.arrives(f) })
}

// unheard says why the messages of a trigger do not arrive, or not all of them.
func (d *Doctor) unheard(r pgnotify.Relation) {
	name := nameOf(r)
	for _, f := range r.Triggers {
		variable, channels := d.channels(f.Kind)
		other, _ := d.channels(pgnotify.TCNTrigger)
		if f.Kind == pgnotify.TCNTrigger {
			other, _ = d.channels(pgnotify.OtherTrigger)
		}
		sends := fmt.Sprintf("%s: trigger %s sends on %s", name, f.Name, strings.Join(f.Channels, ", "))
		switch {
		case !f.Enabled && f.Kind == pgnotify.OwnTrigger: // some are meant to be
		case !f.Enabled:
			d.Report.Fail("triggers", fmt.Sprintf("%s: trigger %s is disabled", name, f.Name),
				fmt.Sprintf("ALTER TABLE %s ENABLE TRIGGER %s, or drop it", quoted(r), quote(f.Name)))
			continue
		case !d.arrives(f) && d.crossed(f):
			d.Report.Fail("triggers", fmt.Sprintf("%s, which is in %s, but these are no messages of that format", sends, other),
				fmt.Sprintf("move it to %s (now %s), or let the trigger send on another channel", variable, strings.Join(channels, ",")))
		case !d.arrives(f):
			d.Report.Fail("triggers", sends+", and nobody listens to that", fmt.Sprintf("add it to %s (now %s)", variable, strings.Join(channels, ",")))
		}
		if f.Enabled && f.Partial {
			d.Report.Warn("triggers", fmt.Sprintf("%s: trigger %s has a condition (WHEN or UPDATE OF), so it passes over some changes", name, f.Name), "make sure that no key depends on those")
		}
	}
}

// crossed reports whether a trigger sends on a channel of the other format.
func (d *Doctor) crossed(f pgnotify.Trigger) bool {
	channels := d.TCNChannels
	if f.Kind == pgnotify.TCNTrigger {
		channels = d.EventsChannels
	}
	return slices.ContainsFunc(f.Channels, func(c string) bool { return slices.Contains(channels, c) })
}

// told says which operations that the rules of a table count are told of, and by whom.
func (d *Doctor) told(r pgnotify.Relation, heard []pgnotify.Trigger) Finding {
	by := map[string][]string{} // the operations
	var vague []string          // functions of which the source does not tell the channel
	sure := map[string]bool{}
	for _, f := range heard {
		who := string(f.Kind)
		if f.Kind == pgnotify.OtherTrigger {
			who = f.Function
		}
		on := " on " + strings.Join(f.Channels, ", ")
		if len(f.Channels) == 0 {
			on = " on a channel that its source does not tell"
			vague = append(vague, f.Function)
		}
		by[who+on] = append(by[who+on], f.Ops...)
		for _, op := range f.Ops {
			sure[op] = sure[op] || len(f.Channels) > 0
		}
	}
	var present, missing, unsure []string
	for _, who := range slices.Sorted(maps.Keys(by)) {
		ops := slices.DeleteFunc(slices.Clone(operations), func(op string) bool { return !slices.Contains(by[who], op) })
		present = append(present, strings.Join(ops, ", ")+" by "+who)
	}
	for _, op := range operations {
		certain, known := sure[op]
		switch {
		case !d.counts(r, op):
		case !known:
			missing = append(missing, op)
		case !certain:
			unsure = append(unsure, op)
		}
	}
	all := strings.Join(present, "; ")
	switch {
	case len(present) == 0 && len(missing) > 0:
		return Finding{Fail, "triggers", "no trigger tells of its changes, as far as their sources tell", install}
	case len(missing) == 1 && missing[0] == rules.Truncate && len(unsure) == 0:
		return Finding{Warn, "triggers", all + "; nothing tells of truncate", install}
	case len(missing) > 0 && !slices.Equal(missing, []string{rules.Truncate}):
		return Finding{Fail, "triggers", "nothing tells of " + strings.Join(missing, ", "), install}
	case len(unsure) > 0:
		return Finding{Warn, "triggers", all, fmt.Sprintf("make sure that %s sends to pgevict at all, on one of %s", strings.Join(vague, ", "), strings.Join(d.EventsChannels, ", "))}
	}
	return Finding{OK, "triggers", all, ""}
}

// parts looks for partitions and children that nothing is told of.
func (d *Doctor) parts(r pgnotify.Relation, all []pgnotify.Relation) {
	var bare []string
	for _, part := range all {
		_, named := d.Rules.Columns(part.Schema, part.Name)
		if part.Part() && !named && slices.Contains(part.Whole(), nameOf(r)) &&
			!slices.ContainsFunc(d.heard(part), func(f pgnotify.Trigger) bool { return slices.Contains(f.Ops, rules.Update) }) {
			bare = append(bare, nameOf(part))
		}
	}
	if len(bare) > 0 && len(d.heard(r)) > 0 {
		d.Report.Warn("triggers", fmt.Sprintf("%s: changes of rows in its part %s may not be told of: it has no such trigger of its own", nameOf(r), few(bare)), "pgevict triggers install, or a trigger on each")
	}
}

// traps looks for what may go wrong with the triggers of somebody else on a table, or on a part of it. What one function
// does is said once.
func (d *Doctor) traps(ctx context.Context, conn *pgconn.PgConn, r, on pgnotify.Relation, said map[string]bool) {
	name := nameOf(on)
	for _, f := range on.Triggers {
		same := fmt.Sprint(f.Function, slices.Contains(f.Ops, rules.Update))
		if !f.Enabled || f.Kind == pgnotify.OwnTrigger || said[same] {
			continue
		}
		said[same] = true
		if f.Kind == pgnotify.TCNTrigger && len(r.Key) == 0 {
			d.Report.Fail("writes", fmt.Sprintf("%s has no primary key, so trigger %s (tcn) fails every write", name, f.Name), "give it a primary key, or use pgevict triggers install instead")
		}
		if f.Kind == pgnotify.OtherTrigger && f.Whole {
			d.length(ctx, conn, on, f)
		}
		if wide := d.widened(r, f); len(wide) > 0 && d.arrives(f) {
			why := ""
			if columns := d.ambiguous(r, f); len(columns) > 0 {
				why = "; the text of " + strings.Join(columns, ", ") + " depends on the session that writes, or there is none"
			}
			d.Report.Warn("updates", fmt.Sprintf("%s: an update that %s tells of widens to %s%s", name, f.Function, strings.Join(wide, ", "), why),
				"pgevict triggers install tells of both the old and the new values, exactly")
		}
	}
}

// temporarySQL returns where temporary space has a bound: for this session, and for a role or database by its settings.
const temporarySQL = `
SELECT current_setting('temp_file_limit') WHERE current_setting('temp_file_limit') <> '-1'
UNION
SELECT split_part(setting, '=', 2) || coalesce(' for ' || r.rolname, '') FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) AS c (setting)
WHERE setting LIKE 'temp_file_limit=%' AND setting <> 'temp_file_limit=-1' AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))`

// ownWrites looks for what makes pgevict's own triggers fail a write.
func (d *Doctor) ownWrites(ctx context.Context, conn *pgconn.PgConn) error {
	mute, err := d.Triggers.Mute(ctx, conn)
	if err != nil {
		return err
	}
	for _, m := range mute {
		d.Report.Fail("writes", m.String()+", so pgevict's own triggers fail its writes", m.Cure())
	}
	bounds, err := postgres.Query(ctx, conn, temporarySQL)
	if err != nil {
		return fmt.Errorf("look how much temporary space there is: %w", err)
	}
	for _, b := range bounds {
		d.Report.Warn("writes", "temp_file_limit is "+b[0]+": for pgevict's own triggers Postgres keeps all rows of a statement in temporary files, and one with more than that fails",
			"allow more, or load large amounts without the triggers and tell of it by hand: see pgnotify/triggers/README.md")
	}
	return nil
}

// length looks whether rows may be too long to be sent whole.
func (d *Doctor) length(ctx context.Context, conn *pgconn.PgConn, r pgnotify.Relation, f pgnotify.Trigger) {
	name := nameOf(r)
	longest, err := longestRow(ctx, conn, r.Schema, r.Name)
	const limit = "a row of 8000 bytes or more fails the write"
	switch {
	case err != nil:
		d.Report.Warn("writes", fmt.Sprintf("%s: as far as its source tells, %s sends whole rows, and %s; how long they are: %v", name, f.Function, limit, err),
			"grant SELECT, look yourself, or use pgevict triggers install instead")
	case longest > 4000:
		d.Report.Warn("writes", fmt.Sprintf("%s: as far as its source tells, %s sends whole rows, and %s; there is one of %d", name, f.Function, limit, longest), "use pgevict triggers install instead")
	default:
		d.Report.OK("writes", fmt.Sprintf("%s: %s sends whole rows, and the longest of up to 1000 has %d bytes of 8000", name, f.Function, longest))
	}
}

// exact reports whether the text of a column is certain in what a trigger sends.
func exact(c pgnotify.ColumnInfo, f pgnotify.Trigger) bool {
	if f.Kind == pgnotify.TCNTrigger {
		return c.Exact(pgnotify.TCN)
	}
	return c.Exact(pgnotify.Events)
}

// ambiguous returns the columns of the rules that a trigger sends in vain.
func (d *Doctor) ambiguous(r pgnotify.Relation, f pgnotify.Trigger) (names []string) {
	columns, _ := d.Rules.Columns(r.Schema, r.Name)
	for _, c := range r.Columns {
		if slices.Contains(columns, c.Name) && !exact(c, f) && (f.Kind != pgnotify.TCNTrigger || slices.Contains(r.Key, c.Name)) {
			names = append(names, c.Name)
		}
	}
	return names
}

// widened returns the patterns that an update makes which a trigger tells of.
func (d *Doctor) widened(r pgnotify.Relation, f pgnotify.Trigger) []string {
	if !slices.Contains(f.Ops, rules.Update) {
		return nil
	}
	image := func(keyAlone bool) pgnotify.Image {
		image := pgnotify.Image{}
		for _, c := range r.Columns {
			if exact(c, f) && (!keyAlone || slices.Contains(r.Key, c.Name)) {
				image = append(image, pgnotify.Column{Name: c.Name, Text: "x"})
			}
		}
		return image
	}
	change := rules.Change{Schema: r.Schema, Table: r.Name, Op: rules.Update, Rows: []rules.Row{{Old: image(!f.Old), New: image(f.Kind == pgnotify.TCNTrigger)}}}
	wide := map[string]bool{}
	for t, reason := range d.Rules.Match(change) {
		if reason != rules.Exact {
			wide[fmt.Sprintf("%s (rule %s)", t.Key, t.Rule())] = true
		}
	}
	return slices.Sorted(maps.Keys(wide))
}

// movedKeys says of which tables an update of the primary key is told by half: tcn names just the old key, and a function
// that sends no old values just the new one.
func (d *Doctor) movedKeys(looked, all []pgnotify.Relation) {
	var by []string
	for _, r := range looked {
		columns, _ := d.Rules.Columns(r.Schema, r.Name)
		inRules := slices.ContainsFunc(r.Key, func(c string) bool { return slices.Contains(columns, c) })
		if !inRules || !d.counts(r, rules.Update) {
			continue
		}
		for _, s := range sources(r, all) {
			var old, now bool
			for _, f := range d.heard(s) {
				if slices.Contains(f.Ops, rules.Update) {
					old = old || f.Kind == pgnotify.TCNTrigger || f.Kind == pgnotify.OwnTrigger || f.Old
					now = now || f.Kind != pgnotify.TCNTrigger
				}
			}
			if old != now {
				by = append(by, nameOf(s))
			}
		}
	}
	if len(by) > 0 {
		d.Report.Warn("updates", few(by)+": an update of the primary key itself is told of by half, the old key (tcn) or the new one (others)",
			"never update a primary key, or have triggers of both kinds, or pgevict triggers install")
	}
}

// longestRow returns the length in bytes of the longest of up to a thousand rows as JSON; 0: there is none. It takes the
// right to read the table, and two seconds at most.
func longestRow(ctx context.Context, conn *pgconn.PgConn, schema, table string) (bytes int, err error) {
	_, err = postgres.Query(ctx, conn, `SELECT set_config('statement_timeout', '2000', false)`)
	if err == nil {
		var rows [][]string
		rows, err = postgres.Query(ctx, conn, `SELECT coalesce(max(octet_length(row_to_json(t)::text)), 0) FROM (SELECT * FROM `+postgres.Identifier(schema)+`.`+postgres.Identifier(table)+` LIMIT 1000) t`)
		if err == nil {
			_, err = fmt.Sscan(rows[0][0], &bytes)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("look how long the rows are: %w", err)
	}
	return bytes, nil
}
