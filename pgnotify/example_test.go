package pgnotify_test

import (
	"fmt"

	"pgevict/pgnotify"
)

// A decoder tells which rows a payload is about, of the tables and columns that matter.
func ExampleDecoder() {
	d := pgnotify.Decoder{Columns: func(_, table string) (columns []string, ok bool) {
		return []string{"id", "owner"}, table == "actions"
	}}
	for _, payload := range []string{
		`{"table":"actions","action":"UPDATE","data":{"id":42,"owner":7,"note":"x"},"old":{"id":42,"owner":6}}`,
		`{"table":"actions","action":"TRUNCATE"}`,
		`{"table":"others","action":"DELETE","data":{"id":1}}`,
	} {
		changes, _, err := d.Decode(pgnotify.Events, payload)
		if err != nil {
			fmt.Println(err)
		}
		for _, c := range changes {
			fmt.Println(c.Op, c.Table)
			for _, row := range c.Rows {
				was, _, _ := row.Old.Column("owner")
				is, _, _ := row.New.Column("owner")
				fmt.Println("  the owner was", was, "and is", is)
			}
		}
	}
	// Output:
	// update actions
	//   the owner was 6 and is 7
	// truncate actions
}
