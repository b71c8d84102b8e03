package rules

import (
	"slices"
	"strings"
	"testing"
)

// isKnown tells the columns of the key templates in the tests of queries.
func isKnown(column string) bool { return slices.Contains([]string{"id", "x", "Order ID"}, column) }

func TestCompileQuery(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want, columns string }{
		{"SELECT 1", "SELECT 1", ""},
		{" select row_to_json(a) FROM actions a WHERE id = {id}\n", "select row_to_json(a) FROM actions a WHERE id = $1", "id"},
		{"SELECT {x}, {id}, {x} ; \n -- end", "SELECT $1, $2, $1", "x id"},
		{`SELECT {"Order ID"}::text || {id}`, "SELECT $1::text || $2", "Order ID id"},
		{`SELECT {"a""b"}, {Order No}`, "SELECT $1, $2", `a"b Order No`},
		{"/* a /* nested */ -- */ SELECT 1 -- x", "/* a /* nested */ -- */ SELECT 1 -- x", ""},
		{"-- first\nWITH a AS (TABLE t) SELECT * FROM a", "-- first\nWITH a AS (TABLE t) SELECT * FROM a", ""},
		{"((VALUES ({id})))", "((VALUES ($1)))", "id"},
		{"table t", "table t", ""},
		{"(SELECT 1) UNION (SELECT {id});", "(SELECT 1) UNION (SELECT $1)", "id"},

		{"SELECT a->>'x', b @> '{1,2}'::int[], '{}'::jsonb, c[1:2], -{id}", "SELECT a->>'x', b @> '{1,2}'::int[], '{}'::jsonb, c[1:2], -$1", "id"},
		{`SELECT '{"id": 1}', '{ id }', '{y}', 'a;(', "a;(}" FROM t`, `SELECT '{"id": 1}', '{ id }', '{y}', 'a;(', "a;(}" FROM t`, ""},
		{`SELECT 'it''s {', {id}`, `SELECT 'it''s {', $1`, "id"},
		{`SELECT 'a\', {id}`, `SELECT 'a\', $1`, "id"},
		{`SELECT E'a\'{', e'\\', {id}`, `SELECT E'a\'{', e'\\', $1`, "id"},
		{`SELECT E'a''\'{', {id}`, `SELECT E'a''\'{', $1`, "id"},
		{"SELECT E'a' -- x\n '\\'{', {id}", "SELECT E'a' -- x\n '\\'{', $1", "id"},
		{`SELECT E'a', 'b\', {id}`, `SELECT E'a', 'b\', $1`, "id"},
		{`SELECT note'\', {id}`, `SELECT note'\', $1`, "id"}, // no E string, but a type's name before a string
		{`SELECT U&'\0041{', U&"d\0061t{"`, `SELECT U&'\0041{', U&"d\0061t{"`, ""},
		{"SELECT $$it's {$ $1 ; ($$, {id}", "SELECT $$it's {$ $1 ; ($$, $1", "id"},
		{"SELECT $a_1$ $$ {b} $b$ $a_1$, {id}", "SELECT $a_1$ $$ {b} $b$ $a_1$, $1", "id"},
		{"SELECT a$1, b$$c FROM t", "SELECT a$1, b$$c FROM t", ""}, // $ within a name
		{"SELECT né$1, {id}", "SELECT né$1, $1", "id"},
		{"SELECT ARRAY[{id},{x}], {id}'', {id}*{x}", "SELECT ARRAY[$1,$2], $1'', $1*$2", "id x"},
		{"SELECT 1 -- {y}\r, {id}", "SELECT 1 -- {y}\r, $1", "id"},
	} {
		t.Run(test.text, func(t *testing.T) {
			t.Parallel()
			got, columns, err := compileQuery(test.text, isKnown)
			if err != nil || got != test.want || strings.Join(columns, " ") != test.columns {
				t.Errorf("got %q, %q, %v; want %q, %q", got, columns, err, test.want, test.columns)
			}
		})
	}
}

