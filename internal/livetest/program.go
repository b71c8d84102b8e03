package livetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Build says how pgevict is built.
type Build int

// The kinds of builds.
const (
	AsShipped Build = iota // as make build does it: static, and without symbols
	AsTested               // with the race detector, if the program that asks for it has one
)

// BuildProgram builds pgevict into a file.
func BuildProgram(path string, how Build) error {
	args, environ := []string{"build", "-o", path}, os.Environ()
	switch how {
	case AsShipped:
		args, environ = append(args, "-trimpath", "-ldflags", "-s -w"), append(environ, "CGO_ENABLED=0")
	case AsTested:
		info, ok := debug.ReadBuildInfo()
		if ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
			args = append(args, "-race")
		}
	}
	cmd := exec.Command("go", append(args, "pgevict")...)
	cmd.Env = environ
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build pgevict: %w\n%s", err, out)
	}
	return nil
}

// Program is pgevict, or a helper of the tests, as a process that does not outlive this one. The exported fields are set
// before Start; its log and its standard output can be read at any time after.
type Program struct {
	Path    string
	Args    []string
	Environ []string  // all of it: nothing comes from the environment of this process
	Stdin   io.Reader // nil: nothing
	LogFile string    // where the log goes as well; empty: nowhere

	Out Journal // standard output
	Log Journal // standard error

	url  string // of its probes, once it serves them
	proc *process
}

// Start starts the process, and waits for nothing.
func (p *Program) Start() error {
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env = append([]string{"GORACE=exitcode=66"}, p.Environ...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.Stdin, &p.Out, &p.Log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C reaches this process alone, which ends it in its turn
	if p.LogFile != "" {
		file, err := os.Create(p.LogFile)
		if err != nil {
			return fmt.Errorf("start %s: %w", p, err)
		}
		p.Log.also = file
	}
	var err error
	if p.proc, err = spawn(cmd, syscall.SIGKILL); err != nil {
		return fmt.Errorf("start %s: %w", p, errors.Join(err, p.closeLog()))
	}
	go func() {
		<-p.proc.done
		p.Out.end()
		p.Log.end()
		_ = p.closeLog() // it is for people, and what a test asks for is in memory
	}()
	return nil
}

func (p *Program) closeLog() error {
	if p.Log.also == nil {
		return nil
	}
	return p.Log.also.Close()
}

// String is the command line, without the directories of the program.
func (p *Program) String() string {
	return strings.Join(append([]string{filepath.Base(p.Path)}, p.Args...), " ")
}

// Pid is the number of the process.
func (p *Program) Pid() int { return p.proc.Pid }

// Done is closed once the process has ended.
func (p *Program) Done() <-chan struct{} { return p.proc.done }

// Signal sends a signal. To a process that has ended it does nothing.
func (p *Program) Signal(sig os.Signal) error {
	if err := p.proc.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to %s: %w", sig, p, err)
	}
	return nil
}

// Kill ends the process, and waits until it has ended.
func (p *Program) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.proc.done
	return nil
}

// Exit waits for the end of the process, and returns its exit status.
func (p *Program) Exit(within time.Duration) (status int, err error) {
	select {
	case <-p.proc.done:
		return exitStatus(p.proc.err), nil
	case <-time.After(within):
		return 0, fmt.Errorf("%s has not ended within %v", p, within)
	}
}

// Stop asks the process to end, as an orchestrator does, and returns its exit status.
func (p *Program) Stop() (status int, err error) {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	return p.Exit(30 * time.Second)
}

// Run starts the process, waits until it ends by itself, and returns its exit status.
func (p *Program) Run(ctx context.Context) (status int, err error) {
	if err := p.Start(); err != nil {
		return 0, err
	}
	select {
	case <-p.proc.done:
		return exitStatus(p.proc.err), nil
	case <-ctx.Done():
		return 0, errors.Join(fmt.Errorf("%s did not end by itself: %w", p, ctx.Err()), p.Kill())
	}
}

func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// Logged waits for a line of the log whose message begins so, and passes over the first n lines.
func (p *Program) Logged(n int, message string) (Entry, error) {
	line, ok := p.Log.Wait(n, 30*time.Second, func(line string) bool {
		return strings.HasPrefix(ReadEntry(line).Field("msg"), message)
	})
	if !ok {
		return nil, fmt.Errorf("%s did not log %q", p, message)
	}
	return ReadEntry(line), nil
}

// Serving waits until the probes answer. The environment has given them a port, or 127.0.0.1:0 for any.
func (p *Program) Serving() error {
	entry, err := p.Logged(0, "serving probes and metrics")
	if err == nil {
		p.url = "http://" + entry.Field("address")
	}
	return err
}

// URL is that of the probes.
func (p *Program) URL() string { return p.url }

// Ready waits until the process says that it is ready. It is to be serving.
func (p *Program) Ready(ctx context.Context) error {
	return Until(ctx, p.String()+" is ready", func() (bool, error) {
		select {
		case <-p.proc.done:
			return false, fmt.Errorf("it has ended with status %d", exitStatus(p.proc.err))
		default:
		}
		status, body, err := p.Get(ctx, "/readyz")
		if err != nil {
			return false, err
		}
		if status != http.StatusOK {
			return false, errors.New(strings.TrimSpace(body))
		}
		return true, nil
	})
}

// Get asks the process over HTTP.
func (p *Program) Get(ctx context.Context, path string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, "", err
	}
	return response.StatusCode, string(text), nil
}

// Metrics reads the metrics of the process.
func (p *Program) Metrics(ctx context.Context) (Metrics, error) {
	status, body, err := p.Get(ctx, "/metrics")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	if err != nil {
		return nil, fmt.Errorf("read the metrics: %w", err)
	}
	return readMetrics(body)
}

// Until asks again and again until the answer is yes, or the context is done. An answer may come with an error, which is
// told if it is the last.
func Until(ctx context.Context, what string, ok func() (bool, error)) error {
	for {
		yes, err := ok()
		if yes {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait until %s: %w", what, ctx.Err()), err)
		case <-time.After(pollInterval):
		}
	}
}
