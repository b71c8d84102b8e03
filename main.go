// Command pgevict is a sidecar that keeps Redis consistent with Postgres writes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"pgevict/internal/sidecar"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	var usage sidecar.UsageError
	switch {
	case err == nil:
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "pgevict: %v\n", err)
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "pgevict: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) error {
	command := "serve"
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	if len(args) > 0 && !slices.Contains([]string{"explain", "triggers", "doctor"}, command) {
		return sidecar.UsageError{Err: fmt.Errorf("%s takes no arguments; see pgevict help", command)}
	}
	switch command {
	case "serve":
		return sidecar.Serve(ctx, environ, stderr)
	case "check":
		return sidecar.Check(environ, stdout)
	case "explain":
		return sidecar.Explain(ctx, args, environ, stdin, stdout)
	case "tail":
		return sidecar.Tail(ctx, environ, stdout, stderr)
	case "triggers":
		return sidecar.Triggers(ctx, args, environ, stdout)
	case "doctor":
		return sidecar.Doctor(ctx, args, environ, stdout)
	case "version", "-version", "--version":
		return sidecar.PrintVersion(stdout)
	case "help", "-h", "-help", "--help":
		return sidecar.Help(stdout)
	}
	return sidecar.UsageError{Err: fmt.Errorf("no such command: %q; see pgevict help", command)}
}
