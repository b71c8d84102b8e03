package pgnotify_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgevict/pgnotify"
)

// anything is a set of rules in which every table uses the columns of these names.
func anything(names ...string) func(schema, table string) ([]string, bool) {
	return func(string, string) ([]string, bool) { return names, true }
}

// decode decodes a payload without a catalog, and returns its change and the reason why it could not be read in words.
func decode(t *testing.T, source pgnotify.Source, payload string, names ...string) (change, reason string) {
	t.Helper()
	changes, known, err := (&pgnotify.Decoder{Columns: anything(names...)}).Decode(source, payload)
	if !known {
		t.Error("a table is unknown to a catalog that is not there")
	}
	var u *pgnotify.Unreadable
	if errors.As(err, &u) {
		reason = u.Reason
		if u.Detail == "" {
			t.Error("unreadable without a word")
		}
	} else if err != nil {
		t.Errorf("%v is not an Unreadable", err)
	}
	switch len(changes) {
	case 0:
		return "", reason
	case 1:
		return words(changes[0]), reason
	}
	t.Errorf("%d changes", len(changes))
	return "", ""
}

var unescapeCopy = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t", `\r`, "\r")

// captured yields the lines of a file of payloads from a real server: the payload and what it must mean.
func captured(t *testing.T, path string, yield func(payload, meaning, want string)) {
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	n := 0
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		columns := strings.Split(lines.Text(), "\t")
		if len(columns) != 3 {
			t.Fatalf("%s: %d columns in %q", path, len(columns), lines.Text())
		}
		n++
		if columns[2] != "NONE" {
			yield(unescapeCopy.Replace(columns[0]), columns[1], columns[2])
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if n < 30 {
		t.Errorf("%s: %d lines", path, n)
	}
}

// anyRowOf lists what cannot be read but for the name of its table: the change is any row of that.
var anyRowOf = map[string]string{
	`"users",U`:           "tcn unknown users",
	`"users",u,"id"='1'`:  "tcn unknown users",
	`"users",U,"id"='1`:   "tcn unknown users",
	`"users",U,"id"='1',`: "tcn unknown users",
	`"users",U,"id"'1'`:   "tcn unknown users",
	`"users",U,"id"=1`:    "tcn unknown users",
	`{"table":"users","action":"UPDATE","data":{"id":1`: "events unknown users",
}

// lessKnown lists the lines that are rejected for lack of a key: for the design they say less, and are no error.
var lessKnown = map[string]string{
	`{"table":"users","action":"UPDATE"}`:                    "events update users",
	`{"table":"users","action":"DELETE","data":null}`:        "events delete users",
	`{"table":"users","action":"UPDATE","data":{"id":null}}`: "events update users {}→{id NULL}",
	`{"table":"users","action":"UPDATE","data":{"ID":1}}`:    "events update users {}→{}",
}

func TestCapturedTCN(t *testing.T) {
	t.Parallel()
	ops := map[string]string{"I": "insert", "U": "update", "D": "delete"}
	captured(t, "testdata/tcn.tsv", func(payload, meaning, want string) {
		if want == "REJECT" {
			got, reason := decode(t, pgnotify.TCN, payload, "id")
			if got != anyRowOf[payload] || reason != "syntax" {
				t.Errorf("%s: %q means %q (%q), want %q", meaning, payload, got, reason, anyRowOf[payload])
			}
			return
		}
		var w struct {
			Table, Op string
			Key       [][2]string
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(want, "REJECT-RULE ")), &w); err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		names, image := []string{}, pgnotify.Image{}
		for _, k := range w.Key {
			names = append(names, k[0])
			image = append(image, pgnotify.Column{Name: k[0], Text: k[1]})
		}
		row := pgnotify.Row{Old: image}
		if w.Op == "I" {
			row = pgnotify.Row{New: image}
		}
		c := pgnotify.Change{Table: w.Table, Op: ops[w.Op], Source: pgnotify.TCN, Rows: []pgnotify.Row{row}}
		if got, reason := decode(t, pgnotify.TCN, payload, names...); got != words(c) || reason != "" {
			t.Errorf("%s: %q means\n%q (%q), want\n%q", meaning, payload, got, reason, words(c))
		}
	})
}

