package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// template is the template of a key, of a tag, or of a field of a hash: literals, columns and wildcards.
type template struct {
	rule    string
	kind    Kind // what the parts name: a key, which may be that of a hash, or a tag
	parts   []part
	field   []part   // of a hash; none: all of what the parts name
	columns []string // of the parts and the field, each once
	pattern bool     // it has a wildcard of its own
	refresh *Refresh // how its keys are read anew; nil: they are deleted
	wide    Target   // every column a wildcard, and every field

	mayBeTag bool // one of its keys may have the name of a set that is a tag of the rules
}

type part struct {
	kind partKind
	text string // the literal, or the column's name
}

type partKind uint8

const (
	literal partKind = iota
	column
	wildcard
)

func newTemplate(kind Kind, parts, field []part) *template {
	t := &template{kind: kind, parts: parts, field: field, pattern: slices.Contains(parts, part{kind: wildcard})}
	for _, p := range slices.Concat(parts, field) {
		if p.kind == column && !slices.Contains(t.columns, p.text) {
			t.columns = append(t.columns, p.text)
		}
	}
	t.wide, _, _ = t.renderAll(nothing{})
	return t
}

// readKey reads a template of which the text is the name of something in Redis.
func readKey(text string) ([]part, error) {
	parts, err := readParts(text)
	if err != nil {
		return nil, err
	}
	if len(parts) == 0 {
		return nil, errors.New("the template is empty")
	}
	if parts[0].kind != literal {
		return nil, errors.New("the template must begin with literal text, or it could widen to the whole of Redis")
	}
	if strings.HasPrefix(parts[0].text, Own) {
		return nil, errors.New("keys that begin with " + Own + " are pgevict's own")
	}
	return parts, nil
}

// readParts takes a template apart. {column} is a column, {{ and }} are braces, * is a wildcard and \* an asterisk; every
// other character is literal.
func readParts(text string) ([]part, error) {
	var parts []part
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			parts = append(parts, part{literal, lit.String()})
			lit.Reset()
		}
	}
	for rest := text; rest != ""; {
		switch {
		case strings.HasPrefix(rest, `\*`), strings.HasPrefix(rest, "{{"), strings.HasPrefix(rest, "}}"):
			lit.WriteByte(rest[1])
			rest = rest[2:]
		case rest[0] == '*':
			flush()
			parts = append(parts, part{kind: wildcard})
			rest = rest[1:]
		case rest[0] == '{':
			name, after, err := columnName(rest[1:])
			if err != nil {
				return nil, err
			}
			flush()
			parts = append(parts, part{column, name})
			rest = after
		case rest[0] == '}':
			return nil, errors.New("unbalanced braces: a literal } is written }}")
		default:
			lit.WriteByte(rest[0])
			rest = rest[1:]
		}
	}
	flush()
	return parts, nil
}

// columnName reads a column's name and the brace that ends it. In double quotes it is an SQL identifier, in which a
// brace may stand.
func columnName(s string) (name, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		name, rest, err = quotedIdentifier(s)
		if err != nil {
			return "", "", fmt.Errorf("unbalanced braces: {%s: %w", s, err)
		}
		if !strings.HasPrefix(rest, "}") {
			return "", "", fmt.Errorf("unbalanced braces: } expected after the column %q", name)
		}
		if name == "" {
			return "", "", errors.New(`a column's name is missing in {""}`)
		}
		return name, rest[1:], nil
	}
	name, rest, ok := strings.Cut(s, "}")
	switch {
	case !ok || strings.Contains(name, "{"):
		return "", "", fmt.Errorf("unbalanced braces: {%s: a literal { is written {{", s)
	case name == "":
		return "", "", errors.New("a column's name is missing in {}")
	case strings.TrimSpace(name) != name:
		return "", "", fmt.Errorf("spaces around the column's name in {%s}", name)
	}
	return name, rest, nil
}

