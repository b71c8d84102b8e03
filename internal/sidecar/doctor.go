package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"pgevict/internal/config"
	"pgevict/internal/doctor"
)

// ErrUnwell is the end of a doctor that found something to fail.
var ErrUnwell = errors.New("not all is well")

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
	cfg, set, err := configure(environ, config.DatabaseURL, config.RedisURL)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(stdout)
	encoder.SetEscapeHTML(false)
	count := map[doctor.Status]int{}
	var printErr error
	d := doctor.Doctor{
		Rules: set, Postgres: cfg.PostgresConfig, Redis: cfg.RedisOptions,
		TCNChannels: cfg.TCNChannels, EventsChannels: cfg.EventsChannels,
		Triggers: wantedTriggers(cfg, set), RefreshTimeout: cfg.RefreshTimeout,
		Report: func(f doctor.Finding) {
			count[f.Status]++
			var err error
			if *asJSON {
				err = encoder.Encode(f)
			} else {
				_, err = io.WriteString(stdout, findingText(f))
			}
			if printErr == nil {
				printErr = err
			}
		},
	}
	d.Examine(ctx)
	if !*asJSON && printErr == nil {
		_, printErr = fmt.Fprintf(stdout, "%d fail, %d warn, %d ok\n", count[doctor.Fail], count[doctor.Warn], count[doctor.OK])
	}
	if printErr != nil {
		return fmt.Errorf("print: %w", printErr)
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
