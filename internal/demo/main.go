// Command demo shows pgevict at work, on a Postgres and a Redis of its own: which keys go when a row changes, through
// which channel and how soon, and that nothing stale is left when pgevict loses its connection in the middle of writes.
//
// It exits with status 1 if a key survived that should not have. KEEP=1 leaves everything running until Enter or ^C;
// TRIGGERS=pgevict shows it with pgevict's own triggers instead of those of the note that the table comes from.
package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"pgevict/internal/livetest"
	"pgevict/internal/livetest/workload"
)

var (
	//go:embed seed.sql
	seedSQL string
	//go:embed rules.yaml
	rulesYAML []byte
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	err := run(ctx, os.Getenv("KEEP") == "1", os.Getenv("TRIGGERS"), os.Stdin, os.Stdout)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "demo: interrupted; everything is stopped")
		os.Exit(1)
	default:
		fmt.Fprintf(os.Stderr, "\ndemo: FAILED: %v\n", err)
		os.Exit(1)
	}
}

// demo is everything that runs.
type demo struct {
	out         io.Writer
	databaseURL string
	redis       *livetest.Redis
	writer      *pgx.Conn
	reader      *pgx.Conn
	app         *workload.App
	pgevict     pgevict
	serve       *livetest.Program
	tail        *tailer
	own         bool           // the triggers are pgevict's own
	undo        []func() error // in the order of what they undo
}

