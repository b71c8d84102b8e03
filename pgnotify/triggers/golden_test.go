package triggers_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"pgevict/pgnotify/triggers"
)

var update = flag.Bool("update", false, "write what the server made to testdata")

// TestFunctions holds what a server makes of the bodies for one table against testdata, where it can be read.
func TestFunctions(t *testing.T) {
	t.Parallel()
	const actions = `CREATE TABLE actions (id bigint PRIMARY KEY, "order" int, type text, descriptor jsonb, actionable_id bigint,
		actionable_type text, platform text, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz);`
	for file, table := range map[string]triggers.Table{
		"testdata/actions.sql":         {Name: "actions", Columns: []string{"actionable_id", "actionable_type"}},
		"testdata/actions_changed.sql": {Name: "actions", Columns: []string{"platform", "type"}, SkipUnchanged: true},
	} {
		w := wire(t, actions, table)
		rows, err := w.ears.Query(t.Context(), `
			SELECT rtrim(pg_get_functiondef(oid), E'\n') FROM pg_proc WHERE pronamespace = 'pgevict'::regnamespace ORDER BY proname`)
		if err != nil {
			t.Fatal(err)
		}
		var functions []string
		for rows.Next() {
			var text string
			if err := rows.Scan(&text); err != nil {
				t.Fatal(err)
			}
			functions = append(functions, text)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(functions, ";\n\n") + ";\n"
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: the functions have changed; go test -run TestFunctions -update, and read the difference:\n%s", file, got)
		}
	}
}
