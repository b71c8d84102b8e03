package rules

import "strings"

// Glob is the pattern of a target, taken apart at its wildcards: texts in order, with anything between them.
type Glob struct{ texts []string }

// ParseGlob takes a pattern in Redis' glob syntax apart, in which only * and \ are special, as it is in targets.
func ParseGlob(pattern string) Glob {
	texts := []string{""}
	for i := 0; i < len(pattern); i++ {
		last := &texts[len(texts)-1]
		switch {
		case pattern[i] == '*':
			texts = append(texts, "")
		case pattern[i] == '\\' && i+1 < len(pattern):
			i++
			*last += pattern[i : i+1]
		default:
			*last += pattern[i : i+1]
		}
	}
	return Glob{texts}
}

// Beginning returns the text that every key begins with which the glob matches.
func (g Glob) Beginning() string { return g.texts[0] }

// Fill returns a key that the glob matches: the one with a text in the place of each wildcard.
func (g Glob) Fill(text string) string { return strings.Join(g.texts, text) }

// Match reports whether the glob matches a key.
func (g Glob) Match(key string) bool {
	last := len(g.texts) - 1
	if last == 0 {
		return key == g.texts[0]
	}
	rest, ok := strings.CutPrefix(key, g.texts[0])
	if !ok {
		return false
	}
	for _, text := range g.texts[1:last] {
		if _, rest, ok = strings.Cut(rest, text); !ok {
			return false
		}
	}
	return strings.HasSuffix(rest, g.texts[last])
}

// Intersects reports whether there is a key that both match.
func (g Glob) Intersects(other Glob) bool {
	// What stands before the first wildcard of both, and behind the last, must agree; between them anything can be.
	a, b := g.texts, other.texts
	switch {
	case len(a) == 1:
		return other.Match(a[0])
	case len(b) == 1:
		return g.Match(b[0])
	}
	begin, end := min(len(a[0]), len(b[0])), min(len(a[len(a)-1]), len(b[len(b)-1]))
	return a[0][:begin] == b[0][:begin] &&
		a[len(a)-1][len(a[len(a)-1])-end:] == b[len(b)-1][len(b[len(b)-1])-end:]
}

// globEscaper makes text literal within a Redis glob. Redis gives * ? [ and \ a meaning, and ] and ^ within brackets.
var globEscaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`)

// EscapeGlob makes text literal within a Redis glob.
func EscapeGlob(text string) string { return globEscaper.Replace(text) }