func run(ctx context.Context, keep bool, triggers string, in io.Reader, out io.Writer) (err error) {
	if triggers != "" && triggers != "pgevict" {
		return fmt.Errorf("TRIGGERS: pgevict, or nothing for the triggers of tcn and notify_event, not %q", triggers)
	}
	dir, err := os.MkdirTemp("", "pgevict-demo-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	d := &demo{out: out, own: triggers == "pgevict"}
	defer func() {
		failed := err != nil && ctx.Err() == nil
		for len(d.undo) > 0 {
			last := len(d.undo) - 1
			err = errors.Join(err, d.undo[last]())
			d.undo = d.undo[:last]
		}
		if failed {
			say(out, "\npgevict's log is in %s", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	d.pgevict = pgevict{path: filepath.Join(dir, "pgevict"), dir: dir}
	if err := livetest.BuildProgram(d.pgevict.path, livetest.AsShipped); err != nil {
		return err
	}
	began := time.Now()
	if err := d.servers(ctx); err != nil {
		return err
	}
	if err := d.begin(ctx); err != nil {
		return err
	}
	if err := d.show(ctx); err != nil {
		return err
	}
	say(out, "\nDone in %.0f s: every stale key was deleted, and nothing else.", time.Since(began).Seconds())
	if keep {
		return d.keep(ctx, in)
	}
	say(out, "KEEP=1 leaves all of it running to be poked at; TRIGGERS=pgevict shows it with pgevict's own triggers.")
	return nil
}

// servers starts Postgres and Redis, with the table, its triggers and its rows.
func (d *demo) servers(ctx context.Context) error {
	logging.Disable()
	pg, err := livetest.StartPostgres()
	if err != nil {
		return err
	}
	d.undo = append(d.undo, pg.Close)
	if d.redis, err = livetest.StartRedis(); err != nil {
		return err
	}
	d.undo = append(d.undo, d.redis.Close)

	admin, err := d.connect(ctx, pg.URL("postgres"))
	if err != nil {
		return err
	}
	if _, err := admin.Exec(ctx, "CREATE DATABASE kurator"); err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	d.databaseURL = pg.URL("kurator")
	if d.writer, err = d.connect(ctx, d.databaseURL); err != nil {
		return err
	}
	if _, err := d.writer.Exec(ctx, livetest.NotifyEvent+seedSQL); err != nil {
		return fmt.Errorf("seed.sql: %w", err)
	}
	if d.reader, err = d.connect(ctx, d.databaseURL); err != nil {
		return err
	}
	cache := redis.NewClient(&redis.Options{Addr: d.redis.Addr, ContextTimeoutEnabled: true})
	d.app = &workload.App{URL: d.databaseURL, Cache: cache, Truths: truths}
	d.undo = append(d.undo, cache.Close)

	var version string
	if err := d.writer.QueryRow(ctx, "SHOW server_version").Scan(&version); err != nil {
		return fmt.Errorf("ask Postgres for its version: %w", err)
	}
	info, err := d.app.Cache.Info(ctx, "server").Result()
	if err != nil {
		return fmt.Errorf("ask Redis for its version: %w", err)
	}
	_, info, _ = strings.Cut(info, "redis_version:")
	info, _, _ = strings.Cut(info, "\r")
	say(d.out, "Postgres %s on %s, Redis %s on %s.", strings.Fields(version)[0], pg.Addr, info, d.redis.Addr)
	if err := d.pgevict.configure(d.databaseURL, d.redis.URL(), rulesYAML); err != nil {
		return err
	}
	return d.triggers(ctx)
}

// triggers leaves the table actions with those of the note, or puts pgevict's own in their place.
func (d *demo) triggers(ctx context.Context) error {
	if !d.own {
		say(d.out, "The table actions has the triggers of tcn and notify_event.")
		return nil
	}
	if _, err := d.writer.Exec(ctx, dropNotesTriggers); err != nil {
		return fmt.Errorf("drop the triggers of the note: %w", err)
	}
	said, err := d.pgevict.run(ctx, "triggers", "install")
	if err != nil {
		return err
	}
	say(d.out, "\n$ pgevict triggers install\n%s", said)
	return nil
}

// dropNotesTriggers undoes what seed.sql has of the note's.
const dropNotesTriggers = `
DROP TRIGGER actions_notification_trigger ON actions;
DROP TRIGGER actions_better_notification_trigger ON actions;
DROP FUNCTION notify_event;
DROP EXTENSION tcn`

func (d *demo) connect(ctx context.Context, url string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	d.undo = append(d.undo, func() error { return conn.Close(context.WithoutCancel(ctx)) })
	return conn, nil
}

// begin fills the cache and starts pgevict, which sweeps, since it cannot know what it has missed.
func (d *demo) begin(ctx context.Context) error {
	filled := slices.Compact(slices.Sorted(slices.Values(append(shown(), busy()...))))
	if err := errors.Join(d.fill(ctx, filled), d.app.PutForeign(ctx)); err != nil {
		return err
	}
	key := "action:" + noteSecond
	value, err := d.app.Cache.Get(ctx, key).Result()
	if err != nil {
		return fmt.Errorf("read the cache: %w", err)
	}
	say(d.out, "The application has cached %d rows, lists and pages, %s among them:\n  %s", len(filled), key, string([]rune(value)[:96])+" …")
	started := time.Now()
	if d.serve, err = d.pgevict.start("serve"); err != nil {
		return err
	}
	d.undo = append(d.undo, func() error { return stop(d.serve) })
	if err := d.serve.Serving(); err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := d.serve.Ready(starting); err != nil {
		return err
	}
	ready := time.Since(started)
	if err := d.settle(ctx); err != nil {
		return err
	}
	metrics, err := d.serve.Metrics(ctx)
	if err != nil {
		return err
	}
	missing, err := d.app.LostForeign(ctx)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("%d keys are gone, though no rule makes them: %.200q", len(missing), missing)
	}
	say(d.out, "pgevict is ready after %s. It cannot know what it missed before, so it has swept the %.0f keys of its rules, and",
		milliseconds(ready), metrics.Sum("pgevict_evicted_total"))
	say(d.out, "none of the other %d. From here on each key goes when its row changes:", len(workload.Foreign()))
	return nil
}

// show is the demo itself.
func (d *demo) show(ctx context.Context) error {
	var err error
	if d.tail, err = d.pgevict.tail(); err != nil {
		return err
	}
	d.undo = append(d.undo, func() error { return stop(d.tail.Program) }) // again does no harm
	for _, sql := range statements {
		if err := d.statement(ctx, sql); err != nil {
			return err
		}
	}
	if d.own {
		if err := d.statement(ctx, truncate); err != nil {
			return err
		}
		if err := d.restore(ctx); err != nil {
			return err
		}
		say(d.out, "\n(These triggers tell what the rows were and what they are, so every key is exact; and they tell of TRUNCATE.)")
	} else {
		say(d.out, "\n(tcn tells only the primary key, so a key made of other columns widens to a pattern; notify_event tells the new row.)")
	}
	if err := stop(d.tail.Program); err != nil {
		return err
	}
	return d.outage(ctx)
}

// settle waits until nothing is pending and the second deletes, a second after the first ones, are over: a key that is
// filled from then on goes only if its row changes.
func (d *demo) settle(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(1300 * time.Millisecond):
	}
	return wait(ctx, "nothing is pending", func() (bool, error) {
		metrics, err := d.serve.Metrics(ctx)
		return err == nil && metrics["pgevict_pending"] == 0, err
	})
}

// keep leaves everything running, and says what can be done with it.
func (d *demo) keep(ctx context.Context, in io.Reader) error {
	if err := d.fill(ctx, shown()); err != nil {
		return err
	}
	host, port, _ := strings.Cut(d.redis.Addr, ":")
	say(d.out, "\nEverything runs until Enter or ^C:")
	say(d.out, "  psql '%s'", d.databaseURL)
	say(d.out, "  redis-cli -h %s -p %s get action:%s", host, port, noteSecond)
	say(d.out, "  curl %s/metrics    (and /livez, /readyz, /startupz)", d.serve.URL())
	say(d.out, "  env '%s' %s tail", strings.Join(d.pgevict.environ[:3], "' '"), d.pgevict.path)
	say(d.out, "  less %s", d.serve.LogFile)
	entered := make(chan struct{})
	go func() {
		if _, err := bufio.NewReader(in).ReadString('\n'); err == nil { // no terminal is not Enter
			close(entered)
		}
	}()
	select {
	case <-ctx.Done():
	case <-entered:
	}
	return nil
}
