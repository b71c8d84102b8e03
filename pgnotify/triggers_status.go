package pgnotify

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/pgnotify/postgres"
)

// The states of a table's triggers, the worst last.
const (
	TriggersOK       = "ok"
	TriggersLeftOver = "left over" // no rule needs them
	TriggersDisabled = "disabled"
	TriggersOutdated = "outdated" // not what the rules ask for
	TriggersMissing  = "missing"
	NoTable          = "no table" // the rules name one that triggers cannot watch
)

var triggerStates = []string{TriggersOK, TriggersLeftOver, TriggersDisabled, TriggersOutdated, TriggersMissing, NoTable}

// TriggerState is what the database has for one table, compared with the rules.
type TriggerState struct {
	Schema string   `json:"schema"`
	Table  string   `json:"table"`
	State  string   `json:"state"`
	Notes  []string `json:"notes"` // what is not as it should be, and what else is worth knowing
}

// Drift reports whether the database differs from the rules.
func (s TriggerState) Drift() bool { return s.State != TriggersOK }

// note adds what was found, and keeps the worst state.
func (s *TriggerState) note(state, note string) {
	if slices.Index(triggerStates, state) > slices.Index(triggerStates, s.State) {
		s.State = state
	}
	if note != "" && !slices.Contains(s.Notes, note) {
		s.Notes = append(s.Notes, note)
	}
}

// Status compares the database with what should be there: a state for each table of the rules and each of its partitions
// and children, and for each other table that still has triggers of ours. It needs no rights but to connect.
func (t Triggers) Status(ctx context.Context, conn *pgconn.PgConn) ([]TriggerState, error) {
	states, err := t.status(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("read the triggers: %w", err)
	}
	return states, nil
}

func (t Triggers) status(ctx context.Context, conn *pgconn.PgConn) ([]TriggerState, error) {
	objects, err := postgres.Query(ctx, conn, t.wanted()+" ORDER BY nspname, relname, step, object")
	if err != nil {
		return nil, err
	}
	var states []*TriggerState
	find := func(schema, table string) *TriggerState {
		for _, s := range states {
			if s.Schema == schema && s.Table == table {
				return s
			}
		}
		states = append(states, &TriggerState{Schema: schema, Table: table, State: TriggersOK, Notes: []string{}})
		return states[len(states)-1]
	}
	for _, o := range objects {
		schema, table, object, state := o[1], o[2], o[3], o[4]
		copied := strings.HasPrefix(object, "copy of ")
		switch {
		case table == "":
			if state == TriggersLeftOver {
				find(schema, table).note(state, object+" is left over")
			}
		case copied && state == TriggersMissing: // it comes with the trigger on the partitioned table
			find(schema, table)
		case copied && state == TriggersOutdated:
			find(schema, table).note(state, "each row is sent by itself, until install runs again")
		case state == TriggersOK:
			find(schema, table)
		default:
			find(schema, table).note(state, object+" is "+state)
		}
	}
	facts, err := postgres.Query(ctx, conn, tableFactsSQL, t.wishes())
	if err != nil {
		return nil, err
	}
	for _, f := range facts {
		schema, table, state, note := f[0], f[1], f[2], f[3]
		find(schema, table).note(state, note)
	}
	sorted := make([]TriggerState, len(states))
	for i, s := range states {
		sorted[i] = *s
	}
	slices.SortFunc(sorted, func(a, b TriggerState) int {
		return strings.Compare(a.Schema+"\x00"+a.Table, b.Schema+"\x00"+b.Table)
	})
	return sorted, nil
}

