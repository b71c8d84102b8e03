package rules_test

import (
	"fmt"

	"pgevict/rules"
)

// row is what a message says of a row: the columns that it has.
type row map[string]string

func (r row) Column(name string) (text string, null, known bool) {
	text, known = r[name]
	return text, false, known
}

func ExampleSet_Match() {
	set, err := rules.Parse("rules.yaml", []byte(`
rules:
  - name: action
    table: actions
    keys: ["action:{id}", "owner:{owner_id}:actions"]
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	inserted := rules.Change{Table: "actions", Op: rules.Insert, Rows: []rules.Row{{New: row{"id": "7", "owner_id": "42"}}}}
	for target := range set.Match(inserted) {
		fmt.Println(target.Kind, target.Key)
	}
	// Of a row that was deleted only the primary key is told: the other template widens, and the reason says why.
	deleted := rules.Change{Table: "actions", Op: rules.Delete, Rows: []rules.Row{{Old: row{"id": "7"}}}}
	for target, why := range set.Match(deleted) {
		fmt.Printf("%s %s %q\n", target.Kind, target.Key, why)
	}
	// Output:
	// key action:7
	// key owner:42:actions
	// key action:7 ""
	// pattern owner:*:actions "column"
}
