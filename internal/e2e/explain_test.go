package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// explained is a line of explain -json or of tail.
type explained struct {
	Table, Schema, Op, Source string
	Rows                      int
	Targets                   []struct{ Rule, Kind, Key string }
	Error, Payload            string
}

func readExplained(t *testing.T, line string) explained {
	t.Helper()
	var e explained
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return e
}

// keys gives the targets, the patterns marked as such.
func (e explained) keys() []string {
	keys := []string{}
	for _, target := range e.Targets {
		if target.Kind == "pattern" {
			keys = append(keys, "pattern "+target.Key)
		} else {
			keys = append(keys, target.Key)
		}
	}
	slices.Sort(keys)
	return keys
}

func TestExplainJSON(t *testing.T) {
	t.Parallel()
	environ := []string{rulesFile(t, `
rules:
  - {name: action, table: actions, keys: ["action:{id}"]}
  - {name: lists, table: actions, keys: ["actions:list:*"]}
`)}
	const (
		payload = `"actions",U,"id"='1'`
		want    = `{"table":"actions","schema":"","op":"update","source":"tcn","rows":1,"targets":[{"rule":"action","kind":"key","key":"action:1"},{"rule":"lists","kind":"pattern","key":"actions:list:*"}]}` + "\n"
		event   = `{"table":"actions","schema":"public","action":"DELETE","data":[{"id":1},{"id":"<&>"}]}`
		events  = `{"table":"actions","schema":"public","op":"delete","source":"events","rows":2,"targets":[{"rule":"action","kind":"key","key":"action:1"},{"rule":"action","kind":"key","key":"action:<&>"},{"rule":"lists","kind":"pattern","key":"actions:list:*"}]}` + "\n"
	)
	for name, test := range map[string]struct {
		args   []string
		stdin  string
		want   string
		status int
	}{
		"an argument":         {[]string{payload}, "", want, 0},
		"two":                 {[]string{payload, event}, "", want + events, 0},
		"the channel is said": {[]string{"-channel", "tcn", payload}, "", want, 0},
		"lines":               {nil, payload + "\n" + event + "\n", want + events, 0},
		"no end of the line":  {nil, payload, want, 0},
		"nothing":             {nil, "", "", 0},
		"unreadable":          {[]string{"hello", payload}, "", `{"error":"tcn: it does not begin with a table's name in double quotes and a comma","payload":"hello"}` + "\n" + want, 1},
		"the wrong channel":   {[]string{"-channel", "events", payload}, "", `{"error":"events: not a JSON object: it goes wrong at byte 0","payload":"\"actions\",U,\"id\"='1'"}` + "\n", 1},
		"no rule":             {[]string{`"others",I,"id"='1'`}, "", `{"table":"others","schema":"","op":"insert","source":"tcn","rows":1,"targets":[]}` + "\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, status := command(t, environ, test.stdin, append([]string{"explain", "-json"}, test.args...)...)
			if stdout != test.want || status != test.status {
				t.Errorf("status %d, want %d; got\n%swant\n%s%s", status, test.status, stdout, test.want, stderr)
			}
		})
	}
	stdout, _, status := command(t, environ, "", "explain", payload)
	if status != 0 || !strings.Contains(stdout, "update of actions") || !strings.Contains(stdout, "action:1") || !strings.Contains(stdout, "actions:list:*") {
		t.Errorf("the text says %q", stdout)
	}
}

// TestExplainReach shows what tags, fields and refreshes look like, exact and widened.
func TestExplainReach(t *testing.T) {
	t.Parallel()
	environ := []string{rulesFile(t, `
rules:
  - name: action
    table: actions
    keys: ["action:{id}"]
    tags: ["tag:owner:{owner}"]
    fields: [{key: "actions:all", field: "{id}"}, {key: notes, field: "{note}"}]
    refresh: {query: "SELECT row_to_json(a) FROM actions a WHERE id = {id}"}
`)}
	for _, test := range []struct{ payload, targets, text string }{
		{`{"table":"actions","action":"INSERT","data":{"id":7,"owner":"<1>","note":""}}`,
			`[{"rule":"action","kind":"key","key":"action:7","refresh":true},{"rule":"action","kind":"tag","key":"tag:owner:<1>"},` +
				`{"rule":"action","kind":"field","key":"actions:all","field":"7"},{"rule":"action","kind":"field","key":"notes","field":""}]`,
			`insert of actions (events, rows: 1)
  key      action:7  (rule action; refreshed)
  tag      tag:owner:<1>  (rule action)
  field    actions:all 7  (rule action)
  field    notes   (rule action)
`},
		{`"actions",I,"note"='x'`,
			`[{"rule":"action","kind":"pattern","key":"action:*","widened":"column"},{"rule":"action","kind":"pattern","key":"tag:owner:*","widened":"column"},` +
				`{"rule":"action","kind":"key","key":"actions:all","widened":"column"},{"rule":"action","kind":"field","key":"notes","field":"x"}]`,
			`insert of actions (tcn, rows: 1)
  pattern  action:*  (rule action; the message lacks a column, or its text depends on the session that wrote it)
  pattern  tag:owner:*  (rule action; the message lacks a column, or its text depends on the session that wrote it)
  key      actions:all  (rule action; the message lacks a column, or its text depends on the session that wrote it)
  field    notes x  (rule action)
`},
	} {
		stdout, stderr, status := command(t, environ, "", "explain", "-json", test.payload)
		if _, targets, _ := strings.Cut(strings.TrimSuffix(stdout, "}\n"), `"targets":`); targets != test.targets || status != 0 {
			t.Errorf("%s: status %d, %s\ngot  %s\nwant %s", test.payload, status, stderr, targets, test.targets)
		}
		if stdout, _, _ = command(t, environ, "", "explain", test.payload); stdout != test.text {
			t.Errorf("%s: got\n%swant\n%s", test.payload, stdout, test.text)
		}
	}
}

