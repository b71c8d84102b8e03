package invalidate

import (
	"slices"
	"strings"
	"time"

	"pgevict/rules"
)

// matcher finds the patterns that match a key. Most keys are told apart by the patterns' literal beginnings, which are
// looked up by length, so a hundred patterns cost little more than one.
type matcher struct {
	common  string // what all patterns begin with
	lengths []int  // of the beginnings, each once
	globs   map[string][]glob
}

// glob is a pattern behind its literal beginning: texts in order, with anything between them.
type glob struct {
	pattern rules.Target
	texts   []string // after the first wildcard, at least one; the last is the end of the key
}

func newMatcher(targets map[rules.Target]time.Duration) *matcher {
	m := &matcher{globs: map[string][]glob{}}
	first := true
	for t := range targets {
		texts := split(t.Key)
		begin := texts[0]
		if !slices.Contains(m.lengths, len(begin)) {
			m.lengths = append(m.lengths, len(begin))
		}
		m.globs[begin] = append(m.globs[begin], glob{t, texts[1:]})
		if first {
			m.common, first = begin, false
		}
		m.common = commonBeginning(m.common, begin)
	}
	return m
}

func commonBeginning(a, b string) string {
	for !strings.HasPrefix(b, a) {
		a = a[:len(a)-1]
	}
	return a
}

// match gives a pattern that matches the key.
func (m *matcher) match(key string) (pattern rules.Target, ok bool) {
	for _, n := range m.lengths {
		if n > len(key) {
			continue
		}
		for _, g := range m.globs[key[:n]] {
			if g.match(key[n:]) {
				return g.pattern, true
			}
		}
	}
	return rules.Target{}, false
}

func (g glob) match(s string) bool {
	last := len(g.texts) - 1
	for _, text := range g.texts[:last] {
		i := strings.Index(s, text)
		if i < 0 {
			return false
		}
		s = s[i+len(text):]
	}
	return strings.HasSuffix(s, g.texts[last])
}

// split cuts a pattern at its wildcards, and makes the texts between plain. A pattern has at least one.
func split(pattern string) []string {
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
	return texts
}

// escape makes text literal in a glob of Redis.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(text)
}
