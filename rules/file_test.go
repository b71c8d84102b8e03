package rules

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// exampleFile is the example of the documentation, as it stands there.
const exampleFile = `rules:
  - name: action                     # optional, unique; default: the table's name (then name-2, …)
    table: actions                   # or schema.table; SQL identifier syntax, but never case-folded: "Order Items"
    keys:
      - action:{id}                  # one key a row
      - owner:{actionable_type}:{actionable_id}:actions
  - name: lists
    table: actions
    on: [insert, delete, truncate]   # default: all four
    keys: ["actions:list:*"]         # a literal * makes a pattern
  - name: labels
    table: actions
    changed: [type, platform]        # updates that leave these columns as they were do not count
    keys: ["label:{{{id}}}:text"]    # {{ and }} are literal braces: label:{42}:text, a Redis hash tag
`

// everything has each feature of the format.
const everything = `# comment
rules:
  - name: "first rule"
    table: '"Order Items"."a.b""c"'
    on: [insert, update, delete, truncate]
    changed: [x, "Y"]
    keys:
      - a:{id}
      - "b:{x}:*"
      - 'c\*{"{y}"}{{{z}}}'
  - &second
    table: public.t
    &field keys: &keys ["d:{id}", &five 5, true]
  - table: Order Items
    keys: *keys
  - table: aliases
    *field : [*five]
`

func TestParseExample(t *testing.T) {
	t.Parallel()
	set := parse(t, exampleFile)
	image := cols("id", "42", "actionable_type", "Farm", "actionable_id", "7", "type", "a", "platform", "b")
	same(t, matched(set, Change{Table: "actions", Op: Insert, Rows: []Row{{New: image}}}),
		"action key action:42", "action key owner:Farm:7:actions", "lists pattern actions:list:*", "labels key label:{42}:text")
	same(t, matched(set, Change{Table: "actions", Op: Update, Rows: []Row{{image, image}}}),
		"action key action:42", "action key owner:Farm:7:actions")
	same(t, matched(set, Change{Table: "actions", Op: Truncate}),
		"action pattern action:* truncate", "action pattern owner:*:*:actions truncate", "lists pattern actions:list:*",
		"labels pattern label:{*}:text truncate")
}

func TestParseEverything(t *testing.T) {
	t.Parallel()
	set := parse(t, everything)
	image := cols("id", "1", "x", "2", "{y}", "3", "z", "4")
	same(t, matched(set, Change{Schema: "Order Items", Table: `a.b"c`, Op: Insert, Rows: []Row{{New: image}}}),
		"first rule key a:1", "first rule pattern b:2:*", "first rule key c*3{4}")
	same(t, matched(set, Change{Schema: "public", Table: "t", Op: Insert, Rows: []Row{{New: image}}}), "t key d:1", "t key 5", "t key true")
	same(t, matched(set, Change{Schema: "any", Table: "Order Items", Op: Delete}), "Order Items pattern d:* rows", "Order Items key 5", "Order Items key true")
	same(t, matched(set, Change{Table: "aliases"}), "aliases key 5")
	if columns, _ := set.Columns("", `a.b"c`); !slices.Equal(columns, []string{"x", "Y", "id", "{y}", "z"}) {
		t.Errorf("columns %q", columns)
	}
}

func TestParseNames(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ rules, want string }{
		{"{table: a, keys: [x]}, {table: a, keys: [x]}, {table: a, keys: [x]}", "a a-2 a-3"},
		{"{table: a, keys: [x]}, {table: b, keys: [x]}, {table: a, keys: [x]}", "a b a-2"},
		{"{table: r.a, keys: [x]}, {table: s.a, keys: [x]}", "a a-2"},
		{"{table: a, keys: [x]}, {name: a, table: b, keys: [x]}", "a-2 a"},
		{"{name: a-2, table: b, keys: [x]}, {table: a, keys: [x]}, {table: a, keys: [x]}", "a-2 a a-3"},
		{"{table: a, keys: [x]}, {table: a, keys: [x]}, {table: a-2, keys: [x]}", "a a-2 a-2-2"},
		{"{name: A, table: a, keys: [x]}, {table: a, keys: [x]}", "A a"},
		{"{name: 5, table: a, keys: [x]}, {name: yes, table: a, keys: [x]}", "5 yes"},
	} {
		var names []string
		for _, target := range parse(t, "rules: ["+test.rules+"]").Sweep() {
			names = append(names, target.Rule())
		}
		if got := strings.Join(names, " "); got != test.want {
			t.Errorf("%s: got %q, want %q", test.rules, got, test.want)
		}
	}
}

