package triggers_test

import (
	"strings"
	"testing"
	"time"

	"pgevict/pgnotify/triggers"
)

// What is in the schema pgevict, or is called as ours are, and was not made by pgevict stays as it is.
func TestWhatIsOfOthersStays(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); CREATE SCHEMA pgevict;
		CREATE FUNCTION pgevict.audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'audit'; RETURN NULL; END $$;
		CREATE TRIGGER audit AFTER INSERT ON t EXECUTE FUNCTION pgevict.audit(); CREATE TRIGGER audit AFTER INSERT ON u EXECUTE FUNCTION pgevict.audit()`)
	w.wanted.Tables = []triggers.Table{{Name: "t"}}
	for _, s := range w.states() {
		if s.State == triggers.LeftOver {
			t.Errorf("somebody else's is %+v", s)
		}
	}
	for _, what := range w.install() {
		if strings.Contains(what, "audit") {
			t.Errorf("install %s", what)
		}
	}
	w.inOrder()
	audits := func() (n int) {
		if err := w.writer.QueryRow(t.Context(), `SELECT count(*) FROM pg_trigger WHERE tgname = 'audit' AND tgenabled = 'O'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := audits(); n != 2 {
		t.Errorf("of two triggers of somebody else's there are %d after install", n)
	}
	_, err := triggers.Uninstall(t.Context(), w.ears.PgConn(), time.Second)
	if err == nil || !strings.Contains(err.Error(), "function pgevict.audit()") || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("uninstall beside somebody else's function: %v", err)
	}
	w.inOrder()
	if n := audits(); n != 2 {
		t.Errorf("of two triggers of somebody else's there are %d after uninstall", n)
	}

	// The names of ours, taken: install is refused, rather than that it replaced them.
	exec(t, w.writer, `CREATE FUNCTION pgevict."public.u insert"() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$`)
	w.wanted.Tables = []triggers.Table{{Name: "u"}, {Name: "t"}}
	if _, err := w.wanted.Install(t.Context(), w.ears.PgConn(), time.Second); err == nil || !strings.Contains(err.Error(), "public.u insert") {
		t.Errorf("install over a function of somebody else's: %v", err)
	}
	exec(t, w.writer, `DROP FUNCTION pgevict."public.u insert"(); CREATE TRIGGER pgevict_insert AFTER INSERT ON u EXECUTE FUNCTION pgevict.audit()`)
	if _, err := w.wanted.Install(t.Context(), w.ears.PgConn(), time.Second); err == nil || !strings.Contains(err.Error(), "pgevict_insert") {
		t.Errorf("install over a trigger of somebody else's: %v", err)
	}
	exec(t, w.writer, `DROP TRIGGER pgevict_insert ON u`)
	w.install()
	w.inOrder()
}

// A role that may write, and not call pg_notify, would have its writes fail. So there are no triggers as long as there is one.
func TestInstallFailsNoWriteOfTheMute(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY, a int) PARTITION BY RANGE (id); CREATE TABLE t_1 PARTITION OF t DEFAULT`)
	w.wanted.Tables, w.columns["t"] = []triggers.Table{{Name: "t"}}, []string{"id"}
	role := "mute_" + w.writer.Config().Database
	exec(t, w.writer, `CREATE ROLE `+role+`; GRANT INSERT ON t_1 TO `+role)
	mute := func() []triggers.Mute {
		m, err := w.wanted.Mute(t.Context(), w.ears.PgConn())
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := mute(); len(m) > 0 {
		t.Errorf("where everybody may call it, mute are %v", m)
	}
	exec(t, w.writer, `REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC`)
	m := mute()
	if len(m) != 1 || m[0] != (triggers.Mute{Role: role, Table: "public.t_1"}) {
		t.Fatalf("mute are %v", m)
	}
	_, err := w.wanted.Install(t.Context(), w.ears.PgConn(), time.Second)
	if err == nil || !strings.Contains(err.Error(), role) || !strings.Contains(err.Error(), m[0].Cure()) {
		t.Errorf("install where a role may write and not notify: %v", err)
	}
	if s := w.states()["public.t_1"]; s.State != triggers.Missing {
		t.Errorf("the table is %+v", s)
	}
	exec(t, w.writer, m[0].Cure())
	w.install()
	w.inOrder()
	exec(t, w.writer, `SET ROLE `+role)
	w.sends(`INSERT INTO t_1 VALUES (1)`, "insert public.t nil→{id=1}")
}
