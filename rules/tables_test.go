package rules

import (
	"slices"
	"strings"
	"testing"
)

func TestTables(t *testing.T) {
	t.Parallel()
	set := parse(t, `
rules:
  - {table: b, keys: [x]}
  - {table: s.b, keys: [x]}
  - {table: a, keys: [x]}
  - {table: b, keys: [x]}
  - {table: '"Order.Items"', keys: [x]}
`)
	want := []Table{{"", "b"}, {"s", "b"}, {"", "a"}, {"", "Order.Items"}}
	if got := set.Tables(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestColumns(t *testing.T) {
	t.Parallel()
	set := parse(t, `
rules:
  - {table: t, changed: [c], keys: ["a:{id}:{x}", "b:{x}"]}
  - {table: s.t, keys: ["c:{id}:{s}"]}
  - {table: r.t, keys: ["c:{r}"]}
  - {table: s.only, keys: [all]}
  - {table: reach, tags: ["a:{id}"], fields: [{key: "b:{x}:{id}", field: "{y}:{x}"}], changed: [c]}
`)
	for _, test := range []struct {
		schema, table string
		want          string
		ok            bool
	}{
		{"", "t", "c id x s r", true},
		{"s", "t", "c id x s", true}, // not r: a table s.t need not have that column
		{"r", "t", "c id x r", true},
		{"public", "t", "c id x", true},
		{"", "only", "", true},
		{"s", "only", "", true},
		{"public", "only", "", false},
		{"", "reach", "c id x y", true},
		{"", "none", "", false},
	} {
		columns, ok := set.Columns(test.schema, test.table)
		if got := strings.Join(columns, " "); got != test.want || ok != test.ok {
			t.Errorf("%q.%q: got %q %t, want %q %t", test.schema, test.table, got, ok, test.want, test.ok)
		}
	}
}
