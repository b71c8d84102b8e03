package pgnotify

import "strings"

// decodeTCN reads a payload of the contrib module tcn, such as "actions",U,"id"='1': identifiers in double quotes, values
// in single quotes, each quote within doubled, and no other escape. The columns are those of the primary key. For an
// update they hold the key as it was, which counts for the key as it is too.
//
// https://www.postgresql.org/docs/current/tcn.html
func (d *Decoder) decodeTCN(payload string) (Change, error) {
	table, rest, ok := quoted(payload, '"')
	if !ok || table == "" || (rest != "" && rest[0] != ',') {
		return Change{}, unreadable("syntax", "tcn: it does not begin with a table's name in double quotes and a comma")
	}
	c := Change{Table: table, Op: Unknown} // until all of it has been read
	d.find("", table)

	var op string
	letter, rest := cut(rest, 2)
	switch letter {
	case ",I":
		op = Insert
	case ",U":
		op = Update
	case ",D":
		op = Delete
	default:
		return c, unreadable("syntax", "tcn: I, U or D expected after the table's name")
	}
	if rest == "" {
		return c, unreadable("syntax", "tcn: it names no key column")
	}
	image := d.image()
	for rest != "" {
		at := len(payload) - len(rest)
		var name, value string
		comma, after := cut(rest, 1)
		name, after, ok = quoted(after, '"')
		equals, after := cut(after, 1)
		if !ok || comma != "," || equals != "=" {
			return c, unreadable("syntax", "tcn: a comma, a column in double quotes and = expected at byte %d", at)
		}
		if value, rest, ok = quoted(after, '\''); !ok {
			return c, unreadable("syntax", "tcn: a value in single quotes expected at byte %d", len(payload)-len(after))
		}
		for _, want := range d.info.columns {
			if want.Name == name {
				image = want.add(image, TCN, value, false)
			}
		}
	}
	c.Op = op
	row := Row{Old: image}
	if op == Insert {
		row = Row{New: image}
	}
	d.rows = append(d.rows, row)
	c.Rows = d.rows
	return c, nil
}

// quoted reads a text between quotes, in which the quote is doubled.
func quoted(s string, quote byte) (text, rest string, ok bool) {
	if s == "" || s[0] != quote {
		return "", s, false
	}
	doubled := false
	for i := 1; i < len(s); i++ {
		next := strings.IndexByte(s[i:], quote)
		if next < 0 {
			break
		}
		i += next
		if i+1 < len(s) && s[i+1] == quote {
			doubled = true
			i++
			continue
		}
		text = s[1:i]
		if doubled {
			q := string(quote)
			text = strings.ReplaceAll(text, q+q, q)
		}
		return text, s[i+1:], true
	}
	return "", s, false
}

// cut takes the first n bytes off, or all where there are fewer.
func cut(s string, n int) (head, rest string) {
	n = min(n, len(s))
	return s[:n], s[n:]
}
