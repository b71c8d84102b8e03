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
	"pgevict/invalidate"
	"pgevict/pgnotify"
	"pgevict/pgnotify/postgres"
	"pgevict/rules"
)

// ErrUnwell is the end of a doctor that found something to fail.
var ErrUnwell = errors.New("not all is well")

// doctorPatience bounds what the doctor waits for, one by one.
const doctorPatience = 10 * time.Second

// doctor is the doctor command.
type doctor struct {
	config config.Config
	set    *rules.Set
	json   *json.Encoder // nil: text
	out    io.Writer
	count  map[string]int
	err    error // of printing
}

// Doctor checks Postgres, Redis, the triggers and the rules against the schema, and says what to do.
func Doctor(ctx context.Context, args, environ []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("pgevict doctor", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // what is wrong is in the error
	asJSON := flags.Bool("json", false, "print a JSON object a line")
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(stdout)
		flags.Usage()
		return nil
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("no such argument: %q", flags.Arg(0))
	}
	if err != nil {
		return UsageError{fmt.Errorf("doctor: %w; see pgevict help", err)}
	}
	d := &doctor{out: stdout, count: map[string]int{}}
	if d.config, d.set, err = configure(environ, config.DatabaseURL, config.RedisURL); err != nil {
		return err
	}
	if *asJSON {
		d.json = json.NewEncoder(stdout)
		d.json.SetEscapeHTML(false)
	}
	d.postgres(ctx)
	d.redis(ctx)
	if d.json == nil && d.err == nil {
		_, d.err = fmt.Fprintf(stdout, "%d fail, %d warn, %d ok\n", d.count["fail"], d.count["warn"], d.count["ok"])
	}
	if d.err != nil {
		return fmt.Errorf("print: %w", d.err)
	}
	if d.count["fail"] > 0 {
		return ErrUnwell
	}
	return nil
}

// say prints a finding.
func (d *doctor) say(status, check, found, do string) {
	d.count[status]++
	var err error
	if d.json != nil {
		err = d.json.Encode(struct {
			Status string `json:"status"`
			Check  string `json:"check"`
			Found  string `json:"found"`
			Do     string `json:"do,omitempty"`
		}{status, check, found, do})
	} else {
		text := fmt.Sprintf("%-4s  %-18s  %s\n", status, check, strings.ReplaceAll(found, "\n", " "))
		if do != "" {
			text += fmt.Sprintf("%26s→ %s\n", "", do)
		}
		_, err = io.WriteString(d.out, text)
	}
	if d.err == nil {
		d.err = err
	}
}

// connect opens a connection to Postgres.
func (d *doctor) connect(ctx context.Context) (*pgconn.PgConn, error) {
	cfg, err := d.config.PostgresConfig()
	if err != nil {
		return nil, err
	}
	return postgres.Connect(ctx, cfg, doctorPatience)
}

func (d *doctor) postgres(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 3*doctorPatience)
	defer cancel()
	conn, err := d.connect(ctx)
	if err != nil {
		do := "check DATABASE_URL, and that Postgres runs and can be reached from here"
		if strings.Contains(err.Error(), "read only") {
			do = "name the primary in DATABASE_URL, or all hosts: a standby, or a server that is read-only, cannot be listened to"
		}
		d.say("fail", "postgres reachable", err.Error(), do)
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	took, err := pgnotify.RoundTrip(ctx, conn, d.connect)
	if errors.Is(err, postgres.ErrPooler) || errors.Is(err, postgres.ErrDeaf) { // nothing else of it can be trusted either
		d.say("ok", "postgres reachable", "something answers", "")
		d.say("fail", "postgres round trip", err.Error(), "set DATABASE_URL to the address of Postgres itself, not of PgBouncer, pgcat, RDS Proxy or the like")
		return
	}
	d.say("ok", "postgres reachable", "it answers, and no pooler stands before it", "")
	if err := pgnotify.Diagnose(ctx, conn, d.say); err != nil {
		d.say("fail", "postgres server", err.Error(), "see Postgres' log")
		return
	}
	if errors.Is(err, postgres.ErrStandby) {
		d.say("fail", "postgres round trip", err.Error(), "name the primary in DATABASE_URL")
	} else if err != nil {
		d.say("fail", "postgres round trip", err.Error(), "see Postgres' log")
	} else {
		d.say("ok", "postgres round trip", fmt.Sprintf("%.1f ms from NOTIFY on one connection to another", took.Seconds()*1000), "")
	}
	if err := d.schema(ctx, conn); err != nil {
		d.say("fail", "tables", err.Error(), "see Postgres' log")
	}
}

func (d *doctor) redis(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 6*doctorPatience)
	defer cancel()
	options, err := d.config.RedisOptions()
	if err != nil {
		d.say("fail", "redis reachable", err.Error(), "check REDIS_URL")
		return
	}
	invalidate.Diagnose(ctx, options, doctorPatience/2, d.set, d.say)
}
