package e2e_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgevict/internal/livetest"
)

// patience is how long a test waits for what must happen. How soon it happens is measured elsewhere, in internal/bench: a test
// that fails because the machine is busy says nothing.
const patience = 2 * time.Minute

// eventually waits until the answer is yes.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	livetest.Eventually(tb, patience, what, ok)
}

// program is a pgevict that runs, and a test that fails when it does not do as it should.
type program struct {
	*livetest.Program
	tb testing.TB
}

// start starts pgevict and does not wait for anything.
func start(tb testing.TB, environ []string, args ...string) *program {
	tb.Helper()
	p := &livetest.Program{Path: livetest.ProgramPath(tb, livetest.AsTested), Environ: environ, Args: args}
	return &program{livetest.NewProgram(tb, p), tb}
}

// serve starts a sidecar with probes on a free port, and waits for those alone.
func serve(tb testing.TB, environ ...string) *program {
	tb.Helper()
	p := start(tb, append([]string{"PGEVICT_HTTP_ADDR=127.0.0.1:0"}, environ...))
	p.must(p.Serving())
	return p
}

func (p *program) must(err error) {
	p.tb.Helper()
	if err != nil {
		p.tb.Fatal(err)
	}
}

func (p *program) signal(sig os.Signal) {
	p.tb.Helper()
	p.must(p.Signal(sig))
}

func (p *program) kill() {
	p.tb.Helper()
	p.must(p.Kill())
}

// exit waits for the end of the process, and returns its status.
func (p *program) exit() int {
	p.tb.Helper()
	status, err := p.Exit(patience)
	p.must(err)
	return status
}

// stop asks it to end, as an orchestrator does, and returns its status.
func (p *program) stop() int {
	p.tb.Helper()
	p.signal(syscall.SIGTERM)
	return p.exit()
}

// logged waits for the first line of the log whose message begins so.
func (p *program) logged(message string) livetest.Entry {
	p.tb.Helper()
	return p.loggedAfter(0, message)
}

// loggedAfter passes over the first n lines.
func (p *program) loggedAfter(n int, message string) livetest.Entry {
	p.tb.Helper()
	entry, err := p.Logged(n, message)
	p.must(err)
	return entry
}

// said waits for a line of the log that has all of these, and passes over the first n.
func (p *program) said(n int, parts ...string) {
	p.tb.Helper()
	if _, ok := p.Log.Wait(n, patience, func(line string) bool {
		return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) })
	}); !ok {
		p.tb.Errorf("%s did not log %q", p, parts)
	}
}

// get asks the process over HTTP. Status 0 is no answer, and the reason in its place.
func (p *program) get(path string) (status int, body string) {
	status, body, err := p.Get(context.Background(), path)
	if err != nil {
		return 0, err.Error()
	}
	return status, body
}

func (p *program) is(path string, want int) bool {
	status, _ := p.get(path)
	return status == want
}

func (p *program) waitReady() {
	p.tb.Helper()
	eventually(p.tb, "ready", func() bool { return p.is("/readyz", http.StatusOK) })
}

// metrics returns each series with its labels; none if there is no answer.
func (p *program) metrics() livetest.Metrics {
	series, err := p.Metrics(context.Background())
	if err != nil {
		return nil
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
	p.waitMetrics("the position is after what was written", func(asked time.Time, m livetest.Metrics) bool {
		return positionAfter(t, asked, m)
	})
}

// waitApplied waits until nothing is pending either.
func (p *program) waitApplied(t time.Time) {
	p.tb.Helper()
	p.waitMetrics("everything applied", func(asked time.Time, m livetest.Metrics) bool {
		return m["pgevict_pending"] == 0 && positionAfter(t, asked, m)
	})
}

func (p *program) waitMetrics(what string, ok func(asked time.Time, m livetest.Metrics) bool) {
	p.tb.Helper()
	eventually(p.tb, what, func() bool {
		asked := time.Now()
		return ok(asked, p.metrics())
	})
}

func positionAfter(t, asked time.Time, m livetest.Metrics) bool {
	age, ok := m["pgevict_position_age_seconds"]
	return ok && asked.Add(-time.Duration(age*float64(time.Second))).After(t)
}

// command runs pgevict to its end.
func command(tb testing.TB, environ []string, stdin string, args ...string) (stdout, stderr string, status int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p := &livetest.Program{Path: livetest.ProgramPath(tb, livetest.AsTested), Environ: environ, Args: args, Stdin: strings.NewReader(stdin)}
	status, err := p.Run(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	return p.Out.String(), p.Log.String(), status
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
