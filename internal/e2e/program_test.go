package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgevict/internal/livetest"
)

// binary builds the program once: with the race detector if the tests have it. It lies beside the tests' own binary, in a
// directory that go test removes at its end.
var binary = sync.OnceValues(func() (string, error) {
	tests, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(tests), "pgevict")
	args := []string{"build", "-o", path}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "pgevict")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %v: %w\n%s", args, err, out)
	}
	return path, nil
})

// program is a pgevict that runs, as a process of its own, with nothing but the given environment.
type program struct {
	tb   testing.TB
	args []string
	cmd  *exec.Cmd
	out  journal // standard output
	log  journal // standard error
	url  string  // of its probes; empty: none
	done chan struct{}
}

// start starts pgevict and does not wait for anything.
func start(tb testing.TB, environ []string, args ...string) *program {
	tb.Helper()
	path, err := binary()
	if err != nil {
		tb.Fatal(err)
	}
	p := &program{tb: tb, args: args, cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.Env = append([]string{"GORACE=exitcode=66"}, environ...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.log
	p.cmd.SysProcAttr = dieWithParent()
	started := make(chan error)
	go func() {
		// The kernel sends the death signal when the thread that forked ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // what there is to know is in its ProcessState
			p.log.end()
			p.out.end()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.end)
	return p
}

// serve starts a sidecar with probes on a free port, and waits for those alone.
func serve(tb testing.TB, environ ...string) *program {
	tb.Helper()
	p := start(tb, append([]string{"PGEVICT_HTTP_ADDR=127.0.0.1:0"}, environ...))
	p.url = "http://" + p.logged("serving probes and metrics").field("address")
	return p
}

// end kills what still runs, and looks for what no log may hold.
func (p *program) end() {
	p.kill()
	log := p.log.String()
	for _, wrong := range []string{"DATA RACE", "panic: ", "fatal error: "} {
		if strings.Contains(log, wrong) {
			p.tb.Errorf("pgevict %v: %s", p.args, wrong)
		}
	}
	if p.tb.Failed() {
		const most = 6000
		p.tb.Logf("log of pgevict %v:\n%s", p.args, log[max(0, len(log)-most):])
	}
}

func (p *program) signal(sig os.Signal) {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.tb.Errorf("signal: %v", err)
	}
}

func (p *program) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// exit waits for the end of the process and gives its status.
func (p *program) exit(within time.Duration) int {
	p.tb.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		p.tb.Fatalf("pgevict %v has not ended within %v", p.args, within)
		return 0
	}
}

// stop asks it to end, as an orchestrator does, and gives its status.
func (p *program) stop() int {
	p.tb.Helper()
	p.signal(syscall.SIGTERM)
	return p.exit(30 * time.Second)
}

// logged waits for the first line of the log whose message begins so.
func (p *program) logged(message string) entry {
	p.tb.Helper()
	return p.loggedAfter(0, message)
}

// loggedAfter passes over the first n lines.
func (p *program) loggedAfter(n int, message string) entry {
	p.tb.Helper()
	line, ok := p.log.wait(n, 30*time.Second, func(line string) bool { return strings.HasPrefix(readEntry(line).field("msg"), message) })
	if !ok {
		p.tb.Fatalf("pgevict %v did not log %q", p.args, message)
	}
	return readEntry(line)
}

// said waits for a line of the log that has all of these, and passes over the first n.
func (p *program) said(n int, parts ...string) {
	p.tb.Helper()
	if _, ok := p.log.wait(n, 30*time.Second, func(line string) bool {
		return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) })
	}); !ok {
		p.tb.Errorf("pgevict %v did not log %q", p.args, parts)
	}
}

func (p *program) get(path string) (status int, body string) {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(p.url + path)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(text)
}

func (p *program) is(path string, want int) bool {
	status, _ := p.get(path)
	return status == want
}

func (p *program) waitReady() {
	p.tb.Helper()
	livetest.Eventually(p.tb, 30*time.Second, "ready", func() bool { return p.is("/readyz", http.StatusOK) })
}

