package pgnotify

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var fuzzed = Decoder{Columns: func(string, string) ([]string, bool) { return []string{"id", "a b", `q"`}, true }}

// check looks at what holds for every change, whatever the payload.
func check(t *testing.T, source Source, payload string) {
	changes, known, err := fuzzed.Decode(source, payload)
	if !known || len(changes) > 1 || len(changes) == 0 && err == nil {
		t.Fatalf("%d changes, %v, %v", len(changes), known, err)
	}
	for _, c := range changes {
		if c.Table == "" || c.Source != source {
			t.Errorf("%+v", c)
		}
		if err != nil && (len(c.Rows) > 0 || c.Changed != nil) {
			t.Errorf("unreadable, and still: %+v", c)
		}
		for _, row := range c.Rows {
			if row.Old == nil && row.New == nil {
				t.Error("a row that neither was nor is")
			}
			for _, image := range []Image{row.Old, row.New} {
				for i, column := range image {
					if !slices.Contains([]string{"id", "a b", `q"`}, column.Name) || column.Null && column.Text != "" {
						t.Errorf("column %+v", column)
					}
					if slices.ContainsFunc(image[i+1:], func(c Column) bool { return c.Name == column.Name }) {
						t.Errorf("%q comes twice", column.Name)
					}
				}
			}
		}
	}
}

func FuzzTCN(f *testing.F) {
	f.Add("t", "id", "1", "a b", "it's")
	f.Add(`t"`, `q"`, "'", "id", "")
	f.Add("t\x00", "id", "\n\xff", "id", "2")
	f.Fuzz(func(t *testing.T, table, name1, value1, name2, value2 string) {
		check(t, TCN, table)
		// As tcn writes it, it comes back as it was.
		payload := quote(table, `"`) + ",U," + quote(name1, `"`) + "=" + quote(value1, "'") + "," + quote(name2, `"`) + "=" + quote(value2, "'")
		check(t, TCN, payload)
		check(t, TCN, payload[:len(payload)/2])
		names := func(string, string) ([]string, bool) { return []string{name1, name2}, true }
		changes, _, err := (&Decoder{Columns: names}).Decode(TCN, payload)
		if table == "" {
			if err == nil {
				t.Error("a table without a name")
			}
			return
		}
		if err != nil || len(changes) != 1 || changes[0].Table != table || len(changes[0].Rows) != 1 {
			t.Fatalf("%q: %+v, %v", payload, changes, err)
		}
		old := changes[0].Rows[0].Old
		if name1 == name2 {
			value1 = value2
		}
		if text, _, known := old.Column(name1); text != value1 || !known {
			t.Errorf("%q is %q, want %q", name1, text, value1)
		}
		if text, _, known := old.Column(name2); text != value2 || !known {
			t.Errorf("%q is %q, want %q", name2, text, value2)
		}
	})
}

func quote(s, quote string) string { return quote + strings.ReplaceAll(s, quote, quote+quote) + quote }

func FuzzEvent(f *testing.F) {
	for _, seed := range []string{
		`{"table":"t","action":"UPDATE","data":{"id":1},"old":[{"id":2},{"a b":"\ud83d\ude00"}],"changed":["id"],"pinned":true}`,
		`{"table":"t","action":"UPDATE","pinned":true,"changed":["a b"],"columns":{"id":[1,null],"a b":["x",{}]},"old_columns":{"a b":[2,"\ud83d"]}}`,
		`{"columns":{"id":[1],"z":[[]]},"old":{"id":2},"changed":[],"action":"UPDATE","pinned":true,"table":"t"}`,
		`{"table":"t","action":"TRUNCATE"}`, `{"table":"t","data":[{"id":[{"x":null}]}]`, `{"schema":"s","table":"t","old":{}}`, `[]`, ``,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) { check(t, Events, payload) })
}

// FuzzJSON holds the reader against encoding/json, which decides what is JSON, and what its strings and numbers are.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a":1,"a":"x","b":"\u00e9\\"}`, ` {"a" : -0.1E+5 , "b":[1,{"c":{}}] } `, `{"":""}`, `{"a":"\ud83d\ude00"}`, `{"a":"\uD83D"}`,
		`{}`, `{"a":}`, `{"a":1,}`, `{"a":01}`, `{"a":1.}`, `{"a":.5}`, `{"a":-}`, `{"a":1e}`, `{"a":tru}`, `{"a":nullx}`, `{"a":[1,]}`, `{"a" 1}`,
		`{"a":[}`, `{"a":[[],{},""]}`, "{\"a\":\"\t\"}", `{"a":"\u00g0"}`, `{`, `{"a":"` + "\x7f\u2028" + `"}`, "{}\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || strings.Count(s, "[")+strings.Count(s, "{") > 9000 {
			return // encoding/json goes 10000 deep
		}
		got := map[string]string{}
		text := &jsonText{s: s}
		name, more, ok := text.member(true)
		for ; more && ok; name, more, ok = text.member(false) {
			var v jsonValue
			if v, ok = text.value(); !ok {
				break
			}
			if key, whole := name.text(); whole {
				got[key] = said(v)
			}
		}
		ok = ok && text.space() == 0 && text.i == len(text.s)
		want := json.Valid([]byte(s)) && strings.HasPrefix(strings.TrimLeft(s, " \t\r\n"), "{")
		if ok != want {
			t.Fatalf("%q: %v, encoding/json says %v", s, ok, want)
		}
		if !ok || strings.Contains(s, `\u`) && strings.ContainsAny(s, "dD") { // halves of pairs, which are replaced there
			return
		}
		var members map[string]any
		numbers := json.NewDecoder(bytes.NewReader([]byte(s)))
		numbers.UseNumber()
		if err := numbers.Decode(&members); err != nil {
			t.Fatal(err)
		}
		wanted := map[string]string{}
		for name, v := range members {
			switch v := v.(type) {
			case string:
				wanted[name] = "text " + v
			case json.Number:
				wanted[name] = "text " + v.String()
			default:
				wanted[name] = "other"
			}
		}
		if !maps.Equal(got, wanted) {
			t.Errorf("%q: %q, want %q", s, got, wanted)
		}
	})
}

func said(v jsonValue) string {
	switch v.kind {
	case '"':
		text, _ := v.text()
		return "text " + text
	case 0:
		return "text " + v.raw
	}
	return "other"
}