// vector is a payload that a real server sent, or one that must be refused.
type vector struct {
	payload, means, want string
	table, op            string
	columns              map[string]any // the columns with their values: a string, nil, or errUnknown for what is no text
}

func readVectors(t *testing.T, name string) []vector {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "pgnotify", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	unescape := strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t", `\r`, "\r")
	var vectors []vector
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if strings.HasPrefix(line, "#") || len(fields) != 3 || fields[2] == "NONE" {
			continue
		}
		vectors = append(vectors, vector{payload: unescape.Replace(fields[0]), means: fields[1], want: fields[2]})
	}
	return vectors
}

// expect reads what a line of tcn.tsv states, and of events.tsv what its payload says, by another decoder.
func (v *vector) expect(t *testing.T, source string) {
	t.Helper()
	v.columns = map[string]any{}
	if source == "tcn" {
		var want struct {
			Table, Op string
			Key       [][2]string
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(v.want, "REJECT-RULE ")), &want); err != nil {
			t.Fatalf("%s: %v", v.want, err)
		}
		v.table, v.op = want.Table, map[string]string{"I": "insert", "U": "update", "D": "delete"}[want.Op]
		for _, column := range want.Key {
			v.columns[column[0]] = column[1]
		}
		return
	}
	var want struct {
		Table, Action string
		Data          map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(v.payload), &want); err != nil {
		t.Fatalf("%s: %v", v.payload, err)
	}
	v.table, v.op = want.Table, strings.ToLower(want.Action)
	for name, raw := range want.Data {
		var value any
		if err := json.Unmarshal(raw, &value); err != nil {
			t.Fatal(err)
		}
		switch value := value.(type) {
		case string:
			v.columns[name] = value
		case nil:
			v.columns[name] = nil
		case map[string]any, []any:
			v.columns[name] = errUnknown
		default:
			v.columns[name] = string(raw) // a number's own text, or true or false
		}
	}
	if !strings.Contains(v.want, fmt.Sprintf("table=%q action=%s", v.table, want.Action)) {
		t.Errorf("the line states %s", v.want)
	}
	if id, ok := v.columns["id"].(string); ok && !strings.HasSuffix(v.want, " id="+id) {
		t.Errorf("the line states %s", v.want)
	}
}

var errUnknown = fmt.Errorf("no text")

// rules gives a rule with a template for each column.
func (v *vector) rules() string {
	quote := func(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
	var keys []string
	for name := range v.columns {
		keys = append(keys, "k:"+strings.NewReplacer("{", "{{", "}", "}}", "*", `\*`).Replace(name)+":{"+quote(name)+"}")
	}
	slices.Sort(keys)
	text, _ := json.Marshal(map[string]any{"rules": []any{map[string]any{"table": quote(v.table), "keys": keys}}}) // JSON is YAML
	return string(text)
}

func (v *vector) wantKeys(source string) []string {
	keys := []string{}
	for name, value := range v.columns {
		wide := "pattern k:" + strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, "^", `\^`).Replace(name) + ":*"
		if value == errUnknown {
			keys = append(keys, wide)
			continue
		}
		if text, ok := value.(string); ok {
			keys = append(keys, "k:"+name+":"+text)
		}
		if source == "events" && v.op == "update" { // what it was before is not said, and no catalog knows the key
			keys = append(keys, wide)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// TestExplainTheVectors puts what real servers sent through explain.
func TestExplainTheVectors(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"tcn", "events"} {
		vectors := readVectors(t, source+".tsv")
		if len(vectors) < 20 {
			t.Fatalf("only %d vectors", len(vectors))
		}
		for _, v := range vectors {
			t.Run(source+": "+v.means[:min(len(v.means), 60)], func(t *testing.T) {
				t.Parallel()
				if v.want == "REJECT" {
					rejected(t, source, v)
					return
				}
				v.expect(t, source)
				stdout, stderr, status := command(t, []string{rulesFile(t, v.rules())}, "", "explain", "-json", "-channel", source, v.payload)
				if status != 0 {
					t.Fatalf("status %d: %s%s", status, stdout, stderr)
				}
				e := readExplained(t, stdout)
				if e.Table != v.table || e.Op != v.op || e.Source != source || e.Rows != 1 {
					t.Errorf("got %s", stdout)
				}
				if got, want := e.keys(), v.wantKeys(source); !slices.Equal(got, want) {
					t.Errorf("got keys\n%q\nwant\n%q", got, want)
				}
			})
		}
	}
}

// rejected wants an error for a line that must be refused or, where the name of the table can be read, any row of it;
// or no key at all, where the row has none.
func rejected(t *testing.T, source string, v vector) {
	t.Helper()
	rules := `rules: [{table: users, keys: ["user:{id}"]}]`
	stdout, _, status := command(t, []string{rulesFile(t, rules)}, "", "explain", "-json", "-channel", source, v.payload)
	e := readExplained(t, stdout)
	noKey := strings.Contains(v.payload, `{"id":null}`)
	switch {
	case status == 1 && e.Error != "" && e.Payload == v.payload:
	case status == 0 && e.Table == "users" && slices.Equal(e.keys(), []string{"pattern user:*"}):
	case status == 0 && noKey && e.Op == "update" && !slices.ContainsFunc(e.keys(), func(key string) bool { return !strings.HasPrefix(key, "pattern") }):
	default:
		t.Errorf("status %d: %s", status, stdout)
	}
}
