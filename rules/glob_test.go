package rules

import (
	"slices"
	"testing"
)

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

func TestIntersects(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"user:*:*", "user:*:views", true},
		{"user:*:views", "user:*:likes", false},
		{"user:*", "u*", true},
		{"p*", "pgevict:tag:*", true},
		{"a:1", "a:1", true},
		{"a:1", "a:2", false},
		{"a:1", "a:*", true},
		{"a:*", "b:*", false},
		{"ab*", "a*b*", true},
		{"a*x", "a*yx", true},
		{"a*b", "ab*c", false},
		{"aba*", "*aba", true},
	} {
		a, b := ParseGlob(test.a), ParseGlob(test.b)
		if a.Intersects(b) != test.want || b.Intersects(a) != test.want {
			t.Errorf("%s and %s: %t, %t, want %t", test.a, test.b, a.Intersects(b), b.Intersects(a), test.want)
		}
	}
}

func FuzzIntersects(f *testing.F) {
	f.Add("a*", "*b", "ab")
	f.Add("a*b*c", "abc", "abc")
	f.Fuzz(func(t *testing.T, a, b, key string) {
		x, y := ParseGlob(a), ParseGlob(b)
		if x.Match(key) && y.Match(key) && !x.Intersects(y) {
			t.Errorf("%q matches both %q and %q", key, a, b)
		}
	})
}

func TestOverlaps(t *testing.T) {
	t.Parallel()
	set := parse(t, `
rules:
  - {name: a, table: a, keys: ["user:{id}:*", "other:{id}"], tags: ["user:{id}:views"]}
  - {name: b, table: b, fields: [{key: "user:{id}:views", field: x}], tags: ["tag:{id}"]}
`)
	var got []string
	for _, o := range set.Overlaps() {
		got = append(got, o.Tag.Rule()+" "+o.Tag.Key+" "+o.Other.Rule()+" "+o.Other.Key)
	}
	if want := []string{"a user:*:views a user:*:*", "a user:*:views b user:*:views"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if tags := set.Tags(); len(tags) != 2 || tags[0].Key != "user:*:views" || tags[1].Key != "tag:*" {
		t.Errorf("%v", tags)
	}
	for target := range set.Match(Change{Table: "a", Op: Insert, Rows: []Row{{New: cols("id", "1")}}}) {
		if want := target.Kind == Key && target.Key == "user:1:x"; target.MayBeTag() != want {
			t.Errorf("%s %s", target.Kind, target.Key)
		}
	}
}
