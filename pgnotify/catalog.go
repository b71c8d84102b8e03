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

	"pgevict/pgnotify/postgres"
)

// Catalog is what the database said of the tables in the rules and of their partitions when it was read. It never changes.
type Catalog struct {
	tables    map[Table]*tableInfo // by schema and name, and by name alone
	relations map[string]relation  // by oid
}

// relation is what a relation was when the catalog was read. Two readings that agree on it mean the same by its messages.
type relation struct {
	name    Table
	info    *tableInfo
	version string // differs once it has been altered or renamed, also when it is again what it was
}

// relationsSQL returns the relations that have a name of the rules, and all that inherit from them, each with a parent.
const relationsSQL = `
WITH RECURSIVE family AS (
	SELECT c.oid, NULL::oid AS parent
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname = ANY (ARRAY(SELECT json_array_elements_text($1)))
	  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND c.relpersistence <> 't'
	UNION
	SELECT i.inhrelid, i.inhparent FROM pg_inherits i JOIN family f ON i.inhparent = f.oid
)
SELECT f.oid, f.parent, n.nspname, c.relname, c.relispartition, c.xmin
FROM family f JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY 1, 2`

// columnsSQL returns the columns of some relations, with the place of each in the primary key (0: none), the type below all
// domains, and whether it is computed only when it is read.
const columnsSQL = `
WITH RECURSIVE attribute AS (
	SELECT attrelid, attnum, attname, atttypid AS type, attgenerated = 'v' AS virtual FROM pg_attribute
	WHERE attrelid = ANY ($1::oid[]) AND attnum > 0 AND NOT attisdropped
	UNION ALL
	SELECT a.attrelid, a.attnum, a.attname, t.typbasetype, a.virtual FROM attribute a JOIN pg_type t ON t.oid = a.type AND t.typtype = 'd'
)
SELECT a.attrelid, a.attname, coalesce(array_position(p.key, a.attnum), 0),
       CASE WHEN n.nspname = 'pg_catalog' THEN t.typname::text WHEN t.typtype = 'e' OR t.typcategory = 'S' THEN 'text' ELSE '' END, a.virtual
FROM attribute a
JOIN pg_type t ON t.oid = a.type AND t.typtype <> 'd'
JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN LATERAL (
	SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1] AS key FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary
) p ON true
ORDER BY 1, 3`

// namesSQL returns the relations that have one of some names, in whatever schema.
const namesSQL = `
SELECT n.nspname, c.relname, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = ANY (ARRAY(SELECT json_array_elements_text($1)))`

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
	c := &Catalog{tables: map[Table]*tableInfo{}, relations: map[string]relation{}}
	for _, oid := range slices.Sorted(maps.Keys(relations)) { // in order, so that two readings can be compared
		r := relations[oid]
		info := r.info(columns)
		c.relations[oid] = relation{r.table(), info, r.version}
		c.tables[r.table()] = info
		alone := Table{Name: r.Name}
		c.tables[alone] = c.tables[alone].merge(info.anywhere())
	}
	return c, nil
}

// misread lists the tables of which messages may have been read by this catalog as what they were not, until it was read
// again: those of the rules that have another type, key or name, or other parts; and those that came, since nobody knows
// what happened to them under another name. That there are new parts is none of it, since a name that is not known waits,
// unless it was that of another.
func (c *Catalog) misread(now *Catalog) (tables []Table) {
	for oid, is := range now.relations {
		was, same := c.relations[oid]
		alone := Table{Name: is.name.Name} // as messages name it that do not say the schema
		switch {
		case same && was.name == is.name && reflect.DeepEqual(was.info, is.info):
		case same:
			tables = append(append(tables, was.info.tables...), is.info.tables...)
		case slices.Contains(is.info.tables, is.name):
			tables = append(tables, is.info.tables...)
		case c.tables[is.name] != nil:
			tables = append(append(tables, c.tables[is.name].tables...), is.info.tables...)
		case c.tables[alone] != nil && !reflect.DeepEqual(c.tables[alone], now.tables[alone]):
			tables = append(tables, is.info.tables...)
		}
	}
	return unique(tables)
}

// touched lists the tables whose relations came, went, or were altered or renamed between the two readings, even if they
// are again what they were: a message under a name that is gone may be of one of them.
func (c *Catalog) touched(now *Catalog) (tables []Table) {
	for oid, was := range c.relations {
		if is, ok := now.relations[oid]; !ok || is.version != was.version {
			tables = append(append(tables, was.info.tables...), is.tables()...)
		}
	}
	for oid, is := range now.relations {
		if _, ok := c.relations[oid]; !ok {
			tables = append(tables, is.info.tables...)
		}
	}
	return unique(tables)
}

func (r relation) tables() []Table {
	if r.info == nil {
		return nil
	}
	return r.info.tables
}

