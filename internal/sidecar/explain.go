package sidecar

import (
	"bufio"
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
	"pgevict/pgnotify"
	"pgevict/pgnotify/postgres"
	"pgevict/rules"
)

// explanation is a change and its targets, as explain and tail print them.
type explanation struct {
	Table   string            `json:"table"`
	Schema  string            `json:"schema"`
	Op      string            `json:"op"`
	Source  pgnotify.Source   `json:"source"`
	Rows    int               `json:"rows"` // 0: any row of the table
	Targets []explainedTarget `json:"targets"`
	Warning string            `json:"warning,omitempty"` // what could not be read
}

type explainedTarget struct {
	Rule    string       `json:"rule"`
	Kind    string       `json:"kind"`
	Key     string       `json:"key"`
	Field   *string      `json:"field,omitempty"`   // nil: not a field; its name may be empty
	Refresh bool         `json:"refresh,omitempty"` // the key is read anew, not deleted
	Reason  rules.Reason `json:"widened,omitempty"`
}

func explainTarget(t rules.Target, widened rules.Reason) explainedTarget {
	e := explainedTarget{Rule: t.Rule(), Kind: t.Kind.String(), Key: t.Key, Reason: widened}
	if t.Kind == rules.Field {
		name := t.Field()
		e.Field = &name
	}
	refresh, _ := t.Refresh()
	e.Refresh = refresh != nil
	return e
}

func explain(set *rules.Set, c pgnotify.Change) explanation {
	e := explanation{Table: c.Table, Schema: c.Schema, Op: c.Op, Source: c.Source, Rows: len(c.Rows), Targets: []explainedTarget{}}
	seen := map[rules.Target]bool{}
	change, _ := toRules(c, nil)
	for t, widened := range set.Match(change) {
		if !seen[t] {
			seen[t] = true
			e.Targets = append(e.Targets, explainTarget(t, widened))
		}
	}
	return e
}

// whyWidened puts the reasons for which a target is wider than its template into words.
var whyWidened = map[rules.Reason]string{
	rules.UnknownColumn: "the message lacks a column, or its text depends on the session that wrote it",
	rules.UnknownOld:    "the message does not say what the row was before",
	rules.UnknownRows:   "the message does not say which rows",
	rules.Truncated:     "every row is gone",
}

func (e explanation) text() string {
	var b strings.Builder
	table := e.Table
	if e.Schema != "" {
		table = e.Schema + "." + e.Table
	}
	rows := "any row"
	if e.Rows > 0 {
		rows = fmt.Sprintf("rows: %d", e.Rows)
	}
	fmt.Fprintf(&b, "%s of %s (%s, %s)\n", e.Op, table, e.Source, rows)
	if e.Warning != "" {
		fmt.Fprintf(&b, "  not all could be read: %s\n", e.Warning)
	}
	for _, t := range e.Targets {
		key := t.Key
		if t.Field != nil {
			key += " " + *t.Field
		}
		fmt.Fprintf(&b, "  %-7s  %s  (rule %s", t.Kind, key, t.Rule)
		if t.Refresh {
			b.WriteString("; refreshed")
		}
		if t.Reason != rules.Exact {
			fmt.Fprintf(&b, "; %s", whyWidened[t.Reason])
		}
		b.WriteString(")\n")
	}
	if len(e.Targets) == 0 {
		b.WriteString("  no rule makes a key of it\n")
	}
	return b.String()
}

// ErrUnreadable is the end of an explain that was given a payload that cannot be read.
var ErrUnreadable = errors.New("a payload cannot be read")

// explainer is the explain command.
type explainer struct {
	set     *rules.Set
	catalog *pgnotify.Catalog
	source  pgnotify.Source // empty: whichever the payload looks like
	json    *json.Encoder   // nil: text
	out     io.Writer
	bad     bool
}

// Explain prints, for each payload, the change that it means and its targets.
func Explain(ctx context.Context, args, environ []string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet("pgevict explain", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // what is wrong is in the error
	channel := flags.String("channel", "", "the `format` of the payloads, tcn or events (default: what each looks like)")
	catalog := flags.Bool("catalog", false, "ask the database for primary keys, partitions and types, as serve does")
	asJSON := flags.Bool("json", false, "print a JSON object a line")
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(stdout)
		flags.Usage()
		return nil
	}
	if err != nil {
		return UsageError{fmt.Errorf("explain: %w; see pgevict help", err)}
	}
	source := pgnotify.Source(*channel)
	if source != "" && source != pgnotify.TCN && source != pgnotify.Events {
		return UsageError{fmt.Errorf("explain -channel: tcn or events, not %q", *channel)}
	}
	var required []string
	if *catalog {
		required = []string{config.DatabaseURL}
	}
	cfg, set, err := configure(environ, required...)
	if err != nil {
		return err
	}
	e := &explainer{set: set, source: source, out: stdout}
	if *asJSON {
		e.json = json.NewEncoder(stdout)
		e.json.SetEscapeHTML(false)
	}
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
	} else if err := e.explainLines(stdin); err != nil {
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
		return e.print(map[string]string{"error": unreadable.Error(), "payload": payload},
			fmt.Sprintf("error: %v\n  payload  %s\n", unreadable, payload))
	}
	for _, c := range changes {
		x := explain(e.set, c)
		if unreadable != nil {
			x.Warning = unreadable.Error()
		}
		if err := e.print(x, x.text()); err != nil {
			return err
		}
	}
	return nil
}

func (e *explainer) print(object any, text string) error {
	var err error
	if e.json != nil {
		err = e.json.Encode(object)
	} else {
		_, err = io.WriteString(e.out, text)
	}
	if err != nil {
		return fmt.Errorf("print: %w", err)
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
