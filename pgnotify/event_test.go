package pgnotify_test

import (
	"strings"
	"testing"

	"pgevict/pgnotify"
)

func TestDecodeEvents(t *testing.T) {
	t.Parallel()
	digits := strings.Repeat("1234567890", 4)
	deep := strings.Repeat(`[{"a":`, 1300) + "1" + strings.Repeat("}]", 1300)
	for _, c := range []struct{ payload, change, reason string }{
		// Texts.
		{`{"table":"t","action":"INSERT","data":{"id":9007199254740993,"n":` + digits + `.` + digits + `}}`,
			"insert t nil→{id=9007199254740993 n=" + digits + "." + digits + "}", ""},
		{`{"table":"t","action":"INSERT","data":{"id":-0.10e+5,"n":true}}`, "insert t nil→{id=-0.10e+5 n=true}", ""},
		{`{"table":"t","action":"INSERT","data":{"id":"\u00e9\uD83D\uDE00\u0000\/\b\f\n\r\t\"\\"}}`,
			"insert t nil→{id=é😀\x00/\b\f\n\r\t\"\\}", ""},
		{`{"table":"t","action":"INSERT","data":{"id":"\ud83d","n":1}}`, "insert t nil→{n=1}", ""},
		{`{"table":"t","action":"INSERT","data":{"id":"\ude00","n":1}}`, "insert t nil→{n=1}", ""},
		{`{"table":"t","action":"INSERT","data":{"id":"\ud83dx","n":1}}`, "insert t nil→{n=1}", ""},
		{`{"table":"t","action":"INSERT","data":{"id":"\ud83d\ud83d\ude00","n":1}}`, "insert t nil→{n=1}", ""},
		{`{"table":"t","action":"INSERT","data":{"id":"\ud83d\\u0041","n":1}}`, "insert t nil→{n=1}", ""},
		{`{"table":"t","action":"INSERT","data":{"\u0069d":1,"n":{},"x":2}}`, "insert t nil→{id=1}", ""},
		{`{"table":"\u0074","data":[]}`, "unknown t", ""},
		{`{"table":"t","action":"INSERT","data":{"id":" a ","n":""}}`, "insert t nil→{id= a  n=}", ""},

		// Of a repeated member the last counts.
		{`{"table":"t","action":"INSERT","data":{"id":1,"id":2}}`, "insert t nil→{id=2}", ""},
		{`{"table":"t","action":"INSERT","data":{"id":1,"id":{"id":3}}}`, "insert t nil→{}", ""},
		{`{"table":"t","action":"INSERT","data":{"id":1,"id":[4]}}`, "insert t nil→{}", ""},
		{`{"table":"t","action":"INSERT","data":{"id":1,"id":null}}`, "insert t nil→{id NULL}", ""},
		{`{"table":"t","action":"INSERT","data":{"id":null,"id":1}}`, "insert t nil→{id=1}", ""},
		{`{"table":"t","action":"INSERT","data":{"id":1,"id":"\ud800"}}`, "insert t nil→{}", ""},
		{`{"table":"x","table":"t","action":"DELETE","action":"INSERT","data":{"id":1},"data":{"id":2}}`, "insert t nil→{id=2}", ""},
		{`{"table":"t","table":1,"action":"INSERT"}`, "", "foreign"},
		{`{"table":"t","action":"INSERT","action":"insert","data":{"id":2}}`, "unknown t {}→{id=2}", ""},
		{`{"table":"t","schema":"s","schema":null,"action":"INSERT","data":{"id":2}}`, "insert t nil→{id=2}", ""},

		// Names are matched exactly, in any order.
		{`{"data":{"id":1},"action":"DELETE","table":"t"}`, "delete t {id=1}→nil", ""},
		{` { "data" : { "ID" : 1 , "Id":2,"id":3 } , "Action":"DELETE", "TABLE":"x", "table" : "t"	}` + "\r\n", "unknown t {}→{id=3}", ""},
		{`{"Table":"t","action":"DELETE"}`, "", "foreign"},
		{`{"table":"t","schema":"s","action":"DELETE","data":{"id":1}}`, "delete s.t {id=1}→nil", ""},

		// The operation, and what goes with it.
		{`{"table":"t","data":{"id":1}}`, "unknown t {}→{id=1}", ""},
		{`{"table":"t","action":null,"data":{"id":1}}`, "unknown t {}→{id=1}", ""},
		{`{"table":"t","action":"insert","data":{"id":1}}`, "unknown t {}→{id=1}", ""},
		{`{"table":"t","action":"TRUNCATE"}`, "truncate t", ""},
		{`{"table":"t","action":"TRUNCATE","data":{"id":1},"old":7}`, "truncate t", ""},
		{`{"table":"t","action":"UPDATE"}`, "update t", ""},
		{`{"table":"t","action":"UPDATE","data":null}`, "update t", ""},
		{`{"table":"t","action":"UPDATE","data":[]}`, "update t", ""},
		{`{"table":"t","action":"DELETE","data":[]}`, "delete t", ""},
		{`{"table":"t","action":"INSERT","data":{}}`, "insert t nil→{}", ""},

		// Old rows: as many as new ones are paired by position.
		{`{"table":"t","action":"UPDATE","data":{"id":1},"old":{"id":2}}`, "update t {id=2}→{id=1}", ""},
		{`{"table":"t","action":"UPDATE","data":[{"id":1},{"id":2}],"old":[{"id":3},{"id":4}]}`, "update t {id=3}→{id=1} {id=4}→{id=2}", ""},
		{`{"table":"t","action":"UPDATE","data":[{"id":1}],"old":{"id":2}}`, "update t {id=2}→{id=1}", ""},
		{`{"table":"t","action":"UPDATE","data":[{"id":1},{"id":2}],"old":[{"id":3}]}`, "update t {}→{id=1} {}→{id=2} {id=3}→{}", ""},
		{`{"table":"t","action":"UPDATE","old":{"id":3}}`, "update t", ""},
		{`{"table":"t","action":"UPDATE","data":{"id":1},"old":null}`, "update t {}→{id=1}", ""},
		{`{"table":"t","action":"UPDATE","data":{"id":1},"old":[]}`, "update t {}→{id=1}", ""},
		{`{"table":"t","action":"DELETE","old":{"id":1}}`, "delete t {id=1}→nil", ""},
		{`{"table":"t","action":"DELETE","data":[{"id":1},{"id":2}]}`, "delete t {id=1}→nil {id=2}→nil", ""},
		{`{"table":"t","action":"INSERT","data":[{"id":1},{"id":2}]}`, "insert t nil→{id=1} nil→{id=2}", ""},

		// What has changed.
		{`{"table":"t","action":"UPDATE","changed":["id","\u006e"]}`, "update t changed(id,n)", ""},
		{`{"table":"t","action":"UPDATE","changed":[]}`, "update t changed()", ""},
		{`{"table":"t","action":"UPDATE","changed":null}`, "update t", ""},
		{`{"table":"t","action":"UPDATE","changed":["id",1]}`, "update t", ""},
		{`{"table":"t","action":"UPDATE","changed":["\ud800"]}`, "update t", ""},
		{`{"table":"t","action":"UPDATE","changed":{"id":true}}`, "update t", ""},
		{`{"table":"t","action":"UPDATE","changed":["id"],"changed":"id"}`, "update t", ""},

		// Rows column by column.
		{`{"table":"t","action":"INSERT","columns":{"id":[1,"2",null],"n":["a",null,{}]}}`, "insert t nil→{id=1 n=a} nil→{id=2 n NULL} nil→{id NULL}", ""},
		{`{"table":"t","action":"DELETE","columns":{"x":[[1],{}],"id":[1,2]}}`, "delete t {id=1}→nil {id=2}→nil", ""},
		{`{"table":"t","action":"INSERT","columns":{"x":[1,2]}}`, "insert t nil→{} nil→{}", ""},
		{`{"table":"t","action":"UPDATE","columns":{"id":[1,2],"n":["a","b"]},"old_columns":{"id":[1,3]}}`, "update t {id=1}→{id=1 n=a} {id=3}→{id=2 n=b}", ""},
		{`{"columns":{"id":[1]},"action":"INSERT","table":"t"}`, "insert t nil→{id=1}", ""},
		{`{"table":"t","action":"INSERT","columns":{}}`, "insert t", ""},
		{`{"table":"t","action":"INSERT","columns":null}`, "insert t", ""},
		{`{"table":"t","action":"INSERT","columns":{"id":[]}}`, "insert t", ""},
		{`{"table":"t","action":"INSERT","columns":{"id":[1,2],"id":[3,4]}}`, "insert t nil→{id=3} nil→{id=4}", ""},
		{`{"table":"t","action":"INSERT","columns":{"id":[1]},"data":{"id":2}}`, "insert t nil→{id=2}", ""},
		{`{"table":"t","action":"INSERT","data":{"id":2},"columns":{"id":[1]}}`, "insert t nil→{id=1}", ""},
		// A list of one value stands for all rows.
		{`{"table":"t","action":"INSERT","columns":{"id":[1,2],"n":["a"]}}`, "insert t nil→{id=1 n=a} nil→{id=2 n=a}", ""},
		{`{"table":"t","action":"INSERT","columns":{"n":["a"],"x":[7],"id":[1,null]}}`, "insert t nil→{n=a id=1} nil→{n=a id NULL}", ""},
		{`{"table":"t","action":"INSERT","columns":{"id":[1],"x":[1,2]}}`, "insert t nil→{id=1} nil→{id=1}", ""},
		{`{"table":"t","action":"UPDATE","columns":{"n":["z"]},"old_columns":{"n":["a","b"]}}`, "update t {n=a}→{n=z} {n=b}→{n=z}", ""},
		{`{"table":"t","action":"UPDATE","columns":{"id":[1,2],"n":["y","z"]},"old_columns":{"n":["a"]}}`, "update t {n=a}→{id=1 n=y} {n=a}→{id=2 n=z}", ""},
		{`{"table":"t","action":"UPDATE","columns":{"n":["z"]},"old":[{"n":"a"},{"n":"b"}]}`, "update t {}→{n=z} {n=a}→{} {n=b}→{}", ""},
		{`{"table":"t","action":"INSERT","columns":{"id":[1,2,3],"n":["a","b"]}}`, "insert t", "rows"},
		{`{"table":"t","action":"INSERT","columns":{"n":["a","b"],"id":[1,2,3]}}`, "insert t", "rows"},
		{`{"table":"t","action":"INSERT","columns":{"id":[1,2],"n":[]}}`, "insert t", "rows"},
		{`{"table":"t","action":"INSERT","columns":{"id":[],"n":[1]}}`, "insert t", "rows"},
		{`{"table":"t","action":"INSERT","columns":{"id":1}}`, "insert t", "rows"},
		{`{"table":"t","action":"INSERT","columns":{"id":[1],"x":"y"}}`, "insert t", "rows"},
		{`{"table":"t","action":"INSERT","columns":[{"id":1}]}`, "insert t", "rows"},
		{`{"table":"t","action":"UPDATE","columns":{"id":[1]},"old_columns":7}`, "update t", "rows"},
		{`{"table":"t","action":"INSERT","columns":{"id":[1,}}`, "unknown t", "syntax"},
		{`{"table":"t","action":"INSERT","columns":{"id":[1]`, "unknown t", "syntax"},

		// What did not change was as it is, where texts are pinned.
		{`{"table":"t","action":"UPDATE","pinned":true,"changed":[],"data":[{"id":1,"n":"a"},{"id":2,"n":null}]}`,
			"update t changed() {id=1 n=a}→{id=1 n=a} {id=2 n NULL}→{id=2 n NULL}", ""},
		{`{"table":"t","action":"UPDATE","pinned":true,"changed":["n"],"data":{"id":1,"n":"a"}}`, "update t changed(n) {id=1}→{id=1 n=a}", ""},
		{`{"table":"t","action":"UPDATE","pinned":true,"changed":["id"],"data":{"id":1,"n":"a"}}`, "update t changed(id) {n=a}→{id=1 n=a}", ""},
		{`{"table":"t","action":"UPDATE","changed":["n"],"columns":{"id":[1,2],"n":["a","b"]},"old_columns":{"n":["b",null]},"pinned":true}`,
			"update t changed(n) {n=b id=1}→{id=1 n=a} {n NULL id=2}→{id=2 n=b}", ""},
		{`{"table":"t","action":"UPDATE","pinned":true,"changed":["id"],"columns":{"id":[1,2],"n":["a","b"]},"old_columns":{"id":[1,3]}}`,
			"update t changed(id) {id=1 n=a}→{id=1 n=a} {id=3 n=b}→{id=2 n=b}", ""},
		{`{"table":"t","action":"UPDATE","pinned":true,"changed":[],"data":{"n":"a"},"old":{"n":"b"}}`, "update t changed() {n=b}→{n=a}", ""},
		{`{"table":"t","action":"UPDATE","pinned":true,"changed":[],"data":[{"id":1},{"id":2}],"old":[{"n":3}]}`, "update t changed() {}→{id=1} {}→{id=2} {n=3}→{}", ""},
		{`{"table":"t","action":"UPDATE","pinned":true,"data":{"id":1}}`, "update t {}→{id=1}", ""},
		{`{"table":"t","action":"UPDATE","changed":[],"data":{"id":1}}`, "update t changed() {}→{id=1}", ""}, // to another writer 1.0 is 1.00
		{`{"table":"t","action":"DELETE","pinned":true,"changed":[],"data":{"id":1}}`, "delete t changed() {id=1}→nil", ""},

		// Rows that are none: any row of the table, and nothing is said about columns.
		{`{"table":"t","action":"UPDATE","changed":[],"data":7}`, "update t", "rows"},
		{`{"table":"t","action":"UPDATE","data":"x"}`, "update t", "rows"},
		{`{"table":"t","action":"UPDATE","data":true}`, "update t", "rows"},
		{`{"table":"t","action":"UPDATE","data":[{"id":1},2]}`, "update t", "rows"},
		{`{"table":"t","action":"UPDATE","data":[null]}`, "update t", "rows"},
		{`{"table":"t","action":"UPDATE","data":[[{"id":1}]]}`, "update t", "rows"},
		{`{"table":"t","action":"UPDATE","data":{"id":1},"old":7}`, "update t", "rows"},

		// Broken JSON, with the table before it and without.
		{`{"table":"t","action":"UPDATE","changed":["id"],"data":{"id":1`, "unknown t", "syntax"},
		{`{"table":"t","schema":"s","data":{"id":1}`, "unknown s.t", "syntax"},
		{`{"table":"t"} x`, "unknown t", "syntax"},
		{`{"table":"t"}{}`, "unknown t", "syntax"},
		{`{"table":"t",}`, "unknown t", "syntax"},
		{`{"table":"t","n":01}`, "unknown t", "syntax"},
		{`{"table":"t","n":"\x"}`, "unknown t", "syntax"},
		{"{\"table\":\"t\",\"n\":\"\n\"}", "unknown t", "syntax"},
		{"{\"table\":\"t\"}\x00", "unknown t", "syntax"},
		{`{"action":"UPDATE","data":{"id":1`, "", "syntax"},
		{`{"table":"t`, "", "syntax"},
		{``, "", "syntax"},
		{`null`, "", "syntax"},
		{`"t"`, "", "syntax"},
		{`[{"table":"t"}]`, "", "syntax"},
		{`{}`, "", "foreign"},
		{`{"table":null}`, "", "foreign"},
		{`{"table":""}`, "", "foreign"},
		{`{"table":"\ud800"}`, "", "foreign"},
		{`{"data":{"table":"t"}}`, "", "foreign"},

		// However deep.
		{`{"x":` + deep + `,"table":"t","action":"INSERT","data":{"x":` + deep + `,"id":1}}`, "insert t nil→{id=1}", ""},
		{`{"table":"t","data":{"id":` + strings.Repeat("[", 8000), "unknown t", "syntax"},
		{strings.Repeat("[", 8000), "", "syntax"},
		{`{"table":"t","x":` + strings.Repeat("[", 4000) + strings.Repeat("]", 4000) + `}`, "unknown t", ""},
	} {
		want := c.change
		if want != "" {
			want = "events " + want
		}
		if got, reason := decode(t, pgnotify.Events, c.payload, "id", "n"); got != want || reason != c.reason {
			t.Errorf("%.200q means\n%q (%q), want\n%q (%q)", c.payload, got, reason, want, c.reason)
		}
	}
}
