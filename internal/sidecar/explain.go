package sidecar

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgevict/internal/config"
	"pgevict/internal/history"
	"pgevict/pgnotify"
	"pgevict/pgnotify/postgres"
	"pgevict/rules"
)

// ErrUnreadable is the end of an explain that was given a payload that cannot be read.
var ErrUnreadable = errors.New("a payload cannot be read")

// explainer is the explain command.
type explainer struct {
	set     *rules.Set
	catalog *pgnotify.Catalog
	source  pgnotify.Source // empty: whichever the payload looks like
	out     printer
	bad     bool // a payload could not be read
}

// Explain prints, for each payload, the change that it means and its targets.
func Explain(ctx context.Context, p Process) error {
	flags := newFlags("explain")
	channel := flags.String("channel", "", "the `format` of the payloads, tcn or events (default: what each looks like)")
	catalog := flags.Bool("catalog", false, "ask the database for primary keys, partitions and types, as serve does")
	asJSON := flags.json()
	if err := flags.parse(p, true); err != nil {
		return err
	}
	source := pgnotify.Source(*channel)
	if source != "" && source != pgnotify.TCN && source != pgnotify.Events {
		return UsageError{fmt.Errorf("explain -channel: tcn or events, not %q", *channel)}
	}
	var required []string
	if *catalog {
		required = []string{config.DatabaseURL}
	}
	cfg, set, err := configure(p.Environ, required...)
	if err != nil {
		return err
	}
	e := &explainer{set: set, source: source, out: newPrinter(p.Stdout, *asJSON)}
	if *catalog {
		if e.catalog, err = readCatalog(ctx, cfg, set); err != nil {
			return err
		}
	}
	if flags.NArg() > 0 {
		for _, payload := range flags.Args() {
			if err := e.explain(payload); err != nil {
				return err
			}
		}
	} else if err := e.explainLines(p.Stdin); err != nil {
		return err
	}
	if e.bad {
		return ErrUnreadable
	}
	return nil
}

func (e *explainer) explainLines(stdin io.Reader) error {
	lines := bufio.NewReader(stdin)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			if err := e.explain(strings.TrimSuffix(line, "\n")); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read payloads: %w", err)
		}
	}
}

func (e *explainer) explain(payload string) error {
	source := e.source
	if source == "" {
		source = pgnotify.TCN
		if strings.HasPrefix(strings.TrimSpace(payload), "{") {
			source = pgnotify.Events
		}
	}
	byRules := pgnotify.Decoder{Columns: e.set.Columns, Catalog: e.catalog}
	changes, _, unreadable := byRules.Decode(source, payload)
	if len(changes) == 0 {
		// No rule is concerned, but what the payload says is still of interest.
		all := pgnotify.Decoder{Columns: func(_, _ string) ([]string, bool) { return nil, true }}
		changes, _, unreadable = all.Decode(source, payload)
	}
	if len(changes) == 0 {
		e.bad = true
		return e.out.print(map[string]string{"error": unreadable.Error(), "payload": payload},
			fmt.Sprintf("error: %v\n  payload  %s\n", unreadable, payload))
	}
	for _, c := range changes {
		x := history.Explain(e.set, c)
		if unreadable != nil {
			x.Warning = unreadable.Error()
		}
		if err := e.out.print(x, x.Text()); err != nil {
			return err
		}
	}
	return nil
}

func readCatalog(ctx context.Context, cfg config.Config, set *rules.Set) (catalog *pgnotify.Catalog, err error) {
	err = withPostgres(ctx, cfg, func(ctx context.Context, conn *pgconn.PgConn) error {
		catalog, err = pgnotify.LoadCatalog(ctx, conn, set.TableNames(), set.Columns)
		return err
	})
	return catalog, err
}

// withPostgres does something with a connection of its own.
func withPostgres(ctx context.Context, cfg config.Config, do func(context.Context, *pgconn.PgConn) error) error {
	const timeout = 10 * time.Second
	target, err := cfg.PostgresConfig()
	if err != nil {
		return err
	}
	conn, err := postgres.Connect(ctx, target, timeout)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return do(ctx, conn)
}
