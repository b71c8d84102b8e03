package sidecar

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"

	"pgevict/internal/config"
	"pgevict/internal/status"
	"pgevict/pgnotify"
	"pgevict/rules"
)

// tailRoom is how many changes may wait to be printed. Reading Postgres never waits for whoever reads the output.
const tailRoom = 10000

// tailer is the listener's handler for tail.
type tailer struct {
	set     *rules.Set
	lines   chan explanation
	dropped int
	log     *zap.Logger
}

// Tail prints each change as it arrives, with its targets, and touches no key.
func Tail(ctx context.Context, environ []string, stdout, stderr io.Writer) error {
	cfg, set, err := configure(environ, config.DatabaseURL)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out, flush := patientWriter(stderr)
	defer flush()
	t := &tailer{set: set, lines: make(chan explanation, tailRoom), log: cfg.Logger(out)}
	printed := make(chan error, 1)
	go func() {
		err := t.print(stdout)
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

func (t *tailer) print(stdout io.Writer) error {
	out := json.NewEncoder(stdout)
	out.SetEscapeHTML(false)
	for line := range t.lines {
		if err := out.Encode(line); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}

func (t *tailer) Change(c pgnotify.Change) {
	select {
	case t.lines <- explain(t.set, c):
		if t.dropped > 0 {
			t.log.Warn("the output was read too slowly, so changes were not printed", zap.Int("changes", t.dropped))
			t.dropped = 0
		}
	default:
		t.dropped++
	}
}

func (t *tailer) Gap(why string) {
	t.log.Info("changes may have been missed: serve would sweep every key of the rules", zap.String("gap", why))
}

func (t *tailer) Mark(pgnotify.Mark) {}
