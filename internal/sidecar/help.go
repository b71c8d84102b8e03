package sidecar

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"

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
func PrintVersion(_ context.Context, p Process) error {
	_, err := fmt.Fprintf(p.Stdout, "pgevict %s %s %s/%s\n", Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

const usage = `pgevict keeps Redis consistent with Postgres writes.

It listens on notification channels, asks a rules file which Redis keys a changed row makes stale, and deletes them
or reads them anew.

`

const exitStatus = `
Exit status: 0 done, or stopped by a signal; 1 failed while running; 2 bad usage, configuration or rules.

`

// Help writes the commands and the table of variables.
func Help(stdout io.Writer, commands []Command) error {
	var text strings.Builder
	text.WriteString(usage)
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "COMMAND\tWHAT IT DOES") // the builder takes it all
	for _, c := range commands {
		lines := wrap(c.Summary, 90)
		if c.Synopsis != "" {
			lines = append(lines, c.Synopsis)
		}
		for i, line := range lines {
			name := ""
			if i == 0 {
				name = "pgevict " + c.Name
			}
			_, _ = fmt.Fprintln(table, name+"\t"+line)
		}
	}
	_ = table.Flush()
	text.WriteString(exitStatus)
	if _, err := io.WriteString(stdout, text.String()); err != nil {
		return err
	}
	return config.Usage(stdout)
}

// wrap breaks a text into lines.
func wrap(text string, width int) []string {
	var lines []string
	for word := range strings.FieldsSeq(text) {
		last := len(lines) - 1
		if last < 0 || len(lines[last])+1+len(word) > width {
			lines = append(lines, word)
		} else {
			lines[last] += " " + word
		}
	}
	return lines
}

// Check loads configuration and rules, and tells every problem at once. It connects nowhere.
func Check(_ context.Context, p Process) error {
	cfg, set, err := configure(p.Environ, config.DatabaseURL, config.RedisURL)
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "ok: the configuration is complete, and %s has rules for %s\n", cfg.Rules, strings.Join(set.TableNames(), ", "))
	for _, o := range set.Overlaps() {
		fmt.Fprintf(&text, "warning: %s of the rule %s may name the sets that are the tags %s of the rule %s: such a key is read as a set before it is deleted, "+
			"and its members go too; if that is not meant, give one of them another beginning\n", o.Other.Key, o.Other.Rule(), o.Tag.Key, o.Tag.Rule())
	}
	_, err = fmt.Fprint(p.Stdout, text.String())
	return err
}
