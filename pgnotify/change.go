package pgnotify

import (
	"fmt"
	"slices"
	"strings"
)

// The operations of a change.
const (
	Insert   = "insert"
	Update   = "update"
	Delete   = "delete"
	Truncate = "truncate"
	Unknown  = "unknown" // the message does not say
)

// Source is the format in which a change came.
type Source string

// The sources: the payloads of the contrib module tcn, and JSON.
const (
	TCN    Source = "tcn"
	Events Source = "events"
)

// Change is a write to a table, as far as a message tells.
type Change struct {
	Schema  string // empty: the message does not say
	Table   string
	Op      string
	Source  Source
	Changed []string // the columns in which an update changed any of the rows; nil: not known
	Rows    []Row    // none: any row of the table
	// Half says of an insert or a delete that it may be half of an update, which moved the row from one partition to another.
	Half bool
}

// Row is one changed row, as it was and as it is. An image that is nil did not exist or, for tcn's updates, is the same
// as the other as far as is known; one that is not nil may still lack columns.
type Row struct{ Old, New Image }

// Image is a state of a row: the columns of which the text is certain.
type Image []Column

// Column is a column's text, as column::text has it.
type Column struct {
	Name, Text string
	Null       bool
}

// Column looks a column up by name; known is false for one that the image lacks.
func (i Image) Column(name string) (text string, null, known bool) {
	for _, c := range i {
		if c.Name == name {
			return c.Text, c.Null, true
		}
	}
	return "", false, false
}

// set returns the image with the column in it; of a column that comes twice the last counts.
func (i Image) set(c Column) Image {
	if n := slices.IndexFunc(i, func(have Column) bool { return have.Name == c.Name }); n >= 0 {
		i[n] = c
		return i
	}
	return append(i, c)
}

// Unreadable is a payload that could not be read. Where the name of its table could be, the change that comes with it
// is "any row of that table".
type Unreadable struct {
	Reason string // a few fixed words, fit for a metric: syntax, rows, foreign
	Detail string // what is wrong and at which byte
}

func (u *Unreadable) Error() string { return u.Detail }

func unreadable(reason, format string, args ...any) *Unreadable {
	return &Unreadable{reason, fmt.Sprintf(format, args...)}
}

// Decoder turns payloads into changes. It is for one goroutine.
type Decoder struct {
	// Columns lists the columns that matter of a table, and says whether the table itself matters. An empty schema is one
	// that is not known.
	Columns func(schema, table string) (columns []string, ok bool)
	// Catalog is what the database says of the tables; nil where it was not asked. Without it no primary key, no
	// partition and no type is known, and every text is taken as it stands.
	Catalog *Catalog

	// Of the payload being read: its table, what a message from that means, and whether the catalog has it.
	table Table
	info  *tableInfo
	known bool
	// Room for the changes of one payload, since they come by the million.
	changes []Change
	rows    []Row
	columns []Column
	event   event
	text    jsonText
}

// Decode reads a payload and returns the change that it means to each table that it concerns: one, or none where no table
// of the rules is concerned, or several where a table inherits from several. They are valid until the next call.
//
// It reports false for known if the catalog does not have the payload's table, which may be a new partition; the
// changes are then what the payload says by itself. An error is an *Unreadable, and may come with a change.
func (d *Decoder) Decode(source Source, payload string) (changes []Change, known bool, err error) {
	d.changes, d.rows, d.columns, d.table = d.changes[:0], d.rows[:0], d.columns[:0], Table{}
	var c Change
	if source == TCN {
		c, err = d.decodeTCN(payload)
	} else {
		c, err = d.decodeEvent(payload)
	}
	if c.Table == "" {
		return nil, true, err
	}
	c.Source = source
	if d.info.part && (c.Op == Insert || c.Op == Delete) {
		c.Half = true
	}
	for _, t := range d.info.tables {
		c.Schema, c.Table = t.Schema, t.Name
		d.changes = append(d.changes, c)
	}
	return d.changes, d.known, err
}

// image returns an empty image with room for the columns that matter. It is never nil, which would mean that the row did
// not exist, even where no column matters.
func (d *Decoder) image() Image {
	n := len(d.info.columns)
	if d.columns == nil || cap(d.columns)-len(d.columns) < n {
		d.columns = make([]Column, 0, max(2*cap(d.columns), n, 8)) // images keep what they have of the old room
	}
	start := len(d.columns)
	d.columns = d.columns[:start+n]
	return d.columns[start : start : start+n]
}

// tableInfo says what a message from a table means.
type tableInfo struct {
	tables  []Table      // the tables of the rules that it concerns: itself, or those of which it is a part
	columns []ColumnInfo // the columns that their rules need
	key     []string     // the primary key; nil: not known
	part    bool         // it may be from a partition of theirs, so rows come and go by updates
}

// Table names a table; an empty schema is one that is not known.
type Table struct{ Schema, Name string }

func (t Table) String() string {
	if t.Schema == "" {
		return t.Name
	}
	return t.Schema + "." + t.Name
}

// textKind says how the text of a column in a payload relates to column::text.
type textKind uint8

const (
	asIs      textKind = iota
	booleans           // tcn writes t and f
	padded             // character(n): column::text has no blanks at the end
	dates              // tcn's depend on the session's DateStyle, JSON's do not
	ambiguous          // depends on the session that wrote it, or on the channel
	documents          // so does that of JSON, where even null may be a value
	virtual            // computed when it is read, and NULL in triggers
)

// find sets what a message from the table means.
func (d *Decoder) find(schema, table string) {
	d.table = Table{schema, table}
	if d.Catalog != nil {
		if info := d.Catalog.tables[Table{schema, table}]; info != nil {
			d.info, d.known = info, true
			return
		}
	}
	d.info, d.known = &tableInfo{}, d.Catalog == nil
	names, ok := d.Columns(schema, table)
	if ok {
		d.info.tables = []Table{{strings.Clone(schema), strings.Clone(table)}} // the one text that outlives the change
	}
	for _, name := range names {
		d.info.columns = append(d.info.columns, ColumnInfo{Name: name})
	}
}

// add puts a column that a payload holds into an image, if its text there is certain. Where it came before, it is this
// one that counts.
func (c ColumnInfo) add(image Image, source Source, text string, null bool) Image {
	switch {
	case c.text == documents, c.text == virtual:
		return image.without(c.Name)
	case null:
		text = ""
	case c.text == ambiguous, c.text == dates && source == TCN:
		return image.without(c.Name)
	case c.text == padded:
		text = strings.TrimRight(text, " ")
	case c.text == booleans && text == "t":
		text = "true"
	case c.text == booleans && text == "f":
		text = "false"
	}
	return image.set(Column{c.Name, text, null})
}