// metrics gives each series with its labels, as it is written.
func (p *program) metrics() map[string]float64 {
	series := map[string]float64{}
	_, body := p.get("/metrics")
	for line := range strings.Lines(body) {
		name, value, ok := cutLast(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil && !strings.HasPrefix(name, "#") {
			series[name] = v
		}
	}
	return series
}

func (p *program) metric(series string) float64 { return p.metrics()[series] }

// gaps is how many gaps there were, of the given reasons, or of any.
func (p *program) gaps(reasons ...string) float64 {
	var sum float64
	for series, value := range p.metrics() {
		reason, ok := strings.CutPrefix(series, `pgevict_gaps_total{reason="`)
		if ok && (len(reasons) == 0 || slices.Contains(reasons, strings.TrimSuffix(reason, `"}`))) {
			sum += value
		}
	}
	return sum
}

// waitPosition waits until the position is one that was sent after t, so every change that was committed before t has been
// applied.
func (p *program) waitPosition(t time.Time) {
	p.tb.Helper()
	p.waitMetrics("the position is after what was written", func(asked time.Time, m map[string]float64) bool {
		return positionAfter(t, asked, m)
	})
}

// waitApplied waits until nothing is pending either.
func (p *program) waitApplied(t time.Time) {
	p.tb.Helper()
	p.waitMetrics("everything applied", func(asked time.Time, m map[string]float64) bool {
		return m["pgevict_pending"] == 0 && positionAfter(t, asked, m)
	})
}

func (p *program) waitMetrics(what string, ok func(asked time.Time, m map[string]float64) bool) {
	p.tb.Helper()
	livetest.Eventually(p.tb, 40*time.Second, what, func() bool {
		asked := time.Now()
		return ok(asked, p.metrics())
	})
}

func positionAfter(t, asked time.Time, m map[string]float64) bool {
	age, ok := m["pgevict_position_age_seconds"]
	return ok && asked.Add(-time.Duration(age*float64(time.Second))).After(t)
}

// entry is a line of the log.
type entry map[string]any

func readEntry(line string) entry {
	var e entry
	if json.Unmarshal([]byte(line), &e) != nil {
		return entry{"msg": line} // an exit's last words
	}
	return e
}

func (e entry) field(name string) string {
	if e[name] == nil {
		return ""
	}
	return fmt.Sprint(e[name])
}

// journal collects the lines that a process writes.
type journal struct {
	mu    sync.Mutex
	text  bytes.Buffer
	ended bool
	more  chan struct{} // closed when there is more, or when it has ended
}

func (j *journal) Write(text []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.wake()
	return j.text.Write(text)
}

func (j *journal) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ended = true
	j.wake()
}

func (j *journal) wake() {
	if j.more != nil {
		close(j.more)
		j.more = nil
	}
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// lines gives the lines that are whole.
func (j *journal) lines() []string {
	lines := strings.Split(j.String(), "\n")
	return lines[:len(lines)-1]
}

// wait gives the first line that is as wanted, but for the first n lines.
func (j *journal) wait(n int, within time.Duration, wanted func(string) bool) (string, bool) {
	deadline := time.After(within)
	for {
		j.mu.Lock()
		ended := j.ended
		if j.more == nil {
			j.more = make(chan struct{})
		}
		more := j.more
		j.mu.Unlock()
		lines := j.lines()
		for ; n < len(lines); n++ {
			if wanted(lines[n]) {
				return lines[n], true
			}
		}
		if ended {
			return "", false
		}
		select {
		case <-more:
		case <-deadline:
			return "", false
		}
	}
}

// command runs pgevict to its end.
func command(tb testing.TB, environ []string, stdin string, args ...string) (stdout, stderr string, status int) {
	tb.Helper()
	path, err := binary()
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var out, log bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = append([]string{"GORACE=exitcode=66"}, environ...), strings.NewReader(stdin), &out, &log
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		tb.Fatal(err)
	}
	if ctx.Err() != nil {
		tb.Fatalf("pgevict %v did not end by itself", args)
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// rulesFile writes rules and gives the variable that names them.
func rulesFile(tb testing.TB, text string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "rules.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return "PGEVICT_RULES=" + path
}