func TestParseTable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		want Table
		err  string
	}{
		{text: `actions`, want: Table{"", "actions"}},
		{text: `Actions`, want: Table{"", "Actions"}},
		{text: `public.actions`, want: Table{"public", "actions"}},
		{text: `Order Items`, want: Table{"", "Order Items"}},
		{text: `"Order Items"`, want: Table{"", "Order Items"}},
		{text: `s."a.b"`, want: Table{"s", "a.b"}},
		{text: `"a.b"`, want: Table{"", "a.b"}},
		{text: `"a.b".c`, want: Table{"a.b", "c"}},
		{text: `"a""b"`, want: Table{"", `a"b`}},
		{text: `" a "`, want: Table{"", " a "}},
		{text: `a-b`, want: Table{"", "a-b"}},
		{text: `日本`, want: Table{"", "日本"}},
		{text: `a.b.c`, err: "a table is written table or schema.table"},
		{text: `a.`, err: "a name is empty"},
		{text: `.a`, err: "a name is empty"},
		{text: `.`, err: "a name is empty"},
		{text: `""`, err: "a name is empty"},
		{text: `a.""`, err: "a name is empty"},
		{text: `"a`, err: "the closing double quote is missing"},
		{text: `"a"b`, err: `unexpected text "b" after a closing double quote`},
		{text: `a"b`, err: "a double quote within a name"},
		{text: `public. actions`, err: `spaces around the name " actions"`},
		{text: `public .actions`, err: `spaces around the name "public "`},
	} {
		schema, table, err := tableName(test.text)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: got error %v, want one with %q", test.text, err, test.err)
			}
			continue
		}
		if got := (Table{schema, table}); err != nil || got != test.want {
			t.Errorf("%s: got %q, %v, want %q", test.text, got, err, test.want)
		}
	}
}

