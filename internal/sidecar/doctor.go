package sidecar

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"pgevict/internal/config"
	"pgevict/internal/doctor"
)

// ErrUnwell is the end of a doctor that found something to fail.
var ErrUnwell = errors.New("not all is well")

// Doctor checks Postgres, Redis, the triggers and the rules against the schema, and says what to do.
func Doctor(ctx context.Context, p Process) error {
	flags := newFlags("doctor")
	asJSON := flags.json()
	if err := flags.parse(p, false); err != nil {
		return err
	}
	cfg, set, err := configure(p.Environ, config.DatabaseURL, config.RedisURL)
	if err != nil {
		return err
	}
	out := newPrinter(p.Stdout, *asJSON)
	count := map[doctor.Status]int{}
	var printErr error // the first
	d := doctor.Doctor{
		Rules: set, Postgres: cfg.PostgresConfig, Redis: cfg.RedisOptions,
		TCNChannels: cfg.TCNChannels, EventsChannels: cfg.EventsChannels,
		Triggers: wantedTriggers(cfg, set), RefreshTimeout: cfg.RefreshTimeout,
		Report: func(f doctor.Finding) {
			count[f.Status]++
			if err := out.print(f, findingText(f)); printErr == nil {
				printErr = err
			}
		},
	}
	d.Examine(ctx)
	if !*asJSON && printErr == nil {
		printErr = out.print(nil, fmt.Sprintf("%d fail, %d warn, %d ok\n", count[doctor.Fail], count[doctor.Warn], count[doctor.OK]))
	}
	if printErr != nil {
		return printErr
	}
	if count[doctor.Fail] > 0 {
		return ErrUnwell
	}
	return nil
}

func findingText(f doctor.Finding) string {
	text := fmt.Sprintf("%-4s  %-18s  %s\n", f.Status, f.Check, strings.ReplaceAll(f.Found, "\n", " "))
	if f.Do != "" {
		text += fmt.Sprintf("%26s→ %s\n", "", f.Do)
	}
	return text
}
