package sidecar

import (
	"context"
	"time"

	"go.uber.org/zap"

	"pgevict/internal/config"
	"pgevict/internal/history"
	"pgevict/internal/status"
	"pgevict/pgnotify"
	"pgevict/rules"
)

// tailRoom is how many changes may wait to be printed. Reading Postgres never waits for whoever reads the output.
const tailRoom = 10000

// tailer is the listener's handler for tail.
type tailer struct {
	set     *rules.Set
	lines   chan history.Change
	dropped int
	log     *zap.Logger
}

// Tail prints each change as it arrives, with its targets, and touches no key.
func Tail(ctx context.Context, p Process) error {
	cfg, set, err := configure(p.Environ, config.DatabaseURL)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out, flush := nonBlockingWriter(p.Stderr)
	defer flush()
	t := &tailer{set: set, lines: make(chan history.Change, tailRoom), log: cfg.Logger(out)}
	printed := make(chan error, 1)
	go func() {
		err := t.print(newPrinter(p.Stdout, true))
		cancel() // nobody reads the output any more, or this is the end
		printed <- err
	}()
	listener(cfg, set, status.NewMetrics(Version()), t.log).Run(ctx, t)
	close(t.lines)
	select {
	case err := <-printed:
		return err
	case <-time.After(flushTime): // nobody reads the output
		return nil
	}
}

func (t *tailer) print(out printer) error {
	for line := range t.lines {
		if err := out.print(line, ""); err != nil {
			return err
		}
	}
	return nil
}

func (t *tailer) Change(c pgnotify.Change) {
	select {
	case t.lines <- history.Explain(t.set, c):
		if t.dropped > 0 {
			t.log.Warn("the output was read too slowly, so changes were not printed", zap.Int("changes", t.dropped))
			t.dropped = 0
		}
	default:
		t.dropped++
	}
}

func (t *tailer) Gap(why string, tables ...pgnotify.Table) {
	t.log.Info("changes may have been missed: serve would sweep every key of the rules, or of these tables", zap.String("gap", why), zap.Stringers("tables", tables))
}

func (t *tailer) Mark(pgnotify.Mark) {}
