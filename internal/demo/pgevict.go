package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pgevict is the program, built and run as anybody would.
type pgevict struct {
	path    string
	dir     string
	http    string   // its address
	environ []string // all that it is told
}

// build makes the program in dir.
func build(ctx context.Context, dir string) (*pgevict, error) {
	module := "pgevict"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Path != "" {
		module = info.Main.Path
	}
	p := &pgevict{path: filepath.Join(dir, "pgevict"), dir: dir}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", p.path, module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build pgevict: %w\n%s", err, out)
	}
	return p, nil
}

// configure writes the rules, and makes the variables that the program is run with.
func (p *pgevict) configure(databaseURL, redisURL string, rules []byte) error {
	file := filepath.Join(p.dir, "rules.yaml")
	if err := os.WriteFile(file, rules, 0o600); err != nil {
		return fmt.Errorf("write the rules: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find a free port: %w", err)
	}
	p.http = l.Addr().String()
	if err := l.Close(); err != nil {
		return fmt.Errorf("find a free port: %w", err)
	}
	p.environ = []string{"DATABASE_URL=" + databaseURL, "REDIS_URL=" + redisURL, "PGEVICT_RULES=" + file, "PGEVICT_HTTP_ADDR=" + p.http}
	return nil
}

func (p *pgevict) logPath(command string) string { return filepath.Join(p.dir, command+".log") }

// command is a pgevict that runs.
type command struct {
	*exec.Cmd
	done chan struct{}
	err  error // how it ended; to be read after done
}

// start runs a command of pgevict. Its log goes to a file, and ^C reaches only the demo, which ends it in its turn.
func (p *pgevict) start(name string, stdout io.Writer) (*command, error) {
	log, err := os.Create(p.logPath(name))
	if err != nil {
		return nil, fmt.Errorf("start pgevict %s: %w", name, err)
	}
	defer log.Close()
	c := &command{Cmd: exec.Command(p.path, name), done: make(chan struct{})}
	c.Env, c.Stdout, c.Stderr = p.environ, stdout, log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start pgevict %s: %w", name, err)
	}
	go func() {
		c.err = c.Wait()
		close(c.done)
	}()
	return c, nil
}

// run runs a command of pgevict to its end, and gives what it printed.
func (p *pgevict) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, p.path, args...)
	cmd.Env = p.environ
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("pgevict %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// stop asks it to end, and waits until it has.
func (c *command) stop() error {
	_ = c.Process.Signal(syscall.SIGTERM) // it may have ended already, and then says how
	select {
	case <-c.done:
	case <-time.After(15 * time.Second):
		_ = c.Process.Kill()
		<-c.done
	}
	if c.err != nil {
		return fmt.Errorf("pgevict %s ended: %w", c.Args[1], c.err)
	}
	return nil
}

// get asks pgevict over HTTP.
func (p *pgevict) get(ctx context.Context, path string) (body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.http+path, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", errors.New(strings.TrimSpace(string(text)))
	}
	return string(text), nil
}

// metric adds up the series of a metric that have all the labels, each written as name="value".
func (p *pgevict) metric(ctx context.Context, name string, labels ...string) (int, error) {
	text, err := p.get(ctx, "/metrics")
	if err != nil {
		return 0, fmt.Errorf("read the metrics: %w", err)
	}
	sum := 0.0
series:
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || !strings.HasPrefix(rest, "{") && !strings.HasPrefix(rest, " ") {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(rest, label) {
				continue series
			}
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err != nil {
			return 0, fmt.Errorf("read the metrics: %w", err)
		}
		sum += value
	}
	return int(sum), nil
}

// wait asks again and again until the answer is yes.
func wait(ctx context.Context, what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		yes, err := ok()
		if yes {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait until %s: %w", what, ctx.Err()), err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// heard is a line of pgevict tail: a change, through which channel it came, and what the rules made of it.
type heard struct {
	Source  string
	Targets []struct{ Kind, Key string }
}

// tail runs pgevict tail until the context is done, and hands over its lines once it listens.
func (p *pgevict) tail(ctx context.Context) (lines <-chan heard, stop func(), err error) {
	in, out := io.Pipe()
	c, err := p.start("tail", out)
	if err != nil {
		return nil, nil, err
	}
	heardLines := make(chan heard, 100)
	go func() {
		for scanner := bufio.NewScanner(in); scanner.Scan(); {
			var h heard
			if json.Unmarshal(scanner.Bytes(), &h) == nil {
				heardLines <- h
			}
		}
	}()
	stop = func() {
		_ = in.Close()
		_ = c.stop() // a line that nobody takes any more is no failure
	}
	err = wait(ctx, "pgevict tail listens", func() (bool, error) {
		log, err := os.ReadFile(p.logPath("tail"))
		return strings.Contains(string(log), "listening to Postgres"), err
	})
	if err != nil {
		stop()
		return nil, nil, err
	}
	return heardLines, stop, nil
}
