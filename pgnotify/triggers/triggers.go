// Package triggers is the triggers that feed pgevict: what should be in a database by the rules, what is there, and the
// statements that make the one the other.
//
// sql/ holds one query, in parts: which tables are wished for (wishes.sql), the texts of their columns (columns.sql), the
// functions and triggers that should be (functions.sql), those that are (present.sql), and what to do about it (diff.sql).
// apply.sql does it.
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
-- A table that gets a trigger is locked against writes (SHARE ROW EXCLUSIVE) until the transaction ends; one that is in use
-- for longer than lock_timeout (2 s if that is 0) is an error, and nothing is changed then.
`

// Script is an SQL script that makes the triggers. It may run any number of times.
func (w Wanted) Script() string { return scriptHead + apply(w.query()) }

// apply is the statement that does what a query says: it has the columns of diff.sql.
func apply(query string) string {
	quote := "$pgevict$"
	for n := 2; strings.Contains(query, quote); n++ {
		quote = fmt.Sprintf("$pgevict%d$", n)
	}
	values := map[string]string{"quote": quote, "query": query}
	statement, err := fill(read("apply.sql"), func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	})
	if err != nil {
		panic(err) // the file is part of the program
	}
	return statement
}

// Install makes the triggers in one transaction, and says what it did, a sentence each: nothing if all was as it should
// be. A table that a transaction holds for longer than lockTimeout is an error, and nothing is changed then.
func (w Wanted) Install(ctx context.Context, conn *pgconn.PgConn, lockTimeout time.Duration) (did []string, err error) {
	mute, err := w.Mute(ctx, conn)
	if err == nil && len(mute) > 0 {
		err = fmt.Errorf("%s: with triggers its writes would fail, so nothing was changed; as a superuser, %s", mute[0], mute[0].Cure())
	}
	if err == nil {
		did, err = change(ctx, conn, lockTimeout, w.Script())
	}
	if err != nil {
		return nil, fmt.Errorf("install triggers: %w", err)
	}
	return did, nil
}

// Uninstall drops all that Install ever made, in one transaction, and says what it did. That the schema pgevict
// holds something else is an error, as is a table that a transaction holds for longer than lockTimeout; nothing is changed
// then.
func Uninstall(ctx context.Context, conn *pgconn.PgConn, lockTimeout time.Duration) (did []string, err error) {
	did, err = change(ctx, conn, lockTimeout, apply(read("ours.sql")))
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "2BP01" { // dependent objects still exist
		err = fmt.Errorf("something in the schema pgevict, or that needs it, is not of pgevict's making, so nothing was changed: %s: %w", pg.Detail, err)
	}
	if err != nil {
		return nil, fmt.Errorf("uninstall triggers: %w", err)
	}
	return did, nil
}

// plain are the settings of a transaction of ours, whatever the role and the database have as theirs. Not every version
// has all of them.
const plain = `SET LOCAL search_path = pg_catalog; SET LOCAL standard_conforming_strings = on; SET LOCAL quote_all_identifiers = off;
	SET LOCAL jit = off; SET LOCAL enable_nestloop = off;
	SELECT set_config(name, '0', true) FROM pg_settings
	WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')`

// change runs a statement of [apply] in one transaction, and returns what it did.
func change(ctx context.Context, conn *pgconn.PgConn, lockTimeout time.Duration, statement string) (did []string, err error) {
	begin := fmt.Sprintf("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; %s; SET LOCAL lock_timeout = %d", plain, max(1, lockTimeout.Milliseconds()))
	err = conn.Exec(ctx, begin).Close()
	if err == nil {
		err = conn.Exec(ctx, statement).Close()
	}
	var rows [][]string
	if err == nil {
		rows, err = postgres.Query(ctx, conn, `SELECT current_setting('pgevict.did')`)
	}
	if err == nil {
		err = json.Unmarshal([]byte(rows[0][0]), &did)
	}
	if err == nil {
		err = conn.Exec(ctx, "COMMIT").Close()
	}
	if err == nil {
		return did, nil
	}
	undo := conn.Exec(ctx, "ROLLBACK").Close()
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "55P03" {
		return nil, fmt.Errorf("a table was in use by another transaction for longer than %s, so nothing was changed; try again, or allow more time: %w", lockTimeout, err)
	}
	return nil, errors.Join(err, undo)
}
