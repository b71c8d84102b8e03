package rules

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says how a target names what Redis must forget.
type Kind uint8

// The kinds of target.
const (
	Key     Kind = iota // one key, byte for byte
	Pattern             // every key that a glob matches, in which only * and \ are special
)

// String gives the kind as the commands and metrics write it.
func (k Kind) String() string {
	if k == Pattern {
		return "pattern"
	}
	return "key"
}

// Target is what Redis must forget. It is comparable, so a set of them is a map.
type Target struct {
	Key  string // the key's bytes, or the pattern in Redis' glob syntax
	from *template
	Kind Kind
}

// Rule is the name of the rule that made the target.
func (t Target) Rule() string { return t.from.rule }

// Widen gives the target of the same template of which nothing is known: it covers t. Widening that again gives itself.
func (t Target) Widen() Target { return t.from.wide }

// template is a key template: literals, columns and wildcards.
type template struct {
	rule    string
	parts   []part
	pattern bool   // it has a wildcard of its own
	wide    Target // every column a wildcard
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

// globEscaper makes text literal within a Redis glob. Redis gives * ? [ and \ a meaning, and ] and ^ within brackets.
var globEscaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`)

// compile reads a template. {column} is a column, {{ and }} are braces, * is a wildcard and \* an asterisk; every other
// character is literal.
func compile(text string) (*template, error) {
	t := &template{}
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			t.parts = append(t.parts, part{literal, lit.String()})
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
			t.parts = append(t.parts, part{kind: wildcard})
			t.pattern = true
			rest = rest[1:]
		case rest[0] == '{':
			name, after, err := columnName(rest[1:])
			if err != nil {
				return nil, err
			}
			flush()
			t.parts = append(t.parts, part{column, name})
			rest = after
		case rest[0] == '}':
			return nil, errors.New("unbalanced braces: a literal } is written }}")
		default:
			lit.WriteByte(rest[0])
			rest = rest[1:]
		}
	}
	flush()
	if len(t.parts) == 0 {
		return nil, errors.New("the template is empty")
	}
	if t.parts[0].kind != literal {
		return nil, errors.New("the template must begin with literal text, or it could widen to the whole of Redis")
	}
	t.wide, _, _ = t.render(nothing{})
	return t, nil
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

func (t *template) hasColumns() bool {
	for _, p := range t.parts {
		if p.kind == column {
			return true
		}
	}
	return false
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

// same reports whether both images are known to give the same target.
func (t *template) same(row Row) bool {
	for _, p := range t.parts {
		if p.kind != column {
			continue
		}
		old, oldNull, oldKnown := row.Old.Column(p.text)
		now, nowNull, nowKnown := row.New.Column(p.text)
		if !oldKnown || !nowKnown || oldNull != nowNull || old != now {
			return false
		}
	}
	return true
}

// render fills the template from an image. A column that is NULL means that there is no such key, which ok tells; one
// that is not known becomes a wildcard.
func (t *template) render(image Image) (target Target, why Reason, ok bool) {
	var room [8]string
	texts := room[:0] // of each column in turn
	size := 0
	for _, p := range t.parts {
		text := p.text
		if p.kind == column {
			var null, known bool
			if text, null, known = image.Column(p.text); null {
				return Target{}, Exact, false
			}
			if !known {
				why = UnknownColumn
			}
			texts = append(texts, text)
		}
		size += len(text)
	}
	if t.pattern || why != Exact {
		return t.renderPattern(image), why, true
	}
	var key strings.Builder
	key.Grow(size)
	for _, p := range t.parts {
		text := p.text
		if p.kind == column {
			text, texts = texts[0], texts[1:]
		}
		key.WriteString(text)
	}
	return Target{Kind: Key, Key: key.String(), from: t}, Exact, true
}

func (t *template) renderPattern(image Image) Target {
	var b strings.Builder
	star := false // wildcards in a row are one
	for _, p := range t.parts {
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
	return Target{Kind: Pattern, Key: b.String(), from: t}
}

// nothing is the image of which no column is known.
type nothing struct{}

func (nothing) Column(string) (text string, null, known bool) { return "", false, false }
