package rules

import (
	"strings"
	"testing"
)

func TestCompile(t *testing.T) {
	t.Parallel()
	image := cols("id", "42", "x", "X", "{x}", "braces", `a"b`, "quote", "naïve", "ü", "Order No", "7", "a.b", "dot", "*", "star")
	for _, test := range []struct{ text, want, wide string }{
		{`action:{id}`, `key action:42`, `pattern action:*`},
		{`a{id}{x}`, `key a42X`, `pattern a*`},
		{`a{id}:{id}`, `key a42:42`, `pattern a*:*`},
		{`all`, `key all`, `key all`},
		{`:`, `key :`, `key :`},
		{`a:*`, `pattern a:*`, `pattern a:*`},
		{`a:***`, `pattern a:*`, `pattern a:*`},
		{`a:*{id}*`, `pattern a:*42*`, `pattern a:*`},
		{`a:{id}*{x}:b`, `pattern a:42*X:b`, `pattern a:*:b`},

		{`label:{{{id}}}:text`, `key label:{42}:text`, `pattern label:{*}:text`},
		{`{{{id}}}`, `key {42}`, `pattern {*}`},
		{`{{id}}`, `key {id}`, `key {id}`},
		{`{{{{id}}}}`, `key {{id}}`, `key {{id}}`},
		{`{{`, `key {`, `key {`},
		{`}}`, `key }`, `key }`},
		{`a{id}}}`, `key a42}`, `pattern a*}`},
		{`a{{}}{id}`, `key a{}42`, `pattern a{}*`},

		{`a\*`, `key a*`, `key a*`},
		{`\*{id}`, `key *42`, `pattern \**`},
		{`\**`, `pattern \**`, `pattern \**`},
		{`a\\*`, `key a\*`, `key a\*`},
		{`a\\\*{id}`, `key a\\*42`, `pattern a\\\\\**`},
		{`a\`, `key a\`, `key a\`},
		{`\{id}`, `key \42`, `pattern \\*`},
		{`\{{{id}`, `key \{42`, `pattern \\{*`},
		{`a\n\?`, `key a\n\?`, `key a\n\?`},
		{`a?[^b-c]{id}`, `key a?[^b-c]42`, `pattern a\?\[\^b-c\]*`},
		{`a?[b]\*:*`, `pattern a\?\[b\]\*:*`, `pattern a\?\[b\]\*:*`},

		{`a:{"{x}"}`, `key a:braces`, `pattern a:*`},
		{`a:{"a""b"}`, `key a:quote`, `pattern a:*`},
		{`a:{"id"}`, `key a:42`, `pattern a:*`},
		{`a:{Order No}`, `key a:7`, `pattern a:*`},
		{`a:{a.b}`, `key a:dot`, `pattern a:*`},
		{`a:{*}`, `key a:star`, `pattern a:*`},
		{`é:{naïve}:日本`, `key é:ü:日本`, `pattern é:*:日本`},
		{"a\x00b\xff{id}", "key a\x00b\xff42", "pattern a\x00b\xff*"},
		{` {id}`, `key  42`, `pattern  *`},
	} {
		t.Run(test.text, func(t *testing.T) {
			t.Parallel()
			parts, err := readKey(test.text)
			if err != nil {
				t.Fatal(err)
			}
			compiled := newTemplate(Key, parts, nil)
			target, why, ok := compiled.render(image)
			if got := target.Kind.String() + " " + target.Key; got != test.want || why != Exact || !ok {
				t.Errorf("got %q, reason %q, %t; want %q", got, why, ok, test.want)
			}
			if got := compiled.wide.Kind.String() + " " + compiled.wide.Key; got != test.wide {
				t.Errorf("wide: got %q, want %q", got, test.wide)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	const begin = "begin with literal text"
	for _, test := range []struct{ text, want string }{
		{``, "the template is empty"},
		{`{id}`, begin},
		{`{id}:a`, begin},
		{`*`, begin},
		{`*:a`, begin},
		{`{"id"}a`, begin},
		{`a:{id`, "unbalanced braces: {id: a literal { is written {{"},
		{`a:{`, "unbalanced braces"},
		{`a:{{{`, "unbalanced braces"},
		{`a:id}`, "unbalanced braces: a literal } is written }}"},
		{`a:{id}}`, "unbalanced braces: a literal } is written }}"},
		{`a:{{id}`, "unbalanced braces: a literal } is written }}"},
		{`a:{a{b}`, "unbalanced braces"},
		{`a:{"id`, "the closing double quote is missing"},
		{`a:{"id"x}`, `} expected after the column "id"`},
		{`a:{"id"`, `} expected after the column "id"`},
		{`a:{}`, "a column's name is missing"},
		{`a:{""}`, "a column's name is missing"},
		{`a:{ id}`, "spaces around the column's name in { id}"},
		{`a:{id }`, "spaces around"},
		{`a:{ }`, "spaces around"},
	} {
		t.Run(test.text, func(t *testing.T) {
			t.Parallel()
			_, err := readKey(test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
}
