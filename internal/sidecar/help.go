package sidecar

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"pgevict/internal/config"
)

// version is set at link time for a release.
var version string

// Version is that of a release, or what the build knows of the source.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// PrintVersion writes the version on one line.
func PrintVersion(stdout io.Writer) error {
	_, err := fmt.Fprintf(stdout, "pgevict %s %s %s/%s\n", Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

const usage = `pgevict keeps Redis consistent with Postgres writes.

It listens on notification channels, asks a rules file which Redis keys a changed row makes stale, and deletes them
or reads them anew.

COMMANDS
  pgevict [serve]    run the sidecar until SIGINT or SIGTERM
  pgevict check      load configuration and rules, print every problem at once; connects nowhere
  pgevict explain    print the change that each payload means and its targets; touches nothing
                     [-channel tcn|events] [-catalog] [-json] [PAYLOAD ...]   (or one a line on standard input)
  pgevict tail       print each change as it arrives, one JSON object a line, with its targets; touches no key
  pgevict triggers   the triggers that feed it best, for the tables in the rules:
                       print      write the SQL that makes them, for a migration tool; connects nowhere
                       install    make them in one transaction [-lock-timeout 2s]
                       status     compare the database with the rules; exit status 1 if they differ [-json]
                       uninstall  remove them, without a trace [-lock-timeout 2s] [-json]
  pgevict doctor     check Postgres, Redis, the triggers, and the rules against the schema, with a live round trip; changes
                     nothing; exit status 1 if anything fails [-json]
  pgevict version    print the version
  pgevict help       print this

Exit status: 0 done, or stopped by a signal; 1 failed while running; 2 bad usage, configuration or rules.

`

// Help writes the commands and the table of variables.
func Help(stdout io.Writer) error {
	if _, err := io.WriteString(stdout, usage); err != nil {
		return err
	}
	return config.Usage(stdout)
}

// Check loads configuration and rules, and tells every problem at once. It connects nowhere.
func Check(environ []string, stdout io.Writer) error {
	cfg, set, err := configure(environ, config.DatabaseURL, config.RedisURL)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "ok: the configuration is complete, and %s has rules for %s\n", cfg.Rules, strings.Join(set.TableNames(), ", "))
	return err
}
