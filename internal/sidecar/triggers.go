package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/internal/config"
	"pgevict/pgnotify/triggers"
	"pgevict/rules"
)

// ErrDrift is the end of a status that found the triggers to be others than the rules ask for.
var ErrDrift = errors.New("the triggers are not what the rules ask for; pgevict triggers install makes them so")

// triggersCommand is the triggers command.
type triggersCommand struct {
	lockTimeout time.Duration
	json        *json.Encoder // nil: text
	out         io.Writer
}

// Triggers prints, installs, compares or removes the triggers that feed pgevict, for the tables in the rules.
func Triggers(ctx context.Context, args, environ []string, stdout io.Writer) error {
	var verb string
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	t := &triggersCommand{out: stdout}
	flags := flag.NewFlagSet("pgevict triggers "+verb, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // what is wrong is in the error
	asJSON := new(bool)
	switch verb {
	case "print":
	case "install":
		flags.DurationVar(&t.lockTimeout, "lock-timeout", 2*time.Second, "how long to wait for each table that a transaction holds")
	case "uninstall":
		flags.DurationVar(&t.lockTimeout, "lock-timeout", 2*time.Second, "how long to wait for each table that a transaction holds")
		fallthrough
	case "status":
		asJSON = flags.Bool("json", false, "print a JSON object a line")
	default:
		return UsageError{fmt.Errorf("triggers: one of print, install, status, uninstall, not %q; see pgevict help", verb)}
	}
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(stdout)
		flags.Usage()
		return nil
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("no such argument: %q", flags.Arg(0))
	}
	if err == nil && verb != "print" && verb != "status" && t.lockTimeout < time.Millisecond {
		err = errors.New("-lock-timeout: must be at least 1ms")
	}
	if err != nil {
		return UsageError{fmt.Errorf("triggers %s: %w; see pgevict help", verb, err)}
	}
	if *asJSON {
		t.json = json.NewEncoder(stdout)
		t.json.SetEscapeHTML(false)
	}
	return t.run(ctx, verb, environ)
}

func (t *triggersCommand) run(ctx context.Context, verb string, environ []string) error {
	if verb == "uninstall" { // whatever the rules are now
		cfg, err := config.Load(environ, config.DatabaseURL)
		if err != nil {
			return UsageError{err}
		}
		return withPostgres(ctx, cfg, func(ctx context.Context, conn *pgconn.PgConn) error {
			did, err := triggers.Uninstall(ctx, conn, t.lockTimeout)
			return errors.Join(err, t.say(did))
		})
	}
	var required []string
	if verb != "print" {
		required = []string{config.DatabaseURL}
	}
	cfg, set, err := configure(environ, required...)
	if err != nil {
		return err
	}
	wanted := wantedTriggers(cfg, set)
	switch verb {
	case "print":
		_, err := io.WriteString(t.out, wanted.Script())
		return err
	case "install":
		return withPostgres(ctx, cfg, func(ctx context.Context, conn *pgconn.PgConn) error {
			did, err := wanted.Install(ctx, conn, t.lockTimeout)
			if err != nil {
				return err
			}
			if err := t.say(did); err != nil {
				return err
			}
			states, err := wanted.Status(ctx, conn)
			if err != nil {
				return err
			}
			return t.print(states)
		})
	}
	return withPostgres(ctx, cfg, func(ctx context.Context, conn *pgconn.PgConn) error {
		states, err := wanted.Status(ctx, conn)
		if err != nil {
			return err
		}
		return t.print(states)
	})
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

// say prints what was done.
func (t *triggersCommand) say(did []string) error {
	if len(did) == 0 && t.json == nil {
		did = []string{"nothing to do"}
	}
	for _, what := range did {
		var err error
		if t.json != nil {
			err = t.json.Encode(map[string]string{"did": what})
		} else {
			_, err = fmt.Fprintln(t.out, what)
		}
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}

// print prints the states, and gives ErrDrift if one of them is not as it should be.
func (t *triggersCommand) print(states []triggers.State) error {
	var drift error
	for _, s := range states {
		if s.Drift() {
			drift = ErrDrift
		}
		var err error
		if t.json != nil {
			err = t.json.Encode(s)
		} else {
			_, err = io.WriteString(t.out, stateText(s))
		}
		if err != nil {
			return fmt.Errorf("print: %w", err)
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
