package rules

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

const refreshing = `
rules:
  - {name: plain, table: t, keys: ["p:{id}"]}
  - name: r
    table: t
    keys: ["k:{id}:{x}", "l:{x}{id}"]
    tags: ["tag:{id}"]
    fields: [{key: all, field: "{id}"}, {key: "h:{id}", field: "{y}"}]
    refresh:
      query: SELECT row_to_json(t) FROM t WHERE x = {x} AND id = {id}::bigint AND x <> '{y}';
      ttl: 10m
  - table: t
    on: [update]
    keys: [count]
    refresh: {query: "TABLE counts", only_cached: false}
`

func TestRefreshes(t *testing.T) {
	t.Parallel()
	want := []*Refresh{
		{"r", "SELECT row_to_json(t) FROM t WHERE x = $1 AND id = $2::bigint AND x <> '{y}'", []string{"x", "id"}, 10 * time.Minute, true},
		{"t", "TABLE counts", nil, 0, false},
	}
	if got := parse(t, refreshing).Refreshes(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestMatchRefresh(t *testing.T) {
	t.Parallel()
	set := parse(t, refreshing)
	full := cols("id", "1", "x", "12:", "y", "3")
	for _, test := range []struct {
		name string
		op   string
		rows []Row
		want []string
	}{
		{"insert", Insert, []Row{{New: full}},
			[]string{"plain key p:1", `r key k:1:12: read by ["12:" "1"]`, `r key l:12:1 read by ["12:" "1"]`, "r tag tag:1", "r field all 1", "r field h:1 3"}},
		{"column not known", Insert, []Row{{New: cols("id", "1")}},
			[]string{"plain key p:1", "r pattern k:1:* column", "r pattern l:*1 column", "r tag tag:1", "r field all 1", "r key h:1 column"}},
		{"NULL", Insert, []Row{{New: cols("id", "1", "x", "NULL", "y", "3")}},
			[]string{"plain key p:1", "r tag tag:1", "r field all 1", "r field h:1 3"}},
		{"empty texts", Delete, []Row{{Old: cols("id", "", "x", "", "y", "")}},
			[]string{"plain key p:", `r key k:: read by ["" ""]`, `r key l: read by ["" ""]`, "r tag tag:", "r field all", "r field h:"}},
		{"update", Update, []Row{{cols("id", "1", "x", "1", "y", "3"), cols("id", "1", "x", "2", "y", "3")}},
			[]string{"plain key p:1", `r key k:1:1 read by ["1" "1"]`, `r key k:1:2 read by ["2" "1"]`, `r key l:11 read by ["1" "1"]`,
				`r key l:21 read by ["2" "1"]`, "r tag tag:1", "r field all 1", "r field h:1 3", "t key count read by []"}},
		{"any row", Update, nil,
			[]string{"plain pattern p:* rows", "r pattern k:*:* rows", "r pattern l:* rows", "r tag-pattern tag:* rows", "r key all rows",
				"r pattern h:* rows", "t key count read by []"}},
		{"truncate", Truncate, nil,
			[]string{"plain pattern p:* truncate", "r pattern k:*:* truncate", "r pattern l:* truncate", "r tag-pattern tag:* truncate",
				"r key all truncate", "r pattern h:* truncate"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			same(t, matched(set, Change{Table: "t", Op: test.op, Rows: test.rows}), test.want...)
		})
	}
}

// A key that is read anew and the same key to be deleted are two targets, of which the second covers the first.
func TestWidenRefresh(t *testing.T) {
	t.Parallel()
	set := parse(t, refreshing)
	swept := map[Target]bool{}
	for _, target := range set.Sweep() {
		if r, args := target.Refresh(); r != nil || args != nil {
			t.Errorf("the sweep does not delete %s", show(target, Exact))
		}
		swept[target] = true
	}
	for target := range set.Match(Change{Table: "t", Op: Update, Rows: []Row{{New: cols("id", "1", "x", "2", "y", "3")}}}) {
		wide := target.Widen()
		if !swept[wide] || wide.Widen() != wide || swept[target] {
			t.Errorf("%s widens to %s", show(target, Exact), show(wide, Exact))
		}
	}
	for target := range set.Match(Change{Table: "t", Op: Insert, Rows: []Row{{New: cols()}}}) {
		if !swept[target] {
			t.Errorf("%s, of which nothing is known, is not what the sweep deletes", show(target, Exact))
		}
	}
}

func TestRefreshIsOfItsRule(t *testing.T) {
	t.Parallel()
	set := parse(t, refreshing)
	for target := range set.Match(Change{Table: "t", Op: Update, Rows: []Row{{New: cols("id", "1", "x", "2", "y", "3")}}}) {
		r, args := target.Refresh()
		if r == nil {
			continue
		}
		if r.Rule != target.Rule() || len(args) != len(r.Columns) {
			t.Errorf("%s is read by the query of the rule %s, which needs %q", show(target, Exact), r.Rule, r.Columns)
		}
	}
}

func TestParseRefusesRefresh(t *testing.T) {
	t.Parallel()
	const rule = "rules:\n  - table: t\n"
	const keys = rule + "    keys: ['k:{id}']\n    refresh:\n"
	const query = keys + "      query: SELECT 1\n"
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"without keys", rule + "    tags: [a]\n    refresh: {query: SELECT 1}\n", []string{"4: refresh reads the rule's keys anew, and the rule has no keys"}},
		{"is a text", rule + "    keys: [a]\n    refresh: SELECT 1\n", []string{"4: refresh must be a mapping with query, ttl, only_cached"}},
		{"is null", rule + "    keys: [a]\n    refresh:\n", []string{"4: refresh must be a mapping"}},
		{"another field", query + "      expire: 10m\n", []string{`6: unknown field "expire": refresh can have query, ttl, only_cached`}},
		{"no query", keys + "      ttl: 1m\n", []string{"5: refresh has no query"}},
		{"query is null", keys + "      query:\n", []string{"5: query is empty"}},
		{"query is blank", keys + "      query: ' '\n", []string{"5: query: the query is empty"}},
		{"query is a list", keys + "      query: [SELECT 1]\n", []string{"5: query must be text"}},
		{"query is no SQL", keys + "      query: DELETE FROM t\n", []string{`5: query: it begins with "DELETE"`}},
		{"ttl is a number", query + "      ttl: 600\n", []string{`6: ttl: "600" is no duration from 1ms up, such as 90s, 10m or 24h`}},
		{"ttl is zero", query + "      ttl: 0s\n", []string{`6: ttl: "0s" is no duration`}},
		{"ttl is negative", query + "      ttl: -1m\n", []string{`6: ttl: "-1m" is no duration`}},
		{"ttl is less than Redis counts", query + "      ttl: 999us\n", []string{`6: ttl: "999us" is no duration`}},
		{"ttl is null", query + "      ttl:\n", []string{"6: ttl is empty"}},
		{"only_cached is a text", query + "      only_cached: sometimes\n", []string{`6: only_cached: "sometimes" is neither true nor false`}},
		{"only_cached is a number", query + "      only_cached: 1\n", []string{`6: only_cached: "1" is neither true nor false`}},
		{"only_cached is null", query + "      only_cached: ~\n", []string{"6: only_cached is empty"}},
		{"a wildcard", rule + "    keys:\n      - 'k:{id}'\n      - 'l:*'\n    refresh: {query: SELECT 1}\n",
			[]string{`5: key template "l:*": a refresh needs exact keys`}},
		{"a column of no key", keys + "      query: SELECT {id}, {x}\n",
			[]string{`5: query: the key template "k:{id}" does not have the column "x": two rows with the same key would be read in different ways`}},
		{"a column of a tag alone", keys + "      query: SELECT {x}\n    tags: ['t:{x}']\n", []string{`5: query: the key template "k:{id}" does not have the column "x"`}},
		{"columns of one key of two", rule + "    keys: ['k:{id}', 'l:{x}']\n    refresh:\n      query: SELECT {id}, {x}\n", []string{
			`5: query: the key template "l:{x}" does not have the column "id"`, `5: query: the key template "k:{id}" does not have the column "x"`}},
		{"a column in quotes", keys + "      query: SELECT '{id}'\n", []string{`5: query: {id} within quotes: it would be text, not a parameter: write it without quotes`}},
		{"all at once", rule + "    refresh:\n      query: SELECT (\n      ttl: x\n      only_cached: x\n      y: z\n    keys: ['k:{id}:*', '*']\n", []string{
			`4: query: unbalanced parentheses`, `5: ttl: "x"`, `6: only_cached: "x"`, `7: unknown field "y"`,
			`8: key template "*": the template must begin`, `8: key template "k:{id}:*": a refresh needs exact keys`}},
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

func TestParseOnlyCached(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"true": true, "false": false, "True": true, "no": false} {
		set := parse(t, fmt.Sprintf("{rules: [{table: t, keys: [k], refresh: {query: SELECT 1, only_cached: %s}}]}", text))
		if got := set.Refreshes()[0].OnlyCached; got != want {
			t.Errorf("%s: got %t", text, got)
		}
	}
}
