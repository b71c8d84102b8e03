package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// row is an image made of what a map holds; a nil text is SQL's NULL.
type row map[string]*string

func (r row) Column(name string) (text string, null, known bool) {
	p, known := r[name]
	if p == nil {
		return "", known, known
	}
	return *p, false, true
}

// cols returns an image of names and texts in turn; the text NULL is SQL's.
func cols(pairs ...string) row {
	r := row{}
	for i := 0; i < len(pairs); i += 2 {
		r[pairs[i]] = &pairs[i+1]
		if pairs[i+1] == "NULL" {
			r[pairs[i]] = nil
		}
	}
	return r
}

func parse(t testing.TB, text string) *Set {
	t.Helper()
	set, err := Parse("rules.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// one is a file of one rule for the table t.
func one(t testing.TB, templates ...string) *Set {
	t.Helper()
	var b strings.Builder
	b.WriteString("rules:\n  - table: t\n    keys:\n")
	for _, text := range templates {
		fmt.Fprintf(&b, "      - '%s'\n", strings.ReplaceAll(text, "'", "''"))
	}
	return parse(t, b.String())
}

// show writes a target in the form of a test's expectation: rule kind key reason. A field's name follows its key, and so
// do the parameters of a key that is read anew.
func show(target Target, why Reason) string {
	key := target.Key
	if target.Kind == Field {
		key += " " + target.Field()
	}
	if r, args := target.Refresh(); r != nil {
		key += fmt.Sprintf(" read by %q", args)
	}
	kind := target.Kind.String()
	if target.Kind == TagPattern {
		kind = "tag-pattern" // which the commands do not tell apart, but Redis must
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s %s", target.Rule(), kind, key, why))
}

func matched(set *Set, c Change) []string {
	got := []string{}
	for target, why := range set.Match(c) {
		got = append(got, show(target, why))
	}
	return got
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestMatchRows(t *testing.T) {
	t.Parallel()
	const eleven = "k:{c1}{c2}{c3}{c4}{c5}{c6}{c7}{c8}{c9}-{c10}-{c11}"
	many := cols("c1", "1", "c2", "2", "c3", "3", "c4", "4", "c5", "5", "c6", "6", "c7", "7", "c8", "8", "c9", "9", "c10", "10", "c11", "11")
	fewer := cols("c1", "1", "c2", "2", "c3", "3", "c4", "4", "c5", "5", "c6", "6", "c7", "7", "c8", "8", "c9", "*", "c11", "11")
	for _, test := range []struct {
		name      string
		templates []string
		op        string
		rows      []Row
		want      []string
	}{
		{"insert", []string{"a:{id}"}, Insert, []Row{{New: cols("id", "1")}}, []string{"t key a:1"}},
		{"delete", []string{"a:{id}"}, Delete, []Row{{Old: cols("id", "1")}}, []string{"t key a:1"}},
		{"delete of which the message tells little", []string{"a:{id}", "b:{x}"}, Delete, []Row{{Old: cols("id", "1")}}, []string{"t key a:1", "t pattern b:* column"}},
		{"big integer keeps its text", []string{"a:{id}"}, Insert, []Row{{New: cols("id", "814150981284533461")}}, []string{"t key a:814150981284533461"}},
		{"several rows", []string{"a:{id}"}, Insert, []Row{{New: cols("id", "1")}, {New: cols("id", "2")}}, []string{"t key a:1", "t key a:2"}},
		{"several templates", []string{"a:{id}", "b:{x}:{id}:{x}"}, Insert, []Row{{New: cols("id", "1", "x", "y")}}, []string{"t key a:1", "t key b:y:1:y"}},
		{"empty text", []string{"a:{id}:b"}, Insert, []Row{{New: cols("id", "")}}, []string{"t key a::b"}},
		{"NULL passes that template over", []string{"a:{id}", "b:{x}"}, Insert, []Row{{New: cols("id", "1", "x", "NULL")}}, []string{"t key a:1"}},
		{"NULL beats a missing column before it", []string{"b:{y}:{x}"}, Insert, []Row{{New: cols("x", "NULL")}}, nil},
		{"NULL beats a missing column after it", []string{"b:{x}:{y}"}, Insert, []Row{{New: cols("x", "NULL")}}, nil},
		{"NULL beats a wildcard", []string{"b:{x}:*"}, Insert, []Row{{New: cols("x", "NULL")}}, nil},
		{"NULL of another row", []string{"a:{x}"}, Insert, []Row{{New: cols("x", "NULL")}, {New: cols("x", "1")}}, []string{"t key a:1"}},
		{"missing column widens", []string{"a:{x}"}, Insert, []Row{{New: cols("id", "1")}}, []string{"t pattern a:* column"}},
		{"missing column keeps the others", []string{"a:{id}:{x}:z"}, Insert, []Row{{New: cols("id", "1")}}, []string{"t pattern a:1:*:z column"}},
		{"wildcard of the template's own", []string{"a:{id}:*"}, Insert, []Row{{New: cols("id", "*?[x]\\")}}, []string{`t pattern a:\*\?\[x\]\\:*`}},
		{"empty text between wildcards", []string{"a:{x}{id}*"}, Insert, []Row{{New: cols("id", "")}}, []string{"t pattern a:* column"}},
		{"no column at all", []string{"all", "list:*"}, Insert, []Row{{New: cols()}}, []string{"t key all", "t pattern list:*"}},
		{"glob characters in an exact key", []string{"a:{id}"}, Insert, []Row{{New: cols("id", `*?[^a]\`)}}, []string{`t key a:*?[^a]\`}},
		{"braces in a value are not a column", []string{"a:{id}"}, Insert, []Row{{New: cols("id", "{x}")}}, []string{"t key a:{x}"}},

		{"update with both images", []string{"a:{x}"}, Update, []Row{{cols("x", "1"), cols("x", "2")}}, []string{"t key a:1", "t key a:2"}},
		{"update that left the key as it was", []string{"a:{x}"}, Update, []Row{{cols("x", "1"), cols("x", "1")}}, []string{"t key a:1"}},
		{"update from NULL", []string{"a:{x}"}, Update, []Row{{cols("x", "NULL"), cols("x", "2")}}, []string{"t key a:2"}},
		{"update to NULL", []string{"a:{x}"}, Update, []Row{{cols("x", "1"), cols("x", "NULL")}}, []string{"t key a:1"}},
		{"update of NULL", []string{"a:{x}"}, Update, []Row{{cols("x", "NULL"), cols("x", "NULL")}}, nil},
		{"update with wildcard", []string{"a:{x}:*"}, Update, []Row{{cols("x", "1"), cols("x", "2")}}, []string{"t pattern a:1:*", "t pattern a:2:*"}},
		{"plain update", []string{"a:{id}", "b:{x}", "c:*"}, Update, []Row{{cols("id", "1"), cols("id", "1", "x", "2")}},
			[]string{"t key a:1", "t pattern b:* old", "t key b:2", "t pattern c:*"}},
		{"plain update to NULL", []string{"b:{x}"}, Update, []Row{{cols("id", "1"), cols("id", "1", "x", "NULL")}}, []string{"t pattern b:* old"}},
		{"plain update without a primary key", []string{"a:{id}"}, Update, []Row{{cols(), cols("id", "1")}}, []string{"t pattern a:* old", "t key a:1"}},
		{"update with a column in neither image", []string{"a:{x}"}, Update, []Row{{cols("id", "1"), cols("id", "1")}}, []string{"t pattern a:* column"}},
		{"update with a column in the old image alone", []string{"a:{x}"}, Update, []Row{{cols("x", "1"), cols()}}, []string{"t key a:1", "t pattern a:* column"}},
		{"update with one column in neither, one in the new alone", []string{"a:{x}:{y}"}, Update, []Row{{cols(), cols("y", "1")}},
			[]string{"t pattern a:*:* old", "t pattern a:*:1 column"}},
		{"tcn update", []string{"a:{id}", "b:{x}"}, Update, []Row{{Old: cols("id", "1")}}, []string{"t key a:1", "t pattern b:* column"}},
		{"unknown operation", []string{"a:{id}", "b:{x}"}, "unknown", []Row{{cols("id", "1"), cols("id", "1", "x", "2")}},
			[]string{"t key a:1", "t pattern b:* old", "t key b:2"}},
		{"truncate is of every row", []string{"a:{id}"}, Truncate, []Row{{Old: cols("id", "1")}}, []string{"t pattern a:* truncate"}},

		{"eleven columns", []string{eleven}, Insert, []Row{{New: many}}, []string{"t key k:123456789-10-11"}},
		{"ten of eleven columns", []string{eleven}, Insert, []Row{{New: fewer}}, []string{`t pattern k:12345678\*-*-11 column`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			same(t, matched(one(t, test.templates...), Change{Table: "t", Op: test.op, Rows: test.rows}), test.want...)
		})
	}
}

func TestMatchAnyRow(t *testing.T) {
	t.Parallel()
	set := one(t, "a:{id}", "b:{x}:*:{y}", "list:*", "all")
	for op, why := range map[string]string{Insert: "rows", Update: "rows", Delete: "rows", "unknown": "rows", "": "rows", Truncate: "truncate"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			same(t, matched(set, Change{Table: "t", Op: op}),
				"t pattern a:* "+why, "t pattern b:*:*:* "+why, "t pattern list:*", "t key all")
		})
	}
}

func TestMatchOn(t *testing.T) {
	t.Parallel()
	set := parse(t, `
rules:
  - {name: every, table: t, keys: [every]}
  - {name: i, table: t, on: [insert], keys: [i]}
  - {name: ud, table: t, on: [update, delete], keys: [ud]}
  - {name: tr, table: t, on: [truncate], keys: [tr]}
  - {name: other, table: u, keys: [other]}
`)
	for op, want := range map[string][]string{
		Insert:    {"every key every", "i key i"},
		Update:    {"every key every", "ud key ud"},
		Delete:    {"every key every", "ud key ud"},
		Truncate:  {"every key every", "tr key tr"},
		"unknown": {"every key every", "i key i", "ud key ud", "tr key tr"},
		"":        {"every key every", "i key i", "ud key ud", "tr key tr"},
		"INSERT":  {"every key every", "i key i", "ud key ud", "tr key tr"},
	} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			same(t, matched(set, Change{Table: "t", Op: op, Rows: []Row{{New: cols()}}}), want...)
			same(t, matched(set, Change{Table: "t", Op: op}), want...)
		})
	}
}

func TestMatchTable(t *testing.T) {
	t.Parallel()
	set := parse(t, `
rules:
  - {name: bare, table: t, keys: [bare]}
  - {name: a, table: a.t, keys: [a]}
  - {name: b, table: b.t, keys: [b]}
  - {name: only, table: a.only, keys: [only]}
`)
	for _, test := range []struct {
		schema, table string
		want          []string
	}{
		{"", "t", []string{"bare key bare", "a key a", "b key b"}},
		{"a", "t", []string{"bare key bare", "a key a"}},
		{"b", "t", []string{"bare key bare", "b key b"}},
		{"c", "t", []string{"bare key bare"}},
		{"A", "t", []string{"bare key bare"}},
		{"", "T", nil},
		{"", "only", []string{"only key only"}},
		{"b", "only", nil},
		{"", "a.t", nil},
		{"", "", nil},
	} {
		same(t, matched(set, Change{Schema: test.schema, Table: test.table, Op: Insert, Rows: []Row{{New: cols()}}}), test.want...)
	}
}

func TestMatchChanged(t *testing.T) {
	t.Parallel()
	set := parse(t, `{rules: [{table: t, changed: [x, y], keys: ["k:{id}"]}]}`)
	exact, none := []string{"t key k:1"}, []string{}
	both := func(oldX, oldY, newX, newY string) []Row {
		return []Row{{cols("id", "1", "x", oldX, "y", oldY), cols("id", "1", "x", newX, "y", newY)}}
	}
	plain := []Row{{cols("id", "1"), cols("id", "1", "x", "1", "y", "1")}}
	for _, test := range []struct {
		name    string
		op      string
		changed []string
		rows    []Row
		want    []string
	}{
		{"one differs", Update, nil, both("1", "1", "1", "2"), exact},
		{"none differs", Update, nil, both("1", "1", "1", "1"), none},
		{"another differs", Update, nil, []Row{{cols("id", "1", "x", "1", "y", "1", "z", "1"), cols("id", "1", "x", "1", "y", "1", "z", "2")}}, none},
		{"from NULL", Update, nil, both("NULL", "1", "1", "1"), exact},
		{"to NULL", Update, nil, both("1", "1", "1", "NULL"), exact},
		{"NULL to the empty text", Update, nil, both("NULL", "1", "", "1"), exact},
		{"NULL stays", Update, nil, both("NULL", "NULL", "NULL", "NULL"), none},
		{"an old one not known", Update, nil, []Row{{cols("id", "1", "x", "1"), cols("id", "1", "x", "1", "y", "1")}}, exact},
		{"a new one not known", Update, nil, []Row{{cols("id", "1", "x", "1", "y", "1"), cols("id", "1", "x", "1")}}, exact},
		{"not known to the empty text", Update, nil, []Row{{cols("id", "1", "x", "1"), cols("id", "1", "x", "1", "y", "")}}, exact},
		{"the empty text to not known", Update, nil, []Row{{cols("id", "1", "x", "1", "y", ""), cols("id", "1", "x", "1")}}, exact},
		{"in neither image", Update, nil, []Row{{cols("id", "1", "x", "1"), cols("id", "1", "x", "1")}}, exact},
		{"plain update", Update, nil, plain, exact},
		{"tcn update", Update, nil, []Row{{Old: cols("id", "1")}}, exact},
		{"one row of two", Update, nil, append(both("1", "1", "1", "1"), both("1", "1", "2", "1")...), exact},
		{"insert", Insert, nil, []Row{{New: cols("id", "1", "x", "1", "y", "1")}}, exact},
		{"delete", Delete, nil, []Row{{Old: cols("id", "1", "x", "1", "y", "1")}}, exact},
		{"unknown operation", "unknown", nil, both("1", "1", "1", "1"), exact},
		{"unknown operation, names nothing", "unknown", []string{}, both("1", "1", "1", "1"), exact},

		{"message names nothing", Update, []string{}, plain, none},
		{"message names another", Update, []string{"z"}, plain, none},
		{"message names one", Update, []string{"z", "y"}, plain, exact},
		{"message names one, tcn", Update, []string{"y"}, []Row{{Old: cols("id", "1")}}, exact},
		{"message names one that this row kept", Update, []string{"x"}, both("1", "1", "1", "1"), none},
		{"message names one of two unknown", Update, []string{"x"}, []Row{{cols("id", "1", "x", "1"), cols("id", "1", "x", "1")}}, none},
		{"insert, names nothing", Insert, []string{}, []Row{{New: cols("id", "1")}}, exact},
		{"message names nothing, row gone", Update, []string{}, []Row{{Old: cols("id", "1", "x", "1", "y", "1")}}, exact},
		{"message names another, row there", Update, []string{"id"}, []Row{{New: cols("id", "1", "x", "1", "y", "1")}}, exact},
		{"any row", Update, nil, nil, []string{"t pattern k:* rows"}},
		{"any row, names nothing", Update, []string{}, nil, none},
		{"any row, names another", Update, []string{"z"}, nil, none},
		{"any row, names one", Update, []string{"x"}, nil, []string{"t pattern k:* rows"}},
		{"truncate, names nothing", Truncate, []string{}, nil, []string{"t pattern k:* truncate"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			same(t, matched(set, Change{Table: "t", Op: test.op, Changed: test.changed, Rows: test.rows}), test.want...)
		})
	}
}

// Whoever ranges over Match may stop at any target.
func TestMatchStops(t *testing.T) {
	t.Parallel()
	set := parse(t, `{rules: [{name: a, table: t, keys: ["a:{x}", "b:{x}"]}, {name: b, table: t, keys: ["c:{x}"]}]}`)
	update := Row{cols("x", "1"), cols("x", "2")}
	for _, c := range []Change{
		{Table: "t", Op: Update, Rows: []Row{update, update}},
		{Table: "t", Op: Update},
		{Table: "t", Op: Truncate},
	} {
		all := matched(set, c)
		for n := 1; n <= len(all); n++ {
			var got []string
			for target, why := range set.Match(c) {
				if got = append(got, show(target, why)); len(got) == n {
					break
				}
			}
			same(t, got, all[:n]...)
		}
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	set := parse(t, `
rules:
  - {table: a, keys: ["a:{id}", "a:{x}{y}*{z}:end", "every:a", "{{{id}}}"]}
  - {table: b, on: [insert], changed: [x], keys: ['b:*', 'c?[\*]:{id}']}
`)
	var got []string
	for _, target := range set.Sweep() {
		got = append(got, show(target, Exact))
	}
	same(t, got, "a pattern a:*", "a pattern a:*:end", "a key every:a", "a pattern {*}", "b pattern b:*", `b pattern c\?\[\*\]:*`)
}

// A row that moves from one partition to another is told of as a delete and an insert.
func TestHalfOfAnUpdate(t *testing.T) {
	t.Parallel()
	set := parse(t, `{rules: [{table: t, on: [update], keys: ["u:{id}"]}, {table: t, on: [truncate], keys: ["t:{id}"]},
		{table: t, on: [update], changed: [x], keys: ["c:{id}"]}, {table: t, on: [delete], keys: ["d:{id}"]}]}`)
	for _, c := range []struct {
		op   string
		half bool
		want []string
	}{
		{Insert, false, nil},
		{Insert, true, []string{"t key u:1", "t-3 key c:1"}},
		{Delete, false, []string{"t-4 key d:1"}},
		{Delete, true, []string{"t key u:1", "t-3 key c:1", "t-4 key d:1"}},
	} {
		row := Row{New: cols("id", "1")}
		if c.op == Delete {
			row = Row{Old: cols("id", "1")}
		}
		same(t, matched(set, Change{Table: "t", Op: c.op, Half: c.half, Rows: []Row{row}}), c.want...)
	}
}

func TestSweepOfSomeTables(t *testing.T) {
	t.Parallel()
	set := parse(t, `{rules: [{table: x.a, keys: ["xa:{id}"]}, {table: y.a, keys: ["ya:{id}"]}, {table: b, keys: ["b:{id}"]}]}`)
	for _, c := range []struct {
		of   []Table
		want []string
	}{
		{[]Table{{"x", "a"}}, []string{"a pattern xa:*"}},
		{[]Table{{"", "a"}}, []string{"a pattern xa:*", "a-2 pattern ya:*"}}, // of which the schema is not known
		{[]Table{{"z", "b"}, {"y", "a"}}, []string{"a-2 pattern ya:*", "b pattern b:*"}},
		{[]Table{{"z", "a"}, {"", "c"}}, nil},
	} {
		var got []string
		for _, target := range set.Sweep(c.of...) {
			got = append(got, show(target, Exact))
		}
		same(t, got, c.want...)
	}
}

func TestWiden(t *testing.T) {
	t.Parallel()
	set := one(t, "a:{id}:{x}", "list:*", "all", "b:{id}*")
	swept := set.Sweep()
	for _, image := range []row{cols("id", "*[a]", "x", ""), cols("id", "1"), cols("x", "1"), cols()} {
		for target := range set.Match(Change{Table: "t", Op: Insert, Rows: []Row{{New: image}}}) {
			wide := target.Widen()
			if wide.Widen() != wide {
				t.Errorf("%s: widened twice is %s, once %s", target.Key, wide.Widen().Key, wide.Key)
			}
			if !slices.Contains(swept, wide) {
				t.Errorf("%s: widens to %s, which no sweep deletes", target.Key, wide.Key)
			}
			if target.Kind == Key && wide.Kind == Pattern && !globMatch(wide.Key, target.Key) {
				t.Errorf("%s widens to %s, which does not cover it", target.Key, wide.Key)
			}
			if wide.Rule() != target.Rule() {
				t.Errorf("%s: widened is of the rule %q", target.Key, wide.Rule())
			}
		}
	}
}

// What waits for Redis is a set: the same key of the same template has to be the same target.
func TestTargetIsComparable(t *testing.T) {
	t.Parallel()
	set := one(t, "a:{id}", "b:{x}")
	seen := map[Target]int{}
	for range 3 {
		for target := range set.Match(Change{Table: "t", Op: Insert, Rows: []Row{{New: cols("id", "1")}}}) {
			seen[target]++
		}
	}
	if len(seen) != 2 {
		t.Errorf("%d targets, want 2: %v", len(seen), seen)
	}
}

func BenchmarkMatch(b *testing.B) {
	set := parse(b, `{rules: [{table: actions, keys: ["action:{id}"]}]}`)
	c := Change{Table: "actions", Op: Insert, Rows: []Row{{New: cols("id", "814150981284533461")}}}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for target := range set.Match(c) {
			n += len(target.Key)
		}
		if n != len("action:814150981284533461") {
			b.Fatalf("%d bytes of keys", n)
		}
	}
}