func TestCompileQueryRefuses(t *testing.T) {
	t.Parallel()
	const braces, part = "unbalanced braces: outside quotes they are for placeholders", "a placeholder is a value of its own, never a part of a word"
	for _, test := range []struct{ text, want string }{
		{"", "the query is empty"},
		{" \n", "the query is empty"},
		{"-- SELECT 1", "the query is empty"},
		{";", "the query is empty"},
		{"()", `it begins with ")"`},
		{"DELETE FROM t", `it begins with "DELETE": a refresh begins with SELECT, WITH, VALUES or TABLE`},
		{"/* SELECT */ update t SET x = 1", `it begins with "update"`},
		{"(INSERT INTO t DEFAULT VALUES)", `it begins with "INSERT"`},
		{"SELECTED", `it begins with "SELECTED"`},
		{"{id}", `it begins with "{id}"`},
		{"'SELECT'", `it begins with "'SELECT'"`},

		{"SELECT {id", braces},
		{"SELECT id}", braces},
		{"SELECT {}", braces},
		{"SELECT {{id}}", braces},
		{"SELECT { id }", braces},
		{`SELECT {"id}`, braces},
		{`SELECT {"a` + "\n" + `b`, `and "{\"a" is none`},
		{"SELECT a{id}", `no space before "{id}": ` + part},
		{"SELECT 1{id}", part},
		{"SELECT {id}1", part},
		{"SELECT {id}a", part},
		{"SELECT {id}{x}", part},

		{"SELECT '{id}'", "{id} within quotes: it would be text, not a parameter: write it without quotes"},
		{`SELECT 'a {"Order ID"} b'`, "{Order ID} within quotes"},
		{"SELECT E'\\'{x}'", "{x} within quotes"},
		{`SELECT "{id}"`, "{id} within quotes"},
		{"SELECT $a${id}$a$", "{id} within quotes"},
		{"SELECT '{{id}}'", "{id} within quotes"},
		{"SELECT 1 -- {id}", "{id} within a comment: it would be text, not a parameter"},
		{"SELECT 1 /* {id} */", "{id} within a comment"},
		{"SELECT 1; -- {id}", "{id} within a comment"},

		{"SELECT $1", "the parameter $1: write {column} with the name of the column that it is"},
		{"SELECT 1$2", "the parameter $2"},
		{"SELECT ${id}", "a $ outside quotes begins neither a parameter nor a string"},
		{"SELECT $a", "a $ outside quotes"},
		{"SELECT 'a", "the closing quote of 'a is missing"},
		{`SELECT E'a\'`, "the closing quote of 'a"},
		{`SELECT 'a\'', {id}`, "the closing quote of ', {id} is missing"},
		{`SELECT "a`, `the closing quote of "a is missing`},
		{"SELECT /* /* */", `the closing */ of "/* /* */" is missing`},
		{"SELECT /*/", "the closing */"},
		{"SELECT $a$ $b$", "the closing $a$ is missing"},
		{"SELECT (1", "unbalanced parentheses: a ( without its )"},
		{"SELECT 1) (", "unbalanced parentheses: a ) without its ("},
		{"SELECT 1; SELECT 2", "a semicolon before the end: a refresh is one statement"},
		{"SELECT 1;;", "a semicolon before the end"},
		{"; SELECT 1", "a semicolon before the end"},
		{"SELECT \x00 1", "a zero byte"},
	} {
		t.Run(test.text, func(t *testing.T) {
			t.Parallel()
			got, _, err := compileQuery(test.text, isKnown)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, error %v, want one line with %q", got, err, test.want)
			}
		})
	}
}

// FuzzQuery reads what a query became as Postgres would: it must be the same tokens with parameters in the places of the
// placeholders, and as many of them as there are distinct columns.
func FuzzQuery(f *testing.F) {
	for _, text := range []string{
		"SELECT row_to_json(a) FROM actions a WHERE id = {id}", `SELECT {"Order ID"}::text, {id}, {x}, {id};`, "SELECT E'a''\\'{' 'b', {id}",
		"/* /* */ */ SELECT $a$ {y} $1 $a$, '{1,2}'::int[] -- {z}\n, {z}", "SELECT {id}{x}", "SELECT a{id}$$", "SELECT 1${id}$", "SELECT {a}$${b}$$",
		"(((", "SELECT ';' ; ", "SELECT \xff{id}", "TABLE t -- \r;", "SELECT 'a\\', {id}", "SELECT U&\"{\", e'\\\n", "VALUES ({id}/*{*/,{id}'')", "{}}",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		query, columns, err := compileQuery(text, isKnown)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: a problem of more than one line: %v", text, err)
			}
			return
		}
		var written, compiled []token
		for token, err := range tokens(text) {
			if err != nil {
				t.Fatalf("%q: accepted, in spite of %v", text, err)
			}
			written = append(written, token)
		}
		numbers := map[string]string{} // of the parameters, the column of each
		for token, err := range tokens(query) {
			if err != nil {
				t.Fatalf("%q became %q, which is none: %v", text, query, err)
			}
			compiled = append(compiled, token)
		}
		// Blanks around it, and the semicolon with what follows, are left out.
		meaning := func(tokens []token) (list []token) {
			for _, token := range tokens {
				if token.text == ";" {
					break
				}
				if token.kind != blank {
					list = append(list, token)
				}
			}
			return list
		}
		written, compiled = meaning(written), meaning(compiled)
		if len(written) != len(compiled) {
			t.Fatalf("%q became %q: %d tokens became %d", text, query, len(written), len(compiled))
		}
		for i, was := range written {
			is := compiled[i]
			switch {
			case was.kind == placeholder && is.kind == parameter && (numbers[is.text] == "" || numbers[is.text] == was.column):
				numbers[is.text] = was.column
			case was.kind != is.kind, was.kind == placeholder, strings.TrimRight(was.text, blanks) != strings.TrimRight(is.text, blanks):
				t.Errorf("%q became %q: %q became %q", text, query, was.text, is.text)
			}
		}
		if len(numbers) != len(columns) {
			t.Errorf("%q became %q, with %d parameters for the columns %q", text, query, len(numbers), columns)
		}
	})
}
