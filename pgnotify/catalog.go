package pgnotify

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Catalog is what the database says of the tables in the rules and of their partitions. It is read once and never
// changes.
type Catalog struct {
	feeds map[ref]*feed // by schema and name, and by name alone
}

// relation is a table of the rules, a part of one, or anything else that has its name.
type relation struct {
	ref
	parents []*relation
	key     []string
	columns map[string]textKind
}

// relationsSQL gives the relations that have a name of the rules, and all that inherit from them, each with a parent.
const relationsSQL = `
WITH RECURSIVE family AS (
	SELECT c.oid, NULL::oid AS parent
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname = ANY (ARRAY(SELECT json_array_elements_text($1)))
	  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND c.relpersistence <> 't'
	UNION
	SELECT i.inhrelid, i.inhparent FROM pg_inherits i JOIN family f ON i.inhparent = f.oid
)
SELECT f.oid, f.parent, n.nspname, c.relname
FROM family f JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY 1, 2`

// columnsSQL gives the columns of some relations, with the place of each in the primary key (0: none) and the type below
// all domains.
const columnsSQL = `
WITH RECURSIVE attribute AS (
	SELECT attrelid, attnum, attname, atttypid AS type FROM pg_attribute
	WHERE attrelid = ANY ($1::oid[]) AND attnum > 0 AND NOT attisdropped
	UNION ALL
	SELECT a.attrelid, a.attnum, a.attname, t.typbasetype FROM attribute a JOIN pg_type t ON t.oid = a.type AND t.typtype = 'd'
)
SELECT a.attrelid, a.attname, coalesce(array_position(p.key, a.attnum), 0),
       CASE WHEN n.nspname = 'pg_catalog' THEN t.typname::text WHEN t.typtype = 'e' OR t.typcategory = 'S' THEN 'text' ELSE '' END
FROM attribute a
JOIN pg_type t ON t.oid = a.type AND t.typtype <> 'd'
JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN LATERAL (
	SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1] AS key FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary
) p ON true
ORDER BY 1, 3`

// textKinds are the built-in types of which the text is certain; enums and the text types of extensions count as text,
// and what is not here as ambiguous.
var textKinds = map[string]textKind{
	"int2": asIs, "int4": asIs, "int8": asIs, "numeric": asIs, "text": asIs, "varchar": asIs, "name": asIs, "uuid": asIs,
	"bool": booleans, "bpchar": padded, "date": dates,
	"json": documents, "jsonb": documents,
}

// LoadCatalog reads what a decoder must know of the tables. columns is as in [Decoder].
func LoadCatalog(ctx context.Context, conn *pgconn.PgConn, tables []string, columns func(schema, table string) ([]string, bool)) (*Catalog, error) {
	relations, err := loadRelations(ctx, conn, tables)
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	c := &Catalog{feeds: map[ref]*feed{}}
	for _, oid := range slices.Sorted(maps.Keys(relations)) { // in order, so that two readings can be compared
		r := relations[oid]
		f := r.feed(columns)
		c.feeds[r.ref] = f
		alone := ref{name: r.name}
		c.feeds[alone] = c.feeds[alone].merge(f.anywhere())
	}
	return c, nil
}

// agrees reports whether two readings say the same of every table that both know.
func (c *Catalog) agrees(other *Catalog) bool {
	for r, f := range c.feeds {
		if g := other.feeds[r]; g != nil && !reflect.DeepEqual(f, g) {
			return false
		}
	}
	return true
}

// loadRelations reads the relations, by oid in the server's text.
func loadRelations(ctx context.Context, conn *pgconn.PgConn, tables []string) (map[string]*relation, error) {
	names, err := json.Marshal(tables)
	if err != nil {
		return nil, err
	}
	rows, err := query(ctx, conn, relationsSQL, string(names))
	if err != nil {
		return nil, err
	}
	relations := map[string]*relation{}
	get := func(oid string) *relation {
		if relations[oid] == nil {
			relations[oid] = &relation{columns: map[string]textKind{}}
		}
		return relations[oid]
	}
	var named []string
	for _, row := range rows {
		oid, parent, r := row[0], row[1], get(row[0])
		r.ref = ref{row[2], row[3]}
		if parent != "" {
			r.parents = append(r.parents, get(parent))
		}
		if slices.Contains(tables, r.name) {
			named = append(named, oid)
		}
	}
	rows, err = query(ctx, conn, columnsSQL, "{"+strings.Join(named, ",")+"}")
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		r, name, inKey := get(row[0]), row[1], row[2] != "0"
		text, certain := textKinds[row[3]]
		if !certain {
			text = ambiguous
		}
		r.columns[name] = text
		if inKey {
			r.key = append(r.key, name)
		}
	}
	return relations, nil
}

// feed says what a message from the relation means. A relation that no rule names counts as its parents.
func (r *relation) feed(columns func(schema, table string) ([]string, bool)) *feed {
	names, ok := columns(r.schema, r.name)
	if !ok {
		var f *feed
		for _, p := range r.parents {
			f = f.merge(p.feed(columns))
		}
		if f == nil {
			f = &feed{}
		}
		return f
	}
	f := &feed{tables: []ref{r.ref}, key: r.key}
	for _, name := range names {
		kind, found := r.columns[name]
		if !found { // it may have been added since
			kind = ambiguous
		}
		f.columns = append(f.columns, column{name, kind})
	}
	return f
}

// anywhere gives the feed of a message that does not say which schema it is from.
func (f *feed) anywhere() *feed {
	tables := slices.Clone(f.tables)
	for i := range tables {
		tables[i].schema = ""
	}
	return &feed{tables: tables, columns: f.columns, key: f.key}
}

// merge gives the feed of a message that may be from either. What they disagree on is not known.
func (f *feed) merge(g *feed) *feed {
	if f == nil || len(f.tables) == 0 {
		return g
	}
	if len(g.tables) == 0 {
		return f
	}
	m := &feed{tables: slices.Clone(f.tables), columns: slices.Clone(f.columns)}
	for _, t := range g.tables {
		if !slices.Contains(m.tables, t) {
			m.tables = append(m.tables, t)
		}
	}
	for _, c := range g.columns {
		i := slices.IndexFunc(m.columns, func(have column) bool { return have.name == c.name })
		switch {
		case i < 0:
			m.columns = append(m.columns, c)
		case m.columns[i].text != c.text:
			m.columns[i].text = max(ambiguous, m.columns[i].text, c.text)
		}
	}
	if slices.Equal(f.key, g.key) {
		m.key = f.key
	}
	return m
}
