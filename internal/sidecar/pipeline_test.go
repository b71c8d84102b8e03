package sidecar

import (
	"testing"

	"pgevict/internal/history"
	"pgevict/pgnotify"
	"pgevict/rules"
)

// TestEveryRowGivesTargets holds what the pipeline rests on: whatever a message says of its rows, each of them gives the
// targets of its table, also where the rules use no column at all, and so does the message after it.
func TestEveryRowGivesTargets(t *testing.T) {
	t.Parallel()
	set, err := rules.Parse("rules", []byte(`rules: [{table: t, keys: ["all:t", "page:*"]}, {table: u, keys: ["u:{id}"]}]`))
	if err != nil {
		t.Fatal(err)
	}
	for _, payload := range []string{
		`"t",I,"id"='1'`, `"t",U,"id"='1'`, `"t",D,"id"='1'`, `"t",U`,
		`{"table":"t","action":"INSERT","data":{"id":1}}`, `{"table":"t","action":"INSERT","data":{}}`,
		`{"table":"t","action":"UPDATE","data":{"id":1}}`, `{"table":"t","action":"UPDATE","data":{"id":1},"old":{"id":1}}`,
		`{"table":"t","action":"UPDATE","data":[{},{}],"old":[{}]}`, `{"table":"t","action":"DELETE","data":{"id":1}}`,
		`{"table":"t","action":"TRUNCATE"}`, `{"table":"t"}`, `{"table":"t","data":[]}`, `{"table":"t","action":"DELETE","data":7}`,
	} {
		source := pgnotify.TCN
		if payload[0] == '{' {
			source = pgnotify.Events
		}
		d := pgnotify.Decoder{Columns: set.Columns}
		for turn := range 3 { // the first without room, the others with what the last left
			changes, _, _ := d.Decode(source, payload)
			if len(changes) != 1 {
				t.Fatalf("%s: %d changes", payload, len(changes))
			}
			got := map[string]bool{}
			for _, target := range history.Explain(set, changes[0]).Targets {
				got[target.Kind+" "+target.Key] = true
			}
			if len(got) != 2 || !got["key all:t"] || !got["pattern page:*"] {
				t.Errorf("%s, turn %d: %v", payload, turn, got)
			}
			_, _, _ = d.Decode(pgnotify.TCN, `"u",I,"id"='1'`)
		}
	}
}