func TestCapturedEvents(t *testing.T) {
	t.Parallel()
	ok := regexp.MustCompile(`^OK table="(.*)" action=(\w+)(?: (\w+)=(.*))?$`)
	captured(t, "testdata/events.tsv", func(payload, meaning, want string) {
		if want == "REJECT" {
			expected, unreadable := lessKnown[payload]
			if !unreadable {
				expected = anyRowOf[payload]
			}
			got, reason := decode(t, pgnotify.Events, payload, "id")
			if got != expected || (reason == "") != unreadable {
				t.Errorf("%s: %q means %q (%q), want %q", meaning, payload, got, reason, expected)
			}
			return
		}
		m := ok.FindStringSubmatch(want)
		if m == nil {
			t.Fatalf("cannot read %q", want)
		}
		// The table, the operation and the key as the line states them; and every text of the row as encoding/json has it.
		var w struct{ Data map[string]any }
		numbers := json.NewDecoder(strings.NewReader(payload))
		numbers.UseNumber()
		if err := numbers.Decode(&w); err != nil {
			t.Fatalf("%s: %v", payload, err)
		}
		var names []string
		for name := range w.Data {
			names = append(names, name)
		}
		changes, _, err := (&pgnotify.Decoder{Columns: anything(names...)}).Decode(pgnotify.Events, payload)
		if err != nil || len(changes) != 1 || len(changes[0].Rows) != 1 {
			t.Fatalf("%s: %v, %v", meaning, changes, err)
		}
		c := changes[0]
		if c.Table != m[1] || c.Op != strings.ToLower(m[2]) {
			t.Errorf("%s: %s", meaning, words(c))
		}
		image := c.Rows[0].New
		if c.Op == pgnotify.Delete {
			image = c.Rows[0].Old
		}
		if m[3] != "" {
			if text, null, known := image.Column(m[3]); text != m[4] || null || !known {
				t.Errorf("%s: %s is %q, want %q", meaning, m[3], text, m[4])
			}
		}
		for name, value := range w.Data {
			if got, want := columnWords(image, name), valueWords(value); got != want {
				t.Errorf("%s: %s is %s, want %s", meaning, name, got, want)
			}
		}
	})
}

func columnWords(i pgnotify.Image, name string) string {
	text, null, known := i.Column(name)
	switch {
	case !known:
		return "unknown"
	case null:
		return "NULL"
	}
	return "text " + text
}

// valueWords puts what encoding/json has decoded into the words of columnWords.
func valueWords(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case string:
		return "text " + v
	case json.Number:
		return "text " + v.String()
	case bool:
		if v {
			return "text true"
		}
		return "text false"
	}
	return "unknown"
}

func TestDecodeTCN(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ payload, change, reason string }{
		{`"t",I,"id"='9007199254740993'`, "tcn insert t nil→{id=9007199254740993}", ""},
		{`"t",D,"id"='1',"x"='2'`, "tcn delete t {id=1}→nil", ""},
		{`"t",D,"x"='2'`, "tcn delete t {}→nil", ""},
		{`"t",U,"id"='1',"id"='2'`, "tcn update t {id=2}→nil", ""},
		{`"t",U,"ID"='1'`, "tcn update t {}→nil", ""},
		{`"T""able",U,"id"=''''`, `tcn update T"able {id='}→nil`, ""},
		{"\"t\",U,\"id\"='\x00\x01\xff'", "tcn update t {id=\x00\x01\xff}→nil", ""},
		{`"t"`, "tcn unknown t", "syntax"},
		{`"t",`, "tcn unknown t", "syntax"},
		{`"t",I`, "tcn unknown t", "syntax"},
		{`"t",I,`, "tcn unknown t", "syntax"},
		{`"t",I,"id"`, "tcn unknown t", "syntax"},
		{`"t",I,"id"=`, "tcn unknown t", "syntax"},
		{`"t",I,"id"='1"`, "tcn unknown t", "syntax"},
		{`"t",I,"id"='1''`, "tcn unknown t", "syntax"},
		{`"t",IX,"id"='1'`, "tcn unknown t", "syntax"},
		{`"t",I,"id"='1' `, "tcn unknown t", "syntax"},
		{`"t",I,id='1'`, "tcn unknown t", "syntax"},
		{`"t"x`, "", "syntax"},
		{`"`, "", "syntax"},
		{`""`, "", "syntax"},
		{`"""`, "", "syntax"},
		{` "t",I,"id"='1'`, "", "syntax"},
		{`{"table":"t"}`, "", "syntax"},
	} {
		if got, reason := decode(t, pgnotify.TCN, c.payload, "id"); got != c.change || reason != c.reason {
			t.Errorf("%q means\n%q (%q), want\n%q (%q)", c.payload, got, reason, c.change, c.reason)
		}
	}
}

func TestColumnsThatNoRuleNamesAreNotKept(t *testing.T) {
	t.Parallel()
	c := columns{"other": {"id"}}
	for source, payload := range map[pgnotify.Source]string{pgnotify.TCN: `"t",I,"id"='1'`, pgnotify.Events: `{"table":"t"}`} {
		changes, known, err := (&pgnotify.Decoder{Columns: c.ask}).Decode(source, payload)
		if len(changes) != 0 || !known || err != nil {
			t.Errorf("%v %v %v", changes, known, err)
		}
	}
	if got := c.tables(); !slices.Equal(got, []string{"other"}) {
		t.Error(got)
	}
}
