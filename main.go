// Command pgevict is a sidecar that keeps Redis consistent with Postgres writes. This is the map of its house; each room
// has a package comment, and README.md says how it is used.
//
//	main.go                  the table of commands, and the exit status
//	rules/                   which keys does a changed row make stale?
//	pgnotify/                what did Postgres say has changed, and did we hear all of it?
//	  postgres/              a connection to Postgres that notices silence
//	  triggers/              the triggers that feed pgevict: what should be, what is, and the statement between
//	invalidate/              make Redis forget
//	  redisnode/             what a Redis server says of itself: slots, topology, kinds of errors
//	internal/
//	  sidecar/               the commands, and what serve is wired of: a change becomes targets, and targets join the set
//	  config/                the environment
//	  doctor/                what is wrong, and what to do
//	  refresh/               what a row is now: values of refreshed keys, with their version
//	  status/                probes and metrics
//	  history/               what changed, and which keys that made stale
//	  demo/                  make demo
//	  livetest/              real servers, and the real program, for tests and the demo
//	  e2e/, bench/           tests of the program from outside, and how fast it is
//	deploy/                  what an operator takes: manifest, users of Redis, role of Postgres
//
// Who may import whom is in .golangci.yml: rules knows nothing of ours, pgnotify and rules know nothing of each other,
// invalidate knows rules alone, and nobody but this file imports internal/sidecar.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"pgevict/internal/sidecar"
)

// commands is the table of commands; the first is the one that runs without a name.
func commands() []sidecar.Command {
	return []sidecar.Command{
		{Name: "serve", Run: sidecar.Serve, Summary: "run the sidecar until SIGINT, SIGTERM or SIGHUP; what runs without a command"},
		{Name: "check", Run: sidecar.Check, Summary: "load configuration and rules, print every problem at once; connects nowhere"},
		{Name: "explain", Run: sidecar.Explain, Synopsis: "[-channel tcn|events] [-catalog] [-json] [PAYLOAD …]",
			Summary: "print the change that each payload means and its targets; touches nothing. Without a PAYLOAD: one a line on standard input"},
		{Name: "tail", Run: sidecar.Tail, Summary: "print each change as it arrives, one JSON object a line, with its targets; touches no key"},
		{Name: "triggers print", Run: sidecar.PrintTriggers, Synopsis: "",
			Summary: "write the SQL that makes the triggers that feed it best, for the tables in the rules; connects nowhere"},
		{Name: "triggers install", Run: sidecar.InstallTriggers, Synopsis: "[-lock-timeout 2s]", Summary: "make them, in one transaction"},
		{Name: "triggers status", Run: sidecar.TriggersStatus, Synopsis: "[-json]",
			Summary: "compare the database with the rules; exit status 1 if they differ"},
		{Name: "triggers uninstall", Run: sidecar.UninstallTriggers, Synopsis: "[-lock-timeout 2s] [-json]", Summary: "remove them, without a trace"},
		{Name: "doctor", Run: sidecar.Doctor, Synopsis: "[-json]",
			Summary: "check Postgres, Redis, the triggers, and the rules against the schema, with a live round trip; changes nothing; exit status 1 if anything fails"},
		{Name: "version", Aliases: []string{"-version", "--version"}, Run: sidecar.PrintVersion, Summary: "print the version"},
		{Name: "help", Aliases: []string{"-h", "-help", "--help"}, Summary: "print this",
			Run: func(_ context.Context, p sidecar.Process) error { return sidecar.Help(p.Stdout, commands()) }},
	}
}

func main() {
	// The rules are read at the start alone, so a SIGHUP cannot mean to read them again; it must not end a drain either.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	err := sidecar.Run(ctx, commands(), sidecar.Process{
		Args: os.Args[1:], Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "pgevict: %v\n", err)
	if usage := (sidecar.UsageError{}); errors.As(err, &usage) {
		os.Exit(2)
	}
	os.Exit(1)
}