// unique sorts tables, and leaves each once.
func unique(tables []Table) []Table {
	slices.SortFunc(tables, func(a, b Table) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(tables)
}

// existing returns the oids of the relations that have one of some names, by name with and without the schema.
func existing(ctx context.Context, conn *pgconn.PgConn, names []Table) (map[Table][]string, error) {
	alone := make([]string, len(names))
	for i, name := range names {
		alone[i] = name.Name
	}
	list, err := json.Marshal(alone)
	if err != nil {
		return nil, err
	}
	rows, err := postgres.Query(ctx, conn, namesSQL, string(list))
	if err != nil {
		return nil, fmt.Errorf("look names up: %w", err)
	}
	exist := map[Table][]string{}
	for _, row := range rows {
		for _, name := range []Table{{row[0], row[1]}, {Name: row[1]}} {
			exist[name] = append(exist[name], row[2])
		}
	}
	return exist, nil
}

// under lists the tables of relations that this catalog knows by another name than the one that they have.
func (c *Catalog) under(oids []string) (tables []Table) {
	for _, oid := range oids {
		if was, ok := c.relations[oid]; ok {
			tables = append(tables, was.info.tables...)
		}
	}
	return tables
}

// loadRelations reads the relations, by oid in the server's text.
func loadRelations(ctx context.Context, conn *pgconn.PgConn, tables []string) (map[string]*Relation, error) {
	names, err := json.Marshal(tables)
	if err != nil {
		return nil, err
	}
	rows, err := postgres.Query(ctx, conn, relationsSQL, string(names))
	if err != nil {
		return nil, err
	}
	relations := map[string]*Relation{}
	get := func(oid string) *Relation {
		if relations[oid] == nil {
			relations[oid] = &Relation{}
		}
		return relations[oid]
	}
	var named []string
	for _, row := range rows {
		oid, parent, r := row[0], row[1], get(row[0])
		r.Schema, r.Name, r.partition, r.version = row[2], row[3], row[4] == "t", row[5]
		if parent != "" {
			r.parents = append(r.parents, get(parent))
		}
		if slices.Contains(tables, r.Name) {
			named = append(named, oid)
		}
	}
	if rows, err = postgres.Query(ctx, conn, columnsSQL, oidList(named)); err != nil {
		return nil, err
	}
	for _, row := range rows {
		r, name, inKey := get(row[0]), row[1], row[2] != "0"
		text, certain := textKinds[row[3]]
		if !certain {
			text = ambiguous
		}
		if row[4] == "t" {
			text = virtual
		}
		r.Columns = append(r.Columns, ColumnInfo{name, text})
		if inKey {
			r.Key = append(r.Key, name)
		}
	}
	for _, r := range relations {
		slices.SortFunc(r.Columns, func(a, b ColumnInfo) int { return strings.Compare(a.Name, b.Name) })
	}
	return relations, nil
}

func oidList(oids []string) string { return "{" + strings.Join(oids, ",") + "}" }

// info says what a message from the relation means. A relation that no rule names counts as its parents.
func (r *Relation) info(columns func(schema, table string) ([]string, bool)) *tableInfo {
	names, ok := columns(r.Schema, r.Name)
	if !ok {
		var info *tableInfo
		for _, p := range r.parents {
			info = info.merge(p.info(columns))
		}
		if info == nil {
			return &tableInfo{}
		}
		part := *info
		part.part = part.part || r.partition
		return &part
	}
	info := &tableInfo{tables: []Table{r.table()}, key: r.Key}
	for _, name := range names {
		column := ColumnInfo{name, ambiguous} // it may have been added since
		if i := slices.IndexFunc(r.Columns, func(c ColumnInfo) bool { return c.Name == name }); i >= 0 {
			column = r.Columns[i]
		}
		info.columns = append(info.columns, column)
	}
	return info
}

// anywhere returns what a message means that does not say which schema it is from.
func (info *tableInfo) anywhere() *tableInfo {
	tables := slices.Clone(info.tables)
	for i := range tables {
		tables[i].Schema = ""
	}
	return &tableInfo{tables: tables, columns: info.columns, key: info.key, part: info.part}
}

// merge returns what a message means that may be from either. What they disagree on is not known.
func (info *tableInfo) merge(other *tableInfo) *tableInfo {
	if info == nil || len(info.tables) == 0 {
		return other
	}
	if len(other.tables) == 0 {
		return info
	}
	m := &tableInfo{tables: slices.Clone(info.tables), columns: slices.Clone(info.columns), part: info.part || other.part}
	for _, t := range other.tables {
		if !slices.Contains(m.tables, t) {
			m.tables = append(m.tables, t)
		}
	}
	for _, c := range other.columns {
		i := slices.IndexFunc(m.columns, func(have ColumnInfo) bool { return have.Name == c.Name })
		switch {
		case i < 0:
			m.columns = append(m.columns, c)
		case m.columns[i].text != c.text:
			m.columns[i].text = max(ambiguous, m.columns[i].text, c.text)
		}
	}
	if slices.Equal(info.key, other.key) {
		m.key = info.key
	}
	return m
}
