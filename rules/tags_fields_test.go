package rules

import (
	"slices"
	"testing"
)

// reaching is a rule with a tag and fields of hashes, beside a key.
const reaching = `
rules:
  - name: r
    table: t
    keys: ["k:{id}"]
    tags: ["tag:{x}", "tag:every"]
    fields:
      - {key: all, field: "{id}"}
      - {key: "h:{x}", field: "f{id}:{y}"}
      - {key: "h:{x}", field: fixed}
      - {key: stats, field: 'count\*'}
`

func TestMatchTagsAndFields(t *testing.T) {
	t.Parallel()
	set := parse(t, reaching)
	full := cols("id", "1", "x", "2", "y", "3")
	for _, test := range []struct {
		name string
		op   string
		rows []Row
		want []string
	}{
		{"insert", Insert, []Row{{New: full}},
			[]string{"r key k:1", "r tag tag:2", "r tag tag:every", "r field all 1", "r field h:2 f1:3", "r field h:2 fixed", "r field stats count*"}},
		{"glob characters", Insert, []Row{{New: cols("id", `*?[a]\`, "x", "*", "y", "")}},
			[]string{`r key k:*?[a]\`, "r tag tag:*", "r tag tag:every", `r field all *?[a]\`, `r field h:* f*?[a]\:`, "r field h:* fixed", "r field stats count*"}},
		{"empty texts", Insert, []Row{{New: cols("id", "", "x", "", "y", "")}},
			[]string{"r key k:", "r tag tag:", "r tag tag:every", "r field all", "r field h: f:", "r field h: fixed", "r field stats count*"}},
		{"column of a tag and of a hash not known", Insert, []Row{{New: cols("id", "1", "y", "3")}},
			[]string{"r key k:1", "r tag-pattern tag:* column", "r tag tag:every", "r field all 1", "r pattern h:* column", "r pattern h:* column", "r field stats count*"}},
		{"column of a field not known", Insert, []Row{{New: cols("x", "*", "y", "3")}},
			[]string{"r pattern k:* column", "r tag tag:*", "r tag tag:every", "r key all column", "r key h:* column", "r field h:* fixed", "r field stats count*"}},
		{"NULL in a hash and a tag", Insert, []Row{{New: cols("id", "1", "x", "NULL", "y", "3")}},
			[]string{"r key k:1", "r tag tag:every", "r field all 1", "r field stats count*"}},
		{"NULL in a field, where nothing else is known", Insert, []Row{{New: cols("y", "NULL")}},
			[]string{"r pattern k:* column", "r tag-pattern tag:* column", "r tag tag:every", "r key all column", "r pattern h:* column", "r field stats count*"}},
		{"NULL in a hash, where the field is not known", Insert, []Row{{New: cols("id", "1", "x", "NULL")}},
			[]string{"r key k:1", "r tag tag:every", "r field all 1", "r field stats count*"}},
		{"update of a field's column", Update, []Row{{cols("id", "1", "x", "2", "y", "3"), cols("id", "1", "x", "2", "y", "4")}},
			[]string{"r key k:1", "r tag tag:2", "r tag tag:every", "r field all 1", "r field h:2 f1:3", "r field h:2 f1:4", "r field h:2 fixed", "r field stats count*"}},
		{"update of a hash's column to NULL", Update, []Row{{full, cols("id", "1", "x", "NULL", "y", "3")}},
			[]string{"r key k:1", "r tag tag:2", "r tag tag:every", "r field all 1", "r field h:2 f1:3", "r field h:2 fixed", "r field stats count*"}},
		{"plain update", Update, []Row{{cols("id", "1"), full}},
			[]string{"r key k:1", "r tag-pattern tag:* old", "r tag tag:2", "r tag tag:every", "r field all 1",
				"r pattern h:* old", "r field h:2 f1:3", "r pattern h:* old", "r field h:2 fixed", "r field stats count*"}},
		{"plain update of which the old field is not known", Update, []Row{{cols("x", "2"), full}},
			[]string{"r pattern k:* old", "r key k:1", "r tag tag:2", "r tag tag:every", "r key all old", "r field all 1",
				"r key h:2 old", "r field h:2 f1:3", "r field h:2 fixed", "r field stats count*"}},
		{"update with a field's column in neither image", Update, []Row{{cols("x", "2"), cols("x", "2")}},
			[]string{"r pattern k:* column", "r tag tag:2", "r tag tag:every", "r key all column", "r key h:2 column", "r field h:2 fixed", "r field stats count*"}},
		{"any row", Insert, nil,
			[]string{"r pattern k:* rows", "r tag-pattern tag:* rows", "r tag tag:every", "r key all rows", "r pattern h:* rows", "r pattern h:* rows", "r field stats count*"}},
		{"truncate", Truncate, []Row{{Old: full}},
			[]string{"r pattern k:* truncate", "r tag-pattern tag:* truncate", "r tag tag:every", "r key all truncate", "r pattern h:* truncate", "r pattern h:* truncate", "r field stats count*"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			same(t, matched(set, Change{Table: "t", Op: test.op, Rows: test.rows}), test.want...)
		})
	}
}

func TestSweepTagsAndFields(t *testing.T) {
	t.Parallel()
	var got []string
	for _, target := range parse(t, reaching).Sweep() {
		got = append(got, show(target, Exact))
	}
	same(t, got, "r pattern k:*", "r tag-pattern tag:*", "r tag tag:every", "r key all", "r pattern h:*", "r pattern h:*", "r key stats")
}

// Whatever a change makes, widened it is what the sweep deletes for the same template.
func TestWidenTagsAndFields(t *testing.T) {
	t.Parallel()
	set := parse(t, reaching)
	swept := set.Sweep()
	for _, image := range []row{cols("id", "1", "x", "*[a]", "y", "3"), cols("id", "1"), cols("x", ""), cols()} {
		i := 0
		for target := range set.Match(Change{Table: "t", Op: Insert, Rows: []Row{{New: image}}}) {
			wide := target.Widen()
			if wide != swept[i] || wide.Widen() != wide || wide.Field() != "" {
				t.Errorf("%s widens to %s, and that to %s; the sweep deletes %s",
					show(target, Exact), show(wide, Exact), show(wide.Widen(), Exact), show(swept[i], Exact))
			}
			if covers := globMatch(wide.Key, target.Key) || wide.Key == target.Key; !covers {
				t.Errorf("%s widens to %s, which does not cover it", show(target, Exact), show(wide, Exact))
			}
			i++
		}
		if i != len(swept) {
			t.Errorf("%d targets, and %d of a sweep", i, len(swept))
		}
	}
}

// Fields of one hash are targets of their own, and so are the same bytes as a key, a tag and a hash.
func TestTagsAndFieldsAreComparable(t *testing.T) {
	t.Parallel()
	set := parse(t, `{rules: [{table: t, keys: [same], tags: [same], fields: [{key: same, field: "{id}"}]}]}`)
	seen := map[Target]int{}
	for _, id := range []string{"1", "2", "1", ""} {
		for target := range set.Match(Change{Table: "t", Op: Insert, Rows: []Row{{New: cols("id", id)}}}) {
			seen[target]++
		}
	}
	for _, target := range set.Sweep() {
		seen[target]++
	}
	if len(seen) != 6 { // the key, the tag, three fields, the hash
		t.Errorf("%d targets, want 6: %v", len(seen), seen)
	}
}

func TestChangedAndOnOfTagsAndFields(t *testing.T) {
	t.Parallel()
	set := parse(t, `
rules:
  - {name: tags, table: t, changed: [x], tags: ["tag:{id}"]}
  - {name: fields, table: t, on: [delete], fields: [{key: all, field: "{id}"}]}
`)
	if !set.OnlyChanged("", "t") {
		t.Error("an update that leaves x as it was does not matter")
	}
	kept, other := cols("id", "1", "x", "1"), cols("id", "1", "x", "2")
	same(t, matched(set, Change{Table: "t", Op: Update, Rows: []Row{{kept, kept}}}))
	same(t, matched(set, Change{Table: "t", Op: Update, Rows: []Row{{kept, other}}}), "tags tag tag:1")
	same(t, matched(set, Change{Table: "t", Op: Delete, Rows: []Row{{Old: kept}}}), "tags tag tag:1", "fields field all 1")
}

func TestKindString(t *testing.T) {
	t.Parallel()
	var got []string
	for _, k := range []Kind{Key, Pattern, Tag, TagPattern, Field} {
		got = append(got, k.String())
	}
	if want := []string{"key", "pattern", "tag", "pattern", "field"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseRefusesTagsAndFields(t *testing.T) {
	t.Parallel()
	const rule = "rules:\n  - table: t\n"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"tags is a text", rule + "    tags: a:{id}\n", []string{"3: tags must be a list with at least one entry"}},
		{"tag is empty", rule + "    tags: [a, '']\n", []string{"3: an entry of tags is empty"}},
		{"tag begins with a column", rule + "    tags:\n      - '{id}'\n", []string{`4: tag template "{id}": the template must begin with literal text`}},
		{"tag with unbalanced braces", rule + "    tags: ['a:{id']\n", []string{`3: tag template "a:{id": unbalanced braces`}},
		{"fields is empty", rule + "    fields: []\n", []string{"3: fields must be a list with at least one entry"}},
		{"fields is a mapping", rule + "    fields: {key: a, field: b}\n", []string{"3: fields must be a list with at least one entry"}},
		{"entry is a text", rule + "    fields: [a]\n", []string{"3: an entry of fields must be a mapping with key, field"}},
		{"no key", rule + "    fields:\n      - field: a\n", []string{"4: the entry of fields has no key"}},
		{"no field", rule + "    fields:\n      - key: a\n", []string{"4: the entry of fields has no field"}},
		{"neither", rule + "    fields:\n      - {}\n", []string{"4: the entry of fields has no key", "4: the entry of fields has no field"}},
		{"another", rule + "    fields: [{key: a, field: b, value: c}]\n", []string{`3: unknown field "value": an entry of fields can have key, field`}},
		{"key is null", rule + "    fields:\n      - key:\n        field: b\n", []string{"4: key is empty"}},
		{"field is empty", rule + "    fields:\n      - key: a\n        field: ''\n", []string{"5: field is empty"}},
		{"field is a list", rule + "    fields: [{key: a, field: [b]}]\n", []string{"3: field must be text"}},
		{"key begins with a column", rule + "    fields: [{key: '{id}', field: b}]\n", []string{`3: key template "{id}": the template must begin with literal text`}},
		{"field with unbalanced braces", rule + "    fields: [{key: a, field: 'id}'}]\n", []string{`3: field template "id}": unbalanced braces`}},
		{"wildcards", rule + "    fields:\n      - key: a:*\n        field: 'b*'\n", []string{
			`4: key template "a:*": the hash of a field has no wildcards: to delete whole hashes put their keys into keys (an asterisk is written \*)`,
			`5: field template "b*": a field has no wildcards: to delete the whole hash put its key into keys (an asterisk is written \*)`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("r.yaml", []byte(test.text))
			if err == nil {
				t.Fatal("not refused")
			}
			checkProblems(t, err, test.want)
		})
	}
}
