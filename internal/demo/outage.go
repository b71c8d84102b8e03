package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"pgevict/internal/livetest/workload"
)

const (
	writers    = 4
	readers    = 2
	writeFor   = 3 * time.Second
	writePause = 2 * time.Millisecond // from one write of a writer to the next
	readPause  = 200 * time.Microsecond
)

// writes are what a writer does: to any of the rows, and now and then a row moves to another owner, goes, or comes back.
var writes = []string{
	`UPDATE actions SET descriptor = jsonb_build_object('text', $2::float8), updated_at = clock_timestamp() WHERE id = $1::bigint`,
	`UPDATE actions SET descriptor = jsonb_build_object('text', $2::float8), updated_at = clock_timestamp() WHERE id = $1::bigint`,
	`UPDATE actions SET actionable_id = ($2::float8 * 20)::int % 20 WHERE id = $1::bigint`,
	`DELETE FROM actions WHERE id = $1::bigint AND $2::float8 > 0`,
	`INSERT INTO actions (id, "order", type, descriptor, actionable_id, actionable_type, platform)
	 VALUES ($1::bigint, 1, 'text', jsonb_build_object('text', $2::float8), $1::bigint % 20, 'folders', 'line') ON CONFLICT DO NOTHING`,
}

// outage kills pgevict's session while writers write and readers fill the cache, and then looks for what is stale.
func (d *demo) outage(ctx context.Context) error {
	say(d.out, "\nNow %d writers write for %v while %d readers fill the cache, and pgevict's session is killed in the middle.",
		writers, writeFor, readers)
	before, err := d.counters(ctx)
	if err != nil {
		return err
	}

	keys, began := busy(), time.Now()
	reading, stopReading := context.WithCancel(ctx)
	writing, stopWriting := context.WithTimeout(ctx, writeFor)
	var readersDone, writersDone sync.WaitGroup
	defer readersDone.Wait()
	defer writersDone.Wait()
	defer stopReading()
	defer stopWriting()
	for range readers {
		readersDone.Go(func() {
			d.app.Loop(reading, readPause, func(ctx context.Context, conn *pgx.Conn) error {
				key := keys[rand.IntN(len(keys))]
				if rand.IntN(2) == 0 {
					key = fmt.Sprintf("action:%d", row(began))
				}
				return d.app.Read(ctx, conn, key)
			})
		})
	}
	var written atomic.Int64
	for range writers {
		writersDone.Go(func() {
			d.app.Loop(writing, writePause, func(ctx context.Context, conn *pgx.Conn) error {
				// A write that has begun is finished, so that all that were committed are counted.
				tag, err := conn.Exec(context.WithoutCancel(ctx), writes[rand.IntN(len(writes))], row(began), rand.Float64())
				written.Add(tag.RowsAffected())
				return err
			})
		})
	}
	repaired, err := d.kill(writing, before)
	writersDone.Wait()
	if err == nil {
		err = d.settle(ctx)
	}
	stopReading()
	readersDone.Wait()
	if err := errors.Join(err, d.app.Failure()); err != nil {
		return err
	}
	after, err := d.counters(ctx)
	if err != nil {
		return err
	}
	heard := int64(after.changes - before.changes)
	say(d.out, "  %-28s %d, of which Postgres delivered %d: the other %d fell into the gap",
		"rows written", written.Load(), heard, written.Load()-heard)
	say(d.out, "  %-28s every key of the rules swept %s after the kill, once more a second later", "gap repaired", milliseconds(repaired))
	return d.verdict(ctx, keys)
}

// row picks a row to write, or to read. The writers move on through the table, so that whatever they do to a row while
// nobody listens stays the last that was done to it: no later write of the same row hides it.
func row(began time.Time) int {
	const window = 20
	done := min(float64(time.Since(began))/float64(writeFor), 1)
	return 1 + int(done*(busyRows-window)) + rand.IntN(window)
}

// verdict reads every key once more, as the application would, and compares each value with what it should be.
func (d *demo) verdict(ctx context.Context, keys []string) error {
	survivors, cached, err := d.app.Stale(ctx, keys)
	if err != nil {
		return err
	}
	missing, err := d.app.LostForeign(ctx)
	if err != nil {
		return err
	}
	say(d.out, "  %-28s %d of %d, compared with their rows: stale %d", "cached values", cached, len(keys), len(survivors))
	say(d.out, "  %-28s %d of %d still there", "keys outside the rules", len(workload.Foreign())-len(missing), len(workload.Foreign()))
	switch {
	case cached == 0:
		return errors.New("nothing was in the cache, so nothing was shown")
	case len(survivors) > 0:
		return fmt.Errorf("stale: %v", survivors)
	case len(missing) > 0:
		return fmt.Errorf("%d keys are gone, though no rule makes them: %.200q", len(missing), missing)
	}
	return nil
}

// kill ends pgevict's session halfway through the writes, and gives the time that passed until the gap was swept.
func (d *demo) kill(ctx context.Context, before counters) (time.Duration, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(writeFor / 2):
	}
	ctx = context.WithoutCancel(ctx) // the repair may take longer than the writes
	killed := time.Now()
	var sessions int
	err := d.writer.QueryRow(ctx,
		`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'pgevict'`).Scan(&sessions)
	if err != nil {
		return 0, fmt.Errorf("kill pgevict's session: %w", err)
	}
	if sessions == 0 {
		return 0, errors.New("kill pgevict's session: there is none")
	}
	err = wait(ctx, "the gap is swept", func() (bool, error) {
		now, err := d.counters(ctx)
		return now.gaps > before.gaps && now.sweeps > before.sweeps, err
	})
	return time.Since(killed), err
}

// counters are some of pgevict's metrics.
type counters struct{ changes, gaps, sweeps float64 }

func (d *demo) counters(ctx context.Context) (counters, error) {
	metrics, err := d.serve.Metrics(ctx)
	if err != nil {
		return counters{}, err
	}
	return counters{
		changes: metrics.Sum("pgevict_changes_total", `source="`+d.channels()[0]+`"`),
		gaps:    metrics.Sum("pgevict_gaps_total"), sweeps: metrics.Sum("pgevict_sweeps_total"),
	}, nil
}
