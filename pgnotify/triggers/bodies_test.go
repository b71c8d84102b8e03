package triggers

import (
	"strings"
	"testing"
)

func TestBodyRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"row", "BEGIN {head} {heda}", "there is no place {heda}"},
		{"row", "BEGIN {lists}", "there is no place {lists}"},       // of the queries for many rows
		{"many_update", "{any_row}", "there is no place {any_row}"}, // of the functions
		{"row", "RAISE 'x %', y", "format()"},
	} {
		if text, err := body(c.name, c.text, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v, want %q", c.text, text, err, c.want)
		}
	}
	text, err := body("update", "a {head} b {channel} '{}' {bulk}\n", "c {any_row}\n")
	if want := "\na %9$L b %3$s '{}' \nc %2$L\n"; text != want || err != nil {
		t.Errorf("%q, %v, want %q", text, err, want)
	}
}

// Each place is in some body, and each body has nothing else.
func TestPlacesAreUsed(t *testing.T) {
	t.Parallel()
	all, err := bodies()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := files.ReadDir("sql/bodies")
	if err != nil {
		t.Fatal(err)
	}
	var functions, many string
	for _, e := range entries {
		if text := read("bodies/" + e.Name()); strings.HasPrefix(e.Name(), "many_") {
			many += text
		} else {
			functions += text
		}
	}
	for _, p := range functionPlaces {
		if !strings.Contains(functions, "{"+p.name+"}") {
			t.Errorf("no function has the place %s, %s", p.name, p.what)
		}
	}
	for _, p := range manyPlaces {
		if !strings.Contains(many, "{"+p.name+"}") {
			t.Errorf("no query for many rows has the place %s, %s", p.name, p.what)
		}
	}
	if placeholder.MatchString(all) {
		t.Errorf("a place is left over: %s", placeholder.FindString(all))
	}
}
