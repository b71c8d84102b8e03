package triggers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/pgnotify/postgres"
)

// The states of a table's triggers, the worst last.
const (
	OK       = "ok"
	LeftOver = "left over" // no rule needs them
	Disabled = "disabled"
	Outdated = "outdated" // not what the rules ask for
	Missing  = "missing"
	NoTable  = "no table" // the rules name one that triggers cannot watch
)

var bySeverity = []string{OK, LeftOver, Disabled, Outdated, Missing, NoTable}

// State is what the database has for one table, compared with the rules.
type State struct {
	Schema string   `json:"schema"`
	Table  string   `json:"table"`
	State  string   `json:"state"`
	Notes  []string `json:"notes"` // what is not as it should be, and what else is worth knowing
	Wide   []string `json:"-"`     // of the notes, those on keys that become patterns although all is as it should be
}

// Drift reports whether the database differs from the rules.
func (s State) Drift() bool { return s.State != OK }

// note adds what was found, and keeps the worst state.
func (s *State) note(state, note string) {
	if slices.Index(bySeverity, state) > slices.Index(bySeverity, s.State) {
		s.State = state
	}
	if note != "" && !slices.Contains(s.Notes, note) {
		s.Notes = append(s.Notes, note)
	}
}

// Status compares the database with what should be there: a state for each table of the rules and each of its partitions
// and children, and for each other table that still has triggers of ours. It needs no rights but to connect.
func (w Wanted) Status(ctx context.Context, conn *pgconn.PgConn) ([]State, error) {
	var states []State
	err := inspect(ctx, conn, func() (err error) {
		states, err = w.status(ctx, conn)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the triggers: %w", err)
	}
	return states, nil
}

// inspect reads the catalog as it is at one moment, whatever the settings of the role and the database.
func inspect(ctx context.Context, conn *pgconn.PgConn, look func() error) error {
	err := conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "+plain).Close()
	if err == nil {
		err = look()
	}
	return errors.Join(err, conn.Exec(ctx, "ROLLBACK").Close())
}

// Mute is a role that may write to a table of the rules, and not tell of it: a trigger that sends fails its writes.
type Mute struct{ Role, Table string }

func (m Mute) String() string {
	return fmt.Sprintf("the role %s may write to %s, but not call pg_notify", m.Role, m.Table)
}

// Cure is the statement that gives it the right.
func (m Mute) Cure() string {
	return "GRANT EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) TO " + postgres.Identifier(m.Role)
}

// Mute returns the roles that are mute.
func (w Wanted) Mute(ctx context.Context, conn *pgconn.PgConn) ([]Mute, error) {
	var rows [][]string
	err := inspect(ctx, conn, func() (err error) {
		rows, err = postgres.Query(ctx, conn, read("mute.sql"), w.wishes())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read who may call pg_notify: %w", err)
	}
	mute := make([]Mute, len(rows))
	for i, r := range rows {
		mute[i] = Mute{Role: r[0], Table: r[1]}
	}
	return mute, nil
}

func (w Wanted) status(ctx context.Context, conn *pgconn.PgConn) ([]State, error) {
	objects, err := postgres.Query(ctx, conn, w.query()+" ORDER BY nspname, relname, step, object")
	if err != nil {
		return nil, err
	}
	var found []*State
	find := func(schema, table string) *State {
		for _, s := range found {
			if s.Schema == schema && s.Table == table {
				return s
			}
		}
		found = append(found, &State{Schema: schema, Table: table, State: OK, Notes: []string{}})
		return found[len(found)-1]
	}
	for _, o := range objects {
		schema, table, object, state := o[1], o[2], o[3], o[4]
		copied := strings.HasPrefix(object, "copy of ")
		switch {
		case table == "":
			if state == LeftOver {
				find(schema, table).note(state, object+" is left over")
			}
		case copied && state == Missing: // it comes with the trigger on the partitioned table
			find(schema, table)
		case copied && state == Outdated:
			find(schema, table).note(state, "each row is sent by itself, until install runs again")
		case state == OK:
			find(schema, table)
		default:
			find(schema, table).note(state, object+" is "+state)
		}
	}
	facts, err := postgres.Query(ctx, conn, read("facts.sql"), w.wishes())
	if err != nil {
		return nil, err
	}
	for _, f := range facts {
		schema, table, state, note := f[0], f[1], f[2], f[3]
		s := find(schema, table)
		if state == "wide" {
			state = OK
			s.Wide = append(s.Wide, note)
		}
		s.note(state, note)
	}
	sorted := make([]State, len(found))
	for i, s := range found {
		sorted[i] = *s
	}
	slices.SortFunc(sorted, func(a, b State) int {
		return strings.Compare(a.Schema+"\x00"+a.Table, b.Schema+"\x00"+b.Table)
	})
	return sorted, nil
}
