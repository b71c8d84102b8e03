package e2e_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestTail prints real writes, and deletes nothing.
func TestTail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, oneTable+tcnTrigger("actions")+eventTrigger("actions"), oneRule)
	w.set("action:1")
	p := start(t, w.environ, "tail")
	p.logged("listening to Postgres")
	w.exec(`INSERT INTO actions VALUES (1, 'x')`)
	w.exec(`UPDATE actions SET note = 'y'`)
	w.exec(`DELETE FROM actions`)
	eventually(t, "six lines", func() bool { return len(p.Out.Lines()) == 6 })
	var got []string
	for _, line := range p.Out.Lines() {
		e := readExplained(t, line)
		got = append(got, strings.Join(append([]string{e.Source, e.Op, e.Table}, e.keys()...), " "))
	}
	slices.Sort(got)
	want := []string{
		"events delete actions action:1", "events insert actions action:1", "events update actions action:1",
		"tcn delete actions action:1", "tcn insert actions action:1", "tcn update actions action:1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if !w.has("action:1") {
		t.Error("tail has deleted a key")
	}
	if status := p.stop(); status != 0 {
		t.Errorf("status %d", status)
	}
}

// TestExplainWithTheCatalog asks a real database for what the payload alone does not say.
func TestExplainWithTheCatalog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, notifyEvent+`
		CREATE TABLE actions (id bigint PRIMARY KEY, owner bigint, done boolean);
		CREATE TABLE parts (id bigint, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
		CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
		CREATE TABLE times (at timestamptz PRIMARY KEY, ok boolean);`, `
rules:
  - {table: actions, keys: ["action:{id}", "owner:{owner}"]}
  - {table: parts, keys: ["part:{id}"]}
  - {table: times, keys: ["time:{at}", "ok:{ok}"]}`)
	for _, test := range []struct {
		payload, table string
		without, with  []string
	}{
		{`{"table":"actions","action":"UPDATE","data":{"id":1,"owner":2}}`, "actions",
			[]string{"action:1", "owner:2", "pattern action:*", "pattern owner:*"}, []string{"action:1", "owner:2", "pattern owner:*"}},
		{`{"table":"actions","action":"UPDATE","data":{"id":1,"owner":2},"old":{"id":1,"owner":3}}`, "actions",
			[]string{"action:1", "owner:2", "owner:3"}, []string{"action:1", "owner:2", "owner:3"}},
		{`"parts_eu",D,"id"='1',"region"='eu'`, "parts", []string{}, []string{"part:1"}},
		{`"times",I,"at"='2024-01-02 03:04:05+00',"ok"='t'`, "times",
			[]string{"ok:t", "time:2024-01-02 03:04:05+00"}, []string{"ok:true", "pattern time:*"}},
	} {
		for _, args := range [][]string{{"explain", "-json", test.payload}, {"explain", "-json", "-catalog", test.payload}} {
			stdout, stderr, status := command(t, w.environ, "", args...)
			want := test.without
			if len(args) == 4 {
				want = test.with
			}
			if status != 0 {
				t.Fatalf("%v: status %d: %s", args, status, stderr)
			}
			var e explained
			if err := json.Unmarshal([]byte(stdout), &e); err != nil {
				t.Fatal(err)
			}
			if got := e.keys(); !slices.Equal(got, want) {
				t.Errorf("%v: got %q, want %q", args, got, want)
			}
			if len(args) == 4 && e.Table != test.table {
				t.Errorf("%v: table %s", args, e.Table)
			}
		}
	}
}
