package pgnotify

// event is a JSON payload while it is read: this and any superset of it.
type event struct {
	schema, table string
	op            string
	pinned        bool
	changed       []string
	data, old     jsonValue // as they stand; kind 0 where the member is missing
}

var eventOps = map[string]string{"INSERT": Insert, "UPDATE": Update, "DELETE": Delete, "TRUNCATE": Truncate}

// decodeEvent reads a JSON payload. Member names are matched exactly, and of a repeated member the last counts. The rows
// are read once the table is known, since that says which columns matter.
func decodeEvent(payload string, find func(schema, table string) *feed) (Change, error) {
	e := event{op: Unknown}
	t := &jsonText{s: payload}
	ok := t.object(func(name jsonValue) bool { return e.member(name, t) }) && t.space() == 0 && t.i == len(t.s)
	if e.table == "" {
		if !ok {
			return Change{}, unreadable("syntax", "events: not a JSON object: it goes wrong at byte %d", t.i)
		}
		return Change{}, unreadable("foreign", "events: the JSON has no \"table\" that is a text")
	}
	c := Change{Schema: e.schema, Table: e.table, Op: e.op, Changed: e.changed}
	f := find(e.schema, e.table)
	if !ok {
		c.Changed = nil
		return c, unreadable("syntax", "events: the JSON goes wrong at byte %d", t.i)
	}
	if e.op == Truncate {
		return c, nil
	}
	now, ok := e.images(e.data, f)
	old, okOld := e.images(e.old, f)
	if !ok || !okOld {
		c.Changed = nil
		return c, unreadable("rows", "events: \"data\" and \"old\" must be a row or a list of rows")
	}
	c.Rows = e.rows(now, old, f)
	return c, nil
}

// member reads one member of the outer object.
func (e *event) member(name jsonValue, t *jsonText) bool {
	v, ok := t.value()
	if !ok {
		return false
	}
	member, _ := name.text()
	switch member {
	case "table":
		e.table = ""
		if v.kind == '"' {
			e.table, _ = v.text()
		}
	case "schema":
		e.schema = ""
		if v.kind == '"' {
			e.schema, _ = v.text()
		}
	case "action":
		e.op = Unknown
		if op, known := eventOps[v.raw]; known && v.kind == '"' {
			e.op = op
		}
	case "pinned":
		e.pinned = v.kind == 't'
	case "changed":
		e.changed = v.texts()
	case "data":
		e.data = v
	case "old":
		e.old = v
	}
	return true
}

// texts reads a list of strings; anything else gives nil.
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

// images reads a row, or a list of rows. A member that is missing or null has none.
func (e *event) images(v jsonValue, f *feed) ([]Image, bool) {
	t := &jsonText{s: v.raw}
	switch v.kind {
	case '{':
		image, ok := e.image(t, f)
		return []Image{image}, ok
	case '[':
		var images []Image
		ok := t.array(func() bool {
			image, ok := e.image(t, f)
			images = append(images, image)
			return ok
		})
		return images, ok
	case 0:
		return nil, v.raw == ""
	}
	return nil, v.kind == 'n'
}

// image reads the columns that matter of one row.
func (e *event) image(t *jsonText, f *feed) (Image, bool) {
	image := make(Image, 0, len(f.columns))
	ok := t.object(func(name jsonValue) bool {
		v, ok := t.value()
		if !ok {
			return false
		}
		member, _ := name.text()
		for _, c := range f.columns {
			if c.name == member {
				image = e.add(image, c, v)
			}
		}
		return true
	})
	return image, ok
}

// add puts a column into an image. Where the column came before, it is this one that counts, even if it is not a text.
func (e *event) add(image Image, c column, v jsonValue) Image {
	if e.pinned {
		c.text = asIs
	}
	text, ok := v.raw, v.kind != '{' && v.kind != '['
	if v.kind == '"' {
		text, ok = v.text()
	}
	if !ok {
		return image.without(c.name)
	}
	return c.add(image, Events, text, v.kind == 'n')
}

// rows pairs what is with what was. None means any row.
func (e *event) rows(now, old []Image, f *feed) []Row {
	var rows []Row
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
			rows = append(rows, Row{Old: old[i], New: now[i]})
		}
	default:
		// What is known of the other side of a row is that its primary key is as a rule the same.
		for _, image := range now {
			rows = append(rows, Row{Old: image.only(f.key), New: image})
		}
		for _, image := range old {
			rows = append(rows, Row{Old: image, New: image.only(f.key)})
		}
	}
	return rows
}

// only gives the image of which no column but the named ones is known. A NULL is none of a primary key's values, so it
// says nothing.
func (i Image) only(names []string) Image {
	image := Image{}
	for _, name := range names {
		if text, null, known := i.Column(name); known && !null {
			image = append(image, Column{Name: name, Text: text})
		}
	}
	return image
}

// without gives the image with the column unknown.
func (i Image) without(name string) Image {
	for n, c := range i {
		if c.Name == name {
			return append(i[:n], i[n+1:]...)
		}
	}
	return i
}
