package triggers

import (
	"embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

//go:embed sql
var files embed.FS

// place is a text of a body that depends on the table. In the body it stands as {name}. The server fills it in with
// format(), whose arguments functions.sql lists in the order of these places.
type place struct {
	name string
	verb string // of format(): s as it stands, L as a literal
	what string
}

// functionPlaces are those of the trigger functions.
//
// The bodies keep to this: whatever goes wrong, the write does not fail, and the message is one that says less. Most
// statements write one row, so what is done for one is as little as can be: one query, of few functions, since to set up
// each costs more than to call it; names with their schema rather than a search_path; and no snapshot for each query (the
// functions are STABLE), which the transition tables do not need.
var functionPlaces = []place{
	{"table", "s", "its name, for a comment"},
	{"any_row", "L", "the message that says: any row"},
	{"channel", "s", "a literal"},
	{"skip_unchanged", "s", "true: rows that stay as they were need not be sent"},
	{"values", "s", "the values of the row that is called r"},
	{"old_values", "s", "the values of the row that is called o"},
	{"new_json", "s", "the JSON of the row that is called NEW"},
	{"old_json", "s", "the JSON of the row that is called OLD"},
	{"head", "L", "the beginning of a message with rows"},
	{"fast_query", "s", "the query for many rows, many_*.sql, of the values"},
	{"exact_query", "s", "the same for what the fast one cannot do: of JSON"},
	{"one_row", "L", "the message with one row, for format()"},
	{"one_update", "L", "the message with a new and an old row, for format()"},
}

// manyPlaces are those of the queries for many rows, which are themselves a place of the functions. The queries make
// the messages: any_row of too many rows, and after one with one row was too long; none at all, which is null, if not all
// values are in the arrays.
//
// A message about more than a thousand rows has each column as a list: names are not repeated, and Postgres makes text of
// an array faster than of a row. What did not change in any of the rows is sent once there, and one value that all rows
// have is a list of one. An array is cut in two steps, since to find where a part begins takes longer the farther it is.
// How many rows a message has room for is told by 50 of them at the beginning, in the middle and at the end. Arrays are
// compared as bytes (*=).
var manyPlaces = []place{
	{"arrays", "s", "the columns of the new rows, as arrays"},
	{"old_arrays", "s", "the columns of the old rows, as arrays"},
	{"whole", "s", "whether all values of the new rows are in the arrays"},
	{"both_whole", "s", "whether all values of both are"},
	{"differ", "s", "whether each column changed in any row"},
	{"changed", "s", "the names of those that did"},
	{"sample", "s", "the part of the arrays that is a sample"},
	{"ten_messages", "s", "the part of the arrays for ten messages"},
	{"one_message", "s", "the part of those for one"},
	{"lists", "s", "what is in them, as lists"},
	{"old_lists", "s", "what is in them of the old rows, as lists"},
	{"to_send", "s", "whether a message is to be sent"},
	{"rows", "s", "what is in them, as rows"},
	{"old_rows", "s", "what is in them of the old rows, as rows"},
	{"even", "s", "whether each column has one value in all new rows"},
	{"columns", "s", "of r"},
	{"max_rows", "s", "the most rows that are sent"},
}

// placeholder is a place in a file of SQL.
var placeholder = regexp.MustCompile(`\{([a-z_]+)\}`)

// fill puts texts into the places of a file. A place that has none is an error, so that no misspelling reaches a server.
func fill(text string, with func(name string) (string, bool)) (string, error) {
	var unknown []string
	filled := placeholder.ReplaceAllStringFunc(text, func(place string) string {
		name := place[1 : len(place)-1]
		by, ok := with(name)
		if !ok {
			unknown = append(unknown, place)
		}
		return by
	})
	if len(unknown) > 0 {
		return "", fmt.Errorf("there is no place %s", strings.Join(unknown, ", "))
	}
	return filled, nil
}

// body turns the body of a function, or a query in it, into what format() takes. {bulk} is the end that two of them share.
func body(name, text, bulk string) (string, error) {
	places := functionPlaces
	if strings.HasPrefix(name, "many_") {
		places = manyPlaces
	}
	if strings.Contains(text+bulk, "%") {
		return "", fmt.Errorf("body %s: format() would take its %% for a place", name)
	}
	text = strings.Replace(text, "{bulk}\n", "\n"+bulk, 1)
	text, err := fill(text, func(name string) (string, bool) {
		n := slices.IndexFunc(places, func(p place) bool { return p.name == name })
		if n < 0 {
			return "", false
		}
		return fmt.Sprintf("%%%d$%s", n+1, places[n].verb), true
	})
	if err != nil {
		return "", fmt.Errorf("body %s: %w", name, err)
	}
	return "\n" + text, nil
}

// bodies is the bodies as the rows of a query, name and text.
func bodies() (string, error) {
	entries, err := files.ReadDir("sql/bodies")
	if err != nil {
		return "", err
	}
	bulk := read("bodies/bulk.sql")
	var rows []string
	for _, entry := range entries {
		name := strings.TrimSuffix(entry.Name(), ".sql")
		if name == "bulk" {
			continue
		}
		text, err := body(name, read("bodies/"+entry.Name()), bulk)
		if err != nil {
			return "", err
		}
		rows = append(rows, fmt.Sprintf("('%s', $body$%s$body$)", name, text))
	}
	return "VALUES\n" + strings.Join(rows, ",\n"), nil
}

// read returns a file of SQL.
func read(name string) string {
	text, err := files.ReadFile("sql/" + name)
	if err != nil {
		panic(err) // it is part of the program
	}
	return string(text)
}