// match yields the targets of one row: of what it was, and of what it is.
func (t *template) match(row Row, yield func(Target, Reason) bool) bool {
	if row.Old != nil && row.New != nil && t.same(row) {
		row.Old = nil // the work of rendering it again
	}
	var old, now Target
	var oldWhy, nowWhy Reason
	var hadKey, hasKey bool
	if row.Old != nil {
		old, oldWhy, hadKey = t.render(row.Old)
	}
	if row.New != nil {
		now, nowWhy, hasKey = t.render(row.New)
		if oldWhy != Exact {
			oldWhy = UnknownOld
		}
	}
	if hadKey && hasKey && old == now {
		hadKey = false // one target; where it is a pattern, the column is in neither image
	}
	if hadKey && !yield(old, oldWhy) {
		return false
	}
	return !hasKey || yield(now, nowWhy)
}

// same reports whether both images are known to make the same target.
func (t *template) same(row Row) bool {
	for _, c := range t.columns {
		old, oldNull, oldKnown := row.Old.Column(c)
		now, nowNull, nowKnown := row.New.Column(c)
		if !oldKnown || !nowKnown || oldNull != nowNull || old != now {
			return false
		}
	}
	return true
}

// render fills the template from an image. A column that is NULL means that there is no such key, which ok tells; one
// that is not known becomes a wildcard or, in the name of a field, the whole hash.
func (t *template) render(image Image) (target Target, why Reason, ok bool) {
	target, why, ok = t.renderAll(image)
	switch {
	case ok && len(t.field) > 0:
		return t.narrow(target, why, image)
	case ok && t.refresh != nil && why == Exact:
		target.more = encode(t.refresh.Columns, image)
	}
	return target, why, ok
}

// narrow returns the field of a hash that is known.
func (t *template) narrow(hash Target, why Reason, image Image) (target Target, _ Reason, ok bool) {
	field, fieldWhy, ok := fill(t.field, image)
	switch {
	case !ok:
		return Target{}, Exact, false
	case why != Exact:
		return hash, why, true
	case fieldWhy != Exact:
		return hash, fieldWhy, true
	}
	return Target{Kind: Field, Key: hash.Key, more: field, from: t}, Exact, true
}

// renderAll fills the template from an image, but for the field: of a hash it returns all.
func (t *template) renderAll(image Image) (target Target, why Reason, ok bool) {
	key, why, ok := fill(t.parts, image)
	switch {
	case !ok:
		return Target{}, Exact, false
	case !t.pattern && why == Exact:
		return Target{Kind: t.kind, Key: key, from: t}, Exact, true
	case t.kind == Tag:
		return Target{Kind: TagPattern, Key: glob(t.parts, image), from: t}, why, true
	default:
		return Target{Kind: Pattern, Key: glob(t.parts, image), from: t}, why, true
	}
}

// fill returns the text of parts from an image that knows all of their columns. It returns none where one is not known, which
// why tells, where one is NULL, which ok tells, or where the parts have a wildcard.
func fill(parts []part, image Image) (text string, why Reason, ok bool) {
	var room [8]string
	texts := room[:0] // of each column in turn
	size, pattern := 0, false
	for _, p := range parts {
		text := p.text
		switch p.kind {
		case column:
			var null, known bool
			if text, null, known = image.Column(p.text); null {
				return "", Exact, false
			}
			if !known {
				why = UnknownColumn
			}
			texts = append(texts, text)
		case wildcard:
			pattern = true
		case literal:
		}
		size += len(text)
	}
	if pattern || why != Exact {
		return "", why, true
	}
	var b strings.Builder
	b.Grow(size)
	for _, p := range parts {
		text := p.text
		if p.kind == column {
			text, texts = texts[0], texts[1:]
		}
		b.WriteString(text)
	}
	return b.String(), Exact, true
}

// glob returns parts as a pattern in which what the image does not know is a wildcard.
func glob(parts []part, image Image) string {
	var b strings.Builder
	star := false // wildcards in a row are one
	for _, p := range parts {
		text, known := p.text, p.kind == literal
		if p.kind == column {
			text, _, known = image.Column(p.text)
		}
		switch {
		case known && text != "":
			_, _ = globEscaper.WriteString(&b, text) // a strings.Builder cannot fail
			star = false
		case !known && !star:
			b.WriteByte('*')
			star = true
		}
	}
	return b.String()
}

// nothing is the image of which no column is known.
type nothing struct{}

func (nothing) Column(string) (text string, null, known bool) { return "", false, false }
