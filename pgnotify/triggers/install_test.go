package triggers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgevict/internal/livetest"
	"pgevict/pgnotify/triggers"
)

// states are what Status says, by table.
func (w *wired) states() map[string]triggers.State {
	w.Helper()
	list, err := w.wanted.Status(w.Context(), w.ears.PgConn())
	if err != nil {
		w.Fatal(err)
	}
	states := map[string]triggers.State{}
	for _, s := range list {
		states[s.Schema+"."+s.Table] = s
	}
	return states
}

// inOrder checks that nothing drifts, and that to install once more does nothing.
func (w *wired) inOrder() {
	w.Helper()
	for name, s := range w.states() {
		if s.Drift() {
			w.Errorf("%s is %+v", name, s)
		}
	}
	if did := w.install(); len(did) > 0 {
		w.Errorf("a second install did %q", did)
	}
}

// trace is all that the database has beside its tables.
func (w *wired) trace() (all []string) {
	w.Helper()
	rows, err := w.ears.Query(w.Context(), `
		SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_'
		UNION ALL SELECT 'function ' || oid::regprocedure FROM pg_proc WHERE pronamespace::regnamespace::text !~ '^(pg_|information_schema)'
		UNION ALL SELECT 'trigger ' || tgname || ' ' || tgrelid::regclass || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal OR tgparentid <> 0
		UNION ALL SELECT 'dependency ' || count(*) FROM pg_depend UNION ALL SELECT 'types ' || count(*) FROM pg_type ORDER BY 1`)
	if err != nil {
		w.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			w.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func TestComeAndGo(t *testing.T) {
	t.Parallel()
	w := wire(t, parted+`CREATE TABLE "Odd ""name""" (x int); CREATE TABLE u (id int PRIMARY KEY); `)
	before := w.trace()
	w.wanted.Tables = []triggers.Table{{Name: "t", Columns: []string{"a"}}, {Name: `Odd "name"`, Columns: []string{"x"}}, {Name: "gone"}, {Schema: "nowhere", Name: "u"}}
	states := w.states()
	for name, want := range map[string]string{"public.t": triggers.Missing, "public.t_de": triggers.Missing, `public.Odd "name"`: triggers.Missing,
		".gone": triggers.NoTable, "nowhere.u": triggers.NoTable} {
		if states[name].State != want {
			t.Errorf("before install, %s is %+v, want %s", name, states[name], want)
		}
	}
	if did := w.install(); !slices.Contains(did, "created trigger pgevict_insert on public.t_de") {
		t.Errorf("install did %q", did)
	}
	w.wanted.Tables = w.wanted.Tables[:2]
	w.inOrder()
	if n := w.states()[`public.Odd "name"`].Notes; !slices.Contains(n, "no primary key") {
		t.Errorf("notes on a table without a primary key: %q", n)
	}
	exec(t, w.writer, w.wanted.Script()) // as a migration tool would
	w.inOrder()

	// Each way to drift.
	for _, c := range []struct{ sql, table, state string }{
		{`ALTER TABLE t_us DISABLE TRIGGER pgevict_insert`, "public.t_us", triggers.Disabled},
		{`ALTER TABLE t_us ENABLE REPLICA TRIGGER pgevict_insert`, "public.t_us", triggers.Disabled},
		{`DROP TRIGGER pgevict_update ON t_de`, "public.t_de", triggers.Missing},
		{`DROP TRIGGER pgevict_update ON t_de; CREATE TRIGGER pgevict_update AFTER UPDATE ON t_de EXECUTE FUNCTION pgevict."public.t truncate"()`, "public.t_de", triggers.Outdated},
		{`CREATE TRIGGER pgevict_more AFTER UPDATE ON u EXECUTE FUNCTION pgevict."public.t truncate"()`, "public.u", triggers.LeftOver},
		{`ALTER FUNCTION pgevict."public.t truncate"() RESET search_path`, "public.t", triggers.Outdated},
		{`CREATE OR REPLACE FUNCTION pgevict."public.t insert"() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END -- Made by "pgevict triggers"'`, "public.t", triggers.Outdated},
		{`ALTER TABLE t ADD COLUMN b int; ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (id, region, a)`, "", ""},
		{`ALTER TABLE t RENAME COLUMN a TO renamed`, "public.t", triggers.Outdated},
		{`ALTER TABLE t DISABLE TRIGGER ALL`, "public.t", triggers.Disabled},
	} {
		exec(t, w.writer, c.sql)
		if s := w.states()[c.table]; s.State != c.state {
			t.Errorf("after %s, %s is %+v, want %q", c.sql, c.table, s, c.state)
		}
		w.install()
		w.inOrder()
	}

	// Fewer rules leave triggers over, until the next install.
	w.wanted.Tables = w.wanted.Tables[1:]
	if s := w.states()["public.t_us"]; s.State != triggers.LeftOver {
		t.Errorf("a table that no rule names any more is %+v", s)
	}
	w.install()
	w.inOrder()
	w.wanted.Tables = append(w.wanted.Tables, triggers.Table{Name: "t"})
	w.install()
	did, err := triggers.Uninstall(t.Context(), w.ears.PgConn(), time.Second)
	if err != nil || !slices.Contains(did, "dropped schema pgevict") {
		t.Errorf("uninstall: %q, %v", did, err)
	}
	after := slices.DeleteFunc(w.trace(), func(s string) bool { return strings.HasPrefix(s, "dependency") })
	before = slices.DeleteFunc(before, func(s string) bool { return strings.HasPrefix(s, "dependency") })
	if !slices.Equal(before, after) {
		t.Errorf("uninstall left\n%q, before install there was\n%q", after, before)
	}
	if did, err := triggers.Uninstall(t.Context(), w.ears.PgConn(), time.Second); err != nil || len(did) > 0 {
		t.Errorf("uninstall of nothing: %q, %v", did, err)
	}
	w.install()
	exec(t, w.writer, `CREATE TABLE pgevict.somebodys (id int)`)
	if _, err := triggers.Uninstall(t.Context(), w.ears.PgConn(), time.Second); err == nil || !strings.Contains(err.Error(), "pgevict") {
		t.Errorf("uninstall of a schema that holds a table: %v", err)
	}
	w.inOrder()
}

func TestStatusTellsOfOthers(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE EXTENSION tcn; CREATE VIEW v AS SELECT 1 AS id; CREATE TABLE actions (id bigint PRIMARY KEY, actionable_id bigint);
		CREATE TRIGGER actions_notification_trigger AFTER INSERT OR UPDATE OR DELETE ON actions FOR EACH ROW EXECUTE FUNCTION triggered_change_notification();`+livetest.NotifyEvent+`
		CREATE TRIGGER actions_better_notification_trigger AFTER INSERT OR UPDATE OR DELETE ON actions FOR EACH ROW EXECUTE FUNCTION notify_event();`, triggers.Table{Name: "actions", Columns: []string{"actionable_id", "typo"}}, triggers.Table{Name: "v"})
	s := w.states()
	for _, want := range []string{"also sends by trigger actions_notification_trigger (triggered_change_notification)", "also sends by trigger actions_better_notification_trigger (notify_event)",
		"no column typo: what the rules make of it is always a pattern"} {
		if !slices.Contains(s["public.actions"].Notes, want) {
			t.Errorf("notes %q lack %q", s["public.actions"].Notes, want)
		}
	}
	if s["public.actions"].Drift() || s["public.v"].State != triggers.NoTable {
		t.Errorf("%+v", s)
	}
}

func TestWaitForNobody(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)`, triggers.Table{Name: "t"})
	exec(t, w.writer, `BEGIN; INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)`)
	w.inOrder() // where all is as it should be no table is locked
	w.wanted.Tables = append(w.wanted.Tables, triggers.Table{Name: "u"})
	for what, do := range map[string]func() error{
		"install": func() error {
			_, err := w.wanted.Install(t.Context(), w.ears.PgConn(), 50*time.Millisecond)
			return err
		},
		"uninstall": func() error {
			_, err := triggers.Uninstall(t.Context(), w.ears.PgConn(), 50*time.Millisecond)
			return err
		},
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "nothing was changed") || !strings.Contains(err.Error(), "50ms") {
			t.Errorf("%s while a table is in use: %v", what, err)
		}
	}
	states := w.states()
	if states["public.t"].State != triggers.OK || states["public.u"].State != triggers.Missing {
		t.Errorf("after they failed: %+v", states)
	}
	exec(t, w.writer, `COMMIT`)
	w.install()
	w.inOrder()
}