// goodRule is a file to which something bad is added.
const goodRule = "rules:\n  - table: t\n    keys: [x]\n"

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const empty, noList = `1: the file is empty`, `"rules" must be a list with at least one rule`
	for _, test := range []struct {
		name, text string
		want       []string // the line of each problem, and a part of its reason
	}{
		{"empty", "", []string{empty}},
		{"blank", "\n \n\n", []string{empty}},
		{"comments", "# a\n# b\n", []string{empty}},
		{"null", "null\n", []string{empty}},
		{"start of a document", "---\n", []string{empty}},
		{"list at the top", "- table: t\n  keys: [x]\n", []string{"1: the file must be a mapping with rules"}},
		{"text at the top", "\nrules\n", []string{"2: the file must be a mapping with rules"}},
		{"no rules", "{}\n", []string{"1: no rules"}},
		{"rules is empty", "rules: []\n", []string{"1: no rules: " + noList}},
		{"rules is null", "\nrules:\n", []string{"2: no rules: " + noList}},
		{"rules is a text", "rules: x\n", []string{"1: no rules: " + noList}},
		{"rules is a mapping", "rules:\n  table: t\n  keys: [x]\n", []string{"2: no rules: " + noList}},
		{"rule is a text", "rules:\n  - table\n", []string{"2: a rule must be a mapping"}},
		{"rule is null", "rules:\n  - table: t\n    keys: [x]\n  -\n", []string{"4: a rule must be a mapping"}},
		{"unknown field at the top", goodRule + "rule: 1\n", []string{`4: unknown field "rule": the file can have rules`}},
		{"unknown field of a rule", goodRule + "    key: [y]\n", []string{`4: unknown field "key": a rule can have name, table, on, changed, keys, tags, fields, refresh`}},
		{"merge key", goodRule + "    <<: {}\n", []string{`4: unknown field "<<"`}},
		{"case of a field", goodRule + "    On: [insert]\n", []string{`4: unknown field "On"`}},
		{"field twice", goodRule + "    keys: [y]\n", []string{`4: the field "keys" is given twice`}},
		{"rules twice", goodRule + "rules: []\n", []string{`4: the field "rules" is given twice`, "4: no rules"}},
		{"two documents", goodRule + "---\n" + goodRule, []string{"4: a second document"}},
		{"two documents, the second broken", goodRule + "---\n}\n", []string{"5: not YAML: did not find expected node content"}},

		{"no table", "rules:\n  - keys: [x]\n", []string{"2: the rule has no table"}},
		{"table is null", "rules:\n  - table:\n    keys: [x]\n", []string{"2: table is empty"}},
		{"table is empty", "rules:\n  - table: ''\n    keys: [x]\n", []string{"2: table is empty"}},
		{"table is a list", "rules:\n  - table: [t]\n    keys: [x]\n", []string{"2: table must be text"}},
		{"table of three parts", "rules:\n  - keys: [x]\n    table: a.b.c\n", []string{"3: table a.b.c: a table is written"}},
		{"no keys", "rules:\n  - table: t\n", []string{"2: the rule has no keys, tags or fields"}},
		{"keys is null", "rules:\n  - table: t\n    keys:\n", []string{"3: keys must be a list with at least one entry"}},
		{"keys is empty", "rules:\n  - table: t\n    keys: []\n", []string{"3: keys must be a list with at least one entry"}},
		{"keys is a text", "rules:\n  - table: t\n    keys: a:{id}\n", []string{"3: keys must be a list with at least one entry"}},
		{"keys is a mapping", "rules:\n  - table: t\n    keys: {a: b}\n", []string{"3: keys must be a list with at least one entry"}},
		{"on is empty", goodRule + "    on: []\n", []string{"4: on must be a list with at least one entry"}},
		{"on is a text", goodRule + "    on: insert\n", []string{"4: on must be a list with at least one entry"}},
		{"on of something else", goodRule + "    on:\n      - insert\n      - upsert\n", []string{`6: on: unknown operation "upsert": it can be insert, update, delete or truncate`}},
		{"on in capitals", goodRule + "    on: [INSERT]\n", []string{`4: on: unknown operation "INSERT"`}},
		{"changed is empty", goodRule + "    changed: []\n", []string{"4: changed must be a list with at least one entry"}},
		{"changed of an empty name", goodRule + "    changed: [a, '']\n", []string{"4: an entry of changed is empty"}},
		{"name is null", goodRule + "    name:\n", []string{"4: name is empty"}},
		{"name is empty", goodRule + "    name: ''\n", []string{"4: name is empty"}},
		{"name is a list", goodRule + "    name: [a]\n", []string{"4: name must be text"}},
		{"name twice", goodRule + "    name: a\n  - name: a\n    table: t\n    keys: [x]\n", []string{`5: the name "a" is taken by the rule in line 4`}},
		{"alias of a rule with a name", "rules:\n  - &a\n    name: a\n    table: t\n    keys: [x]\n  - *a\n", []string{`3: the name "a" is taken by the rule in line 3`}},

		{"template is empty", "rules:\n  - table: t\n    keys:\n      - x\n      - ''\n", []string{"5: an entry of keys is empty"}},
		{"template is null", "rules:\n  - table: t\n    keys:\n      - ~\n", []string{"4: an entry of keys is empty"}},
		{"template is a mapping", "rules:\n  - table: t\n    keys:\n      - action: {id}\n", []string{"4: an entry of keys must be text: put quotes around it"}},
		{"template is a list", "rules:\n  - table: t\n    keys:\n      - [x]\n", []string{"4: an entry of keys must be text"}},
		{"template begins with a column", "rules:\n  - table: t\n    keys:\n      - x\n      - '{id}:x'\n", []string{`5: key template "{id}:x": the template must begin with literal text`}},
		{"a key of pgevict's own", "rules:\n  - table: t\n    keys: ['pgevict:{id}']\n    tags: ['pgevict:']\n", []string{`3: key template "pgevict:{id}": keys that begin with pgevict: are pgevict's own`, `4: tag template "pgevict:": keys that begin with`}},
		{"template begins with a wildcard", "rules:\n  - table: t\n    keys: ['*:x']\n", []string{`3: key template "*:x": the template must begin with literal text`}},
		{"template with unbalanced braces", "rules:\n  - table: t\n    keys: ['a:{id']\n", []string{`3: key template "a:{id": unbalanced braces`}},

		{"alias of nothing", "rules:\n  - table: t\n    keys:\n      - *list\n", []string{`4: not YAML: unknown anchor "list": put quotes around`}},
		{"alias of itself", "rules: &a [*a]\n", []string{"1: a rule must be a mapping"}},
		{"keys of themselves", "rules:\n  - table: t\n    keys: &a [*a]\n", []string{"3: an entry of keys must be text"}},
		{"tab", "rules:\n  - table: t\n\tkeys: [x]\n", []string{"2: not YAML: found a tab character"}},
		{"colon", "rules:\n  - table: a: b\n", []string{"2: not YAML: mapping values are not allowed"}},
		{"wildcard without quotes", "rules:\n  - table: t\n    keys:\n      - *:x\n", []string{"4: not YAML: did not find expected alphabetic or numeric character"}},
		{"escape", "rules:\n  - table: t\n    keys: [\"\\*\"]\n", []string{"3: not YAML: found unknown escape character"}},
		{"braces in a flow list", "rules:\n  - table: t\n    keys: [action:{id}]\n", []string{"3: not YAML: did not find expected ',' or ']'"}},
		{"column without quotes", "rules:\n  - table: t\n    keys:\n      - {id}:x\n", []string{"4: not YAML: did not find expected '-' indicator"}},
		{"bracket too many", goodRule + "]\n", []string{"4: not YAML: did not find expected key"}},
		{"control character", "rules:\n  - \x01\n", []string{"2: not YAML: control characters are not allowed"}},
		{"not UTF-8", "rules:\n\n  - \xff\n", []string{"3: not YAML: invalid leading UTF-8 octet"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			set, err := Parse("r.yaml", []byte(test.text))
			if err == nil || set != nil {
				t.Fatalf("got %v, %v; want it refused", set, err)
			}
			checkProblems(t, err, test.want)
		})
	}
}

