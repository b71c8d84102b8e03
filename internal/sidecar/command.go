package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Process is what a command has of the process that runs it. What it is told beside that, the environment says.
type Process struct {
	Args, Environ  []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Command is a row of the table of commands.
type Command struct {
	Name     string   // one word, or two
	Aliases  []string // other names of it
	Synopsis string   // its flags and arguments; empty: it takes none
	Summary  string
	Run      func(context.Context, Process) error
}

// UsageError is an error of usage, configuration or rules: exit status 2.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the error itself.
func (e UsageError) Unwrap() error { return e.Err }

// misused says what was wrong with the use of a command.
func misused(format string, args ...any) error {
	return UsageError{fmt.Errorf(format+"; see pgevict help", args...)}
}

// Run runs the command that the arguments name; without any it is the first of them.
func Run(ctx context.Context, commands []Command, p Process) error {
	c := commands[0]
	if len(p.Args) > 0 {
		var err error
		if c, p.Args, err = find(commands, p.Args); err != nil {
			return err
		}
	}
	var err error
	if c.Synopsis == "" && len(p.Args) > 0 {
		if err = newFlags(c.Name).parse(p, false); !errors.Is(err, flag.ErrHelp) {
			return misused("%s takes no arguments, so not %q", c.Name, p.Args[0])
		}
	} else {
		err = c.Run(ctx, p)
	}
	if errors.Is(err, flag.ErrHelp) { // which was given
		return nil
	}
	return err
}

// find returns the command that the arguments name, and what is behind its name.
func find(commands []Command, args []string) (c Command, rest []string, err error) {
	var verbs []string // of a name of two words of which the first was given
	for _, c := range commands {
		first, second, two := strings.Cut(c.Name, " ")
		switch {
		case !two && (first == args[0] || slices.Contains(c.Aliases, args[0])):
			return c, args[1:], nil
		case two && first == args[0] && len(args) > 1 && second == args[1]:
			return c, args[2:], nil
		case two && first == args[0]:
			verbs = append(verbs, second)
		}
	}
	switch {
	case len(verbs) == 0:
		return c, nil, misused("no such command: %q", args[0])
	case len(args) == 1:
		args = append(args, "")
	}
	return c, nil, misused("%s: one of %s, not %q", args[0], strings.Join(verbs, ", "), args[1])
}

// flags are those of a command.
type flags struct {
	*flag.FlagSet
	command string
}

func newFlags(command string) flags {
	f := flags{flag.NewFlagSet("pgevict "+command, flag.ContinueOnError), command}
	f.SetOutput(io.Discard) // what is wrong is in the error
	return f
}

// json adds a flag to print objects.
func (f flags) json() *bool { return f.Bool("json", false, "print a JSON object a line") }

// parse reads the arguments; behind the flags there may be others only if that is said.
func (f flags) parse(p Process, others bool) error {
	err := f.Parse(p.Args)
	if errors.Is(err, flag.ErrHelp) {
		f.SetOutput(p.Stdout)
		f.Usage()
		return err
	}
	if err == nil && !others && f.NArg() > 0 {
		err = fmt.Errorf("no such argument: %q", f.Arg(0))
	}
	if err != nil {
		return misused("%s: %w", f.command, err)
	}
	return nil
}

// printer prints what has a text for people and one for programs.
type printer struct {
	out  io.Writer
	json *json.Encoder // nil: for people
}

func newPrinter(out io.Writer, asJSON bool) printer {
	p := printer{out: out}
	if asJSON {
		p.json = json.NewEncoder(out)
		p.json.SetEscapeHTML(false)
	}
	return p
}

// print prints an object on a line, or the text instead.
func (p printer) print(object any, text string) error {
	var err error
	if p.json != nil {
		err = p.json.Encode(object)
	} else {
		_, err = io.WriteString(p.out, text)
	}
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
