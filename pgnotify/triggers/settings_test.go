package triggers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgevict/pgnotify/triggers"
)

// Whatever the settings of a database, the same triggers are made, told of, and removed. "print" keeps to them as well.
func TestChangesUnderAnySettings(t *testing.T) {
	t.Parallel()
	const tables = `CREATE TABLE t (id int, region text, "A b" timestamptz, doc jsonb, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
		CREATE TABLE t_us PARTITION OF t FOR VALUES IN ('us'); CREATE TABLE u (id int PRIMARY KEY, other text);
		CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('x', ''); RETURN NULL; END $$;
		CREATE TRIGGER tell AFTER INSERT ON u FOR EACH ROW EXECUTE FUNCTION tell();
		CREATE SCHEMA evil; CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS $$ SELECT 'DROP TABLE t' $$;
		CREATE FUNCTION evil.quote_ident(text) RETURNS text LANGUAGE sql AS $$ SELECT 'evil' $$; CREATE TABLE evil.pg_trigger (oid oid)`
	w := wire(t, tables)
	w.wanted.Tables = []triggers.Table{{Name: "t", Columns: []string{"A b", "doc"}}, {Schema: "public", Name: "u", Columns: []string{"other"}, SkipUnchanged: true}}
	database := pgx.Identifier{w.writer.Config().Database}.Sanitize()
	plain := w.another()
	for _, setting := range []string{
		`quote_all_identifiers = on`, `standard_conforming_strings = off`, `backslash_quote = off`, `array_nulls = off`, `transform_null_equals = on`,
		`search_path = evil, pg_catalog`, `default_transaction_read_only = on`, `default_transaction_isolation = 'repeatable read'`,
		`default_transaction_isolation = serializable`, `default_transaction_deferrable = on`, `plpgsql.extra_errors = 'all'`, `plpgsql.variable_conflict = error`,
		`row_security = off`, `check_function_bodies = off`, `bytea_output = escape`, `"DateStyle" = 'German'`, `"IntervalStyle" = sql_standard`, `lock_timeout = '1h'`,
		`jit_above_cost = 0`, `client_min_messages = error`, `statement_timeout = '200ms'`, `idle_in_transaction_session_timeout = '1ms'`, `xmloption = document`,
	} {
		name, _, _ := strings.Cut(setting, " ")
		exec(t, plain, fmt.Sprintf(`ALTER DATABASE %s SET %s`, database, setting))
		w.ears = w.another()
		exec(t, plain, fmt.Sprintf(`ALTER DATABASE %s RESET %s`, database, name))
		w.install()
		w.inOrder()
		if n := w.states()["public.u"].Notes; !slices.Contains(n, "also sends by trigger tell (tell)") {
			t.Errorf("%s: the other trigger is not told of: %q", setting, n)
		}
		if did, err := w.wanted.Install(t.Context(), plain.PgConn(), time.Second); err != nil || len(did) > 0 {
			t.Errorf("%s: what was made is not what is made elsewhere: %q, %v", setting, did, err)
		}
		if did, err := triggers.Uninstall(t.Context(), w.ears.PgConn(), time.Second); err != nil || !slices.Contains(did, "dropped schema pgevict") {
			t.Errorf("%s: uninstall did %q, %v", setting, did, err)
		}
		if name == "statement_timeout" || name == "default_transaction_read_only" || name == "idle_in_transaction_session_timeout" {
			continue // a script is for whoever runs it to have them right
		}
		exec(t, w.ears, w.wanted.Script())
		if did, err := w.wanted.Install(t.Context(), plain.PgConn(), time.Second); err != nil || len(did) > 0 {
			t.Errorf("%s: what the script made is not what is made elsewhere: %q, %v", setting, did, err)
		}
		var now string
		if err := w.ears.QueryRow(t.Context(), `SELECT current_setting('search_path') || current_setting('lock_timeout')`).Scan(&now); err != nil || strings.Contains(now, "pg_temp") || strings.HasSuffix(now, "20ms") {
			t.Errorf("%s: after the script, the settings are %s: %v", setting, now, err)
		}
		if _, err := triggers.Uninstall(t.Context(), plain.PgConn(), time.Second); err != nil {
			t.Error(err)
		}
	}
}

// The script leaves the settings of the migration that it is a part of as they were.
func TestScriptLeavesTheSettings(t *testing.T) {
	t.Parallel()
	w := wire(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	w.wanted.Tables = []triggers.Table{{Name: "t"}}
	exec(t, w.writer, `BEGIN; SET LOCAL search_path = "odd, path", public; SET LOCAL lock_timeout = '7s'; SET quote_all_identifiers = on`)
	exec(t, w.writer, w.wanted.Script())
	var path, timeout, quotes, jit string
	err := w.writer.QueryRow(t.Context(), `SELECT current_setting('search_path'), current_setting('lock_timeout'), current_setting('quote_all_identifiers'), current_setting('enable_nestloop')`).
		Scan(&path, &timeout, &quotes, &jit)
	if err != nil || path != `"odd, path", public` || timeout != "7s" || quotes != "on" || jit != "on" {
		t.Errorf("search_path is %s, lock_timeout %s, quote_all_identifiers %s, enable_nestloop %s: %v", path, timeout, quotes, jit, err)
	}
	exec(t, w.writer, `COMMIT`)
	w.inOrder()
}

// Installs at the same time wait for each other, whatever a transaction takes for its snapshot by default.
func TestInstallsAtOnce(t *testing.T) {
	t.Parallel()
	for _, isolation := range []string{"read committed", "repeatable read", "serializable"} {
		w := wire(t, `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)`)
		w.wanted.Tables = []triggers.Table{{Name: "t"}, {Name: "u"}}
		var installs []<-chan error
		for range 4 {
			conn := w.another()
			exec(t, conn, `SET default_transaction_isolation = '`+isolation+`'`)
			installs = append(installs, start(func() error { _, err := w.wanted.Install(t.Context(), conn.PgConn(), 20*time.Second); return err }))
		}
		for _, ended := range installs {
			if err := <-ended; err != nil {
				t.Errorf("%s: %v", isolation, err)
			}
		}
		w.inOrder()
	}
}
