// Package rules answers one question: which Redis keys does a changed row make stale?
//
// A rules file maps a table to templates of keys, of sets of keys, and of fields of hashes. Matching a change against it
// gives targets: exact ones where every column that a template needs is known, patterns and whole hashes where one is
// not. What is not known widens; nothing is guessed. A rule may say by which query its keys are read anew instead of
// being deleted. The package has no clock, no logger and no connection.
package rules

import (
	"iter"
	"slices"
)

// The operations of a change, as a rule's "on" names them. Any other text counts as an operation that is not known, and
// an operation that is not known matches every rule of its table.
const (
	Insert   = "insert"
	Update   = "update"
	Delete   = "delete"
	Truncate = "truncate"
)

// Change is what is known about a write to a table.
type Change struct {
	Schema  string   // empty: not known, so every schema matches
	Table   string   // as the catalog spells it
	Op      string   // one of the constants above, or anything else for "not known"
	Changed []string // the columns in which an update changed any of the rows; nil: not known
	Rows    []Row    // none: any row of the table
	// Half says of an insert or a delete that it may be half of an update, which moved the row from one partition to another.
	Half bool
}

// Row is one changed row, as it was and as it is. An image that is nil is one that did not exist; an image of which
// little is known is not nil, but knows few columns.
type Row struct{ Old, New Image }

// Image is the state of a row before or after a change.
type Image interface {
	// Column returns a column's text, as column::text would. It says null for SQL's NULL, and known only where the
	// column's value is certain.
	Column(name string) (text string, null, known bool)
}

// Reason says why a target is wider than its template; it is empty where it is not.
type Reason string

// The reasons for which Match widens.
const (
	Exact         Reason = ""
	UnknownColumn Reason = "column"   // the message does not have a column that the template needs
	UnknownOld    Reason = "old"      // the message does not say what the row was before the update
	UnknownRows   Reason = "rows"     // the message does not say which rows
	Truncated     Reason = "truncate" // every row of the table is gone
)

// Set is a rules file, compiled. It never changes, so any number of goroutines may use it.
type Set struct {
	rules  []*rule
	tables map[string][]*rule // by name alone: most payloads carry no schema
}

type rule struct {
	name      string
	schema    string // empty: the table in every schema
	table     string
	on        []string // empty: all
	changed   []string // empty: every update counts
	templates []*template
	refresh   *Refresh // nil: the keys are deleted
}

// Table is a table that the rules name.
type Table struct {
	Schema string // empty: the table of that name in every schema
	Name   string
}

// Tables lists the tables that the rules name, each once, in the order of the file.
func (s *Set) Tables() []Table {
	var tables []Table
	for _, r := range s.rules {
		if t := (Table{r.schema, r.table}); !slices.Contains(tables, t) {
			tables = append(tables, t)
		}
	}
	return tables
}

// TableNames lists the names of the tables that have rules, each once, without schemas.
func (s *Set) TableNames() []string {
	var names []string
	for _, t := range s.Tables() {
		if !slices.Contains(names, t.Name) {
			names = append(names, t.Name)
		}
	}
	return names
}

// Columns lists the columns that the rules of a table use, in templates and in "changed", each once, and says whether
// any rule names the table at all. An empty schema is one that is not known.
func (s *Set) Columns(schema, name string) (columns []string, ok bool) {
	for _, r := range s.tables[name] {
		if !r.inSchema(schema) {
			continue
		}
		ok = true
		for c := range r.columns {
			if !slices.Contains(columns, c) {
				columns = append(columns, c)
			}
		}
	}
	return columns, ok
}

// OnlyChanged reports whether an update of a table matters only where it changes one of the table's [Set.Columns]: every
// rule that counts updates says "changed".
func (s *Set) OnlyChanged(schema, name string) bool {
	for _, r := range s.tables[name] {
		if r.inSchema(schema) && r.wants(Update) && len(r.changed) == 0 {
			return false
		}
	}
	return true
}

// columns yields the columns that the rule uses, some more than once.
func (r *rule) columns(yield func(string) bool) {
	for _, c := range r.changed {
		if !yield(c) {
			return
		}
	}
	for _, t := range r.templates {
		for _, c := range t.columns {
			if !yield(c) {
				return
			}
		}
	}
}

