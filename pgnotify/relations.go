package pgnotify

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/pgnotify/postgres"
)

// Relation is a table of the rules, a part of one, or anything else that has its name, with what tells of its changes.
type Relation struct {
	Schema, Name string
	Kind         string       // table, partitioned table, view, materialized view or foreign table
	Key          []string     // the primary key; nil: there is none
	Columns      []ColumnInfo // by name
	Triggers     []Trigger    // that send notifications

	parents   []*Relation // the tables of which it is a partition or a child
	partition bool
	version   string // differs once it has been altered or renamed
}

// ColumnInfo is a column of a table, and how its text in a payload relates to column::text.
type ColumnInfo struct {
	Name string
	text textKind
}

// Exact reports whether the column's text is certain in payloads of a format.
func (c ColumnInfo) Exact(source Source) bool {
	return c.text < dates || c.text == dates && source == Events
}

// Part reports whether the relation is a partition or a child of another.
func (r Relation) Part() bool { return len(r.parents) > 0 }

// Whole lists the tables of which a relation is a part, as schema.name; itself if of none.
func (r Relation) Whole() (names []string) {
	for _, p := range r.parents {
		names = append(names, p.Whole()...)
	}
	if len(names) == 0 {
		names = []string{r.table().String()}
	}
	return names
}

func (r Relation) table() Table { return Table{r.Schema, r.Name} }

// Trigger is a trigger that sends notifications.
type Trigger struct {
	Name, Function string
	Kind           TriggerKind
	Channels       []string // empty: its source does not tell
	Ops            []string // of insert, update, delete, truncate
	Enabled        bool
	Partial        bool // it has a WHEN or UPDATE OF, so some changes do not count
	Whole          bool // its source makes JSON of whole rows
	Old            bool // its source names the member "old"
}

// TriggerKind is who made a trigger's function.
type TriggerKind string

// The kinds of triggers that send.
const (
	OwnTrigger   TriggerKind = "pgevict"
	TCNTrigger   TriggerKind = "tcn"
	OtherTrigger TriggerKind = "other" // of somebody else, as far as its source tells
)

// relationKindsSQL returns what is known of relations beyond the catalog that a decoder needs.
const relationKindsSQL = `
SELECT c.oid, CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'foreign table' END
FROM pg_class c WHERE c.oid = ANY ($1::oid[])`

// triggersSQL returns the triggers of relations that send, with what their source tells once its comments are out. A channel is
// told by pg_notify with a literal or with an argument of the trigger, and by NOTIFY.
const triggersSQL = `
SELECT t.tgrelid, t.tgname, p.proname,
       CASE WHEN n.nspname = 'pgevict' THEN 'pgevict' WHEN p.prosrc = 'triggered_change_notification' THEN 'tcn' ELSE 'other' END,
       CASE WHEN p.prosrc = 'triggered_change_notification' THEN json_build_array(coalesce(nullif(a.args[1], ''), 'tcn')) ELSE coalesce((
         SELECT json_agg(DISTINCT channel) FROM (
           SELECT m[1] FROM regexp_matches(s.source, '\mpg_notify\s*\(\s*E?''([^'']*)''\s*(?:::\s*\w+\s*)?,', 'gi') m
           UNION ALL SELECT a.args[m[1]::int + 1] FROM regexp_matches(s.source, '\mpg_notify\s*\(\s*TG_ARGV\s*\[\s*(\d)\s*\]\s*,', 'gi') m
           UNION ALL SELECT coalesce(m[1], lower(m[2])) FROM regexp_matches(s.source, '\mNOTIFY\s+(?:"([^"]+)"|([a-z_]\w*))\s*[,;]', 'gi') m
         ) c (channel) WHERE channel <> ''), '[]') END,
       t.tgtype, t.tgenabled IN ('O', 'A'), t.tgqual IS NOT NULL OR t.tgattr::text <> '', s.source ~* '(row_)?to_jsonb?\s*\(', s.source ~ '''old'''
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
CROSS JOIN LATERAL (SELECT regexp_replace(p.prosrc, '--[^\n]*|/\*[^*]*\*+([^/*][^*]*\*+)*/', ' ', 'g') AS source) s
CROSS JOIN LATERAL (SELECT string_to_array(encode(t.tgargs, 'escape'), '\000') AS args) a
WHERE t.tgrelid = ANY ($1::oid[]) AND (NOT t.tgisinternal OR t.tgparentid <> 0)
  AND (n.nspname = 'pgevict' OR p.prosrc = 'triggered_change_notification' OR s.source ~* '\m(pg_notify|notify)\M')
ORDER BY 1, 2`

// Relations reads all relations that have one of the names, and all partitions and children of those.
func Relations(ctx context.Context, conn *pgconn.PgConn, tables []string) ([]Relation, error) {
	relations, err := inspect(ctx, conn, tables)
	if err != nil {
		return nil, fmt.Errorf("read the tables and their triggers: %w", err)
	}
	return relations, nil
}

func inspect(ctx context.Context, conn *pgconn.PgConn, tables []string) ([]Relation, error) {
	byOID, err := loadRelations(ctx, conn, tables)
	if err != nil {
		return nil, err
	}
	oids := slices.Sorted(maps.Keys(byOID))
	list := "{" + strings.Join(oids, ",") + "}"
	kinds, err := postgres.Query(ctx, conn, relationKindsSQL, list)
	if err != nil {
		return nil, err
	}
	for _, row := range kinds {
		byOID[row[0]].Kind = row[1]
	}
	triggers, err := postgres.Query(ctx, conn, triggersSQL, list)
	if err != nil {
		return nil, err
	}
	for _, row := range triggers {
		t := Trigger{Name: row[1], Function: row[2], Kind: TriggerKind(row[3]), Enabled: row[6] == "t", Partial: row[7] == "t", Whole: row[8] == "t", Old: row[9] == "t"}
		if err := json.Unmarshal([]byte(row[4]), &t.Channels); err != nil {
			return nil, err
		}
		var bits int
		if _, err := fmt.Sscan(row[5], &bits); err != nil {
			return nil, err
		}
		for bit, op := range map[int]string{4: Insert, 8: Delete, 16: Update, 32: Truncate} { // pg_trigger.h
			if bits&bit != 0 {
				t.Ops = append(t.Ops, op)
			}
		}
		slices.Sort(t.Ops)
		byOID[row[0]].Triggers = append(byOID[row[0]].Triggers, t)
	}
	var all []Relation
	for _, oid := range oids {
		all = append(all, *byOID[oid])
	}
	return all, nil
}