func checkProblems(t *testing.T, err error, want []string) {
	t.Helper()
	got := strings.Split(err.Error(), "\n")
	ok := len(got) == len(want)
	for i := 0; ok && i < len(want); i++ {
		line, part, _ := strings.Cut(want[i], ": ")
		ok = strings.HasPrefix(got[i], "r.yaml:"+line+": ") && strings.Contains(got[i], part)
	}
	if !ok {
		t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// checkErrorLines sees to it that each problem has a line that the file can have.
func checkErrorLines(t *testing.T, err error, data []byte) {
	t.Helper()
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		t.Fatalf("not a list of problems: %v", err)
	}
	last := 1
	for _, err := range joined.Unwrap() {
		var p problem
		if !errors.As(err, &p) || p.line < last || p.line > len(data)+2 || p.text == "" {
			t.Errorf("problem out of order or out of the file, after line %d: %v", last, err)
		}
		last = p.line
	}
}

func TestParseTellsEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := Parse("r.yaml", []byte(`extra: 1
rules:
  - keys: ["{id}", "a:{id", ok]
    name: a
    on: [upsert, insert]
  - table: a.b.c
    key: [x]
  - text
  - name: a
    table: t
    keys: ["*"]
    changed: x
`))
	if err == nil {
		t.Fatal("not refused")
	}
	checkProblems(t, err, []string{
		`1: unknown field "extra"`,
		`3: the rule has no table`,
		`3: key template "{id}": the template must begin`,
		`3: key template "a:{id": unbalanced`,
		`5: on: unknown operation "upsert"`,
		`6: table a.b.c: a table is written`,
		`6: the rule has no keys`,
		`7: unknown field "key"`,
		`8: a rule must be a mapping`,
		`9: the name "a" is taken by the rule in line 4`,
		`11: key template "*": the template must begin`,
		`12: changed must be a list`,
	})
}

func TestLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "rules.yaml")
	if _, err := Load(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: got %v", err)
	}
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("rules: []\n")
	if _, err := Load(path); err == nil || !strings.HasPrefix(err.Error(), path+":1: ") {
		t.Errorf("got %v, want an error that begins with the path and line", err)
	}
	write(exampleFile)
	set, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(set.Tables()); got != "[{ actions}]" {
		t.Errorf("tables %s", got)
	}
}
