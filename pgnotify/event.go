package pgnotify

import "slices"

// event is a JSON payload while it is read: this and any superset of it.
type event struct {
	decoder *Decoder
	about
	op        string
	part      bool // it is of one row, which may have moved from one partition to another
	changed   []string
	data, old images
}

// about says how to read a row.
type about struct {
	schema, table string
	pinned        bool
}

// images is the value of a member that holds a row, or a list of rows, or the rows column by column.
type images struct {
	start  int  // where the value begins; 0: there is none
	about       // what was known when it was read
	lists  bool // it is an object of lists, one for each column
	shaped bool // it is what it should be, or null
	of     []Image
}

var eventOps = map[string]string{"INSERT": Insert, "UPDATE": Update, "DELETE": Delete, "TRUNCATE": Truncate}

// decodeEvent reads a JSON payload. Member names are matched exactly, and of a repeated member the last counts.
func (d *Decoder) decodeEvent(payload string) (Change, error) {
	e := &d.event
	*e = event{decoder: d, op: Unknown,
		data: images{shaped: true, of: e.data.of[:0]}, old: images{shaped: true, of: e.old.of[:0]}}
	t := &d.text
	*t = jsonText{s: payload}
	ok := e.members(t) && t.space() == 0 && t.i == len(t.s)
	if e.table == "" {
		if !ok {
			return Change{}, unreadable("syntax", "events: not a JSON object: it goes wrong at byte %d", t.i)
		}
		return Change{}, unreadable("foreign", "events: the JSON has no \"table\" that is a text")
	}
	c := Change{Schema: e.schema, Table: e.table, Op: e.op, Half: e.part && (e.op == Insert || e.op == Delete)}
	d.find(e.schema, e.table)
	if !ok {
		c.Op, c.Half = Unknown, false // what follows may say it again
		return c, unreadable("syntax", "events: the JSON goes wrong at byte %d", t.i)
	}
	if e.op == Truncate {
		return c, nil
	}
	for _, m := range []*images{&e.data, &e.old} {
		if m.start > 0 && m.about != e.about { // what says how to read the rows came behind them
			e.read(m, &jsonText{s: payload, i: m.start}, m.lists)
		}
	}
	if !e.data.shaped || !e.old.shaped {
		return c, unreadable("rows", "events: \"data\" and \"old\" must be a row or a list of rows, and \"columns\" and \"old_columns\" lists of the same length, or of one value for all rows")
	}
	c.Changed = e.changed
	if e.data.lists && e.old.lists {
		e.spread(&e.data, len(e.old.of))
		e.spread(&e.old, len(e.data.of))
	}
	if e.op == Update && e.pinned && e.changed != nil {
		e.complete()
	}
	c.Rows = e.pair(e.data.of, e.old.of)
	return c, nil
}

// members reads the outer object.
func (e *event) members(t *jsonText) bool {
	for first := true; ; first = false {
		name, more, ok := t.member(first)
		if !more {
			return ok
		}
		if !e.member(name, t) {
			return false
		}
	}
}

// member reads one member of the outer object.
func (e *event) member(name jsonValue, t *jsonText) bool {
	member, _ := name.text()
	switch member {
	case "data", "columns":
		return e.read(&e.data, t, member == "columns")
	case "old", "old_columns":
		return e.read(&e.old, t, member == "old_columns")
	}
	v, ok := t.value()
	if !ok {
		return false
	}
	switch member {
	case "table":
		e.table = v.word()
	case "schema":
		e.schema = v.word()
	case "action":
		e.op = Unknown
		if op, known := eventOps[v.raw]; known && v.kind == '"' {
			e.op = op
		}
	case "pinned":
		e.pinned = v.kind == 't'
	case "part":
		e.part = v.kind == 't'
	case "changed":
		e.changed = v.texts()
	}
	return true
}

// word is a string's text, and empty for anything else.
func (v jsonValue) word() string {
	if v.kind != '"' {
		return ""
	}
	text, _ := v.text()
	return text
}

// texts reads a list of strings; anything else is nil.
func (v jsonValue) texts() []string {
	t := &jsonText{s: v.raw}
	texts := []string{}
	ok := v.kind == '[' && t.array(func() bool {
		element, _ := t.value()
		text, ok := element.text()
		texts = append(texts, text)
		return ok && element.kind == '"'
	})
	if !ok {
		return nil
	}
	return texts
}

// read reads a row, or a list of rows, or the lists of their columns, by what is known so far. It reports whether it is JSON
// at all.
func (e *event) read(m *images, t *jsonText, lists bool) (ok bool) {
	kind := t.space()
	*m = images{start: t.i, about: e.about, lists: lists, shaped: kind == '{' || kind == '[' && !lists || kind == 'n', of: m.of[:0]}
	if !m.shaped || kind == 'n' || e.table == "" {
		_, ok = t.value()
		return ok
	}
	e.decoder.find(e.schema, e.table)
	if lists {
		return e.columns(m, t)
	}
	if kind == '{' {
		image, ok := e.row(t)
		m.of = append(m.of, image)
		return ok
	}
	return t.array(func() bool {
		if t.space() != '{' {
			m.shaped = false
			_, ok := t.value()
			return ok
		}
		image, ok := e.row(t)
		m.of = append(m.of, image)
		return ok
	})
}

