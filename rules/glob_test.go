package rules

import "testing"

func TestGlob(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pattern, begins, filled string
		yes, no                 []string
	}{
		{"a:*", "a:", "a:X", []string{"a:", "a:1", "a:*"}, []string{"a", "b:1", ""}},
		{"a:*:b*", "a:", "a:X:bX", []string{"a::b", "a:1:b", "a:1:bc:b"}, []string{"a:b", "a:1:", "a:1:c"}},
		{"a*a", "a", "aXa", []string{"aa", "aba"}, []string{"a", "ab"}},
		{`a\*\\\?*`, `a*\?`, `a*\?X`, []string{`a*\?`, `a*\?b`}, []string{`a\*\\\?`, "abcd"}},
		{`a\*`, "a*", "a*", []string{"a*"}, []string{"a", `a\*`, "ab"}},
		{"*", "", "X", []string{"", "a"}, nil},
	} {
		g := ParseGlob(test.pattern)
		if g.Beginning() != test.begins || g.Fill("X") != test.filled {
			t.Errorf("%s: begins with %q, filled it is %q", test.pattern, g.Beginning(), g.Fill("X"))
		}
		for _, key := range test.yes {
			if !g.Match(key) {
				t.Errorf("%s does not match %q", test.pattern, key)
			}
		}
		for _, key := range test.no {
			if g.Match(key) {
				t.Errorf("%s matches %q", test.pattern, key)
			}
		}
	}
}

func TestEscapedTextMatchesItselfAlone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "a", `*?[]^\-`, `\\`, `\*`} {
		if got := ParseGlob(EscapeGlob(text)).Beginning(); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	set := parse(t, reaching)
	for i, sample := range set.Samples("1") {
		if !sample.Covers(sample.Key) || sample.Covers(sample.Key+"x") {
			t.Errorf("%s %q does not cover itself alone", sample.Kind, sample.Key)
		}
		wide := set.Sweep()[i]
		if wide != sample.Widen() || !wide.Covers(sample.Key) || wide.Covers("other") {
			t.Errorf("%s %q does not cover %q alone", wide.Kind, wide.Key, sample.Key)
		}
	}
}
