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

type glob struct {
	rules.Glob
	pattern rules.Target
}

func newMatcher(targets map[rules.Target]time.Duration) *matcher {
	m := &matcher{globs: map[string][]glob{}}
	first := true
	for t := range targets {
		g := t.Glob()
		begin := g.Beginning()
		if !slices.Contains(m.lengths, len(begin)) {
			m.lengths = append(m.lengths, len(begin))
		}
		m.globs[begin] = append(m.globs[begin], glob{g, t})
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

// match returns a pattern that matches the key.
func (m *matcher) match(key string) (pattern rules.Target, ok bool) {
	for _, n := range m.lengths {
		if n > len(key) {
			continue
		}
		for _, g := range m.globs[key[:n]] {
			if g.Match(key) {
				return g.pattern, true
			}
		}
	}
	return rules.Target{}, false
}

// tagMatcher finds the sets that are tags; nil if there are none.
func tagMatcher(tags []rules.Target) *matcher {
	if len(tags) == 0 {
		return nil
	}
	all := map[rules.Target]time.Duration{}
	for _, t := range tags {
		all[t] = 0
	}
	return newMatcher(all)
}

// matches reports whether there is a pattern that matches the key.
func (m *matcher) matches(key string) bool {
	if m == nil {
		return false
	}
	_, ok := m.match(key)
	return ok
}