// columns reads rows of which each column is a list. All lists must be of the same length, also of columns that do not
// matter, or of one value, which all rows have.
func (e *event) columns(m *images, t *jsonText) bool {
	var values []jsonValue
	for first := true; ; first = false {
		name, more, ok := t.member(first)
		if !more {
			return ok
		}
		if t.space() != '[' {
			m.shaped = false
			if _, ok := t.value(); !ok {
				return false
			}
			continue
		}
		values = values[:0]
		if !t.array(func() bool {
			v, ok := t.value()
			values = append(values, v)
			return ok
		}) {
			return false
		}
		if first {
			for range values {
				m.of = append(m.of, e.decoder.image())
			}
		}
		e.spread(m, len(values))
		if n := len(values); n != len(m.of) && (n != 1 || len(m.of) == 0) {
			m.shaped = false
			continue
		}
		if c, wanted := e.wanted(name); wanted {
			for i := range m.of {
				m.of[i] = e.add(m.of[i], c, values[min(i, len(values)-1)])
			}
		}
	}
}

// spread makes n rows of one, where each column so far is a list of one.
func (e *event) spread(m *images, n int) {
	if !m.lists || len(m.of) != 1 {
		return
	}
	for len(m.of) < n {
		m.of = append(m.of, append(e.decoder.image(), m.of[0]...))
	}
}

// row reads the columns that matter of one row, and passes over the others.
func (e *event) row(t *jsonText) (Image, bool) {
	image := e.decoder.image()
	for first := true; ; first = false {
		name, more, ok := t.member(first)
		if !more {
			return image, ok
		}
		if c, wanted := e.wanted(name); wanted {
			var v jsonValue
			v, ok = t.value()
			image = e.add(image, c, v)
		} else {
			t.i, ok = skip(t.s, t.i)
		}
		if !ok {
			return image, false
		}
	}
}

// wanted returns the column of that name, if it matters.
func (e *event) wanted(name jsonValue) (ColumnInfo, bool) {
	member, _ := name.text()
	for _, c := range e.decoder.info.columns {
		if c.Name == member {
			return c, true
		}
	}
	return ColumnInfo{}, false
}

// add puts a column into an image. Where the column came before, it is this one that counts, even if it is not a text.
func (e *event) add(image Image, c ColumnInfo, v jsonValue) Image {
	if e.pinned && c.text != virtual {
		c.text = asIs
	}
	text, ok := v.raw, v.kind != '{' && v.kind != '['
	if v.kind == '"' {
		text, ok = v.text()
	}
	if !ok {
		return image.without(c.Name)
	}
	return c.add(image, Events, text, v.kind == 'n')
}

// complete fills into the old rows what the new ones have in columns that did not change. This holds only for texts
// under fixed settings: another writer may say that nothing changed where just the text did, as of a numeric from 1.0 to 1.00.
func (e *event) complete() {
	now := e.data.of
	if len(e.old.of) == 0 {
		for range now {
			e.old.of = append(e.old.of, e.decoder.image())
		}
	}
	if len(e.old.of) != len(now) {
		return
	}
	for i, image := range now {
		for _, c := range image {
			if _, _, known := e.old.of[i].Column(c.Name); !known && !slices.Contains(e.changed, c.Name) {
				e.old.of[i] = append(e.old.of[i], c)
			}
		}
	}
}

// pair pairs what is with what was. No row means any.
func (e *event) pair(now, old []Image) []Row {
	rows := e.decoder.rows
	switch {
	case e.op == Delete:
		for _, image := range append(now, old...) {
			rows = append(rows, Row{Old: image})
		}
	case len(now) == 0: // what is now is not known
	case e.op == Insert:
		for _, image := range now {
			rows = append(rows, Row{New: image})
		}
	case len(old) == len(now):
		for i := range now {
			if e.decoder.moved(old[i], now[i]) { // to the caches one row is gone and another is there
				rows = append(rows, Row{Old: old[i]}, Row{New: now[i]})
				continue
			}
			rows = append(rows, Row{Old: old[i], New: now[i]})
		}
	default:
		// What is known of the other side of a row is that its primary key is as a rule the same.
		for _, image := range now {
			rows = append(rows, Row{Old: e.decoder.only(image), New: image})
		}
		for _, image := range old {
			rows = append(rows, Row{Old: image, New: e.decoder.only(image)})
		}
	}
	e.decoder.rows = rows
	return rows
}

// moved reports whether an update is known to have changed the row's primary key.
func (d *Decoder) moved(old, now Image) bool {
	for _, name := range d.info.key {
		was, _, knownOld := old.Column(name)
		is, _, knownNow := now.Column(name)
		if knownOld && knownNow && was != is {
			return true
		}
	}
	return false
}

// only returns the image of which nothing but the primary key is known. A NULL is none of its values, so it says nothing.
func (d *Decoder) only(i Image) Image {
	image := d.image()
	for _, name := range d.info.key {
		if text, null, known := i.Column(name); known && !null {
			image = append(image, Column{Name: name, Text: text})
		}
	}
	return image
}

// without returns the image with the column unknown.
func (i Image) without(name string) Image {
	for n, c := range i {
		if c.Name == name {
			return append(i[:n], i[n+1:]...)
		}
	}
	return i
}
