package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pgevict/internal/livetest"
)

// patience is how long the demo waits for something before it gives up.
const patience = 15 * time.Second

// pgevict is the program as anybody would run it: where it is, and all that it is told.
type pgevict struct {
	path, dir string
	environ   []string
}

// configure writes the rules, and makes the variables that the program is run with.
func (p *pgevict) configure(databaseURL, redisURL string, rules []byte) error {
	file := filepath.Join(p.dir, "rules.yaml")
	if err := os.WriteFile(file, rules, 0o600); err != nil {
		return fmt.Errorf("write the rules: %w", err)
	}
	p.environ = []string{"DATABASE_URL=" + databaseURL, "REDIS_URL=" + redisURL, "PGEVICT_RULES=" + file, "PGEVICT_HTTP_ADDR=127.0.0.1:0"}
	return nil
}

// start starts a command that goes on until it is stopped, with its log in a file.
func (p *pgevict) start(name string) (*livetest.Program, error) {
	c := &livetest.Program{Path: p.path, Args: []string{name}, Environ: p.environ, LogFile: filepath.Join(p.dir, name+".log")}
	return c, c.Start()
}

// run runs a command to its end, and returns what it printed.
func (p *pgevict) run(ctx context.Context, args ...string) (string, error) {
	c := &livetest.Program{Path: p.path, Args: args, Environ: p.environ}
	status, err := c.Run(ctx)
	if err != nil {
		return "", err
	}
	if status != 0 {
		return "", fmt.Errorf("%s: exit status %d\n%s%s", c, status, c.Out.String(), c.Log.String())
	}
	return strings.TrimSpace(c.Out.String()), nil
}

// stop asks a command to end, and kills it if it does not.
func stop(c *livetest.Program) error {
	status, err := c.Stop()
	if err != nil {
		return errors.Join(err, c.Kill())
	}
	if status != 0 {
		return fmt.Errorf("%s ended with status %d", c, status)
	}
	return nil
}

// wait asks again and again until the answer is yes.
func wait(ctx context.Context, what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return livetest.Until(ctx, what, ok)
}

// heard is a line of pgevict tail: a change, through which channel it came, and what the rules made of it.
type heard struct {
	Source  string
	Targets []struct{ Kind, Key string }
}

// tailer is a pgevict tail that listens.
type tailer struct {
	*livetest.Program
	read int // lines
}

func (p *pgevict) tail() (*tailer, error) {
	c, err := p.start("tail")
	if err != nil {
		return nil, err
	}
	if _, err := c.Logged(0, "listening to Postgres"); err != nil {
		return nil, errors.Join(err, stop(c))
	}
	return &tailer{Program: c}, nil
}

// next waits for the next line.
func (t *tailer) next() (h heard, err error) {
	line, ok := t.Out.Wait(t.read, patience, func(string) bool { return true })
	if !ok {
		return h, errors.New("pgevict tail did not tell of the change")
	}
	t.read++
	if err := json.Unmarshal([]byte(line), &h); err != nil {
		return h, fmt.Errorf("read a line of pgevict tail: %w", err)
	}
	return h, nil
}