// tableFactsSQL gives what is worth knowing of the tables of the rules and of their partitions and children beside our own
// triggers: schema, table, the state that it means, and the words for it.
const tableFactsSQL = `
WITH RECURSIVE wish AS (
	SELECT w ->> 'schema' AS nspname, w ->> 'table' AS relname, w -> 'columns' AS columns FROM json_array_elements($1::json) w
),
named AS (
	SELECT c.oid, c.relkind, w.columns, w.nspname AS wanted, w.relname
	FROM wish w LEFT JOIN (pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgevict'))
	  ON c.relname = w.relname AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND w.nspname IN ('', n.nspname)
),
family AS (
	SELECT oid FROM named WHERE relkind IN ('r', 'p')
	UNION
	SELECT i.inhrelid FROM family f JOIN pg_inherits i ON i.inhparent = f.oid
),
relation AS (
	SELECT c.oid, c.relkind, n.nspname, c.relname FROM family f JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace
)
SELECT wanted, relname, 'no table', 'there is no such table' FROM named WHERE oid IS NULL
UNION ALL
SELECT n.nspname, c.relname, CASE WHEN EXISTS (SELECT FROM named x WHERE x.relname = d.relname AND x.wanted = d.wanted AND x.relkind IN ('r', 'p')) THEN 'ok' ELSE 'no table' END,
       'it is ' || CASE d.relkind WHEN 'f' THEN 'a foreign table: its changes happen elsewhere' ELSE 'a view: name the tables that it reads' END
FROM named d JOIN pg_class c ON c.oid = d.oid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE d.relkind NOT IN ('r', 'p')
UNION ALL
SELECT nspname, relname, 'ok', 'foreign table: its changes happen elsewhere, and are not heard of' FROM relation WHERE relkind = 'f'
UNION ALL
SELECT n.nspname, c.relname, 'ok', format('no column %I: what the rules make of it is always a pattern', l.name)
FROM named d JOIN pg_class c ON c.oid = d.oid JOIN pg_namespace n ON n.oid = c.relnamespace, json_array_elements_text(d.columns) AS l (name)
WHERE d.relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = d.oid AND a.attname = l.name AND a.attnum > 0 AND NOT a.attisdropped)
UNION ALL
SELECT nspname, relname, 'ok', 'no primary key' FROM relation r
WHERE relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = r.oid AND i.indisprimary)
UNION ALL
SELECT r.nspname, r.relname, 'ok', format('also sends by trigger %I (%s)%s', t.tgname, p.proname, CASE WHEN t.tgenabled IN ('D', 'R') THEN ', which is disabled' ELSE '' END)
FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname <> 'pgevict' AND (p.prosrc ~* '\m(pg_notify|notify)\M' OR p.prosrc = 'triggered_change_notification')
ORDER BY 1, 2, 4`

// oursSQL gives the triggers and functions of ours, with the statement that drops each.
const oursSQL = `
SELECT format('dropped trigger %I on %I.%I', t.tgname, n.nspname, c.relname), format('DROP TRIGGER %I ON %I.%I', t.tgname, n.nspname, c.relname), 1
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE pn.nspname = 'pgevict' AND t.tgparentid = 0 AND p.prosrc LIKE '%Made by "pgevict triggers"%'
UNION ALL
SELECT format('dropped function pgevict.%I', p.proname), format('DROP FUNCTION pgevict.%I()', p.proname), 2
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'pgevict' AND p.prorettype = 'trigger'::regtype AND p.prosrc LIKE '%Made by "pgevict triggers"%'
UNION ALL
SELECT 'dropped schema pgevict', 'DROP SCHEMA pgevict', 3 WHERE to_regnamespace('pgevict') IS NOT NULL
ORDER BY 3, 1`

// UninstallTriggers drops all that Install ever made, in one transaction, and says what it did. That the schema pgevict
// holds something else is an error, as is a table that a transaction holds for longer than lockTimeout; nothing is changed
// then.
func UninstallTriggers(ctx context.Context, conn *pgconn.PgConn, lockTimeout time.Duration) (did []string, err error) {
	err = inTransaction(ctx, conn, lockTimeout, func() error {
		objects, err := postgres.Query(ctx, conn, oursSQL)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if err := conn.Exec(ctx, o[1]).Close(); err != nil {
				return err
			}
			did = append(did, o[0])
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("uninstall triggers: %w", err)
	}
	return did, nil
}
