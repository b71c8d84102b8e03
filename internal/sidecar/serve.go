// Package sidecar is the commands of the program, and what serve is wired of.
package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"pgevict/internal/config"
	"pgevict/internal/refresh"
	"pgevict/internal/status"
	"pgevict/invalidate"
	"pgevict/rules"
)

// Serve runs the sidecar until the context is done, and then as long as it takes to apply what waits, within the grace.
func Serve(ctx context.Context, p Process) error {
	cfg, set, err := configure(p.Environ, config.DatabaseURL, config.RedisURL)
	if err != nil {
		return err
	}
	redisOptions, err := cfg.RedisOptions()
	if err != nil {
		return UsageError{err}
	}
	out, flush := nonBlockingWriter(p.Stderr)
	defer flush()
	log := cfg.Logger(out)
	log.Info("pgevict starts", zap.String("version", Version()), zap.Int("tables", len(set.Tables())),
		zap.Strings("tcn_channels", cfg.TCNChannels), zap.Strings("events_channels", cfg.EventsChannels),
		zap.Bool("dry_run", cfg.DryRun))

	redis.SetLogger(redisLog{log}) // its own log goes to standard error, unasked

	m := status.NewMetrics(Version())
	r := refresh.New(cfg.PostgresConfig, cfg.RefreshConns, cfg.RefreshTimeout)
	pipe := &pipeline{rules: set, gap: cfg.Gap, renew: r.Renew, metrics: m, log: log}
	options := invalidate.Options{
		MaxPending: cfg.MaxPending,
		AgainAfter: cfg.AgainAfter,
		Timeout:    min(cfg.Heartbeat, 5*time.Second), // it delays a stop, too
		DryRun:     cfg.DryRun,
		Tags:       set.Tags(),
		Gap:        func(reason string) { pipe.Gap(reason) },
		Sweeping:   m.SweepBegins,
		Swept:      pipe.Swept,
		Log:        log,
	}
	m.Observe(&options)
	if len(set.Refreshes()) > 0 {
		options.Read = r.Read
	}
	pipe.queue = invalidate.New(redisOptions, options)
	m.Begin(set)
	m.Watch(pipe.queue.Stats, time.Now())

	// What was started first stops last: the listener, then the queue, which drains, then what it reads on, then HTTP.
	stopHTTP, err := serveHTTP(ctx, cfg, status.Handler(pipe.queue.Stats, cfg.Heartbeat, m), log)
	if err != nil {
		return err
	}
	defer stopHTTP()
	defer r.Close()
	var applying sync.WaitGroup
	applyContext, stopApplying := context.WithCancel(context.WithoutCancel(ctx))
	applying.Go(func() { pipe.queue.Run(applyContext) })

	listener(cfg, set, m, log).Run(ctx, pipe)

	log.Info("stopping", zap.Int("pending", pipe.queue.Stats().Pending))
	graceContext, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Grace)
	defer cancel()
	stopApplying()
	applying.Wait()
	return pipe.queue.Drain(graceContext)
}

// redisLog takes what go-redis logs by itself. What matters of it is in the errors that it returns.
type redisLog struct{ *zap.Logger }

func (l redisLog) Printf(_ context.Context, format string, args ...any) {
	l.Debug("go-redis", zap.String("said", fmt.Sprintf(format, args...)))
}

// serveHTTP answers the probes until it is stopped, unless there is to be no HTTP.
func serveHTTP(ctx context.Context, cfg config.Config, handler http.Handler, log *zap.Logger) (stop func(), err error) {
	if cfg.HTTPAddr == config.HTTPOff {
		return func() {}, nil
	}
	if stop, err = status.Serve(ctx, cfg.HTTPAddr, handler, log); err != nil {
		return nil, fmt.Errorf("PGEVICT_HTTP_ADDR: %w", err)
	}
	return stop, nil
}

// configure reads the configuration and the rules, and tells the problems of both at once.
func configure(environ []string, required ...string) (config.Config, *rules.Set, error) {
	cfg, err := config.Load(environ, required...)
	if config.IsURL(cfg.Rules) { // told already, without the value
		return cfg, nil, UsageError{err}
	}
	set, rulesErr := rules.Load(cfg.Rules)
	if err := errors.Join(err, rulesErr); err != nil {
		return cfg, nil, UsageError{err}
	}
	return cfg, set, nil
}
