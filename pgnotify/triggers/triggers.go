// Package triggers is the triggers that feed pgevict: what should be in a database by the rules, what is there, and the
// statements that make the one the other.
//
// sql/ holds one query, in parts: which tables are wished for (wishes.sql), the texts of their columns (columns.sql), the
// functions and triggers that should be (functions.sql), those that are (present.sql), and what to do about it (diff.sql).
// The bodies of the functions are in sql/bodies; what comes out of them for one table is in testdata/actions.sql.
package triggers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/pgnotify/postgres"
)

// Table is a table whose changes the triggers send.
type Table struct {
	Schema  string   // empty: the tables of that name in every schema
	Name    string   // as the catalog spells it
	Columns []string // that its rules need; the primary key is sent in any case
	// SkipUnchanged says that an update which leaves all of these columns as they were need not be sent.
	SkipUnchanged bool
}

// Wanted is what should be in a database: for each table, and for its partitions and children, triggers that send its
// changes as JSON, and the functions of these triggers in a schema pgevict.
type Wanted struct {
	Tables  []Table
	Channel string
	// MaxRows is the number of rows up to which a statement's rows are sent; more of them count as any row of the table.
	MaxRows int
}

// wishes is the tables as JSON, as the queries take them.
func (w Wanted) wishes() string {
	type wish struct {
		Schema  string   `json:"schema"`
		Table   string   `json:"table"`
		Columns []string `json:"columns"`
		Quiet   bool     `json:"quiet"`
	}
	wishes := []wish{}
	for _, t := range w.Tables {
		wishes = append(wishes, wish{t.Schema, t.Name, append([]string{}, t.Columns...), t.SkipUnchanged})
	}
	text, err := json.Marshal(wishes)
	if err != nil {
		panic(err) // strings and booleans have a form in JSON
	}
	return string(text)
}

// query is the query that compares what should be with what is.
func (w Wanted) query() string {
	made, err := bodies()
	if err != nil {
		panic(err) // the files are part of the program
	}
	values := map[string]string{
		"wishes": postgres.Literal(w.wishes()), "bodies": made,
		"channel": postgres.Literal(w.Channel), "max_rows": postgres.Literal(strconv.Itoa(w.MaxRows)),
	}
	var parts []string
	for _, name := range []string{"wishes", "columns", "functions", "present", "diff"} {
		parts = append(parts, read(name+".sql"))
	}
	query, err := fill(strings.TrimSpace(strings.Join(parts, "")), func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	})
	if err != nil {
		panic(err)
	}
	return query
}

const scriptHead = `-- The triggers that tell pgevict of changes, made from its rules by "pgevict triggers print".
--
-- It is one statement, so all of it happens or nothing does. It may run again at any time: it makes what is missing or
-- differs, drops what no rule needs any more, and takes no lock on a table where all is as it should be. Run it by the
-- role that owns the tables, after each change of the rules, and after a table got new partitions or children.
-- A table that gets a trigger is locked against writes (SHARE ROW EXCLUSIVE) until the transaction ends; set lock_timeout
-- before, so that this never queues behind a long transaction and holds up the application.
`

// Script is an SQL script that makes the triggers. It may run any number of times.
func (w Wanted) Script() string {
	query := w.query()
	quote := "$pgevict$"
	for n := 2; strings.Contains(query, quote); n++ {
		quote = fmt.Sprintf("$pgevict%d$", n)
	}
	return scriptHead + "DO " + quote + `
#variable_conflict use_column
DECLARE
  pgevict_steps text[];
  pgevict_step text;
  pgevict_did text[] := '{}';
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('pgevict triggers'));
  SELECT array_agg(ARRAY[did || ' ' || object || CASE WHEN relname = '' OR object LIKE 'function %' THEN '' ELSE format(' on %I.%I', nspname, relname) END, ddl] ORDER BY step, nspname, relname, object)
  INTO pgevict_steps FROM (
` + query + `
  ) AS pgevict_wanted WHERE state <> 'ok';
  FOR i IN 1 .. coalesce(array_length(pgevict_steps, 1), 0) LOOP
    EXECUTE pgevict_steps[i][2];
    RAISE NOTICE '%', pgevict_steps[i][1];
    pgevict_did := pgevict_did || pgevict_steps[i][1];
  END LOOP;
  PERFORM set_config('pgevict.did', to_json(pgevict_did)::text, true);
END
` + quote + ";\n"
}

// Install makes the triggers in one transaction, and says what it did, a sentence each: nothing if all was as it should
// be. A table that a transaction holds for longer than lockTimeout is an error, and nothing is changed then.
func (w Wanted) Install(ctx context.Context, conn *pgconn.PgConn, lockTimeout time.Duration) (did []string, err error) {
	err = inTransaction(ctx, conn, lockTimeout, func() error {
		if err := conn.Exec(ctx, w.Script()).Close(); err != nil {
			return err
		}
		rows, err := postgres.Query(ctx, conn, `SELECT current_setting('pgevict.did')`)
		if err != nil {
			return err
		}
		return json.Unmarshal([]byte(rows[0][0]), &did)
	})
	if err != nil {
		return nil, fmt.Errorf("install triggers: %w", err)
	}
	return did, nil
}

// inTransaction runs a change of the schema.
func inTransaction(ctx context.Context, conn *pgconn.PgConn, lockTimeout time.Duration, change func() error) error {
	begin := fmt.Sprintf("BEGIN; SET LOCAL lock_timeout = %d; SET LOCAL search_path = pg_catalog", max(1, lockTimeout.Milliseconds()))
	err := conn.Exec(ctx, begin).Close()
	if err == nil {
		err = change()
	}
	if err == nil {
		err = conn.Exec(ctx, "COMMIT").Close()
	}
	if err == nil {
		return nil
	}
	undo := conn.Exec(ctx, "ROLLBACK").Close()
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "55P03" {
		return fmt.Errorf("a table was in use by another transaction for longer than %s, so nothing was changed; try again, or allow more time: %w", lockTimeout, err)
	}
	return errors.Join(err, undo)
}