// Match returns the targets of a change, with the reason where one is wider than its template. The same target may come
// more than once, since what waits for Redis is a set.
func (s *Set) Match(c Change) iter.Seq2[Target, Reason] {
	return func(yield func(Target, Reason) bool) {
		for _, r := range s.tables[c.Table] {
			if r.inSchema(c.Schema) && (r.wants(c.Op) || c.Half && r.wants(Update)) && !r.match(c, yield) {
				return
			}
		}
	}
}

// Refreshes lists how the rules read their keys anew, in the order of the file; most rules delete.
func (s *Set) Refreshes() []*Refresh {
	var refreshes []*Refresh
	for _, r := range s.rules {
		if r.refresh != nil {
			refreshes = append(refreshes, r.refresh)
		}
	}
	return refreshes
}

// Sweep returns the targets of a gap: every key that the rules could have produced, or that those of some tables could
// have if any are named. All are to be deleted.
func (s *Set) Sweep(of ...Table) []Target {
	var targets []Target
	for _, r := range s.rules {
		concerned := func(t Table) bool { return t.Name == r.table && r.inSchema(t.Schema) }
		if len(of) > 0 && !slices.ContainsFunc(of, concerned) {
			continue
		}
		for _, t := range r.templates {
			targets = append(targets, t.wide)
		}
	}
	return targets
}

// Tags returns for each tag of the rules the target that covers all sets of its template.
func (s *Set) Tags() []Target {
	var tags []Target
	for _, t := range s.Sweep() {
		if t.IsTag() {
			tags = append(tags, t)
		}
	}
	return tags
}

// Overlap is two templates that may name the same key, one of a tag and one of something else.
type Overlap struct{ Tag, Other Target }

// Overlaps lists them. Such a key is read as a set before it is deleted, so none loses its members; but an application that
// writes both would have one overwrite the other.
func (s *Set) Overlaps() []Overlap {
	var overlaps []Overlap
	for _, tag := range s.Tags() {
		for _, other := range s.Sweep() {
			if !other.IsTag() && other.Glob().Intersects(tag.Glob()) {
				overlaps = append(overlaps, Overlap{tag, other})
			}
		}
	}
	return overlaps
}

// Samples returns for each target of [Set.Sweep] the one that a row makes of which every column has a text.
func (s *Set) Samples(text string) []Target {
	var targets []Target
	for _, r := range s.rules {
		for _, t := range r.templates {
			target, _, _ := t.render(everywhere(text))
			targets = append(targets, target)
		}
	}
	return targets
}

// everywhere is the image that has the same text in every column.
type everywhere string

func (e everywhere) Column(string) (text string, null, known bool) { return string(e), false, true }

// match yields the rule's targets, and reports whether to go on.
func (r *rule) match(c Change, yield func(Target, Reason) bool) bool {
	if c.Op == Truncate { // whatever rows a message names, all of them are gone
		return r.matchAny(Truncated, yield)
	}
	if len(c.Rows) == 0 {
		return r.unchanged(c, Row{}) || r.matchAny(UnknownRows, yield)
	}
	for _, row := range c.Rows {
		if r.unchanged(c, row) {
			continue
		}
		for _, t := range r.templates {
			if !t.match(row, yield) {
				return false
			}
		}
	}
	return true
}

func (r *rule) matchAny(why Reason, yield func(Target, Reason) bool) bool {
	for _, t := range r.templates {
		target, reason := t.wide, why
		if len(t.columns) == 0 { // the same for every row
			target, reason, _ = t.render(nothing{})
		}
		if !yield(target, reason) {
			return false
		}
	}
	return true
}

func (r *rule) inSchema(schema string) bool {
	return r.schema == "" || schema == "" || r.schema == schema
}

func (r *rule) wants(op string) bool {
	switch op {
	case Insert, Update, Delete, Truncate:
		return len(r.on) == 0 || slices.Contains(r.on, op)
	}
	return true
}

// unchanged reports whether an update is known to have left every column of the rule's "changed" as it was. A row of which
// one image is missing is gone, or was not there before, whatever the columns.
func (r *rule) unchanged(c Change, row Row) bool {
	if c.Op != Update || len(r.changed) == 0 || (row.Old == nil) != (row.New == nil) {
		return false
	}
	for _, column := range r.changed {
		if c.Changed != nil && !slices.Contains(c.Changed, column) {
			continue
		}
		if row.Old == nil || row.New == nil {
			return false
		}
		old, oldNull, oldKnown := row.Old.Column(column)
		now, nowNull, nowKnown := row.New.Column(column)
		if !oldKnown || !nowKnown || old != now || oldNull != nowNull {
			return false
		}
	}
	return true
}