func TestQuoteWhatTheyAreGiven(t *testing.T) {
	t.Parallel()
	for _, name := range []string{`a'b"c\d$pgevict$ %s %1$s` + "\n中", strings.Repeat("中", 21), strings.Repeat("x", 63)} {
		quoteTriggers(t, name)
	}
}

func quoteTriggers(t *testing.T, name string) {
	t.Helper()
	w := wire(t, `CREATE SCHEMA "S ""'\$pgevict$";`)
	quoted := strings.ReplaceAll(name, `"`, `""`)
	exec(t, w.writer, fmt.Sprintf(`CREATE TABLE "S ""'\$pgevict$"."%s" ("%[1]s" text PRIMARY KEY)`, quoted))
	w.wanted = triggers.Wanted{Tables: []triggers.Table{{Schema: `S "'\$pgevict$`, Name: name, Columns: []string{name}}}, Channel: `events`, MaxRows: 10}
	exec(t, w.writer, `SET standard_conforming_strings = off`)
	exec(t, w.writer, w.wanted.Script())
	w.inOrder()
	w.columns = columns{`S "'\$pgevict$.` + name: {name}}
	w.sends(fmt.Sprintf(`INSERT INTO "S ""'\$pgevict$"."%s" VALUES ('x')`, quoted), `insert S "'\$pgevict$.`+name+` nil→{`+name+`=x}`)
}
