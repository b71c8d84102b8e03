package sidecar

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/internal/config"
	"pgevict/pgnotify/triggers"
	"pgevict/rules"
)

// ErrDrift is the end of a status that found the triggers to be others than the rules ask for.
var ErrDrift = errors.New("the triggers are not what the rules ask for; pgevict triggers install makes them so")

// PrintTriggers writes the SQL that makes the triggers that feed pgevict, for the tables in the rules.
func PrintTriggers(_ context.Context, p Process) error {
	cfg, set, err := configure(p.Environ)
	if err != nil {
		return err
	}
	return newPrinter(p.Stdout, false).print(nil, wantedTriggers(cfg, set).Script())
}

// InstallTriggers makes them.
func InstallTriggers(ctx context.Context, p Process) error {
	flags := newFlags("triggers install")
	lockTimeout := flags.lockTimeout()
	if err := flags.parse(p, false); err != nil {
		return err
	}
	cfg, set, err := configure(p.Environ, config.DatabaseURL)
	if err != nil {
		return err
	}
	out := newPrinter(p.Stdout, false)
	wanted := wantedTriggers(cfg, set)
	return withPostgres(ctx, cfg, func(ctx context.Context, conn *pgconn.PgConn) error {
		did, err := wanted.Install(ctx, conn, *lockTimeout)
		if err != nil {
			return err
		}
		if err := printDone(out, did); err != nil {
			return err
		}
		return printStates(ctx, out, conn, wanted)
	})
}

// TriggersStatus compares what there is with what the rules ask for.
func TriggersStatus(ctx context.Context, p Process) error {
	flags := newFlags("triggers status")
	asJSON := flags.json()
	if err := flags.parse(p, false); err != nil {
		return err
	}
	cfg, set, err := configure(p.Environ, config.DatabaseURL)
	if err != nil {
		return err
	}
	return withPostgres(ctx, cfg, func(ctx context.Context, conn *pgconn.PgConn) error {
		return printStates(ctx, newPrinter(p.Stdout, *asJSON), conn, wantedTriggers(cfg, set))
	})
}

// UninstallTriggers removes the triggers, whatever the rules are now.
func UninstallTriggers(ctx context.Context, p Process) error {
	flags := newFlags("triggers uninstall")
	lockTimeout, asJSON := flags.lockTimeout(), flags.json()
	if err := flags.parse(p, false); err != nil {
		return err
	}
	cfg, err := config.Load(p.Environ, config.DatabaseURL)
	if err != nil {
		return UsageError{err}
	}
	return withPostgres(ctx, cfg, func(ctx context.Context, conn *pgconn.PgConn) error {
		did, err := triggers.Uninstall(ctx, conn, *lockTimeout)
		return errors.Join(err, printDone(newPrinter(p.Stdout, *asJSON), did))
	})
}

// lockTimeout adds a flag for those that lock tables.
func (f flags) lockTimeout() *time.Duration {
	timeout := 2 * time.Second
	f.Func("lock-timeout", "wait for this `duration` at most for each table that a transaction holds (default 2s)", func(text string) (err error) {
		if timeout, err = time.ParseDuration(text); err == nil && timeout < time.Millisecond {
			err = errors.New("must be at least 1ms")
		}
		return err
	})
	return &timeout
}

// wantedTriggers is what the rules ask for.
func wantedTriggers(cfg config.Config, set *rules.Set) triggers.Wanted {
	t := triggers.Wanted{Channel: cfg.EventsChannels[0], MaxRows: cfg.TriggersMaxRows}
	for _, table := range set.Tables() {
		columns, _ := set.Columns(table.Schema, table.Name)
		t.Tables = append(t.Tables, triggers.Table{
			Schema: table.Schema, Name: table.Name, Columns: columns, SkipUnchanged: set.OnlyChanged(table.Schema, table.Name),
		})
	}
	return t
}

// printDone prints what was done.
func printDone(out printer, did []string) error {
	if len(did) == 0 && out.json == nil {
		did = []string{"nothing to do"}
	}
	for _, what := range did {
		if err := out.print(map[string]string{"did": what}, what+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// printStates prints the state of each table; the error is ErrDrift if one of them is not as it should be.
func printStates(ctx context.Context, out printer, conn *pgconn.PgConn, wanted triggers.Wanted) error {
	states, err := wanted.Status(ctx, conn)
	if err != nil {
		return err
	}
	var drift error
	for _, s := range states {
		if s.Drift() {
			drift = ErrDrift
		}
		if err := out.print(s, stateText(s)); err != nil {
			return err
		}
	}
	return drift
}

func stateText(s triggers.State) string {
	table := s.Table
	if s.Schema != "" {
		table = s.Schema + "." + s.Table
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-9s  %s\n", s.State, table)
	for _, note := range s.Notes {
		fmt.Fprintf(&b, "           - %s\n", note)
	}
	return b.String()
}
